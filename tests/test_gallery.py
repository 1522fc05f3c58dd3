"""Features are whitened as a plain loop would, and a gallery is read as it was written or refused."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from helpers import gallery, models, read_outs


def features(count, width, seed=0):
    """Features of which some directions spread much wider than others, far from the origin."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator) * torch.logspace(0, -1, width)
    return torch.randn(count, width, generator=generator) @ mixed + 5


def some(count=5, directions=4, seed=0, **given):
    generator = np.random.default_rng(seed)
    keys = torch.from_numpy(generator.normal(size=(count, directions))).half().float()
    places = generator.uniform([-90, -180], [90, 180], (count, 2)).round(2)
    made = gallery.Gallery(functional.normalize(keys, dim=1), places, generator.integers(0, 3, count), 8.0, 2.0)
    return dataclasses.replace(made, **given)


@settings(max_examples=20)
@given(count=st.integers(60, 400), width=st.integers(2, 30), seed=st.integers(0, 99))
def test_whitened_features_have_no_mean_and_the_covariance_of_independent_numbers(count, width, seed):
    given_features = features(count, width, seed)
    projection = gallery.whitening(given_features)
    found = projection(given_features).double()
    assert found.shape == (count, width)
    np.testing.assert_allclose(found.mean(dim=0), 0, atol=1e-3)
    covariance = np.cov(found.numpy().T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=5e-3)
    assert (np.diag(covariance) <= 1 + 1e-3).all()
    assert np.diag(covariance)[0] == pytest.approx(1, abs=5e-3)


def test_the_widest_directions_are_kept_and_narrow_ones_are_not_blown_up():
    spread = torch.tensor([100.0, 10.0, 1.0, 1e-4])
    given_features = torch.randn(1000, 4, generator=torch.Generator().manual_seed(1)) * spread
    found = gallery.whitening(given_features)(given_features)
    assert found.std(dim=0)[:3].tolist() == pytest.approx([1 / 1.001, 1 / 1.01, 1 / 1.1], rel=0.01)
    assert found.std(dim=0)[3] < 0.01
    assert functional.cosine_similarity(found[:, 0], given_features[:, 0], dim=0).abs() > 0.999


@pytest.mark.parametrize("count", [1, 2, 3, 9, 40])
def test_with_few_photos_there_are_few_directions_and_others_are_compared_by_nothing_else(count):
    given_features = features(count, 50)
    projection = gallery.whitening(given_features)
    assert projection.out_features == max(1, count // 2)
    others = projection(features(30, 50, seed=1))
    assert others.isfinite().all()
    assert projection(given_features).isfinite().all()
    if count > 8:  # what the photos do not tell of spreads no wider than what they do
        assert others.square().mean() < 10 * projection(given_features).square().mean()


def test_more_features_than_are_compared_are_left_out():
    assert gallery.whitening(features(600, 300)).out_features == gallery.DIRECTIONS == 256


def test_features_that_do_not_differ_give_numbers():
    alike = torch.full((20, 8), 0.1)
    assert gallery.whitening(alike)(alike).isfinite().all()
    partly = torch.cat([features(20, 8), alike], dim=1)
    found = gallery.whitening(partly)(partly)
    assert found.isfinite().all()
    assert found.std(dim=0)[0] == pytest.approx(1, abs=0.01)


def test_without_photos_there_is_nothing_to_search_among():
    with pytest.raises(ValueError, match=r"none to search among: mend the photos, or set preset plain"):
        gallery.whitening(torch.zeros(0, 8))


def test_a_projection_in_half_precision_stays_near_that_in_full():
    given_features = features(500, 64) + 100  # the mean is much larger than what the photos differ by
    projection = gallery.whitening(given_features)
    in_full = functional.normalize(projection(given_features), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_half = functional.normalize(projection(given_features), dim=1)
    assert in_half.dtype == torch.float32
    torch.testing.assert_close(in_half, in_full)


def test_a_network_takes_its_projection_along(tmp_path):
    made = models.Geolocator("shufflenet_v2_x0_5", {"fine": 3}, weights="none").eval()
    seen = torch.randn(40, made.feature_count)
    made.heads[models.SEARCH] = gallery.whitening(seen)
    names = {"fine": "cells", models.SEARCH: "gallery"}
    models.save(made, tmp_path / "model.safetensors", names)
    again = models.Geolocator("shufflenet_v2_x0_5", {"fine": 3, models.SEARCH: 20}, weights="none").eval()
    models.restore(again, tmp_path / "model.safetensors", names)
    assert torch.equal(again.classify(seen)[models.SEARCH], made.classify(seen)[models.SEARCH])
    assert not again.heads[models.SEARCH].weight.requires_grad
    with pytest.raises(models.WeightsError, match="head 'search'"):
        models.restore(again, tmp_path / "model.safetensors", names | {models.SEARCH: "another gallery"})


def test_what_is_written_is_read(tmp_path):
    kept = some(7)
    gallery.write(kept, tmp_path / gallery.FILE)
    found = gallery.read(tmp_path / gallery.FILE)
    torch.testing.assert_close(found.keys, kept.keys, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.keys.norm(dim=1), torch.ones(7))
    np.testing.assert_array_equal(found.coordinates, kept.coordinates)
    np.testing.assert_array_equal(found.labels, kept.labels)
    assert (found.sharpness, found.temperature) == (8.0, 2.0)
    gallery.write(kept, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / gallery.FILE).read_bytes()


REMEDY = r"train the run anew with 04_training/train\.ipynb"


def test_a_gallery_that_is_gone_or_damaged_is_named_with_the_remedy(tmp_path):
    file = tmp_path / gallery.FILE
    with pytest.raises(ValueError, match=rf"gallery\.safetensors cannot be read.*{REMEDY}"):
        gallery.read(file)
    gallery.write(some(), file)
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], b"pickled"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"cannot be read.*{REMEDY}"):
            gallery.read(file)


def written(file, tensors=None, told=None, **given):
    """A file whose tensors and words are as given."""
    kept = some(**given)
    held = {"keys": kept.keys.half(), "coordinates": torch.from_numpy(kept.coordinates)}
    held |= {"labels": torch.from_numpy(kept.labels)}
    words = {"version": 1, "sharpness": 8.0, "temperature": 2.0, "reach": gallery.EVENLY} if told is None else told
    safetensors.torch.save_file({**held, **(tensors or {})}, file, {"gallery": json.dumps(words)})
    return file


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"version": 2}, "is of version 2, not 1"),
        ({}, "is of version None, not 1"),
        ([], "is of version None, not 1"),
        ({"version": 1, "sharpness": 3.0}, "does not tell its sharpness, temperature and reach"),
        ({"version": 1, "sharpness": "much", "temperature": 1}, "does not tell its sharpness, temperature and reach"),
        ({"version": 1, "sharpness": 3.0, "temperature": 1}, "does not tell its sharpness, temperature and reach"),
        ({"version": 1, "sharpness": 3.0, "temperature": 0, "reach": [0.2] * 5}, "numbers that cannot be"),
        ({"version": 1, "sharpness": float("nan"), "temperature": 1, "reach": [0.2] * 5}, "numbers that cannot be"),
        ({"version": 1, "sharpness": 3.0, "temperature": 1, "reach": [0.5] * 5}, "numbers that cannot be"),
        ({"version": 1, "sharpness": 3.0, "temperature": 1, "reach": [1.0]}, "numbers that cannot be"),
    ],
)
def test_a_gallery_of_another_version_or_without_what_it_weighs_by_is_refused(tmp_path, told, message):
    with pytest.raises(ValueError, match=f"{message}.*{REMEDY}"):
        gallery.read(written(tmp_path / "file", told=told))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "tables of different lengths"),
        ({"coordinates": torch.zeros(5, 3, dtype=torch.float64)}, "tables of different lengths"),
        ({"keys": torch.zeros(5)}, "tables of different lengths"),
        ({"labels": torch.tensor([0, 1, 2, -1, 0])}, "numbers that cannot be"),
        ({"coordinates": torch.full((5, 2), 91.0, dtype=torch.float64)}, "numbers that cannot be"),
        ({"coordinates": torch.full((5, 2), torch.nan, dtype=torch.float64)}, "numbers that cannot be"),
        ({"keys": torch.full((5, 4), torch.nan)}, "numbers that cannot be"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, tensors, message):
    with pytest.raises(ValueError, match=f"{message}.*{REMEDY}"):
        gallery.read(written(tmp_path / "file", tensors))


def test_an_empty_gallery_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tables of different lengths"):
        gallery.read(written(tmp_path / "file", count=0))


def test_of_too_many_photos_the_same_are_drawn_by_each_seed(monkeypatch):
    assert gallery.drawn(20, seed=1).tolist() == list(range(20))
    monkeypatch.setattr(gallery, "MOST_PHOTOS", 8)
    first, again, other = (gallery.drawn(20, seed).tolist() for seed in (1, 1, 2))
    assert first == again == sorted(set(first))
    assert len(first) == 8
    assert other != first
    assert set(first) <= set(range(20))


@settings(max_examples=20)
@given(networks=st.integers(1, 4), seed=st.integers(0, 99))
def test_of_several_networks_alikeness_is_the_mean_of_theirs(networks, seed):
    of_each = [some(9, 3 + number, seed + number) for number in range(networks)]
    of_each = [dataclasses.replace(each, sharpness=4.0 + number) for number, each in enumerate(of_each)]
    same = [dataclasses.replace(each, coordinates=of_each[0].coordinates, labels=of_each[0].labels) for each in of_each]
    together = gallery.joined(same)
    generator = torch.Generator().manual_seed(seed)
    views = [{read_outs.SEARCH: torch.randn(6, 1, each.keys.shape[1], generator=generator)} for each in same]
    query = read_outs.fuse(read_outs.beside(views))[read_outs.SEARCH]
    cosines = [
        functional.normalize(view[read_outs.SEARCH][:, 0], dim=1) @ each.keys.T
        for view, each in zip(views, same, strict=True)
    ]
    torch.testing.assert_close(query @ together.keys.T, torch.stack(cosines).mean(dim=0), atol=1e-5, rtol=0)
    assert together.sharpness == pytest.approx(np.mean([each.sharpness for each in same]))


@pytest.mark.parametrize("differing", ["coordinates", "labels"])
def test_galleries_of_different_photos_are_not_joined(differing):
    first = some()
    other = dataclasses.replace(first, **{differing: getattr(first, differing)[::-1].copy()})
    with pytest.raises(ValueError, match=r"galleries of different photos.*same list with the same seed"):
        gallery.joined([first, other])
    with pytest.raises(ValueError, match="galleries of different photos"):
        gallery.joined([first, some(6)])
