"""Networks that ONNX Runtime answers for, on a CPU, in the place of PyTorch.

It folds normalisation and activations into convolutions by itself, and lays out depthwise convolutions as the processor
likes them best. All is float32, so the answers are those of the network up to rounding.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers import export, inference
from helpers.models import Geolocator


class OnnxNetwork:
    """A network in an ONNX file that answers as :class:`helpers.inference.Quick` does.

    Parameters
    ----------
    file : Path
        From :func:`helpers.export.write`.
    at_once : int
        Views that it is given at once.
    names : sequence of str, optional
        Outputs to compute, by default all.

    Raises
    ------
    ExportError
        If ONNX Runtime is not installed, or the file is no ONNX that it can read, or has no such output.

    Notes
    -----
    It takes as many threads as PyTorch would. They sleep when there is nothing to compute: photos are decoded
    meanwhile, and threads that spin would take the cores from that.
    """

    runtime = "ONNX Runtime"
    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, file: Path, at_once: int, names: Sequence[str] | None = None) -> None:
        export.require_packages("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises anything on a damaged file
            raise export.ExportError(f"ONNX Runtime cannot read {file.name}: {error}. Export the run again") from error
        there = [each.name for each in self._session.get_outputs()]
        self.names = list(there if names is None else names)
        if not set(self.names) <= set(there):
            raise export.ExportError(
                f"{file.name} gives {', '.join(there)}, and not {', '.join(self.names)}: export the run again"
            )
        self.at_once = at_once

    def __call__(self, views: Tensor) -> dict[str, Tensor]:
        """Outputs by name, float32, for uint8 views of shape (n, channels, side, side), n any number."""
        given = views.contiguous().split(self.at_once)
        parts = [self._session.run(self.names, {export.PHOTOS: part.numpy()}) for part in given]
        return {
            name: torch.cat([torch.from_numpy(answers[number]) for answers in parts])
            for number, name in enumerate(self.names)
        }


def of_run(folder: Path, model: Geolocator, image_size: int, at_once: int = 0) -> OnnxNetwork:
    """The heads of a run's network: from its exported file where there is one of these very weights, else made now.

    Parameters
    ----------
    folder : Path
        Of the run.
    model : Geolocator
        With the weights that the folder holds.
    image_size : int
        Side of its views, in pixels.
    at_once : int
        Views that it is given at once; 0: as many as suit it.

    Raises
    ------
    ExportError
        If it cannot be exported, or its exported file is another than the one that was checked.
    """
    suiting = at_once or inference.crops_that_suit(OnnxNetwork.device, model, image_size)
    kept = export.kept(folder, "onnx")
    if kept:
        return OnnxNetwork(kept, suiting, list(model.heads))
    print(f"making ONNX of {folder.name}, which 04_training/export.ipynb would keep", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        file = export.write(model, image_size, ["onnx"], Path(temporary))["onnx"]
        return OnnxNetwork(file, suiting, list(model.heads))
