"""*Where is this?*: the part of the page that places somebody's photos.

A photo comes with the question, is in memory until it is answered, and is kept nowhere: who asks again sends it again.
"""

import base64
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gradio
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from helpers import (
    app,
    explaining,
    given_photos,
    inputs,
    maps,
    metrics,
    photos,
    placing,
    plots,
    predict,
    predict_command,
    prediction_files,
    run_folders,
    segmenters,
    targets,
    web_maps,
)
from helpers.placing import Placer

WAITING = 8
"""Questions that may wait for one another; one more is refused."""
_PLACERS = 3  # in memory: that of the page, and two to compare it with
_LONGEST_NAME = 120
_PREVIEW = 384  # pixels, of the shorter side: sharp at the size that a page shows, and no more
_LONGEST_PREVIEW = 3  # times as long as wide

Asked = Mapping[str, Any]
Told = dict[str, Any]


class Refusal(ValueError):
    """A question that is not answered, in words for who asked it."""


class Photos:
    """What answers the questions of the page; one at a time, since each takes all cores.

    Parameters
    ----------
    run : str
        Run that answers unless another is asked for.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.placers: dict[str, tuple[tuple[int, ...], Placer]] = {}
        """By run, with the times of its files: one that is trained or calibrated anew is read anew."""
        self._turn = threading.Lock()
        self._room = threading.BoundedSemaphore(WAITING)

    def part(self) -> gradio.HTML:
        """The part of the page."""
        functions = [self.runs, self.levels, self.place, self.explain]
        return app.part("photos", *(app.answering(function, Refusal) for function in functions))

    def runs(self, _: Asked) -> Told:
        """Names of the runs that can be asked, the one that answers by itself first, and its levels."""
        names = list(dict.fromkeys([self.run, *run_folders.there()]))
        return {"runs": names, "use": predict_command.USE}

    def levels(self, asked: Asked) -> Told:
        """Levels that a run can answer at, the best founded first."""
        with self._asked(asked) as (placer, _, _):
            pass
        return {"levels": list(reversed(_models(placer))), "remark": placer.remark}

    def place(self, asked: Asked) -> Told:
        """Say where a photo was taken: ``name, data`` (base64), ``run, level, crops``."""
        name, data = _photo(asked)
        with self._asked(asked) as (placer, level, crops):
            found = placer(given_photos.of_bytes({name: data}), distributions=True, level=level, crops=crops)
            row = found.table.iloc[0]
            preview = "" if row["error"] else _preview(data, name)
        files = {form[1:]: prediction_files.as_text(found.table, form) for form in (".csv", ".geojson")}
        if row["error"]:
            return {"error": str(row["error"]), **files}
        classes = _classes(placer, str(row["scene"]), level)
        shown = web_maps.layers(row)
        if found.distribution is not None and classes is not None:
            shown["cells"] = web_maps.heat(found.distribution, classes)
        return {
            "layers": shown,
            "place": maps.guess_name(row),
            "sure": _sureness(row),
            "remark": placer.remark_on(str(row["scene"]), level, crops) if np.isfinite(row["radius_90_km"]) else "",
            "scene": str(row["scene"]),
            "places": web_maps.likeliest(row),
            "truth": _truth(data, name, row),
            "preview": preview,
            **files,
        }

    def explain(self, asked: Asked) -> Told:
        """Show what in a photo speaks for the place: as :meth:`place` is asked."""
        name, data = _photo(asked)
        given = given_photos.of_bytes({name: data})
        with self._asked(asked) as (placer, level, crops):
            row = placer(given, level=level, crops=crops).table.iloc[0]
            if row["error"]:
                return {"error": str(row["error"])}
            picture = _explained(placer, given, row, level)
        return {"picture": _data_uri(Image.fromarray(picture)), "place": maps.guess_name(row)}

    def guess(self, name: str, data: bytes) -> pd.Series:
        """Where the run of the page takes a photo to have been taken: a row of `placing.Predictions.table`."""
        with self._turn:
            return self._placer({})(given_photos.of_bytes({name: data})).table.iloc[0]

    @contextmanager
    def _asked(self, asked: Asked) -> Iterator[tuple[Placer, str, int]]:
        """What a question is answered by, with its level and its crops, once it is its turn."""
        if not self._room.acquire(blocking=False):
            raise Refusal("too many photos are waiting already: try again in a moment")
        try:
            with self._turn:
                placer = self._placer(asked)
                yield placer, _level(placer, asked), _crops(asked)
        finally:
            self._room.release()

    def _placer(self, asked: Asked) -> Placer:
        run = asked.get("run") or self.run
        if run != self.run and run not in run_folders.there():  # a name from the list, never a path
            raise Refusal("there is no such run any more: reload the page")
        try:
            found = run_folders.find(run)
            times = _times(found)
            if self.placers.get(run, ((), None))[0] != times:
                self.placers.pop(run, None)
                self.placers[run] = times, placing.ready(found)
        except (ValueError, OSError) as error:
            raise Refusal(f"the run {run} cannot be used here: {error}") from error
        self.placers[run] = self.placers.pop(run)  # the last that was asked is the last to go
        for other in [name for name in self.placers if name != self.run][: max(0, len(self.placers) - _PLACERS)]:
            del self.placers[other]
        return self.placers[run][1]


def _times(found: run_folders.Found) -> tuple[int, ...]:
    files = [folder / run_folders.MODEL for folders in found.folders.values() for folder in folders]
    return tuple(file.stat().st_mtime_ns for file in [*files, *([found.calibration] if found.calibration else [])])


def _photo(asked: Asked) -> tuple[str, bytes]:
    """Name and bytes of a photo that is asked about."""
    name, data = asked.get("name"), asked.get("data")
    if not isinstance(name, str) or not isinstance(data, str):
        raise Refusal("no photo came with the question: reload the page")
    whole = name.encode("utf-8", "replace").decode().replace("\0", "").rsplit("/")[-1].strip()
    if len(whole) > _LONGEST_NAME:
        whole = whole[:_LONGEST_NAME] + "…"
    try:
        return whole or "photo", base64.b64decode(data, validate=True)
    except ValueError:
        raise Refusal("the photo came damaged: reload the page") from None


def _models(placer: Placer) -> tuple[str, ...]:
    return next(iter(placer.runs.values())).models


def _level(placer: Placer, asked: Asked) -> str:
    level = asked.get("level") or "auto"
    if level not in ("auto", *_models(placer)):
        raise Refusal(f"the run has no level {str(level)[:40]!r}: it has {', '.join(_models(placer))}")
    return str(level)


def _crops(asked: Asked) -> int:
    crops = asked.get("crops", placing.CROPS)
    if crops not in (1, placing.CROPS):
        raise Refusal(f"a photo is looked at in {placing.CROPS} crops or in 1")
    return int(crops)


def _classes(placer: Placer, scene: str, level: str) -> targets.Classes | None:
    run = predict.at_level(placer.run_of(scene), level)
    return list(run.classes.values())[-1] if run.classes else None


def _sureness(row: pd.Series) -> str:
    """How far off a guess may be, in a sentence."""
    if not np.isfinite(row["radius_90_km"]):
        return "How far off it may be is not known."
    near, far = maps.in_km(row["radius_50_km"]), maps.in_km(row["radius_90_km"])
    return f"The true place is within {near} with 50 % probability, and within {far} with 90 %."


def _truth(data: bytes, name: str, row: pd.Series) -> Told | None:
    """Where the file says that the photo was taken; looked at once the guess is made, and for its error alone."""
    try:
        position = photos.exif_position(data, name)
    except photos.PhotoError:
        return None
    if position is None:
        return None
    distance_km = float(metrics.great_circle_km(*position, row["latitude"], row["longitude"]))
    return {
        "place": {"latitude": position[0], "longitude": position[1], "kind": "truth", "mark": "✓"},
        "lines": [
            {"kind": "truth", "points": piece} for piece in web_maps.arc((row["latitude"], row["longitude"]), position)
        ],
        "far": maps.in_km(distance_km),
    }


def _preview(data: bytes, name: str) -> str:
    """A small copy of the photo without anything but its pixels; of a panorama the middle."""
    photo = photos.decode(data, name, _PREVIEW)
    if min(photo.shape[1:]) > _PREVIEW:
        photo = photos.resize(photo, _PREVIEW)
    high, wide = photo.shape[1:]
    most = _LONGEST_PREVIEW * min(high, wide)
    top, left = (max(0, (side - most) // 2) for side in (high, wide))
    return _data_uri(Image.fromarray(photo[:, top : top + most, left : left + most].permute(1, 2, 0).numpy()))


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=photos.JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _explained(placer: Placer, given: given_photos.Given, row: pd.Series, level: str) -> NDArray[np.uint8]:
    """The middle of a photo under what in it speaks for the place that was named."""
    try:
        explainer = explaining.explainer(placer.run_of(str(row["scene"])), level)
    except ValueError as error:
        raise Refusal(str(error)) from error
    rows = given.rows()
    segmented = None
    if explainer.needs_maps:
        segmenter, short_side = next(iter(placer.segmenters.values()))
        segmented = given_photos.of_bytes(segmenters.maps_of(rows, given, segmenter, short_side))
    view = inputs.PhotoViews(rows, given, explainer.image_size, view="centre", maps=segmented)[0]
    answer = pd.DataFrame(
        {
            "cell": [row["cell"]],
            "predicted_latitude": [row["latitude"]],
            "predicted_longitude": [row["longitude"]],
        }
    )
    speaking = explainer.maps(view[None], explainer.named(answer))[0]
    return plots.overlaid(view[:3].permute(1, 2, 0).numpy(), speaking.float().cpu().numpy())
