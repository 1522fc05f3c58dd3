"""A run, and results of it, as notebooks leave them, without what would take time: it was not trained."""

import json

import numpy as np
import pandas as pd
from PIL import Image

from helpers import (
    bootstrap,
    breakdown,
    cells,
    leakage,
    manifests,
    metrics,
    models,
    notebooks,
    paths,
    recipe,
    run_results,
    targets,
    uncertainty,
)

DATASET = "holidays"
HOSTILE = ("<script>alert(1)</script>", "![x](https://evil.example/x.png)", "a|b`*_<img src=//evil.example>")
GALLERY = b"pixels of somebody's photo"
COMMIT = "0123456789ab"


def made(name="first", trained_on=None, curves=None, **given):
    """Folder of a run with random weights, learned from 300 photos on two continents; settings may be given."""
    usual = {"dataset": DATASET, "preset": "plain", "image_size": 32}
    parameters = notebooks.defaults("04_training/train") | usual | given
    settings = recipe.of(parameters)[0]
    rng = np.random.default_rng(7)
    places = pd.DataFrame({"latitude": rng.uniform(44, 46, 300), "longitude": rng.uniform(3, 5, 300)})
    places.loc[:74, "longitude"] += 100  # a quarter in Asia
    output = manifests.begin(paths.run(name), "04_training/train", parameters)
    classes = {}
    if targets.heads(settings.partition):
        limits = dict(zip(targets.heads(settings.partition), (120, 60, 30), strict=False))
        classes = cells.build_all(places["latitude"], places["longitude"], min_photos=5, max_photos=limits)
        targets.write(classes, output.folder / "classes")
    outputs = {head: len(each) for head, each in classes.items()} or {"coordinates": 2}
    network = models.Geolocator(settings.architecture, outputs, weights="none")
    models.save(network, output.folder / "model.safetensors", targets.fingerprints(output.folder / "classes", outputs))
    places.round(2).to_parquet(output.folder / "training_places.parquet", index=False)
    usual = {"processes": 1, "accumulation": 1, "device": "cpu, 4 threads", "number_format": "torch.float32"}
    config = vars(settings) | {"photo_root": "", "objective": settings.loss, "classes": outputs}
    described = config | {"trained_on": usual | (trained_on or {})}
    (output.folder / "config.json").write_text(json.dumps(described))
    told = epochs() if curves is None else curves
    told.to_json(output.folder / "metrics.jsonl", orient="records", lines=True)
    Image.new("RGB", (1400, 60), "white").save(output.folder / "curves.png")
    output.counts = {"training photos": 300, "training photos without a class or of other scenes": 25}
    output.code = {"commit": COMMIT, "sha256": "0"}
    return manifests.finish(output)


def epochs():
    """What a training measured in three epochs, of which the second was kept."""
    table = pd.DataFrame({"epoch": [1, 2, 3], "best": [True, True, False], "seconds": [1800.0, 900.0, 900.0]})
    table = table.assign(photos_per_second=[10.0, 400.0, 200.0], seconds_features=[1700.0, 0.0, 0.0])
    shares = dict(
        zip(metrics.SHARES, ([0.01, 0.01, 0.0], [0.02] * 3, [0.03] * 3, [0.2, 0.25, 0.2], [0.5] * 3), strict=True)
    )
    return table.assign(**shares, median_km=[2000.0, 1234.0, 1500.0], unreadable_photos=[0, 0, 2])


def predicted(photos=240, seed=3):
    """Predictions of so many photos by 24 authors, on two continents and in countries of hostile names."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"id": [f"{HOSTILE[0]}{number:04d}" for number in range(photos)]})
    table["author"] = [f"author {number % 24}" for number in range(photos)]
    table["distance_km"] = np.where(np.arange(photos) % 4 == 0, 100.0, rng.uniform(1000, 9000, photos))
    table["confidence"] = np.where(table["distance_km"] < 750, 0.8, 0.1) + rng.uniform(0, 0.1, photos)
    table["held_from"], table["held_from_uncalibrated"] = rng.random(photos), rng.random(photos) ** 0.5
    table["scene"] = pd.Categorical(rng.choice(["indoor", "urban"], photos))
    table["continent"] = np.where(np.arange(photos) < 2 * photos // 3, "Europe", "Asia")
    table["country"] = rng.choice([*HOSTILE, "NA"], photos)
    return table


def evaluated(run="first", confident=True, stages=run_results.NOTEBOOKS):
    """Results of :func:`predicted` in the folders of the stages given."""
    predictions = predicted()
    if not confident:
        predictions["confidence"] = np.nan
    writers = {
        "calibrate": _calibrate,
        "evaluate": _evaluate,
        "uncertainty": _uncertainty,
        "breakdown": _breakdown,
        "leakage": _leakage,
    }
    for stage in stages:
        parameters = {"run": run, "dataset": DATASET, "photo_root": "/home/somebody/Pictures"}
        output = manifests.begin(
            notebooks.OUTPUTS[f"05_evaluation/{stage}"](parameters), f"05_evaluation/{stage}", parameters
        )
        output.code = {"commit": COMMIT, "sha256": "0"}
        output.counts = writers[stage](output.folder, predictions, confident)
        for owner, file in run_results.FIGURES.values():
            if owner == stage:
                Image.new("RGB", (680, 60), "white").save(output.folder / file)
        manifests.finish(output)
    return run_results.read(run, DATASET)


def _calibrate(folder, predictions, confident):
    row = {"scene": "all", "fusion": "mean", "chosen": True, "model": "f*", "photos": 150}
    fitted = {"temperature": 2.5, "outside": 0.125, "nats_before": 5.0, "nats_after": 4.0}
    fitted |= {"error_before": 0.3, "error_after": 0.02}
    of_classes = fitted if confident else {}
    table = pd.DataFrame([row | of_classes, row | {"fusion": "max", "chosen": False}])
    table.to_csv(folder / "comparison.csv", index=False)
    return {"validation photos": 150, "not calibrated": {} if confident else {"all": "too few photos"}}


def _evaluate(folder, predictions, confident):
    baselines = {metrics.RANDOM_TRAINING_PHOTO: 9000.0, metrics.NEAREST_NEIGHBOUR: 4000.0}
    distance_km = {"coordinates" if not confident else "f*": predictions["distance_km"]}
    distance_km |= {name: np.where(np.arange(len(predictions)) < 24, 700.0, far) for name, far in baselines.items()}
    intervals = bootstrap.interval_table(distance_km, predictions["author"], 50, seed=7)
    intervals.to_csv(folder / "accuracy_intervals.csv", index=False)
    return {"baselines": list(baselines), "not calibrated": {} if confident else {"all": "too few photos"}}


def _uncertainty(folder, predictions, confident):
    sure = predictions["confidence"]
    table = pd.DataFrame({"model": "f*", "id": predictions["id"], "author": predictions["author"], "confidence": sure})
    table = table.assign(confidence_uncalibrated=sure**0.5, right=predictions["distance_km"] < 750)
    uncertainty.errors(table if confident else table[:0]).to_csv(folder / "calibration_errors.csv", index=False)
    uncertainty.coverage(predictions, 50, seed=7).to_csv(folder / "coverage.csv", index=False)
    uncertainty.abstention(predictions).to_csv(folder / "abstention.csv", index=False)
    return {"photos": len(predictions)}


def _breakdown(folder, predictions, confident):
    breakdown.by_factor(predictions, 50, seed=7).to_csv(folder / "breakdown.csv", index=False)
    pairs = pd.DataFrame({"truth": [HOSTILE[0], "NA"], "guess": [HOSTILE[1], HOSTILE[2]], "photos": [9, 4]})
    pairs.assign(share=[0.25, 0.125]).to_csv(folder / "countries_confused.csv", index=False)
    for name in ("best.png", "worst.png"):
        (folder / name).write_bytes(GALLERY)
    pd.DataFrame({"id": predictions["id"][:4]}).to_csv(folder / "best_and_worst.csv", index=False)
    return {"left out": {"training_density": HOSTILE[0]}}


def _leakage(folder, predictions, confident):
    neighbours = pd.DataFrame({"id": predictions["id"], "nearest_training_km": 30.0})
    neighbours = neighbours.assign(author_in_training=[True] * 3 + [False] * (len(predictions) - 3))
    neighbours = neighbours.assign(place_in_training=False, neighbour_similarity=np.linspace(0, 1, len(predictions)))
    leakage.accuracy_without(predictions, neighbours, 50, seed=7).to_csv(folder / "accuracy_without.csv", index=False)
    quarters = metrics.quarters(neighbours["neighbour_similarity"], "least alike", "most alike", "no neighbour")
    alike = metrics.by_group(predictions["distance_km"], quarters)
    alike.to_csv(folder / "accuracy_by_similarity.csv", index=False)
    return {"photos": len(predictions), "author in training": 3, "place in training": 0}
