"""The page about scale: its figures, and its text."""

import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator, StrMethodFormatter

from benchmarks import __main__ as bench
from benchmarks import scale, scale_costs, scale_lists
from helpers import manifests, paths, plots

FILES = ("scale.md", "scale.png", "scale-memory.png")
_STYLES: dict[str, object] = dict(zip(scale.LIMITS, (":", "-.", "--", "-", (0, (1, 0.6))), strict=True))
_HOURS = {"a second": 1 / 3600, "a minute": 1 / 60, "an hour": 1, "a day": 24, "a month": 24 * 30, "a year": 24 * 365}
_HOURS["a century"] = 24 * 36525


def write_page(
    folder: Path, costs: pd.DataFrame, simulations: pd.DataFrame, estimated: pd.DataFrame, p: SimpleNamespace
) -> Path:
    """Write the page, whole or not at all, and its figures beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    text, hours, memory = FILES
    plots.save(hours_figure(costs, simulations, p), folder / hours)
    plots.save(memory_figure(simulations), folder / memory)
    with paths.replacing(folder / text) as temporary:
        temporary.write_text(page(costs, simulations, estimated, p), encoding="utf-8")
    return folder / text


@plots.styled
def hours_figure(costs: pd.DataFrame, simulations: pd.DataFrame, p: SimpleNamespace) -> Figure:
    """Training with the paper's recipe on every machine: hours against photos, and what each resource would allow."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(plots.DOUBLE_COLUMN, 3.6), width_ratios=[3, 2], layout="constrained"
    )
    machines = scale.machines(p)
    stage = f"train {scale.PAPER_RECIPE}"
    needed = [
        [scale.seconds(stage, 1, machine, costs["value"], p, luck) for luck in (1, 0.5, 0)] for machine in machines
    ]
    _draw_hours(left, machines, needed, scale.bytes_in_memory(simulations))
    left.set_title(f"{p.epochs} epochs of {scale.PAPER_RECIPE}, {scale_costs.IMAGE_SIZE} px")
    _draw_rates(right, machines, needed, p.epochs)
    right.set_title("What each resource allows")
    limits = {line.get_gid() for line in left.lines}
    told = f"GPU at {_percent(p.utilisation_low, p.utilisation_high)} of its peak (assumption)"
    entries = [
        *(
            Line2D([], [], color="black", linestyle=_STYLES[limit], label=f"limited by {limit}")
            for limit in scale.LIMITS
            if limit in limits
        ),
        Patch(color="black", alpha=0.18, label=told),
        Line2D([], [], color="black", marker="x", linestyle="", label="the longest list that its processes can hold"),
    ]
    figure.legend(handles=entries, loc="outside lower center", ncols=2)
    return plots.finished(figure)


def _draw_hours(
    axes: Axes,
    machines: Sequence[scale.Machine],
    needed: Sequence[Sequence[Mapping[str, float]]],
    in_memory: tuple[float, float],
) -> None:
    """A line for each machine, its style what limits, from the seconds of a photo at best, midway and at worst."""
    photos = np.geomspace(3e4, 3e8, 2)
    for machine, resources, color in zip(machines, needed, plots.PALETTE, strict=False):
        best, middle, worst = (max(each.values()) / 3600 * photos for each in resources)
        limit = max(resources[1], key=resources[1].__getitem__)
        axes.fill_between(photos, best, worst, color=color, alpha=0.18, linewidth=0)
        axes.plot(photos, middle, color=color, linestyle=_STYLES[limit], gid=limit)
        longest = (machine.memory_gb * 1e9 / machine.processes - in_memory[0]) / in_memory[1]
        if photos[0] < longest < photos[-1]:
            hours = middle[0] / photos[0] * longest
            axes.plot(longest, hours, "x", color=color, markersize=5, markeredgewidth=1.4)
        end = (photos[-1], middle[-1])
        axes.annotate(machine.name, end, (4, 0), textcoords="offset points", color=color, va="center")
    axes.set(xscale="log", yscale="log", xlim=(photos[0], photos[-1]))
    axes.set_xticks(list(scale.PHOTOS.values()), [name.replace(" ", "\n") for name in scale.PHOTOS])
    axes.set_yticks(list(_HOURS.values()), list(_HOURS))
    axes.minorticks_off()
    axes.set_xlabel("Training photos")


def _draw_rates(
    axes: Axes, machines: Sequence[scale.Machine], needed: Sequence[Sequence[Mapping[str, float]]], epochs: int
) -> None:
    """Photos a second that each resource of the machines could do alone: the lowest is the limit."""
    for number, resources in enumerate(needed):
        best, middle, worst = resources
        for place, resource in enumerate(name for name in scale.LIMITS if middle.get(name)):
            at = number + 0.12 * place - 0.15
            look = {"color": plots.PALETTE[scale.LIMITS.index(resource)], "marker": plots._MARKERS[place]}
            rates = [epochs / each[resource] for each in (best, middle, worst)]
            axes.plot([at] * 2, rates[::2], color=look["color"], linewidth=0.8)
            axes.plot(at, rates[1], linestyle="", label=resource, **look)
    axes.set_yscale("log")
    axes.set_xticks(range(len(machines)), ["\n".join(machine.name.rsplit(" ", 1)) for machine in machines])
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("Photos a second")
    labelled = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(labelled.values(), labelled, loc="upper left")


@plots.styled
def memory_figure(simulations: pd.DataFrame) -> Figure:
    """Peak memory against rows: each step part by part; the list held whole, with the straight line that it follows."""
    figure, axes = plt.subplots(figsize=(plots.DOUBLE_COLUMN, 3.0), layout="constrained")
    start, row_bytes = scale.bytes_in_memory(simulations)
    rows = np.geomspace(simulations["rows"].min() / 2, 2e8, 50)
    colors = (plots.PALETTE[0], *plots.PALETTE[2:5], plots.PALETTE[1])
    for step, color, marker in zip(scale_lists.STEPS, colors, "os^Dv", strict=True):
        known = simulations[simulations["step"] == step]
        whole = step == scale_lists.IN_MEMORY
        look = {"linestyle": "" if whole else "-", "marker": marker, "color": color}
        label = "all of it in memory" if whole else f"{step}, part by part"
        axes.plot(known["rows"], known["peak_bytes"] / 2**30, label=label, **look)
    line = (start + row_bytes * rows) / 2**30
    axes.plot(rows, line, color=colors[-1], linestyle="--", linewidth=0.8)
    told = f"{row_bytes:,.0f} bytes a row"
    axes.annotate(told, (rows[-1], line[-1]), (-28, -4), ha="right", textcoords="offset points", color=colors[-1])
    axes.set(xscale="log", yscale="log", xlim=(rows[0], rows[-1]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows / 1e6:g} million"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("Rows of the list")
    axes.set_ylabel("Peak memory (GiB)")
    axes.set_title("Memory of the steps of a list, measured")
    figure.legend(loc="outside right upper")
    return plots.finished(figure)


def costs_table(costs: pd.DataFrame) -> pd.DataFrame:
    """What was measured of a photo, in units that suit it, as text."""
    prefixes = {1e9: "G", 1e6: "M", 1e3: "k", 1: "", 1e-3: "m", 1e-6: "µ"}
    units = {"core seconds": "s of a core", "bytes": "B", "operations": "FLOP"}
    told = []
    for value, unit in zip(costs["value"], costs["unit"], strict=True):
        size = next((size for size in prefixes if value >= size), 1e-6)
        told.append(f"{value / size:.3g} {prefixes[size]}{units[unit]}")
    return pd.DataFrame({"of a photo": told, "how": costs["how"]})


def simulation_table(simulations: pd.DataFrame) -> pd.DataFrame:
    """What was measured of long lists, as text."""
    return pd.DataFrame(
        {
            "rows": simulations["rows"].map("{:,}".format),
            "step": simulations["step"],
            "seconds": simulations["seconds"].map("{:,.1f}".format),
            "core seconds": simulations["core_seconds"].map("{:,.1f}".format),
            "peak, GiB": (simulations["peak_bytes"] / 2**30).map("{:.2f}".format),
            "files, MB": (simulations["bytes"] / 1e6).map("{:,.1f}".format),
        }
    )


def page(costs: pd.DataFrame, simulations: pd.DataFrame, estimated: pd.DataFrame, p: SimpleNamespace) -> str:
    """The page, in Markdown."""
    code = manifests.code_version("benchmarks/scale")["commit"]
    longest = simulations[simulations["rows"] == simulations["rows"].max()]
    in_parts = longest[longest["step"] != scale_lists.IN_MEMORY]
    _, row_bytes = scale.bytes_in_memory(simulations)
    return f"""# What scale takes

Time, memory, disk and money for {", ".join(scale.PHOTOS)} photos. `benchmarks/scale.ipynb` makes this page:

    papermill benchmarks/scale.ipynb out.ipynb

**Measured**, on {datetime.date.today()}, {bench.machine()}, code {code}:
what a photo costs; and long lists, at the dates that their table names.

**Assumed**: everything about Colab and rented machines, which have `assumed` above their column, and how fast
downloads and disks are, the CPU's included. **No GPU was at hand**: a time of a GPU is the operations of the network,
counted, over the peak of the GPU's data sheet times the share of it that networks reach. That share is assumed,
{_percent(p.utilisation_low, p.utilisation_high)}, or with depthwise convolutions (EfficientNet-Lite)
{_percent(p.depthwise_utilisation_low, p.depthwise_utilisation_high)}, which is why there is a range.
Prices are assumptions, too: set your own.

## Time, and what limits it

The resources of a stage work side by side, and the slowest is the time it takes: `download` (the network), `disk`,
`cores` (decoding, and without a GPU the neural network, too), `GPU`, `all-reduce` (of gradients between GPUs).
† What it holds today does not fit in memory: the rows of the list, in training once in each process, and there the
features of a frozen backbone, too. Building a list, with its splits, is in memory as well (`01_data/make_list`).

{_stage_tables(estimated)}

{_moves(estimated)}

![Hours of training against photos, and what each resource allows](scale.png)

*{p.epochs} epochs of {scale.PAPER_RECIPE}, from JPEGs of short side 320. Left, the style of a line is what limits;
right, the lowest mark of a machine is.*

All stages one after the other, with training of {scale.PAPER_RECIPE}. On Colab, sessions end after some
{p.colab_session_hours:g} hours (assumption): a longer time is many sessions, each of which goes on from a checkpoint.

{_markdown(scale.whole_table(estimated, "hours"))}

Their price, in the currency of the parameters:

{_markdown(scale.whole_table(estimated, "price"))}

## Memory

A list of {longest["rows"].iloc[0]:,} photos was made up, written, read and checked, divided into three partitions
(with the paper's thresholds in proportion, so that there are about as many cells as the paper has), and every photo
was labelled. Part by part, no step took more than {in_parts["peak_bytes"].max() / 2**30:.1f} GiB. What grows with the
list is 32 bytes for each training photo while partitions are built: its coordinates, its leaf cell, and the leaf cells
in order. A process that holds the whole list takes {row_bytes:,.0f} bytes a row.

![Peak memory against rows](scale-memory.png)

{_markdown(simulation_table(simulations), index=False)}

Lists of up to {scale.MOST_ROWS_IN_MEMORY:,} rows went both ways; partitions and labels were the same, to the bit.
**Not simulated**: the photos themselves, and splits that keep authors *and* places together. Those link photos
across the whole list, which `data_lists.build` does in memory; here an author's number says which split it is in.
Nor does reading part by part notice a path that occurs in two parts, as reading the whole list does.
The long lists ran at the lowest priority beside other work: believe the core seconds, not the seconds.
{_measured_on(simulations)}

GB of memory, on the straight lines through what was measured:

{_markdown(_numbers(scale.memory_table(simulations, costs, p)))}

## Disk

GB, with what a shard has beside each photo:

{_markdown(_numbers(scale.disk_table(costs, simulations)))}

## Costs of a photo, measured

Networks have heads of {" + ".join(map(str, scale_costs.PAPER_CELLS.values()))} classes, the paper's.

{_markdown(costs_table(costs))}

A row of the list costs {scale.list_row_seconds(simulations) * 1e6:.1f} µs of a core, all its steps part by part.

## Assumptions

The parameters of the notebook: set them there, and make the page again.

{_markdown(_assumptions(p))}
"""


def _assumptions(p: SimpleNamespace) -> pd.DataFrame:
    """Parameters as they are, with what the notebook says of them."""
    cells = json.loads(paths.notebook("benchmarks/scale").read_text(encoding="utf-8"))["cells"]
    lines = [line for cell in cells if "parameters" in cell["metadata"].get("tags", []) for line in cell["source"]]
    what = {line.partition(" = ")[0]: line.partition("  # ")[2].strip() for line in lines}
    found = pd.DataFrame({"value": vars(p), "what": pd.Series({name: what[name] for name in vars(p)})})
    return found.loc[list(vars(p))].rename_axis("parameter")


def _stage_tables(estimated: pd.DataFrame) -> str:
    return "\n\n".join(
        f"### {name} photos\n\n{_markdown(scale.stage_table(estimated, photos))}"
        for name, photos in scale.PHOTOS.items()
    )


def _moves(estimated: pd.DataFrame) -> str:
    """Where the bottleneck of training moves from machine to machine."""
    stage = f"train {scale.PAPER_RECIPE}"
    chosen = estimated[(estimated["stage"] == stage) & (estimated["photos"] == max(scale.PHOTOS.values()))]
    limits = [
        f"{row.machine}: {' or '.join(dict.fromkeys([row.limit_low, row.limit_high]))}" for row in chosen.itertuples()
    ]
    return f"What limits training of {scale.PAPER_RECIPE} moves with the machine: {'; '.join(limits)}."


def _percent(low: float, high: float) -> str:
    return f"{100 * low:g} to {100 * high:g} %"


def _numbers(found: pd.DataFrame) -> pd.DataFrame:
    return found.map(lambda value: f"{value:,.3g}" if value < 100 else f"{value:,.0f}")


def _measured_on(simulations: pd.DataFrame) -> str:
    where = simulations[["rows", "date", "machine", "code"]].drop_duplicates()
    return "\n".join(f"{row.rows:,} rows: on {row.date}, {row.machine}, code {row.code}." for row in where.itertuples())


def _markdown(found: pd.DataFrame, index: bool = True) -> str:
    shown = found.reset_index() if index else found
    lines = [["" if name == "index" else str(name) for name in shown.columns], ["---"] * len(shown.columns)]
    lines += [[str(value) for value in row] for row in shown.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
