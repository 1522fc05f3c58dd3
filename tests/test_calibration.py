"""Calibration finds what was wrong where it is known, holds what it promises, and changes no guess."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import calibration, cells, metrics, read_outs, spread

DEVICE = torch.device("cpu")


class World:
    """A world whose true probabilities are known: each photo has logits, and its place is drawn from them."""

    def __init__(self, photos, seed, sharpness=1.0):
        rng = np.random.default_rng(seed)
        cities = np.random.default_rng(1).uniform([-50, -170], [60, 170], (12, 2))
        places = cities[np.arange(4800) % 12] + np.random.default_rng(2).normal(0, 1.5, (4800, 2))
        self.learned = pd.DataFrame(places, columns=["latitude", "longitude"])
        self.partition = cells.build(*places.T, name="fine", min_photos=5, max_photos=400)
        label = cells.labels(self.partition, cells.leaf_ids(*places.T))
        logits = rng.normal(0, 1.5, (photos, len(self.partition)))
        true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        cell = np.array([rng.choice(len(self.partition), p=row) for row in true])
        members = [np.flatnonzero(label == number) for number in range(len(self.partition))]
        place = places[[rng.choice(members[number]) for number in cell]]
        rows = pd.DataFrame(place, columns=["latitude", "longitude"])
        rows["author"] = [f"author {number // 3}" for number in range(photos)]
        self.read_out = read_outs.ReadOut({"fine": self.partition}, DEVICE)
        self.earth = spread.ClassSpread(self.partition, self.learned, DEVICE)
        self.known = calibration.truth(rows, self.read_out)
        shares = torch.from_numpy(sharpness * logits).float().softmax(1)
        guess = self.read_out({"fine": shares})["fine"][["predicted_latitude", "predicted_longitude"]].to_numpy()
        self.answer = calibration.Answer({"fine": shares}, guess)
        self.rows = rows

    def fit(self):
        found, best = calibration.fit({"max": self.answer}, self.known, self.earth)
        return found[best]

    def held(self, fitted, promise):
        nearer = calibration.nearer_than_truth(self.answer, self.known, self.earth, fitted)
        return float(np.mean(nearer < fitted.level(promise)))


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_a_network_that_is_too_sure_by_a_known_factor_is_cooled_by_it(sharpness):
    fitted = World(3000, seed=5, sharpness=sharpness).fit()
    assert fitted.temperatures["fine"] == pytest.approx(sharpness, rel=0.08)
    assert not fitted.reason


def test_radii_hold_what_they_promise_on_photos_that_had_no_part_in_fitting():
    fitted = World(1500, seed=5, sharpness=3.0).fit()
    fresh = World(3000, seed=6, sharpness=3.0)
    assert fresh.held(fitted, 0.5) == pytest.approx(0.5, abs=0.03)
    assert fresh.held(fitted, 0.9) == pytest.approx(0.9, abs=0.02)
    raw = calibration.Calibration()
    assert fresh.held(raw, 0.9) < 0.8  # so there was something to mend


def test_the_radius_in_kilometres_is_the_level_that_is_promised():
    fitted, fresh = World(600, seed=5).fit(), World(300, seed=6)
    masses = fresh.earth.masses(fitted.tempered("fine", fresh.answer.shares["fine"]), fitted.outside["fine"])
    radius = fresh.earth.radii(masses, fresh.answer.place, [fitted.level(0.5)])[:, 0]
    distance = metrics.great_circle_km(*fresh.known.place.T, *fresh.answer.place.T)
    assert np.mean(distance <= radius) == pytest.approx(fresh.held(fitted, 0.5), abs=0.005)


def test_levels_of_a_network_that_knows_the_truth_are_what_they_promise():
    fitted = World(4000, seed=8).fit()
    assert fitted.temperatures["fine"] == pytest.approx(1, rel=0.05)
    np.testing.assert_allclose(fitted.levels, np.arange(1, 100) / 100, atol=0.04)


def test_photos_outside_all_cells_lower_every_confidence():
    world = World(400, seed=5)
    rows = world.rows.copy()
    rows.loc[:99, ["latitude", "longitude"]] = [-75.0, 0.0]  # Antarctica, where no cell is
    world.known = calibration.truth(rows, world.read_out)
    fitted = world.fit()
    assert fitted.inside("fine") == pytest.approx(0.75, abs=0.01)


@settings(max_examples=20, deadline=None)
@given(temperature=st.floats(0.05, 40), seed=st.integers(0, 1000))
def test_no_temperature_changes_a_guess(temperature, seed):
    shares = (3 * torch.randn(5, 9, generator=torch.Generator().manual_seed(seed))).softmax(1)
    fitted = calibration.Calibration(temperatures={"fine": temperature})
    tempered = fitted.tempered("fine", shares)
    assert torch.equal(tempered.argmax(1), shares.argmax(1)) or temperature > 20  # where ties may be rounding
    torch.testing.assert_close(tempered.sum(1), torch.ones(5))


def test_sums_without_a_temperature_are_plain_sums():
    world = World(20, seed=5)
    masses = world.earth.masses(world.answer.shares["fine"], 0.1)
    for kind in spread.SUMS:
        plain = world.earth.summed(masses, kind)
        torch.testing.assert_close(calibration.Calibration().summed(world.earth, masses, kind), plain)
        sharper = calibration.Calibration(sums={kind: 0.5}).summed(world.earth, masses, kind)
        torch.testing.assert_close(sharper.sum(1), plain.sum(1))
        assert (sharper.argmax(1) == plain.argmax(1)).all()


def test_held_reads_levels_backwards():
    fitted = calibration.Calibration(levels=tuple((np.arange(1, 100) / 100) ** 2), reason="")
    np.testing.assert_allclose(fitted.held([fitted.level(0.5), fitted.level(0.9), 0, 1]), [0.5, 0.9, 0, 1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=100, max_size=300))
def test_levels_hold_at_least_what_they_promise_of_the_photos_they_are_made_of(nearer):
    levels = np.array(calibration._levels(np.array(nearer)))
    held = (np.array(nearer)[:, None] < levels).mean(axis=0)
    assert (held >= np.arange(1, 100) / 100 - 1e-12).all()
    assert (np.diff(levels) >= 0).all()


@pytest.mark.parametrize(("photos", "authors"), [(60, 60), (400, 4), (0, 0)])
def test_too_few_photos_or_photographers_are_said_and_nothing_is_fitted(photos, authors):
    world = World(max(photos, 1), seed=5)
    known = world.known._replace(
        labels={name: label[:photos] for name, label in world.known.labels.items()},
        author=np.array([f"a{number % max(authors, 1)}" for number in range(photos)], dtype=object),
    )
    found, best = calibration.fit({"max": world.answer, "mean": world.answer}, known, world.earth)
    assert best == "max"
    assert f"{photos} validation photos by {authors} authors" in found["max"].reason
    assert found["max"] == calibration.Calibration("max", reason=found["max"].reason)


def test_what_is_written_is_read(tmp_path):
    fitted = World(300, seed=5).fit()
    few = calibration.Calibration("mean", reason="too few")
    table = {"all": ({"max": fitted, "mean": few}, "max")}
    calibration.write(table, tmp_path / "calibration.json")
    assert calibration.read(tmp_path / "calibration.json") == table
    assert [file.name for file in tmp_path.iterdir()] == ["calibration.json"]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"all": 3}', '{"all": {"fusion": "max", "calibrations": {"max": {"x": 1}}}}']
)
def test_a_damaged_file_is_refused_with_the_remedy(tmp_path, damage):
    (tmp_path / "calibration.json").write_text(damage)
    with pytest.raises(ValueError, match=r"holds no calibration.*05_evaluation/calibrate"):
        calibration.read(tmp_path / "calibration.json")


def test_a_calibration_is_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(calibration.Calibration())))["fusion"] == "max"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_expected_error_equals_a_plain_loop_over_bins(photos):
    confidence, right = (np.array(column) for column in zip(*photos, strict=True))
    expected = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = (confidence * 15 <= high * 15) & ((confidence * 15 > low * 15) | (number == 0))
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert calibration.expected_error(confidence, right) == pytest.approx(expected, abs=1e-9)


def test_an_error_of_nothing_is_refused():
    with pytest.raises(ValueError, match="0 confidences and 0 outcomes"):
        calibration.expected_error([], [])
    with pytest.raises(ValueError, match="2 confidences and 1 outcomes"):
        calibration.expected_error([0.5, 0.5], [True])


def test_reliability_has_every_photo_in_one_group_and_order_does_not_matter():
    rng = np.random.default_rng(1)
    confidence, author = rng.random(500).round(2), rng.integers(40, size=500).astype(str)
    right = rng.random(500) < confidence
    table = calibration.reliability(confidence, right, author, resamples=50, seed=7)
    assert table["photos"].sum() == 500
    assert (np.diff(table["confidence"]) > 0).all()
    assert ((table["low"] <= table["right"]) & (table["right"] <= table["high"])).all()
    order = rng.permutation(500)
    again = calibration.reliability(confidence[order], right[order], author[order], resamples=50, seed=7)
    pd.testing.assert_frame_equal(table, again)
