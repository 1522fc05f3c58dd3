"""What 100 thousand, 4.7 million and 100 million photos take: time, memory, disk and money, and what limits.

``benchmarks/scale.ipynb`` tells it and writes ``benchmarks/scale.md``. The page rests on costs of a photo that are
measured (`benchmarks.scale_costs`), on long made-up lists that are taken through list, partition and labels
(`benchmarks.scale_lists`), and on assumptions about machines that nobody had at hand, all of them named.

``python -m benchmarks.scale simulate --rows 100000000 --folder FOLDER`` measures a list of that length and keeps the
figures in ``benchmarks/scale.json``.
"""

import argparse
import datetime
import itertools
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import __main__ as table
from benchmarks import scale_costs, scale_lists
from helpers import manifests, paths

PHOTOS = {"100 thousand": 100_000, "4.7 million": 4_700_000, "100 million": 100_000_000}
SIMULATIONS = Path(__file__).with_suffix(".json")
_IN_PARTS = "a given list: cells, labels"
STAGES = (
    "download and shrink",
    "pack",
    "scenes",
    _IN_PARTS,
    *(f"train {recipe}" for recipe in scale_costs.RECIPES),
    "evaluate",
)
PAPER_RECIPE = "resnet50, all"
"""That of the paper's PyTorch successor, which totals and figures are about."""
LIMITS = ("download", "disk", "cores", "GPU", "all-reduce")
"""What can limit a stage."""
MOST_ROWS_IN_MEMORY = 10_000_000
"""Of lists that are simulated; longer ones go part by part only."""
_CROPS = 5


@dataclass(frozen=True)
class Machine:
    """One or more equal computers.

    Attributes
    ----------
    name
        In tables.
    computers
        How many; what follows is that of one.
    cores
        That decode photos; each as fast as one of the machine that the costs were measured on.
    gpus
        0 where networks run on the cores.
    gpu_tflops
        Peak of one GPU, in 10¹² operations a second.
    memory_gb, download_mb_per_second, disk_mb_per_second, price_per_hour
        What their names say.
    """

    name: str
    computers: int
    cores: int
    gpus: int
    gpu_tflops: float
    memory_gb: float
    download_mb_per_second: float
    disk_mb_per_second: float
    price_per_hour: float

    @property
    def processes(self) -> int:
        """Of training, on one computer."""
        return max(1, self.gpus)


def machines(p: SimpleNamespace) -> list[Machine]:
    """The machines of the page, from the parameters of the notebook; costs are measured on the first."""
    cpu = Machine(
        name=f"CPU, {os.cpu_count()} cores",
        computers=1,
        cores=os.cpu_count() or 1,
        gpus=0,
        gpu_tflops=0.0,
        memory_gb=p.cpu_memory_gb,
        download_mb_per_second=p.cpu_download_mb_per_second,
        disk_mb_per_second=p.cpu_disk_mb_per_second,
        price_per_hour=p.price_per_cpu_hour,
    )
    colab = Machine(
        name="Colab T4",
        computers=1,
        cores=p.colab_cores,
        gpus=1,
        gpu_tflops=p.colab_peak_tflops,
        memory_gb=p.colab_memory_gb,
        download_mb_per_second=p.colab_download_mb_per_second,
        disk_mb_per_second=p.colab_disk_mb_per_second,
        price_per_hour=p.price_per_colab_hour,
    )
    rented = [
        Machine(
            name=f"{computers * gpus} x {p.gpu}",
            computers=computers,
            cores=gpus * p.cores_per_gpu,
            gpus=gpus,
            gpu_tflops=p.gpu_peak_tflops,
            memory_gb=gpus * p.memory_gb_per_gpu,
            download_mb_per_second=p.cloud_download_mb_per_second,
            disk_mb_per_second=p.cloud_disk_mb_per_second,
            price_per_hour=gpus * p.price_per_gpu_hour,
        )
        for computers, gpus in ((1, 1), (1, 8), (8, 8))
    ]
    return [cpu, colab, *rented]


def seconds(
    stage: str, photos: float, machine: Machine, cost: Mapping[str, float], p: SimpleNamespace, luck: float
) -> dict[str, float]:
    """Seconds that each resource needs for a stage; they work side by side, so the slowest is the time it takes.

    Parameters
    ----------
    stage : str
        One of `STAGES`.
    photos : float
        Of the list.
    machine : Machine
    cost : mapping of str to float
        Values of `scale_costs.measure`, and ``list row``, `list_row_seconds`.
    p : namespace
        Parameters of the notebook.
    luck : float
        From 0, where a GPU is used as little of its peak as assumed, to 1, where it is used as much.

    Returns
    -------
    dict
        By those of `LIMITS` that the stage needs. Without a GPU, decoding and neural network share the cores, and their
        times add up.
    """
    cores, computers = machine.cores * machine.computers, machine.computers
    disk = machine.disk_mb_per_second * 1e6 * computers
    stored = cost["JPEG of 320 px"] + cost["tar header and index"]
    if stage.startswith("train "):
        return _training(stage.removeprefix("train "), photos, machine, cost, p, luck)
    if stage == "download and shrink":
        core_seconds = cost["request a photo"] + cost["shrink to 320 px"] + cost["pack"]
        return {
            "download": photos * cost["original"] / (machine.download_mb_per_second * 1e6 * computers),
            "cores": photos * core_seconds / cores,
            "disk": photos * stored / disk,
        }
    if stage == "pack":
        return {"cores": photos * cost["pack"] / cores, "disk": photos * (cost["JPEG of 320 px"] + stored) / disk}
    if stage == _IN_PARTS:
        return {"cores": photos * cost["list row"]}  # one process
    if stage == "scenes":
        learning = _seeing(cost["centre view"], {"scenes": 1}, photos, machine, cost, p, luck)
    else:
        photos *= p.test_share
        network = {f"{_architecture(PAPER_RECIPE)}: features": _CROPS}
        learning = _seeing(cost["five crops"], network, photos, machine, cost, p, luck)
    return {"disk": photos * stored / disk, **learning}


def _training(
    recipe: str, photos: float, machine: Machine, cost: Mapping[str, float], p: SimpleNamespace, luck: float
) -> dict[str, float]:
    frozen = scale_costs.RECIPES[recipe][1] == "heads"
    read = photos * (1 if frozen else p.epochs)  # features of a frozen backbone are computed once
    network = {f"{recipe}: step": p.epochs, **({f"{_architecture(recipe)}: features": 1} if frozen else {})}
    decoding = cost["centre view"] if frozen else p.epochs * cost["view for training"]
    stored = cost["JPEG of 320 px"] + cost["tar header and index"]
    return {
        "disk": read * stored / (machine.disk_mb_per_second * 1e6 * machine.computers),
        **_seeing(decoding, network, photos, machine, cost, p, luck),
        "all-reduce": photos * p.epochs * _reducing(machine, cost[f"{recipe}: gradients"], p),
    }


def _seeing(
    decoding: float,
    network: Mapping[str, float],
    photos: float,
    machine: Machine,
    cost: Mapping[str, float],
    p: SimpleNamespace,
    luck: float,
) -> dict[str, float]:
    """Seconds, from the core seconds of decoding a photo and how often each part of a network sees it."""
    cores = machine.cores * machine.computers
    if not machine.gpus:
        return {"cores": photos * (decoding + sum(times * cost[name] for name, times in network.items())) / cores}
    speed = machine.gpu_tflops * 1e12 * machine.gpus * machine.computers
    used = {name: speed * _utilisation(name, p, luck) for name in network}
    gpu_seconds = sum(times * cost[f"{name}, operations"] / used[name] for name, times in network.items())
    return {"cores": photos * decoding / cores, "GPU": photos * gpu_seconds}


def _reducing(machine: Machine, gradient_bytes: float, p: SimpleNamespace) -> float:
    """Seconds of a ring all-reduce, of one photo's share of a step."""
    processes = machine.processes * machine.computers
    bandwidth = (p.between_computers_gb_per_second if machine.computers > 1 else p.within_computer_gb_per_second) * 1e9
    return gradient_bytes * 2 * (processes - 1) / processes / bandwidth / (p.batch_size_per_gpu * processes)


def _utilisation(network: str, p: SimpleNamespace, luck: float) -> float:
    """Share of a GPU's peak; on a logarithmic scale between its ends."""
    convolutions = "" if network.startswith("resnet") else "depthwise_"
    low, high = (getattr(p, f"{convolutions}utilisation_{end}") for end in ("low", "high"))
    return low * (high / low) ** luck


def _architecture(recipe: str) -> str:
    return scale_costs.RECIPES[recipe][0]


def estimates(costs: pd.DataFrame, simulations: pd.DataFrame, p: SimpleNamespace) -> pd.DataFrame:
    """Every stage on every machine, for lists of all lengths.

    Returns
    -------
    DataFrame
        ``photos, machine, stage``, whether what it holds ``fits`` in memory, and for the best utilisation of a GPU
        (``_low``) and the worst (``_high``) ``hours``, what is the ``limit``, and ``price`` of all computers.
    """
    cost = {**costs["value"], "list row": list_row_seconds(simulations)}
    start, row_bytes = bytes_in_memory(simulations)
    found = []
    for photos, machine, stage in itertools.product(PHOTOS.values(), machines(p), STAGES):
        row: dict[str, Any] = {"photos": photos, "machine": machine.name, "stage": stage}
        recipe = stage.removeprefix("train ") if stage.startswith("train ") else ""
        frozen = recipe and scale_costs.RECIPES[recipe][1] == "heads"
        features = cost[f"{_architecture(recipe)}: features of a photo"] if frozen else 0.0
        holding = machine.processes if recipe else int(stage != _IN_PARTS)
        row["fits"] = holding * (start + (row_bytes + features) * photos) <= machine.memory_gb * 1e9
        for end, luck in (("low", 1), ("high", 0)):
            needed = seconds(stage, photos, machine, cost, p, luck)
            row[f"limit_{end}"] = max(needed, key=needed.__getitem__)
            row[f"hours_{end}"] = needed[row[f"limit_{end}"]] / 3600
            computers = 1 if stage == _IN_PARTS else machine.computers
            row[f"price_{end}"] = row[f"hours_{end}"] * computers * machine.price_per_hour
        found.append(row)
    return pd.DataFrame(found)


def stage_table(estimated: pd.DataFrame, photos: int) -> pd.DataFrame:
    """Time of every stage on every machine, with what limits it, as text."""
    chosen = estimated[estimated["photos"] == photos]
    told = pd.Series([_told(row) for row in chosen.to_dict("records")], [chosen["stage"], chosen["machine"]])
    return _by_machine(told, chosen["machine"]).loc[list(STAGES)]


def whole_table(estimated: pd.DataFrame, what: str) -> pd.DataFrame:
    """``hours`` or ``price`` of all stages one after the other, with the paper's recipe, as text."""
    other = [f"train {recipe}" for recipe in scale_costs.RECIPES if recipe != PAPER_RECIPE]
    chosen = estimated[~estimated["stage"].isin(other)]
    sums = chosen.groupby(["photos", "machine"], sort=False)[[f"{what}_low", f"{what}_high"]].sum()
    in_words = duration if what == "hours" else _range
    told = pd.Series([in_words(low, high) for low, high in sums.to_numpy()], sums.index)
    names = dict(zip(PHOTOS.values(), PHOTOS, strict=True))
    return _by_machine(told, chosen["machine"]).rename(names)


def duration(low: float, high: float) -> str:
    """A range of hours in words.

    Examples
    --------
    >>> duration(0.01, 0.01), duration(1.5, 2.75), duration(30, 30.2), duration(5000, 9000)
    ('36 s', '90 to 165 min', '30 h', '208 to 375 days')
    """
    if not math.isfinite(high):
        raise ValueError(f"{high} hours is no duration: look for a speed of 0 among the parameters")
    if high < 1 / 3600:
        return "under 1 s"
    units = (
        *(("s", 1 / 3600, 120), ("min", 1 / 60, 180), ("h", 1, 72), ("days", 24, 730)),
        ("years", 24 * 365.25, math.inf),
    )
    unit, hours, _ = next(each for each in units if high / each[1] <= each[2])
    return f"{_range(low / hours, high / hours)} {unit}"


def _by_machine(told: pd.Series, names: pd.Series) -> pd.DataFrame:
    """A column for each machine, which says whether that was at hand."""
    first, *assumed = names.unique()
    wide = told.unstack("machine")[[first, *assumed]].rename_axis(columns=None)
    return wide.rename(columns={name: f"{name} (assumed)" for name in assumed})


def _told(row: Mapping[str, Any]) -> str:
    limits = " or ".join(dict.fromkeys([row["limit_low"], row["limit_high"]]))
    return f"{duration(row['hours_low'], row['hours_high'])}, {limits}" + ("" if row["fits"] else " †")


def _range(low: float, high: float) -> str:
    """Two numbers, to two digits or so; one where they look alike."""
    digits = 2 if high < 1 else int(high < 10)
    texts = dict.fromkeys(f"{value:,.{digits}f}".removesuffix(".0") for value in (low, high))
    return " to ".join(texts)


def list_row_seconds(simulations: pd.DataFrame) -> float:
    """Core seconds of a row of the longest list that was simulated, through all steps but that in memory."""
    longest = simulations[simulations["rows"] == simulations["rows"].max()]
    return float((longest["core_seconds"] / longest["rows"])[longest["step"] != scale_lists.IN_MEMORY].sum())


def bytes_in_memory(simulations: pd.DataFrame) -> tuple[float, float]:
    """What a process needs that reads a list whole: bytes at the start, and for every row, by least squares."""
    known = simulations[simulations["step"] == scale_lists.IN_MEMORY]
    if len(known) < 2:
        raise ValueError("a straight line needs lists of two lengths that were read in memory: simulate another one")
    slope, start = np.polyfit(known["rows"], known["peak_bytes"], 1)
    return float(start), float(slope)


def read_simulations(now: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Every step of every list that was simulated: those of ``scale.json``, and one that was measured now.

    Returns
    -------
    DataFrame
        ``rows, step, seconds, core_seconds, peak_bytes, bytes``, and ``date, machine, code`` of its measuring.
    """
    lists = [each for each in _kept() if not now or each["rows"] != now["rows"]] + ([dict(now)] if now else [])
    found = [
        {"rows": each["rows"], "step": name, **step, **{key: each[key] for key in ("date", "machine", "code")}}
        for each in lists
        for name, step in each["steps"].items()
    ]
    return pd.DataFrame(found).sort_values("rows", kind="stable", ignore_index=True)


def simulate(rows: int, seed: int, folder: str = "") -> dict[str, Any]:
    """Take a made-up list through every step, see `scale_lists.simulate`, and say when, on what and by which code."""
    where = Path(folder or tempfile.gettempdir()).expanduser()
    measured = scale_lists.simulate(rows, where, seed, in_memory=rows <= MOST_ROWS_IN_MEMORY)
    code = manifests.code_version("03_partitioning/build_cells")["commit"]
    return {**measured, "date": str(datetime.date.today()), "machine": table.machine(), "code": code}


def memory_table(simulations: pd.DataFrame, costs: pd.DataFrame, p: SimpleNamespace) -> pd.DataFrame:
    """GB of memory for lists of all lengths: what bounds it part by part, and what does not."""
    start, row_bytes = bytes_in_memory(simulations)
    in_parts = simulations[simulations["step"] != scale_lists.IN_MEMORY].groupby("rows")["peak_bytes"].max()
    slope, constant = np.polyfit(in_parts.index, in_parts, 1)
    features = costs.at["efficientnet_lite0: features of a photo", "value"]
    each = {
        "list, cells and labels, part by part": lambda photos: constant + slope * photos,
        "a process that holds the list": lambda photos: start + row_bytes * photos,
        f"eight of them, on a computer of {8 * p.memory_gb_per_gpu:,.0f} GB": lambda photos: (
            8 * (start + row_bytes * photos)
        ),
        "features of a frozen efficientnet_lite0, in each process": lambda photos: features * photos,
    }
    columns = {name: [found(photos) / 1e9 for found in each.values()] for name, photos in PHOTOS.items()}
    return pd.DataFrame(columns, index=list(each))


def disk_table(costs: pd.DataFrame, simulations: pd.DataFrame) -> pd.DataFrame:
    """GB on disk of what is kept of photos."""
    cost, header = costs["value"], costs.at["tar header and index", "value"]
    longest = simulations[simulations["rows"] == simulations["rows"].max()].set_index("step")
    kept = {
        "photos as they come": cost["original"] + header,
        **{f"photos of short side {side} px": cost[f"JPEG of {side} px"] + header for side in scale_costs.SIDES},
        "raw pixels, squares of 256 px": cost["raw square of 256 px"],
        "features of efficientnet_lite0": cost["efficientnet_lite0: features of a photo"],
        "the list, compressed": longest.at["write the list", "bytes"] / longest["rows"].iloc[0],
        "labels in three partitions": longest.at["label every photo", "bytes"] / longest["rows"].iloc[0],
    }
    return pd.DataFrame(
        {name: {what: each * photos / 1e9 for what, each in kept.items()} for name, photos in PHOTOS.items()}
    )


def _kept() -> list[dict[str, Any]]:
    return json.loads(SIMULATIONS.read_text(encoding="utf-8")) if SIMULATIONS.exists() else []


def main() -> None:
    """Simulate lists and keep what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=simulate.__doc__)
    parser.add_argument("command", choices=["simulate"])
    parser.add_argument("--rows", type=int, nargs="+", required=True, help="how long the lists are")
    parser.add_argument("--folder", default="", help="where they lie meanwhile: 200 bytes a row (default: %(default)r)")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    for rows in given.rows:
        measured = simulate(rows, given.seed, given.folder)
        lists = sorted([*(each for each in _kept() if each["rows"] != rows), measured], key=lambda each: each["rows"])
        with paths.replacing(SIMULATIONS) as temporary:
            temporary.write_text(json.dumps(lists, indent=1) + "\n", encoding="utf-8")
        print(f"kept in {SIMULATIONS}", flush=True)


if __name__ == "__main__":
    main()
