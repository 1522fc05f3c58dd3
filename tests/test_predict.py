import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import cells, metrics, places, predict, regions

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def partitions():
    generator = np.random.default_rng(3)
    centres = generator.uniform([-50, -170], [60, 170], (12, 2))
    points = centres[generator.integers(12, size=4000)] + generator.normal(0, 2.0, (4000, 2))
    sizes = {"coarse": 800, "middle": 300, "fine": 100}
    return cells.build_all(points[:, 0], points[:, 1], min_photos=5, max_photos=sizes)


def probabilities(partitions, photos=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (3 * torch.randn(photos, len(partition), generator=generator)).softmax(1)
        for name, partition in partitions.items()
    }


def contains(outer, inner):
    s2sphere = pytest.importorskip("s2sphere")
    return s2sphere.CellId(int(outer)).contains(s2sphere.CellId(int(inner)))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_hierarchy_equals_a_plain_loop_over_cells(partitions, seed):
    given_probabilities = probabilities(partitions, seed=seed)
    read_out = predict.ReadOut(partitions, DEVICE)
    product = read_out.hierarchical(given_probabilities)
    fine = partitions["fine"]
    expected = torch.zeros(6, len(fine), dtype=torch.float64)
    for cell, cell_id in enumerate(fine.ids):
        expected[:, cell] = given_probabilities["fine"][:, cell].double()
        for name in ("coarse", "middle"):
            ancestor = next(i for i, outer in enumerate(partitions[name].ids) if contains(outer, cell_id))
            expected[:, cell] *= given_probabilities[name][:, ancestor]
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(product.double(), expected, rtol=1e-4, atol=1e-7)


def test_answers_are_the_means_of_the_most_likely_cells(partitions):
    given_probabilities = probabilities(partitions)
    answers = predict.ReadOut(partitions, DEVICE)(given_probabilities)
    assert list(answers) == ["coarse", "middle", "fine", "f*"]
    best = given_probabilities["middle"].argmax(1).numpy()
    np.testing.assert_array_equal(answers["middle"]["cell"], best)
    np.testing.assert_array_equal(answers["middle"]["predicted_latitude"], partitions["middle"].latitude_mean[best])
    np.testing.assert_array_equal(answers["middle"]["predicted_longitude"], partitions["middle"].longitude_mean[best])
    assert all(answer["confidence"].between(0, 1).all() for answer in answers.values())


def test_a_single_partition_has_a_single_answer(partitions):
    read_out = predict.ReadOut({"fine": partitions["fine"]}, DEVICE)
    assert list(read_out({"fine": probabilities(partitions)["fine"]})) == ["fine"]


def test_reading_out_does_not_change_the_probabilities(partitions):
    given_probabilities = probabilities(partitions)
    before = {name: shares.clone() for name, shares in given_probabilities.items()}
    predict.ReadOut(partitions, DEVICE)(given_probabilities)
    assert all(torch.equal(before[name], shares) for name, shares in given_probabilities.items())


def test_levels_that_contradict_each_other_still_give_a_probability(partitions):
    certain = {name: torch.zeros(2, len(partition)) for name, partition in partitions.items()}
    for number, name in enumerate(partitions):
        certain[name][:, number] = 1.0
    answer = predict.ReadOut(partitions, DEVICE)(certain)["f*"]
    assert answer["confidence"].between(0, 1).all()


def test_crops_are_fused_by_their_largest_probability():
    logits = torch.randn(15, 7, generator=torch.Generator().manual_seed(1))
    fused = predict.fuse_crops({"fine": logits}, crops=5)["fine"]
    largest = torch.stack([logits[5 * photo : 5 * photo + 5].softmax(1).max(0).values for photo in range(3)])
    torch.testing.assert_close(fused, largest / largest.sum(1, keepdim=True))
    torch.testing.assert_close(fused.sum(1), torch.ones(3))


def test_crops_of_coordinates_are_fused_by_their_mean():
    vectors = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    fused = predict.fuse_crops({"coordinates": vectors}, crops=5)["coordinates"]
    torch.testing.assert_close(fused, torch.stack([vectors[:5].mean(0), vectors[5:].mean(0)]))


def test_a_vector_is_read_as_a_place_and_its_length_as_confidence():
    place = torch.tensor([[0.0, 0.0, 0.5], [0.0, -1.0, 0.0]])
    answer = predict.CoordinateReadOut()({"coordinates": place})["coordinates"]
    np.testing.assert_allclose(answer["predicted_latitude"], [90, 0], atol=1e-5)
    np.testing.assert_allclose(answer["predicted_longitude"][1], -90, atol=1e-5)
    np.testing.assert_allclose(answer["confidence"], [0.5, 1.0])
    assert answer["cell"].isna().all()


def test_plain_coordinates_stay_on_the_earth_and_have_no_confidence():
    answer = predict.CoordinateReadOut()({"coordinates": torch.tensor([[0.5, -0.5], [3.0, 9.0]])})["coordinates"]
    assert answer.loc[0, ["predicted_latitude", "predicted_longitude"]].tolist() == [45.0, -45.0]
    assert answer["predicted_latitude"].abs().max() <= 90
    assert answer["predicted_longitude"].abs().max() <= 180
    assert answer["confidence"].isna().all()


@pytest.fixture
def country_run():
    classes = regions.build(
        pd.DataFrame({"country": ["FR", "FR", "ES", "PT"], "region": [""] * 4}), "country", min_photos=1
    )
    learned_from = pd.DataFrame({"latitude": [48.0, 40.0], "longitude": [2.0, -3.0]})
    return predict.Run({}, None, {"country": classes}, learned_from, DEVICE)


def test_countries_are_named_from_the_likeliest_on(country_run):
    keys = country_run.classes["country"].keys.tolist()
    shares = torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.1, 0.4]])
    table = predict._namer(country_run)({"country": shares})["country"]
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
    named = predict._named_regions(shares, classes)
    assert named["region"]["guess_1"][0] == classes.keys[german[0]]
    assert named[predict.LIKELIEST_REGION]["guess_1"][0] == "DE"
    assert named["country"]["guess_1"][0] == "FR"
    np.testing.assert_allclose(named["country"]["p_1"], 0.6)


def test_a_cell_in_the_middle_of_an_ocean_names_no_country():
    shares = torch.tensor([[0.6, 0.3, 0.1]])
    found, names = predict._summed(shares, np.array(["", "FR", "FR"]))
    assert names.tolist() == ["FR"]
    torch.testing.assert_close(found, torch.tensor([[0.4]]))


def test_each_photo_goes_to_the_network_of_its_scene(partitions):
    indoor = predict.Run({}, None, partitions, pd.DataFrame({"latitude": [1.0], "longitude": [1.0]}), DEVICE)
    urban = predict.Run({}, None, partitions, pd.DataFrame({"latitude": [2.0], "longitude": [2.0]}), DEVICE)
    rows = pd.DataFrame({"id": ["a", "b", "c"], "scene": ["urban", "indoor", "urban"]})
    answers = predict.baselines({"indoor": indoor, "urban": urban}, rows, seed=7)[metrics.RANDOM_TRAINING_PHOTO]
    assert answers["id"].tolist() == ["a", "b", "c"]
    assert answers["predicted_latitude"].tolist() == [2.0, 1.0, 2.0]
    rows.loc[1, "scene"] = None
    with pytest.raises(ValueError, match=r"1 of 3 photos, such as 'b', have no known scene.*classify_scenes"):
        predict.baselines({"indoor": indoor, "urban": urban}, rows, seed=7)


def test_baselines_name_places_of_training_photos_and_the_fullest_cell(partitions):
    learned_from = pd.DataFrame({"latitude": [1.0, 2.0, 3.0], "longitude": [10.0, 20.0, 30.0]})
    run = predict.Run({}, None, partitions, learned_from, DEVICE)
    rows = pd.DataFrame({"id": [f"{number:04d}" for number in range(3000)]})
    answers = predict.baselines({"all": run}, rows, seed=7)
    drawn = answers[metrics.RANDOM_TRAINING_PHOTO]
    assert (drawn["predicted_longitude"] == 10 * drawn["predicted_latitude"]).all()
    assert drawn["predicted_latitude"].value_counts().between(900, 1100).all()
    pd.testing.assert_frame_equal(drawn, predict.baselines({"all": run}, rows, seed=7)[metrics.RANDOM_TRAINING_PHOTO])
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
    run = predict.Run({}, None, partitions, pd.DataFrame(), DEVICE)
    with pytest.raises(ValueError, match="build it with a test_share above 0"):
        predict.locate({"all": run}, pd.DataFrame({"id": [], "path": []}), tmp_path, batch_size=8)
