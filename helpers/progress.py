"""Show how far a long task is: a bar where somebody watches, plain lines where a log is written."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 5.0
_LINE = re.compile(r"(.+): (\d+)/(\d+) (.+) \(\d+ %\)")
listeners: list[Callable[[], None]] = []
"""Are called whenever something is done, of whatever task."""

_bars: dict[str, tqdm] = {}


def watched() -> bool:
    """Whether a person sees this output live: a kernel of a Jupyter server, or a terminal."""
    return "JPY_SESSION_NAME" in os.environ or sys.stderr.isatty()


def unwatched() -> dict[str, str]:
    """Environment for a child process whose output is read here: it writes lines, which :func:`show` shows."""
    return {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}


def track(items: Iterable[Item], label: str, total: int | None = None, unit: str = "photos") -> Iterator[Item]:
    """Yield `items` while showing how many are done.

    Parameters
    ----------
    items : iterable
        What is worked through.
    label : str
        What is being done, e.g. ``"rendering"``.
    total : int, optional
        Number of items, by default ``len(items)`` where there is one.
    unit : str
        What an item is, in the plural.

    Notes
    -----
    Headless, one plain line is printed every five seconds and nothing at all for a task shorter than that, because
    bars flood a log and stand still in an executed notebook.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with counting(label, total, unit) as count:
        for item in items:
            yield item
            count(1)


@contextmanager
def counting(label: str, total: int | None, unit: str = "photos") -> Iterator[Callable[[int], None]]:
    """Give a function that is called with the number of items done since the last call; see :func:`track`."""
    if watched():
        with tqdm(desc=label, total=total, unit=f" {unit}") as bar:

            def move(more: int) -> None:
                _tell()
                bar.update(more)

            yield move
        return
    start = last = time.monotonic()
    done = spoken = 0

    def count(more: int) -> None:
        nonlocal last, done, spoken
        _tell()
        done += more
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES:
            print(line(label, done, total, unit, now - start), flush=True)
            last, spoken = now, done

    yield count
    if 0 < spoken < done:
        print(line(label, done, total, unit, time.monotonic() - start), flush=True)


def line(label: str, done: int, total: int | None, unit: str, seconds: float) -> str:
    """One line of progress.

    Examples
    --------
    >>> line("rendering", 500, 2000, "photos", 2.0)
    'rendering: 500/2000 photos (25 %), 250/s, 6 s left'
    >>> line("rendering", 2000, 2000, "photos", 8.0)
    'rendering: 2000/2000 photos (100 %), 250/s, 8 s'
    """
    rate = done / max(seconds, 1e-9)
    shown_rate = f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
    if not total:
        return f"{label}: {done} {unit}, {shown_rate}, {seconds:.0f} s"
    remaining = f"{(total - done) / rate:.0f} s left" if done < total else f"{seconds:.0f} s"
    return f"{label}: {done}/{total} {unit} ({done / total:.0%}), {shown_rate}, {remaining}".replace("%)", " %)")


def _tell() -> None:
    for listener in listeners:
        listener()


def duration(seconds: float) -> str:
    """A time in the two units that matter.

    Examples
    --------
    >>> duration(42.4), duration(754), duration(4_000), duration(200_000)
    ('42 s', '13 min', '1 h 7 min', '2 d 7 h')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def show(text: str) -> None:
    """Print a line of a child process, as a moving bar where it tells of progress and somebody watches."""
    match = _LINE.match(text)
    if not match or not watched():
        print(text, flush=True)
        return
    label, done, total, unit = match.groups()
    if label not in _bars:
        _bars[label] = tqdm(desc=label, total=int(total), unit=f" {unit}")
    _bars[label].update(int(done) - _bars[label].n)
    if done == total:
        _bars.pop(label).close()
