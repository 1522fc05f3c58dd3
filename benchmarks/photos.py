"""From a JPEG of 500 px to the 224 px crop that a network takes, timed beside Pillow with float transforms.

``python -m benchmarks photos`` prints one line. The photos are made up, smooth shades under finer ones, which compress
about as photos do. Ours ends at uint8, since the device normalises; the reference is the usual chain of torchvision
transforms on Pillow images. Both run on one core, in turn, in the same process.
"""

import io
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.v2 import functional

from helpers import photos

PHOTOS = 100
REPEATS = 7
GOAL = "ratio >= 2"
MAX_DIFFERENCE = 0.05  # of 255, on average over pixels

REFERENCE = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)


def main() -> None:
    """Print the figure."""
    for row in rows():
        print(row)


def rows() -> list[dict[str, Any]]:
    """Measure: about ten seconds.

    Raises
    ------
    RuntimeError
        If the two ways differ by more than `MAX_DIFFERENCE`.
    """
    files = [made_up(seed) for seed in range(PHOTOS)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        difference = np.mean([_difference(file) for file in files])
        if difference > MAX_DIFFERENCE:
            raise RuntimeError(f"pixels differ by {difference:.3f}/255 from the reference, {MAX_DIFFERENCE} is allowed")
        # In turn, so that what else the machine does meets both alike.
        seconds = [(_seconds(ours, files), _seconds(reference, files)) for _ in range(REPEATS)]
    finally:
        torch.set_num_threads(threads)
    our_rate, reference_rate = (PHOTOS / median(column) for column in zip(*seconds, strict=True))
    return [
        {
            "benchmark": "JPEG to 224 px, one core",
            "size": f"{PHOTOS} photos of 500 x 375 px, {np.mean([len(file) for file in files]) / 1024:.0f} KiB each",
            "ours": our_rate,
            "reference": reference_rate,
            "unit": "photos/s",
            "ratio": median(reference / ours for ours, reference in seconds),
            "goal": GOAL,
        }
    ]


def ours(file: bytes) -> Tensor:
    """Decoded, resized and cropped to uint8, with `helpers.photos`."""
    return functional.center_crop(photos.resize(photos.decode(file, "made up"), 256), [224])


def reference(file: bytes) -> Tensor:
    """The usual chain: Pillow, then torchvision transforms that end in floats."""
    return REFERENCE(Image.open(io.BytesIO(file)).convert("RGB"))


def made_up(seed: int) -> bytes:
    """A JPEG of 500 x 375 px, smooth with texture."""
    generator = np.random.default_rng(seed)
    image = np.zeros((375, 500, 3))
    for cells, strength in ((5, 90), (40, 25), (160, 10)):
        shades = generator.normal(0, 1, (cells, cells, 3)).clip(-2, 2) * 60 + 128
        layer = Image.fromarray(shades.astype(np.uint8)).resize((500, 375), Image.Resampling.BICUBIC)
        image += (np.asarray(layer, dtype=float) - 128) / 60 * strength
    buffer = io.BytesIO()
    Image.fromarray((image + 128).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _difference(file: bytes) -> float:
    mean, deviation = (torch.tensor(REFERENCE.transforms[-1].__dict__[name])[:, None, None] for name in ("mean", "std"))
    pixels = (reference(file) * deviation + mean) * 255
    return float((pixels - ours(file)).abs().mean())


def _seconds(way: Callable[[bytes], Tensor], files: Sequence[bytes]) -> float:
    start = time.perf_counter()
    for file in files:
        way(file)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
