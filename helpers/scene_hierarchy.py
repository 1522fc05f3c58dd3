"""The hierarchy of scenes that the Places365 project publishes: 365 categories, 16 groups (S16), 3 scenes (S3).

``python -m helpers.scene_hierarchy TRUTH.csv`` says how far published labels of photos follow it.
"""

import argparse
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers.scenes import SCENES

S16 = (
    *("shopping and dining", "workplace", "home or hotel", "vehicle interior or station"),
    *("indoor sports and leisure", "indoor culture"),
    *("water, ice, snow", "mountains, hills, desert, sky", "forest, field, jungle", "man-made elements in nature"),
    *("roads, bridges, boats, airports", "cultural or historical building", "sports fields, parks, leisure places"),
    *("industry and construction", "houses, gardens, farms", "shops, markets, cities, towns"),
)
"""Groups of the Places365 hierarchy, in the order of the labels 0 to 15: six indoor, four natural, six urban."""
SCENE_OF_GROUP = np.repeat([0, 1, 2], [6, 4, 6])
"""Number in :data:`helpers.scenes.SCENES` of each group of :data:`S16`."""
_FILE = Path(__file__).resolve().parent / "scene_hierarchy.csv"
_LABELS = ["s3_label", "s16_label", "s365_label"]


class Levels(NamedTuple):
    """Probabilities of photos at the three levels of the hierarchy."""

    s3: NDArray[np.float64]
    s16: NDArray[np.float64]
    s365: NDArray[np.float64]


@functools.cache
def categories() -> pd.DataFrame:
    """The 365 categories of Places365 by their label: ``category`` and ``groups``, names of :data:`S16`.

    Examples
    --------
    >>> categories().loc[40].tolist()
    ['barn', 'forest, field, jungle; man-made elements in nature; houses, gardens, farms']
    """
    return pd.read_csv(_FILE, index_col="label")


@functools.cache
def group_memberships() -> NDArray[np.bool_]:
    """Which groups each category belongs to, of shape (365, 16)."""
    named = categories()["groups"].str.get_dummies("; ")
    return named[list(S16)].to_numpy(bool)


def scene_memberships() -> NDArray[np.bool_]:
    """Which scenes each category belongs to, of shape (365, 3): those of its groups."""
    groups = group_memberships()
    return np.stack([groups[:, scene == SCENE_OF_GROUP].any(axis=1) for scene in range(len(SCENES))], axis=1)


def aggregated(probabilities: NDArray[np.floating]) -> Levels:
    """Sum the probabilities of categories up to groups and scenes.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, 365)
        Of the categories of Places365.

    Returns
    -------
    Levels
        Arrays of shape (n, 3), (n, 16) and (n, 365), whose rows sum to one. A category that belongs to several groups
        gives each an equal part of its probability, and one that belongs to several scenes likewise.

    Examples
    --------
    A barn stands in a field, is made by man, and belongs to a farm: three groups, but two scenes.

    >>> levels = aggregated(np.eye(365)[[40]])
    >>> dict(zip(SCENES, levels.s3[0].tolist()))
    {'indoor': 0.0, 'natural': 0.5, 'urban': 0.5}
    >>> {S16[group]: round(float(levels.s16[0, group]), 2) for group in np.flatnonzero(levels.s16[0])}
    {'forest, field, jungle': 0.33, 'man-made elements in nature': 0.33, 'houses, gardens, farms': 0.33}
    """
    shares = np.asarray(probabilities, dtype=np.float64)
    shares = shares / shares.sum(axis=1, keepdims=True)
    scenes, groups = (
        members / members.sum(axis=1, keepdims=True) for members in (scene_memberships(), group_memberships())
    )
    return Levels(shares @ scenes, shares @ groups, shares)


class Agreement(NamedTuple):
    """How far labels of photos follow the hierarchy."""

    shares: dict[str, float]
    """Of the photos whose S16 is a group of their S365, whose S3 is the scene of their S16, and whose S3 is a scene of
    their S365."""
    other_groups: pd.DataFrame
    """``category, group, photos``: pairs of an S365 and an S16 that is none of its groups, the most frequent first."""
    other_scenes: pd.DataFrame
    """``group, scene, photos``: pairs of an S16 and an S3 that is not its scene, the most frequent first."""


def read_labels(path: Path) -> pd.DataFrame:
    """``s3_label, s16_label, s365_label`` of the photos of a CSV file.

    Raises
    ------
    ValueError
        If a column is missing, or a label is none.
    """
    table = pd.read_csv(path)
    missing = [name for name in _LABELS if name not in table]
    if missing:
        raise ValueError(f"{path} lacks the column(s) {', '.join(missing)}: add them")
    for name, number in zip(_LABELS, (len(SCENES), len(S16), len(categories())), strict=True):
        unsound = ~pd.to_numeric(table[name], errors="coerce").isin(range(number))
        if unsound.any():
            raise ValueError(
                f"{path}: the {name} of row {int(unsound.argmax()) + 1} below the headings is "
                f"{str(table[name][unsound].iloc[0])!r}: it must be a whole number from 0 to {number - 1}"
            )
    return table[_LABELS].astype(int)


def agreement(labels: pd.DataFrame) -> Agreement:
    """How far published labels of photos follow the hierarchy.

    Each label is the likeliest at its own level, so that they need not nest: many categories with little probability
    each can make another group, or another scene, the likeliest.

    Parameters
    ----------
    labels : DataFrame
        ``s3_label, s16_label, s365_label`` of photos, numbers.

    Returns
    -------
    Agreement
    """
    s3, s16, s365 = (labels[column].to_numpy() for column in _LABELS)
    nested, same_scene = group_memberships()[s365, s16], SCENE_OF_GROUP[s16] == s3
    shares = {
        "S365 to S16": float(nested.mean()),
        "S16 to S3": float(same_scene.mean()),
        "S365 to S3": float(scene_memberships()[s365, s3].mean()),
    }
    category, group = categories()["category"].to_numpy()[s365], np.array(S16)[s16]
    other_groups = _counted(pd.DataFrame({"category": category, "group": group})[~nested])
    other_scenes = _counted(pd.DataFrame({"group": group, "scene": np.array(SCENES)[s3]})[~same_scene])
    return Agreement(shares, other_groups, other_scenes)


def _counted(pairs: pd.DataFrame) -> pd.DataFrame:
    counts = pairs.value_counts().rename("photos").reset_index()
    return counts.sort_values(["photos", *pairs], ascending=[False, True, True], ignore_index=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m helpers.scene_hierarchy", description="Compare published labels of photos with the hierarchy."
    )
    parser.add_argument("labels", metavar="TRUTH.csv", type=Path, help=f"with the columns {', '.join(_LABELS)}")
    found = agreement(read_labels(parser.parse_args().labels))
    for levels, share in found.shares.items():
        print(f"{levels}: {share:.4f}")
    for pairs in (found.other_groups, found.other_scenes):
        print(f"\n{len(pairs)} pairs that do not nest, {pairs['photos'].sum()} photos")
        print(pairs.to_string(index=False))


if __name__ == "__main__":
    main()
