"""The part of the page that makes a page to share: `06_demo/share.ipynb`, at the push of a button."""

import threading
from collections.abc import Mapping
from typing import Any

import gradio
import pandas as pd

from helpers import app, manifests, notebooks, paths, shared_pages

MOST_PHOTOS = 1000
_RESULTS = "predictions.parquet"


class Refusal(ValueError):
    """A page that is not made, in words for who asked for it."""


class Share:
    """What makes pages, one at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def part(self) -> gradio.HTML:
        """The part of the page."""
        return app.part("share", *(app.answering(function, Refusal) for function in (self.evaluated, self.make)))

    def evaluated(self, _: Mapping[str, Any]) -> dict[str, Any]:
        """Runs with the datasets that they were evaluated on, the newest first: ``run, dataset, name, photos``."""
        files = sorted((paths.root() / "05_evaluation" / "results").glob(f"*/*/{_RESULTS}"), key=_age)
        return {"evaluated": [_described(file.parent) for file in files], "most": MOST_PHOTOS}

    def make(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Make the page of one of them with at most ``photos``, and tell where its folder is."""
        known = {each["name"]: each for each in self.evaluated({})["evaluated"]}
        chosen, photos = known.get(str(asked.get("name"))), asked.get("photos")
        if chosen is None:
            raise Refusal("there are no such results any more: reload the page")
        if not isinstance(photos, int) or not 1 <= photos <= MOST_PHOTOS:
            raise Refusal(f"a page has 1 to {MOST_PHOTOS} photos")
        if not self._turn.acquire(blocking=False):
            raise Refusal("a page is being made already: wait for it")
        try:
            given = {name: chosen[name] for name in ("run", "dataset", "photo_root")} | {"most_photos": photos}
            folder = notebooks.run("06_demo/share", given)
        except Exception as error:  # of the notebook, which is told by papermill with all its cells
            raise Refusal(f"the page was not made: {str(error).strip().splitlines()[-1]}") from error
        finally:
            self._turn.release()
        shown = manifests.read(folder)["counts"]
        page = folder / "page" / shared_pages.PAGE
        return {
            "folder": str(page.parent),
            "address": page.as_uri(),
            "shown": f"{shown['photos shown']:,} photos, {shown['bytes'] / 1e6:,.1f} MB",
            "unread": ", ".join(f"{count} {reason}" for reason, count in shown["could not be read"].items()),
        }


def _age(file: Any) -> float:
    return -float(file.stat().st_mtime)


def _described(folder: Any) -> dict[str, Any]:
    parameters = manifests.read(folder)["parameters"]
    run, dataset = parameters["run"], parameters["dataset"]
    photos = len(pd.read_parquet(folder / _RESULTS, columns=["id"]))
    root = parameters.get("photo_root", "")
    return {"run": run, "dataset": dataset, "photo_root": root, "name": f"{run} on {dataset}", "photos": photos}
