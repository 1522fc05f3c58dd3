import copy

import pytest
import torch
from torch import nn

from helpers import inference, models

CPU = torch.device("cpu")
SIZE = 64


def trained_like(architecture):
    """A network with normalisations that do something."""
    torch.manual_seed(0)
    network = models.Geolocator(architecture, {"coarse": 4, "fine": 9}, weights="none").eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return network


def some_views(count=7):
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("architecture", "kept"),
    [
        ("efficientnet_lite0", 0),
        ("resnet18", 0),
        ("mobilenet_v3_small", 0),
        ("densenet121", 62),  # that come before their convolution, and not behind one
        ("convnext_tiny", 0),
        ("swin_t", 0),
    ],
)
def test_a_quick_network_answers_the_same_up_to_rounding(architecture, kept):
    network, views = trained_like(architecture), some_views()
    before = copy.deepcopy(network.state_dict())
    quick = inference.Quick(network, SIZE, "fp32", CPU, at_once=3)
    with torch.inference_mode():
        expected = network(views)
    for name, scores in quick(views).items():
        scale = expected[name].abs().max()
        torch.testing.assert_close(scores, expected[name], atol=float(2e-5 * scale), rtol=1e-4)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in quick.network.modules()) == kept
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_in_half_precision_it_answers_nearly_the_same():
    network, views = trained_like("efficientnet_lite0"), some_views()
    quick = inference.Quick(network, SIZE, "bf16", CPU)
    with torch.inference_mode():
        expected = network(views)["fine"].softmax(dim=1)
    found = quick(views)["fine"]
    assert found.dtype == torch.float32
    assert 0 < (found.softmax(dim=1) - expected).abs().max() < 0.02


def test_a_normalisation_is_folded_only_into_the_convolution_that_it_follows():
    class Crossed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm_of_second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.second, self.norm_of_first = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.twice, self.again = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            nn.init.constant_(self.norm_of_first.bias, 0.3)
            nn.init.constant_(self.norm_of_second.weight, 2.0)
            nn.init.constant_(self.again.bias, 0.7)

        def forward(self, x):
            x = x.float() / 255
            x = self.norm_of_first(self.first(x)) - self.norm_of_second(self.second(x))
            return self.again(self.twice(x)) + self.twice(x)

    torch.manual_seed(0)
    network = Crossed().eval()
    folded = copy.deepcopy(network)
    assert inference.fold(folded, some_views(1)) == 2  # not that behind a convolution which is called twice
    torch.testing.assert_close(folded(some_views()), network(some_views()), atol=1e-5, rtol=1e-4)


class Small(nn.Module):
    """A network on a device that has room for so many views."""

    def __init__(self, room):
        super().__init__()
        self.room, self.asked = room, []

    def forward(self, views):
        self.asked.append(len(views))
        if len(views) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return views.float().mean(dim=(1, 2, 3))[:, None]


def test_a_full_gpu_is_given_half_and_goes_on(capsys):
    quick = inference.Quick(Small(room=3), SIZE, "fp32", CPU, at_once=12)
    quick.network.asked.clear()
    views = some_views(10)
    torch.testing.assert_close(quick(views)[""], views.float().mean(dim=(1, 2, 3))[:, None])
    assert quick.network.asked == [10, 6, 3, 3, 3, 1]
    assert "full with 12 crops: going on with 6" in capsys.readouterr().out
    quick.network.room = 0
    with pytest.raises(torch.cuda.OutOfMemoryError):
        quick(views)


def test_a_cpu_is_given_what_its_cache_holds():
    deep, dense = trained_like("efficientnet_lite0"), trained_like("resnet18")
    assert inference.crops_that_suit(CPU, deep, 112) < inference.crops_that_suit(CPU, dense, 112)
    assert inference.crops_that_suit(CPU, deep, 4000) == 1
