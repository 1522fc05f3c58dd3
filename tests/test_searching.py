"""A run that searches among its training photos, from training to the answers, beside the same run without a search."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from helpers import (
    app_photos,
    calibrating,
    calibration,
    checkpoints,
    data_lists,
    explaining,
    export,
    export_checks,
    export_notes,
    gallery,
    given_photos,
    metrics,
    model_cards,
    models,
    notebooks,
    paper_rows,
    paths,
    placing,
    predict,
    read_outs,
    recipe,
    run_folders,
    search,
    training,
)

DATASET = "toy-earth-tiny"  # of the fixture `tiny`
CPU = torch.device("cpu")
LEVELS = ["coarse", "middle", "fine", "f*"]
QUICK = {"architecture": "mobilenet_v3_small", "weights": "none", "train_layers": "all", "image_size": 32}
TWO_BRANCHES = {
    **{"segmentation": True, "architecture": "timm/test_vit", "weights": "none", "train_layers": "all"},
    **{"backbone_learning_rate_factor": 1.0, "learning_rate": 5e-4, "image_size": 160},
}
RUNS = {
    "plain": {"preset": "plain"},
    "search": {},
    "larger": {"image_size": 96},
    "narrow": {"architecture": "shufflenet_v2_x0_5", "weights": "none", "image_size": 32},
    "coarse": {"partition": "coarse"},
    "country": {"partition": "country"},
    "region": {"partition": "region"},
    "scenes": {"multitask": True},
    "all layers": QUICK,
    "two branches": TWO_BRANCHES,
    "urban": {"scene": "urban"},
}


def job(folder, **given):
    folder.mkdir(parents=True, exist_ok=True)
    usual = {"dataset": DATASET, "preset": "search", "image_size": 64, "batch_size": 32, "epochs": 2}
    parameters = {**notebooks.defaults("04_training/train"), **usual, "precision": "fp32", **given}
    return training.Job(*recipe.of(parameters), folder, folder.parent / f"{folder.name}-checkpoints")


@pytest.fixture(scope="module")
def trained(copied):
    """The folder of a run, which is trained when it is first asked for."""

    def of(name):
        folder = paths.run(name.replace(" ", "-"))
        if not (folder / "config.json").exists():
            training.train_alone(job(folder, **RUNS[name]))
        return folder

    return of


def loaded(*folders):
    return predict.load({"all": list(folders)}, device=CPU)


@pytest.fixture(scope="module")
def rows(copied):
    found = data_lists.read(DATASET)
    return {split: found[found["split"] == split].reset_index(drop=True) for split in ("train", "validation", "test")}


def placed(runs, rows):
    return predict.locate(runs, predict.with_maps(runs, rows, DATASET), paths.photos(DATASET), batch_size=16)


KINDS = ["search", "coarse", "country", "region", "scenes", "all layers", "two branches"]


@pytest.mark.parametrize("name", KINDS)
def test_a_run_keeps_its_training_photos_and_places_others_at_theirs(trained, rows, name):
    folder = trained(name)
    config = json.loads((folder / "config.json").read_text())
    kept = gallery.read(folder / gallery.FILE)
    assert config["preset"] == "search"
    assert list(config["classes"])[-1] == "search"
    assert config["classes"]["search"] == kept.keys.shape[1] == min(len(kept.keys) // 2, 256)
    learned = rows["train"][["latitude", "longitude"]].round(2)
    lies_in_a_class = pd.DataFrame(kept.coordinates, columns=learned.columns)
    assert len(kept.keys) <= len(learned)
    assert len(lies_in_a_class.merge(learned.drop_duplicates())) == len(kept.keys)
    runs = loaded(folder)
    (run,) = runs.values()
    assert kept.labels.max() < len(list(run.classes.values())[-1])
    found = placed(runs, rows["test"])
    assert list(found.answers) == list(run.models) == [*run.classes, *["f*"] * (len(run.classes) > 1), "search"]
    answer = found.answers["search"]
    table = predict.table(rows["test"], found.answers, found.spread)
    np.testing.assert_array_equal(table["distance_km"], table["distance_km_search"])
    named = answer[["predicted_latitude", "predicted_longitude"]].to_numpy()
    assert {tuple(place) for place in named} <= {tuple(place) for place in kept.coordinates}
    assert answer["confidence"].between(0, 1).all()
    assert answer["cell"].between(0, kept.labels.max()).all()
    assert ("predicted_scene" in answer) == (name in ("scenes", "two branches"))
    np.testing.assert_array_equal(found.likeliest.query("rank == 1")["cell"], answer["cell"])
    with torch.inference_mode():
        views = next(predict.outputs(run, predict.with_maps(runs, rows["test"], DATASET), paths.photos(DATASET), 64))
    shares = run.read_out().shares(read_outs.fuse(views))
    assert list(shares) == list(run.models)
    torch.testing.assert_close(shares["search"].sum(dim=1), torch.ones(len(rows["test"])))
    card = model_cards.model_card(model_cards.trained(folder)).text
    assert "`gallery.safetensors` holds for each of these photos numbers" in card
    assert f"`search` ({kept.keys.shape[1]:,} numbers to compare photos by)" in card


def test_a_training_photo_is_most_alike_to_itself(trained, rows):
    (run,) = loaded(trained("search")).values()
    network = run.networks[0]
    kept = run.searching.gallery
    views = next(predict.outputs(run, rows["train"].head(20), paths.photos(DATASET), 20))[read_outs.SEARCH]
    middle = functional.normalize(views[:, 4].float(), dim=1)  # the crop that it was learned from
    coordinates = rows["train"][["latitude", "longitude"]].head(20).round(2).to_numpy()
    alike = middle @ kept.keys.T
    assert (alike.amax(dim=1) > 0.99).all()
    np.testing.assert_array_equal(kept.coordinates[alike.argmax(dim=1)], coordinates)
    assert network.model.heads[read_outs.SEARCH].weight.requires_grad is False


def test_without_its_search_a_run_answers_as_the_plain_one(trained, rows):
    plain, searching = loaded(trained("plain")), loaded(trained("search"))
    assert list(plain["all"].models) == LEVELS
    of_plain, of_search = placed(plain, rows["test"]), placed(searching, rows["test"])
    alone = placed({"all": predict.at_level(searching["all"], "f*")}, rows["test"])
    assert list(alone.answers) == LEVELS
    for model in LEVELS:
        pd.testing.assert_frame_equal(of_plain.answers[model], of_search.answers[model])
        pd.testing.assert_frame_equal(of_plain.answers[model], alone.answers[model])
    pd.testing.assert_frame_equal(of_plain.spread, alone.spread)
    assert list(placed({"all": predict.at_level(searching["all"], "fine")}, rows["test"]).answers) == ["fine"]
    assert predict.at_level(searching["all"], "search") is searching["all"]
    with pytest.raises(ValueError, match=r"no level 'serch', did you mean 'search'\?"):
        predict.at_level(searching["all"], "serch")


def test_networks_that_search_answer_together_whatever_their_width(trained, rows):
    one, larger, narrow = (trained(name) for name in ("search", "larger", "narrow"))
    together = placed(loaded(one, larger, narrow), rows["test"])
    assert list(together.answers) == [*LEVELS, "search"]
    twice = placed(loaded(one, one), rows["test"]).answers["search"]
    pd.testing.assert_frame_equal(twice, placed(loaded(one), rows["test"]).answers["search"], rtol=1e-4)


def test_what_has_not_kept_the_same_photos_answers_together_by_classes(trained, rows, tmp_path, capsys):
    searching, plain, urban = (trained(name) for name in ("search", "plain", "urban"))
    for together in ([searching, plain], [plain, searching]):
        runs = loaded(*together)
        names = " and ".join(folder.name for folder in together)
        assert f"{names} have not kept the same photos to search among" in capsys.readouterr().out
        assert list(placed(runs, rows["test"]).answers) == LEVELS
    test = rows["test"].assign(scene=np.resize(["urban", "natural"], len(rows["test"])))
    for networks in ({"urban": [urban, searching], "natural": [searching]}, {"urban": [urban], "natural": [plain]}):
        by_classes = calibration.Calibration(photos=99, reason="")
        calibration.write(dict.fromkeys(networks, ({"max": by_classes}, "max")), tmp_path / "calibration.json")
        runs = predict.load(networks, tmp_path / "calibration.json", device=CPU)
        assert {run.models for run in runs.values()} == {tuple(LEVELS)}
        assert [run.calibration for run in runs.values()] == [by_classes, by_classes]
        assert list(placed(runs, test).answers) == LEVELS


def test_networks_of_scenes_search_each_among_photos_of_its_own(trained, rows):
    urban = trained("urban")
    kept, every = gallery.read(urban / gallery.FILE), gallery.read(trained("search") / gallery.FILE)
    assert 0 < len(kept.keys) < len(every.keys)
    runs = predict.load({"urban": [urban], "natural": [trained("search")]}, device=CPU)
    test = rows["test"].assign(scene=np.resize(["urban", "natural"], len(rows["test"])))
    assert list(placed(runs, test).answers) == [*LEVELS, "search"]


@pytest.fixture
def moved(trained, tmp_path):
    return shutil.copytree(trained("search"), tmp_path / "moved")


def test_a_gallery_of_another_run_or_none_is_refused_by_name(trained, moved):
    shutil.copy(trained("larger") / gallery.FILE, moved / gallery.FILE)
    with pytest.raises(models.WeightsError, match=r"moved.*of another run: .*'search'.*Put the files of one"):
        loaded(moved)
    (moved / gallery.FILE).unlink()
    with pytest.raises(ValueError, match=r"gallery\.safetensors is gone, .*put it back"):
        loaded(moved)


@pytest.mark.parametrize("damage", [{"labels": 10_000}, {"keys": 3}])
def test_a_gallery_that_does_not_fit_its_network_is_refused(moved, monkeypatch, damage):
    kept = gallery.read(moved / gallery.FILE)
    spoilt = {
        "labels": lambda: {"labels": np.full_like(kept.labels, 10_000)},
        "keys": lambda: {"keys": kept.keys[:, :3]},
    }[next(iter(damage))]()
    monkeypatch.setattr(gallery, "read", lambda path: dataclasses.replace(kept, **spoilt))
    with pytest.raises(ValueError, match=r"gallery\.safetensors has photos with .*Put|.*put the files of one run"):
        loaded(moved)


def test_the_command_and_the_page_place_a_photo_by_searching(trained, rows, copied):
    photo = paths.photos(DATASET) / rows["test"]["path"][0]
    expected = placed(loaded(trained("search")), rows["test"].head(1)).answers["search"]
    call = [sys.executable, "-m", "helpers.predict", "search", str(photo), "--precision", "fp32", "--no-scenes"]
    ended = subprocess.run([*call, "--output", str(copied / "out.csv")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found = pd.read_csv(copied / "out.csv", comment="#").iloc[0]
    np.testing.assert_allclose(
        found[["latitude", "longitude"]].to_numpy(float), expected.filter(like="predicted").to_numpy()[0], atol=1e-6
    )
    placer = placing.ready(run_folders.find("search"), device="cpu", precision="fp32", tell_scenes=False)
    assert list(app_photos._models(placer)) == [*LEVELS, "search"]
    assert app_photos._level(placer, {"level": "search"}) == "search"
    with pytest.raises(app_photos.Refusal, match=r"it has coarse, middle, fine, f\*, search"):
        app_photos._level(placer, {"level": "finest"})


@pytest.mark.parametrize("level", ["auto", "search", "f*", "fine"])
@pytest.mark.parametrize("crops", [1, 5])
def test_any_level_and_number_of_crops_places_photos(trained, rows, level, crops):
    placer = placing.ready(run_folders.find("search"), device="cpu", precision="fp32", tell_scenes=False)
    photos = given_photos.find([paths.photos(DATASET) / path for path in rows["test"]["path"].head(3)])
    found = placer(photos, distributions=True, level=level, crops=crops)
    assert (found.table["error"] == "").all()
    assert found.distribution is not None
    sums = found.distribution.groupby("id")["probability"].sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    if crops == 5:
        answers = placed({"all": predict.at_level(loaded(trained("search"))["all"], level)}, rows["test"].head(3))
        answer = list(answers.answers.values())[-1]
        np.testing.assert_allclose(found.table["latitude"], answer["predicted_latitude"], atol=1e-6)
        np.testing.assert_allclose(found.table["confidence"], answer["confidence"], rtol=1e-3)


def test_half_precision_searches_by_nearly_the_same(trained, rows):
    trained("search")
    photos = given_photos.find([paths.photos(DATASET) / path for path in rows["test"]["path"]])
    found = [
        placing.ready(run_folders.find("search"), device="cpu", precision=precision, tell_scenes=False)(photos).table
        for precision in ("fp32", "bf16")
    ]
    np.testing.assert_allclose(found[0]["confidence"], found[1]["confidence"], atol=0.1)
    apart = metrics.great_circle_km(*(each[what] for each in found for what in ("latitude", "longitude")))
    assert np.median(apart) == 0


def test_what_a_search_names_is_explained_by_what_the_classes_say(trained, rows):
    (run,) = loaded(trained("search")).values()
    assert [explaining.explainer(run, level).level for level in ("auto", "search", "fine")] == ["f*", "f*", "fine"]
    with pytest.raises(ValueError, match="no level 'search'"):
        explaining.explainer(loaded(trained("plain"))["all"], "search")
    placer = placing.ready(run_folders.find("search"), device="cpu", precision="fp32", tell_scenes=False)
    given = given_photos.find([paths.photos(DATASET) / rows["test"]["path"][0]])
    row = placer(given, level="search").table.iloc[0].fillna("")
    shown = app_photos._explained(placer, given, row, "search")
    assert shown.shape == (64, 64, 3)


def test_with_few_validation_photos_a_search_is_not_calibrated_and_says_so(trained, rows):
    runs = loaded(trained("search"))
    fitted = calibrating.calibrate(runs, rows["validation"], paths.photos(DATASET), batch_size=16)
    assert set(fitted.comparison["model"]) == {*LEVELS, "search"}
    assert "validation photos" in fitted.reasons["all"]
    of_search = fitted.comparison.query("model == 'search' and chosen").iloc[0]
    answer = placed(runs, rows["validation"])
    table = predict.table(rows["validation"], answer.fusions[of_search["fusion"]])
    assert of_search["within_750km"] == pytest.approx((table["distance_km_search"] <= 750).mean())
    truth = calibration.truth(rows["validation"], runs["all"].read_out())
    np.testing.assert_array_equal(truth.labels["search"], truth.labels["f*"])


def test_the_search_is_a_row_of_its_own_in_the_table_of_the_paper(trained, rows):
    found = placed(loaded(trained("search")), rows["test"])
    predictions = predict.table(rows["test"], found.answers, found.spread).sort_values("id", ignore_index=True)
    config = json.loads((trained("search") / "config.json").read_text())
    listed = paper_rows.rows([paper_rows.Evaluated("search", config, predictions, {})])
    kinds = listed.sources.set_index("model")["kind"].to_dict()
    assert kinds["base(M, search)"] == "best"
    assert kinds["base(M, f*)"] == "other"
    assert listed.baselines == []


def test_what_a_search_weighs_by_is_fitted_on_validation_photos(trained, rows, copied, capsys):
    usual = gallery.read(trained("search") / gallery.FILE)
    assert usual.sharpness in search._SHARPNESSES
    assert usual.temperature in search._TEMPERATURES
    list_file = paths.data_list(DATASET)
    whole = list_file.read_bytes()
    found = data_lists.read(DATASET)
    try:
        data_lists.write(found[found["split"] != "validation"].reset_index(drop=True), dict(found.attrs), list_file)
        for partition, temperature in (("multi", search.USUAL[1]), ("coarse", 1.0)):
            folder = copied / f"unvalidated-{partition}"
            training.train_alone(job(folder, partition=partition))
            kept = gallery.read(folder / gallery.FILE)
            assert (kept.sharpness, kept.temperature) == (search.USUAL[0], temperature)
    finally:
        list_file.write_bytes(whole)
    assert "training photos, sharpness 6, temperature 1, reach 20/20/20/20/20 %\n" in capsys.readouterr().out


@pytest.mark.parametrize("layers", [{"image_size": 48}, QUICK])  # of which no features are kept
def test_photos_that_cannot_be_read_are_not_searched_among(copied, rows, tmp_path, layers):
    album = shutil.copytree(paths.photos(DATASET), tmp_path / "album")
    broken = [rows[split].iloc[[3, 5]] for split in ("train", "validation")]
    for path in pd.concat(broken)["path"]:
        (album / path).write_bytes(b"no photo")
    run = job(tmp_path / "run", photo_root=str(album), unreadable_photos=4, **layers)
    training.train_alone(run)
    assert len(pd.read_csv(run.folder / "unreadable.csv")) == 4
    kept = gallery.read(run.folder / gallery.FILE)
    lie_in_a_class = pd.read_parquet(paths.cells(DATASET) / "labels.parquet").query("fine >= 0")["id"]
    readable = rows["train"].drop([3, 5])
    readable = readable[readable["id"].isin(lie_in_a_class)]
    np.testing.assert_array_equal(kept.coordinates, readable[["latitude", "longitude"]].round(2))


def test_more_photos_than_are_kept_are_drawn_by_the_seed(copied, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_PHOTOS", 30)
    of_seed = []
    for name, seed in (("one", 7), ("again", 7), ("other", 8)):
        training.train_alone(job(tmp_path / name, seed=seed, epochs=1))
        of_seed.append(gallery.read(tmp_path / name / gallery.FILE).coordinates)
    assert of_seed[0].shape == (30, 2)
    np.testing.assert_array_equal(of_seed[0], of_seed[1])
    assert not np.array_equal(of_seed[0], of_seed[2])


def test_training_anew_gives_the_same_files_and_going_on_as_well(copied, trained, tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    whole = trained("all layers")
    write = checkpoints.write

    def ending(*arguments):
        write(*arguments)
        raise Ended

    broken_off = job(tmp_path / "run", **QUICK, checkpoint_minutes=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", ending)
        with pytest.raises(Ended):
            training.train_alone(broken_off)
    training.train_alone(job(tmp_path / "run", **QUICK, resume=True))
    for file in (gallery.FILE, "model.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (whole / file).read_bytes()


def test_a_photo_lost_before_going_on_is_not_searched_among(copied, trained, rows, tmp_path, monkeypatch):
    class Ended(Exception):
        pass

    def ending(*arguments):
        write(*arguments)
        raise Ended

    write = checkpoints.write
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write", ending)
        with pytest.raises(Ended):
            training.train_alone(job(tmp_path / "run", image_size=48, checkpoint_minutes=0.0))
    number = int(np.flatnonzero(rows["train"]["id"] == labelled_in_fine(rows["train"])[0])[0])
    lost = paths.photos(DATASET) / rows["train"]["path"][number]
    original = lost.read_bytes()
    shutil.rmtree(copied / "04_training" / "features", ignore_errors=True)
    try:
        lost.write_bytes(original[:200])
        training.train_alone(job(tmp_path / "run", image_size=48, resume=True))
    finally:
        lost.write_bytes(original)
    kept, every = gallery.read(tmp_path / "run" / gallery.FILE), gallery.read(trained("search") / gallery.FILE)
    assert len(kept.keys) == len(every.keys) - 1
    assert rows["train"]["id"][number] in (tmp_path / "run" / "unreadable.csv").read_text()


def labelled_in_fine(rows):
    labels = pd.read_parquet(paths.cells(DATASET) / "labels.parquet")
    return [name for name in rows["id"] if name in set(labels["id"][labels["fine"].fillna(-1) >= 0])]


def test_photos_without_a_finest_class_are_not_searched_among_which_is_said_before_work(
    copied, trained, tmp_path, monkeypatch, capsys
):
    read_split = training.labelled.read_split

    def coarse_alone(settings, split):
        photos = read_split(settings, split)
        photos.labels["fine"].fill_(-1)
        return photos

    monkeypatch.setattr(training.labelled, "read_split", coarse_alone)
    with pytest.raises(ValueError, match=r"no training photo has a class of fine.*preset auto or plain"):
        training.train_alone(job(tmp_path / "search"))
    training.train_alone(job(tmp_path / "auto", preset="auto", epochs=1))
    assert "the run answers by its classes alone" in capsys.readouterr().out
    assert json.loads((tmp_path / "auto" / "config.json").read_text())["preset"] == "plain"
    assert loaded(tmp_path / "auto")["all"].models == tuple(LEVELS)


def test_a_run_goes_on_from_one_that_searches_and_makes_a_gallery_of_its_own(trained, tmp_path, capsys):
    begun = trained("search") / "model.safetensors"
    for preset in ("plain", "search"):
        training.train_alone(job(tmp_path / preset, weights=str(begun), epochs=1, preset=preset))
        assert "head 'fine' goes on from" in capsys.readouterr().out
    assert not (tmp_path / "plain" / gallery.FILE).exists()
    (run,) = loaded(tmp_path / "search").values()
    assert run.models[-1] == "search"


def test_coordinates_have_nothing_to_search_among_which_is_said_before_work():
    parameters = notebooks.defaults("04_training/train")
    with pytest.raises(ValueError, match=r"preset 'search' .*partition 'coordinates' has none .*choose partition mul"):
        recipe.of({**parameters, "preset": "search", "partition": "coordinates"})


@pytest.fixture(scope="module")
def exported(trained, copied):
    (run,) = loaded(trained("search")).values()
    (network,) = run.networks
    (copied / "exported").mkdir()
    return run, export.write(network.model, network.image_size, export.FORMATS, copied / "exported")


def test_an_exported_run_gives_what_photos_are_compared_by(exported):
    run, files = exported
    photos = export_checks.photos({"all": run}, 6, seed=7)
    compared = export_checks.compare(run, files, photos, paths.photos(DATASET))
    table = export_checks.summary(compared, tolerance=1e-4)
    export_checks.confirm(table)
    of_search = table[table["output"] == "search"]
    assert of_search["format"].tolist() == ["onnx", "pt2"]
    assert of_search["same_answer"].isna().all()
    assert (of_search["unit"] == "share of the largest").all()
    assert (of_search["largest_difference"] < 1e-4).all()


def test_a_changed_projection_is_noticed_in_its_export(exported, trained):
    run, files = exported
    (other,) = loaded(trained("search")).values()
    other.networks[0].model.heads[read_outs.SEARCH].weight.data[0] *= -1
    photos = export_checks.photos({"all": run}, 3, seed=7)
    compared = export_checks.compare(other, {"pt2": files["pt2"]}, photos, paths.photos(DATASET))
    with pytest.raises(export.ExportError, match=r"search of model\.pt2 is not what the network gives"):
        export_checks.confirm(export_checks.summary(compared, tolerance=1e-4))


def test_the_notes_of_an_export_say_that_a_search_names_no_classes(exported, trained, rows, copied):
    run, _ = exported
    folder = copied / "exported"
    checks = pd.DataFrame({"format": ["pt2"], "output": ["search"], "photos": [3], "same_answer": [pd.NA]})
    export_notes.write(folder, run, trained("search"), checks.assign(largest_difference=1e-6, unit="share"))
    described = json.loads((folder / "interface.json").read_text("utf-8"))
    directions = run.networks[0].settings["classes"]["search"]
    assert described["outputs"]["search"]["shape"] == ["n", directions]
    assert "no classes" in described["outputs"]["search"]["form"]
    assert "classes" not in described["outputs"]["search"]
    assert described["finest"] == "fine"
    assert "It names no classes" in (folder / "README.md").read_text("utf-8")
    assert not (folder / gallery.FILE).exists()
    photo = paths.photos(DATASET) / rows["test"]["path"][0]
    call = [sys.executable, "-I", str(folder / "example.py"), str(photo)]
    ended = subprocess.run(call, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    expected = placed({"all": predict.at_level(run, "f*")}, rows["test"].head(1)).likeliest
    found = [[float(number) for number in line.split()] for line in ended.stdout.splitlines()]
    np.testing.assert_allclose(found, expected[["latitude", "longitude", "probability"]], rtol=2e-2, atol=1e-3)


def test_onnx_runtime_searches_as_pytorch_does(exported, rows, monkeypatch):
    monkeypatch.setattr(export, "kept", lambda folder, form: exported[1][form])  # made once for all tests
    photos = given_photos.find([paths.photos(DATASET) / path for path in rows["test"]["path"]])
    found = [
        placing.ready(run_folders.find("search"), device="cpu", precision="fp32", runtime=runtime, tell_scenes=False)(
            photos
        ).table
        for runtime in placing.RUNTIMES
    ]
    columns = ["latitude", "longitude", "confidence", "radius_50_km"]
    np.testing.assert_allclose(found[1][columns], found[0][columns], rtol=1e-3)
