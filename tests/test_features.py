import hashlib
import multiprocessing

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

from helpers import devices, features, inputs, paths, shards
from helpers.models import Geolocator
from helpers.photos import prepare

SIZE = 32


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    return Geolocator("resnet18", {"fine": 3}, weights="none").eval()


@pytest.fixture
def photos(root):
    folder = root / "photos"
    folder.mkdir()
    generator = np.random.default_rng(4)
    rows = []
    for number in range(11):
        pixels = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / f"{number}.jpg")
        digest = hashlib.sha256((folder / f"{number}.jpg").read_bytes()).hexdigest()
        rows.append({"id": f"photo-{number}", "path": f"{number}.jpg", "sha256": digest})
    return pd.DataFrame(rows)


def of(model, rows, root, view="centre", batch_size=6, photo_root="photos"):
    return features.of(model, rows, root / photo_root, SIZE, view, "fp32", batch_size, "features")


def parts(root):
    return sorted((root / "04_training" / "features").rglob("*.safetensors"))


@torch.no_grad()
def plain(model, rows, root, view="centre", batch_size=6):
    views = inputs.PhotoViews(rows, root / "photos", SIZE, view)
    crops = torch.stack([views[index] for index in range(len(rows))])
    found = [model.features(batch.reshape(-1, 3, SIZE, SIZE)) for batch in crops.split(batch_size)]
    return torch.cat(found).reshape(len(rows), *crops.shape[1:-3], -1)


@pytest.mark.parametrize("view", ["centre", "five"])
def test_features_are_those_of_the_backbone_in_the_order_of_the_rows(root, model, photos, view):
    shuffled = photos.sample(frac=1, random_state=1)
    found = of(model, shuffled, root, view)
    assert found.dtype == torch.float32
    assert found.shape == ((11, 512) if view == "centre" else (11, 5, 512))
    torch.testing.assert_close(found, plain(model, shuffled, root, view), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("view", ["centre", "five"])
def test_the_bits_are_the_same_whatever_was_kept_before(root, model, photos, view, monkeypatch):
    expected = of(model, photos.drop(columns="sha256"), root, view)
    assert parts(root) == []
    monkeypatch.setattr(features, "_PHOTOS_PER_PART", 4)
    for subset in ([7], [2, 9, 4], [9, 0, 7, 1, 2, 3], list(range(11))):
        found = of(model, photos.iloc[subset], root, view)
        assert torch.equal(found, expected[subset])
    assert len(parts(root)) > 3
    assert torch.equal(of(model, photos[::-1], root, view), expected.flip(0))


def test_what_is_kept_needs_no_photo(root, model, photos, capsys):
    first = of(model, photos, root)
    for photo in (root / "photos").iterdir():
        photo.unlink()
    assert torch.equal(of(model, photos[3:].assign(path="elsewhere.jpg"), root), first[3:])
    assert capsys.readouterr().out.splitlines() == [
        "features: 0 kept from before, 11 to compute",
        "features: all 8 kept from before",
    ]


def test_a_photo_that_is_listed_twice_or_without_a_hash_is_served_like_any_other(root, model, photos):
    rows = pd.concat([photos, photos[:4].assign(sha256=""), photos[:2], photos[:1].assign(sha256=None)])
    found = of(model, rows, root)
    assert torch.equal(found[11:], torch.cat([found[:4], found[:2], found[:1]]))
    photos.loc[0, "path"] = "1.jpg"
    unknown = of(model, photos.assign(sha256=""), root)
    assert torch.equal(unknown[0], found[1])


def test_an_empty_list_has_no_features(root, model, photos):
    assert of(model, photos[:0], root).shape == (0, 512)
    assert of(model, photos[:0], root, "five").shape == (0, 5, 512)


def cut(part):
    part.write_bytes(part.read_bytes()[:-7])


def made_narrower(part):
    held = safetensors.torch.load_file(part)
    safetensors.torch.save_file({**held, "features": held["features"][:, :-1].contiguous()}, part)


def made_half(part):
    held = safetensors.torch.load_file(part)
    safetensors.torch.save_file({**held, "features": held["features"].half()}, part)


def robbed_of_its_hashes(part):
    held = safetensors.torch.load_file(part)
    safetensors.torch.save_file({"features": held["features"]}, part)


def with_fewer_hashes(part):
    held = safetensors.torch.load_file(part)
    safetensors.torch.save_file({**held, "sha256": held["sha256"][:-1].contiguous()}, part)


def zeroed(part):
    held = safetensors.torch.load_file(part)
    held["features"][2] = 0
    safetensors.torch.save_file(held, part)


def overwritten(part):
    held = safetensors.torch.load_file(part)
    held["features"][5, 100:] = torch.nan
    safetensors.torch.save_file(held, part)


def something_else(part):
    part.write_text("no such thing")


@pytest.mark.parametrize(
    "damage",
    [cut, made_narrower, made_half, robbed_of_its_hashes, with_fewer_hashes, zeroed, overwritten, something_else],
)
def test_a_damaged_part_is_computed_again(root, model, photos, capsys, damage):
    expected = of(model, photos, root)
    [part] = parts(root)
    damage(part)
    assert torch.equal(of(model, photos, root), expected)
    assert f"{part} is damaged" in capsys.readouterr().out
    assert torch.equal(of(model, photos, root), expected)
    assert "all 11 kept from before" in capsys.readouterr().out


def test_a_part_that_claims_the_hash_of_nothing_serves_nothing(root, model, photos):
    of(model, photos[:2], root)
    [part] = parts(root)
    forged = {"sha256": torch.zeros(1, 32, dtype=torch.uint8), "features": torch.full((1, 512), 9.0)}
    forged["checksums"] = features._checksums(forged["features"])
    safetensors.torch.save_file(forged, part)
    assert not (of(model, photos.assign(sha256=""), root) == 9).any()


def test_whatever_changes_the_numbers_has_a_folder_of_its_own(root, model, photos):
    with torch.no_grad():
        other = Geolocator("resnet18", {}, weights="none").eval()
        other.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "heads" not in name})
        of(other, photos[:1], root)
        of(model, photos[:1], root)  # heads do not matter
        assert len(parts(root)) == 1
        other.backbone.conv1.weight[0, 0, 0, 0] += 1e-3
        of(other, photos[:1], root)
        other.mean += 1
        of(other, photos[:1], root)
    of(model, photos[:1], root, "five")
    of(model, photos[:1], root, batch_size=3)
    features.of(model, photos[:1], root / "photos", SIZE, "centre", "bf16", 4, "features")
    features.of(model, photos[:1], root / "photos", 48, "centre", "fp32", 4, "features")
    names = [part.parent.name for part in parts(root)]
    assert len(set(names)) == 7
    assert sum(name.startswith("resnet18-32-five-") for name in names) == 1


def test_large_batches_share_what_is_kept(root, model, photos, capsys):
    of(model, photos[:3], root, batch_size=64)
    of(model, photos[:3], root, batch_size=500)
    assert "all 3 kept from before" in capsys.readouterr().out


def test_a_photo_that_was_shrunk_into_a_shard_is_another_photo(root, model, photos):
    original = of(model, photos, root)
    for short_side, same in ((40, False), (0, True)):
        (root / f"shards-{short_side}").mkdir()
        with shards.ShardWriter(root / f"shards-{short_side}" / "shard-00000.tar") as shard:
            for row in photos.itertuples():
                data = (root / "photos" / row.path).read_bytes()
                shard.add(row.path, prepare(data, row.path, short_side).data, {"id": row.id})
        packed = of(model, photos, root, photo_root=f"shards-{short_side}")
        assert torch.equal(packed, original) is same
        assert torch.equal(of(model, photos, root, photo_root=f"shards-{short_side}"), packed)
    assert torch.equal(of(model, photos, root), original)


def test_a_backbone_that_trains_and_a_random_view_are_refused(root, photos):
    model = Geolocator("resnet18", {}, weights="none")
    with pytest.raises(ValueError, match="call model"):
        of(model, photos, root)
    with pytest.raises(ValueError, match="choose one of centre, five"):
        of(model.eval(), photos, root, "crop+flip")


def test_an_interrupted_run_keeps_the_parts_that_it_finished(root, model, photos, monkeypatch, capsys):
    monkeypatch.setattr(features, "_PHOTOS_PER_PART", 4)
    (root / "photos" / "9.jpg").unlink()
    with pytest.raises(ValueError, match=r"9\.jpg"):
        of(model, photos, root)
    of(model, photos.drop(9), root)
    assert "6 kept from before, 4 to compute" in capsys.readouterr().out
    assert not [file for file in (root / "04_training" / "features").rglob("*") if "partial" in file.name]


def test_photos_that_cannot_be_read_are_reported_and_the_others_served(root, model, photos, capsys):
    expected = of(model, photos.assign(sha256=""), root)
    (root / "photos" / "9.jpg").unlink()
    (root / "photos" / "2.jpg").write_bytes((root / "photos" / "2.jpg").read_bytes()[:100])
    given = (model, photos, root / "photos", SIZE, "centre", "fp32", 6, "features")
    for kept in (0, 9):
        failed = []
        found = features.of(*given, failed=failed)
        assert f"{kept} kept from before, {11 - kept} to compute" in capsys.readouterr().out
        assert [row for row, _ in failed] == [2, 9]
        assert "'2.jpg' is truncated" in failed[0][1]
        assert "'9.jpg' is missing" in failed[1][1]
        sound = [row for row in range(11) if row not in (2, 9)]
        assert torch.equal(found[sound], expected[sound])
        assert found[[2, 9]].isnan().all()
    with pytest.raises(ValueError, match=r"photo '2\.jpg' is truncated"):
        features.of(*given)


def write(folder, hashes, held):
    for _ in range(50):
        features._write(folder, hashes, held)


def test_a_part_that_processes_write_at_the_same_time_is_whole_at_any_time(tmp_path, capsys):
    hashes = np.frombuffer(np.random.default_rng(1).bytes(32 * 40), "S32")
    held = torch.arange(40 * 512.0).reshape(40, 512)
    features._write(tmp_path, hashes, held)
    children = [multiprocessing.get_context("fork").Process(target=write, args=(tmp_path, hashes, held)) for _ in "ab"]
    for child in children:
        child.start()
    while any(child.is_alive() for child in children):
        found = torch.zeros(40, 512)
        assert len(features._fill(found, hashes, tmp_path)) == 0
        assert torch.equal(found, held)
    assert [child.exitcode for child in children] == [0, 0]
    assert len(list(tmp_path.iterdir())) == 1
    assert capsys.readouterr().out == ""


def test_features_may_be_learned_from(root, model, photos):
    """Tensors of inference mode could not."""
    of(model, photos, root)
    found = of(model, photos, root)
    head = torch.nn.Linear(512, 2)
    head(found).sum().backward()
    assert head.weight.grad.abs().sum() > 0


def test_the_folder_bears_a_name_that_a_person_reads(model):
    assert features._name(model, 224, "centre", "fp32", 64).startswith("resnet18-224-centre-")
    if devices.best_device().type == "cpu":
        assert features._name(model, 224, "centre", "auto", 64) in {
            features._name(model, 224, "centre", precision, 64) for precision in ("fp32", "bf16")
        }
    assert paths.features(features._name(model, 224, "centre", "fp32", 64)).parent.name == "features"
