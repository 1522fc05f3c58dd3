import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
import torchvision
from conftest import recorded_maps
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers import (
    data_lists,
    given_photos,
    manifests,
    notebooks,
    paths,
    photo_stores,
    photos,
    placing,
    predict,
    predict_command,
    recipe,
    run_folders,
    segmentation,
    segmenters,
    toy_earth,
    training,
)
from helpers.inputs import PhotoViews, maps_of
from helpers.models import WeightsError
from helpers.segmentation import MissingMaps, Palette

TINY = "toy-earth-tiny"  # of the fixture `tiny`
LRASPP = "lraspp_mobilenet_v3_large"


# Palettes


def test_palettes_have_the_colours_of_pascal_voc():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    colours = Palette.of([f"class {number}" for number in range(256)]).colours
    assert {number: colours[number] for number in known} == known
    assert len(set(colours)) == 256


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=2, max_size=9, unique=True), st.integers(0, 255))
def test_a_palette_is_read_as_it_was_written(tmp_path_factory, names, red):
    names = [" ".join(repr(name).split()) for name in names]
    palette = Palette(tuple(names), tuple((red, number, 255) for number in range(len(names))))
    file = tmp_path_factory.mktemp("palette") / "palette.csv"
    palette.write(file)
    assert Palette.read(file) == palette


def test_names_alone_are_a_palette(tmp_path):
    (tmp_path / "classes.csv").write_text("name\nNA\nsky\n")
    assert Palette.read(tmp_path / "classes.csv") == Palette.of(["NA", "sky"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class\nsky\n", "has no column name"),
        ("name\nsky\n", "from 2 to 256 classes, each once: it has 1 rows"),
        ("name\nsky\nsky\n", "each once"),
        ("name,red,green,blue\nsky,0,0,0\nroad,0,0,256\n", "whole numbers from 0 to 255"),
        ("name,red,green,blue\nsky,0,0,0\nroad,0,0,grey\n", "whole numbers from 0 to 255"),
        ("", "cannot be read as a table of classes"),
    ],
)
def test_a_table_that_is_no_palette_is_refused(tmp_path, text, message):
    file = tmp_path / "classes.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        Palette.read(file)
    with pytest.raises(ValueError, match="cannot be read"):
        Palette.read(tmp_path / "none.csv")


# What the renderer knows


@pytest.fixture
def own(tiny, tmp_path, monkeypatch):
    """A copy of the tiny toy-earth, with its maps."""
    root = shutil.copytree(tiny, tmp_path / "root")
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
    return root


def test_maps_of_toy_earth_are_what_was_drawn(own):
    rows = segmentation.joined(data_lists.read(TINY), TINY)
    store = photo_stores.open_store(maps_of(rows))
    shares = pd.read_parquet(paths.segmentations(TINY) / segmentation.SHARES).set_index("id")
    for row in rows.head(20).itertuples():
        kinds = np.asarray(toy_earth.render_kinds(row.id, row.latitude, row.longitude))
        assert np.array_equal(segmentation.read(store, row.path, kinds.shape)[0], kinds)
        assert shares.loc[row.id, "sky"] == pytest.approx((kinds == 0).mean(), abs=1e-6)
    assert len(shares) == len(rows)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)
    assert rows.attrs == data_lists.read(TINY).attrs


def test_maps_that_are_there_are_not_made_again(own, monkeypatch):
    folder = maps_of(segmentation.joined(data_lists.read(TINY), TINY))
    before = [(file, file.stat().st_mtime_ns) for file in sorted(folder.iterdir())]
    monkeypatch.setattr(toy_earth, "render_kinds", None)
    assert recorded_maps(TINY).folder == folder
    assert [(file, file.stat().st_mtime_ns) for file in sorted(folder.iterdir())] == before


def test_an_interrupted_run_goes_on(own, monkeypatch):
    whole = pd.read_parquet(paths.segmentations(TINY) / segmentation.SHARES)
    shutil.rmtree(paths.maps(TINY))
    drawn, render = [], toy_earth.render_kinds

    def fails_at_the_tenth(*row):
        if len(drawn) == 10:
            raise KeyboardInterrupt
        drawn.append(row[0])
        return render(*row)

    monkeypatch.setattr(toy_earth, "render_kinds", fails_at_the_tenth)
    with pytest.raises(KeyboardInterrupt):
        recorded_maps(TINY)
    seen = []
    monkeypatch.setattr(toy_earth, "render_kinds", lambda *row: seen.append(row[0]) or render(*row))
    pd.testing.assert_frame_equal(recorded_maps(TINY).shares[whole.columns], whole)
    assert len(seen) == len(whole) - 10
    assert not set(seen) & set(drawn)


# What goes wrong between a list and its maps


def test_maps_that_were_not_made_are_asked_for_with_the_command(own):
    shutil.rmtree(paths.segmentations(TINY))
    with pytest.raises(MissingMaps, match=rf"papermill 02_scenes/segment\.ipynb out\.ipynb -p dataset {TINY}"):
        segmentation.joined(data_lists.read(TINY), TINY)


def test_maps_of_another_list_are_refused(own):
    rows = data_lists.read(TINY)
    others = rows.assign(id=rows["id"].str.replace("toy", "other"))
    with pytest.raises(MissingMaps, match=r"those of another list: 150 of 150 photos have none.*'other-7-000000'"):
        segmentation.joined(others, TINY)
    with paths.data_list(TINY).open("a") as file:
        file.write("\n")
    with pytest.raises(manifests.StaleOutput, match="has changed since"):
        segmentation.joined(rows, TINY)


def test_maps_of_another_palette_are_refused(own):
    rows = data_lists.read(TINY)
    names = segmenters.RENDERED.names
    for other, message in [
        (Palette.of(names), "the classes are the same, the colours are not"),
        (Palette.of([*names, "snow"]), "11 classes, not 12; snow"),
        (Palette(names[::-1], segmenters.RENDERED.colours), "11 classes, not 11; in another order"),
    ]:
        with pytest.raises(ValueError, match=f"of another palette.*: {message}"):
            segmentation.joined(rows, TINY, other)
    segmentation.joined(rows, TINY, segmenters.RENDERED)


def test_maps_that_were_deleted_are_missed(own):
    rows = data_lists.read(TINY)
    shutil.rmtree(paths.maps(TINY))
    with pytest.raises(MissingMaps, match="were deleted"):
        segmentation.joined(rows, TINY)


def png(classes, mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(classes).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (png(np.zeros((40, 60), np.uint8)), "60 x 40 pixels .*not the shape"),
        (png(np.zeros((60, 40), np.uint8), "RGB"), "RGB"),
        (png(np.zeros((60, 40), np.uint8))[:60], "cannot be decoded"),
        (b"", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (None, "missing"),
    ],
)
def test_a_map_that_is_none_of_its_photo_is_an_error_of_that_photo(tmp_path, data, message):
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(photos.PhotoError, match=message) as raised:
        segmentation.read(photo_stores.open_store(tmp_path), "a.jpg", (120, 80))
    assert raised.value.reason == "no segmentation map"


@settings(max_examples=60)
@given(st.integers(30, 90), st.integers(30, 90), st.integers(20, 64))
def test_a_map_fits_its_photo_in_any_size(tmp_path_factory, height, width, short_side):
    folder = tmp_path_factory.mktemp("maps")
    shrunk = photos.resize(torch.zeros(3, height, width, dtype=torch.uint8), short_side).shape[1:]
    (folder / "a.jpg").write_bytes(png(np.zeros(tuple(shrunk), np.uint8)))
    read = segmentation.read(photo_stores.open_store(folder), "a.jpg", (height, width))
    assert read.shape == (1, height, width)


# Views of photos with their maps


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Photos of red and blue fields, and maps in which red is 3 and blue is 8."""
    root = tmp_path_factory.mktemp("squares")
    generator = np.random.default_rng(2)
    for folder in ("photos", "maps"):
        (root / folder).mkdir()
    for number, (width, height) in enumerate([(160, 128), (128, 160), (200, 130)]):
        red = generator.random((height // 16 + 1, width // 16 + 1)).repeat(16, 0).repeat(16, 1)[:height, :width] < 0.5
        picture = np.where(red[..., None], (220, 20, 20), (20, 20, 220)).astype(np.uint8)
        Image.fromarray(picture).save(root / "photos" / f"{number}.png")
        (root / "maps" / f"{number}.png").write_bytes(png(np.where(red, 3, 8).astype(np.uint8)))
    rows = pd.DataFrame({"id": ["a", "b", "c"], "path": [f"{number}.png" for number in range(3)]})
    return rows.assign(maps=str(root / "maps")), root / "photos"


@pytest.mark.parametrize("view", ["centre", "five", "none", "crop+flip", "crop+rotation+colour"])
def test_a_map_is_cut_mirrored_and_turned_as_its_photo_is(squares, view):
    rows, folder = squares
    with_maps = PhotoViews(rows, folder, 56, view, seed=3, epoch=2, maps=maps_of(rows))
    without = PhotoViews(rows, folder, 56, view, seed=3, epoch=2)
    for number in range(3):
        seen = with_maps[number]
        assert torch.equal(seen[..., :3, :, :], without[number])
        classes = seen[..., 3, :, :]
        assert set(classes.unique().tolist()) <= {3, 8}
        redder = seen[..., 0, :, :].int() - seen[..., 2, :, :].int()
        sure = redder.abs() > 0.8 * redder.abs().max()  # not where fields meet
        assert sure.float().mean() > 0.5
        assert torch.equal(classes[sure] == 3, redder[sure] > 0)


def test_photos_without_maps_are_refused_where_they_are_wanted(squares):
    rows, _ = squares
    with pytest.raises(ValueError, match=r"looks at segmentation maps too.*02_scenes/segment\.ipynb"):
        maps_of(rows.drop(columns="maps"))


# Networks


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(4)
    network = torchvision.models.get_model(LRASPP, weights=None, weights_backbone=None, num_classes=5)
    for layer in network.modules():  # so that it tells pixels apart
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(torch.rand(8, 3, 96, 96))
    return network.eval()


@pytest.fixture
def weights(network, tmp_path):
    safetensors.torch.save_file(network.state_dict(), tmp_path / "five.safetensors")
    (tmp_path / "five.csv").write_text("name\nsky\nroad\nhouse\ntree\nother\n")
    return str(tmp_path / "five.safetensors"), str(tmp_path / "five.csv")


@pytest.fixture
def folder_list(root):
    """A list of photos of several shapes, one turned by its EXIF, of which one cannot be decoded any more."""
    folder = paths.photos("mine")
    folder.mkdir(parents=True)
    generator = np.random.default_rng(6)
    for number in range(23):
        size = [(90, 120), (120, 90), (96, 96)][number % 3]
        pixels = np.kron(generator.integers(0, 256, (6, 6, 3), np.uint8), np.ones((20, 20, 1), np.uint8))
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 4 else 1
        Image.fromarray(pixels[: size[0], : size[1]]).save(folder / f"{number:02d}.jpg", exif=exif)
    rows = pd.DataFrame({"id": [f"photo {number}" for number in range(23)]})
    rows["path"] = [f"{number:02d}.jpg" for number in range(23)]
    rows.attrs = {"fingerprint": "0" * 64}
    (folder / "11.jpg").write_bytes(b"\xff\xd8 gone")
    return rows


def test_a_network_from_a_file_makes_the_maps_of_all_photos_it_can_read(folder_list, weights, network):
    chosen = segmenters.load(LRASPP, *weights)
    assert chosen.palette == Palette.of(["sky", "road", "house", "tree", "other"])
    made = segmenters.make(folder_list, "mine", paths.photos("mine"), chosen, short_side=64)
    assert list(made.left_out.values()) == [["photo 11"]]
    assert segmenters.counted(made)["maps"] == 22
    assert made.shares["id"].tolist() == folder_list.sort_values("id")["id"].tolist()
    assert made.shares.set_index("id").loc["photo 11"].isna().all()
    store = photo_stores.open_store(made.folder)
    used = set()
    for path in folder_list["path"].drop(11):
        photo = photos.read(photo_stores.open_store(paths.photos("mine")), path)
        shrunk = photos.resize(photo, 64)
        alone = segmenters.segment(network, shrunk[None])[0]
        kept = segmentation.read(store, path, tuple(alone.shape))[0]
        assert (kept == alone).float().mean() > 0.999  # together they are rounded differently
        assert segmentation.read(store, path, (photo.shape[1], photo.shape[2])).shape[1:] == photo.shape[1:]
        used |= set(alone.unique().tolist())
    assert len(used) > 1
    again = segmenters.make(folder_list, "mine", paths.photos("mine"), chosen, short_side=64)
    assert again.left_out == made.left_out
    pd.testing.assert_frame_equal(again.shares, made.shares)
    assert segmenters.make(folder_list, "mine", paths.photos("mine"), chosen, 72).folder != made.folder


def test_weights_and_classes_that_do_not_belong_together_are_refused(weights, tmp_path, network):
    file, classes = weights
    with pytest.raises(WeightsError, match="tells 5 classes apart: name them in a file"):
        segmenters.load(LRASPP, file)
    (tmp_path / "two.csv").write_text("name\nsky\nroad\n")
    with pytest.raises(WeightsError, match=r"5 classes apart, but .*two\.csv names 2"):
        segmenters.load(LRASPP, file, str(tmp_path / "two.csv"))
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        segmenters.load("deeplabv3_mobilenet_v3_large", file, classes)
    with pytest.raises(WeightsError, match="is no file"):
        segmenters.load(LRASPP, str(tmp_path / "none.pth"))
    safetensors.torch.save_file({"fc.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="has no classifier"):
        segmenters.load(LRASPP, str(tmp_path / "other.safetensors"))
    torch.save(network.state_dict(), tmp_path / "five.pth")
    with pytest.raises(WeightsError, match="set allow_pickle"):
        segmenters.load(LRASPP, str(tmp_path / "five.pth"), classes)
    assert segmenters.load(LRASPP, str(tmp_path / "five.pth"), classes, allow_pickle=True).palette.names[0] == "sky"
    with pytest.raises(ValueError, match="classes are those of a file of weights"):
        segmenters.load(LRASPP, classes=classes)
    with pytest.raises(ValueError, match="neither weights nor classes"):
        segmenters.load(segmenters.RENDERER, file)


def test_weights_of_21_classes_are_taken_for_those_of_pascal_voc(tmp_path):
    network = torchvision.models.get_model(LRASPP, weights=None, weights_backbone=None, num_classes=21)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "voc.safetensors")
    palette = segmenters.load(LRASPP, str(tmp_path / "voc.safetensors")).palette
    assert palette.names[0] == "__background__"
    assert palette.names[15] == "person"
    assert palette.colours[15] == (192, 128, 128)


def test_weights_that_cannot_be_downloaded_name_the_way_out(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=r"no route to host.*local file"):
        segmenters.load(LRASPP)


def test_the_renderer_knows_no_photos_but_its_own():
    assert segmenters.chosen("auto", "toy-earth-tiny") == segmenters.RENDERER
    assert segmenters.chosen("auto", "mine") == segmenters.DEFAULT_NETWORK
    with pytest.raises(ValueError, match="knows its own photos alone, not those of 'mine'"):
        segmenters.chosen(segmenters.RENDERER, "mine")


def test_what_is_recorded_names_no_folder_of_the_machine(own):
    told = json.loads((paths.segmentations(TINY) / segmentation.MAPS).read_text())
    assert told["folder"].startswith(f"02_scenes/maps/{TINY}/")
    assert told["segmenter"] == segmenters.RENDERER


# Photos of one's own, for a run that looks at maps too


def run_on_maps_by(segmenter, folder):
    """A run of two branches, hardly trained, on the tiny toy-earth with maps by a segmenter."""
    output = manifests.begin(paths.segmentations(TINY), "02_scenes/segment", {"dataset": TINY})
    made = segmenters.make(data_lists.read(TINY), TINY, paths.photos(TINY), segmenter, short_side=64)
    segmenters.record(made, segmenter, 64, output.folder)
    manifests.finish(output)
    given = {"dataset": TINY, "segmentation": True, "architecture": "timm/test_vit", "weights": "none", "epochs": 1}
    given |= {"preset": "plain", "train_layers": "all", "image_size": 64, "batch_size": 32}
    folder.mkdir()
    job = recipe.of(notebooks.defaults("04_training/train") | given)
    training.train_alone(training.Job(*job, folder, folder / "checkpoints"))
    return folder


def test_photos_of_ones_own_get_maps_by_the_segmenter_of_the_run(own, weights, tmp_path):
    folder = run_on_maps_by(segmenters.load(LRASPP, *weights), tmp_path / "run")
    rows = data_lists.read(TINY).tail(12).reset_index(drop=True)
    runs = predict.load({"all": [folder]})
    expected = predict.locate(runs, predict.with_maps(runs, rows, TINY), paths.photos(TINY), batch_size=8)
    found = run_folders.find(str(folder))
    placer = placing.ready(found, precision="fp32", tell_scenes=False, segmenter_weights=weights[0])
    table = placer(given_photos.find(rows["path"].tolist(), base=paths.photos(TINY))).table
    assert (table["error"] == "").all()
    guess = expected.answers["f*"]
    np.testing.assert_allclose(table["confidence"], guess["confidence"], rtol=0.02)
    assert (table["cell"].to_numpy() == guess["cell"].to_numpy()).mean() > 0.9
    with pytest.raises(WeightsError, match="has no classifier"):
        segmenters.of_run(folder, str(folder / "model.safetensors"))
    torch.manual_seed(9)
    other = torchvision.models.get_model(LRASPP, weights=None, weights_backbone=None, num_classes=5)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="with other weights than"):
        placing.ready(found, segmenter_weights=str(tmp_path / "other.safetensors"))


def test_a_run_on_maps_that_were_drawn_places_no_photos_but_those_of_toy_earth(own, tmp_path, capsys):
    folder = run_on_maps_by(segmenters.load(segmenters.RENDERER), tmp_path / "run")
    photo = next(paths.photos(TINY).rglob("*.jpg"))
    assert predict_command.run([str(folder), str(photo)]) == 2
    assert "learned from those of the renderer of toy-earth, which knows no other photos" in capsys.readouterr().err
