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
    manifests.finish(again)
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_works_on_is_not(source):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as alive:
        folders = [paths.cells("mine").with_name(f".mine.{process.pid}.partial") for process in (ended, alive)]
        for folder in folders:
            folder.mkdir(parents=True)
        manifests.begin(paths.cells("mine"), NOTEBOOK, {})
        assert [folder.exists() for folder in folders] == [False, True]
        alive.communicate(b"\n")


def test_a_cell_run_again_after_the_end_writes_into_the_finished_output(source):
    output = manifests.begin(paths.cells("mine"), NOTEBOOK, {}, {"data list": source})
    (output.folder / "coarse.csv").write_text("cells")
    folder = manifests.finish(output)
    (output.folder / "cells.png").write_text("drawn again")
    assert manifests.finish(output) == folder
    assert sorted(file.name for file in folder.iterdir()) == ["cells.png", "coarse.csv", "manifest.json"]


def test_it_is_not_current_without_what_lies_outside(root, source):
    output = manifests.begin(paths.list_notes("mine"), "01_data/make_list", {})
    output.outside = {"data list": source}
    folder = manifests.finish(output)
    assert manifests.is_current(folder, "01_data/make_list", {})
    source.write_text("edited")
    assert not manifests.is_current(folder, "01_data/make_list", {})
    source.unlink()
    assert not manifests.is_current(folder, "01_data/make_list", {})


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
