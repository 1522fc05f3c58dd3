import pytest
import torch

from helpers import models
from helpers.models import Geolocator, WeightsError

COLOURS = [(0, 0, 0), (200, 40, 10), (10, 180, 90)]
VIT = "timm/vit_tiny_patch16_224"
SIZE = 64
GENERATOR = torch.Generator().manual_seed(5)
PHOTOS = torch.cat(
    [
        torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8, generator=GENERATOR),
        torch.randint(0, 3, (3, 1, SIZE, SIZE), dtype=torch.uint8, generator=GENERATOR),
    ],
    dim=1,
)


def two_branches(seed=1, **given):
    torch.manual_seed(seed)
    return Geolocator(VIT, {"fine": 4, "scene": 3}, "none", palette=COLOURS, **given).eval()


def test_untrained_branches_are_the_networks_that_they_were():
    model = two_branches()
    one = Geolocator(VIT, {}, "none").eval()
    coloured = torch.tensor(COLOURS, dtype=torch.uint8)[PHOTOS[:, 3].long()].movedim(-1, 1)
    for number, seen in enumerate((PHOTOS[:, :3], coloured)):
        one.backbone.load_state_dict(model.backbone.branches[number].state_dict())
        with torch.inference_mode():
            half = model.features(PHOTOS).chunk(2, dim=1)[number]
            torch.testing.assert_close(half, one.features(seen))


def test_a_branch_of_torchvision_is_the_network_that_it_was():
    torch.manual_seed(3)
    model = Geolocator("vit_b_32", {}, "none", palette=COLOURS).eval()
    one = Geolocator("vit_b_32", {}, "none").eval()
    one.backbone.load_state_dict(model.backbone.branches[0].state_dict())
    photos = torch.cat([PHOTOS[:1]] * 4, dim=2)[:, :, :224]
    photos = torch.cat([photos] * 4, dim=3)[:, :, :, :224]
    with torch.inference_mode():
        torch.testing.assert_close(model.features(photos)[:, :768], one.features(photos[:, :3]))


def test_after_one_step_what_one_branch_sees_reaches_the_other():
    model = two_branches()
    other_map = PHOTOS.clone()
    other_map[:, 3] = (other_map[:, 3] + 1) % 3

    def photo_half():
        with torch.inference_mode():
            return torch.stack([model.features(given)[:, :192] for given in (PHOTOS, other_map)])

    before = photo_half()
    assert torch.equal(*before)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(PHOTOS)["fine"].logsumexp(dim=1).sum().backward()
    learned = {name for name, weights in model.named_parameters() if weights.grad is not None and weights.grad.any()}
    assert {f"backbone.exchanges.{number}.attention.out_proj.weight" for number in range(4)} <= learned
    assert all(any(name.startswith(f"backbone.branches.{branch}.") for name in learned) for branch in (0, 1))
    optimizer.step()
    assert (photo_half()[0] - photo_half()[1]).abs().max() > 1e-4


def test_class_tokens_meet_at_four_depths_the_last_time_at_the_end():
    assert two_branches().backbone.depths == [3, 6, 9, 12]


def test_layers_without_weights_of_their_own_are_the_new_ones():
    model = two_branches()
    new = {id(weights) for layers in model.new_layers for weights in layers.parameters()}
    names = {name.split(".")[0 if name.startswith("heads") else 1] for name, weights in model.named_parameters()
             if id(weights) in new}  # fmt: skip
    assert names == {"heads", "exchanges"}


def test_weights_are_kept_with_their_palette(tmp_path):
    model, fingerprints = two_branches(), {"fine": "a", "scene": "b"}
    models.save(model, tmp_path / "model.safetensors", fingerprints)
    again = two_branches(seed=2)
    models.restore(again, tmp_path / "model.safetensors", fingerprints)
    with torch.inference_mode():
        assert torch.equal(again(PHOTOS)["fine"], model(PHOTOS)["fine"])
    assert again.palette[:3].tolist() == [list(colour) for colour in COLOURS]
    begun = Geolocator(VIT, {"fine": 4}, str(tmp_path / "model.safetensors"), palette=COLOURS)
    torch.testing.assert_close(begun.backbone.state_dict(), model.backbone.state_dict())
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        Geolocator(VIT, {"fine": 4}, str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize(
    ("architecture", "problem"),
    [
        ("resnet18", "it is no vision transformer"),
        ("swin_t", "it is no vision transformer"),
        ("efficientnet_lite0", "it is no vision transformer"),
        ("timm/vit_base_patch16_siglip_224", "it reads no class token"),
        ("timm/vit_base_patch16_gap_224", "it reads no class token"),
    ],
)
def test_a_network_without_a_class_token_is_refused_with_those_that_have_one(architecture, problem):
    with pytest.raises(ValueError, match=rf"{architecture}.*{problem}: take vit_b_16.*timm/vit_tiny_patch16_224"):
        models.check_map_branch(architecture)


@pytest.mark.parametrize("architecture", ["vit_b_16", "vit_l_32", VIT, "timm/vit_small_patch14_dinov2.lvd142m"])
def test_a_vision_transformer_can_have_a_branch_for_maps(architecture):
    models.check_map_branch(architecture)
