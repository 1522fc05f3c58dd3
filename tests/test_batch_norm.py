import copy

import pytest
import torch
from torch import nn

from helpers import batch_norm, models, processes

ALONE = processes.Processes(0, 1, 1, torch.device("cpu"))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_parts_move_the_running_statistics_by_the_mean_of_what_each_moves_them():
    photos = torch.randn(8, 3, 6, 6)
    each = []
    for part in photos.chunk(2):
        alone = network()
        alone(part)
        each.append(torch.cat([alone[1].running_mean, alone[1].running_var]))
    together = network()
    statistics = batch_norm.Statistics(together, ALONE, parts=2)
    statistics.begin()
    for part in photos.chunk(2):
        together(part)
        statistics.end_part()
    statistics.end()
    moved = torch.cat([together[1].running_mean, together[1].running_var])
    torch.testing.assert_close(moved, (each[0] + each[1]) / 2)


def test_one_part_is_left_as_it_is():
    assert batch_norm.Statistics(network(), ALONE, parts=1).running == []


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "resnet18", "vit_b_32", "mobilenet_v3_small"])
def test_recomputing_changes_no_number_and_keeps_less(architecture):
    size = 224 if architecture.startswith("vit") else 64
    plain = models.Geolocator(architecture, {"coarse": 5}, weights="none").train()
    sparing = copy.deepcopy(plain)
    batch_norm.recompute_in_backward(sparing.backbone)
    photos = torch.randint(256, (3, 3, size, size), dtype=torch.uint8)
    kept = []
    for model in (plain, sparing):
        torch.manual_seed(1)
        held = 0

        def pack(tensor):
            nonlocal held
            held += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer = model(photos)["coarse"]
        answer.square().sum().backward()
        kept.append(held)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(plain.parameters(), sparing.parameters(), strict=True))
    state = sparing.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in plain.state_dict().items())
    assert kept[1] < kept[0]


def test_a_network_without_blocks_says_so():
    with pytest.raises(ValueError, match="no blocks to recompute"):
        batch_norm.recompute_in_backward(network())
