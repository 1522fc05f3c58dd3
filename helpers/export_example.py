"""Place a photo with an exported network, without the code that it was trained by: ``python example.py PHOTO.jpg``.

This file goes with every exported network. It needs numpy, Pillow, and onnxruntime or torch. A guess says little by
itself, and its probabilities are not calibrated: see the README beside it for what it is for, and what it is not for.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def five_crops(file: Path, short_side: int, side: int) -> Any:
    """Corners and middle of a photo, uint8 of shape (5, 3, side, side)."""
    with Image.open(file) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    shorter = min(photo.size)
    width, height = (short_side * length // shorter for length in photo.size)
    photo = photo.resize((width, height), Image.Resampling.BILINEAR)
    right, bottom = width - side, height - side
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom), (round(right / 2), round(bottom / 2))]
    cut = [np.asarray(photo.crop((left, top, left + side, top + side))) for left, top in corners]
    return np.stack(cut).transpose(0, 3, 1, 2).copy()


def answers(views: Any) -> dict[str, Any]:
    """What the network gives for views, by name: arrays with a row for each view."""
    if (HERE / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
        return dict(
            zip([each.name for each in session.get_outputs()], session.run(None, {"photos": views}), strict=True)
        )
    import torch

    program = torch.export.load(HERE / "model.pt2").module()  # which unpickles: take it from nobody you do not trust
    with torch.inference_mode():
        return {name: found.numpy() for name, found in program(torch.from_numpy(views)).items()}


def probabilities(logits: Any) -> Any:
    """Of the classes of a head, from its logits for the crops of one photo: the largest over the crops, scaled to 1."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    largest = (shares / shares.sum(axis=1, keepdims=True)).max(axis=0)
    return largest / largest.sum()


def table(name: str) -> list[dict[str, str]]:
    """Rows of a CSV file of this folder."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def place_of_coordinates(numbers: Any, form: str) -> tuple[float, float]:
    """Latitude and longitude in degrees that the mean of the outputs for the crops stands for."""
    if form == "unit vector":
        x, y, z = numbers
        return float(np.degrees(np.arctan2(z, np.hypot(x, y)))), float(np.degrees(np.arctan2(y, x)))
    latitude, longitude = 90 * numbers
    return float(np.clip(latitude, -90, 90)), float((longitude + 180) % 360 - 180)


def main() -> None:
    interface = json.loads((HERE / "interface.json").read_text(encoding="utf-8"))
    if interface["input"]["shape"][1] != 3:
        sys.exit("this network looks at a segmentation map beside the photo, and so at four channels: see the README")
    views = five_crops(Path(sys.argv[1]), interface["views"]["short_side"], interface["views"]["side"])
    found = answers(views)
    finest = interface["finest"]
    output = interface["outputs"][finest]
    if "classes" not in output:
        print("{:.4f} {:.4f}".format(*place_of_coordinates(found[finest].mean(axis=0), output["form"])))
        return
    likely = probabilities(found[finest])
    for row in table(interface["hierarchy"]) if interface["hierarchy"] else []:
        # A fine cell is as likely as it and the coarser cells around it together: f* of the paper.
        for coarser in set(row) - {finest}:
            likely[int(row[finest])] *= probabilities(found[coarser])[int(row[coarser])]
    likely /= likely.sum()
    classes = table(output["classes"])
    for label in np.argsort(-likely)[:5]:
        place = [float(classes[label][output[what]]) for what in ("latitude", "longitude")]
        print("{:.4f} {:.4f} {:.4f}".format(*place, likely[label]))


if __name__ == "__main__":
    main()
