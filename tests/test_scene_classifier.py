import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import photo_server
import pytest
import safetensors
import safetensors.torch
import torch
import torchvision

from helpers import (
    data_lists,
    inputs,
    manifests,
    notebooks,
    paths,
    scene_classifier,
    scene_hierarchy,
    scenes,
    toy_earth,
    web,
)
from helpers.models import WeightsError
from helpers.scene_head import make


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    return torchvision.models.resnet18(num_classes=365).eval()


@pytest.fixture(scope="module")
def checkpoint(resnet, tmp_path_factory):
    """A file as Places365 publishes them."""
    file = tmp_path_factory.mktemp("places365") / "resnet18_places365.pth.tar"
    state = {f"module.{name}": tensor for name, tensor in resnet.state_dict().items()}
    torch.save({"epoch": 90, "arch": "resnet18", "state_dict": state, "best_prec1": 54.7}, file)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight rendered photos in a folder."""
    photos = tmp_path_factory.mktemp("photos")
    sample = toy_earth.sample(8, seed=3).reset_index(drop=True).assign(path=[f"{number}.jpg" for number in range(8)])
    for name, *place in zip(*(sample[c] for c in ("path", "id", "latitude", "longitude")), strict=True):
        (photos / name).write_bytes(toy_earth.render_jpeg(*place))
    return photos, sample[["id", "path", "latitude", "longitude", "author"]]


def test_a_places365_checkpoint_gives_what_torchvision_does(resnet, checkpoint, folder):
    photos, rows = folder
    classifier = scene_classifier.load(str(checkpoint), allow_pickle=True)
    found = scene_classifier.classify(rows, photos, classifier, batch_size=5)
    views = torch.stack(list(inputs.PhotoViews(rows, photos, 224, view="centre")))
    normalise = torchvision.transforms.v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = resnet(normalise(views / 255)).softmax(dim=1)
    levels = scene_hierarchy.aggregated(expected.double().numpy())
    assert list(found) == list(scenes.COLUMNS)
    assert found["id"].tolist() == rows["id"].tolist()
    np.testing.assert_allclose(found[["p_indoor", "p_natural", "p_urban"]], levels.s3, atol=0.02)  # bfloat16
    np.testing.assert_allclose(found[["p_indoor", "p_natural", "p_urban"]].sum(axis=1), 1)
    assert (found["scene"] == np.array(scenes.SCENES)[found.iloc[:, 2:5].to_numpy().argmax(axis=1)]).all()
    assert found["s365"].between(0, 364).all()
    assert found["s16"].between(0, 15).all()


@pytest.mark.parametrize("architecture", ["resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "resnet152"])
def test_the_architecture_is_told_by_the_tensors(architecture, tmp_path):
    with torch.device("meta"):
        network = torchvision.models.get_model(architecture, weights=None, num_classes=365)
    old = {name: tensor for name, tensor in network.state_dict().items() if "num_batches" not in name}
    assert scene_classifier._architecture(old, tmp_path) == architecture


def test_safetensors_need_no_leave(resnet, tmp_path):
    safetensors.torch.save_model(resnet, str(tmp_path / "places.safetensors"))
    network = scene_classifier.load(str(tmp_path / "places.safetensors")).network
    torch.testing.assert_close(network.head.weight.cpu(), resnet.fc.weight)


def test_what_is_no_places365_classifier_is_refused_and_told_why(resnet, checkpoint, tmp_path):
    state = resnet.state_dict()

    def refused(message, tensors, name="other.safetensors", **given):
        file = tmp_path / name
        torch.save(tensors, file) if name.endswith("pth") else safetensors.torch.save_file(tensors, file)
        with pytest.raises(WeightsError, match=message):
            scene_classifier.load(str(file), **given)

    refused(r"fc\.weight, is \(1000, 512\), and should have 365", {**state, "fc.weight": torch.zeros(1000, 512)})
    without = {name: tensor for name, tensor in state.items() if name != "layer1.0.conv1.weight"}
    refused("nearest is resnet18, from which it differs in 1 tensors, such as layer1.0.conv1.weight: absent", without)
    refused("no ResNet", torchvision.models.mobilenet_v3_small(weights=None).state_dict())
    refused("holds no state dict", {"state_dict": [1]}, "list.pth", allow_pickle=True)
    with pytest.raises(WeightsError, match=r"a pickle most likely, which can hold code.*set allow_pickle"):
        scene_classifier.load(str(checkpoint))
    with pytest.raises(
        WeightsError, match=r"is no file\. Did you mean 'embedded'\? It takes: embedded, resnet18_places365"
    ):
        scene_classifier.load("embeded")
    with pytest.raises(WeightsError, match=r"has the SHA-256 .*, not 00 as sha256 says"):
        scene_classifier.load(str(checkpoint), sha256="00", allow_pickle=True)
    with pytest.raises(WeightsError, match="leave it empty for the embedded"):
        scene_classifier.load(sha256="00")


def test_a_classifier_that_is_not_needed_is_checked_and_said_to_be_unused(checkpoint, capsys):
    for known in (True, False):
        with pytest.raises(WeightsError, match="'embeded' is no file"):
            scene_classifier.check("embeded", "", known)
    for classifier, sha256, known in (("embedded", "", True), ("embedded", "", False), (str(checkpoint), "00", False)):
        scene_classifier.check(classifier, sha256, known)
        assert capsys.readouterr().out == ""
    for classifier, sha256 in (("resnet18_places365", ""), (str(checkpoint), ""), ("embedded", "00")):
        scene_classifier.check(classifier, sha256, known=True)
        assert capsys.readouterr().out.startswith("classifier and sha256 are not used: ")


def test_a_checkpoint_that_holds_code_or_is_cut_is_not_read(checkpoint, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": {"fc.weight": Trap()}}, tmp_path / "trap.pth.tar")
    (tmp_path / "cut.pth.tar").write_bytes(checkpoint.read_bytes()[:100_000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{")
    for name in ("trap.pth.tar", "cut.pth.tar", "cut.safetensors"):
        with pytest.raises(WeightsError, match=f"{name} cannot be read"):
            scene_classifier.load(str(tmp_path / name), allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


def test_a_published_checkpoint_is_used_only_with_the_digest_that_its_user_names(
    root, checkpoint, tmp_path, monkeypatch
):
    served = tmp_path / "served"
    served.mkdir()
    shutil.copy(checkpoint, served)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    weights = root / "02_scenes" / "weights"
    with photo_server.running(served) as server:
        monkeypatch.setitem(scene_classifier.DOWNLOADS, "resnet18_places365", server.url(checkpoint.name))
        with pytest.raises(WeightsError, match=f"has the SHA-256 {digest}. No digest of it is published"):
            scene_classifier.load("resnet18_places365")
        with pytest.raises(WeightsError, match=f"has the SHA-256 {digest}, not {'0' * 64}"):
            scene_classifier.load("resnet18_places365", sha256="0" * 64)
        assert list(weights.iterdir()) == []
        classifier = scene_classifier.load("resnet18_places365", sha256=digest.upper())
        assert classifier.files["scene classifier"] == weights / checkpoint.name
        scene_classifier.load("resnet18_places365", sha256=digest)
        assert server.requests()[f"/{checkpoint.name}"] == 3  # the last one was kept
        (weights / checkpoint.name).write_bytes(b"something else")
        with pytest.raises(WeightsError, match="it is another file, or was changed"):
            scene_classifier.load("resnet18_places365", sha256=digest)


@pytest.mark.parametrize(("path", "reason"), [("status/404/a.tar", "HTTP 404"), ("cut/a.tar", "truncated|lost")])
def test_a_download_that_fails_leaves_nothing(root, monkeypatch, path, reason):
    monkeypatch.setattr(web, "_FIRST_PAUSE_S", 0.01)
    with photo_server.running() as server, pytest.raises(WeightsError, match=f"could not be fetched .({reason})"):
        scene_classifier.downloaded(server.url(path), "0" * 64)
    assert list((root / "02_scenes" / "weights").iterdir()) == []


def test_the_embedded_classifier_knows_three_scenes_whatever_the_order_of_photos(folder):
    photos, rows = folder
    classifier = scene_classifier.load()
    found = scene_classifier.classify(rows, photos, classifier)
    np.testing.assert_allclose(found[["p_indoor", "p_natural", "p_urban"]].sum(axis=1), 1)
    assert found[["s16", "s365"]].isna().all(axis=None)
    assert found.dtypes[["s16", "s365"]].tolist() == ["Int64", "Int64"]
    backwards = scene_classifier.classify(rows[::-1], photos, classifier, batch_size=5)[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, backwards, atol=1e-5)


def test_a_photo_that_cannot_be_decoded_keeps_its_row(folder, tmp_path):
    photos, rows = folder
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / rows["path"][2]).write_bytes(b"no photo")
    classifier = scene_classifier.load()
    found = scene_classifier.classify(rows, tmp_path / "photos", classifier)
    assert found["scene"].isna().tolist() == [number == 2 for number in range(8)]
    assert found.loc[2, ["p_indoor", "s16"]].isna().all()
    assert scenes.counted(found, rows, "mine", "") == {"photos": 8, "classified": 7, "unreadable": 1}


def test_the_committed_head_is_small_and_says_how_it_was_made():
    assert scene_classifier.HEAD.stat().st_size < 50_000
    with safetensors.safe_open(scene_classifier.HEAD, "pt") as head:
        assert json.loads(head.metadata()[scene_classifier.METADATA])["photos"] == 3883
        assert head.get_tensor("weight").shape == (3, 2560)


def test_the_embedded_classifier_is_shown_what_its_head_was_trained_on(shared):
    table = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str}).iloc[::120]
    found = scene_classifier.classify(table, shared / "photos", scene_classifier.load())
    shares = found[["p_indoor", "p_natural", "p_urban"]].to_numpy()
    official = table[["prob_indoor", "prob_natural", "prob_urban"]].to_numpy()
    assert np.abs(shares - official).mean() < 0.12  # 0.34 for the mean probabilities of all photos


def test_photos_of_an_author_are_in_one_fold():
    authors = pd.Series([f"author {number % 37}" for number in range(400)])
    fold = make.folds(authors)
    assert pd.Series(fold).groupby(authors).nunique().eq(1).all()
    assert np.ptp(np.bincount(fold, minlength=make.FOLDS)) <= 11
    assert (make.folds(authors[::-1]) == fold[::-1]).all()


def test_no_head_is_trained_on_a_photo_that_cannot_be_decoded(folder, tmp_path):
    photos, rows = folder
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / rows["path"][2]).write_bytes(b"no photo")
    with pytest.raises(ValueError, match="cannot be decoded: leave out their rows"):
        make.features_of(rows, tmp_path / "photos", ["efficientnet_lite0"], "whole")
    assert make.features_of(rows, photos, ["efficientnet_lite0"], "whole").shape == (8, 1280)


SHOWN = [make.Shown(view, root) for view in scene_classifier.VIEWS for root in (True, False)]


@pytest.fixture(scope="module")
def problem():
    """Features that say something about probabilities, those of one view more than those of the other, and folds."""
    generator = torch.Generator().manual_seed(4)
    clear = torch.rand(200, 6, generator=generator)
    targets = (4 * clear[:, :3] + torch.randn(200, 3, generator=generator)).double().softmax(dim=1).numpy()
    seen = {shown: clear if shown.view == "whole" else clear.roll(1, dims=0) for shown in SHOWN}
    return seen, targets, np.arange(200) % make.FOLDS


def test_a_head_is_the_minimum_of_its_loss(problem):
    seen, targets, _ = problem
    seen = seen[SHOWN[0]]
    weight, bias = make.fitted(seen, targets, 0.1)
    residual = torch.from_numpy(make.predicted(seen, (weight, bias)) - targets).float()
    standardised = (seen - seen.mean(dim=0)) / seen.std(dim=0)
    slope = residual.T @ standardised / len(seen) + 0.1 * weight * seen.std(dim=0)
    assert slope.abs().max() < 1e-3
    assert residual.mean(dim=0).abs().max() < 1e-3


def test_the_better_view_is_chosen_and_no_choice_for_a_fold_has_seen_its_truth(problem):
    among = [make.Choice(make.Shown(view, True), 0.1) for view in ("centre", "whole")]
    seen, targets, fold = problem
    choices = make.nested_choices(seen, targets, fold, among)
    assert {choice.shown.view for choice in choices} == {"whole"}
    shuffled = targets.copy()
    shuffled[fold == 0] = np.random.default_rng(1).dirichlet([0.1] * 3, 40)
    assert make.nested_choices(seen, shuffled, fold, among)[0] == choices[0]
    honest, other = (make.held_out(seen, truth, fold, choices)[fold == 0] for truth in (targets, shuffled))
    np.testing.assert_array_equal(honest, other)
    nothing = np.full_like(honest, 1 / 3)
    assert make.cross_entropy(honest, targets[fold == 0]) < make.cross_entropy(nothing, targets[fold == 0])


def test_the_strength_of_the_plain_head_is_chosen_for_each_fold(problem):
    seen, targets, fold = problem
    centre = make.PLAIN_CHOICES[0].shown
    clear, other = seen[make.Shown("whole", square_root=False)], seen[centre]
    for features, strengths in ((clear, {0.03, 0.1}), (other, {0.3, 1.0})):
        choices = make.nested_choices({centre: features}, targets, fold, make.PLAIN_CHOICES)
        assert len(choices) == make.FOLDS
        assert {choice.strength for choice in choices} <= strengths


def test_photos_of_unknown_author_count_in_the_interval(tmp_path):
    (tmp_path / "truth.csv").write_text("id,author\nb,\na,ann\nc,ann\n" + "".join(f"{n},\n" for n in range(100, 200)))
    truth = make.read_truth(tmp_path / "truth.csv")
    assert truth["author"].tolist()[-3:] == ["ann", "b", "ann"]
    right = (truth["author"] != "ann").to_numpy()  # of two photos, and the only author who is named
    low, high = make.interval(right, truth["author"])
    assert 0.9 < low < 0.98 < high == 1


def chosen_for(choice):
    return {make.PLAIN: make.PLAIN_CHOICES[:1], make.OURS: [choice]}


def test_the_model_card_counts_every_photo(problem):
    seen, targets, fold = problem
    choice = make.CHOICES[1]
    shares = make.held_out(seen, targets, fold, [choice] * make.FOLDS)
    truth = pd.DataFrame({"author": [str(number % 20) for number in range(200)]})
    card = make.model_card(truth, targets, {make.OURS: shares}, chosen_for(choice), choice)
    right = 100 * (shares.argmax(axis=1) == targets.argmax(axis=1)).mean()
    assert f"| this head | 200 | {right:.1f} [" in card
    assert "200 Flickr photos by 20 authors" in card
    rows = [line.split(" | ")[1:4] for line in card.splitlines() if line.startswith(("| indoor", "| nat", "| urb"))]
    assert np.array(rows).astype(int).sum() == 200


def test_the_committed_card_is_worded_as_a_new_one_would_be(problem):
    seen, targets, fold = problem
    choice = make.Choice(make.Shown("whole", square_root=True), 0.25)
    shares = make.held_out(seen, targets, fold, [choice] * make.FOLDS)
    truth = pd.DataFrame({"author": [str(number % 20) for number in range(200)]})
    card = make.model_card(truth, targets, {make.OURS: shares}, chosen_for(choice), choice)
    words = [line for line in card.splitlines() if not any(character.isdigit() for character in line)]
    committed = scene_classifier.HEAD.with_name("README.md").read_text().splitlines()
    assert [line for line in committed if not any(character.isdigit() for character in line)] == words


def test_photos_of_a_folder_are_classified_end_to_end(root, folder, checkpoint):
    photos, rows = folder
    truth = root / "truth.csv"
    rows.drop(columns="id").to_csv(truth, index=False)
    given = {"dataset": "mine", "photo_root": str(photos)}
    notebooks.run("01_data/make_list", {**given, "truth": str(truth), "test_share": 0.5, "validation_share": 0.0})
    folder = notebooks.run("02_scenes/classify_scenes", given)
    assert folder == paths.scenes("mine")
    listed = data_lists.read("mine")
    table = scenes.table(listed[::-1], "mine")
    assert table["id"].tolist() == listed["id"].tolist()[::-1]
    manifest = manifests.read(folder)
    assert manifest["counts"] == {"photos": 8, "classified": 8, "unreadable": 0}
    assert manifest["inputs"]["scene head"]["sha256"] == manifests.fingerprint(scene_classifier.HEAD)
    figures = {file.name for file in folder.glob("*.png")}
    assert figures == {"scenes.png", "certainty.png", "photos_by_scene.png"}
