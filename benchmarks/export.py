"""Networks that ONNX Runtime answers for, beside PyTorch: as they are in float32, and made ready to answer fast.

``python -m benchmarks export`` prints the lines. Crops of photos that are in memory already, uint8, go through all of
them in turn in one process, on all cores; in float32 the answers have to be the same. As it is, a network is
channels-last, as it is loaded, and is given 20 crops at once.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from helpers import export, inference, models, onnx_inference

SETUPS = (("efficientnet_lite0", 112), ("efficientnet_lite0", 224), ("resnet50", 224))
CROPS = {("efficientnet_lite0", 112): 240, ("efficientnet_lite0", 224): 80, ("resnet50", 224): 40}
HEADS = {"coarse": 46, "middle": 71, "fine": 130}
AT_ONCE, REPEATS = 20, 9
GOALS = {"efficientnet_lite0": "ratio >= 2"}
CPU = torch.device("cpu")


def rows() -> Iterator[dict[str, Any]]:
    """Measure: some minutes."""
    for architecture, size in SETUPS:
        yield from _measured(architecture, size)


def _measured(architecture: str, image_size: int) -> Iterator[dict[str, Any]]:
    torch.manual_seed(0)
    model = models.Geolocator(architecture, HEADS, weights="none").eval().to(memory_format=torch.channels_last)
    count = CROPS[architecture, image_size]
    views = torch.randint(0, 256, (count, 3, image_size, image_size), dtype=torch.uint8)
    quick = {precision: inference.Quick(model, image_size, precision, CPU) for precision in ("fp32", "bf16")}
    with tempfile.TemporaryDirectory() as folder:
        file = export.write(model, image_size, ["onnx"], Path(folder))["onnx"]
        runtime = onnx_inference.OnnxNetwork(file, inference.crops_that_suit(CPU, model, image_size), list(HEADS))

    @torch.inference_mode()
    def eager() -> dict[str, Tensor]:
        parts = [model(part) for part in views.split(AT_ONCE)]
        return {name: torch.cat([part[name] for part in parts]) for name in HEADS}

    ways: dict[str, Callable[[], dict[str, Tensor]]] = {
        "onnx": lambda: runtime(views),
        "eager": eager,
        "fp32": lambda: quick["fp32"](views),
        "bf16": lambda: quick["bf16"](views),
    }
    answers = {name: way() for name, way in ways.items()}  # which also warms them up
    for name in HEADS:
        expected = answers["eager"][name]
        for same in ("onnx", "fp32"):
            within = 1e-4 * float(expected.abs().max())
            torch.testing.assert_close(answers[same][name], expected, atol=within, rtol=1e-3)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(REPEATS):
        for name, way in ways.items():
            rates[name].append(count / _seconds(way))
    references = {
        "eager": "PyTorch as it is, in float32",
        "fp32": "PyTorch made ready to answer fast, in float32",
        "bf16": "PyTorch made ready to answer fast, in bfloat16",
    }
    for name, described in references.items():
        yield {
            "benchmark": f"network by ONNX Runtime in float32, reference: {described}",
            "size": f"{architecture} at {image_size} px, {count} crops",
            "ours": median(rates["onnx"]),
            "reference": median(rates[name]),
            "unit": "crops/s",
            "ratio": median(ours / other for ours, other in zip(rates["onnx"], rates[name], strict=True)),
            "goal": GOALS.get(architecture) if name == "eager" else None,
        }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
