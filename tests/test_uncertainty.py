"""What is said of a run's sureness follows from its predictions."""

import numpy as np
import pandas as pd
import pytest

from helpers import metrics, uncertainty


def predictions_of(photos, seed=1):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": [f"{number:04d}" for number in range(photos)],
            "author": [f"author {number % 40}" for number in range(photos)],
            "confidence": rng.random(photos),
            "distance_km": rng.uniform(0, 5000, photos),
            "held_from": rng.random(photos),
            "held_from_uncalibrated": rng.random(photos) ** 0.5,
        }
    )


def confidences_of(predictions, models=("coarse", "f*"), seed=2):
    rng = np.random.default_rng(seed)
    parts = []
    for fusion in ("chosen", "max", "mean", "product"):
        for model in models:
            sure = rng.random(len(predictions))
            table = pd.DataFrame({"id": predictions["id"], "confidence": sure, "confidence_uncalibrated": sure**0.5})
            table["right"] = pd.array(rng.random(len(predictions)) < sure, dtype="boolean")
            parts.append(table.assign(fusion=fusion, model=model, distance_km=rng.uniform(0, 5000, len(predictions))))
    return pd.concat(parts, ignore_index=True)


def test_a_network_that_says_what_it_does_has_no_error_and_one_that_boasts_has():
    predictions = predictions_of(4000)
    table = uncertainty.errors(uncertainty.chosen(confidences_of(predictions), predictions)).set_index("model")
    assert table.index.tolist() == ["coarse", "f*"]
    assert (table["error_after"] < 0.03).all()
    np.testing.assert_allclose(table["error_before"], 1 / 6, atol=0.03)  # the mean of √x - x


def test_uniform_promises_are_held_and_others_are_not():
    predictions = predictions_of(4000)
    held = uncertainty.coverage(predictions, 50, seed=7).set_index(["calibration", "promised"])
    assert held.loc[("after", 0.5), "held"] == np.mean(predictions["held_from"] < 0.5)
    assert held.loc[("after", 0.9), "held"] == pytest.approx(0.9, abs=0.02)
    assert held.loc[("before", 0.5), "held"] == pytest.approx(0.25, abs=0.03)
    assert ((held["low"] <= held["held"]) & (held["held"] <= held["high"])).all()
    lines = uncertainty.coverage_markdown(held.reset_index()).splitlines()
    assert lines[2].startswith("| 50 % | ")
    assert lines[3].startswith("| 90 % | ")
    assert lines[3].count("[") == 2


def test_abstention_is_the_accuracy_of_the_surest():
    predictions = predictions_of(500)
    table = uncertainty.abstention(predictions)
    assert table["answered"].iloc[0] == 0.04  # 20 of 500
    assert table["answered"].iloc[-1] == 1
    quarter = table[table["answered"] == 0.25].iloc[0]
    surest = predictions[predictions["confidence"] >= quarter["least_confidence"]]
    assert len(surest) == 125
    assert quarter["within_750km"] == (surest["distance_km"] <= 750).mean()
    assert table["within_2500km"].iloc[-1] == metrics.accuracy(predictions["distance_km"])[-1]
    shuffled = predictions.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(table, uncertainty.abstention(shuffled))


def test_guesses_without_confidence_cannot_abstain():
    assert uncertainty.abstention(predictions_of(50).assign(confidence=np.nan)).empty


def test_fusions_are_compared_with_the_one_that_was_chosen_by_the_last_model():
    predictions = predictions_of(400)
    confidences = confidences_of(predictions)
    table = uncertainty.fusions(confidences, predictions, 50, seed=7).set_index("fusion")
    assert table.index.tolist() == ["chosen", "max", "mean", "product"]
    best = confidences[(confidences["fusion"] == "mean") & (confidences["model"] == "f*")]
    assert table.loc["mean", "within_750km"] == (best["distance_km"] <= 750).mean()
    assert np.isnan(table.loc["chosen", "difference_750km"])
    difference = table.loc["mean", "within_750km"] - table.loc["chosen", "within_750km"]
    assert table.loc["mean", "difference_750km"] == pytest.approx(difference)


def test_coordinates_name_no_class_and_still_have_radii_and_fusions():
    predictions = predictions_of(60)
    confidences = confidences_of(predictions, ["coordinates"]).assign(right=pd.array([pd.NA] * 240, dtype="boolean"))
    chosen = uncertainty.chosen(confidences, predictions)
    assert chosen.empty
    assert uncertainty.errors(chosen).empty
    assert uncertainty.reliability(chosen, 10, seed=7).empty
    assert uncertainty.fusions(confidences, predictions, 10, seed=7)["error"].isna().all()


@pytest.mark.parametrize("call", [uncertainty.chosen, lambda *tables: uncertainty.fusions(*tables, 10, seed=7)])
def test_tables_of_other_photos_are_refused(call):
    predictions = predictions_of(60)
    confidences = confidences_of(predictions)
    with pytest.raises(ValueError, match=r"1 ids are in one of them alone, such as '0059'.*05_evaluation/evaluate"):
        call(confidences[confidences["id"] != "0059"], predictions)
