"""The whole line, each notebook through its own parameters."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import photo_server
import pytest
from headless import THRESHOLDS, papermill

from helpers import data_lists, fetch, games, metrics, notebooks, paths, scenes

TINY, FETCHED, COLLECTED = "toy-earth-tiny", "rehearsal", "street-photos"
TWO_BRANCHES = {
    "segmentation": True,
    "architecture": "timm/test_vit",
    "weights": "none",
    "train_layers": "all",
    "backbone_learning_rate_factor": 1.0,
}
NETWORKS = [
    {},
    *({"scene": scene} for scene in scenes.SCENES),
    {"multitask": True},
    {"partition": "region"},
    TWO_BRANCHES,
]
ANSWERING = ("multi", "multi-{scene}", "multi-mtn", "multi-segmentation", "region")


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """Every stage, run on a tiny toy-earth."""
    root = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        notebooks.run("01_data/make_list", {"dataset": TINY, "photo_count": 240, "test_share": 0.2})
        notebooks.run("01_data/pack", {"dataset": TINY})
        notebooks.run("01_data/enrich", {"dataset": TINY})
        notebooks.run("01_data/clean", {"dataset": TINY, "same_coordinate": "keep"})
        notebooks.run("01_data/balance", {"dataset": TINY})
        notebooks.run("01_data/explore", {"dataset": TINY, "opened_photos": 100})
        notebooks.run("01_data/download", {"dataset": FETCHED, "source": TINY})
        with photo_server.running(Path(__file__).parent / "recorded") as server:
            answers = server.url("commons_geosearch_2.json")
            notebooks.run("01_data/collect", {"dataset": COLLECTED, "place_count": 2, "api": answers})
        notebooks.run("02_scenes/classify_scenes", {"dataset": TINY})
        notebooks.run("02_scenes/segment", {"dataset": TINY})
        notebooks.run("03_partitioning/build_cells", {"dataset": TINY, **THRESHOLDS})
        notebooks.run("03_partitioning/build_regions", {"dataset": TINY})
        for network in NETWORKS:
            notebooks.run("04_training/train", {"dataset": TINY, "epochs": 2, "image_size": 64, **network})
        notebooks.run("04_training/export", {"run": f"{TINY}-multi", "checked_photos": 20})
        notebooks.run("04_training/sweep", {"dataset": TINY, "epochs": 2, "image_size": 64, "trials": 2})
        for name in ANSWERING:
            notebooks.run("05_evaluation/evaluate", {"dataset": TINY, "run": f"{TINY}-{name}", "resamples": 50})
        notebooks.run("05_evaluation/evaluate_countries", {"dataset": TINY, "run": f"{TINY}-region", "resamples": 50})
        runs = ",".join(f"{TINY}-{name}" for name in ANSWERING)
        notebooks.run("05_evaluation/paper_table", {"dataset": TINY, "runs": runs, "resamples": 50})
        together = f"{TINY}-multi-{{scene}}+{TINY}-multi"
        for notebook in ("uncertainty", "breakdown", "explain", "leakage", "report"):
            notebooks.run(f"05_evaluation/{notebook}", {"dataset": TINY, "run": f"{TINY}-multi", "resamples": 50})
        notebooks.run("05_evaluation/evaluate", {"dataset": TINY, "run": together, "resamples": 50})
        notebooks.run("05_evaluation/compare_runs", {"dataset": TINY, "runs": f"{runs},{together}", "resamples": 50})
        notebooks.run("05_evaluation/predict", {"run": f"{TINY}-multi", "photos": str(paths.photos(TINY)), "first": 6})
        notebooks.run("06_demo/share", {"dataset": TINY, "run": f"{TINY}-multi", "most_photos": 20})
        predictions = published(root / "published" / "model.csv", paths.results(f"{TINY}-multi", TINY))
        notebooks.run("05_evaluation/published_results", {"predictions": str(predictions), "resamples": 50})
        played()
        notebooks.run("06_demo/human_baseline", {"dataset": TINY, "resamples": 50})
        yield root


def played():
    """A few rounds of simulated players."""
    photos = data_lists.read(TINY)
    for player in ("one", "two"):
        for longitude in (0.0, 20.0, 40.0):
            asked = games.ask(player, photos, f"{TINY}-multi", 64)
            games.answer(asked.number, player, place=(45.0, longitude))


def published(file, results):
    """The predictions of a run in the published form."""
    table = pd.read_parquet(results / "predictions.parquet")
    columns = {
        "img_id": table["id"] + ".jpg", "gt_lat": table["latitude"], "predicted_lat": table["predicted_latitude"],
        "gt_long": table["longitude"], "predicted_long": table["predicted_longitude"],
        "great_circle_distance": table["distance_km"].round(2),
    }  # fmt: skip
    file.parent.mkdir()
    pd.DataFrame(columns).to_csv(file, index=False)
    return file.parent


@pytest.fixture
def root(line, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(line))
    return line


DATASETS = {"01_data/download": FETCHED, "01_data/collect": COLLECTED}
OUTPUTS = {
    "01_data/collect": ["photos.csv", "photos.png", "places.png"],
    "01_data/download": ["report.csv", "report.png", "missing.csv", "map.png", "photos.png"],
    "01_data/pack": ["shards.csv", "photos.png"],
    "01_data/enrich": ["located.png", "regions.png", "countries.csv", "regions.csv", "disagreeing.csv"],
    "01_data/clean": ["removed.csv", "measures.png", "removed.png"],
    "01_data/balance": ["balance.csv", "balance.png", "splits.csv", "before.png", "after.png"],
    "01_data/explore": ["countries.csv", "regions.csv", "leakage.csv", "nearest_training.png", "resolution.png"],
    "01_data/make_list": ["map.png", "density.png", "photos.png"],
    "02_scenes/classify_scenes": ["scenes.parquet", "scenes.png", "certainty.png", "photos_by_scene.png"],
    "02_scenes/segment": ["palette.csv", "maps.json", "shares.parquet", "maps.png", "classes.png"],
    "03_partitioning/build_cells": ["coarse.csv", "middle.csv", "fine.csv", "labels.parquet", "cells.png"],
    "03_partitioning/build_regions": [
        "country.csv",
        "region.csv",
        "labels.parquet",
        "country_distances.csv",
        "region_distances.csv",
        "countries.png",
        "regions.png",
        "centroids.png",
    ],
    "04_training/train": [
        "model.safetensors",
        "config.json",
        "gallery.safetensors",
        "MODEL_CARD.md",
        "metrics.jsonl",
        "curves.png",
        "train.log",
    ],
    "04_training/export": [
        "model.onnx",
        "model.pt2",
        "classes",
        "interface.json",
        "example.py",
        "README.md",
        "MODEL_CARD.md",
        "checks.csv",
        "checks.png",
    ],
    "04_training/sweep": ["trials.csv", "importances.csv", "parameters.png", "history.png"],
    "05_evaluation/calibrate": ["calibration.json", "comparison.csv", "confidences.parquet", "reliability.png"],
    "05_evaluation/evaluate": [
        "predictions.parquet",
        "likeliest.parquet",
        "countries.parquet",
        "continents.parquet",
        "confidences.parquet",
        "neighbours.parquet",
        "accuracy.csv",
        "accuracy.md",
        "accuracy.png",
        "map.png",
        "radii.png",
    ],
    "05_evaluation/predict": ["predictions.csv", "predictions.json", "predictions.geojson", "maps"],
    "05_evaluation/uncertainty": [
        "calibration_errors.csv",
        "reliability.csv",
        "reliability.png",
        "coverage.csv",
        "coverage.md",
        "coverage.png",
        "abstention.csv",
        "abstention.png",
        "fusions.csv",
    ],
    "05_evaluation/breakdown": [
        "breakdown.csv",
        "breakdown.md",
        "confusion.png",
        "error_map.png",
        "best.png",
        "worst.png",
    ],
    "05_evaluation/explain": ["gallery.png", "explained.csv", "deletion.csv", "deletion.md", "deletion.png"],
    "05_evaluation/leakage": ["accuracy_without.csv", "accuracy_by_similarity.csv", "nearest_training.png"],
    "05_evaluation/report": ["report.html", "MODEL_CARD.md"],
    "05_evaluation/compare_runs": ["accuracy.csv", "accuracy.tex", "paired.csv", "comparison.pdf", "comparison.svg"],
    "05_evaluation/evaluate_countries": [
        "classes.csv",
        "classes.md",
        "countries.csv",
        "countries.png",
        "confusion.csv",
        "confusion.png",
        "confusions.csv",
        "confusions.png",
        "guesses.parquet",
    ],
    "05_evaluation/paper_table": ["accuracy.csv", "accuracy.md", "paired.csv", "rows.csv", "accuracy.png"],
    "05_evaluation/published_results": ["accuracy.csv", "accuracy.md", "accuracy_intervals.csv", "checks.csv"],
    "06_demo/human_baseline": ["accuracy.csv", "accuracy.md", "accuracy.png", "paired.csv", "nearer.csv", "map.png"],
    "06_demo/share": ["page", "photos.csv"],
}
RUNS = {"05_evaluation/evaluate_countries": f"{TINY}-region"}


@pytest.mark.parametrize("notebook", notebooks.OUTPUTS)
def test_each_stage_writes_what_it_promises_with_a_manifest(root, notebook):
    dataset = DATASETS.get(notebook, TINY)
    run = RUNS.get(notebook, f"{TINY}-multi")
    parameters = {**notebooks.defaults(notebook), "dataset": dataset, "run_name": "", "run": run}
    folder = notebooks.OUTPUTS[notebook](parameters)
    executed = f"{notebook.split('/')[1]}.ipynb"
    assert {*OUTPUTS[notebook], "manifest.json", executed} <= {file.name for file in folder.iterdir()}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["parameters"]) == set(notebooks.defaults(notebook))
    assert not list(folder.parent.glob(".*"))


def test_the_accuracy_table_follows_from_the_predictions(root):
    folder = paths.results(f"{TINY}-multi", TINY)
    table = pd.read_csv(folder / "accuracy.csv")
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert list(table.columns) == ["model", "photos", *metrics.SHARES, "median_km", "mean_km"]
    assert table["model"].tolist() == [
        "coarse", "middle", "fine", "f*", "search", metrics.RANDOM_TRAINING_PHOTO, metrics.MOST_LIKELY_CELL,
        metrics.NEAREST_NEIGHBOUR, metrics.SHUFFLED_LABELS,
    ]  # fmt: skip
    photos = data_lists.read(TINY)
    assert set(predictions["id"]) == set(photos[photos["split"] == "test"]["id"])
    distance_km = metrics.great_circle_km(
        predictions["latitude"], predictions["longitude"],
        predictions["predicted_latitude"], predictions["predicted_longitude"],
    )  # fmt: skip
    np.testing.assert_allclose(distance_km, predictions["distance_km"])
    row = table.set_index("model").loc["search"]
    assert row["within_2500km"] == np.mean(distance_km <= 2500)
    assert row["median_km"] == pytest.approx(np.median(distance_km))


def test_the_papers_table_has_a_row_for_every_answer(root):
    table = pd.read_csv(paths.paper_table(TINY) / "accuracy.csv").set_index("model")
    letters = ("c", "m", "f", "f*", "search")
    networks = [f"{network}(M, {letter}{scenes})" for network, scenes in
                [("base", ""), ("ISN", ", S3"), ("MTN", ""), ("TransLocator", "")] for letter in letters]  # fmt: skip
    assert table.index[: len(networks)].tolist() == networks
    assert table.index[len(networks)].startswith("region")
    predictions = pd.read_parquet(paths.results(f"{TINY}-multi-{{scene}}", TINY) / "predictions.parquet")
    assert table.loc["ISN(M, search, S3)", "median_km"] == pytest.approx(predictions["distance_km"].median())


def test_published_predictions_give_the_accuracies_of_the_evaluation_that_they_are_of(root):
    found = pd.read_csv(paths.published() / "accuracy.csv")
    expected = pd.read_csv(paths.results(f"{TINY}-multi", TINY) / "accuracy.csv")
    assert list(found.columns) == list(expected.columns)
    assert found["model"].tolist() == ["model"]
    row = expected[expected["model"] == "search"].assign(model="model")
    pd.testing.assert_frame_equal(found, row.reset_index(drop=True))


def test_a_multi_task_network_names_scenes(root):
    predictions = pd.read_parquet(paths.results(f"{TINY}-multi-mtn", TINY) / "predictions.parquet")
    assert set(predictions["predicted_scene"]) <= set(scenes.SCENES)


def test_a_second_run_recomputes_nothing(root, capsys):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    notebooks.run("03_partitioning/build_cells", {"dataset": TINY, **THRESHOLDS})
    notebooks.run("04_training/train", {"dataset": TINY, "epochs": 2, "image_size": 64})
    assert capsys.readouterr().out.count("is current") == 2
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_a_run_is_evaluated_on_a_list_that_has_only_a_test_split(root, tmp_path):
    other = "toy-earth-other"
    assert papermill("01_data/make_list", tmp_path, dataset=other, photo_count=30, test_share=1).returncode == 0
    assert set(data_lists.read(other)["split"]) == {"test"}
    ended = papermill("05_evaluation/evaluate", tmp_path, run=f"{TINY}-multi", dataset=other)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert len(pd.read_parquet(paths.results(f"{TINY}-multi", other) / "predictions.parquet")) == 30


@pytest.mark.parametrize(
    ("notebook", "parameters", "message"),
    [
        ("04_training/train", {"partition": "mutli"}, "did you mean 'multi'"),
        ("04_training/train", {"dataset": "toy-eart"}, "Did you mean 'toy-earth'"),
        ("04_training/export", {"run": f"{TINY}-multi", "formats": "onnx,pt1"}, "did you mean 'pt2'"),
        ("04_training/export", {"run": f"{TINY}-multi+{TINY}-region"}, "export each by its own name"),
        ("04_training/export", {"run": f"{TINY}-multi", "tolerance": 0.0}, r"of model\.onnx is not what the network"),
        ("05_evaluation/evaluate", {"run": "nobody"}, r"papermill 04_training/train\.ipynb"),
        ("05_evaluation/explain", {"run": f"{TINY}-multi", "level": "midle"}, "did you mean 'middle'"),
        ("05_evaluation/explain", {"run": f"{TINY}-multi", "dataset": TINY, "photos": "nobody"}, "is no test photo"),
    ],
)
def test_papermill_fails_with_the_remedy_and_leaves_nothing(root, tmp_path, notebook, parameters, message):
    before = sorted(root.rglob("*"))
    ended = papermill(notebook, tmp_path, **parameters)
    assert ended.returncode == 1
    assert re.search(message, ended.stderr), ended.stderr[-2000:]
    assert sorted(root.rglob("*")) == before


def test_a_list_made_from_others_is_learned_from_without_its_photos_being_anywhere_else(root, tmp_path):
    for notebook, parameters in [
        ("01_data/balance", {"dataset": f"{TINY}-clean", "new_dataset": "even", "min_share": 0.0}),
        ("02_scenes/classify_scenes", {"dataset": "even"}),
        ("03_partitioning/build_cells", {"dataset": "even", **THRESHOLDS}),
        ("04_training/train", {"dataset": "even", "epochs": 1, "image_size": 56}),
    ]:
        ended = papermill(notebook, tmp_path, **parameters)
        assert ended.returncode == 0, ended.stderr[-2000:]
    even = data_lists.read("even")
    assert even.attrs["photos of"] == TINY
    assert set(even["id"]) < set(data_lists.read(f"{TINY}-clean")["id"])
    assert not paths.photos("even").exists()
    lost = paths.photos(TINY) / even["path"][0]
    lost.unlink()
    assert fetch.ensure(even, "even") == paths.photos(TINY)
    assert lost.exists()


def test_a_changed_photo_is_named_before_it_is_learned_from(root, tmp_path):
    path = data_lists.read(TINY)["path"].iloc[7]
    photo = paths.photos(TINY) / path
    original = photo.read_bytes()
    photo.write_bytes((paths.photos(TINY) / data_lists.read(TINY)["path"].iloc[8]).read_bytes())
    try:
        ended = papermill("04_training/train", tmp_path, dataset=TINY, run_name="never")
    finally:
        photo.write_bytes(original)
    assert ended.returncode == 1
    assert re.search(rf"ChangedPhoto.*{re.escape(path)}", ended.stderr), ended.stderr[-2000:]
    assert not paths.run("never").exists()
