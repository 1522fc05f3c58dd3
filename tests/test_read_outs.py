"""Views are fused, classes read out and levels multiplied as a plain loop would."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from helpers import cells, gallery, read_outs, search

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


def answered(partitions, given_probabilities):
    read_out = read_outs.ReadOut(partitions, DEVICE)
    return read_out(read_out.shares(given_probabilities))


def contains(outer, inner):
    s2sphere = pytest.importorskip("s2sphere")
    return s2sphere.CellId(int(outer)).contains(s2sphere.CellId(int(inner)))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_hierarchy_equals_a_plain_loop_over_cells(partitions, seed):
    given_probabilities = probabilities(partitions, seed=seed)
    read_out = read_outs.ReadOut(partitions, DEVICE)
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
    answers = answered(partitions, given_probabilities)
    assert list(answers) == ["coarse", "middle", "fine", "f*"]
    best = given_probabilities["middle"].argmax(1).numpy()
    np.testing.assert_array_equal(answers["middle"]["cell"], best)
    np.testing.assert_array_equal(answers["middle"]["predicted_latitude"], partitions["middle"].latitude_mean[best])
    np.testing.assert_array_equal(answers["middle"]["predicted_longitude"], partitions["middle"].longitude_mean[best])
    assert all(answer["confidence"].between(0, 1).all() for answer in answers.values())


def test_a_single_partition_has_a_single_answer(partitions):
    assert list(answered({"fine": partitions["fine"]}, {"fine": probabilities(partitions)["fine"]})) == ["fine"]


def test_reading_out_does_not_change_the_probabilities(partitions):
    given_probabilities = probabilities(partitions)
    before = {name: shares.clone() for name, shares in given_probabilities.items()}
    answered(partitions, given_probabilities)
    assert all(torch.equal(before[name], shares) for name, shares in given_probabilities.items())


def test_levels_that_contradict_each_other_still_give_a_probability(partitions):
    certain = {name: torch.zeros(2, len(partition)) for name, partition in partitions.items()}
    for number, name in enumerate(partitions):
        certain[name][:, number] = 1.0
    answer = answered(partitions, certain)["f*"]
    assert answer["confidence"].between(0, 1).all()


def test_crops_are_fused_by_their_largest_probability():
    logits = torch.randn(15, 7, generator=torch.Generator().manual_seed(1))
    fused = read_outs.fuse({"fine": logits.unflatten(0, (3, 5))})["fine"]
    largest = torch.stack([logits[5 * photo : 5 * photo + 5].softmax(1).max(0).values for photo in range(3)])
    torch.testing.assert_close(fused, largest / largest.sum(1, keepdim=True))
    torch.testing.assert_close(fused.sum(1), torch.ones(3))


def test_crops_of_coordinates_are_fused_by_their_mean():
    vectors = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    fused = read_outs.fuse({"coordinates": vectors.unflatten(0, (2, 5))}, "product")["coordinates"]
    torch.testing.assert_close(fused, torch.stack([vectors[:5].mean(0), vectors[5:].mean(0)]))


def test_a_vector_is_read_as_a_place_and_its_length_as_confidence():
    place = torch.tensor([[0.0, 0.0, 0.5], [0.0, -1.0, 0.0]])
    answer = read_outs.CoordinateReadOut()({"coordinates": place})["coordinates"]
    np.testing.assert_allclose(answer["predicted_latitude"], [90, 0], atol=1e-5)
    np.testing.assert_allclose(answer["predicted_longitude"][1], -90, atol=1e-5)
    np.testing.assert_allclose(answer["confidence"], [0.5, 1.0])
    assert answer["cell"].isna().all()


def test_plain_coordinates_stay_on_the_earth_and_have_no_confidence():
    answer = read_outs.CoordinateReadOut()({"coordinates": torch.tensor([[0.5, -0.5], [3.0, 9.0]])})["coordinates"]
    assert answer.loc[0, ["predicted_latitude", "predicted_longitude"]].tolist() == [45.0, -45.0]
    assert answer["predicted_latitude"].abs().max() <= 90
    assert answer["predicted_longitude"].abs().max() <= 180
    assert answer["confidence"].isna().all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), views=st.integers(1, 6))
def test_every_fusion_equals_its_plain_formula_and_one_view_stays_as_it_is(seed, views):
    logits = 3 * torch.randn(4, views, 7, generator=torch.Generator().manual_seed(seed))
    shares = logits.double().softmax(2)
    plain = {"max": shares.amax(1), "mean": shares.mean(1), "product": shares.prod(1) ** (1 / views)}
    for fusion, together in plain.items():
        fused = read_outs.fuse({"fine": logits}, fusion)["fine"]
        torch.testing.assert_close(fused.double(), together / together.sum(1, keepdim=True), rtol=1e-4, atol=1e-7)
    if views == 1:
        torch.testing.assert_close(read_outs.fuse({"fine": logits}, "product")["fine"].double(), shares[:, 0])


def test_a_fusion_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no fusion 'sum': choose one of max, mean, product"):
        read_outs.fuse({"fine": torch.zeros(1, 1, 2)}, "sum")


def searching(partitions, photos=200, directions=6):
    fine = partitions["fine"]
    labels = np.arange(photos) % len(fine)
    keys = functional.normalize(torch.randn(photos, directions, generator=torch.Generator().manual_seed(2)), dim=1)
    places = (fine.coordinates[labels] + np.random.default_rng(2).normal(0, 0.1, (photos, 2))).round(2)
    return search.Search(gallery.Gallery(keys, places, labels, 6.0, 2.0), len(fine), DEVICE)


@pytest.mark.parametrize("names", [["coarse", "middle", "fine"], ["fine"]])
def test_a_search_is_one_more_answer_from_the_best_founded_probabilities(partitions, names):
    classes = {name: partitions[name] for name in names}
    outputs = {name: each for name, each in probabilities(partitions).items() if name in names}
    without = read_outs.of(classes, DEVICE)
    outputs[read_outs.SEARCH] = functional.normalize(torch.randn(6, 6), dim=1)
    read_out = read_outs.of(classes, DEVICE, among := searching(partitions))
    assert read_out.models == (*without.models, "search") == read_outs.models_of(classes, searches=True)
    shares, tables = read_out.answers(outputs)
    assert list(shares) == list(tables) == list(read_out.models)
    expected = without.shares(outputs)
    for name, each in expected.items():
        torch.testing.assert_close(shares[name], each)
    found = among(outputs[read_outs.SEARCH], expected[without.models[-1]])
    torch.testing.assert_close(shares["search"], found.shares)
    torch.testing.assert_close(read_out.shares(outputs)["search"], found.shares)
    table = tables["search"]
    np.testing.assert_array_equal(table[["predicted_latitude", "predicted_longitude"]], found.place)
    np.testing.assert_array_equal(table["cell"], found.shares.argmax(dim=1))
    np.testing.assert_allclose(table["confidence"], found.shares.amax(dim=1), rtol=1e-6)
    assert read_out.classes_of("search") is partitions["fine"]
    assert read_outs.model(read_out.models, "auto") == "search"


def test_views_are_searched_by_their_mean_of_length_one():
    views = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    for fusion in read_outs.FUSIONS:
        fused = read_outs.fuse({read_outs.SEARCH: views.half()}, fusion)[read_outs.SEARCH]
        assert fused.dtype == torch.float32
        torch.testing.assert_close(fused, functional.normalize(views.mean(dim=1), dim=1), atol=2e-3, rtol=0)


def test_networks_are_searched_by_side_by_side_and_each_weighs_alike():
    generator = torch.Generator().manual_seed(1)
    one, other = (
        {"fine": torch.randn(3, 5, 7, generator=generator), "search": size * torch.randn(3, 5, 4, generator=generator)}
        for size in (1.0, 100.0)
    )
    together = read_outs.beside([one, other])
    torch.testing.assert_close(together["fine"], torch.cat([one["fine"], other["fine"]], dim=1))
    assert together["search"].shape == (3, 5, 8)
    for part in together["search"].split(4, dim=2):
        torch.testing.assert_close(part.norm(dim=2), torch.ones(3, 5))
    alone = read_outs.fuse(read_outs.beside([one]))["search"]
    assert alone.shape == (3, 4)
