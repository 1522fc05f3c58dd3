"""Run every benchmark and write the table: ``make bench``."""

import argparse
import datetime
import importlib
import os
import platform
from pathlib import Path
from typing import Any

from helpers import manifests, paths

# A child of this process begins with the memory peak of its parent: those that tell theirs come before the heavy ones.
NAMES = (
    *("toy_earth", "download", "shards", "data_lists", "lists_at_scale", "photos", "inputs", "cells"),
    *("places", "list_steps", "cleaning", "predict", "prediction", "export", "page", "training"),
)
TABLE = Path(__file__).resolve().parent / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, by default all: {', '.join(NAMES)}")
    chosen = parser.parse_args().names or NAMES
    measured = []
    for name in chosen:
        print(f"{name} ...", flush=True)
        for row in importlib.import_module(f"benchmarks.{name}").rows():
            print("  " + " | ".join(cells(row)), flush=True)
            measured.append(row)
    if tuple(chosen) == NAMES:
        with paths.replacing(TABLE) as temporary:
            temporary.write_text(page(measured))
        print(f"wrote {TABLE.relative_to(paths.SOURCE)}")


def page(measured: list[dict[str, Any]]) -> str:
    head = f"""# Benchmarks

`make bench` measures and writes this table; `python -m benchmarks NAME` prints one part of it. Ours and the plain
reference run in the same process, one after the other, medians of several, because the speed of shared machines
drifts: believe the ratios more than the rates.

Measured on {datetime.date.today()}, {machine()}, code {manifests.code_version("04_training/train")["commit"]}.

| benchmark | size | ours | reference | unit | ratio | goal |
|---|---|---|---|---|---|---|
"""
    return head + "".join(f"| {' | '.join(cells(row))} |\n" for row in measured)


def cells(row: dict[str, Any]) -> list[str]:
    """One row as text; what has no reference, ratio or goal goes without."""
    ratio = row.get("ratio")
    return [
        *(row["benchmark"], row["size"], _number(row["ours"]), _number(row.get("reference")), row["unit"]),
        (f"{ratio:.1f}" if ratio >= 10 else f"{ratio:.2f}") if ratio else "",
        str(row.get("goal") or ""),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def machine() -> str:
    """The machine in words."""
    return f"{os.cpu_count()} cores ({_processor()}), Python {platform.python_version()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
