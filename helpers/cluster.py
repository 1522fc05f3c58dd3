"""Map over tasks on every core of the machine, or on a cluster of machines.

The work goes through Dask: by default an embedded cluster with a process per core, which lives as long as the call, or
the scheduler that the environment variable ``DASK_SCHEDULER_ADDRESS`` names, whose workers see the same files. A task
whose worker dies is run again by another, so a task must be one that can be run twice.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from helpers import progress

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

Item = TypeVar("Item")
Task = TypeVar("Task")
Result = TypeVar("Result")

SCHEDULER = "DASK_SCHEDULER_ADDRESS"
_WORTH_PROCESSES = 1000  # items
_ITEMS_PER_TASK = 128
_TASKS_PER_WORKER = 4  # submitted ahead: enough to keep workers busy, few enough to hold their descriptions
_SECONDS_BETWEEN_REPORTS = 0.5
_SECONDS_FOR_WORKERS = 60
_reporter: ContextVar["_Reporter | None"] = ContextVar("reporter", default=None)


def mapped(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    label: str,
    total: int,
    unit: str = "photos",
    at_once: int = sys.maxsize,
) -> Iterator[tuple[int, Result]]:
    """Yield the number of a task and ``function(task)`` as tasks complete, in no particular order.

    Parameters
    ----------
    function : callable
        A function of a module, which workers can import. It calls :func:`done` as it goes.
    tasks : sequence
        Small descriptions of the work, which can be pickled. A single one is worked on in this process, unless there
        is a scheduler.
    label, unit : str
        What is being done, and to what, e.g. ``"packing"`` ``"photos"``.
    total : int
        Number of units in all tasks.
    at_once : int
        Most tasks that run at a time, by default as many as there are cores.

    Raises
    ------
    RuntimeError
        If workers keep dying over one task, or the scheduler has no workers or is not there.
    Exception
        What a task raises; tasks that have not begun are cancelled.
    """
    with progress.counting(label, total, unit) as count:
        if len(tasks) > 1 or SCHEDULER in os.environ:
            yield from _distributed(function, tasks, count, at_once)
            return
        for number, task in enumerate(tasks):
            yield number, _reporting(function, task, count)


def each(function: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str = "photos") -> list[Result]:
    """``function(item)`` of all items, in their order; see :func:`mapped`.

    Fewer than a thousand items stay in this process: starting Python on every core takes longer.
    """
    size = _ITEMS_PER_TASK if len(items) >= _WORTH_PROCESSES else max(len(items), 1)
    tasks = [(function, items[start : start + size]) for start in range(0, len(items), size)]
    results = dict(mapped(_each, tasks, label, len(items), unit))
    return [result for number in range(len(tasks)) for result in results[number]]


def cores() -> int:
    """Number of tasks that run at a time."""
    if SCHEDULER not in os.environ:
        return os.cpu_count() or 1
    with _client() as client:
        return sum(client.nthreads().values())


def done(count: int = 1) -> None:
    """Say, within a task, that `count` more units are done; elsewhere this does nothing."""
    reporter = _reporter.get()
    if reporter:
        reporter.add(count)


def _each(task: tuple[Callable[[Item], Result], Sequence[Item]]) -> list[Result]:
    function, items = task
    results = []
    for item in items:
        results.append(function(item))
        done()
    return results


class _Reporter:
    """Passes on counts, but not more often than anyone can read."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self.send = send
        self.pending = 0
        self.last = 0.0

    def add(self, count: int) -> None:
        # The first unit took as long as its libraries to load, and says nothing of the others.
        self.last = self.last or time.monotonic()
        self.pending += count
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_REPORTS:
            self.flush()

    def flush(self) -> None:
        pending, self.pending, self.last = self.pending, 0, time.monotonic()
        if pending:
            self.send(pending)


def _reporting(function: Callable[[Task], Result], task: Task, send: Callable[[int], None]) -> Result:
    reporter = _Reporter(send)
    token = _reporter.set(reporter)
    try:
        return function(task)
    finally:
        _reporter.reset(token)
        reporter.flush()


def _on_worker(function: Callable[[Task], Result], task: Task, topic: str) -> Result:
    from distributed import get_worker

    worker = get_worker()
    return _reporting(function, task, lambda count: worker.log_event(topic, count))


def _distributed(
    function: Callable[[Task], Result], tasks: Sequence[Task], count: Callable[[int], None], at_once: int
) -> Iterator[tuple[int, Result]]:
    from distributed import Future, KilledWorker, wait

    with _client() as client:
        topic, reported = f"progress-{client.id}", _Tally()
        client.subscribe_topic(topic, reported.receive)
        waiting = iter(enumerate(tasks))
        running: dict[Future, int] = {}

        def submit(places: int) -> None:
            for _, (number, task) in zip(range(places), waiting, strict=False):
                # A key of its own, because equal calls would else be taken for one.
                future = client.submit(_on_worker, function, task, topic, key=f"{topic}-{number}", pure=False)
                running[future] = number

        try:
            submit(min(_TASKS_PER_WORKER * max(sum(client.nthreads().values()), 1), at_once))
            while running:
                try:
                    with client.as_current():
                        ended = wait(list(running), _SECONDS_BETWEEN_REPORTS, return_when="FIRST_COMPLETED").done
                except TimeoutError:
                    ended = set()
                if more := reported.taken():
                    count(more)
                for future in ended:
                    number = running.pop(future)
                    try:
                        result = future.result()
                    except KilledWorker as error:
                        raise RuntimeError(
                            f"workers died {error.args[2] if len(error.args) > 2 else 'several'} times over task "
                            f"{number + 1} of {len(tasks)}: see their logs; running out of memory is the usual cause"
                        ) from error
                    submit(1)
                    yield number, result
        finally:
            client.cancel(list(running))


class _Tally:
    """What workers have reported and nobody has shown yet."""

    def __init__(self) -> None:
        self.count = 0
        self.lock = threading.Lock()

    def receive(self, event: tuple[float, int]) -> None:
        with self.lock:
            self.count += event[1]

    def taken(self) -> int:
        with self.lock:
            count, self.count = self.count, 0
        return count


@contextmanager
def kept() -> Iterator[None]:
    """Keep one embedded cluster for all calls in a block, which saves the seconds that each would start its own."""
    if SCHEDULER in os.environ:
        yield
        return
    with _local_cluster() as local:
        os.environ[SCHEDULER] = local.scheduler_address
        try:
            yield
        finally:
            os.environ.pop(SCHEDULER, None)


@contextmanager
def _client() -> Iterator["Client"]:
    """Connection to the scheduler that the environment names, or to a cluster on this machine for the time of this."""
    from distributed import Client

    address = os.environ.get(SCHEDULER)
    if not address:
        with _local_cluster() as local, Client(local, set_as_default=False) as client:
            yield client
        return
    try:
        client = Client(address, timeout=_SECONDS_FOR_WORKERS, set_as_default=False)
    except OSError as error:
        raise RuntimeError(
            f"there is no Dask scheduler at {address}, which {SCHEDULER} names: start one with `dask scheduler`, or "
            "unset the variable to use the cores of this machine"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_SECONDS_FOR_WORKERS)
        except TimeoutError as error:
            raise RuntimeError(
                f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`"
            ) from error
        yield client


@contextmanager
def _local_cluster() -> Iterator["LocalCluster"]:
    import dask
    from distributed import LocalCluster

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), 1)
    settings = {
        "distributed.comm.timeouts.connect": "60s",
        "distributed.worker.profile.enabled": False,  # nobody looks, and it costs time
        "distributed.admin.system-monitor.interval": "10s",
        "distributed.admin.tick.interval": "1s",
        # Dask would also have memory given back at once, and a decoder would wait for new pages photo after photo: a
        # third of its time.
        "distributed.nanny.pre-spawn-environ": one_thread,
    }
    before = {name: os.environ.get(name) for name in one_thread}
    try:
        with (
            tempfile.TemporaryDirectory() as scratch,
            dask.config.set(settings),
            LocalCluster(
                n_workers=os.cpu_count(),
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # tasks bound their own memory; pausing them would not
                local_directory=scratch,
                silence_logs=50,  # CRITICAL: a worker that is stopped on purpose is no news
            ) as local,
        ):
            _restore(before)
            yield local
    finally:
        _restore(before)  # again, because a worker that was replaced set them again


def _restore(variables: Mapping[str, str | None]) -> None:
    """Take back what Dask, which starts workers with these variables, sets in this process too and forgets."""
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
