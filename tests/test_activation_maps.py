"""A map is found for every architecture, has the photo's shape, and lies where what counts was put."""

import functools
import itertools

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from helpers import activation_maps, models
from helpers.activation_maps import Layer
from helpers.models import Geolocator

DRAWN = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
OF_TIMM = [
    ("vit_tiny_patch16_224", (7, 7), 1),
    ("vit_small_patch14_dinov2.lvd142m", (8, 8), 1),
    ("vit_small_patch14_reg4_dinov2.lvd142m", (8, 8), 5),
    ("vit_base_patch16_siglip_224", (7, 7), 0),
    ("deit_tiny_distilled_patch16_224", (7, 7), 2),
    ("eva02_tiny_patch14_224", (8, 8), 1),
    ("xcit_nano_12_p16_224", (7, 7), 1),
    ("swin_tiny_patch4_window7_224", (4, 4), None),
    ("convnext_atto", (3, 3), None),
    ("pvt_v2_b0", (4, 4), None),
    ("mobilenetv3_small_050", (4, 4), None),
]


@pytest.fixture(scope="module")
def noise():
    return torch.randn(1 << 20, generator=torch.Generator().manual_seed(1)).mul_(0.03).repeat(103)


@pytest.fixture
def light(noise, monkeypatch):
    """Networks of any size in little time and memory: all their weights look into the same noise."""
    for module, name in [*itertools.product([nn.init], DRAWN), (nn.modules.activation, "xavier_uniform_")]:
        monkeypatch.setattr(module, name, lambda tensor, *_, **__: tensor)

    def made(architecture):
        model = Geolocator(architecture, {"fine": 5}, weights="none").eval()
        for module in model.modules():
            for name, weights in list(module.named_parameters(recurse=False)):
                if weights.ndim > 1:
                    shared = nn.Parameter(noise[: weights.numel()].view(weights.shape), requires_grad=False)
                    setattr(module, name, shared)
                elif name.endswith("bias"):
                    nn.init.zeros_(weights)
        return model

    return made


def first_output(outputs):
    return outputs["fine"][:, 0]


def assert_has_the_photos_shape(model, size):
    layer = activation_maps.find_layer(model, size)
    photos = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    found = activation_maps.evidence(model, layer, photos[:1], first_output)
    assert found.shape == (1, size, size)
    assert found.dtype == torch.float32
    assert found.abs().max() == 1
    assert found.std() > 0
    return layer


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_map_of_every_architecture_has_the_photos_shape(architecture, light, monkeypatch):
    size = {"maxvit_t": 224, "vit_h_14": 56}.get(architecture, 64)
    if architecture.startswith("vit"):  # built for small photos, the only ones that it takes then
        small = functools.partial(torchvision.models.get_model, image_size=size)
        monkeypatch.setattr(torchvision.models, "get_model", small)
    layer = assert_has_the_photos_shape(light(architecture), size)
    assert 2 <= layer.grid[0] <= size // 8


@pytest.mark.parametrize(("name", "grid", "extra_tokens"), OF_TIMM)
def test_the_map_of_networks_of_timm_has_the_photos_shape(name, grid, extra_tokens, light):
    layer = assert_has_the_photos_shape(light(f"timm/{name}"), 112)
    assert (layer.grid, layer.extra_tokens) == (grid, extra_tokens)


@pytest.mark.parametrize("fused", [True, False])
def test_patches_that_nothing_reads_are_not_explained(fused):
    timm.layers.set_fused_attn(fused)  # else what every patch gives every other is a map, too
    try:
        torch.manual_seed(1)
        model = Geolocator("timm/test_vit", {"fine": 3}, weights="none").eval()
        layer = activation_maps.find_layer(model, 160)
    finally:
        timm.layers.set_fused_attn(True)
    last = len(model.backbone.blocks) - 1
    assert layer == Layer(f"blocks.{last}.norm1", (10, 10), 1, True)
    given = {}
    model.backbone.blocks[last].register_forward_hook(lambda module, args, output: given.update(block=output))
    logits = model(torch.rand(1, 3, 160, 160) * 255)["fine"]
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), given["block"])
    assert (gradient[:, 1:] == 0).all()


@pytest.mark.parametrize("architecture", ["resnet18", "shufflenet_v2_x0_5", "densenet121", "efficientnet_lite0"])
def test_where_a_network_pools_its_last_map_it_is_the_class_activation_map(architecture):
    torch.manual_seed(1)
    model = Geolocator(architecture, {"fine": 4}, weights="none").eval()
    photos = torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8)
    layer = activation_maps.find_layer(model, 96)
    given = {}
    module = model.backbone.get_submodule(layer.module)
    module.register_forward_hook(lambda module, args, output: given.update(map=output))
    with torch.no_grad():
        logits = model(photos)["fine"]
    weights, last = model.heads["fine"].weight.detach(), given["map"].relu()
    for score, weight in [
        (lambda outputs: outputs["fine"][:, 2], weights[2].expand(3, -1)),
        (lambda outputs: outputs["fine"].log_softmax(1)[:, 2], weights[2] - logits.softmax(1) @ weights),
    ]:
        expected = activation_maps.scaled(activation_maps.resized(torch.einsum("nc,nchw->nhw", weight, last), 96))
        found = activation_maps.evidence(model, layer, photos, score)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        alone = activation_maps.evidence(model, layer, photos[1:2], score)
        torch.testing.assert_close(alone[0], found[1], rtol=1e-3, atol=1e-4)


def scenes_with_a_sign(count, side, generator):
    """Noise with a sign in one quarter, red or blue, which is the class; and which quarter that is."""
    photos = torch.randint(90, 166, (count, 3, side, side), generator=generator)
    colour = torch.randint(2, (count,), generator=generator)
    quarter = torch.randint(4, (count,), generator=generator)
    size = side // 4
    for photo, blue, (down, across) in zip(photos, colour, zip(quarter // 2, quarter % 2, strict=True), strict=True):
        top, left = (int(half) * side // 2 + side // 8 for half in (down, across))
        photo[:, top : top + size, left : left + size] = 40
        photo[2 * int(blue), top : top + size, left : left + size] = 220
    return photos.to(torch.uint8), colour, quarter


def learned(model, parameters, steps, side, generator):
    """The model, trained to tell the colours of signs apart."""
    optimizer = torch.optim.AdamW(parameters, 2e-3)
    for _ in range(steps):
        photos, colour, _ = scenes_with_a_sign(32, side, generator)
        loss = functional.cross_entropy(model(photos)["fine"], colour)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def frozen_with_a_learned_head(side, generator):
    model = Geolocator("efficientnet_lite0", {"fine": 2}).eval()
    for weights in model.backbone.parameters():
        weights.requires_grad_(False)
    return learned(model, model.heads.parameters(), 12, side, generator)


def transformer(side, generator):
    model = Geolocator("timm/test_vit", {"fine": 2}, weights="none")
    return learned(model, model.parameters(), 50, side, generator)


@pytest.mark.parametrize("made", [frozen_with_a_learned_head, transformer])
def test_the_map_lies_where_the_only_thing_that_counts_is(made):
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(3)
    model = made(128, generator)
    photos, colour, quarter = scenes_with_a_sign(40, 128, generator)
    every = torch.arange(len(colour))
    with torch.no_grad():
        assert (model(photos)["fine"].argmax(1) == colour).float().mean() > 0.9
    layer = activation_maps.find_layer(model, 128)
    found = activation_maps.evidence(
        model, layer, photos, lambda outputs: outputs["fine"].log_softmax(1)[every, colour]
    )
    quarters = activation_maps.shown(found).unflatten(2, (2, -1)).unflatten(1, (2, -1)).sum(dim=(2, 4)).flatten(1)
    share = quarters[every, quarter] / quarters.sum(1)
    print(f"share of the maps in the quarter of the sign: {share.median():.2f} (a quarter by chance)")
    assert share.median() > 0.5
    assert (quarters.argmax(1) == quarter).float().mean() > 0.9


class Stub(nn.Module):
    """A network of our own in the form of a `Geolocator`."""

    architecture = "stub"

    def __init__(self, backbone, features):
        super().__init__()
        self.backbone, self.heads = backbone, nn.ModuleDict({"fine": nn.Linear(features, 2)})
        self.register_buffer("mean", torch.full((3, 1, 1), 127.0))

    def features(self, photos):
        return self.backbone((photos - self.mean) / 128)

    def forward(self, photos):
        return {"fine": self.heads["fine"](self.features(photos))}


class TwoBranches(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.other_patches = nn.Conv2d(3, 16, 8, 8), nn.Conv2d(3, 16, 8, 8)
        self.rgb = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.segments = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, photos):
        rgb, segments = (
            branch(patches(photos).flatten(2).mT).mean(1)
            for branch, patches in ((self.rgb, self.patches), (self.segments, self.other_patches))
        )
        return rgb + segments


def test_of_two_branches_the_one_that_is_named_is_explained():
    model = Stub(TwoBranches(), 16).eval()
    assert activation_maps.find_layer(model, 32).module.startswith("segments")
    layer = activation_maps.find_layer(model, 32, below="patches")
    assert layer == Layer("patches", (4, 4), None, False)


@pytest.mark.parametrize("backbone", [nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8), nn.ReLU())])
def test_a_network_that_does_not_say_where_anything_is_is_refused_by_name(backbone):
    with pytest.raises(
        ValueError, match=r"stub has no features or tokens that lie somewhere.*such as efficientnet_lite0"
    ):
        activation_maps.find_layer(Stub(backbone, 8), 32)


def test_a_map_of_a_single_place_is_none():
    backbone = nn.Sequential(nn.Conv2d(3, 8, 32, 32), nn.Flatten())
    with pytest.raises(ValueError, match="lie somewhere in a photo of 32 pixels"):
        activation_maps.find_layer(Stub(backbone, 8), 32)
    assert activation_maps.find_layer(Stub(nn.Sequential(*backbone, nn.Linear(32, 8)), 8), 64).grid == (2, 2)


def test_photos_of_another_size_than_the_layer_was_found_for_are_refused():
    model = Geolocator("shufflenet_v2_x0_5", {"fine": 2}, weights="none").eval()
    layer = activation_maps.find_layer(model, 64)
    with pytest.raises(ValueError, match=r"photos of 96 pixels have 9 positions in conv5 of shufflenet.*not 2 x 2"):
        activation_maps.evidence(model, layer, torch.zeros(1, 3, 96, 96, dtype=torch.uint8), first_output)
    assert torch.is_grad_enabled()
    assert not model.backbone.conv5._forward_hooks


def test_maps_show_what_speaks_for_an_answer_and_make_nothing_brighter_than_it_is():
    maps = torch.tensor([[[-1.0, 0.5], [0.25, 0.0]], [[-1.0, -0.5], [-0.1, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert activation_maps.shown(maps).tolist() == [[[0, 0.5], [0.25, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert activation_maps.scaled(4 * maps).tolist() == maps.tolist()
