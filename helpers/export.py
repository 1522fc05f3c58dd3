"""A trained network as files that other software runs: ONNX, and a program of ``torch.export``.

Both take photos as they are, uint8, and any number of them: what normalises pixels is part of the file. Beside the
outputs of the heads they give the features that these are made from, by which photos can be compared.
"""

import copy
import difflib
import importlib
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from helpers import manifests, paths, run_folders
from helpers.models import Geolocator

FORMATS = {"onnx": "model.onnx", "pt2": "model.pt2"}
"""Names of the formats, with the file of each."""
PHOTOS, FEATURES = "photos", "features"
"""Names of the input, and of the output beside those of the heads."""
NOTEBOOK = "04_training/export"
FILES = "files"
"""Of the counts in the manifest: SHA-256 of what was exported, by the name of the file."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_BATCH = "n"  # what ONNX calls the number of photos


class ExportError(ValueError):
    """A network that cannot be exported, or whose export is not what it should be."""


class _Answering(nn.Module):
    """A network that gives its features beside its answers."""

    def __init__(self, model: Geolocator) -> None:
        super().__init__()
        self.model = model

    def forward(self, photos: Tensor) -> dict[str, Tensor]:
        features = self.model.features(photos)
        return {**self.model.classify(features), FEATURES: features}


def formats(asked: str) -> tuple[str, ...]:
    """Formats that a word names, separated by commas.

    Raises
    ------
    ExportError
        If there is no such format, naming the nearest, or what writes it is not installed.

    Examples
    --------
    >>> formats("pt2"), formats("onnx, pt2")
    (('pt2',), ('onnx', 'pt2'))
    """
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    for name in names:
        if name not in FORMATS:
            nearest = difflib.get_close_matches(name, FORMATS, n=1, cutoff=0)[0]
            raise ExportError(
                f"there is no format {name!r}, did you mean {nearest!r}? Formats are {', '.join(FORMATS)}, and several "
                "are separated by commas"
            )
    if "onnx" in names:
        require_packages()
    return names


def require_packages(*names: str) -> None:
    """Raise :class:`ExportError` if the packages of ONNX, or those of them that are named, are not installed."""
    for name in names or _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ExportError(f'ONNX needs {name}: pip install -e ".[onnx]" in this checkout ({error})') from error


def outputs(model: Geolocator) -> tuple[str, ...]:
    """Names of what an exported network gives, in order: its heads, and the features."""
    return (*model.heads, FEATURES)


def program(model: Geolocator, image_size: int) -> ExportedProgram:
    """A network as a program, by ``torch.export``.

    Parameters
    ----------
    model : Geolocator
        On any device; it stays as it is.
    image_size : int
        Side of the square photos, in pixels.

    Returns
    -------
    ExportedProgram
        Takes ``photos``, uint8 of shape (n, channels, image_size, image_size) with n from 1, on a CPU. Gives
        float32 tensors of n rows by the names of :func:`outputs`.

    Raises
    ------
    ExportError
        If the architecture does something that depends on the photos, or on how many there are.
    """
    answering = _Answering(copy.deepcopy(model)).cpu().to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(2, model.channels, image_size, image_size, dtype=torch.uint8)  # one would be taken for all
    try:
        with torch.no_grad():
            exported = torch.export.export(answering, (example,), dynamic_shapes={PHOTOS: {0: Dim.DYNAMIC}})
    except Exception as error:  # whatever the tracer meets in an architecture
        raise _refused(model, "torch.export", error) from error
    exported.example_inputs = None  # which a file would keep as a pickle
    for part in exported.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # in which folder this code lies is nobody's business
    return exported


def write(model: Geolocator, image_size: int, asked: Sequence[str], folder: Path) -> dict[str, Path]:
    """Export a network into a folder.

    Parameters
    ----------
    model, image_size
        As for :func:`program`.
    asked : sequence of str
        Of :data:`FORMATS`.
    folder : Path
        That is to become an output, and so is not read before it is whole.

    Returns
    -------
    dict of str to Path
        The file of each format.

    Raises
    ------
    ExportError
        As :func:`program`; or if ONNX has no operator for something that the architecture does.
    """
    exported = program(model, image_size)
    files = {name: folder / FORMATS[name] for name in asked}
    for name, file in files.items():
        if name == "onnx":
            _write_onnx(model, exported, file)
        else:
            torch.export.save(exported, file)
    return files


def _write_onnx(model: Geolocator, exported: ExportedProgram, file: Path) -> None:
    require_packages("onnx", "onnxscript")
    names: dict[str, Any] = {"input_names": [PHOTOS], "output_names": list(outputs(model))}
    names |= {"dynamic_shapes": {PHOTOS: {0: _BATCH}}}
    try:
        converted = torch.onnx.export(exported, dynamo=True, verbose=False, **names)
    except Exception as error:  # an operator that ONNX lacks, and whatever else
        raise _refused(model, "torch.onnx", error) from error
    cast(Any, converted).save(file)


def _refused(model: Geolocator, by: str, error: Exception) -> ExportError:
    said = textwrap.shorten(str(error) or repr(error), 300)
    return ExportError(
        f"{by} cannot export {model.architecture}: {said}. Take another architecture, or a newer PyTorch"
    )


def fingerprints(folder: Path) -> dict[str, str]:
    """SHA-256 of the files that :func:`write` wrote into a folder, by their names."""
    return {file.name: manifests.fingerprint(file) for file in sorted(folder.glob("model.*"))}


def kept(run_folder: Path, form: str) -> Path | None:
    """File of a format that was exported from the very weights that a run's folder holds.

    Parameters
    ----------
    run_folder : Path
        Of a run, wherever it lies.
    form : str
        One of :data:`FORMATS`.

    Returns
    -------
    Path or None
        None if the run was not exported, or has been trained anew since.

    Raises
    ------
    ExportError
        If the file is not the one that was checked when it was exported.
    """
    try:
        folder = paths.exported(run_folder.name)
        manifest = manifests.read(folder)
        weights = manifest["inputs"][f"run {run_folder.name}"]["sha256"]
        recorded = {
            name: sha256 for name, sha256 in manifest["counts"][FILES].items() if name.startswith(FORMATS[form])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not recorded or weights != manifests.fingerprint(run_folder / run_folders.MODEL):
        return None
    if not all(
        (folder / name).is_file() and manifests.fingerprint(folder / name) == recorded[name] for name in recorded
    ):
        raise ExportError(
            f"{FORMATS[form]} of the exported run {run_folder.name!r} is not the file that was checked: export it "
            f"again ({manifests.command(NOTEBOOK, {'run': run_folder.name})}), or delete its folder"
        )
    return folder / FORMATS[form]
