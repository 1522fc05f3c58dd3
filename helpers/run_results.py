"""What was found out about a run on a dataset: the results of all stages of evaluation together, as text and tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import breakdown, calibration, data_lists, manifests, metrics, notebooks, paths, uncertainty

TABLES = {
    "accuracy": ("evaluate", "accuracy_intervals.csv"),
    "errors": ("uncertainty", "calibration_errors.csv"),
    "coverage": ("uncertainty", "coverage.csv"),
    "abstention": ("uncertainty", "abstention.csv"),
    "breakdown": ("breakdown", "breakdown.csv"),
    "confused": ("breakdown", "countries_confused.csv"),
    "leakage": ("leakage", "accuracy_without.csv"),
    "similarity": ("leakage", "accuracy_by_similarity.csv"),
    "calibration": ("calibrate", "comparison.csv"),
}
"""By name: the notebook of 05_evaluation that writes the table, and the file."""
FIGURES = {
    "accuracy": ("evaluate", "accuracy.png"),
    "map": ("evaluate", "map.png"),
    "reliability": ("uncertainty", "reliability.png"),
    "coverage": ("uncertainty", "coverage.png"),
    "abstention": ("uncertainty", "abstention.png"),
    "breakdown": ("breakdown", "breakdown.png"),
    "countries": ("breakdown", "countries.png"),
    "regions": ("breakdown", "regions.png"),
    "error map": ("breakdown", "error_map.png"),
    "confusion": ("breakdown", "confusion.png"),
    "confused": ("breakdown", "countries_confused.png"),
    "nearest training": ("leakage", "nearest_training.png"),
    "calibration": ("calibrate", "reliability.png"),
}
"""Likewise. Figures that show photos, or the place of a single one, are not among them: results are shared."""
NOTEBOOKS = ("calibrate", "evaluate", "uncertainty", "breakdown", "leakage")

_BASELINES = (
    metrics.RANDOM_TRAINING_PHOTO,
    *(metrics.MOST_LIKELY_CELL.replace("cell", kind) for kind in ("cell", "country", "region")),
    metrics.NEAREST_NEIGHBOUR,
    metrics.SHUFFLED_LABELS,
)
_COMPARED = "within_750km"  # where one figure must do: the right country
_WORDS = ("model", "factor", "group", "kept", "truth", "guess", "fusion", "scene", "calibration")
_ANSWERED = (0.1, 0.25, 0.5, 0.75, 1.0)
_DISTANCES = [f"{km:,} km" for km in metrics.THRESHOLDS_KM]
_WITHIN = "Per cent of the photos within each great-circle distance"
_INTERVALS = "with 95 % intervals bootstrapped over authors"


@dataclass(frozen=True)
class Table:
    """A table of text."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str
    names: int = 1
    """Columns, the first ones, that name the rows; figures are in the others."""

    def markdown(self) -> str:
        """The table in Markdown, with nothing in its names that Markdown or HTML would take for its own.

        Examples
        --------
        >>> print(Table(("place", "photos"), [("<b>*A*|B", "2")], "Two.").markdown())
        | place | photos |
        |---|---:|
        | \\<b\\>\\*A\\*\\|B | 2 |
        <BLANKLINE>
        Two.
        """
        lines = [" | ".join(escaped(heading) for heading in self.headings)]
        names = [(*map(escaped, row[: self.names]), *row[self.names :]) for row in self.rows]
        lines += [" | ".join(row) for row in names]
        ruled = "|---" * self.names + "|---:" * (len(self.headings) - self.names) + "|"
        first, *others = (f"| {line} |" for line in lines)
        return "\n".join([first, ruled, *others, "", escaped(self.caption)])


@dataclass(frozen=True)
class Results:
    """What was found out about a run on a dataset, as far as it is there.

    Attributes
    ----------
    run : str
        As it was given to the notebooks, maybe with ``{scene}`` or ``+`` in it.
    tables : dict of str to DataFrame
        Those of `TABLES` that are there.
    figures : dict of str to Path
        Those of `FIGURES` that are there.
    manifests : dict of str to dict
        By notebook, for those of `NOTEBOOKS` that are done.
    sources : dict of str to Path
        Files that all this is from, for a manifest.
    """

    run: str
    dataset: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Path] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, Path] = field(default_factory=dict)

    def counts(self, notebook: str) -> dict[str, Any]:
        """What a notebook counted; nothing before it is done."""
        return dict(self.manifests.get(notebook, {}).get("counts", {}))

    def command(self, notebook: str) -> str:
        """Shell command that runs a notebook of 05_evaluation for this run and dataset."""
        given = {"run": self.run} if notebook == "calibrate" else {"run": self.run, "dataset": self.dataset}
        return manifests.command(f"05_evaluation/{notebook}", given)

    @property
    def baselines(self) -> list[str]:
        """Models of the table of accuracies that know nothing of what the run has learned to name."""
        named = self.counts("evaluate").get("baselines", _BASELINES)
        return [model for model in self._models if model in named]

    @property
    def best(self) -> dict[Any, Any] | None:
        """Row of the table of accuracies with the best founded answer of the run; None before it was evaluated."""
        answers = [row for row in _rows(self, "accuracy") if row["model"] not in self.baselines]
        return answers[-1] if answers else None

    @property
    def _models(self) -> list[str]:
        return self.tables["accuracy"]["model"].tolist() if "accuracy" in self.tables else []


def read(run: str, dataset: str) -> Results:
    """Read what is there of the results of a run on a dataset.

    Parameters
    ----------
    run : str
        Name of a run, or with ``{scene}`` in it of the networks of individual scenes together; ``+`` joins networks
        that answer together.
    dataset : str

    Examples
    --------
    >>> read("nobody", "nowhere").best is None
    True
    """
    results = Results(run, dataset)
    folders: dict[str, Path] = {}
    for name in NOTEBOOKS:
        folder = notebooks.OUTPUTS[f"05_evaluation/{name}"]({"run": run, "dataset": dataset})
        try:
            results.manifests[name] = manifests.read(folder)
        except FileNotFoundError:
            continue
        folders[name] = folder
    for name, (notebook, file) in TABLES.items():
        if notebook in folders and (folders[notebook] / file).exists():
            results.tables[name] = _read(folders[notebook] / file)
            results.sources[f"{notebook} {file}"] = folders[notebook] / file
    for name, (notebook, file) in FIGURES.items():
        if notebook in folders and (folders[notebook] / file).exists():
            results.figures[name] = folders[notebook] / file
            results.sources[f"{notebook} {file}"] = folders[notebook] / file
    return results


def _read(file: Path) -> pd.DataFrame:
    """A table, in whose columns of words "NA" is a word, and in whose columns of figures nothing stands for none."""
    try:
        figures = [name for name in pd.read_csv(file, nrows=0).columns if name not in _WORDS]
    except pd.errors.EmptyDataError:  # a table without columns, which coordinates leave
        return pd.DataFrame()
    none = {name: [""] for name in figures}
    return pd.read_csv(file, dtype=dict.fromkeys(_WORDS, str), keep_default_na=False, na_values=none)


def rendered(dataset: str) -> bool:
    """Whether the photos of a dataset are rendered here, as far as its name and its list tell.

    Examples
    --------
    >>> rendered("toy-earth"), rendered("no-such-list")
    (True, False)
    """
    listed = paths.data_list(dataset).exists()
    return data_lists.is_embedded(dataset) or (listed and data_lists.has_rendered_photos(dataset))


def escaped(text: str) -> str:
    """Text on one line, with a backslash before whatever Markdown or HTML would take for its own.

    Examples
    --------
    >>> escaped("f* of <b>A|B</b>\\n![x](y)")
    'f\\\\* of \\\\<b\\\\>A\\\\|B\\\\</b\\\\> \\\\!\\\\[x\\\\](y)'
    """
    return re.sub(r"([\\`*_\[\]<>|!~&$])", r"\\\1", " ".join(str(text).split()))


def accuracy(results: Results) -> Table:
    """How far off the answers of the run are, and those of the baselines; of no rows before it was evaluated."""
    headings = ("model", "photos", *_DISTANCES, "median km", "mean km")
    rows = [
        (
            str(row["model"]),
            f"{row['photos']:,}",
            *(_figure(row, share) for share in metrics.SHARES),
            f"{row['median_km']:,.0f}",
            f"{row['mean_km']:,.0f}",
        )
        for row in _rows(results, "accuracy")
    ]
    return Table(headings, rows, f"{_WITHIN}, {_INTERVALS}.")


def by_factor(results: Results, factor: str, shown: int = 25) -> Table:
    """How far off the answers are for the groups of a factor, those with most photos; of no rows without results.

    Parameters
    ----------
    results : Results
    factor : str
        One of `breakdown.FACTORS`.
    shown : int
        Most groups to show; the others are counted below.
    """
    groups = [row for row in _rows(results, "breakdown") if row["factor"] == factor]
    rows = []
    for row in groups[:shown]:
        few = "" if row["median_km_low"] <= row["median_km_high"] else f" {breakdown.FEW}"
        shares = [_figure(row, share) for share in metrics.SHARES]
        rows.append(
            (str(row["group"]), f"{row['photos']:,}{few}", f"{row['authors']:,}", *shares, _figure(row, "median_km"))
        )
    caption = f"{_WITHIN}, {_INTERVALS}"
    if any(breakdown.FEW in row[1] for row in rows):
        least = f"{breakdown.LEAST_PHOTOS} photos or {breakdown.LEAST_AUTHORS} authors"
        caption += f"; {breakdown.FEW} none for fewer than {least}"
    rest = groups[shown:]
    if rest:
        caption += f". Not shown: {len(rest):,} more, with {sum(row['photos'] for row in rest):,} photos"
    title = breakdown.FACTORS[factor].lower() or "group"
    return Table((title, "photos", "authors", *_DISTANCES, "median km"), rows, f"{caption}.")


def coverage(results: Results) -> Table:
    """What the radii for 50 and 90 % hold, before calibration and after."""
    held = pd.DataFrame(_rows(results, "coverage"))
    rows = []
    for promise in calibration.PROMISES if len(held) else ():
        each = held[np.isclose(held["promised"], promise)].set_index("calibration")
        cells = [_held(each.loc[when].to_dict()) for when in (uncertainty.BEFORE, uncertainty.AFTER)]
        rows.append((f"{100 * promise:.0f} %", *cells))
    caption = f"Per cent of the photos within the radius, {_INTERVALS}."
    return Table(("promised", "held before calibration", "held after"), rows, caption)


def errors(results: Results) -> Table:
    """How far confidence and share of right guesses are apart, before calibration and after."""
    columns = ("right", "confidence_before", "confidence_after", "error_before", "error_after")
    rows = [
        (str(row["model"]), f"{row['photos']:,}", *(f"{100 * row[column]:.1f}" for column in columns))
        for row in _rows(results, "errors")
    ]
    headings = ("model", "photos", "right", "confidence before", "confidence after", "error before", "error after")
    caption = (
        "In per cent: share of the photos whose class is named right, mean confidence, and expected calibration error, "
        "before calibration and after."
    )
    return Table(headings, rows, caption)


def abstention(results: Results) -> Table:
    """Accuracy where only the surest guesses are given."""
    table = pd.DataFrame(_rows(results, "abstention"))
    rows = []
    for share in _ANSWERED if len(table) else ():
        nearest = table.iloc[(table["answered"] - share).abs().argmin()]
        if abs(nearest["answered"] - share) < 0.005:
            figures = [f"{100 * nearest[each]:.1f}" for each in metrics.SHARES]
            least = f"{nearest['least_confidence']:.3f}"
            rows.append((f"the surest {100 * share:.0f} %", least, *figures, f"{nearest['median_km']:,.0f}"))
    return Table(("answered", "least confidence", *_DISTANCES, "median km"), rows, f"{_WITHIN}, of those answered.")


def leakage(results: Results) -> Table:
    """Accuracy after test photos were removed that share something with training."""
    rows = [
        (
            str(row["kept"]),
            f"{row['photos']:,}",
            *(_figure(row, share) for share in metrics.SHARES),
            f"{row['median_km']:,.0f}",
        )
        for row in _rows(results, "leakage")
    ]
    return Table(("kept", "photos", *_DISTANCES, "median km"), rows, f"{_WITHIN}, {_INTERVALS}.")


def similarity(results: Results) -> Table:
    """Accuracy by how much a photo resembles the training photo that is most like it."""
    rows = [
        (
            str(row["group"]),
            f"{row['photos']:,}",
            *(f"{100 * row[share]:.1f}" for share in metrics.SHARES),
            f"{row['median_km']:,.0f}",
        )
        for row in _rows(results, "similarity")
    ]
    caption = f"{_WITHIN}, in four parts by how much they resemble the training photo that is most like them."
    return Table(("part", "photos", *_DISTANCES, "median km"), rows, caption)


def calibrations(results: Results) -> Table:
    """What was fitted on validation photos, for the ways to fuse views that were chosen; of no rows for coordinates."""
    rows = []
    for row in _rows(results, "calibration"):
        if row["chosen"] and "temperature" in row:
            fitted = [("temperature", 1, ".2f"), ("outside", 100, ".1f"), ("nats_before", 1, ".2f")]
            fitted += [("nats_after", 1, ".2f"), ("error_before", 100, ".1f"), ("error_after", 100, ".1f")]
            cells = [_number(row.get(name), times, form) for name, times, form in fitted]
            rows.append((str(row["scene"]), str(row["model"]), str(row["fusion"]), f"{row['photos']:,}", *cells))
    fitted_columns = ("temperature", "outside %", "nats before", "nats after", "error % before", "error % after")
    headings = ("photos of", "model", "views fused by", "photos", *fitted_columns)
    caption = (
        "On the validation photos of the run's own list: the temperature, the share of photos in no class, the mean "
        "surprise at the true class and the expected calibration error, before and after."
    )
    return Table(headings, rows, caption, names=3)


def confused(results: Results, shown: int = 10) -> Table:
    """Pairs of countries that are taken for one another most often."""
    rows = [
        (str(row["truth"]), str(row["guess"]), f"{row['photos']:,}", f"{100 * row['share']:.1f}")
        for row in _rows(results, "confused")[:shown]
    ]
    caption = "The pairs that are confused most often, with their share of the photos of the true country."
    return Table(("true country", "named instead", "photos", "per cent"), rows, caption, names=2)


def summary(results: Results) -> dict[str, str]:
    """Sentences in plain words on what the tables tell, by what they are about; none before the run was evaluated.

    Returns
    -------
    dict of str to str
        ``accuracy, baselines, radii, surest, continents, training``, as far as something is known.
    """
    best = results.best
    if best is None:
        return {}
    told = {
        "accuracy": _how_far(results, best),
        "baselines": _beside_baselines(results, best),
        "radii": _how_sure(results),
        "surest": _surest(results),
        "continents": _where(results),
        "training": _shared(results),
    }
    return {about: sentence for about, sentence in told.items() if sentence}


def _how_far(results: Results, best: Mapping[Any, Any]) -> str:
    everything = next((row for row in _rows(results, "breakdown") if row["factor"] == "all"), None)
    authors = f" by {everything['authors']:,} authors" if everything else ""
    within = [f"{share_in_words(best, f'within_{km}km')} within {km:,} km" for km in (25, 750, 2500)]
    return (
        f"Of {best['photos']:,} test photos of {results.dataset}{authors}, it places {', '.join(within[:-1])} and "
        f"{within[-1]} of where they were taken. Half of its guesses are more than {best['median_km']:,.0f} km off."
    )


def _beside_baselines(results: Results, best: Mapping[Any, Any]) -> str:
    beside = [row for row in _rows(results, "accuracy") if row["model"] in results.baselines]
    if not beside:
        return ""
    strongest = max(beside, key=lambda row: row[_COMPARED])
    return (
        f"The baseline that is best at 750 km, {strongest['model']}, puts {share_in_words(strongest, _COMPARED)} of "
        f"the photos there; {best['model']} of the run puts {share_in_words(best, _COMPARED)} there."
    )


def _how_sure(results: Results) -> str:
    held = [(row[0], row[2]) for row in coverage(results).rows]
    if not held:
        return ""
    reasons = results.counts("evaluate").get("not calibrated") or {}
    if reasons:
        return f"It is not calibrated, so it does not know how sure it may be: {'; '.join(map(str, reasons.values()))}."
    return (
        "Calibrated on validation photos, "
        + " and ".join(f"its radii for {promised} held {found.split()[0]} %" for promised, found in held)
        + " of the test photos."
    )


def _surest(results: Results) -> str:
    quarter = next((row for row in abstention(results).rows if row[0] == "the surest 25 %"), None)
    if quarter is None:
        return ""
    place = 2 + metrics.SHARES.index(_COMPARED)
    return f"Of the quarter of the guesses that it is surest of, {quarter[place]} % are within 750 km."


def _where(results: Results) -> str:
    """The continents that it does best and worst on, of those with an interval."""
    told = [
        row
        for row in _rows(results, "breakdown")
        if row["factor"] == "continent" and row[f"{_COMPARED}_low"] <= row[f"{_COMPARED}_high"]
    ]
    if len(told) < 2:
        return ""
    most, least = (choose(told, key=lambda row: row[_COMPARED]) for choose in (max, min))
    overlap = most[f"{_COMPARED}_low"] <= least[f"{_COMPARED}_high"]
    return (
        f"It does best on {most['group']}, with {share_in_words(most, _COMPARED)} within 750 km, and worst on "
        f"{least['group']}, with {share_in_words(least, _COMPARED)}{'; the intervals overlap' if overlap else ''}."
    )


def _shared(results: Results) -> str:
    counts = results.counts("leakage")
    if not counts:
        return ""
    return (
        f"{_of_them(counts['author in training'])} of the test photos are by authors of training photos, and "
        f"{_of_them(counts['place in training']).lower()} were taken where a training photo was, to about 1 km."
    )


def share_in_words(row: Mapping[Any, Any], share: str) -> str:
    """A share in per cent, with its interval where there is one.

    Examples
    --------
    >>> share_in_words({"within_25km": 0.2, "within_25km_low": 0.166, "within_25km_high": 0.235}, "within_25km")
    '20.0 % (16.6 to 23.5 %)'
    """
    low, high = 100 * row[f"{share}_low"], 100 * row[f"{share}_high"]
    return f"{100 * row[share]:.1f} %" + (f" ({low:.1f} to {high:.1f} %)" if low <= high else "")


def _of_them(count: int) -> str:
    return f"{count:,}" if count else "None"


def _rows(results: Results, name: str) -> list[dict[Any, Any]]:
    return results.tables[name].to_dict("records") if name in results.tables else []


def _figure(row: Mapping[Any, Any], figure: str) -> str:
    times, form = (100, ".1f") if figure in metrics.SHARES else (1, ",.0f")
    low, high = times * row[f"{figure}_low"], times * row[f"{figure}_high"]
    interval = f" [{low:{form}}, {high:{form}}]" if low <= high else ""  # none for the photos of a single author
    return f"{times * row[figure]:{form}}{interval}"


def _held(row: Mapping[Any, Any]) -> str:
    interval = f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" if row["low"] <= row["high"] else ""
    return f"{100 * row['held']:.1f}{interval}"


def _number(value: Any, times: float, form: str) -> str:
    return f"{times * value:{form}}" if isinstance(value, int | float) and value == value else "none"
