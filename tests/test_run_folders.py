import json
import shutil

import finished_run
import pytest

from helpers import manifests, paths, run_folders


def calibrated(run):
    """A calibration of a run, as the notebook leaves it."""
    weights = {f"run {run}": paths.run(run) / "model.safetensors"}
    output = manifests.begin(paths.calibration(run), "05_evaluation/calibrate", {"run": run}, weights)
    (output.folder / "calibration.json").write_text("{}")
    return manifests.finish(output) / "calibration.json"


def test_a_run_is_found_by_name_and_by_path_without_its_list(root):
    folder = finished_run.made("first")
    found = run_folders.find("first")
    assert found.folders == {"all": [folder]}
    assert found.calibration is None
    assert "papermill 05_evaluation/calibrate.ipynb out.ipynb -p run first" in found.remark
    elsewhere = shutil.copytree(folder, root / "shared" / "a+b")
    given = run_folders.find(str(elsewhere))
    assert given.folders == {"all": [elsewhere]}
    assert "beside it" in given.remark
    assert run_folders.find("first+first").folders == {"all": [folder, folder]}
    assert run_folders.name("first+/x/second") == "first+second"


def test_a_calibration_is_used_only_for_the_weights_that_it_was_made_for(root):
    folder, kept = finished_run.made("first"), calibrated("first")
    assert run_folders.find("first") == run_folders.Found({"all": [folder]}, kept, "")
    other = root / "elsewhere" / "first"
    shutil.copytree(folder, other)
    assert run_folders.find(str(other)).calibration == kept  # a copy of it
    (other / "model.safetensors").write_bytes(b"other weights")
    found = run_folders.find(str(other))
    assert found.calibration is None
    assert "that of other weights" in found.remark
    (other / "calibration.json").write_text("{}")
    assert run_folders.find(str(other)).calibration == other / "calibration.json"
    (kept.parent / "manifest.json").write_text(json.dumps({"inputs": None}))
    assert run_folders.find("first").calibration is None


def test_the_networks_of_scenes_are_found_by_one_name(root):
    made = {scene: [finished_run.made(f"ours-{scene}", scene=scene)] for scene in ("indoor", "natural", "urban")}
    assert run_folders.find("ours-{scene}").folders == made


@pytest.mark.parametrize("given", ["nobody", "first+nobody", "nobody-{scene}", "./nobody", "../first"])
def test_a_run_that_is_not_there_is_an_error_with_the_remedy(root, monkeypatch, given):
    monkeypatch.chdir(root)
    finished_run.made("first")
    with pytest.raises(FileNotFoundError, match=r"there is no run '.*Train one with 04_training"):
        run_folders.find(given)


def test_a_folder_without_a_model_is_an_error_that_says_what_is_absent(root):
    folder = finished_run.made("first")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"'first' holds no trained run, for it has no model\.safetensors"):
        run_folders.find("first")
