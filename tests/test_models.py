import re
import sys
from urllib.error import URLError

import efficientnet_lite_pytorch
import pytest
import safetensors.torch
import timm
import torch
import torchvision.transforms.v2

from helpers import models
from helpers.models import Geolocator, WeightsError

PHOTOS = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("variant", ["lite0", "lite2"])
def test_efficientnet_lite_equals_the_package_that_its_weights_come_from(variant):
    ours = Geolocator(f"efficientnet_{variant}", {"fine": 3}).eval()
    weights = models._packaged_weights(f"efficientnet_{variant}")
    # Built for the size of our photos, because it fixes its padding by the size it is built for.
    theirs = efficientnet_lite_pytorch.EfficientNet.from_name(f"efficientnet-{variant}", image_size=224)
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    theirs.eval()
    with torch.inference_mode():
        expected = theirs.extract_features((PHOTOS - 127.0) / 128).mean((2, 3))
        torch.testing.assert_close(ours.features(PHOTOS), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v3_small", "swin_t"])
def test_a_torchvision_backbone_gives_what_its_classifier_is_fed(architecture):
    torch.manual_seed(1)
    model = Geolocator(architecture, {"coarse": 4, "fine": 6}, weights="none").eval()
    with torch.inference_mode():
        logits = model(PHOTOS)
        features = model.features(PHOTOS)
        again = model.classify(features)
    assert {name: scores.shape for name, scores in logits.items()} == {"coarse": (2, 4), "fine": (2, 6)}
    assert features.shape == (2, model.heads["fine"].in_features)
    torch.testing.assert_close(again["fine"], logits["fine"])


def test_photos_are_normalised_as_torchvision_does():
    model = Geolocator("resnet18", {"fine": 2}, weights="none")
    transform = torchvision.transforms.v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close((PHOTOS - model.mean) / model.std, transform(PHOTOS / 255), rtol=1e-4, atol=1e-5)


# Those that the published models were made with, and others whose layers are built in other ways.
REGISTRY = [
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large"),
    *("efficientnet_b1", "efficientnet_b3", "efficientnet_b4", "efficientnet_b7", "efficientnet_lite0"),
    *("convnext_tiny", "convnext_base", "swin_t", "swin_v2_b", "vit_b_16"),
    *("vgg11", "densenet121", "maxvit_t", "mnasnet0_5", "shufflenet_v2_x0_5", "alexnet"),
]


@pytest.mark.parametrize("architecture", REGISTRY)
def test_every_architecture_gives_features_and_heads(architecture):
    with torch.device("meta"):  # nothing is computed but shapes
        model = Geolocator(architecture, {"country": 5, "coordinates": 3}, weights="none").eval()
        photos = torch.zeros(2, 3, 224, 224, dtype=torch.uint8)
        assert model.features(photos).shape == (2, model.feature_count)
        shapes = {name: outputs.shape for name, outputs in model(photos).items()}
    assert shapes == {"country": (2, 5), "coordinates": (2, 3)}


@pytest.mark.parametrize("size", [224, 112])
@pytest.mark.parametrize(
    "architecture",
    [
        "timm/vit_small_patch14_dinov2.lvd142m",
        "timm/vit_base_patch16_siglip_384",
        "timm/eva02_tiny_patch14_224",
        "timm/swin_tiny_patch4_window7_224",
        "timm/convnext_tiny",
        "timm/mobilenetv3_large_100",
    ],
)
def test_a_network_of_timm_takes_photos_of_the_size_of_the_run(architecture, size):
    with torch.device("meta"):
        model = Geolocator(architecture, {"fine": 4}, weights="none").eval()
        photos = torch.zeros(2, 3, size, size, dtype=torch.uint8)
        assert model.features(photos).shape == (2, model.feature_count)
        assert model(photos)["fine"].shape == (2, 4)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "resnet10t"])
def test_a_network_of_timm_gives_what_its_classifier_is_fed(name):
    torch.manual_seed(2)
    model = Geolocator(f"timm/{name}", {"fine": 4}, weights="none").eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(model.backbone.state_dict())
    described = timm.data.resolve_model_data_config(theirs)
    transform = torchvision.transforms.v2.Normalize(described["mean"], described["std"])
    with torch.inference_mode():
        torch.testing.assert_close(model.features(PHOTOS), theirs(transform(PHOTOS / 255)), rtol=1e-3, atol=1e-4)
    assert (model.mean[0].item() == 127.5) == (name == "vit_tiny_patch16_224")


def test_an_architecture_that_does_not_exist_is_refused_with_the_nearest_name():
    for name, nearest in {
        "resnet-50": "resnet50",
        "ResNet18": "resnet18",
        "efficientnet_lite1": "efficientnet_lite2",
        "timm/vit_small_patch14_dinov2.lvd142": "timm/vit_small_patch14_dinov2.lvd142m",
        "timm/local-dir:/etc": "timm/",
        "": "",
    }.items():
        with pytest.raises(ValueError, match=f"no architecture '{name}': did you mean '{nearest}"):
            models.check_architecture(name)
    models.check_architecture("timm/vit_small_patch14_dinov2")
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        Geolocator("resnet17", {})


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=re.escape('pip install -e ".[timm]"')):
        models.check_architecture("timm/resnet18")
    models.check_architecture("resnet18")


def test_weights_that_cannot_be_downloaded_name_the_way_out(monkeypatch):
    def unreachable(*_, **__):
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
    for architecture in ("resnet18", "timm/resnet10t"):
        with pytest.raises(WeightsError, match=r"no route to host.*Give a local file.*efficientnet_lite0"):
            Geolocator(architecture, {})
    with pytest.raises(WeightsError, match="No pretrained weights exist"):
        Geolocator("timm/efficientnet_b8", {})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_local_file(tmp_path, suffix):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    file = tmp_path / f"weights{suffix}"
    torch.save(network.state_dict(), file) if suffix == ".pth" else safetensors.torch.save_model(network, str(file))
    model = Geolocator("resnet18", {"fine": 2}, weights=str(file), allow_pickle=suffix == ".pth")
    torch.testing.assert_close(model.backbone.conv1.weight, network.conv1.weight)
    models.take_heads(model, str(file), {"fine": "a"})  # it has none


def test_weights_of_timm_come_from_a_local_file(tmp_path):
    torch.manual_seed(1)
    network = timm.create_model("test_vit")
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), file)
    model = Geolocator("timm/test_vit", {"fine": 2}, weights=str(file))
    torch.testing.assert_close(model.backbone.pos_embed, network.pos_embed)
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        Geolocator("timm/test_resnet", {"fine": 2}, weights=str(file))
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), file)
    with pytest.raises(WeightsError, match="do not fit the architecture"):
        Geolocator("timm/test_vit", {"fine": 2}, weights=str(file))


def test_weights_that_are_not_there_or_do_not_fit_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="is no file"):
        Geolocator("resnet18", {"fine": 2}, weights="here.safetensors")
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file(torchvision.models.resnet50(weights=None).state_dict(), other)
    with pytest.raises(WeightsError) as refused:
        Geolocator("resnet18", {"fine": 2}, weights=str(other))
    assert str(refused.value) == (
        f"the weights of {other} do not fit the architecture: 222 tensors differ, such as "
        "layer1.0.conv1.weight is (64, 64, 1, 1), not (64, 64, 3, 3); "
        "layer1.1.conv1.weight is (64, 256, 1, 1), not (64, 64, 3, 3); "
        "layer2.0.conv1.weight is (128, 256, 1, 1), not (128, 64, 3, 3). "
        "Choose the architecture that they are of, or other weights"
    )


def test_a_pickle_is_refused_unless_asked_for(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    with pytest.raises(WeightsError, match=r"take the weights as \.safetensors, or set allow_pickle"):
        Geolocator("resnet18", {"fine": 2}, weights=str(file))
    for damaged in (b"", file.read_bytes()[:-1000], b"no pickle at all", b"\x80\x02N."):
        file.write_bytes(damaged)
        with pytest.raises(WeightsError, match=re.escape(str(file))):
            Geolocator("resnet18", {"fine": 2}, weights=str(file), allow_pickle=True)


def test_a_checkpoint_is_read_as_the_state_dict_in_it_without_the_prefix_of_several_gpus(tmp_path):
    wanted = {"fc.weight": torch.arange(3.0), "module.bias": torch.ones(2)}
    prefixed = {f"module.{name}": tensor for name, tensor in wanted.items()}
    torch.save({"epoch": 90, "state_dict": prefixed}, tmp_path / "checkpoint.pth.tar")
    torch.save(prefixed, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(wanted, tmp_path / "weights.safetensors")
    for name in ("checkpoint.pth.tar", "old.pth", "weights.safetensors"):
        found = models.read_tensors(tmp_path / name, allow_pickle=name != "weights.safetensors")
        assert list(found) == list(wanted)
        assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize("held", [[1], {"state_dict": [1]}, {"weight": 1.0}, {"state_dict": {"weight": 1.0}}])
def test_a_pickle_of_anything_but_a_state_dict_is_refused(tmp_path, held):
    torch.save(held, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"weights\.pth holds no state dict.*save it as \.safetensors"):
        models.read_tensors(tmp_path / "weights.pth", allow_pickle=True)


def test_a_pickle_that_holds_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(WeightsError, match=r"trap\.pth cannot be read"):
        Geolocator("resnet18", {"fine": 2}, weights=str(tmp_path / "trap.pth"), allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


HEADS = {"coarse": 3, "fine": 5}
CLASSES = {"coarse": "c" * 64, "fine": "f" * 64}


def tiny(heads=HEADS, architecture="shufflenet_v2_x0_5", weights="none", seed=1):
    torch.manual_seed(seed)
    return Geolocator(architecture, heads, weights)


@pytest.fixture
def run_file(tmp_path):
    models.save(tiny(), tmp_path / "model.safetensors", CLASSES)
    return tmp_path / "model.safetensors"


def test_what_is_saved_is_restored_to_the_bit(tmp_path, run_file):
    model = tiny(seed=2).to(memory_format=torch.channels_last)
    models.restore(model, run_file, CLASSES)
    for name, tensor in tiny().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    models.save(model, tmp_path / "again.safetensors", CLASSES)
    assert (tmp_path / "again.safetensors").read_bytes() == run_file.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["again.safetensors", "model.safetensors"]


def test_a_network_whose_layout_has_a_number_is_restored_and_gone_on_from(tmp_path):
    file = tmp_path / "model.safetensors"
    models.save(tiny(architecture="mnasnet0_5"), file, CLASSES)
    restored = tiny(architecture="mnasnet0_5", seed=2)
    models.restore(restored, file, CLASSES)
    again = tiny(architecture="mnasnet0_5", weights=str(file), seed=2)
    for name, tensor in tiny(architecture="mnasnet0_5").backbone.state_dict().items():
        assert torch.equal(restored.backbone.state_dict()[name], tensor), name
        assert torch.equal(again.backbone.state_dict()[name], tensor), name


def test_a_model_of_another_run_is_refused_and_every_difference_is_said(run_file):
    cases = [
        (tiny(architecture="mnasnet0_5"), CLASSES, "it holds a shufflenet_v2_x0_5, not a mnasnet0_5"),
        (tiny({"coarse": 3, "fine": 6}), CLASSES, "its head 'fine' has 5 outputs, not 6"),
        (tiny({**HEADS, "scene": 3}), {**CLASSES, "scene": "s"}, "it has no head 'scene'"),
        (tiny({"fine": 5}), CLASSES, "it has a head 'coarse' too many"),
        (
            tiny(),
            {**CLASSES, "fine": "0" * 64},
            "its head 'fine' has other classes, though as many (fingerprint ffffffffffff, not 000000000000)",
        ),
        (
            tiny({"coarse": 4, "fine": 5}),
            {**CLASSES, "fine": "0" * 64},
            "its head 'coarse' has 3 outputs, not 4; its head 'fine' has other classes, though as many "
            "(fingerprint ffffffffffff, not 000000000000)",
        ),
    ]
    for model, classes, difference in cases:
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(WeightsError) as refused:
            models.restore(model, run_file, classes)
        assert str(refused.value) == (
            f"{run_file} is of another run: {difference}. Put the files of one run together again, "
            "or train it anew with 04_training/train.ipynb"
        )
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_file_that_does_not_say_what_it_is_of_is_refused(tmp_path):
    file = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file(tiny().state_dict(), file)
    with pytest.raises(WeightsError, match="it does not say what its weights are of"):
        models.restore(tiny(seed=2), file, CLASSES)


def header(text):
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:100],
        lambda data: b"",
        lambda data: b"no safetensors",
        lambda data: (1 << 62).to_bytes(8, "little") + data[8:],
        lambda data: header(b'{"__metadata__": {"geolocator": "no JSON"}}'),
        lambda data: header(b'{"__metadata__": {"geolocator": "[]"}}'),
        lambda data: header(b'{"__metadata__": {"geolocator": "{\\"version\\": 1, \\"heads\\": {\\"a\\": 3}}"}}'),
        lambda data: header(b'{"__metadata__": {"geolocator": "' + b"[" * 100_000 + b'"}}'),
        lambda data: data.replace(b'version\\": 1', b'version\\": 7'),
        lambda data: header(b"{}"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(run_file, damage):
    run_file.write_bytes(damage(run_file.read_bytes()))
    with pytest.raises(WeightsError, match=re.escape(str(run_file))):
        models.restore(tiny(), run_file, CLASSES)
    with pytest.raises(WeightsError, match=re.escape(str(run_file))):
        tiny(weights=str(run_file))


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.safetensors cannot be read"):
        models.restore(tiny(), tmp_path / "gone.safetensors", CLASSES)


def test_a_run_goes_on_from_another_with_its_backbone_and_the_heads_of_the_same_classes(run_file, capsys):
    heads = {"coarse": 3, "middle": 4, "fine": 5}
    classes = {"coarse": CLASSES["coarse"], "middle": "m" * 64, "fine": "0" * 64}
    earlier, model, fresh = tiny(), tiny(heads, weights=str(run_file), seed=2), tiny(heads, seed=2)
    for name, tensor in earlier.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    before = {name: head.weight.clone() for name, head in model.heads.items()}
    models.take_heads(model, str(run_file), classes)
    assert torch.equal(model.heads["coarse"].weight, earlier.heads["coarse"].weight)
    assert not torch.equal(before["coarse"], earlier.heads["coarse"].weight)
    assert all(torch.equal(model.heads[name].weight, before[name]) for name in ("middle", "fine"))
    assert capsys.readouterr().out.splitlines() == [
        f"head 'coarse' goes on from {run_file}",
        f"head 'middle' starts anew: {run_file}: it has no head 'middle'",
        f"head 'fine' starts anew: {run_file}: its head 'fine' has other classes, though as many "
        "(fingerprint ffffffffffff, not 000000000000)",
    ]
    models.take_heads(fresh, "none", classes)
    models.take_heads(fresh, "default", classes)
    assert capsys.readouterr().out == ""


def test_a_run_of_another_architecture_gives_no_weights(run_file):
    with pytest.raises(WeightsError, match=r"holds a shufflenet_v2_x0_5, not a resnet18: set architecture to"):
        tiny(architecture="resnet18", weights=str(run_file))


def test_a_run_with_a_network_of_timm_is_saved_and_gone_on_from(tmp_path):
    file = tmp_path / "model.safetensors"
    model = tiny(architecture="timm/test_vit")
    models.save(model, file, CLASSES)
    again = tiny(architecture="timm/test_vit", weights=str(file), seed=2).eval()
    with torch.inference_mode():
        photos = PHOTOS[..., :96, :96]  # not the size that it was built for
        assert torch.equal(again.features(photos), model.eval().features(photos))
