"""Networks are exported into real files, which are read back by PyTorch and ONNX Runtime."""

import copy
import json
import re
import sys
import zipfile
from pathlib import Path

import finished_run
import onnx
import pytest
import torch
from torch import nn

from helpers import export, manifests, models, onnx_inference, paths, predict

SIZES = {"efficientnet_lite0": 64, "mobilenet_v3_small": 64, "timm/test_vit": 160}
HEADS = {"coarse": 4, "fine": 9}
PALETTE = [(0, 0, 0), (70, 130, 180), (9, 9, 9)]


def network(architecture, with_maps=False):
    torch.manual_seed(0)
    palette = PALETTE if with_maps else None
    made = models.Geolocator(architecture, HEADS, weights="none", palette=palette)
    return made.eval().to(memory_format=torch.channels_last)


def some_views(model, size, count=7):
    generator = torch.Generator().manual_seed(1)
    views = torch.randint(0, 256, (count, model.channels, size, size), dtype=torch.uint8, generator=generator)
    if model.has_map_branch:
        views[:, 3] %= len(PALETTE)
    return views


@pytest.mark.parametrize(
    ("architecture", "with_maps"),
    [("efficientnet_lite0", False), ("mobilenet_v3_small", False), ("timm/test_vit", True)],
)
def test_both_files_answer_as_the_network_does_for_any_number_of_photos(architecture, with_maps, tmp_path):
    model, size = network(architecture, with_maps), SIZES[architecture]
    before = copy.deepcopy(model.state_dict())
    views = some_views(model, size)
    files = export.write(model, size, export.FORMATS, tmp_path)
    assert {name: file.name for name, file in files.items()} == export.FORMATS
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    read_back = {
        "onnx": onnx_inference.OnnxNetwork(files["onnx"], at_once=99),
        "pt2": torch.export.load(files["pt2"]).module(),
    }
    with torch.inference_mode():
        features = model.features(views)
        expected = {**model.classify(features), export.FEATURES: features}
        for answers in read_back.values():
            for count in (1, 2, 7):
                found = answers(views[:count])
                assert list(found) == list(export.outputs(model)) == ["coarse", "fine", "features"]
                for name, each in found.items():
                    assert each.dtype == torch.float32
                    scale = float(expected[name].abs().max())
                    torch.testing.assert_close(each, expected[name][:count], atol=1e-5 * scale, rtol=1e-4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return export.write(network("efficientnet_lite0"), 64, export.FORMATS, tmp_path_factory.mktemp("exported"))


def test_onnx_says_what_it_takes_and_gives(files):
    graph = onnx.load(files["onnx"]).graph
    onnx.checker.check_model(files["onnx"])
    (given,) = graph.input
    assert given.name == "photos"
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shapes = {
        each.name: [side.dim_param or side.dim_value for side in each.type.tensor_type.shape.dim]
        for each in (given, *graph.output)
    }
    assert shapes == {"photos": ["n", 3, 64, 64], "coarse": ["n", 4], "fine": ["n", 9], "features": ["n", 1280]}


def test_the_files_tell_of_no_folder_of_this_machine_and_hold_no_example(files):
    with zipfile.ZipFile(files["pt2"]) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["onnx"] = files["onnx"].read_bytes()
    folders = {str(paths.SOURCE), str(Path.home()), "site-packages", str(Path(sys.prefix))}
    for name, content in parts.items():
        assert [folder for folder in folders if folder != "/" and folder.encode() in content] == [], name
    assert not [name for name in parts if "sample_inputs" in name and b"torch" in parts[name]]


class Undecided(nn.Module):
    """Looks at a photo to know what to do."""

    def forward(self, photos):
        return photos.mean(dim=(2, 3)) if photos.sum() > 0 else photos.amax(dim=(2, 3))


def test_an_architecture_that_decides_by_the_photo_is_refused(tmp_path):
    model = network("mobilenet_v3_small")
    model.backbone = Undecided()
    with pytest.raises(export.ExportError, match=r"torch\.export cannot export mobilenet_v3_small.*Take another"):
        export.write(model, 64, ["pt2"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_there_is_not_is_refused_with_the_nearest():
    with pytest.raises(export.ExportError, match="no format 'onx', did you mean 'onnx'"):
        export.formats("pt2,onx")
    with pytest.raises(export.ExportError, match="no format ''"):
        export.formats("")


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_absent_is_named_with_what_installs_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(export.ExportError, match=rf'ONNX needs {package}: pip install -e "\.\[onnx\]"'):
        export.formats("onnx")
    assert export.formats("pt2") == ("pt2",)


def exported(run_folder, write):
    """The folder that a run was exported into by a call that writes the files."""
    weights = {f"run {run_folder.name}": run_folder / "model.safetensors"}
    output = manifests.begin(paths.exported(run_folder.name), export.NOTEBOOK, {"run": run_folder.name}, weights)
    write(output.folder)
    output.counts = {export.FILES: export.fingerprints(output.folder)}
    return manifests.finish(output)


def some_file(folder):
    (folder / "model.onnx").write_bytes(b"an exported network")


def test_an_exported_file_serves_the_very_weights_that_it_was_made_from(root, capsys):
    run_folder = finished_run.made("first")
    (trained,) = predict.load({"all": [run_folder]}, device=torch.device("cpu"))["all"].networks
    asked = run_folder, trained.model, trained.image_size
    assert onnx_inference.of_run(*asked).names == ["coarse", "middle", "fine"]
    assert "making ONNX of first" in capsys.readouterr().out
    folder = exported(run_folder, lambda folder: export.write(*asked[1:], ["onnx"], folder))
    assert export.kept(run_folder, "onnx") == folder / "model.onnx"
    assert export.kept(run_folder, "pt2") is None
    assert onnx_inference.of_run(*asked).names == ["coarse", "middle", "fine"]
    assert "making ONNX" not in capsys.readouterr().out
    elsewhere = run_folder.rename(root / "first")  # the folder of a run may lie anywhere
    assert export.kept(elsewhere, "onnx") == folder / "model.onnx"
    weights = elsewhere / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert export.kept(elsewhere, "onnx") is None
    assert export.kept(elsewhere.rename(root / "a name with blanks"), "onnx") is None


def test_an_exported_file_that_is_not_the_one_that_was_checked_is_refused(root):
    run_folder = finished_run.made("first")
    folder = exported(run_folder, some_file)
    (folder / "model.onnx").write_bytes(b"from elsewhere")
    with pytest.raises(export.ExportError, match=r"not the file that was checked: .*papermill 04_training/export"):
        export.kept(run_folder, "onnx")
    (folder / "model.onnx").unlink()
    with pytest.raises(export.ExportError, match="not the file that was checked"):
        export.kept(run_folder, "onnx")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"inputs": {"run first": 3}}', '{"inputs": {}, "counts": []}'])
def test_a_folder_whose_manifest_tells_nothing_was_not_exported(root, text):
    run_folder = finished_run.made("first")
    folder = exported(run_folder, some_file)
    assert export.kept(run_folder, "onnx") == folder / "model.onnx"
    (folder / "manifest.json").write_text(text)
    assert export.kept(run_folder, "onnx") is None
    told = {"inputs": {"run first": {"sha256": manifests.fingerprint(run_folder / "model.safetensors")}}}
    (folder / "manifest.json").write_text(json.dumps(told | {"counts": {"files": {}}}))
    assert export.kept(run_folder, "onnx") is None


@pytest.mark.parametrize("run", ["a+b", "isn-{scene}"])
def test_names_of_several_networks_have_no_exported_folder(root, run):
    with pytest.raises(ValueError, match=re.escape(f"{run!r} stands for several networks")):
        paths.exported(run)
