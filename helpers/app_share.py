"""The part of the page that makes a page to share: `06_demo/share.ipynb`, at the push of a button."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio
import pyarrow.parquet as pq

from helpers import app, data_lists, fetch, manifests, notebooks, paths, photo_stores, shared_pages

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
        described = [_described(file.parent) for file in files]
        return {"evaluated": [each for each in described if each], "most": MOST_PHOTOS}

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
            _refuse_absent_photos(chosen)
            given = {name: chosen[name] for name in ("run", "dataset", "photo_root")} | {"most_photos": photos}
            folder = notebooks.run("06_demo/share", given)
        except Refusal:
            raise
        except Exception as error:  # of the notebook, which is told by papermill with all its cells
            told = str(error).strip() or type(error).__name__
            raise Refusal(f"the page was not made: {told.splitlines()[-1]}") from error
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


def _age(file: Path) -> float:
    return -float(file.stat().st_mtime)


def _described(folder: Path) -> dict[str, Any]:
    """Results that a page can be made of; nothing for those that are not whole."""
    try:
        parameters = manifests.read(folder)["parameters"]
        run, dataset, root = (parameters[name] for name in ("run", "dataset", "photo_root"))
        photos = pq.read_metadata(folder / _RESULTS).num_rows
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {"run": run, "dataset": dataset, "photo_root": root, "name": f"{run} on {dataset}", "photos": photos}


def _refuse_absent_photos(chosen: Mapping[str, Any]) -> None:
    """The notebook would fetch them from where the list has them from, and the page asks no other machine."""
    dataset, root = chosen["dataset"], chosen["photo_root"]
    if data_lists.has_rendered_photos(dataset):
        return
    rows = data_lists.read(dataset)
    test = rows.loc[rows["split"] == "test", "path"]
    there = set(photo_stores.open_store(fetch.photo_folder(dataset, root)).names())
    absent = int((~test.isin(there)).sum())
    if absent:
        raise Refusal(f"{absent} photos are not on this machine: 06_demo/share.ipynb fetches those that can be fetched")
