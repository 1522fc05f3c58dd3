"""Figures hold the data they were given, fit their width, and are reproducible files."""

import errno
import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.collections import PathCollection
from matplotlib.image import AxesImage
from PIL import Image

from helpers import (
    bootstrap,
    breakdown,
    comparison,
    export_checks,
    map_checks,
    maps,
    metrics,
    places,
    plots,
    search_spaces,
    trials,
    uncertainty,
)

WIDTHS = [plots.SINGLE_COLUMN, plots.DOUBLE_COLUMN]

REPORT = pd.DataFrame(
    [
        ("there before", "", 0),
        ("fetched", "", 1_900),
        ("gone", "status 404", 80),
        ("failed, asked again by the next run", "time-out", 20),
    ],
    columns=["outcome", "reason", "photos"],
)


def table(models, intervals=True):
    rng = np.random.default_rng(7)
    distances = {name: rng.lognormal(7, 2, 60).clip(0, 20_000) for name in models}
    if not intervals:
        return metrics.accuracy_table(distances)
    return bootstrap.interval_table(distances, np.arange(60) % 12, 50, seed=7)


def compared(models, reference=None):
    rng = np.random.default_rng(5)
    distance_km = {model: rng.uniform(0, 4000, 40) for model in models}
    return bootstrap.paired_differences(distance_km, [None] * 40, 20, seed=7, reference=reference)


def differing(models):
    """Intervals of models, and what they differ by from the last."""
    rng = np.random.default_rng(3)
    easy = rng.lognormal(6, 2.5, 60)
    distance_km = {
        model: (easy * (1 + number) * rng.lognormal(0, 0.4, 60)).clip(0, 20_000) for number, model in enumerate(models)
    }
    author = pd.Series([f"author {photo % 20}" for photo in range(60)])
    shown = comparison.Compared(pd.DataFrame(distance_km), author, pd.DataFrame({"model": models}), {}, {})
    return comparison.intervals(shown, 99, seed=7), comparison.differences(shown, models[-1], 99 * len(models), seed=7)


def reliable(models):
    rng = np.random.default_rng(3)
    sure = rng.random(200) ** 2
    table = pd.DataFrame({"right": rng.random(200) < sure, "confidence": sure, "confidence_uncalibrated": sure**0.3})
    table["author"] = rng.integers(30, size=200).astype(str)
    tables = [table.assign(model=model) for model in models] or [table.assign(model="").head(0)]
    return uncertainty.reliability(pd.concat(tables), 20, seed=7)


def covered():
    rng = np.random.default_rng(3)
    held = {"held_from": rng.random(90), "held_from_uncalibrated": rng.random(90) ** 0.3}
    return uncertainty.coverage(pd.DataFrame({**held, "author": rng.integers(20, size=90).astype(str)}), 20, seed=7)


def greyed(photos):
    """What is left of the scores of so many photos, each by an author of its own."""
    rng = np.random.default_rng(3)
    combinations = [(0.0, ""), *itertools.product(map_checks.GREYED, map_checks.PLACES)]
    tables = [
        pd.DataFrame(
            {"id": np.arange(photos), "author": "", "greyed": share, "places": where, "score": rng.random(photos)}
        )
        for share, where in combinations
    ]
    return map_checks.deletion_summary(pd.concat(tables), 20, seed=7)


def answered(photos):
    rng = np.random.default_rng(3)
    columns = {"id": np.arange(photos), "confidence": rng.random(photos), "distance_km": rng.uniform(0, 4000, photos)}
    return uncertainty.abstention(pd.DataFrame(columns))


def swept(preset, best_by):
    """A table of trials, of which the third failed and of those that are sampled every fifth was pruned."""
    space, rng = search_spaces.PRESETS[preset], np.random.default_rng(3)
    points = space.points() if space.grid else [sampled(space, rng) for _ in range(20)]
    states = [trials.PRUNED if not space.grid and place % 5 == 4 else trials.COMPLETE for place in range(len(points))]
    states[2] = trials.FAILED
    found = [
        trials.Trial(place, state, point, measured={} if state == trials.FAILED else judged(rng), epoch=3)
        for place, (state, point) in enumerate(zip(states, points, strict=True))
    ]
    return trials.table(found, best_by)


def sampled(space, rng):
    return {
        name: float(np.exp(rng.uniform(*np.log(values))))
        if isinstance(values, search_spaces.LogRange)
        else values[rng.integers(len(values))]
        for name, values in space.parameters.items()
    }


def judged(rng):
    shares = {share: float(rng.random()) for share in metrics.SHARES}
    return {**shares, "median_km": float(rng.uniform(2000, 9000)), "validation_loss": float(rng.uniform(2, 9))}


def swept_importances(preset):
    names = list(search_spaces.PRESETS[preset].parameters)
    return pd.Series(1 / len(names), index=names[::-1])


def curves(epochs):
    epoch = np.arange(1, epochs + 1)
    columns = {"epoch": epoch, "train_loss": 9 / epoch, "validation_loss": 10 / epoch}
    return pd.DataFrame(columns | {share: rank * epoch / 100 for rank, share in enumerate(metrics.SHARES)})


def named_counts(names):
    """Photos by name and split, each name with one photo fewer than the one before it."""
    photos = np.arange(len(names), 0, -1)
    index = pd.Index(names, name="country")
    return pd.DataFrame({"train": 8 * photos, "validation": photos, "test": photos[::-1]}, index)


def balance(countries):
    """A table of `balancing.balance` with so many countries, the first with most photos, the last left out."""
    photos = np.arange(countries, 0, -1) ** 2
    after = np.append(np.full(countries - 1, 4), 0) if countries > 1 else np.array([1])
    names = ["South Georgia and the South Sandwich Islands", *(f"country {number}" for number in range(1, countries))]
    table = pd.DataFrame({"name": names, "photos_before": photos, "photos_after": after})
    table["share_sought"] = np.where(after > 0, 1 / (after > 0).sum(), 0)
    return table.assign(share_before=photos / photos.sum(), share_after=after / after.sum())


def confused(codes, photos=40):
    """Photos by true country and guess: each country is right in `photos` and wrong in as many, one for the next."""
    size = len(codes)
    counts = photos * (np.eye(size, dtype=int) + np.roll(np.eye(size, dtype=int), 1, axis=1))
    return pd.DataFrame(counts - np.arange(size)[:, None] // 8 * (counts > 0), codes, codes)


def recalls(names):
    """Photos, recall and top 5 of each class, the first with most photos and named best."""
    share = np.linspace(0.9, 0, len(names))
    photos = np.arange(len(names), 0, -1) ** 2
    return pd.DataFrame({"title": names, "photos": photos, "top_1": share, "top_5": share + 0.1})


def scene_shares(shares):
    table = pd.DataFrame(shares, columns=["p_indoor", "p_natural", "p_urban"])
    return table.assign(scene=table.idxmax(axis=1).str.removeprefix("p_"))


def broken_down(**groups):
    """A table of `breakdown.by_factor` for so many photos of each group of each factor, by an author for each two."""
    photos = max(sum(sizes.values()) for sizes in groups.values())
    facts = pd.DataFrame({"author": np.arange(photos) // 2, "distance_km": np.geomspace(1, 20_000, photos)})
    for factor, sizes in groups.items():
        names = np.repeat(list(sizes), list(sizes.values())).astype(object)
        facts[factor] = np.append(names, np.full(photos - len(names), None))
    return breakdown.by_factor(facts, 20, seed=7)


def exported(photos, outputs=("fine", "features"), formats=("onnx",)):
    """Differences of exported answers, of which the first photo has none, and their summary."""
    pairs = pd.MultiIndex.from_product([formats, outputs, range(photos)], names=["format", "output", "id"])
    frame = pairs.to_frame(index=False).assign(same=pd.NA)
    frame["difference"] = np.where(frame["id"] == 0, 0.0, 1e-7 * frame["id"])
    frame.loc[frame["output"] != "features", "same"] = True
    frame = frame.astype({"same": "boolean"})
    return frame, export_checks.summary(frame, tolerance=1e-4)


def grown(rows, sizes):
    """Accuracies that grow with the training photos, in per cent."""
    return pd.DataFrame(
        {
            "row": row,
            "training_photos": size,
            **{
                share: (1 + number) * np.log10(size) * (1 + km**0.3) / 4
                for share, km in zip(metrics.SHARES, metrics.THRESHOLDS_KM, strict=True)
            },
        }
        for number, row in enumerate(rows)
        for size in sizes
    )


def one_of_each(width):
    """Every figure, of the smallest input and of some."""
    rng = np.random.default_rng(7)
    some = rng.uniform(-80, 80, (4, 300))
    photo = np.zeros((4, 6, 3), dtype=np.uint8)
    names = [f"a partition, an architecture and a recipe, {number}" for number in range(9)]
    yield plots.accuracy_plot(table(["f*"], intervals=False).head(1), width=width)
    yield plots.accuracy_plot(table([*names, metrics.MOST_LIKELY_CELL]), "a test set", width=width)
    yield plots.difference_plot(compared(names[:2]), width=width)
    yield plots.difference_plot(compared(names), "every pair", width=width)
    yield plots.difference_plot(compared(names, reference=names[3]), "against one", width=width)
    for models in ([], ["f*"], ["coarse", "middle", "fine", "f*", "country (sum)", "continent (sum)"]):
        yield plots.reliability_plot(reliable(models), "reliability" * (len(models) > 1), width=width)
    yield plots.coverage_plot(covered(), width=width)
    for photos in (1, 40):
        yield plots.deletion_plot(greyed(photos), "greyed out" * (photos > 1), width=width)
    yield plots.growth_plot(grown(["f*"], [1000]), width=width)
    yield plots.growth_plot(
        grown([f"what a step does, {number}" for number in range(8)], [237, 590, 1180, 2330]), width=width
    )
    yield plots.growth_plot(grown(["f*", "search"], [2**power for power in range(9, 18)]), "grown", width=width)
    yield plots.export_plot(*exported(1), width=width)
    every = ("coarse", "middle", "fine", "coordinates", "features")
    yield plots.export_plot(*exported(90, every, ("onnx", "pt2")), "a run", width=width)
    yield plots.abstention_plot(answered(0), width=width)
    yield plots.abstention_plot(answered(300), "abstention", width=width)
    yield plots.comparison_plot(*differing(["f*"]), width=width)
    yield plots.comparison_plot(*differing(names[:2]), width=width)
    yield plots.comparison_plot(*differing(["x" * 200, *names, "W" * 90]), "models", width=width)
    yield plots.training_curves(curves(1), width=width)
    yield plots.training_curves(curves(12), "a run", width=width)
    yield plots.training_curves(curves(12).drop(columns="validation_loss"), width=width)
    yield plots.training_curves(curves(12)[["epoch", "train_loss"]], width=width)
    for preset, best_by in itertools.product(search_spaces.PRESETS, ("within_750km", "median_km", "validation_loss")):
        tried = swept(preset, best_by)
        grid = search_spaces.PRESETS[preset].grid
        yield plots.sweep_plot(tried, best_by, None if grid else swept_importances(preset), grid=grid, width=width)
        yield plots.sweep_history(tried, best_by, "trials" * grid, width=width)
    yield plots.sweep_history(swept("quick", "median_km").head(1), "median_km", width=width)
    yield plots.contact_sheet([photo], ["one"], width=width)
    yield plots.contact_sheet([photo] * 23, ["48.86, 2.35 Cfb, a caption too long for its photo"] * 23, width=width)
    yield plots.outcome_bars(REPORT, width=width)
    yield plots.balance_plot(balance(1), width=width)
    yield plots.balance_plot(balance(70), "a collection and its target", width=width)
    yield plots.photo_rows({"below": ([], []), "above": ([photo] * 10, ["12"] * 10)}, "a threshold", width=width)
    yield plots.photo_rows(
        {"2 bits": ([photo] * 6, ["an id that is too long for its photo"] * 6)}, columns=8, together=2, width=width
    )
    yield plots.augmentation_rows({"none": [photo], "crop+flip": [photo]}, width=width)
    yield plots.augmentation_rows({"none": [photo], "crop+flip": [photo] * 12}, "twelve epochs", width=width)
    yield plots.measure_histograms({"Channel variance": [30.0]}, [150], width=width)
    yield plots.measure_histograms({"one": 30 * some[0] ** 2, "other": [0, 1, 1e4]}, [0, 30], "measures", width=width)
    yield plots.scene_bars(pd.DataFrame({"indoor": [1, 0], "urban": [2, 0]}, index=["train", "test"]), width=width)
    yield plots.scene_certainty(scene_shares([[0.2, 0.1, 0.7]]), width=width)
    yield plots.scene_certainty(scene_shares(rng.dirichlet([1, 1, 1], 300)), "scenes", width=width)
    countries = places.countries().query("continent != 'Antarctica'")
    for codes in (["FR"], ["FR", "JP"], countries.index[:15], countries.index[:90], countries.index[:200]):
        yield plots.country_matrix(confused(codes), "a matrix" * (len(codes) > 2), width=width)
    yield plots.country_matrix(pd.DataFrame([[0, 1], [0, 0]], ["FR", "JP"], ["FR", "none"]), width=width)
    longest = countries["name"].str.len().sort_values().index[::-1]
    pairs = pd.DataFrame({"truth": countries["name"][longest], "guess": "France", "photos": 1_200, "share": 1.0})
    for number in (0, 1, 200):
        yield plots.confusion_bars(pairs[:number], "pairs" * (number > 1), width=width)
        yield plots.class_recalls(recalls(pairs["truth"][:number].tolist()), "recall" * (number > 1), width=width)
    yield plots.split_shares(named_counts(["Andorra"])[["train"]], width=width)
    yield plots.split_shares(named_counts(["", *names * 4, "Saint Helena, Ascension"]), "countries", width=width)
    yield plots.split_shares(named_counts([""]), width=width)
    yield plots.nearest_training_plot({"test": [0.0]}, width=width)
    yield plots.nearest_training_plot({"validation": rng.uniform(0, 20_015, 9), "test": [0, 9]}, "near", width=width)
    yield plots.breakdown_plot(broken_down(country={"Chad": 1}), width=width)
    of_regions = {f"Provincia autonoma di Bolzano {number}, Italy": 30 - number for number in range(29)}
    yield plots.breakdown_plot(broken_down(region=of_regions), "regions", width=width)
    of_all = {factor: {"a name of some length": 90, "b": 4, "c": 50} for factor in breakdown.FACTORS if factor != "all"}
    yield plots.breakdown_plot(broken_down(**of_all), "every factor", width=width)
    yield plots.resolution_plot([1], [1], width=width)
    yield plots.resolution_plot(rng.integers(16, 9000, 90), rng.integers(16, 9000, 90), "sizes", width=width)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_fits_its_width(width, assert_fits):
    for figure in one_of_each(width):
        assert_fits(figure, width)


def test_accuracy_plot_shows_the_tables_figures():
    frame = table(["f*", "fine", metrics.RANDOM_TRAINING_PHOTO])
    figure = plots.accuracy_plot(frame, "title")
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == set(frame["model"])
    for row in frame.to_dict("records"):
        np.testing.assert_array_equal(lines[row["model"]].get_xdata(), metrics.THRESHOLDS_KM)
        np.testing.assert_allclose(lines[row["model"]].get_ydata(), [100 * row[share] for share in metrics.SHARES])
    whiskers = {tuple(np.round(line.get_ydata(), 9)) for line in axes.lines if len(line.get_xdata()) == 2}
    for share in metrics.SHARES:
        for low, high in frame[[f"{share}_low", f"{share}_high"]].to_numpy():
            assert tuple(np.round([100 * low, 100 * high], 9)) in whiskers
    assert axes.get_xlabel() == "Great-circle distance to the true place (km)"
    assert axes.get_ylabel() == "Photos within it (%)"
    assert [label.get_text() for label in axes.get_xticklabels()][1:] == [
        "25\ncity", "200\nregion", "750\ncountry", "2,500\ncontinent",
    ]  # fmt: skip
    assert axes.get_ylim()[1] <= 100
    (legend,) = figure.legends
    order = frame.sort_values("within_2500km", ascending=False)["model"].to_list()
    assert [text.get_text() for text in legend.get_texts()] == order


def test_growth_plot_draws_each_row_over_the_training_photos():
    table = grown(["f*", "search"], [200, 2000])
    figure = plots.growth_plot(table)
    for axes, share in zip(figure.axes, metrics.SHARES, strict=False):
        for line, (row, each) in zip(axes.lines, table.groupby("row", sort=False), strict=True):
            assert line.get_xdata().tolist() == [200, 2000], row
            assert line.get_ydata().tolist() == each[share].tolist()
        assert axes.get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["f*", "search"]


def test_difference_plot_shows_each_pairs_differences_filled_where_they_exclude_0():
    table = compared(["a", "b", "c"], reference="b")
    table.loc[table["figure"] == "within_750km", ["low", "high", "excludes_0"]] = [0.1, 0.2, True]
    figure = plots.difference_plot(table)
    assert [axes.get_title("left") for axes in figure.axes] == ["1 km", "25 km", "200 km", "750 km", "2,500 km"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "c"]
    for share, axes in zip(metrics.SHARES, figure.axes, strict=True):
        rows = table[table["figure"] == share]
        zero, *drawn = axes.lines
        assert zero.get_xdata() == [0, 0]
        for line, interval in zip(drawn[::2], rows[["low", "high"]].to_numpy(), strict=True):
            np.testing.assert_allclose(line.get_xdata(), 100 * interval)
        np.testing.assert_allclose([dot.get_xdata()[0] for dot in drawn[1::2]], 100 * rows["difference"])
        filled = [dot.get_markerfacecolor() != "white" for dot in drawn[1::2]]
        assert filled == rows["excludes_0"].tolist()
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "Difference from b (percentage points)"
    every = plots.difference_plot(compared(["a", "b", "c"])).axes[0]
    assert [label.get_text() for label in every.get_yticklabels()] == ["a less b", "a less c", "b less c"]
    with pytest.raises(ValueError, match="give at least two models"):
        plots.difference_plot(compared(["a"]))


@pytest.mark.parametrize("width", WIDTHS)
def test_comparison_plot_shows_accuracies_and_differences_with_what_is_significant_filled(width):
    models = ["good", "also good", "bad"]
    intervals, differences = differing(models)
    differences.loc[:6, ["excludes_0", "significant"]] = [True, False]
    differences.loc[7:13, ["excludes_0", "significant"]] = [True, True]
    figure = plots.comparison_plot(intervals, differences, width=width)
    assert [axes.get_title() for axes in figure.axes] == 2 * ["1 km", "25 km", "200 km", "750 km", "2,500 km"]
    assert [text.get_text() for text in figure.texts][1:] == [
        "Photos within each distance (% of 60), 95 % intervals", "Difference (percentage points) from bad",
    ]  # fmt: skip
    for share, above, below in zip(metrics.SHARES, figure.axes[:5], figure.axes[5:], strict=True):
        for axes, table, column, low, high in (
            (above, intervals, share, f"{share}_low", f"{share}_high"),
            (below, differences[differences["figure"] == share], "difference", "low", "high"),
        ):
            dots = [line for line in axes.lines if len(line.get_xdata()) == 1]
            np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], 100 * table[column])
            whiskers = [line.get_xdata() for line in axes.lines if len(set(line.get_ydata())) == 1 and line not in dots]
            np.testing.assert_allclose(whiskers, 100 * table[[low, high]])
            left, right = axes.get_xlim()
            assert left <= 100 * table[low].min() <= 100 * table[high].max() <= right
        dots = [line for line in below.lines if len(line.get_xdata()) == 1]
        assert [dot.get_markerfacecolor() for dot in dots] == ["white", plots.PALETTE[0]]
        (dotted,) = (line for line in above.lines if line.get_linestyle() == ":")
        assert dotted.get_xdata()[0] == 100 * intervals[share].iloc[-1]
        assert below.get_xlim() == figure.axes[5].get_xlim()
        assert below.get_xlim()[0] < 0 < below.get_xlim()[1] or 0 in below.get_xlim()
    first = figure.axes[0]
    named = [text.get_text() for text in (first.get_yticklabels() if width > 5 else first.texts)]
    assert named == models
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "reference", "significant by Holm's correction", "95 % interval excludes 0", "95 % interval includes 0",
    ]  # fmt: skip


def test_names_that_are_too_long_are_broken_where_words_end_and_at_last_cut():
    figure = plt.figure()
    text = "base(M, f*) of a-run-with_its/recipe " * 4
    filled = plots._filled(figure, text, 1.2, 7)
    assert len(filled.splitlines()) == 3
    assert filled.startswith("base(M, f*) of a-run-\nwith_its/recipe")
    assert filled.endswith("…")
    for name in (text, "x" * 500, "short", "W" * 50):
        lines = plots._filled(figure, name, 1.2, 7, most=99).splitlines()
        assert max(plots._inches_wide(figure, line, 7) for line in lines) <= 1.2
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")
    plt.close(figure)


def test_baselines_are_grey_and_dashed_and_no_two_models_look_alike():
    models = [f"model {number}" for number in range(12)] + [metrics.RANDOM_TRAINING_PHOTO, metrics.MOST_LIKELY_CELL]
    (axes,) = plots.accuracy_plot(table(models, intervals=False)).axes
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for line in axes.lines}
    looks = {model: looks[model] for model in models}
    assert len(set(looks.values())) == len(models)
    for model, (color, style) in looks.items():
        red, green, blue = colors.to_rgb(color)
        is_baseline = model in models[-2:]
        assert (style == "--") == is_baseline
        assert (red == green == blue and red > 0) == is_baseline


def test_names_are_text_and_no_formula():
    figure = plots.accuracy_plot(table(["run $1_{", "b$"]), "costs 5 $ or 6 $^")
    figure.draw_without_rendering()


@pytest.mark.parametrize(
    "palette",
    [
        plots.PALETTE,
        maps.ERROR_COLORS,
        tuple(plots.SPLIT_COLORS.values()),
        tuple(maps.STATE_COLORS.values()),
    ],
)
def test_colours_differ_for_deuteranopes_too(palette):
    # Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
    deuteranopia = np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    )
    rgb = np.array([colors.to_rgb(color) for color in palette])
    seen = (rgb**2.2 @ deuteranopia.T).clip(0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(palette))
    assert gaps.min() > 0.12


def test_training_curves_show_the_tables_figures():
    frame = curves(5)
    losses, accuracies = plots.training_curves(frame).axes
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), frame["train_loss"])
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), frame["validation_loss"])
    shown = {line.get_label(): line.get_ydata() for line in accuracies.lines}
    np.testing.assert_allclose(shown["25 km"], 100 * frame["within_25km"])
    np.testing.assert_allclose(shown["2,500 km"], 100 * frame["within_2500km"])
    assert accuracies.get_ylabel().endswith("(%)")


def test_a_sweep_of_two_parameters_is_drawn_as_its_grid():
    table = swept("lost_and_found", "within_750km")
    axes, _ = plots.sweep_plot(table, "within_750km", grid=True).axes
    rates = [tick.get_text() for tick in axes.get_xticklabels()]
    decays = [tick.get_text() for tick in axes.get_yticklabels()]
    assert rates == ["0.00001", "0.0001", "0.001", "0.01", "0.1"]
    cells = {(text.get_position()): text.get_text() for text in axes.texts}
    for row in table.to_dict("records"):
        place = rates.index(plots._short(row["learning_rate"])), decays.index(plots._short(row["weight_decay"]))
        assert cells[place] == ("failed" if row["state"] == "failed" else f"{100 * row['within_750km']:.1f}")
    framed = [patch for patch in axes.patches if not patch.get_fill()]
    best = rates.index(plots._short(table["learning_rate"][0])), decays.index(plots._short(table["weight_decay"][0]))
    assert [tuple(np.round(patch.get_center())) for patch in framed] == [best]


def test_panels_of_a_sweep_are_in_the_order_of_what_mattered_and_show_each_trial():
    table = swept("quick", "median_km")
    panels = plots.sweep_plot(table, "median_km", swept_importances("quick")).axes
    assert [axes.get_xlabel() for axes in panels] == ["Batch size\n(photos)", "Weight decay", "Learning rate"]
    drawn = sorted(y for line in panels[2].lines for y in line.get_ydata())
    assert drawn == sorted([0.0, *table["median_km"].dropna()])  # the one that failed lies on the axis
    assert panels[0].get_title(loc="left") == "33 % of importance"


def test_few_sampled_numbers_are_on_a_scale_whose_ticks_are_short():
    table = swept("quick", "median_km")
    first = [1.3259291348324036e-4, 3.136357318135728e-4]
    figure = plots.sweep_plot(table.head(2).assign(learning_rate=first, median_km=9000.0), "median_km")
    figure.draw_without_rendering()
    rate = figure.axes[0]
    low, high = rate.get_xlim()
    assert rate.get_xscale() == "log"
    assert [tick.get_text() for tick in rate.get_xticklabels() if low <= tick.get_position()[0] <= high] == ["0.0002"]
    assert list(rate.get_yticks()) == [9000.0]


def test_the_history_of_a_sweep_rises_to_its_best():
    table = swept("quick", "within_750km")
    (axes,) = plots.sweep_history(table, "within_750km").axes
    so_far = axes.lines[0].get_ydata()
    assert so_far[-1] == 100 * table["within_750km"][0]
    assert (np.diff(so_far) >= 0).all()


def test_one_epoch_has_one_tick():
    for axes in plots.training_curves(curves(1)).axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_contact_sheet_keeps_every_photo_and_its_shape():
    shapes = [(10, 20), (20, 10), (10, 10)]
    images = [np.full((*shape, 3), 100, dtype=np.uint8) for shape in shapes]
    (axes,) = plots.contact_sheet(images, ["a", "b", "c"], columns=2).axes
    drawn = [artist for artist in axes.get_children() if isinstance(artist, AxesImage)]
    assert len(drawn) == 3
    box = axes.get_position()
    width, height = axes.figure.get_size_inches()
    for image, (high, wide) in zip(drawn, shapes, strict=True):
        left, right, bottom, top = image.get_extent()
        inches_wide = (right - left) / np.ptp(axes.get_xlim()) * box.width * width
        inches_high = (bottom - top) / np.ptp(axes.get_ylim()) * box.height * height
        assert inches_wide / inches_high == pytest.approx(wide / high)
    with pytest.raises(ValueError, match="3 images and 1 captions"):
        plots.contact_sheet(images, ["a"])
    with pytest.raises(ValueError, match="0 images"):
        plots.contact_sheet([], [])


def test_a_outcome_bars_shows_every_outcome_that_occurred():
    (axes,) = plots.outcome_bars(REPORT).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fetched", "gone: status 404", "failed: time-out"]
    assert [patch.get_width() for patch in axes.patches] == [1_900, 80, 20]
    assert [text.get_text() for text in axes.texts] == ["1,900 (95.0 %)", "80 (4.0 %)", "20 (1.0 %)"]
    assert plots.outcome_bars(REPORT[:1]).axes[0].get_yticklabels()[0].get_text() == "there before"


def test_scene_bars_add_up_and_refuse_more_scenes_than_colours():
    counts = pd.DataFrame({"indoor": [1, 5], "natural": [1, 0], "urban": [2, 5]}, index=["train", "test"])
    (axes,) = plots.scene_bars(counts).axes
    widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    np.testing.assert_allclose(widths, [[25, 50], [25, 0], [50, 50]])
    with pytest.raises(ValueError, match="8 scenes"):
        plots.scene_bars(pd.DataFrame([range(8)]))
    alphabetical = pd.DataFrame({"urban": [1, 2, 3]}, index=["test", "train", "validation"])
    (axes,) = plots.scene_bars(alphabetical).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["train (2)", "validation (3)", "test (1)"]


def test_scene_certainty_shows_how_sure_and_how_many_pass_the_threshold():
    shares = scene_shares([[0.6, 0.35, 0.05], [0.82, 0.08, 0.1], [0.05, 0.95, 0.0], [0.3, 0.3, 0.4]])
    unknown = pd.DataFrame({"scene": [None], "p_indoor": [np.nan], "p_natural": [np.nan], "p_urban": [np.nan]})
    figure = plots.scene_certainty(pd.concat([shares, unknown]))
    sure, enough = figure.axes
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["indoor (2)", "natural (1)", "urban (1)"]
    indoor = sure.patches[0].get_data()
    assert dict(zip(indoor.edges.round(2), indoor.values, strict=False))[0.8] == 50
    above = {line.get_color(): np.interp(0.3, *line.get_data()) for line in enough.lines[:3]}
    assert list(above.values()) == pytest.approx([50, 50, 25])  # 0.3 itself is not above it
    assert indoor.values.sum() == pytest.approx(100)


def test_split_shares_are_of_all_photos_and_of_each_split_and_count_what_they_do_not_draw():
    counts = pd.DataFrame(
        {"train": [60, 10, 4, 6], "validation": [0, 5, 0, 5], "test": [5, 4, 1, 0]},
        pd.Index(["France", "", "Fiji", "Chad"], name="country"),
    )
    figure = plots.split_shares(counts, shown=2)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([65, 11])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["France (65)", "Chad (11)"]
    marks = {line.get_label(): line.get_xdata().tolist() for line in axes.lines}
    assert marks == {"train: 80": [75, 7.5], "validation: 10": [0, 50], "test: 10": [50, 0]}
    assert axes.get_xlabel().split("\n")[1:] == ["others (1): 5 photos (5.0 %)", "no country: 19 photos (19.0 %)"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["all: 100 photos", *marks]
    heights = [line.get_ydata()[0] for line in axes.lines]
    assert heights == sorted(set(heights))  # or a mark would hide another of an equal share
    assert max(np.abs(heights)) < 0.36  # half a bar
    one_split = plots.split_shares(counts[["test"]])
    assert not one_split.axes[0].lines


def test_shares_near_training_are_those_at_each_distance():
    distances = [0.0, 1.0, 1.5, 25.0, 200.1, 8_000, 8_000, 8_000]
    figure = plots.nearest_training_plot({"test": distances})
    (axes,) = figure.axes
    curve, marks = axes.lines[:2]
    assert marks.get_xdata().tolist() == [1, 25, 200]
    assert marks.get_ydata().tolist() == [25, 50, 50]
    expected = [100 * np.mean(np.array(distances) <= at) for at in curve.get_xdata()]
    np.testing.assert_allclose(curve.get_ydata(), expected)
    assert curve.get_ydata()[0] == 12.5  # the photo at no distance counts though a logarithm has no place for it
    (label,) = (text.get_text() for text in figure.legends[0].get_texts())
    assert label == "test (8): 25 % ≤ 1 km, 50 % ≤ 25 km, 50 % ≤ 200 km"


def test_every_photo_is_in_both_histograms_of_sizes():
    wide, high = [16, 31, 4096, 100, 20_000, 64], [16, 4096, 31, 2_000, 16, 64]
    sizes, shapes = plots.resolution_plot(wide, high).axes
    for axes in (sizes, shapes):
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(100)
    assert sizes.get_title("left") == "median 31 pixels, 90 % from 16 to 91"
    assert shapes.get_title("left") == "33 % wide, 33 % high"
    for side in (1, 127, 128):
        one_size, _ = plots.resolution_plot([side] * 3, [2 * side] * 3).axes
        (bar,) = (bar for bar in one_size.patches if bar.get_height())
        assert bar.get_x() <= side <= bar.get_x() + bar.get_width()
        low, high = one_size.get_xticks()[[0, -1]]
        assert low <= side < high
        assert one_size.get_xlim()[0] < low < high < one_size.get_xlim()[1]
    middle = bar.get_x() * np.sqrt(1 + bar.get_width() / bar.get_x())
    assert middle == pytest.approx(128)
    with pytest.raises(ValueError, match="no photo whose size is known"):
        plots.resolution_plot([], [])


def test_a_balance_shows_before_after_and_target_and_sums_up_the_rest():
    frame = balance(5)
    (axes,) = plots.balance_plot(frame.iloc[[3, 0, 4, 1, 2]], shown=3).axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["South Georgia and the South Sandwich…", "country 1", "country 2", "2 others together"]
    before, after = ([bar.get_width() for bar in bars] for bars in axes.containers)
    np.testing.assert_allclose(before, 100 * np.array([25, 16, 9, 4 + 1]) / 55)
    np.testing.assert_allclose(after, [25, 25, 25, 25])
    (target,) = axes.lines
    np.testing.assert_allclose(target.get_xdata(), [25, 25, 25, 25])
    (legend,) = axes.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["target", "before: 55 photos", "after: 16 photos"]


def test_a_country_without_a_target_has_no_mark_and_a_small_one_that_grows_is_shown():
    frame = balance(4).assign(share_after=[0, 0, 0.25, 0.75])
    (axes,) = plots.balance_plot(frame, shown=2).axes
    assert [label.get_text() for label in axes.get_yticklabels()][1:] == ["country 3", "2 others together"]
    assert axes.lines[0].get_ydata().tolist() == [0, 2]  # country 3 is left out


def test_the_same_figure_is_the_same_file_in_another_process(tmp_path):
    arguments = ([10, 50], [179, 3], [-20, 49], [-170, 2], "x")
    code = (
        "import sys; from pathlib import Path; from helpers import maps, plots;"
        f"[plots.save(maps.error_map(*{arguments}), Path(file)) for file in sys.argv[1:]]"
    )
    here = [tmp_path / f"here.{ending}" for ending in ("png", "pdf", "svg")]
    there = [tmp_path / f"there.{ending}" for ending in ("png", "pdf", "svg")]
    subprocess.run([sys.executable, "-c", code, *map(str, there)], check=True)
    for one, two in zip(here, there, strict=True):
        plots.save(maps.error_map(*arguments), one)
        assert one.read_bytes() == two.read_bytes()
    with Image.open(here[0]) as picture:
        assert picture.width == 1400
        assert "Software" not in picture.info
    drawn = here[2].read_text(encoding="utf-8")
    assert "<text" in drawn  # and no outlines of letters
    assert "font-family: 'DejaVu Sans', Verdana, sans-serif" in drawn
    assert "dc:date" not in drawn
    assert "Matplotlib" not in drawn


class Torn(Artist):
    def draw(self, renderer):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_figure_that_fails_to_draw_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "figure.png"
    plots.save(maps.density_map([0], [0]), file)
    before = file.read_bytes()
    broken = maps.density_map([0], [0])
    broken.add_artist(Torn())
    with pytest.raises(OSError, match="No space left"):
        plots.save(broken, file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_name_without_a_known_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"'figure\.jpg' does not name a figure: end it in \.png or \.pdf or \.svg"):
        plots.save(maps.density_map([0], [0]), tmp_path / "figure.jpg")
    assert not list(tmp_path.iterdir())


def test_no_figure_stays_open_and_no_style_leaks():
    before = dict(plt.rcParams)
    for _ in one_of_each(plots.DOUBLE_COLUMN):
        pass
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before


def test_photo_rows_stand_below_their_headings():
    white, black = np.full((4, 6, 3), 255, dtype=np.uint8), np.zeros((6, 4, 3), dtype=np.uint8)
    rows = {"below 30: removed": ([], []), "30 or more: kept": ([white, black], ["31", "47"])}
    (axes,) = plots.photo_rows(rows, "Blur").axes
    assert [text.get_text() for text in axes.texts] == ["below 30: removed", "none", "30 or more: kept", "31", "47"]
    drawn = [artist for artist in axes.get_children() if isinstance(artist, AxesImage)]
    assert [np.asarray(image.get_array()).mean() for image in drawn] == [255, 0]
    lefts = [image.get_extent()[0] for image in drawn]
    assert lefts[0] < 1 < lefts[1] < 2


def test_pairs_of_photos_stand_apart_from_other_pairs():
    photo = np.zeros((4, 4, 3), dtype=np.uint8)
    (axes,) = plots.photo_rows({"2 bits": ([photo] * 4, list("abcd"))}, columns=4, together=2).axes
    lefts = [image.get_extent()[0] for image in axes.get_children() if isinstance(image, AxesImage)]
    assert lefts[2] - lefts[1] > lefts[1] - lefts[0]
    assert lefts[1] - lefts[0] == pytest.approx(lefts[3] - lefts[2])


def test_photo_rows_refuse_what_does_not_fit():
    photo = np.zeros((4, 4, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="'a row' has 2 images and 1 captions"):
        plots.photo_rows({"a row": ([photo] * 2, ["one"])})
    with pytest.raises(ValueError, match="3 images at most"):
        plots.photo_rows({"a row": ([photo] * 4, ["one"] * 4)}, columns=3)


def test_rows_of_augmentations_begin_with_the_photo_as_it_is():
    shades = [np.full((4, 4, 3), shade, dtype=np.uint8) for shade in range(6)]
    views = {"none": shades[:1], "crop+flip": shades[1:3], "crop+rotation+colour": shades[3:]}
    (axes,) = plots.augmentation_rows(views).axes
    drawn = [artist for artist in axes.get_children() if isinstance(artist, AxesImage)]
    assert [np.asarray(image.get_array()).mean() for image in drawn] == [0, 1, 2, 0, 3, 4, 5]
    captions = [text.get_text() for text in axes.texts]
    assert captions[:4] == ["crop+flip", "none", "epoch 1", "epoch 2"]
    assert captions[4:] == ["crop+rotation+colour", "none", "epoch 1", "epoch 2", "epoch 3"]


def test_measure_histograms_mark_the_threshold_and_say_what_is_below():
    figure = plots.measure_histograms({"dark": [0, 10, 100, 1000], "blurred": [50.0]}, [30, 0])
    dark, blurred = figure.axes
    assert dark.get_title(loc="left") == "50 % below 30"
    assert blurred.get_title(loc="left") == "no threshold"
    assert [line.get_xdata()[0] for line in dark.lines] == [30]
    assert not blurred.lines
    for axes, drawn in ((dark, 100), (blurred, 100)):
        assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(drawn)


def test_a_country_matrix_is_in_per_cent_of_each_row_by_continent_and_photos():
    codes = ["BR", "DE", "FR", "JP"]
    counts = pd.DataFrame([[3, 0, 0, 1], [0, 10, 30, 0], [0, 0, 5, 0], [0, 0, 0, 0]], codes, codes)
    axes, bar = plots.country_matrix(counts).axes
    (image,) = axes.images
    # Japan has no photos and so no row; Germany has more than France; South America comes after Europe.
    assert [label.get_text() for label in axes.get_yticklabels()] == ["DE", "FR", "BR"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["DE", "FR", "BR", "other"]
    expected = [[25, 75, 0, 0], [0, 100, 0, 0], [0, 0, 75, 25]]
    np.testing.assert_allclose(image.get_array().filled(0), expected)
    assert image.get_array().mask.tolist() == [[share == 0 for share in row] for row in expected]
    assert {text.get_text() for text in axes.texts} == {"25", "75", "100", "Europe", "South\nAmerica"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Country guessed", "True country")
    assert bar.get_xlabel() == "Photos of the true country (%)"


def test_countries_that_are_too_many_to_read_are_one_row_and_one_column():
    codes = places.countries().index[:200].tolist()
    counts = confused(codes)
    for width in WIDTHS:
        (axes, _) = plots.country_matrix(counts, width=width).axes
        rows, columns = (
            [label.get_text() for label in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())
        )
        assert rows == columns
        assert rows[-1] == "other"
        assert len(set(rows)) == len(rows)
        dots = 72 * axes.get_position().width * width / len(rows)
        assert 4.3 < dots < 5
        kept = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index[: len(rows) - 1]
        assert set(rows[:-1]) == set(kept)
        percent = axes.images[0].get_array().filled(0)
        np.testing.assert_allclose(percent.sum(axis=1), 100)
        others = counts.loc[~counts.index.isin(kept)]
        assert percent[-1, -1] == pytest.approx(
            100 * others.loc[:, others.index].to_numpy().sum() / others.to_numpy().sum()
        )


def test_photos_without_a_guess_have_a_column_of_their_own():
    counts = pd.DataFrame([[1, 0, 3], [0, 2, 0]], ["FR", "JP"], ["FR", "JP", "none"])
    (axes, _) = plots.country_matrix(counts).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["JP", "FR", "none"]
    np.testing.assert_allclose(axes.images[0].get_array().filled(0), [[100, 0, 0], [0, 25, 75]])


def test_labels_of_small_continents_do_not_cover_one_another():
    counts = confused(["DZ", "JP", "FR", "US", "FJ", "BR", "MU"])
    for width in WIDTHS:
        figure = plots.country_matrix(counts, width=width)
        names = [text for text in figure.axes[0].texts if not text.get_text().isdigit()]
        boxes = sorted((text.get_window_extent() for text in names), key=lambda box: -box.y0)
        assert len(boxes) == 7
        for above, below in itertools.pairwise(boxes):
            assert below.y1 <= above.y0 + 1


def test_confusions_are_counted_also_where_they_are_not_drawn():
    table = pd.DataFrame({"truth": ["Spain", "Italy", "Chad"], "guess": "France", "photos": [9, 4, 1], "share": 0.25})
    (axes,) = plots.confusion_bars(table, shown=2).axes
    assert [bar.get_width() for bar in axes.patches] == [9, 4]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Spain → France", "Italy → France"]
    assert [text.get_text() for text in axes.texts] == ["9 (25 %)", "4 (25 %)"]
    assert axes.get_xlabel().endswith("other pairs (1): 1 photos")
    (axes,) = plots.confusion_bars(table[:0]).axes
    assert [text.get_text() for text in axes.texts] == ["no photo is named wrong"]


def test_recalls_are_sorted_sized_by_photos_and_summed_up_where_they_are_not_drawn():
    table = pd.DataFrame({"title": ["a", "b", "c", "d"], "photos": [80, 40, 8, 0], "top_1": [0.25, 0.5, 0.75, np.nan]})
    table["top_5"] = [0.5, 1, 0.75, np.nan]
    (axes,) = plots.class_recalls(table, shown=2).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b (40)", "a (80)"]
    first, five = (drawn for drawn in axes.collections if isinstance(drawn, PathCollection))
    assert first.get_offsets()[:, 0].tolist() == [50, 25]
    assert first.get_sizes()[0] < first.get_sizes()[1]
    assert five.get_offsets()[:, 0].tolist() == [100, 50]
    assert axes.get_xlabel().endswith("others (1): 8 photos, 75 % right")
    (axes,) = plots.class_recalls(table.assign(top_5=np.nan)).axes
    assert len([drawn for drawn in axes.collections if isinstance(drawn, PathCollection)]) == 1


def test_a_breakdown_shows_each_groups_share_and_no_whisker_that_it_has_not():
    table = broken_down(scene={"urban": 40, "indoor": 30}, country={"Peru": 60, "Chad": 6, "Fiji": 3, "Mali": 1})
    figure = plots.breakdown_plot(table, shown=2)
    assert [axes.get_title("center") for axes in figure.axes] == ["within 200 km", "within 750 km"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["Scene", "urban (40)", "indoor (30)", "Country", "Peru (60)", "Chad (6)"]
    shown = table.set_index("group").loc[["urban", "indoor", "Peru", "Chad"]]
    for axes, share in zip(figure.axes, ("within_200km", "within_750km"), strict=True):
        everything, *drawn = axes.lines
        assert everything.get_xdata() == [100 * table[share].iloc[0]] * 2
        whiskers, dots = drawn[::2], drawn[1::2]
        assert [dot.get_ydata()[0] for dot in dots] == [1, 2, 4, 5]
        np.testing.assert_allclose([dot.get_xdata()[0] for dot in dots], 100 * shown[share])
        ends = 100 * shown[[f"{share}_low", f"{share}_high"]].to_numpy()
        np.testing.assert_allclose([line.get_xdata() for line in whiskers], ends)
        assert np.isnan(ends[3]).all()
        assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, False, True]
    (legend,) = figure.legends
    assert legend.get_title().get_text().endswith("\nCountry: 2 more, with 4 photos, are not shown")
    assert legend.get_texts()[-1].get_text() == "< 20 photos or < 5 authors"
    with pytest.raises(ValueError, match="no group to draw"):
        plots.breakdown_plot(table[table["factor"] == "all"])


def test_reliability_shows_every_group_on_roots_of_its_shares():
    table = reliable(["fine", "f*"])
    figure = plots.reliability_plot(table)
    shown = [axes for axes in figure.axes if axes.get_xlabel()]
    assert [axes.get_title(loc="left").split("\n")[0] for axes in shown] == ["fine", "f*"]
    for axes, model in zip(shown, ["fine", "f*"], strict=True):
        rows = table[table["model"] == model]
        marks = [line for line in axes.lines if line.get_linestyle() == "None"]
        for line, when in zip(marks, ["before", "after"], strict=True):
            np.testing.assert_allclose(line.get_ydata(), 100 * rows.loc[rows["calibration"] == when, "right"])
            np.testing.assert_allclose(line.get_xdata(), 100 * rows.loc[rows["calibration"] == when, "confidence"])
        errors = [f"{100 * error:.1f}" for error in rows.groupby("calibration", sort=False)["error"].first()]
        assert axes.get_title(loc="left").endswith(f"{' → '.join(errors)} %")


def test_coverage_shows_what_is_held_before_and_after():
    table = covered()
    lines = {line.get_label(): line for line in plots.coverage_plot(table).axes[0].lines}
    for label, when in (("before calibration", "before"), ("after", "after")):
        np.testing.assert_allclose(lines[label].get_ydata(), 100 * table.loc[table["calibration"] == when, "held"])


def test_four_baselines_look_different():
    names = [
        metrics.RANDOM_TRAINING_PHOTO,
        metrics.MOST_LIKELY_CELL,
        metrics.NEAREST_NEIGHBOUR,
        metrics.SHUFFLED_LABELS,
    ]
    figure = plots.accuracy_plot(table(["f*", *names]), baselines=names)
    lines = [line for line in figure.axes[0].lines if line.get_label() in names]
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 4


def test_a_figure_of_deletion_holds_what_is_left_of_the_score():
    summary = greyed(40)
    axes = plots.deletion_plot(summary).axes[0]
    assert [line.get_label() for line in axes.lines] == ["most important", "random", "least important"]
    for line, where in zip(axes.lines, map_checks.PLACES, strict=True):
        scores = summary[summary["places"].isin(["", where])]["score"]
        np.testing.assert_allclose(line.get_ydata(), scores)
        np.testing.assert_allclose(line.get_xdata(), [0, 10, 20, 40], atol=0.5)


def test_the_more_speaks_for_a_guess_the_brighter_its_place_whatever_the_photo():
    views = np.random.default_rng(7).integers(0, 256, (4, 1, 3), dtype=np.uint8)
    steps = [plots.overlaid(views, np.full((4, 1), share, np.float32)).mean(axis=2) for share in np.linspace(0, 1, 6)]
    assert (np.diff(steps, axis=0) > 0).all()


def test_a_figure_of_an_export_has_a_mark_for_every_photo_and_what_is_allowed():
    compared, checked = exported(5, ("fine", "coordinates"), ("onnx", "pt2"))
    (axes,) = plots.export_plot(compared, checked).axes
    marks, limits = axes.lines[::2], axes.lines[1::2]
    assert [len(line.get_xdata()) for line in marks] == [5] * 4
    np.testing.assert_allclose(marks[0].get_xdata(), [1e-9, 1e-7, 2e-7, 3e-7, 4e-7])
    assert [line.get_xdata()[0] for line in limits] == [1e-4, 1.0, 1e-4, 1.0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["onnx: fine", "onnx: coordinates (km)", "pt2: fine", "pt2: coordinates (km)"]
