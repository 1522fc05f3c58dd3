"""Compare models on the same photos: runs that were evaluated on a dataset, and published predictions."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from helpers import bootstrap, metrics, notebooks, paper_rows, published

LEVEL = 0.05
"""P-value below which a difference is called significant."""

_PLACE = ["latitude", "longitude"]
_LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "_%&#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "`": r"\textasciigrave{}",
        **{sign: f"{{{sign}}}" for sign in "[*"},  # after the end of a row they would be options of it
    }
)


class Compared(NamedTuple):
    """What models predicted for the same photos."""

    distance_km: pd.DataFrame
    """How far off the guesses are: a row for each photo by its id, a column for each model, NaN where it has none."""
    author: pd.Series
    """Author of each photo, empty where it is not known."""
    models: pd.DataFrame
    """Columns ``model, kind, source, answer, photos``: what is behind each model, a ``run`` or ``published``
    predictions; the name of the run or the file; which answer of a run; and the number of its photos."""
    counts: dict[str, Any]
    """Photos, and what was left out."""
    files: dict[str, Path]
    """What this was read from."""


def gathered(runs: str, predictions: str, dataset: str) -> Compared:
    """Best founded answer of each run on a dataset, and published predictions for the same photos.

    Parameters
    ----------
    runs : str
        Names as in `paper_rows.names`, or empty.
    predictions : str
        A file or a folder as in `published.files`, or empty.
    dataset : str
        Whose test photos the runs were evaluated on.

    Raises
    ------
    notebooks.ParameterError
        If there is neither a run nor a prediction.
    notebooks.MissingInput
        Naming the command, if a run was not evaluated on the dataset, or something has changed since.
    ValueError
        As in :func:`joined`, and if a file cannot be read.
    """
    if not runs.strip() and not predictions.strip():
        raise notebooks.ParameterError(
            "runs and published are both empty: give names of 04_training/runs, a file or folder of published "
            "predictions, or both"
        )
    evaluations = [paper_rows.evaluated(run, dataset) for run in paper_rows.names(runs)] if runs.strip() else []
    return joined(evaluations, published.read_all(predictions) if predictions.strip() else {}, dataset)


def joined(
    evaluations: Sequence[paper_rows.Evaluated], models: Mapping[str, published.Predictions], dataset: str = ""
) -> Compared:
    """Put runs and published predictions side by side, the runs first.

    Parameters
    ----------
    evaluations : sequence of paper_rows.Evaluated
        Of one dataset. Where there are any, their photos count, and other photos of `models` are left out.
    models : mapping of str to published.Predictions
        By name. Photos match by their ids as in `published.matched`.
    dataset : str
        For messages.

    Raises
    ------
    ValueError
        If runs were evaluated on different photos, a model has none of their photos, or predictions have a photo more
        than 0.1 km from where the runs have it.
    """
    if not evaluations:
        author = published.authors(models, published.read_truth("").rows)
        return _compared({}, published.distances(models), author, [], models, {})
    rows = paper_rows.rows(evaluations)
    best = rows.sources[rows.sources["kind"] == "best"]
    photos = evaluations[0].predictions
    ids = photos["id"].to_numpy()
    runs = pd.DataFrame({name: rows.distance_km[name].to_numpy() for name in best["model"]}, index=ids)
    author = photos["author"].fillna("").astype(str).str.strip().set_axis(ids)
    sources = best.assign(kind="run", source=best["run"], answer=best["read_out"]).to_dict("records")
    files = {name: file for evaluation in evaluations for name, file in evaluation.files.items()}
    if not models:
        return _compared({}, runs, author, sources, {}, files)

    models = {f"{name} (published)" if name in runs else name: each for name, each in models.items()}
    given = pd.concat([each.rows for each in models.values()]).drop_duplicates("id", ignore_index=True)
    known = published.matched(given["id"], photos["id"]).set_axis(given["id"])
    for each in models.values():
        _refuse_other_photos(each, known, photos, dataset)
    theirs = published.distances(models)
    theirs = theirs.set_axis(known[theirs.index])
    stated = published.authors(models, published.read_truth("").rows).set_axis(known[given["id"].sort_values()])
    author = author.mask(author == "", stated[stated.index.notna()].reindex(ids).fillna(""))
    left_out = {
        "published photos left out, as the runs were not evaluated on them": int(known.isna().sum()),
        "photos of the runs without a published prediction": len(ids) - int(known.notna().sum()),
    }
    for what, number in left_out.items():
        if number:
            print(f"{what}: {number:,}", flush=True)
    return _compared(left_out, runs.join(theirs[theirs.index.notna()]), author, sources, models, files)


def reference(compared: Compared, named: str = "") -> str:
    """Name of the model that others are compared with: the first, or the one of that name, run or file.

    Raises
    ------
    notebooks.ParameterError
        If there is none of that name.
    """
    if not named.strip():
        return str(compared.models["model"].iloc[0])
    for column in ("model", "source"):
        found = compared.models.loc[compared.models[column] == named.strip(), "model"]
        if len(found):
            return str(found.iloc[0])
    raise notebooks.ParameterError(
        f"reference is {named!r}, and no model has that name: there are {', '.join(compared.models['model'])}"
    )


def intervals(compared: Compared, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """Give `bootstrap.interval_table` of every model, each on all photos that it has."""
    parts = []
    for model, distance in compared.distance_km.items():
        known = distance.notna()
        parts.append(
            bootstrap.interval_table({str(model): distance[known]}, compared.author[known], resamples, seed=seed)
        )
    return pd.concat(parts, ignore_index=True)


def differences(compared: Compared, other: str, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """Test what models differ by from one of them, on the photos that both have.

    Parameters
    ----------
    compared : Compared
    other : str
        Name of the model that every other one is compared with.
    resamples, seed : int
        As in `bootstrap.author_bootstrap`. Where they are too few for any difference to be significant, a line says so.

    Returns
    -------
    DataFrame
        The columns of `bootstrap.paired_differences`; ``p_holm``, its p-values by Holm's correction, for each figure by
        itself over the models that are compared; and ``significant``, whether that is below `LEVEL`.

    Examples
    --------
    >>> distance_km = pd.DataFrame({"near": [5.0] * 20, "far": [30.0] * 20})
    >>> table = differences(Compared(distance_km, pd.Series([""] * 20), pd.DataFrame(), {}, {}), "far", 99, seed=7)
    >>> table.loc[table["figure"] == "within_25km", ["difference", "p_value", "p_holm", "significant"]].values.tolist()
    [[1.0, 0.02, 0.02, True]]
    """
    distances = {str(model): distance for model, distance in compared.distance_km.items()}
    table = bootstrap.paired_differences(distances, compared.author, resamples, seed=seed, reference=other)
    table["p_holm"] = table.groupby("figure")["p_value"].transform(bootstrap.holm)
    table["significant"] = table["p_holm"] < LEVEL
    comparisons = compared.distance_km.shape[1] - 1
    least = 2 * comparisons / (resamples + 1)
    if comparisons and least >= LEVEL:
        print(
            f"with {resamples:,} resamples no p-value is below {2 / (resamples + 1):.2g}, and none of {comparisons} "
            f"comparisons below {least:.2g}: nothing can be significant. Give {2 * comparisons / LEVEL:,.0f} or more",
            flush=True,
        )
    return table


def markdown(intervals: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Table in Markdown: `bootstrap.markdown` with the best of each column bold and what is significant marked.

    Parameters
    ----------
    intervals : DataFrame
        From :func:`intervals`.
    differences : DataFrame
        From :func:`differences`.
    """
    best, significant = _best(intervals), _significant(differences)
    bold = {cell: "**{}**" if cell in best else "{}" for cell in best | significant}
    looks = {cell: f"{look}†" if cell in significant else look for cell, look in bold.items()}
    legend = _legend(differences)
    return bootstrap.markdown(intervals, looks) + (f"\n{legend}\n" if legend else "")


def latex(intervals: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Table for LaTeX, with booktabs: a line of figures for each model, and a line of their 95 % intervals below it.

    Parameters
    ----------
    intervals : DataFrame
        From :func:`intervals`.
    differences : DataFrame
        From :func:`differences`.

    Returns
    -------
    str
        A ``tabular``, without the ``table`` around it; comments before it hold a caption.
    """
    best, significant = _best(intervals), _significant(differences)
    headings = ["Model", "Photos", *(rf"{km:,}\,km" for km in metrics.THRESHOLDS_KM), "Median km", "Mean km"]
    lines = []
    for row in intervals.to_dict("records"):
        cells, below = [], []
        for figure in metrics.FIGURES:
            text = _written(figure, row[figure])
            text = rf"\textbf{{{text}}}" if (row["model"], figure) in best else text
            cells.append(text + r"\rlap{$^{\dagger}$}" * ((row["model"], figure) in significant))
            low, high = row[f"{figure}_low"], row[f"{figure}_high"]
            known = figure in metrics.SHARES and low <= high  # not of the photos of a single author
            below.append(rf"{{\scriptsize [{_written(figure, low)}, {_written(figure, high)}]}}" if known else "")
        lines.append(" & ".join([escaped(row["model"]), f"{row['photos']:,}", *cells]) + r" \\")
        if any(below):
            lines.append(" & ".join(["", "", *below]).rstrip(" &") + r" \\")
        lines.append(r"\addlinespace")
    caption = "Per cent of the photos within each great-circle distance, with 95 % intervals bootstrapped over authors."
    caption = escaped(f"{caption} {_legend(differences)}").replace("†", r"$^{\dagger}$")
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs}. A caption:",
            f"% {caption}",
            rf"\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            r"\toprule",
            " & ".join(headings) + r" \\",
            r"\midrule",
            *lines[:-1],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def escaped(text: str) -> str:
    r"""Text for LaTeX, whose signs print as themselves.

    Examples
    --------
    >>> print(escaped("base_L-m, 5 % of {f*}"))
    base\_L-m, 5 \% of \{f{*}\}
    """
    return re.sub("-(?=-)", "-{}", " ".join(text.split()).translate(_LATEX))


def _compared(
    left_out: Mapping[str, int],
    distance_km: pd.DataFrame,
    author: pd.Series,
    runs: Sequence[Mapping[Any, Any]],
    models: Mapping[str, published.Predictions],
    files: Mapping[str, Path],
) -> Compared:
    distance_km = distance_km.sort_index()
    of_published = [
        {"model": name, "kind": "published", "source": each.file.name, "answer": ""} for name, each in models.items()
    ]
    table = pd.DataFrame([*runs, *of_published])[["model", "kind", "source", "answer"]]
    table["photos"] = distance_km[table["model"]].notna().sum().to_numpy()
    counts = {
        "models": len(table),
        "photos": len(distance_km),
        "photos that every model has": len(distance_km.dropna()),
        "photos of unknown author": int((author == "").sum()),
        **left_out,
    }
    given = {f"published {name}": each.file for name, each in models.items()}
    return Compared(distance_km[table["model"]], author[distance_km.index], table, counts, {**files, **given})


def _refuse_other_photos(
    predictions: published.Predictions, known: pd.Series, photos: pd.DataFrame, dataset: str
) -> None:
    rows = predictions.rows.assign(known=known[predictions.rows["id"]].to_numpy()).dropna(subset="known")
    if rows.empty:
        raise ValueError(
            f"{predictions.file} has none of the test photos of {dataset!r}, such as {photos['id'].iloc[0]!r}: it has "
            f"{predictions.rows['id'].iloc[0]!r}; give predictions for the photos that the runs were evaluated on"
        )
    truth = photos.set_index("id").loc[rows["known"], _PLACE].to_numpy(dtype=np.float64)
    stated = rows[_PLACE].to_numpy(dtype=np.float64)
    apart = metrics.great_circle_km(*stated.T, *truth.T) > published.SAME_PLACE_KM
    if apart.any():
        first = int(np.argmax(apart))
        raise ValueError(
            f"{predictions.file} has photo {rows['id'].iloc[first]!r} at {_place(stated[first])}, and the list of "
            f"{dataset!r} at {_place(truth[first])}, as with {apart.sum()} of {len(rows)} photos: compare models on "
            "the same truth"
        )


def _place(place: Sequence[float]) -> str:
    return ", ".join(f"{degrees:g}" for degrees in place)


def _written(figure: str, value: float) -> str:
    return f"{100 * value:.1f}" if figure in metrics.SHARES else f"{value:,.0f}"


def _best(intervals: pd.DataFrame) -> set[tuple[str, str]]:
    """Models and figures that are the best of their column as printed; none where all are equal."""
    best = set()
    for figure in metrics.FIGURES:
        sign = 100 if figure in metrics.SHARES else -1
        printed = (sign * intervals[figure]).round(1 if sign > 0 else 0)
        if printed.nunique() > 1:
            best |= {(str(model), figure) for model in intervals.loc[printed == printed.max(), "model"]}
    return best


def _significant(differences: pd.DataFrame) -> set[tuple[str, str]]:
    """Models and figures that differ significantly from the reference."""
    found = differences[differences["significant"].astype(bool)]
    return set(zip(found["model"], found["figure"], strict=True))


def _legend(differences: pd.DataFrame) -> str:
    if differences.empty:
        return ""
    return (
        f"Bold: the best of each column. †: differs from {differences['other'].iloc[0]} on the photos that both have, "
        f"significant at {100 * LEVEL:.0f} % by a paired bootstrap over authors with Holm's correction for each column."
    )
