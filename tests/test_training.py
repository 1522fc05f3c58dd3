import dataclasses
import hashlib
import json
import math

import pandas as pd
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import (
    baselines,
    cells,
    data_lists,
    features,
    fetch,
    labelled,
    launch,
    model_cards,
    models,
    notebooks,
    paths,
    predict,
    recipe,
    regions,
    scenes,
    segmentation,
    segmenters,
    targets,
    training,
)

TINY = "toy-earth-tiny"  # of the fixture `tiny`


@pytest.fixture
def settings(tiny, monkeypatch):
    monkeypatch.setenv("PHOTO_GEOLOCATION_ROOT", str(tiny))
    parameters = {**notebooks.defaults("04_training/train"), "dataset": TINY, "image_size": 64, "batch_size": 32}
    return recipe.of({**parameters, "preset": "plain", "epochs": 3})[0]


def job(settings, folder, **running):
    usual = recipe.of(notebooks.defaults("04_training/train"))[1]
    return training.Job(settings, dataclasses.replace(usual, **running), folder, folder / "checkpoints")


def train(settings, folder, **running):
    training.train_alone(job(settings, folder, **running))


def weights(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_heads_learn_from_features_and_the_same_seed_gives_the_same_run(settings, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        train(settings, tmp_path / name)
    curves = pd.read_json(tmp_path / "first" / "metrics.jsonl", lines=True)
    assert curves["train_loss"].is_monotonic_decreasing
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert weights(tmp_path / "first") == weights(tmp_path / "second")
    config = json.loads((tmp_path / "first" / "config.json").read_text())
    assert list(config["classes"]) == ["coarse", "middle", "fine"]
    assert config["classes"]["fine"] == len(cells.read(tmp_path / "first" / "classes" / "fine.csv", "fine"))


MODELS = {
    "base(L, c)": {"partition": "coarse"},
    "base(M)": {},
    "base(M), smoothed": {"objective": "haversine_smoothed", "smoothing_km": 300.0},
    "base(M), smoothed as classes lie apart": {
        **{"objective": "haversine_smoothed", "smoothing_km": 0.0, "learning_rate": 1e-3}
    },
    "ISN": {"scene": "urban"},
    "MTN": {"multitask": True, "scene_loss_weight": 0.5},
    "country": {"partition": "country"},
    "region": {"partition": "region"},
    "region, unsmoothed": {"partition": "region", "objective": "cross_entropy"},
    "coordinates": {"partition": "coordinates", "learning_rate": 1e-3},
    "coordinates in degrees": {"partition": "coordinates", "objective": "degrees_mse", "learning_rate": 1e-3},
    "country and scene": {"partition": "country", "multitask": True},
    "two branches": {
        "segmentation": True,
        "architecture": "timm/test_vit",
        "weights": "none",
        "train_layers": "all",
        "backbone_learning_rate_factor": 1.0,
        "learning_rate": 5e-4,
    },
}


@pytest.mark.parametrize("model", MODELS)
def test_every_published_model_learns_and_places_photos(settings, tmp_path, model):
    settings = dataclasses.replace(settings, **{"learning_rate": 1e-2, **MODELS[model]})
    train(settings, tmp_path)
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert curves["train_loss"].iloc[-1] < 0.95 * curves["train_loss"].iloc[0]
    runs = predict.load({"all": [tmp_path]})
    rows = data_lists.read(TINY)
    test = rows[rows["split"] == "test"].reset_index(drop=True)
    root = fetch.photo_folder(TINY, "")
    if settings.segmentation:
        with pytest.raises(ValueError, match=r"looks at segmentation maps too.*02_scenes/segment\.ipynb"):
            predict.locate(runs, test, root, batch_size=8)
    test = predict.with_maps(runs, test, TINY)
    assert ("maps" in test) == settings.segmentation
    answers = predict.locate(runs, test, root, batch_size=8).answers
    expected = {"multi": ["coarse", "middle", "fine", "f*"]}.get(settings.partition, [settings.partition])
    assert list(answers) == expected
    table = predict.table(test, answers | baselines.blind(runs, test, seed=7))
    assert table["distance_km"].between(0, 20016).all()
    assert table["confidence"].isna().all() == (settings.objective == "degrees_mse")
    assert ("predicted_scene" in table) == settings.has_scene_head
    named = predict.named(runs, test, root, batch_size=8)
    assert named["country"]["id"].tolist() == test["id"].tolist()
    assert ("region" in named) == (settings.partition == "region")
    card = model_cards.model_card(model_cards.trained(tmp_path)).text
    assert ("no confidence" in card) == (settings.objective == "degrees_mse")
    assert ("segmentation map" in card) == settings.segmentation


def test_a_run_of_two_branches_keeps_its_palette(settings, tmp_path):
    settings = dataclasses.replace(settings, **MODELS["two branches"], epochs=1)
    train(settings, tmp_path)
    file = tmp_path / segmentation.PALETTE
    (network,) = predict.load({"all": [tmp_path]})["all"].networks
    assert network.palette == segmenters.RENDERED
    rows = data_lists.read(TINY)
    fewer = segmentation.Palette.of(segmenters.RENDERED.names[:-1])
    fewer.write(paths.segmentations(TINY) / segmentation.PALETTE)
    try:
        with pytest.raises(ValueError, match=r"those that were learned from: 10 classes, not 11"):
            predict.with_maps(predict.load({"all": [tmp_path]}), rows, TINY)
    finally:
        segmenters.RENDERED.write(paths.segmentations(TINY) / segmentation.PALETTE)
    file.write_text(file.read_text().replace(",134,190,229", ",135,190,229"))
    with pytest.raises(ValueError, match=r"palette\.csv has other colours than the network has learned"):
        predict.load({"all": [tmp_path]})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "cannot have a branch for segmentation maps, because it is no vision transformer: take vit_b_16"),
        ({"architecture": "timm/vit_tiny_patch16_224"}, "which a frozen backbone cannot: set train_layers to all"),
        (MODELS["two branches"] | {"photo_cache": "raw"}, "set it to none, or segmentation to False"),
    ],
)
def test_what_two_branches_cannot_be_made_of_is_said_before_any_work(given, message):
    parameters = notebooks.defaults("04_training/train") | {"segmentation": True}
    with pytest.raises(ValueError, match=message):
        recipe.of(parameters | given)


def test_networks_of_three_scenes_are_one_model(settings, tmp_path):
    folders = {scene: [tmp_path / scene] for scene in scenes.SCENES}
    for scene, (folder,) in folders.items():
        folder.mkdir()
        train(dataclasses.replace(settings, scene=scene, epochs=1), folder)
    rows = data_lists.read(TINY)
    test = scenes.joined(rows[rows["split"] == "test"].reset_index(drop=True), TINY)
    runs, root = predict.load(folders), fetch.photo_folder(TINY, "")
    together = predict.locate(runs, test, root, batch_size=8).answers["f*"]
    assert together["id"].tolist() == test["id"].tolist()
    for scene, run in runs.items():
        part = test[test["scene"] == scene].reset_index(drop=True)
        if len(part):
            alone = predict.locate({"all": run}, part, root, batch_size=8).answers["f*"]
            pd.testing.assert_frame_equal(together[test["scene"] == scene].reset_index(drop=True), alone)
    with pytest.raises(ValueError, match=r"natural was trained on photos of scene 'natural'.*-p scene indoor"):
        predict.load({**folders, "indoor": folders["natural"]})
    only_cells = dataclasses.replace(settings, partition="coarse", scene="urban", epochs=1)
    (tmp_path / "coarse").mkdir()
    train(only_cells, tmp_path / "coarse")
    with pytest.raises(ValueError, match="urban for coarse; train all on one partition"):
        predict.load({**folders, "urban": [tmp_path / "coarse"]})


def test_a_scene_network_learns_from_likely_photos_and_is_judged_by_those_it_would_be_given(settings):
    path = paths.scenes(TINY) / "scenes.parquet"
    original = pd.read_parquet(path)
    rows = data_lists.read(TINY)
    shares = original.copy()
    shares[["p_indoor", "p_natural", "p_urban"]] = [0.31, 0.3, 0.39]
    shares["scene"] = "urban"
    networks = {scene: dataclasses.replace(settings, scene=scene) for scene in scenes.SCENES}
    try:
        shares.to_parquet(path)
        learned = {scene: len(labelled.read_split(each, "train")) for scene, each in networks.items()}
        judged = {scene: len(labelled.read_split(each, "validation")) for scene, each in networks.items()}
    finally:
        original.to_parquet(path)
    everything = len(labelled.read_split(settings, "train"))
    assert learned == {"indoor": everything, "natural": 0, "urban": everything}  # 0.3 is not above 0.3
    assert judged == {"indoor": 0, "natural": 0, "urban": int((rows["split"] == "validation").sum())}


def test_a_run_goes_on_from_another_with_the_same_classes(settings, tmp_path, capsys):
    for name in ("first", "second", "other"):
        (tmp_path / name).mkdir()
    train(settings, tmp_path / "first")
    first = pd.read_json(tmp_path / "first" / "metrics.jsonl", lines=True)
    weights_file = str(tmp_path / "first" / "model.safetensors")
    train(dataclasses.replace(settings, weights=weights_file), tmp_path / "second")
    second = pd.read_json(tmp_path / "second" / "metrics.jsonl", lines=True)
    assert "head 'fine' goes on from" in capsys.readouterr().out
    assert second["train_loss"].iloc[0] < first["train_loss"].iloc[0]
    train(dataclasses.replace(settings, weights=weights_file, partition="country"), tmp_path / "other")
    assert "head 'country' starts anew" in capsys.readouterr().out
    with pytest.raises(models.WeightsError, match="efficientnet_lite0"):
        train(dataclasses.replace(settings, weights=weights_file, architecture="resnet18"), tmp_path / "other")


def test_scenes_alone_do_not_choose_the_weights(settings, tmp_path, capsys):
    settings = dataclasses.replace(settings, partition="region", multitask=True, learning_rate=1e-2)
    settings = dataclasses.replace(settings, best_by="validation_loss")
    train(settings, tmp_path)
    assert "no validation photo has a class" in capsys.readouterr().out
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert "validation_loss" not in curves
    assert model_cards.best_epoch(curves) == 3


def test_labels_of_another_list_are_refused(settings):
    path = paths.cells(TINY) / "labels.parquet"
    original = pd.read_parquet(path)
    try:
        original.iloc[::2].to_parquet(path)
        with pytest.raises(ValueError, match=r"has the labels of another list.*build_cells"):
            labelled.read_split(settings, "train")
    finally:
        original.to_parquet(path)


def test_a_run_tells_of_no_folder_and_depends_on_the_weights_it_began_with(settings, tmp_path):
    file = tmp_path / "begun.safetensors"
    models.save(models.Geolocator("efficientnet_lite0", {}, weights="none"), file, {})
    settings = dataclasses.replace(settings, weights=str(file), epochs=1)
    assert recipe.sources(settings)["weights"] == file
    (tmp_path / "run").mkdir()
    train(settings, tmp_path / "run")
    assert str(tmp_path) not in (tmp_path / "run" / "config.json").read_text()


def test_a_run_of_an_older_version_says_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text('{"partition": "multi"}')
    with pytest.raises(ValueError, match="older version: train it anew"):
        predict.load({"all": [tmp_path]})


def test_a_model_beside_the_cells_of_another_run_is_refused(settings, tmp_path):
    train(dataclasses.replace(settings, partition="coarse", epochs=1), tmp_path)
    file = tmp_path / "classes" / "coarse.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:-1], lines[-1].replace(",", ",", 1) + "1"]) + "\n")  # another mean
    with pytest.raises(models.WeightsError, match="coarse"):
        predict.load({"all": [tmp_path]})


def test_a_batch_without_a_finite_loss_is_named(settings, tmp_path, monkeypatch, capsys):
    read, spoilt = features.of, []

    def broken(*arguments):
        found = read(*arguments)
        if arguments[7] == "features of training photos":
            found[5] = math.nan
            spoilt.append(arguments[1]["id"][5])
        return found

    monkeypatch.setattr(features, "of", broken)
    with pytest.raises(FloatingPointError, match="a batch of epoch 1 cannot be learned from, because its loss is nan"):
        train(settings, tmp_path)
    assert spoilt[0] in capsys.readouterr().out
    assert not (tmp_path / "model.safetensors").exists()


def test_augmentation_does_not_make_regions_collapse(settings, tmp_path):
    settings = dataclasses.replace(
        settings, partition="region", train_layers="all", augmentation="crop+rotation+colour", epochs=6, batch_size=16,
        learning_rate=1e-2, smoothing_km=300.0, precision="fp32",
    )  # fmt: skip
    train(settings, tmp_path)
    learned = labelled.read_split(settings, "train")
    classes = regions.read(tmp_path / "classes" / "region.csv", "region")
    named = predict.named(predict.load({"all": [tmp_path]}), learned.rows, learned.root, batch_size=32)["region"]
    right = named["guess_1"].to_numpy() == classes.keys[learned.labels["region"].numpy()]
    # A collapsed network names the commonest region for every photo.
    commonest = classes.training_photos.max() / len(learned)
    assert right.mean() > commonest + 0.1
    assert named["guess_1"].nunique() > 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"partition": "coordinates", "objective": "cross_entropy"}, "does not go with partition 'coordinates'"),
        ({"partition": "country", "objective": "degrees_mse"}, "takes auto, cross_entropy, haversine_smoothed"),
        ({"architecture": "resnet5"}, "did you mean 'resnet50'"),
        ({"scene_threshold": 1.5}, "scene_threshold is a probability"),
        ({"smoothing_km": -1.0}, "smoothing_km must not be negative"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        recipe.of({**notebooks.defaults("04_training/train"), **given})


def test_auto_takes_the_objective_of_the_paper_that_a_partition_comes_from():
    parameters = notebooks.defaults("04_training/train")
    losses = {name: recipe.of({**parameters, "partition": name})[0].loss for name in targets.PARTITIONS}
    assert losses["multi"] == losses["country"] == "cross_entropy"
    assert losses["region"] == "haversine_smoothed"
    assert losses["coordinates"] == "unit_vector_mse"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_all_layers_move_and_the_backbone_moves_less(settings, tmp_path, optimizer):
    settings = dataclasses.replace(
        settings, train_layers="all", partition="coarse", architecture="resnet18", weights="none", epochs=1,
        optimizer=optimizer, precision="fp32",
    )  # fmt: skip
    torch.manual_seed(settings.seed)
    untrained = training.Geolocator("resnet18", {"coarse": 1}, weights="none").backbone.conv1.weight
    train(settings, tmp_path)
    trained = safetensors.torch.load_file(tmp_path / "model.safetensors")
    moved = (trained["backbone.conv1.weight"] - untrained).abs().max().item()
    steps = math.ceil(len(labelled.read_split(settings, "train")) / settings.batch_size)
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
    before = {split: len(labelled.read_split(settings, split)) for split in ("train", "validation")}
    try:
        without.to_parquet(labels_path)
        after = {split: len(labelled.read_split(settings, split)) for split in ("train", "validation")}
    finally:
        labels.to_parquet(labels_path)
    assert after == {"train": before["train"] - 1, "validation": before["validation"]}


@given(st.sampled_from(["cosine", "halving"]), st.integers(1, 40), st.integers(1, 50), st.floats(0, 3))
def test_the_rate_rises_to_one_and_falls(schedule, epochs, steps_per_epoch, warmup_epochs):
    given = {"schedule": schedule, "epochs": epochs, "warmup_epochs": warmup_epochs}
    settings, _ = recipe.of({**notebooks.defaults("04_training/train"), **given})
    steps = range(epochs * steps_per_epoch)
    factors = [training.learning_rate_factor(settings, step, steps_per_epoch) for step in steps]
    assert all(0 <= factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_the_rate_is_halved_at_the_papers_epochs():
    parameters = {**notebooks.defaults("04_training/train"), "schedule": "halving", "epochs": 15, "warmup_epochs": 0.0}
    settings, _ = recipe.of(parameters)
    by_epoch = [training.learning_rate_factor(settings, epoch, 1) for epoch in range(15)]
    assert by_epoch == [1] * 4 + [0.5] * 4 + [0.25] * 4 + [0.125, 0.0625, 0.03125]


@pytest.mark.parametrize(
    ("name", "value"), [("epochs", 0), ("learning_rate", -1.0), ("weight_decay", -0.1), ("seed", -1)]
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must"):
        recipe.of({**notebooks.defaults("04_training/train"), name: value})


@pytest.mark.parametrize("learning_rate", [1e30, 1e38])
@pytest.mark.parametrize("partition", ["multi", "region", "coordinates"])  # no validation photo lies in a region
def test_a_loss_that_explodes_says_what_to_do_and_leaves_no_model(settings, tmp_path, learning_rate, partition):
    settings = dataclasses.replace(
        settings, learning_rate=learning_rate, optimizer="sgd", warmup_epochs=0.0, partition=partition, epochs=1
    )
    with pytest.raises(FloatingPointError, match=r"[Ll]ower the learning_rate"):
        train(settings, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_a_list_without_validation_photos_trains_to_the_last_epoch(settings, tmp_path, monkeypatch):
    parts = data_lists.parts
    moved = {"split": {"validation": "test"}}
    monkeypatch.setattr(data_lists, "parts", lambda name: (part.replace(moved) for part in parts(name)))
    train(settings, tmp_path)
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert "validation_loss" not in curves
    assert model_cards.best_epoch(curves) == 3


def test_launched_in_a_process_of_its_own_it_gives_the_same_run(settings, tmp_path, capfd):
    for name in ("here", "launched"):
        (tmp_path / name).mkdir()
    train(settings, tmp_path / "here")
    curves = launch.train(job(settings, tmp_path / "launched"))
    assert len(curves) == 3
    assert weights(tmp_path / "here") == weights(tmp_path / "launched")
    assert "epoch 3/3: loss" in (tmp_path / "launched" / "train.log").read_text()


def all_layers(settings, **given):
    small = {"train_layers": "all", "architecture": "resnet18", "weights": "none", "epochs": 1, "image_size": 32}
    return dataclasses.replace(settings, **{**small, "precision": "fp32", **given})


def test_decoded_photos_from_the_cache_teach_the_same(settings, tmp_path):
    settings = all_layers(settings, augmentation="none")
    for cache in ("none", "raw"):
        (tmp_path / cache).mkdir()
        train(settings, tmp_path / cache, photo_cache=cache)
    assert weights(tmp_path / "none") == weights(tmp_path / "raw")


def test_recomputing_in_the_backward_pass_changes_nothing(settings, tmp_path):
    for name, recomputing in (("plain", False), ("sparing", True)):
        (tmp_path / name).mkdir()
        train(all_layers(settings), tmp_path / name, gradient_checkpointing=recomputing)
    assert weights(tmp_path / "plain") == weights(tmp_path / "sparing")


def test_averaged_weights_are_kept_and_training_does_not_know_of_them(settings, tmp_path):
    for name, decay in (("plain", 0.0), ("averaged", 0.9)):
        (tmp_path / name).mkdir()
        train(all_layers(settings, ema_decay=decay, epochs=2), tmp_path / name)
    plain, averaged = (pd.read_json(tmp_path / name / "metrics.jsonl", lines=True) for name in ("plain", "averaged"))
    assert plain["train_loss"].equals(averaged["train_loss"])
    assert not plain["validation_loss"].equals(averaged["validation_loss"])
    assert weights(tmp_path / "plain") != weights(tmp_path / "averaged")


def test_a_long_gradient_is_shortened(settings, tmp_path):
    settings = all_layers(settings, optimizer="sgd", clip_norm=1e-3, weight_decay=0.0, warmup_epochs=0.0)
    torch.manual_seed(settings.seed)
    untrained = training.Geolocator("resnet18", {"coarse": 1}, weights="none").backbone.state_dict()
    train(settings, tmp_path)
    trained = safetensors.torch.load_file(tmp_path / "model.safetensors")
    moved = sum(
        (trained[f"backbone.{name}"] - each).square().sum() for name, each in untrained.items() if "conv" in name
    )
    steps = math.ceil(len(labelled.read_split(settings, "train")) / settings.batch_size)
    # Momentum 0.9 makes at most ten of every step.
    assert 0 < moved.sqrt() <= 10 * steps * settings.learning_rate * settings.clip_norm


def test_float16_is_scaled(settings, tmp_path):
    train(all_layers(settings, precision="fp16"), tmp_path)
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert math.isfinite(curves["train_loss"].iloc[0])
    assert json.loads((tmp_path / "config.json").read_text())["trained_on"]["number_format"] == "torch.float16"


def test_training_stops_early_when_nothing_is_gained(settings, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(recipe, "merit", lambda measured, best_by: [1.0])
    train(dataclasses.replace(settings, patience=2, epochs=9), tmp_path)
    curves = pd.read_json(tmp_path / "metrics.jsonl", lines=True)
    assert curves["epoch"].tolist() == [1, 2, 3]
    assert curves["best"].tolist() == [True, False, False]
    assert "no better within_750km in 2 epochs" in capsys.readouterr().out


def test_what_the_time_went_into_adds_up(settings, tmp_path):
    train(all_layers(settings), tmp_path)
    measured = pd.read_json(tmp_path / "metrics.jsonl", lines=True).iloc[0]
    phases = {phase: measured[f"seconds_{phase}"] for phase in training.PHASES}
    assert phases["forward"] > 0
    assert phases["backward"] > 0
    assert phases["compile"] == phases["features"] == 0
    assert measured["seconds"] == pytest.approx(sum(phases.values()) + measured["seconds_validation"], abs=0.01)


def test_the_summary_tells_how_it_went(settings, tmp_path):
    train(settings, tmp_path)
    told = model_cards.summary(pd.read_json(tmp_path / "metrics.jsonl", lines=True)).iloc[:, 0]
    assert told["epoch that was kept"].endswith("of 3")
    assert told["median distance"].endswith("km")
    assert "photos/s" in told["speed, without validation"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accumulation": 0}, "accumulation must be above 0"),
        ({"nodes": 2}, "rendezvous must say where they meet"),
        ({"ema_decay": 1.0}, "ema_decay is from 0"),
    ],
)
def test_ways_of_running_that_cannot_be_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        recipe.of({**notebooks.defaults("04_training/train"), **given})


def test_a_batch_that_is_too_small_for_its_parts_is_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="less than 2 photos: raise batch_size"):
        train(dataclasses.replace(settings, batch_size=4), tmp_path, accumulation=4)
