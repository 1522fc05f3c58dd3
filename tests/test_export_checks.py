"""Exported networks are compared with the networks on photos, rendered and real; a wrong file is noticed."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from helpers import data_lists, export, export_checks, models, notebooks, paths, predict, recipe, training

DATASET = "toy-earth-tiny"  # of the fixture `tiny`
CPU = torch.device("cpu")
KINDS = {
    "cells": {},
    "degrees": {"partition": "coordinates", "objective": "degrees_mse"},
    "scenes": {"partition": "country", "multitask": True},
    "two branches": {
        **{"segmentation": True, "architecture": "timm/test_vit", "weights": "none", "train_layers": "all"},
        **{"backbone_learning_rate_factor": 1.0, "image_size": 160},
    },
}


@pytest.fixture(scope="module")
def trained(copied):
    """A call that trains a run, once for each kind."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = paths.run(kind.replace(" ", "-"))
            folder.mkdir(parents=True)
            usual = {"preset": "plain", "dataset": DATASET, "epochs": 1, "image_size": 64}
            parameters = notebooks.defaults("04_training/train") | usual | KINDS[kind]
            training.train_alone(training.Job(*recipe.of(parameters), folder, folder / "checkpoints"))
            made[kind] = predict.load({"all": [folder]}, device=CPU)["all"]
        return made[kind]

    return of


def written(run, folder, asked=tuple(export.FORMATS)):
    (network,) = run.networks
    return export.write(network.model, network.image_size, asked, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_trained_run_answers_the_same_from_its_files(trained, kind, tmp_path):
    run = trained(kind)
    photos = export_checks.photos({"all": run}, 9, seed=7)
    assert set(photos["split"]) == {"test"}
    assert len(photos) == 9
    compared = export_checks.compare(run, written(run, tmp_path), photos, paths.photos(DATASET))
    table = export_checks.summary(compared, tolerance=1e-4)
    export_checks.confirm(table)
    outputs = [*run.networks[0].model.heads, "features"]
    assert table[["format", "output"]].to_numpy().tolist() == [
        [name, out] for name in export.FORMATS for out in outputs
    ]
    assert (table["photos"] == 9).all()
    answering = table[table["output"] != "features"]
    assert (answering["same_answer"] == 9).all()
    assert compared.groupby(["format", "output"])["id"].apply(list).map(photos["id"].tolist().__eq__).all()
    assert (table["largest_difference"] < np.where(table["unit"] == "km", 0.1, 1e-5)).all()


def test_files_of_other_weights_are_noticed(trained, tmp_path):
    run = trained("cells")
    (network,) = run.networks
    torch.manual_seed(1)
    other = models.Geolocator("efficientnet_lite0", network.settings["classes"], weights="none").eval()
    files = export.write(other, 64, ["pt2"], tmp_path)
    photos = export_checks.photos({"all": run}, 3, seed=7)
    table = export_checks.summary(export_checks.compare(run, files, photos, paths.photos(DATASET)), tolerance=1e-4)
    assert table.set_index("output")["holds"].to_dict() == dict.fromkeys(export.outputs(other), False)
    with pytest.raises(
        export.ExportError, match=r"coarse of model\.pt2 is not what the network gives: the same answer"
    ):
        export_checks.confirm(table)


def test_what_is_not_a_number_or_too_far_off_does_not_hold():
    rows = pd.DataFrame({"format": "onnx", "output": "fine", "id": ["a", "b"], "same": pd.array([True, True])})
    for difference, holds in ((1e-5, True), (1e-3, False), (np.nan, False)):
        table = export_checks.summary(rows.assign(difference=[0.0, difference]), tolerance=1e-4)
        assert table["holds"].tolist() == [holds]
    other = rows.assign(difference=0.0, same=pd.array([True, False]))
    table = export_checks.summary(other, tolerance=1e-4)
    assert table["same_answer"].tolist() == [1]
    with pytest.raises(export.ExportError, match=r"the same answer for 1 of 2, .*Nothing was kept"):
        export_checks.confirm(table)


def test_photos_come_from_the_test_split_else_from_validation(trained, monkeypatch):
    run = trained("cells")
    rows = data_lists.read(DATASET)
    assert len(export_checks.photos({"all": run}, 0, seed=7)) == (rows["split"] == "test").sum()
    again = [export_checks.photos({"all": run}, 5, seed=3)["id"].tolist() for _ in range(2)]
    assert again[0] == again[1]
    without = rows[rows["split"] != "test"]
    monkeypatch.setattr(data_lists, "read", lambda dataset: without)
    assert set(export_checks.photos({"all": run}, 4, seed=7)["split"]) == {"validation"}
    monkeypatch.setattr(data_lists, "read", lambda dataset: without[without["split"] == "train"])
    with pytest.raises(export.ExportError, match=r"neither test photos nor validation photos.*test_share above 0"):
        export_checks.photos({"all": run}, 4, seed=7)


def test_real_photos_are_answered_the_same(shared, tmp_path):
    torch.manual_seed(0)
    model = models.Geolocator("efficientnet_lite0", {"coarse": 46, "fine": 130}).eval()
    network = predict.Network({"image_size": 224}, model.to(memory_format=torch.channels_last), CPU)
    run = predict.Run((network,), {}, pd.DataFrame())
    rows = pd.read_csv(shared / "photos" / "photos.csv", dtype={"id": str}).sort_values("id").head(12)
    compared = export_checks.compare(run, written(run, tmp_path), rows.reset_index(drop=True), shared / "photos")
    table = export_checks.summary(compared, tolerance=1e-4)
    export_checks.confirm(table)
    assert json.loads(table.to_json(orient="records"))[0]["same_answer"] == 12
