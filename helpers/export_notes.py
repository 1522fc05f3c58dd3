"""What goes with an exported network, so that it can be used without this code: its interface, classes and limits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import (
    cells,
    export,
    export_example,
    inputs,
    manifests,
    model_cards,
    models,
    paths,
    run_folders,
    segmentation,
    targets,
)
from helpers.predict import Run
from helpers.scenes import SCENES

INTERFACE, README, EXAMPLE, CLASSES = "interface.json", "README.md", "example.py", "classes"
HIERARCHY = f"{CLASSES}/hierarchy.csv"
"""For each finest cell the coarser cells around it."""
CROPS = ("top left", "top right", "bottom left", "bottom right", "middle")
"""Of a photo, in the order in which their answers are fused."""

_TOLD = {
    "onnx": "the network for ONNX Runtime, OpenVINO and others",
    "pt2": "the same as a program of `torch.export`: `torch.export.load(...).module()`. PyTorch reads it with pickle, "
    "so load no such file that somebody else has sent",
}


def write(folder: Path, run: Run, run_folder: Path, checked: pd.DataFrame) -> None:
    """Write all that goes with the files of a network into their folder.

    Parameters
    ----------
    folder : Path
        With the files of :func:`helpers.export.write`.
    run : Run
        Of one network.
    run_folder : Path
        That it was loaded from.
    checked : DataFrame
        From :func:`helpers.export_checks.summary`.
    """
    if run.classes:
        shutil.copytree(run_folder / CLASSES, folder / CLASSES, dirs_exist_ok=True)
    for name in (model_cards.FILE, segmentation.PALETTE):
        if (run_folder / name).is_file():
            shutil.copy(run_folder / name, folder / name)
    if len(run.classes) > 1:
        _hierarchy(run).to_csv(folder / HIERARCHY, index=False)
    shutil.copy(Path(export_example.__file__), folder / EXAMPLE)
    described = interface(run, manifests.fingerprint(run_folder / run_folders.MODEL))
    for name, text in {
        INTERFACE: json.dumps(described, indent=2) + "\n",
        README: _readme(run_folder.name, described, folder, checked),
    }.items():
        with paths.replacing(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def interface(run: Run, weights: str) -> dict[str, Any]:
    """What a program has to know to ask the network and to read its answers, in a form that becomes JSON.

    Parameters
    ----------
    run : Run
        Of one network.
    weights : str
        SHA-256 of the weights of the run that was exported.
    """
    (network,) = run.networks
    model, side = network.model, network.image_size
    outputs: dict[str, Any] = {name: _output(run, name, count) for name, count in network.settings["classes"].items()}
    outputs[export.FEATURES] = {"shape": ["n", model.feature_count], "form": "what the heads read"}
    channels = ["red", "green", "blue", *["class of the segmentation map"] * model.has_map_branch]
    return {
        "input": {"name": export.PHOTOS, "type": "uint8", "shape": ["n", len(channels), side, side]},
        "channels": channels,
        "views": {"short_side": inputs.short_side(side), "side": side, "crops": list(CROPS)},
        "outputs": outputs,
        "finest": list(run.classes)[-1] if run.classes else targets.COORDINATES,
        "hierarchy": HIERARCHY if len(run.classes) > 1 else "",
        "architecture": model.architecture,
        "weights_sha256": weights,
    }


def _output(run: Run, name: str, count: int) -> dict[str, Any]:
    shape = {"shape": ["n", count]}
    if name == targets.SCENE:
        return {**shape, "form": "logits", "names": list(SCENES)}
    if name == targets.COORDINATES:
        return {**shape, "form": "unit vector" if count == 3 else "latitude and longitude in units of 90 degrees"}
    if name == models.SEARCH:
        return {**shape, "form": "whitened features: photos are alike where these point the same way; no classes"}
    suffix = "_mean" if isinstance(run.classes[name], cells.Partition) else ""
    columns = {what: f"{what}{suffix}" for what in ("latitude", "longitude")}
    return {**shape, "form": "logits", "classes": f"{CLASSES}/{name}.csv", **columns}


def _hierarchy(run: Run) -> pd.DataFrame:
    partitions = {name: each for name, each in run.classes.items() if isinstance(each, cells.Partition)}
    *coarser, finest = partitions
    ancestors = cells.hierarchy(partitions[finest], *(partitions[name] for name in coarser))
    return pd.DataFrame({finest: range(len(partitions[finest])), **dict(zip(coarser, ancestors, strict=True))})


def _readme(name: str, described: dict[str, Any], folder: Path, checked: pd.DataFrame) -> str:
    views, given = described["views"], described["input"]
    there = {file: told for form, told in _TOLD.items() if (folder / (file := export.FORMATS[form])).exists()}
    there |= {INTERFACE: "names, shapes and meanings of input and outputs, for programs"}
    there |= {EXAMPLE: "places a photo with these files alone: `python example.py PHOTO.jpg`"}
    if (folder / CLASSES).exists():
        there[f"{CLASSES}/"] = "the classes of each output: line by line, with the coordinate that each stands for"
    if described["hierarchy"]:
        there[HIERARCHY] = "for each cell of the finest partition the coarser cells around it"
    if (folder / model_cards.FILE).exists():
        there[model_cards.FILE] = "what it is, how it was trained, how far off it is"
    there |= {"checks.csv": "how its answers were compared with those of PyTorch", "manifest.json": "what made it"}
    files = "\n".join(f"| `{file}` | {told} |" for file, told in there.items())
    outputs = "\n".join(
        f"| `{output}` | {each['shape'][1]:,} | {each['form']} |" for output, each in described["outputs"].items()
    )
    compared = "\n".join(
        f"| {row['format']} | `{row['output']}` | {row['photos']:,} | "
        f"{'' if pd.isna(row['same_answer']) else format(row['same_answer'], ',')} | "
        f"{row['largest_difference']:.1e} ({row['unit']}) |".replace("0.0e+00", "none")
        for row in checked.to_dict("records")
    )
    maps = ""
    if len(described["channels"]) > 3:
        maps = (
            "\n\nIt looks at a **segmentation map** beside the photo: the fourth channel holds class numbers, those of "
            f"`{segmentation.PALETTE}`, resampled without mixing them and cut as the photo is."
        )
    search = ""
    if models.SEARCH in described["outputs"]:
        search = (
            f" `{models.SEARCH}` is made for that: with the mean over the crops scaled to length 1, the dot product of "
            "two photos says how alike they are. It names no classes. The run itself answers by such a search among "
            "its training photos, which are not here: what the classes say is its answer without that search."
        )
    out_of_scope = "\n".join(f"- {use}" for use in model_cards.OUT_OF_SCOPE)
    recommended = "\n".join(f"- {each}" for each in model_cards.RECOMMENDATIONS)
    return f"""# {name}, exported

A network ({described["architecture"]}) that guesses where a photo was taken, as files that need none of the code that \
made them.

| file | what it is |
|---|---|
{files}

## What goes in

`{given["name"]}`: {given["type"]} of shape (n, {", ".join(map(str, given["shape"][1:]))}), any number of them; \
channels {", ".join(described["channels"])}. Pixels are normalised inside.

A photo is turned upright as its EXIF says, made RGB with 8 bits, and resized, bilinearly with antialiasing, so that \
its shorter side has {views["short_side"]} pixels. Of that five squares of {views["side"]} pixels are cut: \
{", ".join(views["crops"])}. One of them alone, the middle, gives an answer too, a little worse.{maps}

## What comes out

| output | numbers | form |
|---|---:|---|
{outputs}

Logits become probabilities by a softmax for each crop; the largest over the five crops, scaled to a sum of 1, is the \
answer for the photo. Where there are several partitions, the probability of a finest cell times those of the cells \
around it is better founded than its own. `{export.FEATURES}` are what two photos can be compared by.{search}

**The probabilities are not calibrated**: they promise too much. Fit a temperature on photos whose places you know.

## Checked

Against PyTorch in float32, five crops of each photo: photos with the same answer, and the largest difference.

| format | output | photos | same answer | largest difference |
|---|---|---:|---:|---:|
{compared}

## Use

{model_cards.INTENDED}

**Out of scope:**

{out_of_scope}

**Dual use.** {model_cards.DUAL_USE}

{recommended}
"""
