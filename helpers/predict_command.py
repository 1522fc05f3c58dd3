"""``python -m helpers.predict``: place photos from a shell."""

import argparse
import contextlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import devices, given_photos, maps, placing, plots, prediction_files, read_outs, recipe, run_folders

USE = (
    "For research, teaching and sorting one's own photos; not for finding or tracking people. A guess is no evidence "
    "about anybody."
)
"""What is said once, whatever is asked for."""
NOT_CALIBRATED = "radii and confidence are NOT calibrated: expect them to promise too much"
_DESCRIPTION = f"Say where photos were taken, and how sure one can be. {USE}"
_EPILOG = (
    'RUN is the name of a run in 04_training/runs, a+b for networks that answer together, "name-{scene}" for those of '
    "the scenes, or the path of a run's folder. Exit status: 0 where a photo was placed, 1 where none could be read, 2 "
    "where nothing came of it, because a run, a pattern, an option or the output is at fault."
)


def main(arguments: list[str] | None = None) -> None:
    """Place the photos that the command line names, and end with its status."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Place the photos that the command line names.

    Returns
    -------
    int
        0 where a photo was placed, 1 where none could be read, 2 where nothing came of it.
    """
    asked = _parser().parse_args(arguments)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # of progress: what goes to the standard output are the guesses
            given, table, computed = _placed(asked)
        if asked.output:
            prediction_files.write(table, asked.output)
        else:
            print("\n".join(in_words(row) for row in table.to_dict("records")))
        if asked.maps:
            draw_maps(table, asked.maps)
    except (ValueError, OSError) as error:
        _say(f"error: {error}")
        return 2
    if given.passed_over:
        _say(f"{given.passed_over:,} files are no photos by their names, and were not opened")
    unread = int((table["error"] != "").sum())
    written = f", written to {asked.output}" if asked.output else ""
    _say(f"{len(table) - unread:,} of {len(table):,} photos placed ({computed}){written}")
    if unread:
        where = "see their rows" if asked.output else "see above"
        _say(f"{unread:,} of {len(table):,} photos could not be read: {where}")
    return 1 if unread == len(table) else 0


def _placed(asked: argparse.Namespace) -> tuple[given_photos.Given, pd.DataFrame, str]:
    """The photos that are asked about, where they were taken, and what computed that; what is wrong is found first."""
    if asked.output:
        prediction_files.check(asked.output)
    if asked.maps and asked.maps.exists() and not asked.maps.is_dir():
        raise ValueError(f"{asked.maps} is no folder: name one for the maps")
    placing.device_of(asked.runtime, asked.device, asked.precision)
    found = run_folders.find(asked.run)
    given = given_photos.find(asked.photos)
    _say(USE)
    placer = placing.ready(
        found,
        device=asked.device,
        precision=asked.precision,
        runtime=asked.runtime,
        batch_size=asked.batch_size,
        fusion=asked.fusion,
        preset=asked.preset,
        tell_scenes=asked.scenes,
        segmenter_weights=asked.segmenter_weights,
    )
    if placer.remark:
        _say(f"{NOT_CALIBRATED} ({placer.remark})")
    return given, placer(given).table, placer.described


def in_words(photo: Mapping[Any, Any]) -> str:
    """A guess as text: the place, how far off it may be, and the likeliest places.

    Parameters
    ----------
    photo : mapping
        A row of the table of :class:`helpers.placing.Predictions`.
    """
    if photo["error"]:
        return f"{photo['id']}\n  cannot be placed: {photo['error']}\n"
    lines = [str(photo["id"]), f"  {maps.guess_name(photo)}", f"  {sureness(photo)}"]
    for rank in range(1, placing.PLACES + 1):
        latitude, longitude, share, *names = (photo[f"place_{rank}_{what}"] for what in placing.OF_PLACES)
        if pd.notna(share):
            lines.append(f"    {100 * share:5.1f} %  {maps.place_name(latitude, longitude, *names)}")
    return "\n".join(lines) + "\n"


def sureness(photo: Mapping[Any, Any]) -> str:
    """How far off a guess may be, in words.

    Examples
    --------
    >>> photo = {"radius_50_km": 212.3, "radius_90_km": 1850.0, "confidence": 0.12, "scene": "urban"}
    >>> sureness({**photo, "calibrated": True})
    'within 212 km with 50 %, within 1,850 km with 90 %; confidence 12.0 %; urban'
    >>> sureness({**photo, "calibrated": False})
    'within 212 km with 50 %, within 1,850 km with 90 %; confidence 12.0 %; urban (not calibrated)'
    """
    known = pd.notna(photo["radius_90_km"])
    radii = "within {:,.0f} km with 50 %, within {:,.0f} km with 90 %".format(
        photo["radius_50_km"], photo["radius_90_km"]
    )
    parts = [radii if known else "how far off it may be is not known"]
    if pd.notna(photo["confidence"]):
        parts.append(f"confidence {100 * float(photo['confidence']):.1f} %")
    if photo["scene"]:
        parts.append(str(photo["scene"]))
    return "; ".join(parts) + ("" if photo["calibrated"] else " (not calibrated)")


def draw_maps(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw a map for each photo that could be read, into a folder.

    Returns
    -------
    list of Path
        Named after the row of the photo and its name, as far as that is letters and numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    sound = (table["error"] == "").to_numpy()
    for number in sound.nonzero()[0]:
        row = table.iloc[number]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", Path(str(row["id"])).stem).strip("-")[:60]
        file = folder / f"{number + 1:0{len(str(len(table)))}d}-{name or 'photo'}.png"
        plots.save(maps.guess_map(row, Path(str(row["id"])).name), file)
        drawn.append(file)
    return drawn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers.predict", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="a file, a folder, a zip or tar, or a quoted glob")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"one of {', '.join(prediction_files.FORMS)}")
    parser.add_argument("--maps", type=Path, metavar="FOLDER", help="draw a map for each photo")
    parser.add_argument("--device", choices=devices.KINDS, default="auto")
    parser.add_argument("--precision", choices=devices.PRECISIONS, default="auto", help="fp32 where digits matter")
    parser.add_argument(
        "--runtime", choices=placing.RUNTIMES, default="torch", help="onnx: ONNX Runtime, on a CPU in fp32"
    )
    parser.add_argument("--batch-size", type=_positive, default=0, help="photos that the device is given at once")
    parser.add_argument("--fusion", choices=("auto", *read_outs.FUSIONS), default="auto", help="of the five crops")
    parser.add_argument("--preset", choices=recipe.PRESETS, default="auto", help="search among training photos, or not")
    parser.add_argument(
        "--segmenter-weights", default="default", metavar="FILE", help="of the network whose maps the run looks at too"
    )
    parser.add_argument("--no-scenes", dest="scenes", action="store_false", help="leave scenes out, which take time")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
