"""From photos to scenes.

The embedded classifier is a linear head on the ImageNet features of two packaged networks, see ``scene_head``; it
knows the three scenes of S3. A ResNet trained on Places365 knows 365 categories, which :mod:`helpers.scene_hierarchy`
sums up to S16 and S3.
"""

import difflib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import safetensors
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from helpers import devices, inputs, manifests, models, paths, photo_stores, photos, progress, scene_hierarchy, web
from helpers.models import Geolocator, WeightsError
from helpers.scenes import COLUMNS, SCENES

EMBEDDED = "embedded"
_ADDRESS = "http://places2.csail.mit.edu/models_places365"  # the only public one, which has no https
DOWNLOADS = {name: f"{_ADDRESS}/{name}.pth.tar" for name in ("resnet18_places365", "resnet50_places365")}
"""Checkpoints that the Places365 project publishes, and where."""
CLASSIFIERS = (EMBEDDED, *DOWNLOADS)

EMBEDDED_ARCHITECTURES = ("efficientnet_lite0", "efficientnet_lite2")
VIEWS = ("whole", "centre")
"""``whole``: the photo squeezed into a square, so that nothing is cut off; ``centre``: its central crop."""
IMAGE_SIZE = 224
HEAD = Path(__file__).resolve().parent / "scene_head" / "head.safetensors"
METADATA = "scene_head"
"""Entry of the metadata of :data:`HEAD` that says what the head is given, as JSON."""
_CATEGORIES = 365
_MAX_BYTES = 1 << 30  # of a checkpoint


class SceneNetwork(nn.Module):
    """A linear head on the features of one or more backbones, side by side.

    Parameters
    ----------
    architectures : sequence of str
        Of the backbones, see :class:`helpers.models.Geolocator`.
    weights : str
        Of the backbones: ``default`` or ``none``.
    features, outputs : int
        Of the head.
    square_root : bool
        Whether the head takes the square roots of the features.
    """

    def __init__(
        self, architectures: Sequence[str], weights: str, features: int, outputs: int, square_root: bool = False
    ) -> None:
        super().__init__()
        self.backbones = nn.ModuleList([Geolocator(name, {}, weights) for name in architectures])
        self.square_root = square_root
        self.head = nn.Linear(features, outputs)

    def forward(self, views: Tensor) -> Tensor:
        """Scores of uint8 views (n, 3, size, size), of shape (n, outputs)."""
        features = torch.cat([cast(Geolocator, each).features(views) for each in self.backbones], dim=1)
        scores: Tensor = self.head(square_rooted(features) if self.square_root else features)
        return scores


@dataclass(frozen=True)
class Classifier:
    """A network that knows scenes."""

    network: SceneNetwork
    view: str
    """What it is shown of a photo, one of :data:`VIEWS`."""
    files: dict[str, Path]
    """What it was read from, for a manifest."""
    device: torch.device
    precision: str = "auto"


def square_rooted(features: Tensor) -> Tensor:
    """Square roots of features, which are never negative: a few strong ones then do not drown the others.

    Examples
    --------
    >>> square_rooted(torch.tensor([0.0, 0.25, 4.0]))
    tensor([0.0000, 0.5000, 2.0000])
    """
    return features.clamp_min(0).sqrt()


def check(classifier: str, sha256: str, known: bool) -> None:
    """Refuse a classifier that there is not; say so where one is named and none is needed.

    Parameters
    ----------
    classifier, sha256 : str
        As for :func:`load`.
    known : bool
        Whether the scenes are known without it, :func:`helpers.scenes.are_known`.

    Raises
    ------
    WeightsError
        If there is no such classifier.
    """
    if classifier not in CLASSIFIERS:
        _local(classifier)
    if known and (classifier != EMBEDDED or sha256):
        print("classifier and sha256 are not used: the scenes of these photos are known without them")


def load(classifier: str = EMBEDDED, sha256: str = "", allow_pickle: bool = False) -> Classifier:
    """Read a classifier, fetching it where it is a published one that is not here yet.

    Parameters
    ----------
    classifier : str
        One of :data:`CLASSIFIERS`, or the path of a Places365 checkpoint of a ResNet of torchvision.
    sha256 : str
        What the bytes of the checkpoint must hash to. A published one is not used without.
    allow_pickle : bool
        Whether a local file may be a pickle (``.pth``, ``.pth.tar``), of which nothing but tensors is read.

    Raises
    ------
    WeightsError
        If there is no such classifier, or its file cannot be had or is not what it should be.
    """
    if classifier == EMBEDDED:
        if sha256:
            raise WeightsError("sha256 is that of a checkpoint: leave it empty for the embedded classifier")
        return _ready(*_embedded_network(), {"scene head": HEAD})
    if classifier in DOWNLOADS:
        file, allow_pickle = downloaded(DOWNLOADS[classifier], sha256), True  # its digest was compared
    else:
        file = _local(classifier)
        if sha256:
            _compare(file, sha256, str(file))
    network = places365_network(models.read_tensors(file, allow_pickle), file)
    return _ready(network, "centre", {"scene classifier": file})


@torch.inference_mode()
def classify(
    rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, classifier: Classifier, batch_size: int = 64
) -> pd.DataFrame:
    """Scenes of the photos of a list.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list; ``id`` and ``path`` are read.
    photo_root : Path
        What the paths are relative to.
    classifier : Classifier
        From :func:`load`.
    batch_size : int
        Photos per batch.

    Returns
    -------
    DataFrame
        :data:`helpers.scenes.COLUMNS`, a row for each photo in the order of `rows`. ``s16`` and ``s365`` are known to
        Places365 classifiers only. A photo that cannot be decoded has missing values.
    """
    if rows.empty:
        raise ValueError("no photo to classify: the list is empty")
    probabilities, sound = [], []
    for views, decoded in sound_batches(rows, photo_root, classifier.view, batch_size, "classifying"):
        with devices.autocast(classifier.device, classifier.network, classifier.precision):
            scores = classifier.network(views.to(classifier.device, non_blocking=True))
        probabilities.append(scores.float().softmax(dim=1).cpu().double())
        sound.append(decoded)
    return table(rows["id"], torch.cat(probabilities).numpy(), torch.cat(sound).numpy())


def sound_batches(
    rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, view: str, batch_size: int, label: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Views of photos in batches, uint8 of shape (n, 3, size, size), and whether each photo could be decoded."""
    batches = inputs.batches(_SoundViews(rows, photo_root, view), range(len(rows)), batch_size)
    total = -(-len(rows) // batch_size)
    yield from progress.track(batches, label, total, unit=f"batches of {batch_size} photos")


def table(ids: pd.Series, probabilities: NDArray[np.float64], sound: NDArray[np.bool_]) -> pd.DataFrame:
    """Scenes of photos from the probabilities of the three scenes, or of the 365 categories.

    Parameters
    ----------
    ids : Series of str
    probabilities : ndarray of float64, shape (n, 3) or (n, 365)
    sound : ndarray of bool, shape (n,)
        Whether each photo could be decoded; missing values where not.
    """
    levels = scene_hierarchy.aggregated(probabilities) if probabilities.shape[1] == _CATEGORIES else None
    p_scene = levels.s3 if levels else probabilities
    scenes = pd.DataFrame(p_scene, columns=[f"p_{scene}" for scene in SCENES])
    scenes.insert(0, "scene", np.array(SCENES)[p_scene.argmax(axis=1)])
    for name in ("s16", "s365"):
        numbers = getattr(levels, name).argmax(axis=1) if levels else pd.NA
        scenes[name] = pd.Series(numbers, index=scenes.index, dtype="Int64")
    scenes = scenes.where(pd.Series(sound))
    scenes.insert(0, "id", ids.to_numpy())
    return scenes[list(COLUMNS)]


class _SoundViews(Dataset[tuple[Tensor, Tensor]]):
    """A view of each photo, and whether the photo could be decoded."""

    def __init__(self, rows: pd.DataFrame, photo_root: photo_stores.PhotoRoot, view: str) -> None:
        self.centres = inputs.PhotoViews(rows, photo_root, IMAGE_SIZE, view="centre")
        self.whole = view == "whole"

    def __len__(self) -> int:
        return len(self.centres)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        try:
            view = self._squeezed(index) if self.whole else self.centres[index]
        except photos.PhotoError:
            return torch.zeros(3, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.uint8), torch.tensor(False)
        return view, torch.tensor(True)

    def _squeezed(self, index: int) -> Tensor:
        path = self.centres.paths[index]
        photo = inputs.decode(photos.read_bytes(self.centres.store, path), path, IMAGE_SIZE)
        return functional.resize(photo, [IMAGE_SIZE, IMAGE_SIZE], antialias=True)


def _embedded_network() -> tuple[SceneNetwork, str]:
    """The packaged networks with the head that ``scene_head/make.py`` trained, and the view that they are shown."""
    with safetensors.safe_open(HEAD, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in ("weight", "bias")}
        described = json.loads(file.metadata()[METADATA])
    outputs, features = tensors["weight"].shape
    network = SceneNetwork(EMBEDDED_ARCHITECTURES, "default", features, outputs, described["square_root"])
    network.head.load_state_dict(tensors)
    return network, described["view"]


def places365_network(tensors: Mapping[str, Tensor], file: Path) -> SceneNetwork:
    """Network of a Places365 checkpoint, whose architecture its tensors tell.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        State dict of a ResNet of torchvision with 365 outputs.
    file : Path
        What errors call it.

    Raises
    ------
    WeightsError
        If the tensors are those of no such network; says what differs.
    """
    shape = _shapes(tensors).get("fc.weight", (_CATEGORIES,))
    if shape[:1] != (_CATEGORIES,):
        raise WeightsError(
            f"{file} is no Places365 classifier: its last layer, fc.weight, is {shape}, and should have {_CATEGORIES} "
            "outputs. Give a checkpoint that was trained on Places365"
        )
    architecture = _architecture(tensors, file)
    network = SceneNetwork([architecture], "none", tensors["fc.weight"].shape[1], _CATEGORIES)
    names = {"fc.weight": "head.weight", "fc.bias": "head.bias"}
    network.load_state_dict({names.get(name, f"backbones.0.backbone.{name}"): given for name, given in tensors.items()})
    return network


def downloaded(address: str, sha256: str) -> Path:
    """File of a published checkpoint with the digest that the caller names, fetched unless it is here.

    Raises
    ------
    WeightsError
        If it cannot be fetched, or has another digest, or none was named. It is not kept then.
    """
    file = paths.scene_weights() / address.rpartition("/")[2]
    if file.exists():
        _compare(file, sha256, f"{file}, from {address},")
        return file
    print(f"fetching {address}", flush=True)
    with paths.replacing(file) as temporary:
        web.run_async(_fetch(address, temporary))
        _compare(temporary, sha256, f"the file at {address}")
    return file


async def _fetch(address: str, file: Path) -> None:
    local = web.is_private(str(web.parsed(address).host))
    try:
        async with web.Client(local=local) as client:
            await web.fetch_file(client, address, file, _MAX_BYTES)
    except web.Unfetched as error:
        raise WeightsError(
            f"{address} could not be fetched ({error}): try again, or fetch it yourself and give the file as classifier"
        ) from None


def _compare(file: Path, sha256: str, called: str) -> None:
    found = manifests.fingerprint(file)
    if not sha256:
        raise WeightsError(
            f"{called} has the SHA-256 {found}. No digest of it is published, and it comes over plain http: compare "
            f"this one with that of somebody you trust, and if they agree use it with -p sha256 {found}"
        )
    if found != sha256.lower():
        raise WeightsError(
            f"{called} has the SHA-256 {found}, not {sha256} as sha256 says: it is another file, or was changed. "
            "Do not use it before you know why"
        )


def _local(classifier: str) -> Path:
    file = Path(classifier).expanduser()
    if not file.is_file():
        near = difflib.get_close_matches(classifier, CLASSIFIERS, n=1)
        raise WeightsError(
            f"classifier {classifier!r} is no file{f'. Did you mean {near[0]!r}?' if near else '.'} "
            f"It takes: {', '.join(CLASSIFIERS)}, or the path of a Places365 checkpoint"
        )
    return file


def _architecture(tensors: Mapping[str, Tensor], file: Path) -> str:
    """The ResNet of torchvision whose tensors have these names and shapes."""
    given = _shapes(tensors)
    differing = {name: sorted(given.items() ^ shapes.items()) for name, shapes in _resnets().items()}
    nearest = min(differing, key=lambda name: len(differing[name]))
    if differing[nearest]:
        name = differing[nearest][0][0]
        here, there = given.get(name, "absent"), _resnets()[nearest].get(name, "absent")
        raise WeightsError(
            f"{file} is no ResNet of torchvision. The nearest is {nearest}, from which it differs in "
            f"{len({name for name, _ in differing[nearest]})} tensors, such as {name}: {here} here, {there} there. "
            "Give a checkpoint of one of: " + ", ".join(differing)
        )
    return nearest


@functools.cache
def _resnets() -> dict[str, dict[str, tuple[int, ...]]]:
    names = torchvision.models.list_models(torchvision.models, include=["resnet*", "resnext*", "wide_resnet*"])
    with torch.device("meta"):
        return {
            name: _shapes(torchvision.models.get_model(name, weights=None, num_classes=_CATEGORIES).state_dict())
            for name in names
        }


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    # Checkpoints from before torch 0.4.1 do not count batches.
    return {name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def _ready(network: SceneNetwork, view: str, files: dict[str, Path]) -> Classifier:
    device = devices.best_device()
    return Classifier(network.to(device).to(memory_format=torch.channels_last).eval(), view, files, device)
