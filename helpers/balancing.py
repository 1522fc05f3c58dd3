"""Choose photos of a list so that its countries have given shares.

People photograph where people travel, so in most collections a handful of countries has most of the photos. A model
trained on them guesses those countries. A target says which share each country should have instead.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from helpers import country_names, data_lists, enriching, exploring, manifests, paths, places

UNIFORM, TRAIN = "uniform", "train"
NO_COUNTRY = enriching.NONE
NOT_IN_TARGET, TOO_RARE = "not in the target", "too rare in the collection"
BEYOND_SHARE, BEYOND_CAP = "beyond the share of the country", "beyond the cap per country"
REASONS = (NO_COUNTRY, NOT_IN_TARGET, TOO_RARE, BEYOND_SHARE, BEYOND_CAP)
"""Why a photo is left out."""

_TOLERANCE = 1e-3  # by which shares that people have rounded may miss their sum
_COUNTRIES_SHOWN = 5
_MOST_ROWS = 1000  # of a target; far from all of more can be different countries


class Balanced(NamedTuple):
    """What `balance` chose."""

    rows: pd.DataFrame
    """Rows of the list that stay, in their order."""
    table: pd.DataFrame
    """A row for each country of the list or the target, those with most photos first: ``country`` (a code), ``name``,
    and of the photos that decide, the training photos: ``photos_before``, ``share_before``, ``target_share``,
    ``share_sought`` (the target's among the countries that take part), ``photos_after``, ``share_after`` (all shares
    from 0 to 1), ``left_out`` (why a country takes no part, else ``""``) and ``limits`` (whether it is one of those
    that decide how many photos stay). Then ``held_out_before`` and ``held_out_after``, of the other splits."""
    left_out: dict[str, int]
    """Photos that do not stay, by reason: all of `REASONS` that occur."""


def sources(target: str) -> dict[str, Path]:
    """Files that a target is read from."""
    if target == UNIFORM:
        return {}
    return {"target": _file(target) if _is_file(target) else paths.data_list(target)}


def called(target: str) -> str:
    """A target without the folder of its file, which is another on each machine.

    Examples
    --------
    >>> called("uniform"), called("tables/wanted.csv")
    ('uniform', 'wanted.csv')
    """
    return _file(target).name if _is_file(target) else target


def described(target: str) -> str:
    """A target for the header of a list: its name, and the hash of its file where it has one."""
    hashes = [f", SHA-256 {manifests.fingerprint(file)}" for file in sources(target).values()]
    return "".join([called(target), *hashes])


def target_shares(target: str, countries: Iterable[str]) -> pd.Series:
    """Share that each country should have.

    Parameters
    ----------
    target : str
        ``"uniform"``; the name of a data list, whose countries are counted; or a CSV file (its name ends in ``.csv``)
        with the columns ``country`` (a code or a name) and either ``share`` (sums to 1 or 100) or ``photos``.
    countries : iterable of str
        Codes of the photos of the list to be balanced: ``"uniform"`` is uniform over them.

    Returns
    -------
    Series of float
        Shares by code, above 0, sorted by code, with the sum 1.

    Raises
    ------
    ValueError
        If a file lacks a column, names a country that is not known or one twice, or holds a share that is negative or
        no number, or if the shares do not add up.
    MissingList
        If there is no such list.
    """
    if target == UNIFORM:
        counts = pd.Series(1.0, index=sorted(set(countries) - {""}))
    elif _is_file(target):
        counts = _from_table(_file(target))
    else:
        codes = exploring.located(data_lists.read(target))["country"]
        counts = codes[codes != ""].value_counts().astype(float)
    counts = counts[counts > 0].sort_index()
    if not len(counts):
        raise ValueError(f"the target {target!r} has no photo with a country: enrich the list, or take another target")
    return (counts / math.fsum(counts)).rename("share").rename_axis("country")


def balance(
    rows: pd.DataFrame,
    shares: pd.Series,
    *,
    min_share: float,
    slack: float,
    max_photos_per_country: int,
    seed: int,
) -> Balanced:
    r"""Choose as many photos as a target distribution of countries allows.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list, from `exploring.located`.
    shares : Series of float
        From `target_shares`.
    min_share : float
        Share of the training photos, from 0 to 1, that a country should have to take part. One rare country would
        otherwise make the whole list as small as itself.
    slack : float
        Above 0, at most 1. A country takes part with `slack` times that share already.
    max_photos_per_country : int
        Of any country, in all splits together; 0 for no cap.
    seed : int
        Decides which photos of a country stay.

    Returns
    -------
    Balanced

    Raises
    ------
    ValueError
        If a parameter is out of range, no training photo has a country, or no country of the target takes part; names
        those with most photos.

    Notes
    -----
    What a model learns is the distribution of its training photos, and splits that keep authors together differ in
    their countries. So the training photos decide; in a list without any, all photos do.

    Of the :math:`n` training photos with a country, :math:`a_c` are of country :math:`c`, whose target share is
    :math:`t_c`, and :math:`m = \text{min_share} \cdot n`. The countries :math:`C = \{c : t_c > 0, a_c \ge \text{slack}
    \cdot m, a_c > 0\}` take part, with the shares :math:`s_c = t_c / \sum_{d \in C} t_d`. Training gets

    .. math:: N = \min_{c \in C} \max(a_c, m) / s_c

    photos, the most with which each country that has :math:`m` photos can give its share, and :math:`c` gives
    :math:`\min(a_c, \lfloor s_c N + 1/2 \rfloor, \text{cap})`. A country with fewer than :math:`m` photos counts as if
    it had as many. It does not make the list smaller than one with :math:`m` photos would, gives all it has where it
    would need more, and so has at least `slack` times the photos it should have.

    A held-out split of :math:`n'` photos with a country gets :math:`N n' / n` in the same shares, as far as it has
    them: it limits nothing, and a country of which it has too few stays short there.

    The cap comes last and lowers only the countries that are above it. Lowering :math:`N` until the largest country
    fits would throw away photos of all the others, which the cap is not about. It is shared out to the splits by their
    photos.

    Of a country those photos of a split stay whose ``sha256("<seed> <id>")`` is smallest. That depends neither on the
    order of rows nor on other photos, and where a country gets fewer photos they are some of those it had with more.
    """
    _check_parameters(min_share, slack, max_photos_per_country)
    code = rows["country"].to_numpy(dtype=object)
    split = rows["split"].to_numpy(dtype=object)
    deciding = [TRAIN] if (split == TRAIN).any() else sorted(set(split))
    role = np.where(np.isin(split, deciding), TRAIN, split)
    known = code != ""
    before = pd.crosstab(code[known], role[known]).astype(np.int64)
    if TRAIN not in before:
        raise ValueError("no training photo of the list has a country: make one that has with 01_data/enrich.ipynb")
    table = _countries(before[TRAIN], shares)
    taking_part = _set_goals(table, min_share, slack)
    before = before.reindex(table.index, fill_value=0)
    share_of_role = before.sum() / before.sum()[TRAIN]

    size = _size(table, taking_part, min_share)
    goal = np.floor(np.outer(table["share_sought"] * size, share_of_role) + 0.5).astype(np.int64)
    fair = before.clip(upper=goal)
    after = fair.clip(upper=_caps(before, max_photos_per_country), axis=1) if max_photos_per_country else fair

    stays = np.zeros(len(rows), dtype=bool)
    place = table.index.get_indexer(pd.Index(code[known])) * len(before.columns)
    place += before.columns.get_indexer(pd.Index(role[known]))
    stays[known] = _rank(rows["id"].to_numpy(dtype=object)[known], place, seed) < after.to_numpy().ravel()[place]

    table["photos_after"] = after[TRAIN]
    table["share_after"] = table["photos_after"] / max(int(table["photos_after"].sum()), 1)
    table["held_out_before"] = before.drop(columns=TRAIN).sum(axis=1)
    table["held_out_after"] = after.drop(columns=TRAIN).sum(axis=1)
    excluded = before.sum(axis=1).groupby(table["left_out"]).sum()
    left_out = {
        NO_COUNTRY: int((~known).sum()),
        NOT_IN_TARGET: int(excluded.get(NOT_IN_TARGET, 0)),
        TOO_RARE: int(excluded.get(TOO_RARE, 0)),
        BEYOND_SHARE: int((before - fair)[taking_part].to_numpy().sum()),
        BEYOND_CAP: int((fair - after).to_numpy().sum()),
    }
    return Balanced(
        rows[stays],
        table.sort_values(["photos_before", "country"], ascending=[False, True]).reset_index(),
        {why: photos for why, photos in left_out.items() if photos},
    )


def splits(rows: pd.DataFrame, balanced: pd.DataFrame) -> pd.DataFrame:
    """Photos and countries of each split, before and after.

    Returns
    -------
    DataFrame of int
        A row for each split of the list: ``photos_before, photos_after, countries_before, countries_after``.
    """
    columns = {}
    for when, some in (("before", rows), ("after", balanced)):
        table = pd.DataFrame({"split": some["split"].to_numpy(), "country": some["country"].replace("", None)})
        columns[f"photos_{when}"] = table.groupby("split").size()
        columns[f"countries_{when}"] = table.groupby("split")["country"].nunique()
    in_order = [split for split in data_lists.SPLITS if split in set(rows["split"])]
    return pd.DataFrame(columns).sort_index(axis=1, ascending=False).reindex(in_order).fillna(0).astype(int)


def _check_parameters(min_share: float, slack: float, max_photos_per_country: int) -> None:
    if not 0 <= min_share < 1:
        raise ValueError(f"min_share is {min_share}: it is a share of the collection, from 0 to less than 1")
    if not 0 < slack <= 1:
        raise ValueError(f"slack is {slack}: it must be above 0 and at most 1, where 1 gives no slack")
    if max_photos_per_country < 0:
        raise ValueError(f"max_photos_per_country is {max_photos_per_country}: it must be 1 or more, or 0 for no cap")


def _countries(photos: pd.Series, shares: pd.Series) -> pd.DataFrame:
    """Countries of the training photos and the target by code, in alphabetical order."""
    index = pd.Index(sorted({*photos.index, *shares.index}), name="country", dtype=object)
    names = places.countries()["name"]
    before = photos.reindex(index, fill_value=0)
    return pd.DataFrame(
        {
            "name": [str(names.get(code, code)) for code in index],
            "photos_before": before,
            "share_before": before / max(int(before.sum()), 1),
            "target_share": shares.reindex(index, fill_value=0.0).astype(float),
        },
        index=index,
    )


def _caps(before: pd.DataFrame, max_photos_per_country: int) -> pd.Series:
    """The cap of each split, by its photos; together no more than the cap of all."""
    caps = np.floor(max_photos_per_country * before.sum() / before.to_numpy().sum()).astype(np.int64)
    caps[TRAIN] += max_photos_per_country - caps.sum()
    return caps


def _set_goals(table: pd.DataFrame, min_share: float, slack: float) -> NDArray[np.bool_]:
    """Add the share that is sought of each country to the table, and return which take part."""
    photos = int(table["photos_before"].sum())
    wanted = (table["target_share"] > 0).to_numpy()
    # Without the last digits, in which 0.8 * 0.0075 * 1000 is not 6.
    enough = (table["photos_before"] >= max(slack * min_share * photos - 1e-9 * photos, 1)).to_numpy()
    taking_part = wanted & enough
    if not taking_part.any():
        most = table[wanted].nlargest(_COUNTRIES_SHOWN, "photos_before")
        shown = ", ".join(f"{row.name} {100 * row['share_before']:.2g} %" for _, row in most.iterrows())
        raise ValueError(
            f"no country of the target has {100 * slack * min_share:.2g} % (slack x min_share) of the {photos:,} "
            f"training photos with a country, so none would be left. Those with most have: {shown}. Lower min_share, "
            "or take another target"
        )
    total = math.fsum(table["target_share"][taking_part])
    table["share_sought"] = np.where(taking_part, table["target_share"] / total, 0.0)
    table["photos_after"], table["share_after"] = 0, 0.0
    table["left_out"] = np.select([~wanted, ~enough], [NOT_IN_TARGET, TOO_RARE], "")
    return taking_part


def _size(table: pd.DataFrame, taking_part: NDArray[np.bool_], min_share: float) -> float:
    """Photos of the balanced list before rounding and cap; adds to the table which countries limit them."""
    counted = np.maximum(table["photos_before"], min_share * table["photos_before"].sum())
    sizes = (counted / table["share_sought"].where(taking_part)).to_numpy()
    smallest = float(np.nanmin(sizes))
    table["limits"] = sizes <= smallest * (1 + 1e-9)
    return smallest


def _rank(ids: NDArray[np.object_], group: NDArray[np.intp], seed: int) -> NDArray[np.int64]:
    """Place of each photo in its group, by the hash of seed and id, counted from 0."""
    digests = b"".join([hashlib.sha256(f"{seed} {photo}".encode()).digest()[:16] for photo in ids])
    high, low = np.frombuffer(digests, dtype=">u8").reshape(-1, 2).T
    order = np.lexsort([low, high, group])
    ordered = group[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(len(ordered)), 0))
    rank = np.empty(len(ordered), dtype=np.int64)
    rank[order] = np.arange(len(ordered)) - start
    return rank


def _is_file(target: str) -> bool:
    return target.lower().endswith(".csv")


def _file(target: str) -> Path:
    return Path(target).expanduser().resolve()


def _from_table(path: Path) -> pd.Series:
    """Shares or numbers of photos by code, of a CSV file."""
    try:
        # As they stand: to pandas, the code of Namibia is a missing value.
        table = pd.read_csv(
            path,
            dtype=str,
            keep_default_na=False,
            index_col=False,
            skip_blank_lines=False,
            nrows=_MOST_ROWS,
            encoding="utf-8-sig",
        )
    except FileNotFoundError:
        raise ValueError(f"there is no target {path}: correct the name of the file") from None
    except (ValueError, OSError) as error:  # the first are pandas' parser errors and broken UTF-8, too
        raise ValueError(f"the target {path.name} cannot be read as a CSV file in UTF-8: {error}") from None
    table = table[(table != "").any(axis=1)]
    # A heading that is there twice, of which pandas numbers the second.
    table.columns = table.columns.str.strip().str.lower().str.replace(r"\.\d+$", "", regex=True)
    measures = [name for name in table if name in ("share", "photos")]
    if list(table.columns).count("country") != 1 or len(measures) != 1:
        raise ValueError(
            f"the target {path.name} has the columns {', '.join(table.columns)}: it needs country, and share or photos"
        )
    codes = _codes(table["country"], path.name)
    return pd.Series(_numbers(table, measures[0], path.name), index=codes)


def _codes(names: pd.Series, file: str) -> list[str]:
    """Code of each country that a file names; tells which names were taken for slips of others."""
    found = country_names.matched(names)
    seen: dict[str, str] = {}
    for line, (name, code, how, matching) in zip(names.index, found.itertuples(index=False), strict=True):
        row = line + 2  # as editors count, with the heading
        if how == "fuzzy":
            print(f"row {row} of the target {file}: {name!r} is taken for {matching}", flush=True)
        if not code:
            near = country_names.nearest(name)
            hint = f", did you mean {near!r}?" if near else ""
            raise ValueError(f"row {row} of the target {file} names no country that is known, {name!r}{hint}")
        if code in seen:
            raise ValueError(
                f"row {row} of the target {file} names a country a second time, {name!r}, which is {code} as "
                f"{seen[code]!r} is: put them into one row, with their sum"
            )
        seen[code] = name
    return found["code"].tolist()


def _numbers(table: pd.DataFrame, column: str, file: str) -> NDArray[np.float64]:
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~(np.isfinite(numbers) & (numbers >= 0))
    if wrong.any():
        line, name, value = table.loc[wrong, ["country", column]].reset_index().iloc[0]
        raise ValueError(
            f"row {line + 2} of the target {file} has the {column} {value!r} of {name!r}: it must be a number, 0 or "
            "more"
        )
    total = math.fsum(numbers)
    whole = min((1, 100), key=lambda whole: abs(total - whole))
    if column == "share" and not abs(total - whole) <= _TOLERANCE * whole:
        raise ValueError(
            f"the shares of the target {file} add up to {total:.6g}: they must add up to 1, or to 100 per cent. If "
            "they are numbers of photos, call the column photos"
        )
    return numbers
