import sys

import pytest
import torch

from helpers import export, inference, models, onnx_inference, placing

CPU = torch.device("cpu")
SIZE = 64


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.Geolocator("efficientnet_lite0", {"coarse": 4, "fine": 9}).eval()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return export.write(model, SIZE, ["onnx"], tmp_path_factory.mktemp("onnx"))["onnx"]


def some_views(count=7):
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_it_answers_as_pytorch_does_whatever_it_is_given_at_once(model, file):
    views = some_views()
    expected = inference.Quick(model, SIZE, "fp32", CPU)(views)
    last = views.to(memory_format=torch.channels_last)  # as decoded photos lie in memory
    for at_once, given in ((1, views), (3, views), (99, last)):
        found = onnx_inference.OnnxNetwork(file, at_once, list(model.heads))(given)
        assert list(found) == list(expected)
        for name, scores in found.items():
            torch.testing.assert_close(scores, expected[name], atol=1e-5, rtol=1e-4)


def test_it_takes_the_threads_that_pytorch_would(file):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        options = onnx_inference.OnnxNetwork(file, 1)._session.get_session_options()
    finally:
        torch.set_num_threads(before)
    assert options.intra_op_num_threads == 3


def test_a_damaged_file_and_an_output_that_is_not_there_are_errors(file, tmp_path):
    with pytest.raises(export.ExportError, match=r"model\.onnx gives coarse, fine, features, and not region"):
        onnx_inference.OnnxNetwork(file, 1, ["region"])
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(export.ExportError, match=r"ONNX Runtime cannot read model\.onnx"):
        onnx_inference.OnnxNetwork(damaged, 1)


@pytest.mark.parametrize(
    ("device", "precision"), [("cuda", "auto"), ("mps", "fp32"), ("auto", "bf16"), ("cpu", "fp16")]
)
def test_what_onnx_runtime_does_not_do_is_refused(device, precision):
    with pytest.raises(ValueError, match="computes on a CPU in fp32"):
        placing.device_of("onnx", device, precision)
    assert placing.device_of("onnx", "auto", "auto") == CPU
    with pytest.raises(ValueError, match="no runtime 'onxx': choose one of torch, onnx"):
        placing.device_of("onxx", "cpu", "fp32")


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r'needs onnxruntime: pip install -e "\.\[onnx\]"'):
        placing.device_of("onnx", "auto", "auto")
