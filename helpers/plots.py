"""Figures and maps in one style: sized for a paper's column, safe for any colour vision, the same bytes each time."""

import math
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from matplotlib.transforms import ScaledTranslation
from numpy.typing import ArrayLike, NDArray

from helpers import breakdown, leakage, metrics, paths, places, progress

SINGLE_COLUMN, DOUBLE_COLUMN = 3.4, 7.0  # inches, in a two-column paper

# Okabe & Ito's colours, told apart with any colour vision; without their yellow, too faint on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dv*P"
SPLIT_COLORS = {"train": "#56B4E9", "validation": "#E69F00", "test": "#4A1942"}
_SPLIT_MARKERS = {"train": "o", "validation": "d", "test": "s"}

OUTCOME_COLORS = {
    **{"there before": "#56B4E9", "fetched": "#0072B2", "gone": "#4A1942", "failed": "#D55E00"},  # of a download
    **{"kept": "#0072B2", "removed": "#D55E00"},  # of cleaning
}

_SHADES = LinearSegmentedColormap.from_list("shades", ["#D6E6F4", "#6AAED6", "#1764AB", "#08204A"])  # one hue, on white
_MOST_DIGITS = 7  # of a number that was chosen; one that was sampled has more
_LEAST_ROW = 4.4  # points: a smaller row of a matrix has a name that nobody can read
_NEAREST_KM = 0.01  # nearer than 10 m is the same place, by any photo's coordinates
EVIDENCE, _COVER = "inferno", 0.6  # colours of what speaks for an answer, and how far they cover the photo
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601
_NO_DIFFERENCE = 1e-9  # of two probabilities: where a logarithm has no place for none
GREY, _BAR = "#6B6B6B", "#C9CDD1"
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "figure.dpi": 150,
    "figure.facecolor": "white",  # or a dark page would swallow the labels
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a "$" in a photo's or a model's name is a "$"
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",  # here too
    "svg.hashsalt": "photo-geolocation",  # or parts of a figure would have other names each time
}
styled = matplotlib.rc_context(_STYLE)  # as a decorator

# Without date and version, the same figure is the same file.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a figure as ``.png`` (200 dpi), ``.pdf`` or ``.svg``: the same bytes for the same figure, whole or not.

    Raises
    ------
    ValueError
        If `path` ends in none of these.
    """
    if path.suffix not in _METADATA:
        raise ValueError(f"{path.name!r} does not name a figure: end it in {' or '.join(_METADATA)}")
    with paths.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=200, metadata=_METADATA[path.suffix])
        if path.suffix == ".svg":  # for readers without our font, one as wide
            drawn = temporary.read_text(encoding="utf-8")
            family = "font-family: 'DejaVu Sans'"
            temporary.write_text(drawn.replace(family, f"{family}, Verdana, sans-serif"), encoding="utf-8")


@styled
def accuracy_plot(
    table: pd.DataFrame,
    title: str = "",
    *,
    baselines: Collection[str] = (metrics.RANDOM_TRAINING_PHOTO, metrics.MOST_LIKELY_CELL),
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """Accuracy against the distance threshold: a line per model, whiskers for its 95 % intervals.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.bootstrap.interval_table`, or without whiskers from :func:`helpers.metrics.accuracy_table`.
    title : str
    baselines : collection of str
        Models to draw grey and dashed.
    width : float
        Of the figure, in inches.

    Notes
    -----
    Models are set two points apart, so that no whisker hides another; the middle one is at the threshold.
    """
    wide = width > 5
    labels = {model: textwrap.fill(model, 28 if wide else 50) for model in table["model"]}
    legend_height = 0.45 + 0.15 * sum(label.count("\n") + 1 for label in labels.values())
    height = max(2.9, legend_height) if wide else 2.3 + legend_height
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    looks = _looks(table["model"], baselines)
    ranked = table.sort_values(metrics.SHARES[-1], ascending=False, kind="stable")
    for place, row in enumerate(ranked.to_dict("records")):
        look = looks[row["model"]]
        points_aside = (place - (len(table) - 1) / 2) * 2
        transform = axes.transData + ScaledTranslation(points_aside / 72, 0, figure.dpi_scale_trans)
        percent = [100 * row[share] for share in metrics.SHARES]
        axes.plot(
            metrics.THRESHOLDS_KM, percent, label=labels[row["model"]], transform=transform, clip_on=False, **look
        )
        for threshold, share in zip(metrics.THRESHOLDS_KM, metrics.SHARES, strict=True):
            interval = [100 * row.get(f"{share}_{end}", np.nan) for end in ("low", "high")]
            axes.plot([threshold] * 2, interval, color=look["color"], linewidth=0.8, transform=transform, clip_on=False)
    axes.set_xscale("log")
    axes.set_xlim(0.7, 3600)
    axes.set_xticks(
        metrics.THRESHOLDS_KM,
        [f"{threshold:,}\n{level}" for threshold, level in zip(metrics.THRESHOLDS_KM, metrics.LEVELS, strict=True)],
        fontsize=7 if wide else 6.3,
    )
    axes.xaxis.set_minor_locator(NullLocator())
    highest = float(np.nanmax(table.filter(regex="^within_").to_numpy(dtype=np.float64)))
    axes.set_ylim(0, min(100, max(100 * highest * 1.05, 1)))
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Great-circle distance to the true place (km)")
    axes.set_ylabel("Photos within it (%)")
    axes.set_title(title)
    photos = " or ".join(f"{number:,}" for number in sorted(set(table["photos"])))
    figure.legend(
        loc="outside right upper" if wide else "outside lower left",
        title=f"photos: {photos}" + ("\nwhiskers: 95 % intervals" if f"{metrics.SHARES[0]}_low" in table else ""),
        title_fontsize=7,
        alignment="left",
    )
    return finished(figure)


@styled
def difference_plot(differences: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """Differences between models in their shares of photos: a panel per distance, a row per pair, 95 % intervals.

    Parameters
    ----------
    differences : DataFrame
        From :func:`helpers.bootstrap.paired_differences`, at least one pair.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there is no pair.
    """
    if differences.empty:
        raise ValueError("no difference to draw: give at least two models")
    wide = width > 5
    pairs = differences[["model", "other"]].drop_duplicates().to_records(index=False).tolist()
    others = {other for _, other in pairs}
    names = [model if len(others) == 1 else f"{model} less {other}" for model, other in pairs]
    labels = [textwrap.fill(name, 28 if wide else 20, break_on_hyphens=False) for name in names]
    lines = max(label.count("\n") + 1 for label in labels)
    shape = (1, len(metrics.SHARES)) if wide else (3, 2)
    height = 0.85 + shape[0] * (0.35 + 0.13 * (lines + 0.4) * len(pairs))
    figure, panels = plt.subplots(*shape, figsize=(width, height), sharex=True, sharey=True, layout="constrained")
    panels = panels.ravel()
    for threshold, share, axes in zip(metrics.THRESHOLDS_KM, metrics.SHARES, panels, strict=False):
        found = differences[differences["figure"] == share].set_index(["model", "other"])
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=2)
        for row, pair in enumerate(pairs):
            difference, low, high = (100 * found.loc[pair, column] for column in ("difference", "low", "high"))
            excludes_0 = bool(found.loc[pair, "excludes_0"])
            color = PALETTE[0] if excludes_0 else GREY
            axes.plot([low, high], [row, row], color=color, zorder=3)
            axes.plot(difference, row, "o", color=color, markerfacecolor=color if excludes_0 else "white", zorder=4)
        axes.set_title(f"{threshold:,} km")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4 if wide else 5, integer=True, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
    for unused in panels[len(metrics.SHARES) :]:
        unused.set_axis_off()
        panels[-1 - shape[1]].tick_params(labelbottom=True)  # nothing stands below it
    panels[0].set_yticks(np.arange(len(pairs)), labels)
    panels[0].set_ylim(len(pairs) - 0.4, -0.6)
    beyond = f" from {others.pop()}" if len(others) == 1 else ""
    looks = {"95 % interval excludes 0": (PALETTE[0], PALETTE[0]), "includes 0": (GREY, "white")}
    entries = [
        Line2D([], [], color=color, marker="o", markerfacecolor=face, label=label)
        for label, (color, face) in looks.items()
    ]
    label = f"Difference{beyond} (percentage points)"
    figure.legend(
        handles=entries,
        title=textwrap.fill(label, 110 if wide else 50, break_on_hyphens=False),
        loc="outside lower center",
        ncols=2,
        columnspacing=1.4,
    )
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def growth_plot(
    table: pd.DataFrame, title: str = "", *, baselines: Collection[str] = (), width: float = DOUBLE_COLUMN
) -> Figure:
    """Accuracy against the number of training photos: a panel per distance, a line per row.

    Parameters
    ----------
    table : DataFrame
        ``row, training_photos`` and ``within_1km …``, in per cent.
    title : str
    baselines : collection of str
        Rows to draw grey and dashed.
    width : float
        Of the figure, in inches.
    """
    wide = width > 5
    shape = (1, len(metrics.SHARES)) if wide else (3, 2)
    names, sizes = list(dict.fromkeys(table["row"])), sorted(set(table["training_photos"]))
    shown = sizes[:: max(1, -(-len(sizes) // 4))]
    columns = 3 if wide else 1
    height = shape[0] * 1.75 + 0.4 + 0.15 * -(-len(names) // columns)
    figure, panels = plt.subplots(*shape, figsize=(width, height), layout="constrained")
    panels, looks = panels.ravel(), _looks(pd.Series(names), baselines)
    for threshold, share, axes in zip(metrics.THRESHOLDS_KM, metrics.SHARES, panels, strict=False):
        for name, each in table.groupby("row", sort=False):
            axes.plot(
                each["training_photos"],
                each[share],
                label=name if share == metrics.SHARES[0] else "",
                **looks[str(name)],
            )
        axes.set_xscale("log")
        axes.set_ylim(0, max(1.0, 1.08 * table[share].max()))
        axes.set_xticks(shown, [f"{size / 1000:.2g}k" if size >= 1000 else str(size) for size in shown])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=table[share].max() > 4))
        axes.set_title(f"{threshold:,} km")
    for unused in panels[len(metrics.SHARES) :]:
        unused.set_axis_off()
    panels[0].set_ylabel("Photos within it (%)")
    axis = "Training photos, on a logarithmic axis"
    figure.legend(loc="outside lower left", ncols=columns, title=axis, title_fontsize=7.5, alignment="left")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def reliability_plot(table: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """How often guesses are right that are about equally sure, before and after calibration: a panel per model.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.uncertainty.reliability`; it may be empty.
    title : str
    width : float
        Of the figure, in inches.
    """
    models = list(dict.fromkeys(table["model"])) or [""]
    columns = min(len(models), (4 if len(models) == 4 else 3) if width > 5 else 2)
    shape = (-(-len(models) // columns), columns)
    side = min(width / columns, 2.4)
    figsize = (width, shape[0] * (side + 0.4) + 0.4)
    figure, panels = plt.subplots(*shape, figsize=figsize, layout="constrained", squeeze=False)
    looks = {"before": ("before calibration", GREY, "white", "s"), "after": ("after", PALETTE[0], PALETTE[0], "o")}
    for axes, model in zip(panels.flat, models, strict=False):
        of_model = table[table["model"] == model]
        most = 100 * float(np.nanmax([*of_model[["confidence", "high", "right"]].to_numpy(np.float64).ravel(), 0.01]))
        axes.plot([0, most], [0, most], color=_BAR, linewidth=0.8, zorder=1)
        errors = []
        for when, (_, color, face, marker) in looks.items():
            rows = of_model[of_model["calibration"] == when]
            axes.vlines(100 * rows["confidence"], 100 * rows["low"], 100 * rows["high"], color=color, linewidth=0.7)
            axes.plot(
                *(100 * rows["confidence"], 100 * rows["right"], marker),
                color=color, markerfacecolor=face, markersize=3.2, linestyle="none", zorder=3,
            )  # fmt: skip
            errors += [f"{100 * error:.1f}" for error in rows["error"][:1]]
        # Square roots, or the small confidences that calibration leaves would lie on one another.
        roots = {"functions": (lambda values: np.sqrt(np.maximum(values, 0)), np.square)}
        axes.set_xscale("function", **roots)
        axes.set_yscale("function", **roots)
        ticks = [tick for tick in (0, 1, 5, 10, 20, 50, 100) if tick <= 1.04 * most]
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        axes.set_xlim(0, 1.04 * most)
        axes.set_ylim(0, 1.04 * most)
        axes.set_box_aspect(1)
        axes.set_title(f"{model}\n{' → '.join(errors)} %" if errors else "no class is named")
        axes.set_xlabel("Confidence (%)")
    for unused in panels.flat[len(models) :]:
        unused.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel("Right (%)")
    entries = [
        Line2D([], [], color=color, markerfacecolor=face, marker=marker, linestyle="none", label=name)
        for name, color, face, marker in looks.values()
    ]
    note = "above: expected calibration error; whiskers: 95 % intervals"
    figure.legend(handles=entries, title=note, title_fontsize=6.5, loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def coverage_plot(table: pd.DataFrame, title: str = "", *, width: float = SINGLE_COLUMN) -> Figure:
    """Which share of the photos radii hold, against the share that they promise, before and after calibration.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.uncertainty.coverage`.
    title : str
    width : float
        Of the figure, in inches.
    """
    figure, axes = plt.subplots(figsize=(width, min(width, 3.6)), layout="constrained")
    axes.plot([0, 100], [0, 100], color=_BAR, linewidth=0.8, label="as promised", zorder=1)
    looks = {"before": ("before calibration", GREY, "--", "s"), "after": ("after", PALETTE[0], "-", "o")}
    for when, (label, color, line, marker) in looks.items():
        rows = table[table["calibration"] == when]
        promised = 100 * rows["promised"]
        axes.fill_between(promised, 100 * rows["low"], 100 * rows["high"], color=color, alpha=0.15, linewidth=0)
        axes.plot(promised, 100 * rows["held"], line, marker=marker, markersize=2.6, color=color, label=label)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 100)
    axes.set_aspect("equal")
    axes.set_xlabel("Photos that the radius promises to hold (%)")
    axes.set_ylabel("Photos that it holds (%)")
    axes.set_title(title)
    axes.legend(loc="upper left", title="shaded: 95 % intervals", title_fontsize=6.5, alignment="left")
    return finished(figure)


@styled
def abstention_plot(table: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """Accuracy where only the surest guesses are given, against the share of photos that are answered.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.uncertainty.abstention`; it may be empty.
    title : str
    width : float
        Of the figure, in inches.
    """
    figure, axes = plt.subplots(figsize=(width, 2.6), layout="constrained")
    looks = zip(metrics.THRESHOLDS_KM, metrics.SHARES, PALETTE, _MARKERS, strict=False)
    for threshold, share, color, marker in reversed(list(looks)):
        axes.plot(
            *(100 * table["answered"], 100 * table[share]),
            color=color, marker=marker, markevery=0.1, markersize=3, label=f"{threshold:,} km",
        )  # fmt: skip
    if table.empty:
        axes.text(0.5, 0.5, "guesses without a confidence", transform=axes.transAxes, ha="center", color=GREY)
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("Photos that are answered, the surest first (%)")
    axes.set_ylabel("Answers within (%)")
    axes.set_title(title)
    figure.legend(loc="outside right upper" if width > 5 else "outside lower center", ncols=1 if width > 5 else 3)
    return finished(figure)


@styled
def comparison_plot(
    intervals: pd.DataFrame, differences: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """Accuracies of models and their differences from one of them: a panel per distance, a row per model.

    Parameters
    ----------
    intervals : DataFrame
        From :func:`helpers.comparison.intervals`: the models in their order.
    differences : DataFrame
        From :func:`helpers.comparison.differences`; may be empty, and only accuracies are drawn then.
    title : str
    width : float
        Of the figure, in inches. In a single column names stand above their rows.

    Notes
    -----
    Accuracies have an axis of their own for each distance, since few photos are placed to the kilometre and most on the
    right continent; differences share one.
    """
    wide = width > 5
    photos = " or ".join(f"{number:,}" for number in sorted(set(intervals["photos"])))
    other = differences["other"].iloc[0] if len(differences) else None
    blocks = [(f"Photos within each distance (% of {photos}), 95 % intervals", _accuracy_marks(intervals, other))]
    if other is not None:
        blocks.append((f"Difference (percentage points) from {other}", _difference_marks(differences)))
    edge, ticks, head = 0.06, 0.26, 0.24 if title else 0.0  # inches, as all below
    legend = 0 if other is None else 0.17 if wide else 0.3
    figure = plt.figure(figsize=(width, 1))
    size = 8 if wide else 7.5
    headings = [_filled(figure, heading, width - 2 * edge, size) for heading, _ in blocks]
    labels = {
        model: _filled(figure, model, 1.9 if wide else width - 2 * edge, 7 if wide else 6.5)
        for model in intervals["model"]
    }
    heads = [0.28 + 0.13 * (heading.count("\n") + 1) for heading in headings]
    rows = [
        [0.11 * (labels[model].count("\n") + 1) + (0.06 if wide else 0.18) for model in marks] for _, marks in blocks
    ]
    height = head + sum(heads) + sum(map(sum, rows)) + len(blocks) * ticks + legend
    figure.set_size_inches(width, height)
    figure.text(edge / width, 1 - 0.05 / height, title, fontsize=8.5, va="top")
    left = edge + (0.1 + max(_inches_wide(figure, label, 7) for label in labels.values()) if wide else 0)
    top = height - head
    for number, (heading, (_, marks)) in enumerate(zip(headings, blocks, strict=True)):
        figure.text(edge / width, (top - 0.06) / height, heading, fontsize=size, va="top")
        high = sum(rows[number])
        top -= heads[number] + high
        panels = _panel_row(figure, left, top, high, 0.16 if wide else 0.1)
        starts = np.cumsum([0.0, *rows[number][:-1]])
        at = starts + np.array(rows[number]) * 0.5 if wide else starts + np.array(rows[number]) - 0.065
        for share, axes in zip(metrics.SHARES, panels, strict=True):
            _mark_rows(axes, [each[share] for each in marks.values()], at, high)
        _name_rows(panels[0], [labels[model] for model in marks], at, beside=wide)
        _limit_rows(panels, marks, differ=number == 1, ticks=4 if wide else 2)
        top -= ticks
    if other is not None:
        figure.legend(
            handles=[
                Line2D([], [], color=mark.color, marker=mark.marker, markerfacecolor=mark.face, label=label)
                for label, mark in _COMPARISON_LOOKS.items()
            ],
            loc="lower center",
            bbox_to_anchor=(0.5, 0),
            borderpad=0.2,
            borderaxespad=0,
            fontsize=7 if wide else 6.3,
            ncols=4 if wide else 2,
            columnspacing=1.4,
            labelspacing=0.3,
            handlelength=1.8,
        )
    return finished(figure)


@styled
def training_curves(
    table: pd.DataFrame, title: str = "", *, steps: pd.DataFrame | None = None, width: float = DOUBLE_COLUMN
) -> Figure:
    """Losses, and accuracies on the validation photos, by epoch.

    Parameters
    ----------
    table : DataFrame
        One row per epoch: ``epoch, train_loss``; of runs with validation photos ``within_25km, within_200km,
        within_750km, within_2500km`` (shares from 0 to 1), and ``validation_loss`` if any of them lies in a cell. It
        may be empty while `steps` is not.
    title : str
    steps : DataFrame, optional
        Of a run under way: ``epoch`` (with fractions) and ``train_loss`` so far in it.
    width : float
        Of the figure, in inches.
    """
    shape, height = ((1, 2), 2.6) if width > 5 else ((2, 1), 4.4)
    figure, (losses, accuracies) = plt.subplots(*shape, figsize=(width, height), layout="constrained")
    if steps is not None and len(steps):
        losses.plot(steps["epoch"], steps["train_loss"], "-", color=PALETTE[0], alpha=0.5, label="within epochs")
    if len(table):
        losses.plot(table["epoch"], table["train_loss"], "o-", color=PALETTE[0], label="training")
    if "validation_loss" in table:
        losses.plot(table["epoch"], table["validation_loss"], "s--", color=PALETTE[1], label="validation")
    losses.set_ylabel("Loss (nats)")
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.8, len(metrics.THRESHOLDS_KM) - 1))
    for threshold, share, shade in zip(metrics.THRESHOLDS_KM[:0:-1], metrics.SHARES[:0:-1], shades, strict=True):
        if share in table:
            accuracies.plot(table["epoch"], 100 * table[share], "o-", color=shade, label=f"{threshold:,} km")
    if not accuracies.lines:
        lacking = "no validation photos" if len(table) else "validation follows each epoch"
        accuracies.text(0.5, 0.5, lacking, transform=accuracies.transAxes, ha="center", color=GREY)
    accuracies.set_ylim(bottom=0)
    accuracies.set_ylabel("Validation photos within (%)")
    shown = table if steps is None or len(table) else steps
    first, last = shown["epoch"].min(), shown["epoch"].max()
    for axes in (losses, accuracies):
        plt.setp(axes.lines, markersize=2.5)
        axes.set_xlim(first - 0.5, last + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.set_xlabel("Epoch")
        if axes.lines:
            axes.legend(
                loc="lower left",
                bbox_to_anchor=(-0.02, 1),
                ncols=4,
                handlelength=1.4,
                handletextpad=0.4,
                columnspacing=1,
            )
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


def live_curves() -> Callable[[pd.DataFrame, pd.DataFrame], None]:
    """A call that draws :func:`training_curves` anew in the place where it was first called.

    It takes what was measured by epoch, and within epochs, and does nothing where nobody watches.
    """
    from IPython.display import display  # takes a while, and only notebooks need it

    if not progress.watched():
        return lambda table, steps: None
    handle = display(display_id=True)

    def draw(table: pd.DataFrame, steps: pd.DataFrame) -> None:
        figure = training_curves(table, steps=steps)
        handle.update(figure)
        plt.close(figure)

    return draw


@styled
def export_plot(
    compared: pd.DataFrame, checked: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """How far the answers of exported files are from those of the network: a mark for each photo, format and output.

    Parameters
    ----------
    compared : DataFrame
        From :func:`helpers.export_checks.compare`.
    checked : DataFrame
        Its :func:`helpers.export_checks.summary`.
    title : str
    width : float
        Of the figure, in inches.
    """
    rows = checked.to_dict("records")
    formats = list(checked["format"].unique())
    figure, axes = plt.subplots(figsize=(width, 0.9 + 0.24 * len(rows)), layout="constrained")
    for number, row in enumerate(rows):
        mine = (compared["format"] == row["format"]) & (compared["output"] == row["output"])
        difference = compared.loc[mine, "difference"].clip(lower=_NO_DIFFERENCE).to_numpy()
        aside = np.linspace(-0.22, 0.22, len(difference)) if len(difference) > 1 else np.zeros(1)
        color = PALETTE[formats.index(row["format"])]
        axes.plot(difference, number + aside, "o", color=color, markersize=2.2, markeredgewidth=0, alpha=0.6)
        axes.plot([row["allowed"]] * 2, [number - 0.38, number + 0.38], color=GREY, linewidth=1)
    unit = {"probability": "", "km": " (km)"}
    labels = [f"{row['format']}: {row['output']}{unit.get(row['unit'], ' (share)')}" for row in rows]
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.set_xlim(_NO_DIFFERENCE / 2, 4 * max(float(checked["allowed"].max()), float(compared["difference"].max())))
    axes.xaxis.set_major_locator(LogLocator(numticks=12 if width > 5 else 5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("Largest difference for a photo\n(grey: what is allowed)")
    axes.set_title(title)
    return finished(figure)


@styled
def sweep_plot(
    table: pd.DataFrame,
    best_by: str,
    importances: pd.Series | None = None,
    title: str = "",
    *,
    grid: bool = False,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """What the parameters of a sweep did for its measure: a panel for each, or the grid of two.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.trials.table`, its first trial the best.
    best_by : str
        The measure.
    importances : Series, optional
        Share of each parameter, from :func:`helpers.sweeps.importances`; the panels are in its order.
    title : str
    grid : bool
        Whether every combination was tried; with two parameters these are drawn as a grid.
    width : float
        Of the figure, in inches.
    """
    names = list(table.columns[2 : table.columns.get_loc(_first_measure(table))])
    shares = pd.Series(dtype=float) if importances is None else importances
    names = [*[name for name in shares.index if name in names], *[name for name in names if name not in shares.index]]
    if grid and len(names) == 2:
        return _sweep_grid(table, best_by, title, width)
    columns = min(len(names), 4 if width > 5 else 2)
    shape = (-(-len(names) // columns), columns)
    figsize = (width, shape[0] * 1.9 + (0.45 if width > 5 else 0.65))
    figure, panels = plt.subplots(*shape, figsize=figsize, sharey=True, layout="constrained", squeeze=False)
    values = _sweep_values(table, best_by)
    for axes, name in zip(panels.flat, names, strict=False):
        known = sorted(table[name].unique())
        if len(known) <= 6 and all(isinstance(value, str) or len(_short(value)) <= _MOST_DIGITS for value in known):
            at = table[name].map({value: place for place, value in enumerate(known)})
            axes.set_xticks(range(len(known)), [_short(value).replace("+", "+\n") for value in known])
            axes.set_xlim(-0.5, len(known) - 0.5)
        else:
            at = table[name]
            axes.set_xscale("log")
            ticks = _log_ticks(min(known), max(known), 5 if width > 5 else 3)
            axes.set_xticks(ticks, [_short(value) for value in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
        _mark_trials(axes, at.to_numpy(dtype=np.float64), values, table["state"])
        axes.set_xlabel(textwrap.fill(_parameter_label(name), 18))
        if name in shares.index:
            axes.set_title(f"{100 * shares[name]:.0f} % of importance", fontsize=7, color=GREY)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_ylabel(_measure_label(best_by, short=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        if len(set(values[~np.isnan(values)])) == 1:  # else it would have ticks for what cannot be
            axes.set_yticks(values[:1])
    _explain_trials(figure, _trial_marks(table["state"]), width)
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


def _sweep_grid(table: pd.DataFrame, best_by: str, title: str, width: float) -> Figure:
    across, down = table.columns[2], table.columns[3]
    shown = table.assign(value=_sweep_values(table, best_by)).pivot(index=down, columns=across, values="value")
    states = table.pivot(index=down, columns=across, values="state")
    figure, axes = plt.subplots(figsize=(width, 0.42 * len(shown) + 0.95), layout="constrained")
    less_is_better = not best_by.startswith("within_")
    colors = _SHADES.reversed() if less_is_better else _SHADES
    values = shown.to_numpy(dtype=np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    norm = Normalize(low, high if high > low else low + 1)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colors, norm=norm, aspect="auto", interpolation="none")
    for (row, column), value in np.ndenumerate(values):
        state = states.iloc[row, column]
        if np.isnan(value):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white", edgecolor=_BAR, hatch="////"))
        dark = not np.isnan(value) and (norm(value) < 0.5 if less_is_better else norm(value) > 0.5)
        text = "" if np.isnan(value) else _in_cell(value, best_by)
        remark = "" if state == "complete" else state if isinstance(state, str) else "not tried"
        words = [word for word in (text, remark) if word]
        axes.text(
            column, row, "\n".join(words), fontsize=7, ha="center", va="center", color="white" if dark else "black",
            bbox=None if not np.isnan(value) else {"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    best = list(shown.index).index(table[down].iloc[0]), list(shown.columns).index(table[across].iloc[0])
    axes.add_patch(
        Rectangle((best[1] - 0.46, best[0] - 0.44), 0.92, 0.88, fill=False, edgecolor=PALETTE[1], linewidth=1.6)
    )
    axes.set_xticks(range(len(shown.columns)), [_short(value) for value in shown.columns])
    axes.set_yticks(range(len(shown)), [_short(value) for value in shown.index])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_xlabel(_parameter_label(across))
    axes.set_ylabel(_parameter_label(down))
    axes.set_title(title)
    ticks = StrMethodFormatter("{x:,g}")
    bar = figure.colorbar(image, ax=axes, label=textwrap.fill(_measure_label(best_by), 20), pad=0.02, format=ticks)
    bar.outline.set_visible(False)
    return finished(figure)


@styled
def sweep_history(table: pd.DataFrame, best_by: str, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """What the trials of a sweep found, in their order, with the best so far.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.trials.table`.
    best_by : str
        The measure.
    title : str
    width : float
        Of the figure, in inches.
    """
    ordered = table.sort_values("trial", kind="stable")
    values = _sweep_values(ordered, best_by)
    figure, axes = plt.subplots(figsize=(width, 2.4 if width > 5 else 2.5), layout="constrained")
    complete = np.where(ordered["state"] == "complete", values, np.nan)
    so_far = np.fmax.accumulate(complete) if best_by.startswith("within_") else np.fmin.accumulate(complete)
    axes.step(ordered["trial"], so_far, where="post", color=PALETTE[1], zorder=2)
    _mark_trials(
        axes, ordered["trial"].to_numpy(dtype=np.float64), values, ordered["state"], best=table["trial"].iloc[0]
    )
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_xlim(ordered["trial"].min() - 0.5, ordered["trial"].max() + 0.5)
    axes.set_xlabel("Trial")
    axes.set_ylabel(_measure_label(best_by, short=True))
    axes.set_title(title)
    line = Line2D([], [], color=PALETTE[1], label="best so far")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    if len(set(values[~np.isnan(values)])) == 1:
        axes.set_yticks([values[~np.isnan(values)][0]])
    _explain_trials(figure, [*_trial_marks(table["state"]), line], width)
    return finished(figure)


@styled
def deletion_plot(
    summary: pd.DataFrame, title: str = "", *, score: str = "probability of the class", width: float = SINGLE_COLUMN
) -> Figure:
    """What is left of a score when parts of the photos are greyed out, against their share; whiskers: 95 % intervals.

    Parameters
    ----------
    summary : DataFrame
        From :func:`helpers.map_checks.deletion_summary`.
    title : str
    score : str
        What it is called.
    width : float
        Of the figure, in inches.
    """
    figure, axes = plt.subplots(figsize=(width, min(0.75 * width, 3.2)), layout="constrained")
    whole = summary[summary["greyed"] == 0]
    looks = {"most": (PALETTE[1], "o", "-"), "random": (GREY, "x", "--"), "least": (PALETTE[0], "s", "-")}
    for number, (where, (color, marker, line)) in enumerate(looks.items()):
        rows = pd.concat([whole, summary[summary["places"] == where]])
        percent, aside = 100 * rows["greyed"].to_numpy(), np.where(rows["greyed"] > 0, 0.5 * (number - 1), 0)
        label = where if where == "random" else f"{where} important"
        axes.plot(percent + aside, rows["score"], line, color=color, marker=marker, label=label)
        axes.vlines(percent + aside, rows["low"], rows["high"], color=color, linewidth=0.8)
    axes.set_ylim(bottom=min(0.0, float(summary[["score", "low"]].min().min())))
    axes.set_xlabel("Greyed out (% of the photo)")
    axes.set_ylabel(f"Mean {score}")
    axes.set_title(title)
    photos = int(whole["photos"].iloc[0])
    axes.legend(title=f"{photos:,} photos; places greyed out", title_fontsize=6.5, alignment="left")
    return finished(figure)


@styled
def contact_sheet(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    title: str = "",
    *,
    columns: int = 10,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """Photos side by side, each with a caption of at most two lines below it.

    Parameters
    ----------
    images : sequence of ndarray of uint8, shape (height, width, 3)
    captions : sequence of str
        As many as images; what does not fit is cut with an ellipsis.
    title : str
    columns : int
        Photos per row.
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there are not as many captions as images, or no image.
    """
    if len(images) != len(captions) or not len(images):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: give one caption per image, at least one")
    columns = min(columns, max(len(images), 4))
    tile = width / columns  # inches
    size = float(np.clip(tile * 6.5, 3.5, 7))  # points
    lines = [
        textwrap.wrap(caption, max(int(tile * 72 / (size * 0.58)), 4), max_lines=2, placeholder="…")
        for caption in captions
    ]
    caption_height = max(map(len, lines)) * size * 1.25 / 72 / tile + 0.06  # in tiles
    rows = -(-len(images) // columns)
    head = 0.25 if title else 0.0
    height = rows * (1 + caption_height) * tile
    figure = plt.figure(figsize=(width, height + head))
    axes = figure.add_axes((0, 0, 1, height / (height + head)))
    for place, (image, text) in enumerate(zip(images, lines, strict=True)):
        row, column = divmod(place, columns)
        top = row * (1 + caption_height)
        _tile(axes, image, "\n".join(text), column, top, size)
    axes.set(xlim=(0, columns), ylim=(rows * (1 + caption_height), 0))
    axes.set_axis_off()
    if title:
        figure.text(0.06 / width, 1 - 0.06 / (height + head), title, fontsize=8.5, va="top")
    return finished(figure)


@styled
def photo_rows(
    rows: Mapping[str, tuple[Sequence[NDArray[np.uint8]], Sequence[str]]],
    title: str = "",
    *,
    columns: int = 10,
    together: int = 1,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """Rows of photos, each below its heading, such as those on the two sides of a threshold.

    Parameters
    ----------
    rows : mapping of str to (sequence of ndarray of uint8, sequence of str)
        Heading of each row; its images, of shape (height, width, 3), and a caption for each, cut with an ellipsis where
        it does not fit. A row may be empty.
    title : str
    columns : int
        Most photos in a row.
    together : int
        Photos that stand close together, such as 2 for pairs.
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If a row has not as many captions as images, or more images than columns.
    """
    for heading, (images, captions) in rows.items():
        if len(images) != len(captions) or len(images) > columns:
            raise ValueError(
                f"{heading!r} has {len(images)} images and {len(captions)} captions: give one caption per image, and "
                f"{columns} images at most"
            )
    gap = 0.0 if together == 1 else 0.25  # between groups, in tiles
    across = columns + gap * (columns // together - 1)
    tile = width / across  # inches
    size = float(np.clip(tile * 9, 4, 7))  # points
    fitting = int(tile * 72 / (size * 0.68))  # characters
    heading_height = 0.2 / tile  # in tiles, as all below
    empty_height = 0.15 / tile
    caption_height = size * 1.25 / 72 / tile + 0.06
    head = 0.22 if title else 0.0
    photo_heights = [
        max((image.shape[0] / max(image.shape[:2]) for image in images), default=0) for images, _ in rows.values()
    ]
    heights = [heading_height + (high + caption_height if high else empty_height) for high in photo_heights]
    height = sum(heights) * tile
    figure = plt.figure(figsize=(width, height + head))
    axes = figure.add_axes((0, 0, 1, height / (height + head)))
    tops = np.cumsum([0.0, *heights])
    for top, high, (heading, (images, captions)) in zip(tops, photo_heights, rows.items(), strict=False):
        axes.text(0.06 / tile, top + 0.08 / tile, heading, fontsize=7, color=GREY, va="top")
        for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
            text = caption if len(caption) <= fitting else caption[: fitting - 1] + "…"
            _tile(axes, image, text, place + gap * (place // together), top + heading_height + high - 1, size)
        if not images:
            axes.text(0.06 / tile, top + heading_height, "none", fontsize=7, va="top")
    axes.set(xlim=(0, across), ylim=(tops[-1], 0))
    axes.set_axis_off()
    figure.text(0.06 / width, 1 - 0.06 / (height + head), title, fontsize=8.5, va="top")
    return finished(figure)


@styled
def augmentation_rows(
    views: Mapping[str, Sequence[NDArray[np.uint8]]], title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """What augmentations make of a photo in several epochs, each row beginning with the photo's centre as it is.

    Parameters
    ----------
    views : mapping of str to sequence of ndarray of uint8
        From :func:`helpers.inputs.augmented`: by augmentation, images of shape (height, width, 3), one per epoch; those
        of ``none`` begin the rows.
    title : str
    width : float
        Of the figure, in inches.
    """
    centre = views["none"][0]
    drawn = {augmentation: list(images) for augmentation, images in views.items() if augmentation != "none"}
    rows = {
        augmentation: ([centre, *images], ["none", *(f"epoch {epoch}" for epoch in range(1, len(images) + 1))])
        for augmentation, images in drawn.items()
    }
    return photo_rows(rows, title, columns=1 + max(map(len, drawn.values())), width=width)


@styled
def measure_histograms(
    measures: Mapping[str, ArrayLike], thresholds: Sequence[float], title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """What photos measure, a panel for each measure on a logarithmic axis, and which share is below its threshold.

    Parameters
    ----------
    measures : mapping of str to array_like of float
        Label of each measure; its values, at least one. Values below 1 are drawn at 1.
    thresholds : sequence of float
        One for each measure; 0 where there is none.
    title : str
    width : float
        Of the figure, in inches.
    """
    shape, height = ((1, len(measures)), 2.3) if width > 5 else ((len(measures), 1), 1.9 * len(measures))
    figure, panels = plt.subplots(*shape, figsize=(width, height), layout="constrained", squeeze=False)
    for axes, (label, values), threshold in zip(panels.flat, measures.items(), thresholds, strict=True):
        numbers = np.asarray(values, dtype=np.float64)
        below = float((numbers < threshold).mean())
        decades = np.ceil(np.log10(max(numbers.max(), threshold, 10) * 1.001))
        _share_histogram(axes, numbers.clip(min=1), np.geomspace(1, 10**decades, int(decades * 16) + 1))
        axes.set_xscale("log")
        axes.set_xlim(1, 10**decades)
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel(label)
        if threshold > 0:
            axes.axvline(max(threshold, 1), color=PALETTE[1])
        share = f"{100 * below:.2g} %" if below < 0.1 else f"{100 * below:.0f} %"
        axes.set_title(f"{share} below {threshold:,g}" if threshold > 0 else "no threshold")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def scene_bars(counts: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """Scene mix of each split, as shares of its photos.

    Parameters
    ----------
    counts : DataFrame of int
        Photos; one row per split of :data:`SPLIT_COLORS`, drawn in its order, and one column per scene.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there are more scenes than colours that the eye tells apart.
    """
    if counts.shape[1] > len(PALETTE):
        raise ValueError(f"{counts.shape[1]} scenes are more than the {len(PALETTE)} colours: group them")
    counts = counts.loc[sorted(counts.index, key=list(SPLIT_COLORS).index)]
    figure, axes = plt.subplots(figsize=(width, 0.85 + 0.28 * len(counts)), layout="constrained")
    totals = counts.sum(axis=1)
    shares = 100 * counts.div(totals.where(totals > 0, 1), axis=0)
    left = np.zeros(len(counts))
    rows = np.arange(len(counts))
    for scene, color in zip(counts, PALETTE, strict=False):
        bars = axes.barh(rows, shares[scene], left=left, color=color, height=0.72, label=str(scene))
        labels = [f"{share:.0f} %" if share >= 8 else "" for share in shares[scene]]
        axes.bar_label(bars, labels, label_type="center", color="white", fontsize=7)
        left += shares[scene].to_numpy()
    axes.set_yticks(rows, [f"{split} ({total:,})" for split, total in totals.items()])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    axes.set_xlabel("Photos (%)")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=counts.shape[1], handlelength=1)
    return finished(figure)


@styled
def class_shares(
    shares: pd.Series, colors: Sequence[tuple[int, int, int]], title: str = "", *, width: float = SINGLE_COLUMN
) -> Figure:
    """How much of the photos each class of their segmentation maps has, in the colours of the maps: a legend as well.

    Parameters
    ----------
    shares : Series of float
        Share of the pixels, 0 to 1, by class.
    colors : sequence of (int, int, int)
        Of each class, 0 to 255.
    title : str
    width : float
        Of the figure, in inches.
    """
    figure, axes = plt.subplots(figsize=(width, 0.6 + 0.17 * len(shares)), layout="constrained")
    rows = np.arange(len(shares))
    fills = np.asarray(colors) / 255
    bars = axes.barh(rows, 100 * shares, color=fills, edgecolor=GREY, linewidth=0.4, height=0.72)
    axes.bar_label(bars, [f"{100 * share:.1f}" for share in shares], padding=2, fontsize=6.5)
    axes.set_yticks(rows, shares.index.tolist())
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Pixels (%)")
    axes.set_title(title)
    return finished(figure)


@styled
def scene_certainty(
    scenes: pd.DataFrame, title: str = "", *, threshold: float = 0.3, width: float = DOUBLE_COLUMN
) -> Figure:
    """How sure the scene of photos is, and how many photos a network of one scene would be trained on.

    Parameters
    ----------
    scenes : DataFrame
        ``scene``, missing where it is not known, and ``p_<scene>`` for each scene: probabilities from 0 to 1.
    title : str
    threshold : float
        Probability of a scene above which the ECCV 2018 paper trains the network of that scene on a photo.
    width : float
        Of the figure, in inches.
    """
    known = scenes[scenes["scene"].notna()]
    names = [name.removeprefix("p_") for name in scenes.columns.astype(str) if name.startswith("p_")]
    shape = (1, 2) if width > 5 else (2, 1)
    figure, (sure, enough) = plt.subplots(*shape, figsize=(width, 2.4 * shape[0]), layout="constrained")
    edges = np.linspace(0, 1, 21)
    thresholds = np.linspace(0, 1, 201)
    for name, color, style in zip(names, PALETTE, ("-", "--", ":"), strict=False):
        surest = known.loc[known["scene"] == name, f"p_{name}"].to_numpy(np.float64)
        shares = 100 * np.histogram(surest.clip(0, 1), edges)[0] / max(len(surest), 1)
        look: dict[str, Any] = {"color": color, "linestyle": style, "linewidth": 1.3}
        sure.stairs(shares, edges, label=f"{name} ({len(surest):,})", **look)
        every = np.sort(known[f"p_{name}"].to_numpy(np.float64))
        above = len(every) - np.searchsorted(every, thresholds, side="right")
        enough.plot(thresholds, 100 * above / max(len(every), 1), **look)
    sure.set(xlim=(0.3, 1), ylim=(0, None), xlabel="Probability of the scene", ylabel="Photos of the scene (%)")
    enough.axvline(threshold, color=GREY, linewidth=0.8)
    enough.set(
        xlim=(0, 1),
        ylim=(0, 100),
        xlabel=f"Threshold (grey: {threshold:g})",
        ylabel="Photos with more than that\nfor the scene (%)",
    )
    figure.legend(loc="outside lower center", ncols=len(names), handlelength=1.8)
    figure.suptitle(title, x=0, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def balance_plot(table: pd.DataFrame, title: str = "", *, shown: int = 30, width: float = DOUBLE_COLUMN) -> Figure:
    """Share of the training photos that countries have before and after balancing, and the one they should have.

    Parameters
    ----------
    table : DataFrame
        Columns ``name, photos_before, share_before, share_sought, photos_after, share_after``, from
        `balancing.balance`.
    title : str
    shown : int
        Most countries to show, those with most photos before or after; all others are one bar.
    width : float
        Of the figure, in inches.
    """
    table = table.sort_values(["share_before", "share_sought", "name"], ascending=[False, False, True])
    largest = table[["share_before", "share_after"]].max(axis=1).to_numpy()
    is_shown = np.argsort(np.argsort(-largest, kind="stable"), kind="stable") < shown
    top, rest = np.flatnonzero(is_shown), np.flatnonzero(~is_shown)
    labels = [textwrap.shorten(name, 40 if width > 5 else 24, placeholder="…") for name in table["name"].iloc[top]]
    values = table[["share_before", "share_after", "share_sought"]].to_numpy()
    bars = 100 * values[top]
    if len(rest):
        labels.append(f"{len(rest)} others together")
        bars = np.vstack([bars, 100 * values[rest].sum(axis=0)])
    rows = np.arange(len(bars))
    figure, axes = plt.subplots(figsize=(width, 0.95 + 0.19 * len(bars)), layout="constrained")
    looks = {"before": "#B8B8B8", "after": PALETTE[0]}
    photos = table[["photos_before", "photos_after"]].sum()
    for place, ((when, color), count) in enumerate(zip(looks.items(), photos, strict=True)):
        label = f"{when}: {count:,} photos"
        axes.barh(rows + 0.4 * place - 0.2, bars[:, place], height=0.38, color=color, label=label)
    drawn = bars[:, 2] > 0
    axes.plot(bars[drawn, 2], rows[drawn], "|", color="black", markersize=8, markeredgewidth=1.1, label="target")
    axes.set_xlim(0, 1.03 * max(bars.max(), 1))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_yticks(rows, labels)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("Training photos (%)")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=3, handlelength=1, columnspacing=1.2)
    return finished(figure)


@styled
def outcome_bars(table: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """What became of photos: a bar for each outcome and reason, with its number.

    Parameters
    ----------
    table : DataFrame
        Columns ``outcome, reason, photos``, from `download.Report.table` or `cleaning.report`.
    title : str
    width : float
        Of the figure, in inches.
    """
    shown = table[table["photos"] > 0]
    shown = shown if len(shown) else table[:1]
    outcomes = shown["outcome"].str.partition(",")[0]
    figure, axes = plt.subplots(figsize=(width, 0.7 + 0.21 * len(shown)), layout="constrained")
    rows = np.arange(len(shown))
    bars = axes.barh(rows, shown["photos"], color=[OUTCOME_COLORS[outcome] for outcome in outcomes], height=0.72)
    shares = 100 * shown["photos"] / max(table["photos"].sum(), 1)
    labels = [f"{share:.1f} %" if share == 0 or share >= 0.05 else "< 0.1 %" for share in shares]
    labels = [f"{photos:,} ({label})" for photos, label in zip(shown["photos"], labels, strict=True)]
    axes.bar_label(bars, labels, padding=3, fontsize=7)
    reasons = shown["reason"].where(shown["reason"] == "", ": " + shown["reason"])
    axes.set_yticks(rows, outcomes + reasons)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.25 * max(shown["photos"].max(), 1))  # room for the labels
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("Photos")
    axes.set_title(title)
    return finished(figure)


@styled
def split_shares(counts: pd.DataFrame, title: str = "", *, shown: int = 20, width: float = DOUBLE_COLUMN) -> Figure:
    """Most frequent countries, regions or the like: a bar for the share of all photos, a dot for that of each split.

    Where a dot is far from the end of its bar, the splits do not cover the world alike.

    Parameters
    ----------
    counts : DataFrame of int
        Photos; one row per name, one column per split of :data:`SPLIT_COLORS`. What has no name is a row named ""; the
        name of the index says what it lacks, e.g. ``country``.
    title : str
    shown : int
        Most names to draw; the others, and photos without a name, are counted below.
    width : float
        Of the figure, in inches.
    """
    splits = [split for split in SPLIT_COLORS if split in counts]
    table = counts[splits]
    photos = max(int(table.sum().sum()), 1)
    named = table[table.index != ""].sort_index()
    named = named.iloc[np.argsort(-named.sum(axis=1).to_numpy(), kind="stable")]
    top, others = named.iloc[:shown], named.iloc[shown:]
    not_drawn = {f"others ({len(others):,})": others, f"no {counts.index.name or 'name'}": table[table.index == ""]}
    left = {what: int(some.sum().sum()) for what, some in not_drawn.items() if some.sum().sum()}
    lines = [f"\n{what}: {number:,} photos ({100 * number / photos:.1f} %)" for what, number in left.items()]

    rows = np.arange(len(top))
    legend_rows = 2 if width <= 5 and len(splits) > 1 else 1
    height = 0.85 + 0.19 * max(len(top), 1) + 0.13 * len(lines) + 0.16 * legend_rows + (0.15 if title else 0)
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    axes.barh(rows, 100 * top.sum(axis=1) / photos, color=_BAR, height=0.72)
    entries: list[Any] = [Rectangle((0, 0), 1, 1, color=_BAR, label=f"all: {photos:,} photos")]
    for place, split in enumerate(splits if len(splits) > 1 else []):
        total = int(table[split].sum())
        entries += axes.plot(
            100 * top[split] / max(total, 1),
            rows + 0.3 * (place - (len(splits) - 1) / 2),  # or equal shares would hide one another
            _SPLIT_MARKERS[split],
            color=SPLIT_COLORS[split],
            label=f"{split}: {total:,}",
            markersize=4.2,
            markeredgecolor="white",
            markeredgewidth=0.4,
            clip_on=False,
            zorder=3,
        )
    longest = 46 if width > 5 else 24
    names = [textwrap.shorten(str(name), longest, placeholder="…") for name in top.index]
    axes.set_yticks(rows, [f"{name} ({total:,})" for name, total in zip(names, top.sum(axis=1), strict=True)])
    axes.set_ylim(max(len(top), 1) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    label = "Photos of all, or of the split (%)" if len(splits) > 1 else "Photos (%)"
    axes.set_xlabel(label + "".join(lines))
    axes.set_title(title)
    figure.legend(handles=entries, loc="outside lower center", ncols=4 if width > 5 else 2, handlelength=1.2)
    return finished(figure)


@styled
def nearest_training_plot(
    distance_km: Mapping[str, ArrayLike], title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """Share of held-out photos that have a training photo within each distance.

    Parameters
    ----------
    distance_km : mapping of str to array_like of float
        Great-circle distance of the photos of ``validation``, of ``test`` or of both to the nearest training photo.
    title : str
    width : float
        Of the figure, in inches.
    """
    figure, axes = plt.subplots(figsize=(width, 2.6 if width > 5 else 2.9), layout="constrained")
    grid = np.geomspace(_NEAREST_KM, np.pi * metrics.EARTH_RADIUS_KM, 500)
    marks = leakage.NEAR_KM
    for split in sorted(distance_km, key=list(SPLIT_COLORS).index):
        ordered = np.sort(np.asarray(distance_km[split], dtype=np.float64))
        within = {at: 100 * np.searchsorted(ordered, at, side="right") / len(ordered) for at in (*grid, *marks)}
        look: dict[str, Any] = {"color": SPLIT_COLORS[split], "clip_on": False}
        axes.plot(grid, [within[at] for at in grid], "--" if split == "test" else "-", linewidth=1.5, **look)
        shares = ", ".join(f"{within[at]:.0f} % ≤ {at} km" for at in marks)
        label = f"{split} ({len(ordered):,}): {shares}"
        axes.plot(marks, [within[at] for at in marks], _SPLIT_MARKERS[split], markersize=4.5, label=label, **look)
    for at, level in zip(marks, metrics.LEVELS, strict=False):
        axes.axvline(at, color=GREY, linewidth=0.7, linestyle=":", zorder=1)
        axes.text(at, 104, f"{at} km\n{level}", ha="center", va="bottom", fontsize=6.5, color=GREY)
    axes.set_xscale("log")
    axes.set_xlim(grid[0], grid[-1])
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.set_xlabel("Great-circle distance to the nearest training photo (km)")
    axes.set_ylabel("Photos within it (%)")
    axes.set_title(title, pad=22)
    figure.legend(loc="outside lower center", handlelength=1.2)
    return finished(figure)


@styled
def resolution_plot(
    width_px: ArrayLike, height_px: ArrayLike, title: str = "", *, width: float = DOUBLE_COLUMN
) -> Figure:
    """How large photos are, and of what shape: histograms of the short side and of width over height.

    Parameters
    ----------
    width_px, height_px : array_like of int, shape (n,)
        Size of each photo, upright.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there is no photo.
    """
    wide, high = np.asarray(width_px, dtype=np.float64), np.asarray(height_px, dtype=np.float64)
    if not len(wide):
        raise ValueError("there is no photo whose size is known: see why the photos cannot be opened")
    short = np.minimum(wide, high)
    shape, height = ((1, 2), 2.3) if width > 5 else ((2, 1), 4.0)
    figure, (sizes, shapes) = plt.subplots(*shape, figsize=(width, height), layout="constrained")
    # Many collections have one size, often a power of two: bars are centred on those, and whole octaves are around.
    half_bar = 1 / 16
    first, last = np.floor(np.log2(short.min()) - half_bar), np.ceil(np.log2(short.max()) + half_bar)
    octaves = np.arange(max(first, 0), last + 1)
    bars = np.arange(octaves[0] - half_bar, last + 2 * half_bar, 2 * half_bar)
    _share_histogram(sizes, short, 2**bars)
    sizes.set_xscale("log", base=2)
    sizes.set_xticks(2**octaves, [f"{side:,.0f}" for side in 2**octaves])
    sizes.set_xlabel("Short side (pixels)")
    low, median, most = np.quantile(short, [0.05, 0.5, 0.95])
    sizes.set_title(f"median {median:,.0f} pixels, 90 % from {low:,.0f} to {most:,.0f}")
    # Beyond 4:1 photos are rare, and belong to the outermost bars.
    _share_histogram(shapes, (wide / high).clip(1 / 4, 4), np.geomspace(1 / 4, 4, 42))
    shapes.set_xscale("log", base=2)
    ratios = {"≤ 1:4": 1 / 4, "9:16": 9 / 16, "3:4": 3 / 4, "1:1": 1, "4:3": 4 / 3, "16:9": 16 / 9, "≥ 4:1": 4}
    shapes.set_xticks(list(ratios.values()), list(ratios), fontsize=6.5)
    shapes.set_xlabel("Width to height")
    shapes.set_title(f"{(wide > high).mean():.0%} wide, {(wide < high).mean():.0%} high".replace("%", " %"))
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def country_matrix(confusion: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """Which country photos are taken for, in per cent of the photos of each, ordered by continent and photos.

    Parameters
    ----------
    confusion : DataFrame of int
        Photos, from :func:`helpers.class_metrics.confusion_matrix`: codes of the true country in rows and of the
        guessed one in columns.
    title : str
    width : float
        Of the figure, in inches. It decides how many countries are readable, those with most photos; the others are
        one row and one column.
    """
    left, right, below, above = 0.55, 0.72 if width > 5 else 0.55, 0.88, 0.25 if title else 0.06  # inches
    side = width - left - right
    matrix = _by_continent(confusion, int(side * 72 / _LEAST_ROW))
    rows, columns = matrix.shape
    high = side * rows / columns
    figure = plt.figure(figsize=(width, high + below + above))
    height = figure.get_figheight()
    axes = figure.add_axes((left / width, below / height, side / width, high / height))
    percent = 100 * matrix.to_numpy() / matrix.to_numpy().sum(axis=1, keepdims=True)
    shown = np.ma.masked_equal(percent, 0)
    image = axes.imshow(shown, cmap=_SHADES, norm=Normalize(0, 100), aspect="auto", interpolation="none")
    step = side * 72 / columns  # points
    if step > 16:
        for row, column in np.argwhere(percent > 0):
            axes.text(
                column,
                row,
                f"{percent[row, column]:.0f}",
                fontsize=min(step / 3, 7),
                color="white" if percent[row, column] > 40 else "black",
                ha="center",
                va="center",
            )
    size = min(step * 0.92, 7)
    axes.set_xticks(range(columns), matrix.columns, fontsize=size, rotation=90 if step < 20 else 0)
    axes.set_yticks(range(rows), matrix.index, fontsize=size)
    axes.tick_params(length=0, pad=1.5)
    axes.grid(visible=False)
    continent = places.countries()["continent"].reindex(matrix.index).fillna("").to_numpy()
    starts = np.flatnonzero(np.r_[True, continent[1:] != continent[:-1]])
    for start in starts[1:] - 0.5:
        axes.axhline(start, color=GREY, linewidth=0.4)
        axes.axvline(start, color=GREY, linewidth=0.4)
    ends = np.r_[starts[1:], rows]
    names = [textwrap.fill(continent[start].partition(" (")[0], 8) for start in starts]
    lines = [name.count("\n") + 1 for name in names]
    for middle, name in zip(_apart((starts + ends - 1) / 2, lines, 8.2 * columns / (side * 72)), names, strict=True):
        axes.annotate(
            name,
            (columns - 0.5, middle),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=6.3,
            linespacing=1.05,
            va="center",
            annotation_clip=False,
        )
    axes.set_ylabel("True country", labelpad=2)
    axes.set_xlabel("Country guessed", labelpad=2)
    axes.set_title(title)
    bar_axes = figure.add_axes((left / width, 0.37 / height, side / width, 0.08 / height))
    bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal", label="Photos of the true country (%)")
    bar.outline.set_visible(False)
    return finished(figure)


@styled
def confusion_bars(table: pd.DataFrame, title: str = "", *, shown: int = 20, width: float = DOUBLE_COLUMN) -> Figure:
    """Most frequent confusions: a bar for the photos of each pair, and their share of the photos of the true class.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.class_metrics.confusions`, with names for ``truth`` and ``guess``; without rows, the figure
        says so.
    title : str
    shown : int
        Most pairs to draw; the others are counted below.
    width : float
        Of the figure, in inches.
    """
    top, others = table[:shown], table[shown:]
    note = f"\nother pairs ({len(others):,}): {others['photos'].sum():,} photos" if len(others) else ""
    height = 0.75 + 0.19 * max(len(top), 1) + (0.13 if note else 0) + (0.2 if title else 0)
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    rows = np.arange(len(top))
    bars = axes.barh(rows, top["photos"], color=PALETTE[1], height=0.72)
    labels = [f"{photos:,} ({100 * share:.0f} %)" for photos, share in zip(top["photos"], top["share"], strict=True)]
    axes.bar_label(bars, labels, padding=3, fontsize=7)
    if not len(top):
        axes.text(0.5, 0.5, "no photo is named wrong", transform=axes.transAxes, ha="center", va="center")
    longest = 32 if width > 5 else 16
    names = [
        [name if len(name) <= longest else f"{name[: longest - 1].rstrip()}…" for name in top[end]]
        for end in ("truth", "guess")
    ]
    axes.set_yticks(rows, [f"{truth} → {guess}" for truth, guess in zip(*names, strict=True)])
    axes.set_ylim(max(len(top), 1) - 0.4, -0.6)
    axes.set_xlim(0, 1.25 * max(top["photos"].max() if len(top) else 0, 1))  # room for the labels
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    label = "Photos of the first, placed in the second\n(% of all photos of the first)" + note
    axes.set_xlabel(label, loc="center" if width > 5 else "right")
    axes.set_title(title)
    return finished(figure)


@styled
def class_recalls(table: pd.DataFrame, title: str = "", *, shown: int = 40, width: float = DOUBLE_COLUMN) -> Figure:
    """How often photos of each class are named right, the best named first, dots as large as photos are many.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.class_metrics.per_class`.
    title : str
    shown : int
        Most classes to draw, those with most photos; the others are summed up below.
    width : float
        Of the figure, in inches.
    """
    named = table[table["photos"] > 0].sort_values(["photos", "title"], ascending=[False, True])
    top, others = named[:shown].sort_values(["top_1", "photos"], ascending=False, kind="stable"), named[shown:]
    photos = int(others["photos"].sum())
    right = 100 * float((others["top_1"] * others["photos"]).sum()) / max(photos, 1)
    note = f"\nothers ({len(others):,}): {photos:,} photos, {right:.0f} % right" if len(others) else ""
    height = 0.9 + 0.155 * max(len(top), 1) + (0.13 if note else 0) + (0.2 if title else 0)
    figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    rows = np.arange(len(top))
    look: dict[str, Any] = {"clip_on": False, "zorder": 3}
    area = 8 + 60 * top["photos"] / max(top["photos"].max() if len(top) else 0, 1)
    axes.scatter(100 * top["top_1"], rows, s=area, color=PALETTE[0], linewidths=0, label="the first guess", **look)
    if top["top_5"].notna().any():
        axes.hlines(rows, 100 * top["top_1"], 100 * top["top_5"], color=_BAR, linewidth=1.2, zorder=2)
        hollow: dict[str, Any] = {"facecolors": "white", "edgecolors": PALETTE[1], "label": "among five guesses"}
        axes.scatter(100 * top["top_5"], rows, s=12, **hollow, **look)
    longest = 46 if width > 5 else 24
    names = [textwrap.shorten(str(name), longest, placeholder="…") for name in top["title"]]
    axes.set_yticks(rows, [f"{name} ({count:,})" for name, count in zip(names, top["photos"], strict=True)])
    axes.set_ylim(max(len(top), 1) - 0.4, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Photos named right (%)" + note, loc="center" if width > 5 else "right")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2, handletextpad=0.2)
    return finished(figure)


@styled
def breakdown_plot(
    table: pd.DataFrame,
    title: str = "",
    *,
    thresholds_km: Sequence[int] = (200, 750),
    shown: int = 25,
    width: float = DOUBLE_COLUMN,
) -> Figure:
    """Share of the photos of each group within two distances, with 95 % intervals, beside that of all photos.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.breakdown.by_factor`: all photos, and the groups of one factor or of several. Groups without
        an interval are hollow and grey.
    title : str
    thresholds_km : sequence of int
        Of :data:`helpers.metrics.THRESHOLDS_KM`, a panel each.
    shown : int
        Most groups of a factor to draw, those that `table` has first; the others are counted below.
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there is no group to draw.
    """
    everything = table[table["factor"] == "all"]
    factors = {str(name): groups for name, groups in table[table["factor"] != "all"].groupby("factor", sort=False)}
    if not factors or everything.empty:
        raise ValueError("no group to draw: give the rows of all photos, and of one factor at least")
    wide = width > 5
    longest = 40 if wide else 22
    rows: list[tuple[str, Mapping[Any, Any] | None]] = []
    notes = []
    for factor, groups in factors.items():
        if len(factors) > 1:
            rows.append((textwrap.shorten(breakdown.FACTORS[factor], 48 if wide else 26, placeholder="…"), None))
        for group in groups[:shown].to_dict("records"):
            name = textwrap.shorten(group["group"], longest, placeholder="…")
            rows.append((f"{name} ({group['photos']:,})", group))
        others = groups[shown:]
        if len(others):
            what = breakdown.FACTORS[factor]
            notes.append(f"{what}: {len(others):,} more, with {others['photos'].sum():,} photos, are not shown")
    lines = len(notes) + (2 if wide else 3)
    height = 0.62 + 0.165 * len(rows) + 0.14 * lines + (0.2 if title else 0)
    figure, panels = plt.subplots(
        1, len(thresholds_km), figsize=(width, height), sharey=True, layout="constrained", squeeze=False
    )
    dashed: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": "--"}
    shares = [f"within_{threshold}km" for threshold in thresholds_km]
    drawn = pd.DataFrame([figures for _, figures in rows if figures is not None])
    most = float(np.nanmax(drawn[[f"{share}{end}" for share in shares for end in ("", "_high")]].to_numpy(np.float64)))
    for axes, threshold, share in zip(panels.flat, thresholds_km, shares, strict=True):
        axes.axvline(100 * everything[share].iloc[0], zorder=2, **dashed)
        for place, (_, figures) in enumerate(rows):
            if figures is None:
                continue
            middle, low, high = (100 * figures[f"{share}{end}"] for end in ("", "_low", "_high"))
            known = low <= high
            look: dict[str, Any] = {"color": PALETTE[0] if known else GREY, "clip_on": False}
            axes.plot([low, high], [place, place], zorder=3, solid_capstyle="butt", **look)
            axes.plot(middle, place, "o", markerfacecolor=look["color"] if known else "white", zorder=4, **look)
        axes.set_title(f"within {threshold:,} km", loc="center", fontsize=7.5)
        axes.set_xlim(0, min(100, max(102 * most, 5)))
        axes.xaxis.set_major_locator(MaxNLocator(5 if wide else 3, integer=True, steps=[1, 2, 5, 10]))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    names = panels[0, 0]
    names.set_yticks(range(len(rows)), [name for name, _ in rows])
    names.set_ylim(len(rows) - 0.4, -0.6)
    for label, (_, figures) in zip(names.get_yticklabels(), rows, strict=True):
        if figures is None:
            label.set_fontweight("bold")
    hollow: dict[str, Any] = {"color": GREY, "marker": "o", "markerfacecolor": "white", "linestyle": "none"}
    entries = [
        Line2D([], [], color=PALETTE[0], marker="o", label="95 % interval"),
        Line2D([], [], label=f"all {everything['photos'].iloc[0]:,} photos", **dashed),
        Line2D([], [], label=f"< {breakdown.LEAST_PHOTOS} photos or < {breakdown.LEAST_AUTHORS} authors", **hollow),
    ]
    if drawn["median_km_low"].notna().all():
        entries.pop()
    figure.legend(
        handles=entries,
        title="\n".join(["Photos within the distance (%)", *notes]),
        loc="outside lower center",
        ncols=3 if wide else 2,
        columnspacing=1.4 if wide else 0.8,
        handlelength=1.8,
    ).get_title().set_multialignment("center")
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


@styled
def human_baseline_plot(table: pd.DataFrame, title: str = "", *, width: float = DOUBLE_COLUMN) -> Figure:
    """People beside models on the same photos: shares within each distance, and of countries named right.

    Parameters
    ----------
    table : DataFrame
        From :func:`helpers.human_baseline.accuracy`, for one group of players: ``who, figure, rounds, value, low,
        high``. Who comes first is drawn as people, the others as models.
    title : str
    width : float
        Of the figure, in inches.

    Raises
    ------
    ValueError
        If there is no share to draw.
    """
    named = {share: f"{km:,} km" for share, km in zip(metrics.SHARES, metrics.THRESHOLDS_KM, strict=True)}
    blocks = {
        "Within each distance": {name: named[name] for name in metrics.SHARES},
        "Right country": {f"top_{most}": f"top {most}" for most in (1, 3, 5)},
    }
    there = {
        heading: {name: label for name, label in figures.items() if (table["figure"] == name).any()}
        for heading, figures in blocks.items()
    }
    drawn = {heading: figures for heading, figures in there.items() if figures}
    if not drawn:
        raise ValueError("no share to draw: give a table with accuracies")
    wide = width > 5
    who = list(dict.fromkeys(table["who"]))
    labels = [textwrap.fill(name, 46, break_on_hyphens=False) for name in who]
    lines = sum(label.count("\n") + 1 for label in labels)
    shape = (1, len(drawn)) if wide else (len(drawn), 1)
    height = (2.2 if wide else 1.9 * len(drawn)) + 0.3 + 0.15 * (lines / 2 + 1 if wide else lines)
    ratios = {"width_ratios": [len(figures) for figures in drawn.values()]} if wide else {}
    figure, panels = plt.subplots(
        *shape, figsize=(width, height), sharey=True, squeeze=False, layout="constrained", gridspec_kw=ratios
    )
    shares = table[table["figure"] != "median_km"]
    highest = float(np.nanmax(shares[["value", "high"]].to_numpy(dtype=np.float64)))
    for axes, (heading, figures) in zip(panels.ravel(), drawn.items(), strict=True):
        for number, name in enumerate(who):
            color, marker = PALETTE[number % len(PALETTE)], _MARKERS[number % len(_MARKERS)]
            aside = (number - (len(who) - 1) / 2) * min(0.16, 0.7 / len(who))
            own = table[table["who"] == name].set_index("figure")
            for place, share in enumerate(figures):
                if share in own.index:
                    value, low, high = (100 * own.loc[share, column] for column in ("value", "low", "high"))
                    look: dict[str, Any] = {"color": color, "clip_on": False}
                    axes.plot([place + aside] * 2, [low, high], zorder=3, **look)
                    face = color if number == 0 else "white"
                    axes.plot(place + aside, value, marker, markerfacecolor=face, markersize=4.2, zorder=4, **look)
        rounds = table.loc[table["figure"].isin(list(figures)), "rounds"].iloc[0]
        axes.set_title(f"{heading} (% of {rounds:,} rounds)", fontsize=8 if wide else 7.5)
        axes.set_xticks(range(len(figures)), list(figures.values()))
        axes.set_xlim(-0.5, len(figures) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_ylim(0, min(100, max(105 * highest, 1)))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    entries = [
        Line2D(
            *([], []),
            color=PALETTE[number % len(PALETTE)],
            marker=_MARKERS[number % len(_MARKERS)],
            markerfacecolor=PALETTE[0] if number == 0 else "white",
            label=label,
        )
        for number, label in enumerate(labels)
    ]
    whiskers = "whiskers: 95 % intervals" if table["low"].notna().any() else "photos of one author: no intervals"
    figure.legend(
        handles=entries, loc="outside lower left", ncols=2 if wide else 1, title=whiskers, title_fontsize=7,
        alignment="left",
    )  # fmt: skip
    figure.suptitle(title, x=0.01, ha="left", fontsize=8.5)
    return finished(figure)


class _Mark(NamedTuple):
    """How a figure is drawn, and where: in per cent, with its interval."""

    color: str
    face: str
    marker: str = "o"
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


_COMPARISON_LOOKS = {
    "reference": _Mark(PALETTE[-1], PALETTE[-1], "D"),
    "significant by Holm's correction": _Mark(PALETTE[0], PALETTE[0]),
    "95 % interval excludes 0": _Mark(PALETTE[0], "white"),
    "95 % interval includes 0": _Mark(GREY, "white"),
}


def _accuracy_marks(intervals: pd.DataFrame, other: str | None) -> dict[str, dict[str, _Mark]]:
    """Accuracies by model and share; those of `other` look like the reference."""
    marks = {}
    for row in intervals.to_dict("records"):
        look = _COMPARISON_LOOKS["reference"]
        look = look if row["model"] == other else look._replace(marker="o")
        marks[row["model"]] = {
            share: _Mark(*look[:3], *(100 * row[name] for name in (share, f"{share}_low", f"{share}_high")))
            for share in metrics.SHARES
        }
    return marks


def _difference_marks(differences: pd.DataFrame) -> dict[str, dict[str, _Mark]]:
    """Differences by model and share."""
    _, significant, excludes_0, includes_0 = _COMPARISON_LOOKS.values()
    marks: dict[str, dict[str, _Mark]] = {}
    for row in differences[differences["figure"].isin(metrics.SHARES)].to_dict("records"):
        look = significant if row["significant"] else excludes_0 if row["excludes_0"] else includes_0
        place = (100 * row[name] for name in ("difference", "low", "high"))
        marks.setdefault(row["model"], {})[row["figure"]] = _Mark(*look[:3], *place)
    return marks


def _inches_wide(figure: Figure, label: str, size: float) -> float:
    text = figure.text(0, 0, label, fontsize=size)
    wide = text.get_window_extent().width / figure.dpi
    text.remove()
    return 1.05 * float(wide)  # letters fall on whole pixels, which are others in a file


def _filled(figure: Figure, text: str, inches: float, size: float, most: int = 3) -> str:
    """Text in lines that are no wider than that, broken after spaces, hyphens and the like, at `most` so many."""
    lines = [""]
    for piece in re.findall(r"[^\s_/-]*[\s_/-]*", text):
        fits = _inches_wide(figure, lines[-1] + piece.rstrip(), size) <= inches
        if not fits and lines[-1] and _inches_wide(figure, piece.rstrip(), size) <= inches:
            lines.append(piece)
            continue
        for sign in [piece] if fits else piece:
            if not fits and _inches_wide(figure, lines[-1] + sign, size) > inches:
                lines.append("")
            lines[-1] += sign
    lines = [line.rstrip() for line in lines]
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1][:-1]}…"])


def _panel_row(figure: Figure, left: float, bottom: float, high: float, gap: float) -> list[Axes]:
    """A panel for each distance side by side, from `left` to the edge of the figure; in inches."""
    width, height = figure.get_size_inches()
    wide = (width - left - 0.1 + gap) / len(metrics.SHARES) - gap
    panels = []
    for number, threshold in enumerate(metrics.THRESHOLDS_KM):
        axes = figure.add_axes(
            ((left + number * (wide + gap)) / width, bottom / height, wide / width, high / height), facecolor="none"
        )
        axes.set_title(f"{threshold:,} km", fontsize=7, loc="center", pad=4)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_yticks([])
        panels.append(axes)
    panels[0].set_zorder(1)  # names may reach over its neighbours
    return panels


def _mark_rows(axes: Axes, marks: Sequence[_Mark], at: NDArray[np.float64], high: float) -> None:
    """Draw marks at these distances from the top of axes so high, with a dotted line through that of a reference."""
    for mark, down in zip(marks, at, strict=True):
        if mark.marker == _COMPARISON_LOOKS["reference"].marker:
            axes.axvline(mark.value, color=GREY, linewidth=0.7, linestyle=":", zorder=2)
        look: dict[str, Any] = {"color": mark.color, "clip_on": False}
        axes.plot([mark.low, mark.high], [down] * 2, zorder=3, **look)
        axes.plot(mark.value, down, mark.marker, markerfacecolor=mark.face, markersize=3.2, zorder=4, **look)
    axes.set_ylim(high, 0)


def _name_rows(axes: Axes, labels: Sequence[str], at: NDArray[np.float64], *, beside: bool) -> None:
    """Write the name of each row beside its mark, or above it."""
    if beside:
        axes.set_yticks(at, labels)
        axes.tick_params(axis="y", length=0, pad=6)
        return
    for label, down in zip(labels, at, strict=True):
        axes.annotate(
            label,
            (0, down - 0.065),
            xycoords=axes.get_yaxis_transform(),
            fontsize=6.5,
            linespacing=1.05,
            va="bottom",
            annotation_clip=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            zorder=2.5,
        )


def _limit_rows(panels: Sequence[Axes], marks: Mapping[str, Mapping[str, _Mark]], *, differ: bool, ticks: int) -> None:
    """Limits and ticks: differences have 0 and the same limits in every panel, accuracies their own."""
    ends = np.array([[each[share][-3:] for each in marks.values()] for share in metrics.SHARES])
    lows, highs = np.nanmin(ends, axis=(1, 2)), np.nanmax(ends, axis=(1, 2))
    if differ:
        lows, highs = np.full(len(panels), min(lows.min(), 0)), np.full(len(panels), max(highs.max(), 0))
    for axes, low, high in zip(panels, lows, highs, strict=True):
        margin = max(0.06 * (high - low), 0.5)
        axes.set_xlim(*((low - margin, high + margin) if differ else (max(low - margin, 0), min(high + margin, 100))))
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=[1, 2, 5, 10]))
        if differ:
            axes.axvline(0, color=GREY, linewidth=0.8, zorder=2)


def _looks(models: pd.Series, baselines: Collection[str]) -> dict[str, dict[str, Any]]:
    """Line style of each model; baselines are grey, and past seven models the colours return dotted."""
    looks: dict[str, dict[str, Any]] = {}
    named = [model for model in models if model not in baselines]
    for number, model in enumerate(named):
        style = ("-", ":", "-.")[number // len(PALETTE) % 3]
        looks[model] = {"color": PALETTE[number % len(PALETTE)], "linestyle": style, "zorder": 3}
        looks[model]["marker"] = _MARKERS[number % len(_MARKERS)]
    for number, model in enumerate(model for model in models if model in baselines):
        looks[model] = {"color": ("#6B6B6B", "#A3A3A3")[number % 2], "linestyle": ("--", ":")[number // 2 % 2]}
        looks[model] |= {"marker": "x+12"[number % 4], "linewidth": 1, "zorder": 2}
    return looks


def _first_measure(table: pd.DataFrame) -> str:
    return next(name for name in table.columns if name.startswith("within_") or name in ("median_km", "epoch"))


def _sweep_values(table: pd.DataFrame, best_by: str) -> NDArray[np.float64]:
    """The measure of each trial, shares in per cent; NaN of those that failed."""
    factor = 100 if best_by.startswith("within_") else 1
    return factor * table[best_by].to_numpy(dtype=np.float64)


def _measure_label(best_by: str, short: bool = False) -> str:
    if best_by.startswith("within_"):
        kilometres = f"{int(best_by.removeprefix('within_').removesuffix('km')):,} km"
        return f"Within {kilometres} (% of photos)" if short else f"Validation photos within {kilometres} (%)"
    return {"median_km": "Median distance (km)", "validation_loss": "Validation loss (nats)"}[best_by]


def _parameter_label(name: str) -> str:
    units = {"batch_size": " (photos)", "image_size": " (pixels)", "smoothing_km": " (km)"}
    return name.removesuffix("_km").replace("_", " ").capitalize() + units.get(name, "")


def _short(value: Any) -> str:
    """A value as a tick has it.

    Examples
    --------
    >>> _short(1e-05), _short(0.1), _short(128), _short("none")
    ('0.00001', '0.1', '128', 'none')
    """
    return np.format_float_positional(value, trim="-") if isinstance(value, float) else str(value)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers on a logarithmic axis, of whole decades if it has several, at most `most` of them.

    Examples
    --------
    >>> _log_ticks(2e-5, 3e-1, 5), _log_ticks(1.3e-4, 3.1e-4, 5), _log_ticks(3e-6, 0.2, 3)
    ([0.0001, 0.001, 0.01, 0.1], [0.0002], [1e-05, 0.001, 0.1])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [tick for decade in decades for digit in digits if low <= (tick := float(f"{digit}e{decade}")) <= high]
        if len(ticks) > 1 or (ticks and digits != (1,)):
            return ticks[:: -(-len(ticks) // most)]
    return [float(f"{low:.2g}")]


_TRIAL_LOOKS: dict[str, dict[str, Any]] = {
    "best": {"marker": "D", "color": PALETTE[1], "markerfacecolor": PALETTE[1], "markersize": 5, "zorder": 4},
    "complete": {"marker": "o", "color": PALETTE[0], "markerfacecolor": PALETTE[0], "zorder": 3},
    "pruned": {"marker": "o", "color": GREY, "markerfacecolor": "white", "zorder": 3},
    "failed": {"marker": "x", "color": GREY, "zorder": 3},
}


def _mark_trials(
    axes: Axes, at: NDArray[np.float64], values: NDArray[np.float64], states: pd.Series, best: int | None = None
) -> None:
    """Dots of trials, the best of which is the first row, or that at `best`; those that failed lie on the axis."""
    looks = states.to_numpy(dtype=object).copy()
    chosen = np.flatnonzero(at == best)[0] if best is not None else 0
    if looks[chosen] == "complete":
        looks[chosen] = "best"
    for name, look in _TRIAL_LOOKS.items():
        these = looks == name
        if not these.any():
            continue
        if name == "failed":
            axes.plot(
                at[these],
                np.zeros(these.sum()),
                linestyle="",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
                **look,
            )
        else:
            axes.plot(at[these], values[these], linestyle="", **look)


def _explain_trials(figure: Figure, marks: Sequence[Line2D], width: float) -> None:
    figure.legend(handles=list(marks), loc="outside lower center", ncols=5 if width > 5 else 3, columnspacing=1.2)


def _in_cell(value: float, best_by: str) -> str:
    if best_by.startswith("within_"):
        return f"{value:.1f}"
    return f"{value:,.0f}" if best_by == "median_km" else f"{value:.3f}"


def _trial_marks(states: pd.Series) -> list[Line2D]:
    """Entries of a legend for the states of trials that occur."""
    words = {"best": "best", "complete": "other trials", "pruned": "pruned", "failed": "failed (no value)"}
    there = {"best", *states}
    return [
        Line2D([], [], linestyle="", label=words[name], **{key: each for key, each in look.items() if key != "zorder"})
        for name, look in _TRIAL_LOOKS.items()
        if name in there
    ]


def _tile(axes: Axes, image: NDArray[np.uint8], caption: str, left: float, top: float, size: float) -> None:
    """A photo fitted into a square with a thin gap, its shape kept, standing on its caption of `size` points."""
    high, wide = 0.97 * np.array(image.shape[:2]) / max(image.shape[:2])
    middle = left + 0.5
    axes.imshow(
        image,
        extent=(middle - wide / 2, middle + wide / 2, top + 0.98, top + 0.98 - high),
        aspect="auto",
        interpolation="antialiased",
    )
    axes.text(middle, top + 1.0, caption, fontsize=size, ha="center", va="top", linespacing=1.1)


def overlaid(view: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A photo in grey under the colours of a map: dark where nothing speaks for an answer, yellow where much does.

    Parameters
    ----------
    view : ndarray of uint8, shape (height, width, 3)
    evidence : ndarray of float32, shape (height, width)
        From 0 to 1.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        For any page or app: nothing but numpy and a colour map is needed to draw it.
    """
    grey = (view.astype(np.float64) / 255 @ _LUMA)[..., None]
    colour = matplotlib.colormaps[EVIDENCE](evidence)[..., :3]
    return np.rint(255 * (_COVER * colour + (1 - _COVER) * grey)).astype(np.uint8)


def _share_histogram(axes: Axes, values: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    """Histogram in per cent of the photos."""
    axes.hist(values, list(edges), weights=np.full(len(values), 100 / len(values)), color=PALETTE[0], linewidth=0)
    axes.set_ylabel("Photos (%)")
    axes.xaxis.set_minor_locator(NullLocator())


def _by_continent(confusion: pd.DataFrame, fitting: int) -> pd.DataFrame:
    """Countries with photos by continent, those with most photos first; what does not fit is ``other`` and last."""
    photos = confusion.sum(axis=1)
    known = photos[photos > 0].sort_index().sort_values(ascending=False, kind="stable")
    extra = [column for column in confusion if column not in confusion.index]
    kept = known.index[: fitting - 1 - len(extra)]
    continent = places.countries()["continent"].reindex(kept).fillna("")
    kept = kept[np.argsort(continent.to_numpy(dtype=str), kind="stable")]
    row_name = {country: country for country in kept}
    column_name = row_name | {column: column for column in extra}
    grouped = confusion.groupby(lambda row: row_name.get(row, "other")).sum()
    grouped = grouped.T.groupby(lambda column: column_name.get(column, "other")).sum().T
    columns = [*kept, *(["other"] if grouped.get("other", pd.Series([0])).any() else []), *extra]
    rows = [*kept, *(["other"] if len(known) > len(kept) else [])]
    return grouped.reindex(index=rows, columns=columns, fill_value=0)


def _apart(middles: NDArray[np.float64], lines: Sequence[int], line: float) -> NDArray[np.float64]:
    """Middles of labels, moved down as far as it takes for none to cover the one above."""
    placed, free = [], -np.inf
    for middle, count in zip(middles, lines, strict=True):
        placed.append(max(middle, free + count * line / 2))
        free = placed[-1] + count * line / 2
    return np.array(placed)


def finished(figure: Figure) -> Figure:
    # Else a notebook would show it twice: as an open figure, and as the value of its cell.
    plt.close(figure)
    return figure
