"""Heads that the ablation teaches by itself, beside those that training taught."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from benchmarks import ablation, other_heads
from helpers import cells, data_lists, notebooks, paths, predict, read_outs, recipe, training

DATASET = "toy-earth-tiny"  # of the fixture `tiny`


@pytest.fixture(scope="module")
def run(copied):
    folder = paths.run("first")
    folder.mkdir(parents=True)
    usual = {"dataset": DATASET, "image_size": 64, "batch_size": 32, "epochs": 3, "precision": "fp32"}
    settings = recipe.of({**notebooks.defaults("04_training/train"), **usual})
    training.train_alone(training.Job(*settings, folder, folder / "checkpoints"))
    return predict.load({"all": [folder]}, device=torch.device("cpu"))["all"]


def test_without_a_change_they_learn_what_training_taught(run):
    again = other_heads.taught(run, DATASET, paths.photos(DATASET), run.classes, product=False)
    for name in run.classes:
        before, after = (each.networks[0].model.heads[name] for each in (run, again))
        torch.testing.assert_close(after.weight, before.weight, rtol=1e-3, atol=1e-5)
    assert again.models == ("coarse", "middle", "fine", "f*")


def test_what_is_taught_is_the_product_that_is_read_out():
    places = np.random.default_rng(7).uniform([40, 0], [50, 10], (400, 2))
    partitions = cells.build_all(*places.T, min_photos=5, max_photos={"coarse": 200, "middle": 100, "fine": 50})
    read_out = read_outs.ReadOut(partitions, torch.device("cpu"))
    scores = {name: torch.randn(6, len(each)) for name, each in partitions.items()}
    shares = read_out.shares({name: each.softmax(dim=1) for name, each in scores.items()})
    torch.testing.assert_close(other_heads.product_scores(scores, read_out).softmax(dim=1), shares["f*"])


def test_more_levels_and_the_product_place_every_photo(run):
    listed = data_lists.read(DATASET)
    test = listed[listed["split"] == "test"].reset_index(drop=True)
    found = ablation.other_levels(run, DATASET, test, paths.photos(DATASET))
    assert list(found) == ["five levels", "taught their product"]
    for place in found.values():
        assert place.shape == (len(test), 2)
        assert np.isfinite(place).all()


def test_a_photo_and_its_mirror_image_have_the_same_ten_views(run, tmp_path):
    listed = data_lists.read(DATASET)
    rows = listed[listed["split"] == "test"].iloc[:6].drop(columns="sha256").reset_index(drop=True)
    rows["path"] = [f"{number}.png" for number in range(len(rows))]
    answers = []
    for name, turned in (("as-it-is", lambda photo: photo), ("mirrored", ImageOps.mirror)):
        folder = tmp_path / name
        folder.mkdir()
        for path, original in zip(rows["path"], listed.loc[listed["split"] == "test", "path"], strict=False):
            with Image.open(paths.photos(DATASET) / original) as photo:
                turned(photo.convert("RGB")).save(folder / path)
        answers.append(ablation.mirrored(run, rows, folder, {"ten": "f*"})["ten"])
    np.testing.assert_array_equal(*answers)
