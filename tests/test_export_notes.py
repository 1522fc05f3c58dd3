"""What goes with an exported network is enough to use it without this code, which a process of its own shows."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import finished_run
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import (
    export,
    export_example,
    export_notes,
    given_photos,
    model_cards,
    models,
    places,
    placing,
    predict,
    regions,
    run_folders,
)

CPU = torch.device("cpu")
NO_CHECKS = pd.DataFrame(
    {"format": ["onnx"], "output": ["fine"], "photos": [3], "same_answer": [3], "largest_difference": [0.0]}
).assign(unit="probability")


@pytest.fixture
def photo(tmp_path):
    small = np.random.default_rng(3).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def exported(name, folder, form, **settings):
    run_folder = finished_run.made(name, **settings)
    run = predict.load({"all": [run_folder]}, device=CPU)["all"]
    folder.mkdir()
    export.write(run.networks[0].model, run.networks[0].image_size, [form], folder)
    export_notes.write(folder, run, run_folder, NO_CHECKS)
    return folder


def told(folder, photo):
    """What the example says, run on its own from another folder."""
    call = [sys.executable, "-I", str(folder / "example.py"), photo.name]
    ended = subprocess.run(call, cwd=photo.parent, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return [[float(number) for number in line.split()] for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("form", export.FORMATS)
def test_the_example_names_the_places_that_predict_does(root, photo, tmp_path, form):
    folder = exported("first", tmp_path / "out", form)
    placer = placing.ready(run_folders.find("first"), precision="fp32", fusion="max", tell_scenes=False)
    expected = placer(given_photos.find([photo])).likeliest
    found = told(folder, photo)
    columns = ["latitude", "longitude", "probability"]
    np.testing.assert_allclose(found, expected[columns].to_numpy(float), rtol=2e-2, atol=1e-3)


def test_the_example_names_the_coordinates_that_predict_does(root, photo, tmp_path):
    folder = exported("there", tmp_path / "out", "pt2", partition="coordinates", objective="degrees_mse")
    placer = placing.ready(run_folders.find("there"), precision="fp32", tell_scenes=False)
    table = placer(given_photos.find([photo])).table
    (found,) = told(folder, photo)
    np.testing.assert_allclose(found, table[["latitude", "longitude"]].to_numpy(float)[0], atol=0.05)


def test_the_example_needs_nothing_of_this_code():
    tree = ast.parse(Path(export_example.__file__).read_text(encoding="utf-8"))
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) else node.names)
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "PIL", "onnxruntime", "torch"}


def test_a_vector_points_to_its_place():
    assert export_example.place_of_coordinates(np.array([0.0, 0.0, 0.6]), "unit vector") == (90.0, 0.0)
    assert export_example.place_of_coordinates(np.array([0.5, 2.5]), "") == (45.0, -135.0)


def test_the_readme_says_what_it_is_for_and_how_photos_are_cut(root, tmp_path):
    folder = exported("first", tmp_path / "out", "pt2")
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert all(use in text for use in (model_cards.INTENDED, *model_cards.OUT_OF_SCOPE, model_cards.DUAL_USE))
    assert "uint8 of shape (n, 3, 32, 32)" in text
    assert "shorter side has 37 pixels" in text
    assert "`model.pt2`" in text
    assert "model.onnx" not in text
    assert "NaN" not in text
    assert "| onnx | `fine` | 3 | 3 | none (probability) |" in text
    described = json.loads((folder / "interface.json").read_text(encoding="utf-8"))
    assert list(described["outputs"]) == ["coarse", "middle", "fine", "features"]
    for name in ("coarse", "middle", "fine"):
        rows = pd.read_csv(folder / described["outputs"][name]["classes"], dtype={"hex_id": str})
        assert len(rows) == described["outputs"][name]["shape"][1]
        assert {described["outputs"][name][what] for what in ("latitude", "longitude")} <= set(rows)
    hierarchy = pd.read_csv(folder / described["hierarchy"])
    assert len(hierarchy) == described["outputs"]["fine"]["shape"][1]
    assert not (folder / "training_places.parquet").exists()


def test_regions_scenes_and_maps_are_described():
    names = places.regions()[["country", "region"]].query("country in ('FR', 'DE')").reset_index(drop=True)
    classes = regions.build(names, "region", min_photos=1)
    counts = {"region": len(classes), "scene": 3}
    model = models.Geolocator("timm/test_vit", counts, "none", palette=[(0, 0, 0)])
    network = predict.Network({"image_size": 160, "classes": counts}, model, CPU)
    run = predict.Run((network,), {"region": classes}, pd.DataFrame())
    described = export_notes.interface(run, "0" * 64)
    assert described["input"]["shape"] == ["n", 4, 160, 160]
    assert described["channels"][3] == "class of the segmentation map"
    assert described["outputs"]["region"]["latitude"] == "latitude"
    assert described["outputs"]["scene"]["names"] == ["indoor", "natural", "urban"]
    assert described["finest"] == "region"
    assert described["hierarchy"] == ""
