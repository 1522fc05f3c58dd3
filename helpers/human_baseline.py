"""How well people place the photos that models were evaluated on: accuracies, and differences on the very same rounds.

People are compared with models round by round. Intervals resample the authors of photos, because photos of one author
are alike; with enough players they resample these as well, each independently of the other, so that they tell how far
the figures of other players on photos of other authors would lie.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers import bootstrap, data_lists, games, metrics, notebooks, paper_rows, paths, places, run_results

PEOPLE, ALL_PLAYERS = "people", games.ALL_PLAYERS
FEWEST_PLAYERS = 5
"""Of fewer, resampling says next to nothing about others: only authors are resampled then."""
COUNTRIES = tuple(f"top_{most}" for most in games.TOP)
FIGURES = (*metrics.SHARES, "median_km", *COUNTRIES)

_NUMBERS_AT_ONCE = 1 << 20
_NAMES = ["guess_1", "guess_2", "guess_3", "guess_4", "guess_5"]
Summary = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""A figure of values in each draw, given how often each value occurs in it."""


class Baseline(NamedTuple):
    """Rounds of people, and what models say to the same photos."""

    rounds: pd.DataFrame
    """A row for each round that counts: ``number, player, photo, author, latitude, longitude, true_latitude,
    true_longitude, true_country``; of people ``distance_km`` (NaN where they named countries) and ``top_1, top_3,
    top_5`` (NaN at sea)."""
    models: dict[str, pd.DataFrame]
    """By run, ``distance_km, top_1, top_3, top_5`` for the same rounds."""
    left_out: dict[str, int]
    """Rounds that do not count, by reason."""
    files: dict[str, Path]
    """What this was read from, for a manifest."""


def gathered(dataset: str, runs: str = "", show_names: bool = False) -> Baseline:
    """Read the games on a dataset, and what runs were evaluated to on it.

    Parameters
    ----------
    dataset : str
    runs : str
        Names of runs, with commas; empty: the dataset's default run.
    show_names : bool
        Whether players keep their names. Else they are numbered in the order of their first rounds.

    Raises
    ------
    notebooks.MissingInput
        If nobody has played, no round counts, or a run was not evaluated; it says what to do.
    """
    played = games.rounds(dataset)
    if played.empty:
        raise notebooks.MissingInput(
            f"nobody has played on {dataset} yet, so there is nothing to compare. {_how_to_play(dataset)}"
        )
    photos = data_lists.read(dataset)
    named = paper_rows.names(runs or notebooks.default_run_name(dataset, "multi"))
    evaluations = {run: paper_rows.evaluated(run, dataset) for run in named}
    guesses = {run: _of_run(evaluation, dataset) for run, evaluation in evaluations.items()}
    pending, outdated = played["answered"] == "", played["list"] != photos.attrs["fingerprint"]
    placed = played["photo"].isin(set.intersection(*(set(table.index) for table in guesses.values())))
    reasons = {
        "not answered": pending,
        "on another version of the list": ~pending & outdated,
        "photo not placed by every run": ~pending & ~outdated & ~placed,
    }
    left_out = {reason: int(where.sum()) for reason, where in reasons.items()}
    counted = played[~pending & ~outdated & placed]
    if counted.empty:
        raise notebooks.MissingInput(
            f"none of the {len(played)} rounds on {dataset} counts ({data_lists.in_words(left_out)}). "
            f"{_how_to_play(dataset)}"
        )
    rounds = games.scored(counted, photos).sort_values("number", ignore_index=True)
    if not show_names:
        rounds["player"] = [f"player {number + 1}" for number in pd.factorize(rounds["player"])[0]]
    models = {run: _judged(rounds, table) for run, table in guesses.items()}
    files = {"data list": paths.data_list(dataset)}
    for run, evaluation in evaluations.items():
        files |= evaluation.files | {f"countries of {run}": paths.results(run, dataset) / "countries.parquet"}
    return Baseline(rounds[_KEPT], models, left_out, files)


_KEPT = [
    *("number", "player", "photo", "author", "run", "answered", "latitude", "longitude", "countries"),
    *("true_latitude", "true_longitude", "true_country", "distance_km", *COUNTRIES),
]


def accuracy(baseline: Baseline, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """How well people and models do on the same rounds, of all players and of each, with 95 % percentile intervals.

    Parameters
    ----------
    baseline : Baseline
    resamples : int
        Draws of as many authors as there are, with replacement; where there are :data:`FEWEST_PLAYERS` players or more
        each with a draw of as many players. Who is drawn twice counts twice.
    seed : int

    Returns
    -------
    DataFrame
        ``rounds_of`` (`ALL_PLAYERS` or a player), ``who`` (`PEOPLE` or a run), ``figure`` (one of `FIGURES`),
        ``rounds, value, low, high``. Distances are of rounds that were answered with a place, countries of all on land.
        An interval is NaN where all photos are by one author. A figure without a round has no row.

    Notes
    -----
    Two-way resampling is the pigeonhole bootstrap (Owen, *The pigeonhole bootstrap*, Annals of Applied Statistics 1,
    2007): a round weighs as often as its player was drawn, times as often as its author was. Its intervals are on the
    wide side.
    """
    rows = []
    for whose, rounds, models in _groups(baseline):
        for figure, counted, columns, summary in _figures(rounds, models):
            draws = _drawn(rounds[counted], columns, summary, resamples, seed)
            for number, (who, values) in enumerate(columns.items()):
                low, high = _interval(draws[number])
                value = float(summary(np.ones((1, len(values))), values)[0])
                rows.append((whose, who, figure, len(values), value, low, high))
    return pd.DataFrame(rows, columns=["rounds_of", "who", "figure", "rounds", "value", "low", "high"])


def differences(baseline: Baseline, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """How much people differ from each model on the same rounds, with 95 % percentile intervals.

    Parameters
    ----------
    baseline, resamples, seed
        As in :func:`accuracy`; both are judged on the same draws.

    Returns
    -------
    DataFrame
        ``rounds_of, model, figure, rounds, difference, low, high, excludes_0``; ``difference`` is the figure of people
        minus that of the model.
    """
    rows = []
    for whose, rounds, models in _groups(baseline):
        for figure, counted, columns, summary in _figures(rounds, models):
            draws = _drawn(rounds[counted], columns, summary, resamples, seed)
            once = np.ones((1, int(counted.sum())))
            values = [float(summary(once, values)[0]) for values in columns.values()]
            for number, model in enumerate(list(columns)[1:], start=1):
                low, high = _interval(draws[0] - draws[number])
                rows.append((whose, model, figure, once.size, values[0] - values[number], low, high))
    table = pd.DataFrame(rows, columns=["rounds_of", "model", "figure", "rounds", "difference", "low", "high"])
    return table.assign(excludes_0=(table["low"] > 0) | (table["high"] < 0))


def nearer(baseline: Baseline, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """How often people were nearer to the truth than each model, with 95 % percentile intervals.

    Parameters
    ----------
    baseline, resamples, seed
        As in :func:`accuracy`.

    Returns
    -------
    DataFrame
        ``rounds_of, model, rounds, nearer, low, high``: shares of the rounds that were answered with a place. One in
        which both are as near counts half, so that 0.5 stands for equals.
    """
    rows = []
    for whose, rounds, models in _groups(baseline):
        counted = rounds["distance_km"].notna()
        for model, table in models.items() if counted.any() else ():
            gain = (table["distance_km"][counted] - rounds["distance_km"][counted]).to_numpy()
            share = (np.sign(gain) + 1) / 2
            low, high = _interval(_drawn(rounds[counted], {model: share}, _mean, resamples, seed)[0])
            rows.append((whose, model, len(share), float(share.mean()), low, high))
    return pd.DataFrame(rows, columns=["rounds_of", "model", "rounds", "nearer", "low", "high"])


def how_resampled(players: int) -> str:
    """What intervals resample, in words.

    Examples
    --------
    >>> how_resampled(2), how_resampled(5)
    ('authors of photos', 'players and authors of photos together')
    """
    return "players and authors of photos together" if players >= FEWEST_PLAYERS else "authors of photos"


def markdown(table: pd.DataFrame, players: int) -> str:
    """Table in Markdown of :func:`accuracy`: per cent with 95 % intervals, and the median distance."""
    caption = (
        "Per cent of the rounds, with 95 % intervals; models on the very same rounds. Distances are of rounds answered "
        "with a place, countries of all on land; there, a place stands for its own country. Intervals of all players "
        f"resample {how_resampled(players)}, those of one player authors of photos."
    )
    return _markdown(table.rename(columns={"who": "of"}), "who", {}, caption)


def differences_markdown(differences: pd.DataFrame, nearer: pd.DataFrame) -> str:
    """Table in Markdown of :func:`differences` and :func:`nearer`; bold where the interval excludes 0."""
    shares = {
        (row["rounds_of"], row["model"]): _written(row["nearer"], row["low"], row["high"], "share")
        for row in nearer.to_dict("records")
    }
    caption = (
        "People minus the model on the same rounds: percentage points, and km for the median, with 95 % intervals; "
        "bold where they exclude 0. 'Nearer': per cent of the rounds in which people were; equally near counts half."
    )
    named = differences.rename(columns={"model": "of", "difference": "value"})
    return _markdown(named, "compared with", {"nearer": shares}, caption)


def _markdown(table: pd.DataFrame, of: str, first: Mapping[str, Mapping[tuple[Any, Any], str]], caption: str) -> str:
    """Figures in columns, after those that are written already; a row for whose rounds they are of, and of whom."""
    signed = "excludes_0" in table
    distances = (*(f"{km:,} km" for km in metrics.THRESHOLDS_KM), "median km")
    countries = tuple(f"country top {most}" for most in games.TOP)
    headings = ("rounds of", of, *first, "places", *distances, "on land", *countries)
    rows = []
    for (whose, who), part in table.groupby(["rounds_of", "of"], sort=False):
        written, counts = dict.fromkeys(FIGURES, ""), dict.fromkeys(FIGURES, 0)
        for row in part.to_dict("records"):
            text = _written(row["value"], row["low"], row["high"], row["figure"], "+" if signed else "")
            value, space, interval = text.partition(" ")
            written[row["figure"]] = f"**{value}**{space}{interval}" if row.get("excludes_0") else text
            counts[row["figure"]] = row["rounds"]
        cells = [f"{counts['median_km']:,}", *(written[name] for name in FIGURES[: len(distances)])]
        cells += [f"{counts[COUNTRIES[0]]:,}", *(written[name] for name in COUNTRIES)]
        rows.append((str(whose), str(who), *(column.get((whose, who), "") for column in first.values()), *cells))
    return run_results.Table(headings, rows, caption, names=2).markdown() + "\n"


def _how_to_play(dataset: str) -> str:
    return f"Open the page with `make app` and play some photos of {dataset} against the model, then run this again"


def _of_run(evaluation: paper_rows.Evaluated, dataset: str) -> pd.DataFrame:
    """By photo: how far off a run is, and the countries that it names."""
    table = evaluation.predictions.set_index("id")
    own = places.country_codes(table["predicted_latitude"], table["predicted_longitude"])
    found = pd.DataFrame({"distance_km": table["distance_km"], "guess_1": own}, index=table.index)
    file = paths.results(evaluation.run, dataset) / "countries.parquet"
    named = pd.read_parquet(file).set_index("id") if file.exists() else pd.DataFrame()
    if "guess_2" in named and (named["guess_2"] != "").any():  # coordinates name the country that they lie in
        found[_NAMES] = named[_NAMES].reindex(found.index).fillna("")
    return found


def _judged(rounds: pd.DataFrame, guesses: pd.DataFrame) -> pd.DataFrame:
    """What a run is to rounds that people played."""
    of_rounds = guesses.loc[rounds["photo"]].reset_index(drop=True)
    judged = of_rounds[["distance_km"]].copy()
    at_sea = (rounds["true_country"] == "").to_numpy()
    for most, name in zip(games.TOP, COUNTRIES, strict=True):
        named = of_rounds[[column for column in _NAMES[:most] if column in of_rounds]].to_numpy(dtype=object)
        right = (named == rounds[["true_country"]].to_numpy(dtype=object)).any(axis=1)
        unknown = at_sea | (most > 1 and "guess_2" not in of_rounds)
        judged[name] = np.where(unknown, np.nan, right.astype(np.float64))
    return judged


def _groups(baseline: Baseline) -> Iterator[tuple[str, pd.DataFrame, dict[str, pd.DataFrame]]]:
    """All rounds, and those of each player where there are several."""
    yield ALL_PLAYERS, baseline.rounds, baseline.models
    players = baseline.rounds["player"]
    for player in players.unique() if players.nunique() > 1 else ():
        own = players == player
        yield str(player), baseline.rounds[own], {run: table[own] for run, table in baseline.models.items()}


def _figures(
    rounds: pd.DataFrame, models: Mapping[str, pd.DataFrame]
) -> Iterator[tuple[str, pd.Series, dict[str, NDArray[np.float64]], Summary]]:
    """Each figure: the rounds that it is of, what it is of them by who, and how they make one."""
    with_place = rounds["distance_km"].notna()
    answering = {PEOPLE: rounds, **models}
    for threshold, share in zip(metrics.THRESHOLDS_KM, metrics.SHARES, strict=True):
        if with_place.any():
            within = {
                who: (each["distance_km"][with_place] <= threshold).to_numpy().astype(np.float64)
                for who, each in answering.items()
            }
            yield share, with_place, within, _mean
    if with_place.any():
        far = {who: each["distance_km"][with_place].to_numpy(np.float64) for who, each in answering.items()}
        yield "median_km", with_place, far, _median
    on_land = rounds[COUNTRIES[0]].notna()
    for name in COUNTRIES:
        if on_land.any():
            right = {who: each[name][on_land].to_numpy(np.float64) for who, each in answering.items()}
            yield name, on_land, {who: hits for who, hits in right.items() if not np.isnan(hits).any()}, _mean


def _mean(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # a draw without a round has no mean
        return np.einsum("dr,r->d", weights, values) / weights.sum(axis=1)


def _median(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weights[:, order], axis=1)
    rounds = upto[:, -1]
    # Both middle rounds of the draw, as the median of an even number is their mean.
    middle = [(upto <= rank[:, None]).sum(axis=1).clip(max=len(values) - 1) for rank in
              ((rounds - 1) // 2, rounds // 2)]  # fmt: skip
    return np.where(rounds > 0, values[order][middle].mean(axis=0), np.nan)


def _drawn(
    rounds: pd.DataFrame,
    columns: Mapping[str, NDArray[np.float64]],
    summary: Summary,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """A figure of each who in each draw, of shape (who, resamples); NaN where all photos are by one author."""
    if resamples < 1:
        raise ValueError(f"{resamples} resamples: give at least 1 (1000 is usual)")
    # A photo whose author is unknown is an author of its own, in all rounds on it.
    known = rounds["author"].fillna("").astype(str).str.strip()
    author = pd.factorize(known.where(known != "", "\0" + rounds["photo"]), sort=True)[0]
    player = pd.factorize(rounds["player"], sort=True)[0]
    authors, players = int(author.max()) + 1, int(player.max()) + 1
    if authors == 1:
        return np.full((len(columns), resamples), np.nan)
    most = max(_NUMBERS_AT_ONCE // len(rounds), 1)
    of_authors = bootstrap.author_draws(authors, resamples, seed, most)
    blocks = []
    if players >= FEWEST_PLAYERS:
        # The same blocks from another stream: who is drawn says nothing of which authors are.
        rng = np.random.default_rng([seed, 1])
        for times in of_authors:
            picked = rng.multinomial(players, np.full(players, 1 / players), size=len(times))
            blocks.append(times[:, author] * picked[:, player])
    else:
        blocks = [times[:, author] for times in of_authors]
    return np.stack([np.concatenate([summary(weights, values) for weights in blocks]) for values in columns.values()])


def _interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """95 % percentile interval; a draw without a round does not count."""
    sound = drawn[np.isfinite(drawn)]
    if not len(sound):
        return np.nan, np.nan
    low, high = np.quantile(sound, [0.025, 0.975])
    return float(low), float(high)


def _written(value: float, low: float, high: float, figure: str, sign: str = "") -> str:
    """A figure with its interval, where it has one.

    Examples
    --------
    >>> _written(0.25, 0.1, 0.4, "top_1"), _written(-1234.5, float("nan"), float("nan"), "median_km", "+")
    ('25.0 [10.0, 40.0]', '-1,234')
    """
    times, form = (1, f"{sign},.0f") if figure == "median_km" else (100, f"{sign}.1f")
    interval = f" [{times * low:{form}}, {times * high:{form}}]" if low <= high else ""
    return f"{times * value:{form}}{interval}"
