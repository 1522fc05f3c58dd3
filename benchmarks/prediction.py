"""Placing photos in batches, beside a loop over single photos as one would write it.

``python -m benchmarks prediction`` prints the lines. The loop opens a photo with Pillow, shrinks it, cuts five crops,
normalises them, asks the network in float32, takes the largest probability over the crops and multiplies the levels of
the hierarchy; it names a coordinate and nothing more. Ours gives the whole table: radii, likeliest places, their
countries. Both place the same photos in one process, in turn, on all cores.

The last lines compare a search among training photos with the same network's answer by its classes alone, in turn too.
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.inputs import mosaic
from benchmarks.photos import made_up
from helpers import (
    cells,
    gallery,
    given_photos,
    inference,
    models,
    placing,
    predict,
    scene_classifier,
    search,
    targets,
)

SMALL, LARGE = "500 x 375 px", "2000 x 1500 px"
LARGE_PHOTOS = 64
SETUPS = (("efficientnet_lite0", 112), ("efficientnet_lite0", 224), ("resnet50", 224), ("vit_b_16", 224))
PHOTOS = {"efficientnet_lite0": 192, "resnet50": 64, "vit_b_16": 48}
LOOPED = {"efficientnet_lite0": 24, "resnet50": 8, "vit_b_16": 5}
"""Photos that the loop places: the same each time, for it takes long."""
GALLERIES = ((112, 2_300), (112, gallery.MOST_PHOTOS), (224, 2_300))
"""Pixels, and training photos that are searched among."""
REPEATS = 5
GOAL = "ratio >= 3"
CPU = torch.device("cpu")


def rows() -> Iterator[dict[str, Any]]:
    """Measure: some minutes."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = (Path(folder) / name for name in ("small", "large"))
        for place, made in ((small, made_up), (large, mosaic)):
            place.mkdir()
            for number in range(max(PHOTOS.values()) if place == small else LARGE_PHOTOS):
                (place / f"{number:03d}.jpg").write_bytes(made(number))
        for architecture, size in SETUPS:
            yield _measured(architecture, size, small, SMALL)
        yield _measured(*SETUPS[0], large, LARGE)
        yield _measured(*SETUPS[0], small, SMALL, with_scenes=True)
        for size, kept in GALLERIES:
            yield _searched("efficientnet_lite0", size, kept, small)


def _measured(
    architecture: str, image_size: int, folder: Path, photo_size: str, with_scenes: bool = False
) -> dict[str, Any]:
    model, placer = placer_of(architecture, image_size, with_scenes)
    given = given_photos.find(sorted(folder.iterdir())[: PHOTOS[architecture]])
    names = [folder / Path(name).name for name in given.names()][: LOOPED[architecture]]
    loop = Loop(model, image_size, scene_classifier.load() if with_scenes else None)
    ours, looped = [], []
    for repeat in range(-1, REPEATS):  # the first does not count
        rates = len(given.names()) / seconds(lambda: placer(given)), len(names) / seconds(lambda: loop(names))
        if repeat >= 0:
            ours.append(rates[0])
            looped.append(rates[1])
    dtype = dtype_of(placer)
    scenes = " and its scene" if with_scenes else ""
    return {
        "benchmark": f"place of a photo{scenes}, reference: single photos, float32",
        "size": f"{architecture} at {image_size} px in {dtype}, {len(given.names())} JPEGs of {photo_size}",
        "ours": median(ours),
        "reference": median(looped),
        "unit": "photos/s",
        "ratio": median(rate / usual for rate, usual in zip(ours, looped, strict=True)),
        "goal": GOAL,
    }


def placer_of(architecture: str, image_size: int, with_scenes: bool) -> tuple[models.Geolocator, placing.Placer]:
    """A network that knows nothing, and what places photos with it."""
    model = models.Geolocator(architecture, {name: len(each) for name, each in _classes().items()}, weights="none")
    model = model.eval()
    settings = {"image_size": image_size, "precision": "auto", "train_layers": "all"}
    network = predict.Network(settings, model, CPU)
    run = predict.Run((network,), _classes(), _learned_from())
    quick = inference.Quick(model, image_size, "auto", CPU)
    classifier = placing.quick_classifier(CPU, "auto") if with_scenes else None
    return model, placing.Placer({"all": run}, {id(network): quick}, classifier, "")


def _searched(architecture: str, image_size: int, kept: int, folder: Path) -> dict[str, Any]:
    given = given_photos.find(sorted(folder.iterdir())[: PHOTOS[architecture]])
    _, plain = placer_of(architecture, image_size, with_scenes=False)
    searching = _with_gallery(plain, architecture, image_size, kept)
    ours, reference = [], []
    for repeat in range(-1, REPEATS):  # the first does not count
        times = seconds(lambda: searching(given)), seconds(lambda: plain(given))
        if repeat >= 0:
            ours.append(times[0] / len(given.names()))
            reference.append(times[1] / len(given.names()))
    return {
        "benchmark": f"search among {kept:,} training photos, reference: the same network's classes alone",
        "size": f"{architecture} at {image_size} px in {dtype_of(plain)}, {len(given.names())} JPEGs of {SMALL}",
        "ours": 1000 * median(ours),
        "reference": 1000 * median(reference),
        "unit": "ms a photo",
        "ratio": median(ours / usual for ours, usual in zip(ours, reference, strict=True)),
        "goal": "ratio <= 3",
    }


def _with_gallery(plain: placing.Placer, architecture: str, image_size: int, kept: int) -> placing.Placer:
    """The same network with a head to search by, and photos to search among."""
    run = plain.runs["all"]
    generator = np.random.default_rng(1)
    fine = run.classes["fine"]
    learned = run.training_places.to_numpy()
    labels = targets.labels(fine, *learned.T)
    drawn = generator.choice(np.flatnonzero(labels >= 0), kept)
    keys = torch.nn.functional.normalize(torch.randn(kept, gallery.DIRECTIONS), dim=1)
    near = learned[drawn] + generator.uniform(-0.05, 0.05, (kept, 2)).round(2)
    found = search.Search(gallery.Gallery(keys, near, labels[drawn], *search.USUAL), len(fine), CPU)
    model = run.networks[0].model
    heads = {name: len(each) for name, each in run.classes.items()} | {models.SEARCH: gallery.DIRECTIONS}
    wider = models.Geolocator(architecture, heads, weights="none").eval()
    wider.backbone = model.backbone
    network = dataclasses.replace(run.networks[0], model=wider)
    torch.nn.init.normal_(wider.heads[models.SEARCH].weight)
    searching = dataclasses.replace(run, networks=(network,), searching=found)
    quick = inference.Quick(wider, image_size, "auto", CPU)
    return placing.Placer({"all": searching}, {id(network): quick}, None, "")


def dtype_of(placer: placing.Placer) -> str:
    """Number format that it computes in."""
    return str(next(iter(placer.networks.values())).dtype).removeprefix("torch.")


@dataclasses.dataclass
class Loop:
    """One photo after the other, plainly."""

    model: models.Geolocator
    image_size: int
    scenes: scene_classifier.Classifier | None

    def __post_init__(self) -> None:
        self.model = self.model.to(memory_format=torch.contiguous_format)
        mean, std = self.model.mean.flatten() / 255, self.model.std.flatten() / 255
        self.prepare = transforms.Compose(
            [
                transforms.Resize(round(self.image_size * 256 / 224)),
                transforms.FiveCrop(self.image_size),
                transforms.Lambda(lambda crops: torch.stack([transforms.functional.to_tensor(crop) for crop in crops])),
                transforms.Normalize(mean, std),
            ]
        )
        coarse, middle, fine = _classes().values()
        self.coarser = [torch.from_numpy(each) for each in cells.hierarchy(fine, coarse, middle)]
        self.coordinates = fine.coordinates

    @torch.no_grad()
    def __call__(self, files: Sequence[Path]) -> np.ndarray:
        return np.array([self._place(file) for file in files])

    def _place(self, file: Path) -> np.ndarray:
        photo = Image.open(file).convert("RGB")
        logits = self.model.classify(self.model.backbone(self.prepare(photo)))
        of_coarse, of_middle, of_fine = (_together(logits[name]) for name in ("coarse", "middle", "fine"))
        product = of_fine * of_coarse[self.coarser[0]] * of_middle[self.coarser[1]]
        if self.scenes:
            whole = transforms.functional.pil_to_tensor(photo.resize((scene_classifier.IMAGE_SIZE,) * 2))
            self.scenes.network(whole[None]).argmax()
        return self.coordinates[int(product.argmax())]


def _together(logits: Tensor) -> Tensor:
    shares = logits.softmax(dim=1).amax(dim=0)
    return shares / shares.sum()


def _learned_from() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    towns = generator.uniform([-50, -170], [60, 170], (300, 2))
    place = towns[generator.integers(300, size=10_000)] + generator.normal(0, 1, (10_000, 2))
    return pd.DataFrame(place, columns=["latitude", "longitude"])


def _classes() -> dict[str, cells.Partition]:
    limits = {"coarse": 500, "middle": 200, "fine": 100}
    return cells.build_all(*_learned_from().to_numpy().T, min_photos=10, max_photos=limits)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
