import dataclasses
import hashlib
import json
import math

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import cells, data_lists, datasets, launch, notebooks, paths, training

TINY = "toy-earth-tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A small toy-earth with its photos, list and cells, made by calls instead of notebooks."""
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PHOTO_GEOLOCATION_ROOT", str(root))
        made = datasets.make_list(TINY, photo_count=150, seed=7, validation_share=0.2, test_share=0.1)
        data_lists.write(made.rows, made.header, paths.data_list(TINY))
        photos = data_lists.read(TINY)
        train = photos[photos["split"] == "train"]
        sizes = {"coarse": 40, "middle": 20, "fine": 10}
        partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=1, max_photos=sizes)
        for name, partition in partitions.items():
            cells.write(partition, paths.cells(TINY) / f"{name}.csv")
        cells.label_table(photos, partitions).to_parquet(paths.cells(TINY) / "labels.parquet")
        yield root


@pytest.fixture
def settings(tiny, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tiny))
    parameters = {**notebooks.defaults("04_training/train"), "dataset": TINY, "image_size": 64, "batch_size": 32}
    return training.Settings(**{**parameters, "epochs": 3})


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_heads_learn_from_features_and_the_same_seed_gives_the_same_run(settings, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        training.train(settings, tmp_path / name)
    curves = pd.read_json(tmp_path / "first" / "metrics.jsonl", lines=True)
    assert curves["train_loss"].is_monotonic_decreasing
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert list(config["classes"]) == ["coarse", "middle", "fine"]
    assert config["classes"]["fine"] == len(cells.read(tmp_path / "first" / "cells" / "fine.csv", "fine"))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_all_layers_move_and_the_backbone_moves_less(settings, tmp_path, optimizer):
    settings = dataclasses.replace(
        settings, train_layers="all", partition="coarse", architecture="resnet18", weights="none", epochs=1,
        optimizer=optimizer, precision="fp32",
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    untrained = training.Geolocator("resnet18", {"coarse": 1}, weights="none").backbone.conv1.weight
    training.train(settings, tmp_path)
    trained = training.safetensors.torch.load_file(tmp_path / "model.safetensors")
    moved = (trained["backbone.conv1.weight"] - untrained).abs().max().item()
    steps = math.ceil(len(training.read_split(settings, "train")) / settings.batch_size)
    assert moved > 0
    if optimizer == "adamw":  # whose step is at most about the learning rate
        assert moved < 2 * steps * settings.learning_rate * settings.backbone_learning_rate_factor


def test_a_photo_without_a_cell_is_judged_but_not_learned_from(settings):
    labels_path = paths.cells(TINY) / "labels.parquet"
    labels = pd.read_parquet(labels_path)
    rows = data_lists.read(TINY)
    without = labels.copy()
    chosen = [rows[rows["split"] == split]["id"].iloc[0] for split in ("train", "validation")]
    without.loc[without["id"].isin(chosen), list(cells.PARTITIONS)] = pd.NA
    before = {split: len(training.read_split(settings, split)) for split in ("train", "validation")}
    try:
        without.to_parquet(labels_path)
        after = {split: len(training.read_split(settings, split)) for split in ("train", "validation")}
    finally:
        labels.to_parquet(labels_path)
    assert after == {"train": before["train"] - 1, "validation": before["validation"]}


@given(st.sampled_from(["cosine", "halving"]), st.integers(1, 40), st.integers(1, 50), st.floats(0, 3))
def test_the_rate_rises_to_one_and_falls(schedule, epochs, steps_per_epoch, warmup_epochs):
    settings = training.Settings(
        **{**notebooks.defaults("04_training/train"), "schedule": schedule, "epochs": epochs,
           "warmup_epochs": warmup_epochs}
    )  # fmt: skip
    steps = range(epochs * steps_per_epoch)
    factors = [training.learning_rate_factor(settings, step, steps_per_epoch) for step in steps]
    assert all(0 <= factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_the_rate_is_halved_at_the_papers_epochs():
    parameters = {**notebooks.defaults("04_training/train"), "schedule": "halving", "epochs": 15, "warmup_epochs": 0.0}
    settings = training.Settings(**parameters)
    by_epoch = [training.learning_rate_factor(settings, epoch, 1) for epoch in range(15)]
    assert by_epoch == [1] * 4 + [0.5] * 4 + [0.25] * 4 + [0.125, 0.0625, 0.03125]


def test_the_model_card_tells_results_and_limits(settings):
    curves = pd.DataFrame({"epoch": [1, 2], "validation_loss": [2.0, 3.0], "median_km": [1234.0, 5.0]})
    shares = [0.01, 0.02, 0.03, 0.25, 0.5]
    curves = curves.assign(**dict(zip(training.metrics.SHARES, shares, strict=True)))
    card = training.model_card(settings, curves, training_photos=1500)
    assert "25.0 % within 750 km, 50.0 % within 2,500 km; half of the guesses are more than 1,234 km off" in card
    assert "1,500 photos" in card
    assert "surveillance" in card
    assert "no validation photos" in training.model_card(settings, curves[["epoch"]], training_photos=1500)


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("learning_rate", -1.0), ("weight_decay", -0.1), ("seed", -1)]
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must"):
        training.Settings(**{**notebooks.defaults("04_training/train"), name: value})


def test_a_loss_that_explodes_says_what_to_do(settings, tmp_path):
    settings = dataclasses.replace(settings, learning_rate=1e38, optimizer="sgd", warmup_epochs=0.0)
    with pytest.raises(FloatingPointError, match="lower the learning_rate"):
        training.train(settings, tmp_path)


def test_a_list_without_validation_photos_trains_to_the_last_epoch(settings, tmp_path, monkeypatch):
    read = data_lists.read
    monkeypatch.setattr(data_lists, "read", lambda name: read(name).replace({"split": {"validation": "test"}}))
    training.train(settings, tmp_path)
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert "validation_loss" not in curves
    assert training.best_epoch(curves) == 3


def test_launched_in_a_process_of_its_own_it_gives_the_same_run(settings, tmp_path, capfd):
    for name in ("here", "launched"):
        (tmp_path / name).mkdir()
    training.train(settings, tmp_path / "here")
    curves = launch.train(settings, tmp_path / "launched")
    assert len(curves) == 3
    assert weights(tmp_path / "here") == weights(tmp_path / "launched")
    assert "epoch 3/3: loss" in (tmp_path / "launched" / "train.log").read_text()
