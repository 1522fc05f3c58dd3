"""``python -m helpers.demo``, which is ``make app``: the page of ``06_demo``, on this machine alone."""

import argparse
import sys

import gradio

from helpers import app, app_game, data_lists, notebooks, run_folders
from helpers.app_photos import Photos
from helpers.app_share import Share


def page(run: str) -> gradio.Blocks:
    """The page: place photos with a run, play against it, and make a page of its guesses.

    Parameters
    ----------
    run : str
        As for :func:`helpers.run_folders.find`.
    """
    photos = Photos(run)
    with gradio.Blocks(title=app.TITLE, analytics_enabled=False) as blocks:
        gradio.HTML(f"<h1>{app.TITLE}</h1>", js_on_load=None)
        with gradio.Tab("Where is this?"):
            photos.part()
        with gradio.Tab("Play"):
            app_game.part(run, photos.guess)
        with gradio.Tab("Share"):
            Share().part()
    return blocks


def usual_run() -> str:
    """Name of the newest run; where there is none, that of the embedded dataset, which is trained on the way."""
    names = run_folders.there()
    if names:
        return names[0]
    usual = notebooks.default_run_name(data_lists.EMBEDDED, "multi")
    run_folders.required(usual)
    return usual


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m helpers.demo", description="Place photos in the browser.")
    parser.add_argument("--run", default="", help="name of a run, or path of its folder; the newest one by default")
    parser.add_argument("--port", type=int, default=0, help="0: the first free one from 7860")
    asked = parser.parse_args(arguments)
    try:
        run = asked.run or usual_run()
        run_folders.find(run)
        app.ask_nobody_else()
        app.serve(page(run), asked.port)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
