import pickle

import efficientnet_lite_pytorch
import pytest
import safetensors.torch
import torch
import torchvision.transforms.v2
from torch import nn

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


@pytest.mark.parametrize("architecture", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "vit_b_16", "swin_t"])
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


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_come_from_a_local_file(tmp_path, suffix):
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None)
    file = tmp_path / f"weights{suffix}"
    torch.save(network.state_dict(), file) if suffix == ".pth" else safetensors.torch.save_model(network, str(file))
    network.fc = nn.Identity()
    model = Geolocator("resnet18", {"fine": 2}, weights=str(file))
    torch.testing.assert_close(model.backbone.conv1.weight, network.conv1.weight)


def test_weights_that_are_not_there_or_do_not_fit_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="is no file"):
        Geolocator("resnet18", {"fine": 2}, weights="here.pth")
    other = tmp_path / "other.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), other)
    with pytest.raises(WeightsError, match="do not fit"):
        Geolocator("resnet18", {"fine": 2}, weights=str(other))


def test_a_pickle_that_holds_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises((WeightsError, pickle.UnpicklingError)):
        Geolocator("resnet18", {"fine": 2}, weights=str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()
