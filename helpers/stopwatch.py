"""What the time of training goes into."""

import time
from collections import defaultdict
from typing import Any

import torch

_EVENTS_IN_FLIGHT = 512


class Stopwatch:
    """Adds up the time between marks by what was done in it.

    Parameters
    ----------
    device : torch.device
        That works. A GPU's time is taken on the GPU, which is behind the program: what it waits for counts as waiting,
        and what it does meanwhile does not.

    Examples
    --------
    >>> watch = Stopwatch(torch.device("cpu"))
    >>> watch.mark("input")
    >>> list(watch.seconds())
    ['input']
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._seconds: dict[str, float] = defaultdict(float)
        self._pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self.skip()

    def skip(self) -> None:
        """Leave out the time since the last mark."""
        self._last = self._now()

    def mark(self, work: str) -> None:
        """Count the time since the last mark as that of `work`."""
        now = self._now()
        if self._on_gpu:
            self._pending.append((work, self._last, now))
            if len(self._pending) > _EVENTS_IN_FLIGHT:
                self._add(_EVENTS_IN_FLIGHT // 2)
        else:
            self._seconds[work] += now - self._last
        self._last = now

    def seconds(self) -> dict[str, float]:
        """Seconds by work since this was last asked."""
        self._add(len(self._pending))
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds

    def _now(self) -> Any:
        """An event on a GPU, else seconds."""
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _add(self, count: int) -> None:
        for work, start, end in self._pending[:count]:
            end.synchronize()
            self._seconds[work] += start.elapsed_time(end) / 1000
        del self._pending[:count]
