import json
import subprocess
import sys

import pytest

from helpers import manifests, paths

NOTEBOOK = "03_partitioning/build_cells"


@pytest.fixture
def source(root):
    path = root / "data-lists" / "mine.csv"
    path.parent.mkdir()
    path.write_text("id\n1\n")
    return path


def make(source, **parameters):
    output = manifests.begin(paths.cells("mine"), NOTEBOOK, parameters, {"data list": source})
    (output.folder / "coarse.csv").write_text("cells")
    output.counts = {"photos": 1}
    return manifests.finish(output)


def test_a_finished_output_explains_itself(root, source):
    folder = make(source, seed=7)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["inputs"] == {"data list": {"path": "data-lists/mine.csv", "sha256": manifests.fingerprint(source)}}
    assert (manifest["parameters"], manifest["counts"]) == ({"seed": 7}, {"photos": 1})
    assert manifest["libraries"]["numpy"][0].isdigit()
    assert manifest["seconds"] >= 0


def test_it_is_current_until_parameters_or_inputs_change(source):
    folder = make(source, seed=7)
    assert manifests.is_current(folder, NOTEBOOK, {"seed": 7})
    assert not manifests.is_current(folder, NOTEBOOK, {"seed": 8})
    source.write_text("id\n2\n")
    assert not manifests.is_current(folder, NOTEBOOK, {"seed": 7})


def test_other_code_makes_it_out_of_date(source):
    folder = make(source, seed=7)
    manifest = manifests.read(folder)
    manifest["code"]["sha256"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert not manifests.is_current(folder, NOTEBOOK, {"seed": 7})


def test_a_stale_output_names_what_changed_and_the_command(source):
    folder = make(source, dataset="mine")
    source.write_text("id\n2\n")
    with pytest.raises(
        manifests.StaleOutput, match=r"data-lists/mine\.csv, which has changed.*build_cells\.ipynb.*mine"
    ):
        manifests.check(folder)
    source.unlink()
    with pytest.raises(manifests.StaleOutput, match="is gone"):
        manifests.check(folder)


def test_an_unfinished_output_leaves_the_finished_one_alone(source):
    folder = make(source)
    working = manifests.begin(folder, NOTEBOOK, {}).folder
    (working / "coarse.csv").write_text("half")
    assert (folder / "coarse.csv").read_text() == "cells"
    again = manifests.begin(folder, NOTEBOOK, {})
    assert list(again.folder.iterdir()) == []


def test_a_process_that_ends_early_leaves_no_working_folder(root):
    code = f"from helpers import manifests, paths; manifests.begin(paths.cells('mine'), {NOTEBOOK!r}, {{}}); 1 / 0"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ZeroDivisionError" in ended.stderr
    assert list(paths.cells("mine").parent.iterdir()) == []


def test_a_second_output_replaces_the_first_whole(source):
    folder = make(source)
    (folder / "left-over.csv").write_text("old")
    assert sorted(file.name for file in make(source).iterdir()) == ["coarse.csv", "manifest.json"]
    assert [file.name for file in folder.parent.iterdir()] == ["mine"]
