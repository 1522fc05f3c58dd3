"""A photo that is asked about on the page of the apps, beside a loop that names a coordinate and nothing more.

``python -m benchmarks page`` prints the lines. Ours is all that the page waits for: the photo read from the body of a
request, decoded, placed, its scene, the areas that hold the truth, the heat map with the outlines of its cells, a small
copy to show. Both place the same photos one by one in one process, in turn, on all cores. What is asked of the page is
an answer within 2 s.
"""

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.inputs import mosaic
from benchmarks.prediction import REPEATS, Loop, dtype_of, placer_of, seconds
from helpers import scene_classifier
from helpers.app_photos import Photos

SETUPS = (("efficientnet_lite0", 112), ("efficientnet_lite0", 224), ("resnet50", 224), ("vit_b_16", 224))
PHOTOS = 8


def rows() -> Iterator[dict[str, Any]]:
    """Measure: a minute or two."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jpg" for number in range(PHOTOS)]
        for number, file in enumerate(files):
            file.write_bytes(mosaic(number))
        for architecture, size in SETUPS:
            yield _measured(architecture, size, files)


def _measured(architecture: str, image_size: int, files: list[Path]) -> dict[str, Any]:
    model, placer = placer_of(architecture, image_size, with_scenes=True)
    page = Photos(architecture)
    page._placer = lambda asked: placer  # a run without a folder
    bodies = [json.dumps({"name": file.name, "data": base64.b64encode(file.read_bytes()).decode()}) for file in files]
    loop = Loop(model, image_size, scene_classifier.load())
    ours, looped = [], []
    for repeat in range(-1, REPEATS):  # the first does not count
        rates = (
            PHOTOS / seconds(lambda: [json.dumps(page.place(json.loads(body))) for body in bodies]),
            PHOTOS / seconds(lambda: loop(files)),
        )
        if repeat >= 0:
            ours.append(rates[0])
            looped.append(rates[1])
    return {
        "benchmark": "answer of the page, reference: a coordinate alone, float32",
        "size": f"{architecture} at {image_size} px in {dtype_of(placer)}, JPEGs of 2000 x 1500 px one by one",
        "ours": median(ours),
        "reference": median(looped),
        "unit": "photos/s",
        "ratio": median(rate / usual for rate, usual in zip(ours, looped, strict=True)),
        "goal": "ours >= 0.5 photos/s",
    }
