"""Whether maps of what speaks for an answer point to what counts for it: nothing but a check says so."""

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from helpers import bootstrap, explaining
from helpers.explaining import Explained, Explainer

GREYED = (0.1, 0.2, 0.4)
"""Shares of a photo that :func:`deletion` greys out."""
PLACES = ("most", "random", "least")
"""Where it does: where most and where least speaks for the answer, and where the map of the first lies by chance."""

_CALLED = {"most": "most important", "random": "random", "least": "least important"}


def with_random_heads(explainers: Mapping[str, Explainer], seed: int) -> dict[str, Explainer]:
    """The same networks with heads that have learned nothing: maps that stay as they are do not show what was learned.

    Parameters
    ----------
    explainers : mapping of str to Explainer
    seed : int
        Of the new weights, which are spread as the learned ones are.

    Notes
    -----
    The test of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, for the last layer.
    """
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for scene, each in explainers.items():
        networks = tuple(dataclasses.replace(one, model=copy.deepcopy(one.model)) for one in each.run.networks)
        for weights in [weights for network in networks for weights in network.model.heads.parameters()]:
            weights.data = (torch.randn(weights.shape, generator=generator) * weights.data.std().cpu()).to(weights)
        found[scene] = dataclasses.replace(each, run=dataclasses.replace(each.run, networks=networks))
    return found


def deletion(
    explainers: Mapping[str, Explainer],
    rows: pd.DataFrame,
    explained: Explained,
    answers: pd.DataFrame,
    batch_size: int,
    *,
    seed: int,
) -> pd.DataFrame:
    """How probable the class still is when parts of a photo are greyed out: a map that is right points to what counts.

    Parameters
    ----------
    explainers, rows, answers, batch_size
        As for `explaining.explain`.
    explained : Explained
        Of these photos.
    seed : int
        Where the map lies by chance; the same for a photo whatever the order of the rows.

    Returns
    -------
    DataFrame
        ``id, author, greyed, places, score``: a row for each photo as it is, whose ``greyed`` is 0, and for each of
        :data:`GREYED` and :data:`PLACES`. The score is that of `Explainer.scores`.

    Notes
    -----
    The deletion of Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018.
    Greyed parts have the grey that the network has learned to take for the mean. In the random places the map of the
    photo lies elsewhere, shifted round its borders, so that the greyed parts have the same shapes.
    """
    drawn = np.random.default_rng(seed).random((len(rows), 2))
    shift = pd.DataFrame(drawn, index=np.sort(rows["id"].to_numpy()))
    place = {name: number for number, name in enumerate(rows["id"])}
    tables = []
    for each, part, answer in explaining.routed(explainers, rows, answers):
        named = each.named(answer)
        for start in range(0, len(part), batch_size):
            some = part.iloc[start : start + batch_size]
            views = torch.from_numpy(np.stack([explained.views[place[name]] for name in some["id"]])).movedim(-1, 1)
            maps = torch.from_numpy(np.stack([explained.evidence[place[name]] for name in some["id"]]))
            of_some, moved = named[start : start + batch_size], shift.loc[some["id"]].to_numpy()
            grey = each.run.networks[0].model.mean.round().to(torch.uint8).cpu()
            seen = {(0.0, ""): views}
            for share, where in itertools.product(GREYED, PLACES):
                seen[share, where] = views.clone()  # with the segmentation map as it was, where there is one
                seen[share, where][:, :3] = torch.where(_mask(maps, share, where, moved), grey, views[:, :3])
            for (share, where), greyed in seen.items():
                scores = each.scores(greyed, of_some).cpu().double().numpy()
                tables.append(some[["id", "author"]].assign(greyed=share, places=where, score=scores))
    return pd.concat(tables, ignore_index=True)


def _mask(maps: Tensor, share: float, places: str, shift: NDArray[np.float64]) -> Tensor:
    """Pixels of a share of each photo, of shape (n, 1, height, width)."""
    if places == "random":
        offsets = (shift * maps.shape[1:]).astype(int).tolist()
        maps = torch.stack([found.roll(offset, (0, 1)) for found, offset in zip(maps, offsets, strict=True)])
    order = (-maps if places == "least" else maps).flatten(1).argsort(dim=1, descending=True, stable=True)
    chosen = order[:, : round(share * order.shape[1])]
    mask = torch.zeros(order.shape, dtype=torch.bool).scatter_(1, chosen, True)
    return mask.unflatten(1, tuple(maps.shape[1:]))[:, None]


def deletion_summary(table: pd.DataFrame, resamples: int = 1000, *, seed: int) -> pd.DataFrame:
    """Mean score by what was greyed out, with 95 % intervals by resampling authors.

    Parameters
    ----------
    table : DataFrame
        From :func:`deletion`.
    resamples, seed : int
        As in `bootstrap.author_bootstrap`.

    Returns
    -------
    DataFrame
        ``greyed, places, photos, score, low, high``; and how much more of the score is left than with the most
        important places greyed out, ``more, more_low, more_high``, on the same photos: above 0 where maps are right.
    """
    rows: list[dict[str, object]] = []
    most = table[table["places"] == "most"].set_index("id")
    for (share, places), part in table.groupby(["greyed", "places"], sort=False):
        score, author = part["score"].to_numpy(np.float64), part["author"].to_numpy(object)
        low, high = bootstrap.share_intervals(score, author, resamples, seed=seed)
        row = {"greyed": share, "places": places, "photos": len(part), "score": score.mean(), "low": low, "high": high}
        if places not in ("", "most"):
            more = score - most.loc[most["greyed"] == share, "score"].loc[part["id"]].to_numpy(np.float64)
            low, high = bootstrap.share_intervals(more, author, resamples, seed=seed)
            row |= {"more": more.mean(), "more_low": low, "more_high": high}
        rows.append(row)
    return pd.DataFrame(rows, columns=[*rows[0], "more", "more_low", "more_high"])


def markdown(summary: pd.DataFrame) -> str:
    """The table of :func:`deletion_summary` in Markdown."""
    lines = [
        "| greyed out | places | photos | score left | more than without the most important |",
        "|---:|---|---:|---:|---:|",
    ]
    for row in summary.to_dict("records"):
        places = f"{_CALLED[row['places']]}" if row["places"] else "none"
        score = _with_interval(row, "score", "low", "high", ".3f")
        more = _with_interval(row, "more", "more_low", "more_high", "+.3f") if row["more"] == row["more"] else ""
        lines.append(f"| {100 * row['greyed']:.0f} % | {places} | {row['photos']:,} | {score} | {more} |")
    return "\n".join([*lines, "", "Means with 95 % intervals, bootstrapped over authors.", ""])


def _with_interval(row: Mapping[Any, Any], figure: str, low: str, high: str, form: str) -> str:
    interval = f" [{row[low]:{form}}, {row[high]:{form}}]" if row[low] <= row[high] else ""
    return f"{row[figure]:{form}}{interval}"


def in_words(summary: pd.DataFrame, share: float = 0.2) -> str:
    """Whether the most important places count for more than others, with such a share of each photo greyed out.

    Parameters
    ----------
    summary : DataFrame
        From :func:`deletion_summary`.
    share : float
        One of :data:`GREYED`.
    """
    whole = summary[summary["greyed"] == 0].iloc[0]
    rows = summary[summary["greyed"] == share].set_index("places")
    left = ", ".join(f"{rows['score'][places]:.3f} without the {_CALLED[places]}" for places in PLACES)
    lines = [f"mean score of {whole['photos']:,} photos: {whole['score']:.3f}; {left} {100 * share:.0f} %"]
    for places in PLACES[1:]:
        more, low, high = (float(rows[name][places]) for name in ("more", "more_low", "more_high"))
        verdict = "hold" if low > 0 else "are wrong" if high < 0 else "are not proved"
        lines.append(f"beside {_CALLED[places]} places the maps {verdict}: {more:+.3f} [{low:+.3f}, {high:+.3f}]")
    return "\n".join(lines)


def agreement(one: Explained, other: Explained) -> NDArray[np.float64]:
    """Rank correlation between two maps of each photo, of shape (n,); NaN where a map is the same everywhere."""
    pairs = zip(one.evidence, other.evidence, strict=True)
    return np.array(
        [
            stats.spearmanr(first.ravel(), second.ravel()).statistic if np.ptp(first) and np.ptp(second) else np.nan
            for first, second in pairs
        ]
    )
