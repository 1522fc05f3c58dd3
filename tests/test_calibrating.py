"""On toy-earth, whose true uncertainty is known, a calibrated run says what is true; with too few photos it says so."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import (
    baselines,
    calibrating,
    calibration,
    cells,
    data_lists,
    fetch,
    metrics,
    notebooks,
    paths,
    predict,
    read_outs,
    recipe,
    search,
    spread,
    toy_earth,
    toy_earth_facts,
    toy_earth_scenes,
    training,
    uncertainty,
)

DATASET = "toy-earth-calibrated"
PHOTOS = 2400


def train(folder, **given):
    folder.mkdir(parents=True)
    usual = {"dataset": DATASET, "preset": "plain", "image_size": 64, "epochs": 8}
    parameters = {**notebooks.defaults("04_training/train"), **usual, **given}
    training.train_alone(training.Job(*recipe.of(parameters), folder, folder / "checkpoints"))
    return folder


def one_photo_of_each_author():
    """A list whose photos are independent, so that few of them tell much."""
    sample = toy_earth.sample(40_000, seed=3).drop_duplicates("author").head(PHOTOS)
    split = np.array(["train", "train", "validation", "test"])[np.arange(len(sample)) % 4]
    rows = sample[["id", "path", "latitude", "longitude", "author", "country"]].assign(split=split)
    rows["sha256"] = fetch.render(rows, paths.photos(DATASET))
    return rows.sort_values("id", ignore_index=True)[[*data_lists.COLUMNS, "country"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run on toy-earth, calibrated on its validation photos, and what it says of its test photos."""
    root = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        data_lists.write(one_photo_of_each_author(), {"dataset": DATASET}, paths.data_list(DATASET))
        photos = data_lists.read(DATASET)
        learned = photos[photos["split"] == "train"]
        sizes = {"coarse": 80, "middle": 40, "fine": 20}
        partitions = cells.build_all(learned["latitude"], learned["longitude"], min_photos=3, max_photos=sizes)
        for name, partition in partitions.items():
            cells.write(partition, paths.cells(DATASET) / f"{name}.csv")
        cells.label_table(photos, partitions).to_parquet(paths.cells(DATASET) / "labels.parquet")
        folder = train(root / "run")
        runs = predict.load({"all": [folder]})
        photo_root = fetch.ensure(photos, DATASET)
        fitted = calibrating.calibrate(runs, calibrating.validation_photos(runs, seed=7), photo_root, batch_size=64)
        calibration.write(fitted.calibrations, folder / "calibration.json")
        runs = predict.load({"all": [folder]}, folder / "calibration.json")
        test = photos[photos["split"] == "test"].reset_index(drop=True)
        placed = predict.locate(runs, test, photo_root, batch_size=64)
        yield {
            "folder": folder, "fitted": fitted, "runs": runs, "test": test, "placed": placed, "photo_root": photo_root,
            "predictions": predict.table(test, placed.answers, placed.spread),
        }  # fmt: skip


def little(test):
    """Whether a photo shows what says little about its place: a room, a table, a wall, leaves."""
    known = toy_earth_facts.facts(test["latitude"], test["longitude"])
    key = toy_earth._keys(test["id"].to_numpy(dtype=object))
    subject = toy_earth_scenes.subjects(key, known["density"].to_numpy(), known["coast"].to_numpy())
    return np.isin(subject, ["room", "table", "wall", "leaves"])


def test_radii_hold_what_they_promise_and_confidence_is_right_as_often_as_it_says(world):
    held = uncertainty.coverage(world["predictions"], 20, seed=7)
    held = held.set_index(["calibration", "promised"])["held"]
    for promise in calibration.PROMISES:
        # Three standard deviations of the share in validation, which set the level, and in test, which it is judged by.
        chance = 3 * np.sqrt(promise * (1 - promise) * 2 / 600)
        assert held["after", promise] == pytest.approx(promise, abs=chance)
        assert held["before", promise] < promise - chance
    confidences = predict.confidences(world["test"], world["placed"])
    errors = uncertainty.errors(uncertainty.chosen(confidences, world["predictions"])).set_index("model")
    assert errors.loc["f*", "error_before"] > 0.2
    assert errors.loc["f*", "error_after"] < 0.03
    assert (errors["confidence_after"] - errors["right"]).abs().max() < 0.06


def test_the_radius_in_kilometres_holds_just_what_is_counted(world):
    predictions = world["predictions"]
    for promise in calibration.PROMISES:
        within = predictions["distance_km"] <= predictions[f"radius_{100 * promise:.0f}_km"]
        assert within.mean() == pytest.approx((predictions["held_from"] < promise).mean(), abs=0.01)
    assert (predictions["radius_50_km"] <= predictions["radius_90_km"]).all()


def test_of_photos_that_say_little_the_radii_are_those_of_where_people_are(world):
    """The truth is known: what such a photo shows hardly depends on its place, so it may be of wherever people are."""
    predictions, says_little = world["predictions"], little(world["test"])
    people = toy_earth.sample(20_000, seed=99)
    ratio = []
    for row in predictions[says_little].to_dict("records"):
        guess = row["predicted_latitude"], row["predicted_longitude"]
        true_radius = np.median(metrics.great_circle_km(*guess, people["latitude"], people["longitude"]))
        ratio.append(row["radius_50_km"] / true_radius)
    assert 0.7 < np.median(ratio) < 1.3
    tells = predictions[~says_little]
    assert tells["radius_50_km"].median() < 0.95 * predictions.loc[says_little, "radius_50_km"].median()
    assert tells["entropy_bits"].mean() < predictions.loc[says_little, "entropy_bits"].mean()


def test_the_probability_of_being_near_is_how_often_it_is_near(world):
    predictions = world["predictions"]
    for share in metrics.SHARES[2:]:
        near = predictions["distance_km"] <= float(share.removeprefix("within_").removesuffix("km"))
        assert predictions[f"p_{share}"].mean() == pytest.approx(near.mean(), abs=0.05)


def test_countries_and_places_have_probabilities_that_add_up(world):
    placed, test = world["placed"], world["test"]
    likeliest = placed.likeliest
    assert likeliest["id"].tolist() == np.repeat(test["id"], predict.GUESSES).tolist()
    assert (likeliest.groupby("id")["probability"].diff().dropna() <= 1e-12).all()
    first = likeliest[likeliest["rank"] == 1].reset_index(drop=True)
    np.testing.assert_allclose(first["probability"], placed.answers["f*"]["confidence"], rtol=1e-6)
    np.testing.assert_array_equal(first["cell"], placed.answers["f*"]["cell"])
    shares = placed.countries[[f"p_{rank}" for rank in range(1, 6)]].to_numpy()
    assert (np.diff(shares, axis=1) <= 1e-12).all()
    assert (shares.sum(axis=1) <= 1 + 1e-9).all()
    right = placed.countries["guess_1"] == test["country"]
    assert placed.countries["p_1"].mean() == pytest.approx(right.mean(), abs=0.06)


def test_the_fusion_is_the_one_with_the_least_surprise_in_validation(world):
    comparison = world["fitted"].comparison
    best = comparison[comparison["model"] == "f*"]
    assert set(best["fusion"]) == set(read_outs.FUSIONS)
    assert best.loc[best["nats_after"].idxmin(), "chosen"]
    assert (comparison["nats_after"] <= comparison["nats_before"] + 1e-9).all()
    assert world["runs"]["all"].fusion == best.loc[best["nats_after"].idxmin(), "fusion"]
    forced = predict.load({"all": [world["folder"]]}, world["folder"] / "calibration.json", "mean")
    assert forced["all"].calibration.fusion == "mean"


def test_a_search_is_calibrated_and_names_places_at_least_as_well(world, tmp_path):
    folder = train(tmp_path / "searching", preset="search")
    runs = predict.load({"all": [folder]})
    validation, root = calibrating.validation_photos(runs, seed=7), world["photo_root"]
    fitted = calibrating.calibrate(runs, validation, root, batch_size=64)
    assert fitted.reasons == {}
    calibration.write(fitted.calibrations, folder / "calibration.json")
    comparison = fitted.comparison.set_index(["fusion", "model"])
    chosen = fitted.calibrations["all"][1]
    best = comparison.xs("search", level="model")["nats_after"]
    assert best.idxmin() == chosen
    # What the classes say stays what it is without a search.
    columns = ["within_750km", "nats_before", "nats_after"]
    plain = world["fitted"].comparison.set_index(["fusion", "model"])
    pd.testing.assert_frame_equal(comparison.loc[plain.index, columns], plain[columns])
    runs = predict.load({"all": [folder]}, folder / "calibration.json")
    test = world["test"]
    placed = predict.locate(runs, test, root, batch_size=64)
    found = predict.table(test, placed.answers, placed.spread)
    for promise in calibration.PROMISES:
        chance = 3 * np.sqrt(promise * (1 - promise) * 2 / 600)
        assert (found["held_from"] < promise).mean() == pytest.approx(promise, abs=chance)
    good = {
        name: search.score(torch.tensor(found[f"distance_km_{name}"]), (1, 0, 0, 0, 0)).mean()
        for name in ("f*", "search")
    }
    assert good["search"] > good["f*"] - 0.005
    reason = predict.at_level(runs["all"], "f*").calibration.reason
    assert reason == "radii are fitted for search, not for f*"


def test_networks_answer_together_and_two_of_the_same_are_as_one(world):
    once, twice = ({"all": [world["folder"]] * count} for count in (1, 2))
    test, root = world["test"].head(40), world["photo_root"]
    one, two = (predict.locate(predict.load(runs), test, root, 16).answers["f*"] for runs in (once, twice))
    pd.testing.assert_frame_equal(one, two, rtol=1e-5)


def test_networks_of_other_classes_cannot_answer_together(world, tmp_path):
    other = train(tmp_path / "coarse", partition="coarse", epochs=1)
    with pytest.raises(
        ValueError, match=r"run and coarse cannot answer together, for they differ in partition, classes"
    ):
        predict.load({"all": [world["folder"], other]})


def test_with_too_few_validation_photos_nothing_is_fitted_and_it_is_said(world):
    runs = world["runs"]
    few = calibrating.validation_photos(runs, seed=7).head(60)
    fitted = calibrating.calibrate(runs, few, world["photo_root"], batch_size=32)
    assert "60 validation photos" in fitted.reasons["all"]
    assert fitted.comparison["temperature"].isna().all()
    none = calibrating.calibrate(runs, few.iloc[:0], world["photo_root"], batch_size=32)
    assert "0 validation photos" in none.reasons["all"]
    assert none.confidences.empty


def test_photos_that_training_could_not_read_and_photos_of_no_scene_are_left_out(world, capsys):
    run = world["runs"]["all"]
    every = calibrating.validation_photos(world["runs"], seed=7)
    network = dataclasses.replace(run.networks[0], unreadable=(every["id"][3], "nobody"))
    left = calibrating.validation_photos({"all": dataclasses.replace(run, networks=(network,))}, seed=7)
    assert left["id"].tolist() == every["id"].drop(3).tolist()
    assert calibrating.validation_photos({"indoor": run, "urban": run}, seed=7).empty  # whose scenes are not known
    assert "are of no scene of indoor, urban" in capsys.readouterr().out


def test_absent_validation_photos_are_said(world, tmp_path, capsys):
    rows = calibrating.validation_photos(world["runs"], seed=7).assign(path="nowhere.jpg")
    rows, _ = calibrating.find_photos(rows, "somebody-elses", str(tmp_path))
    assert rows.empty
    assert "nothing to calibrate on" in capsys.readouterr().out


def test_more_validation_photos_than_are_needed_are_drawn(world, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_PHOTOS", 50)
    drawn = calibrating.validation_photos(world["runs"], seed=7)
    assert len(drawn) == 50
    assert drawn["id"].is_monotonic_increasing
    assert drawn["id"].tolist() != calibrating.validation_photos(world["runs"], seed=8)["id"].tolist()


def test_coordinates_are_calibrated_too(world, tmp_path):
    folder = train(tmp_path / "vector", partition="coordinates")
    runs = predict.load({"all": [folder]})
    rows = calibrating.validation_photos(runs, seed=7)
    fitted = calibrating.calibrate(runs, rows, world["photo_root"], batch_size=64)
    calibration.write(fitted.calibrations, tmp_path / "calibration.json")
    placed = predict.locate(
        predict.load({"all": [folder]}, tmp_path / "calibration.json"), world["test"], world["photo_root"], 64
    )
    forced = predict.load({"all": [folder]}, tmp_path / "calibration.json", "mean")["all"]
    assert not forced.calibration.reason  # there is one way to fuse coordinates
    assert (placed.spread["held_from"] < 0.9).mean() == pytest.approx(0.9, abs=0.052)  # as above
    assert placed.likeliest["cell"].isna().all()
    assert len(placed.fusions) == len(read_outs.FUSIONS)


def test_baselines_from_the_runs_own_features(world):
    runs, test, root = world["runs"], world["test"], world["photo_root"]
    learned = baselines.learned(runs, most=500, seed=7)
    assert len(learned.asked) == 500 < len(learned.rows)
    answers, neighbours = baselines.seeing(runs, learned.asked, root, test, root, batch_size=64, seed=7)
    assert list(answers) == [metrics.NEAREST_NEIGHBOUR, metrics.SHUFFLED_LABELS]
    place = learned.asked.set_index("id").loc[neighbours["neighbour_id"], ["latitude", "longitude"]].to_numpy()
    nearest = answers[metrics.NEAREST_NEIGHBOUR]
    np.testing.assert_array_equal(nearest[["predicted_latitude", "predicted_longitude"]], place)
    assert neighbours["neighbour_similarity"].between(-1, 1.0001).all()

    def within(answer):
        distance = metrics.great_circle_km(
            test["latitude"], test["longitude"], answer["predicted_latitude"], answer["predicted_longitude"]
        )
        return metrics.accuracy(distance)[-1]

    assert within(answers[metrics.SHUFFLED_LABELS]) < 0.6 * within(world["placed"].answers["f*"])
    alone, _ = baselines.seeing(runs, learned.asked, root, test.head(3), root, batch_size=64, seed=7)
    for model, answer in alone.items():  # does not depend on the other photos
        pd.testing.assert_frame_equal(answer, answers[model].head(3))
    itself, own = baselines.seeing(runs, test, root, test, root, batch_size=64, seed=7)
    assert (own["neighbour_similarity"] > 0.999).all()
    assert within(itself[metrics.NEAREST_NEIGHBOUR]) > 0.99  # but for photos that are byte for byte alike


def test_without_training_photos_their_baselines_are_left_out_and_it_is_said(world, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    runs, test, root = world["runs"], world["test"], world["photo_root"]
    asked = baselines.learned(runs, 10, seed=7).asked
    settings = dataclasses.replace(runs["all"].networks[0], settings={**runs["all"].networks[0].settings})
    runs = {"all": dataclasses.replace(runs["all"], networks=(settings,))}
    settings.settings["dataset"] = "somebody-elses"
    answers, neighbours = baselines.seeing_where_possible(runs, asked, str(tmp_path / "empty"), test, root, 64, 7)
    assert answers == {}
    assert neighbours.empty
    assert "which need training photos" in capsys.readouterr().out


def test_a_spread_needs_no_truth(world):
    rows = world["test"][["id", "path"]].head(8)
    placed = predict.locate(world["runs"], rows, world["photo_root"], 8)
    assert "held_from" not in placed.spread
    assert placed.spread["radius_90_km"].between(0, spread.HALF_ROUND_KM).all()
