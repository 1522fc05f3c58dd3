import numpy as np
import pandas as pd
import pytest
import torch

from helpers import baselines, cells, metrics, places, predict, regions

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def partitions():
    generator = np.random.default_rng(3)
    centres = generator.uniform([-50, -170], [60, 170], (12, 2))
    points = centres[generator.integers(12, size=4000)] + generator.normal(0, 2.0, (4000, 2))
    sizes = {"coarse": 800, "middle": 300, "fine": 100}
    return cells.build_all(points[:, 0], points[:, 1], min_photos=5, max_photos=sizes)


def run_of(classes, learned_from, **calibrated):
    return predict.Run((predict.Network({}, None, DEVICE),), classes, learned_from, **calibrated)


def named(run, model, shares):
    tables = predict._Namer(run).named(model, shares)
    return {level: table for (_, _, level), table in tables.items()}


@pytest.fixture
def country_run():
    classes = regions.build(
        pd.DataFrame({"country": ["FR", "FR", "ES", "PT"], "region": [""] * 4}), "country", min_photos=1
    )
    return run_of({"country": classes}, pd.DataFrame({"latitude": [48.0, 40.0], "longitude": [2.0, -3.0]}))


def test_countries_are_named_from_the_likeliest_on(country_run):
    keys = country_run.classes["country"].keys.tolist()
    table = named(country_run, "country", torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]]))["country"]
    assert table["guess_1"].tolist() == [keys[1], keys[0]]
    assert table["guess_3"].tolist() == [keys[2], keys[1]]
    np.testing.assert_allclose(table["p_1"], [0.7, 0.5])
    assert (table["guess_4"] == "").all()
    assert table["p_4"].isna().all()


def test_a_country_is_as_likely_as_its_regions_together():
    names = places.regions()
    chosen = pd.concat([names[names["country"] == code].head(2) for code in ("FR", "DE")])
    classes = regions.build(chosen[["country", "region"]].reset_index(drop=True), "region", min_photos=1)
    shares = torch.tensor([[0.0] * 4])
    french = np.flatnonzero(classes.countries == "FR")
    german = np.flatnonzero(classes.countries == "DE")
    shares[0, german[0]], shares[0, french[0]], shares[0, french[1]] = 0.4, 0.3, 0.3
    run = run_of({"region": classes}, chosen[["latitude", "longitude"]])
    found = named(run, "region", shares)
    assert found["region"]["guess_1"][0] == classes.keys[german[0]]
    assert found[predict.LIKELIEST_REGION]["guess_1"][0] == "DE"
    assert found["country"]["guess_1"][0] == "FR"
    np.testing.assert_allclose(found["country"]["p_1"], 0.6)
    keys = {"country": {"DE", "FR"}, "region": set(classes.keys)}
    assert predict.nameable({"all": run}) == keys


def test_what_a_run_can_name_is_what_some_network_of_it_can():
    france, japan = (
        regions.build(pd.DataFrame({"country": [code], "region": [""]}), "country", min_photos=1)
        for code in ("FR", "JP")
    )
    nowhere = pd.DataFrame({"latitude": [48.0, 35.0], "longitude": [2.0, 138.0]})
    runs = {"indoor": run_of({"country": france}, nowhere), "urban": run_of({"country": japan}, nowhere)}
    assert predict.nameable(runs) == {"country": {"FR", "JP"}}
    assert predict.nameable({**runs, "natural": run_of({}, nowhere)}) == {}


def test_a_cell_is_in_the_countries_of_its_training_photos():
    border = pd.DataFrame({"latitude": [48.573, 48.573, 48.57, 48.58], "longitude": [7.752, 7.75, 7.76, 7.83]})
    cell = cells.build(border["latitude"], border["longitude"], name="fine", min_photos=1, max_photos=9)
    table = named(run_of({"fine": cell}, border), "fine", torch.tensor([[1.0]]))["country"]
    assert table.loc[0, ["guess_1", "guess_2"]].tolist() == ["FR", "DE"]  # Strasbourg, and Kehl across the Rhine
    np.testing.assert_allclose(table.loc[0, ["p_1", "p_2"]].astype(float), [0.75, 0.25])


def test_each_photo_goes_to_the_network_of_its_scene(partitions):
    indoor = run_of(partitions, pd.DataFrame({"latitude": [1.0], "longitude": [1.0]}))
    urban = run_of(partitions, pd.DataFrame({"latitude": [2.0], "longitude": [2.0]}))
    rows = pd.DataFrame({"id": ["a", "b", "c"], "scene": ["urban", "indoor", "urban"]})
    answers = baselines.blind({"indoor": indoor, "urban": urban}, rows, seed=7)[metrics.RANDOM_TRAINING_PHOTO]
    assert answers["id"].tolist() == ["a", "b", "c"]
    assert answers["predicted_latitude"].tolist() == [2.0, 1.0, 2.0]
    rows.loc[1, "scene"] = None
    with pytest.raises(ValueError, match=r"1 of 3 photos, such as 'b', have no known scene.*classify_scenes"):
        baselines.blind({"indoor": indoor, "urban": urban}, rows, seed=7)


def test_baselines_name_places_of_training_photos_and_the_fullest_cell(partitions):
    learned_from = pd.DataFrame({"latitude": [1.0, 2.0, 3.0], "longitude": [10.0, 20.0, 30.0]})
    run = run_of(partitions, learned_from)
    rows = pd.DataFrame({"id": [f"{number:04d}" for number in range(3000)]})
    answers = baselines.blind({"all": run}, rows, seed=7)
    drawn = answers[metrics.RANDOM_TRAINING_PHOTO]
    assert (drawn["predicted_longitude"] == 10 * drawn["predicted_latitude"]).all()
    assert drawn["predicted_latitude"].value_counts().between(900, 1100).all()
    pd.testing.assert_frame_equal(drawn, baselines.blind({"all": run}, rows, seed=7)[metrics.RANDOM_TRAINING_PHOTO])
    fullest = answers[metrics.MOST_LIKELY_CELL]["predicted_latitude"].unique()
    assert fullest == partitions["fine"].latitude_mean[partitions["fine"].imgs_per_cell.argmax()]


def test_the_table_tells_how_far_off_every_answer_is():
    rows = pd.DataFrame({"id": ["a", "b"], "author": ["x", ""], "latitude": [0.0, 0.0], "longitude": [0.0, 90.0]})
    guess = pd.DataFrame({"id": ["a", "b"], "predicted_latitude": [0.0, 0.0], "predicted_longitude": [0.0, 0.0]})
    sure = guess.assign(confidence=[0.5, 0.25], cell=[1, 1])
    table = predict.table(rows, {"fine": sure, "f*": sure, "most likely cell": guess})
    np.testing.assert_allclose(table["distance_km"], [0, np.pi / 2 * 6371])
    assert {"distance_km_fine", "distance_km_f*", "distance_km_most likely cell", "confidence"} <= set(table.columns)
    assert table["id"].tolist() == ["a", "b"]


def test_a_list_without_test_photos_says_what_to_do(partitions, tmp_path):
    run = run_of(partitions, pd.DataFrame({"latitude": [], "longitude": []}))
    with pytest.raises(ValueError, match="build it with a test_share above 0"):
        predict.locate({"all": run}, pd.DataFrame({"id": [], "path": []}), tmp_path, batch_size=8)
