import pytest
import torch
from torch import nn

from helpers import devices


def test_the_best_device_can_be_computed_on():
    device = devices.best_device()
    assert torch.ones(2, device=device).sum().item() == 2
    assert device.type in devices.described(device) or device.type == "cuda"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_precision_that_is_asked_for_is_used(precision, dtype):
    layer = nn.Linear(4, 4)
    with devices.autocast(torch.device("cpu"), layer, precision):
        assert layer(torch.ones(1, 4)).dtype == dtype


def test_depthwise_networks_stay_in_fp32_on_a_cpu():
    depthwise = nn.Conv2d(8, 8, 3, groups=8)
    with devices.autocast(torch.device("cpu"), depthwise, "auto"):
        assert depthwise(torch.ones(1, 8, 4, 4)).dtype == torch.float32
