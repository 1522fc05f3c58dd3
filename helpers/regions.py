"""Countries and regions as classes.

A class is a country or a region that training photos were taken in, and its coordinate is a centroid from
:mod:`helpers.places`, whatever the photos. So a class has a name that people know, unlike a cell, and is as large as
history made it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv
from numpy.typing import NDArray

from helpers import data_lists, manifests, metrics, paths, places

PARTITIONS = ("country", "region")
COLUMNS = ("class_label", "key", "title", "country", "training_photos", "latitude", "longitude")
"""Columns of a file of classes."""

_TYPES = ("int64", "string", "string", "string", "int64", "float64", "float64")
_MAX_FILE_BYTES = 1 << 24  # a hundred thousand classes; the world has 4,601 regions here
_LONGEST = 200  # letters of a key or a title


@dataclass(frozen=True, eq=False)
class Classes:
    """Countries or regions to tell apart; the label of a class is its place in the arrays.

    Attributes
    ----------
    name
        ``country`` or ``region``.
    keys : str, shape (classes,)
        What a list has in the column `name`: a country's code, or a region with its country, such as ``Bayern,
        Germany``. Each once.
    titles : str, shape (classes,)
        What people are shown: a country's English name, or the region as it is called.
    countries : str, shape (classes,)
        Code of the country that each class is, or lies in.
    training_photos : int64, shape (classes,)
    coordinates : float64, shape (classes, 2)
        Latitude and longitude of the centroid that stands for the class, in degrees.

    Raises
    ------
    ValueError
        If there is no class, the arrays differ in length, a key is empty or occurs twice, a country's code is unknown,
        or a count or a coordinate is impossible. A class is called by its label.
    """

    name: str
    keys: NDArray[np.str_]
    titles: NDArray[np.str_]
    countries: NDArray[np.str_]
    training_photos: NDArray[np.int64]
    coordinates: NDArray[np.float64]

    def __post_init__(self) -> None:
        _check_name(self.name)
        columns = (self.keys, self.titles, self.countries, self.training_photos)
        if {column.shape for column in columns} != {(len(self),)} or self.coordinates.shape != (len(self), 2):
            raise ValueError(f"classes of {self.name!r}: the columns differ in length")
        if not len(self):
            raise ValueError(f"there is no class of {self.name!r}")
        codes = self.keys if self.name == "country" else self.countries
        latitude, longitude = np.abs(self.coordinates).T
        for column, values, valid, what in (
            ("key", self.keys, _is_name(self.keys), f"text of at most {_LONGEST} letters"),
            ("key", self.keys, ~pd.Series(self.keys).duplicated().to_numpy(), "given once"),
            ("title", self.titles, _is_name(self.titles), f"text of at most {_LONGEST} letters"),
            ("country", self.countries, np.isin(self.countries, places.countries().index), "a code of countries.csv"),
            ("country", self.countries, self.countries == codes, "the key of a class that is a country"),
            ("training_photos", self.training_photos, self.training_photos >= 1, "1 or more"),
            # Comparisons that are false for NaN.
            ("latitude", self.coordinates[:, 0], latitude <= 90, "from -90 to 90"),
            ("longitude", self.coordinates[:, 1], longitude <= 180, "from -180 to 180"),
        ):
            if not valid.all():
                label = int(np.argmin(valid))
                raise ValueError(
                    f"classes of {self.name!r}: class {label} has the {column} {values[label].item()!r}, "
                    f"which must be {what}"
                )

    def __len__(self) -> int:
        return len(self.keys)


def build(training_rows: pd.DataFrame, name: str, min_photos: int) -> Classes:
    """Make a class of each country, or of each region, that has enough training photos.

    Parameters
    ----------
    training_rows : DataFrame
        Rows of a data list with the columns ``country`` and ``region`` as `exploring.located` returns them, of the
        training photos only.
    name : str
        ``country`` or ``region``.
    min_photos : int
        A class needs at least so many training photos. The photos of others keep their rows, without a label.

    Returns
    -------
    Classes
        Sorted by key, whatever the order of the rows.

    Raises
    ------
    ValueError
        If a row names what :mod:`helpers.places` does not know, or nothing has enough photos.

    Examples
    --------
    >>> rows = pd.DataFrame({"country": ["FR", "JP", "FR", ""]})
    >>> classes = build(rows, "country", min_photos=1)
    >>> classes.titles.tolist(), classes.training_photos.tolist()
    (['France', 'Japan'], [2, 1])
    """
    known = world(name)
    counts = keys_of(training_rows, name).value_counts()
    counts = counts[(counts.index != "") & (counts >= max(min_photos, 1))].sort_index()
    if counts.empty:
        raise ValueError(
            f"no {name} has {max(min_photos, 1)} or more of the {len(training_rows)} training photos: "
            "lower min_photos, or give more photos"
        )
    chosen = known.loc[counts.index]
    return Classes(
        name,
        chosen.index.to_numpy(dtype=str),
        chosen["title"].to_numpy(dtype=str),
        chosen["country"].to_numpy(dtype=str),
        counts.to_numpy().astype(np.int64),
        chosen[["latitude", "longitude"]].to_numpy(dtype=np.float64),
    )


def label_table(photos: pd.DataFrame, classes: Mapping[str, Classes]) -> pd.DataFrame:
    """Class labels of the photos of a list, by ``id``.

    Parameters
    ----------
    photos : DataFrame
        Rows of a data list with ``country`` and ``region``, as in :func:`build`.
    classes : mapping of str to Classes
        By name.

    Returns
    -------
    DataFrame
        ``id`` and a column for each, nullable integers: null for a photo in no class.

    Raises
    ------
    ValueError
        If a row names what :mod:`helpers.places` does not know.
    """
    table = photos[["id"]].reset_index(drop=True)
    for name, each in classes.items():
        label = pd.Index(each.keys, dtype=object).get_indexer(pd.Index(keys_of(photos, name)))
        table[name] = pd.array(label, dtype="Int64")
        table.loc[label < 0, name] = pd.NA
    return table


def summary(photos: pd.DataFrame, labelled: pd.DataFrame, classes: Mapping[str, Classes]) -> pd.DataFrame:
    """Number of classes, and for each split the photos in none and the classes without a photo.

    Parameters
    ----------
    photos : DataFrame
        Rows of a data list.
    labelled : DataFrame
        Its :func:`label_table`.
    classes : mapping of str to Classes
        By name.

    Returns
    -------
    DataFrame
        A row for each name. Of a photo without a label, the column ``nowhere`` says that it has no country or region at
        all, such as at sea, and ``no class`` that its country or region has too few training photos.
    """
    rows = {}
    for name, each in classes.items():
        label, nowhere = labelled[name], (keys_of(photos, name) == "").to_numpy()
        row = {"classes": len(each), "classes with one training photo": int((each.training_photos == 1).sum())}
        for split in [split for split in data_lists.SPLITS if (photos["split"] == split).any()]:
            inside = (photos["split"] == split).to_numpy()
            row[f"{split}: photos"] = int(inside.sum())
            row[f"{split}: nowhere"] = int((inside & nowhere).sum())
            row[f"{split}: no class"] = int((inside & ~nowhere & label.isna().to_numpy()).sum())
            row[f"{split}: classes absent"] = len(each) - label[inside].nunique()
        rows[name] = row
    return pd.DataFrame(rows).T


def named_right(photos: pd.DataFrame, labels: pd.Series, classes: Classes) -> pd.DataFrame:
    """Predictions of a model that names every photo's class right: nothing that names classes can be nearer.

    Parameters
    ----------
    photos : DataFrame
        Rows of a data list; ``id, latitude, longitude`` are read.
    labels : Series of Int64
        Class of each, from :func:`label_table`; photos without one are left out.
    classes : Classes

    Returns
    -------
    DataFrame
        ``id, title, latitude, longitude, predicted_latitude, predicted_longitude, distance_km``.
    """
    labelled = labels.notna().to_numpy()
    label = labels[labelled].to_numpy(dtype=np.int64)
    table = photos.loc[labelled, ["id", "latitude", "longitude"]].reset_index(drop=True)
    table.insert(1, "title", classes.titles[label])
    table["predicted_latitude"], table["predicted_longitude"] = classes.coordinates[label].T
    table["distance_km"] = metrics.great_circle_km(*table.iloc[:, 2:].to_numpy(dtype=np.float64).T)
    return table


def distances_to_centroid(named: pd.DataFrame) -> pd.DataFrame:
    """How far photos are from the coordinate that stands for their class.

    Parameters
    ----------
    named : DataFrame
        From :func:`named_right`.

    Returns
    -------
    DataFrame
        A row for each class with a photo, the farthest first: ``title, photos, median_km, farthest_km``.
    """
    by_class = named.groupby("title")["distance_km"]
    table = pd.DataFrame({"photos": by_class.size(), "median_km": by_class.median(), "farthest_km": by_class.max()})
    return table.sort_values("median_km", ascending=False, kind="stable").reset_index()


@cache
def world(name: str) -> pd.DataFrame:
    """All countries, or all regions, by their key: ``title, country, latitude, longitude``, as classes have them.

    Examples
    --------
    >>> world("region").loc["Bayern, Germany", ["title", "country"]].tolist()
    ['Bayern, Germany', 'DE']
    """
    _check_name(name)
    if name == "country":
        table = places.countries().rename(columns={"name": "title"})
        return table.assign(country=table.index)
    table = pd.DataFrame(places.regions().drop(columns="geometry"))
    return table.assign(title=table["region"]).set_index("region")


def keys_of(rows: pd.DataFrame, name: str) -> pd.Series:
    """Country or region of each row, as its class has it for a key; "" for none.

    Raises
    ------
    ValueError
        If the rows have no such column, or name what :mod:`helpers.places` does not know.
    """
    known = world(name)
    if name not in rows:
        raise ValueError(f"the list has no column {name}: give the rows that exploring.located(rows) returns")
    keys = rows[name].fillna("")
    strange = set(keys.unique()) - {""} - set(known.index)
    if strange:
        raise ValueError(
            f"the list names what is no {name} here: {data_lists.shown(sorted(strange))}. "
            f"Find countries and regions by coordinate: {manifests.command('01_data/enrich', {'dataset': 'NAME'})}"
        )
    return keys


def write(classes: Classes, path: Path) -> None:
    """Write classes as CSV, from which :func:`read` restores every bit."""
    table = pd.DataFrame(
        {
            "class_label": np.arange(len(classes)),
            "key": classes.keys,
            "title": classes.titles,
            "country": classes.countries,
            "training_photos": classes.training_photos,
            "latitude": classes.coordinates[:, 0],
            "longitude": classes.coordinates[:, 1],
        }
    )
    with paths.replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read(path: Path, name: str) -> Classes:
    """Read classes that :func:`write` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a file of such classes; the message names file, class and fault.
    """
    path = Path(path)
    remedy = "make it with 03_partitioning/build_regions.ipynb"
    if not path.is_file():
        raise FileNotFoundError(f"the classes of {name!r} are not at {path}: {remedy}")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB, so it is not a file of classes: {remedy}")
    try:
        table = pyarrow.csv.read_csv(
            path,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict(zip(COLUMNS, _TYPES, strict=True)),
                include_columns=COLUMNS,
                null_values=[],  # so that an empty number is an error, and the code of Namibia is none
            ),
        ).to_pandas()
        wrong = np.flatnonzero(table["class_label"] != np.arange(len(table)))
        if len(wrong):
            raise ValueError(f"row {wrong[0] + 1} has the class_label {table['class_label'][wrong[0]]}, not {wrong[0]}")
        return Classes(
            name,
            table["key"].to_numpy(dtype=str),
            table["title"].to_numpy(dtype=str),
            table["country"].to_numpy(dtype=str),
            table["training_photos"].to_numpy(),
            table[["latitude", "longitude"]].to_numpy(),
        )
    except (ValueError, KeyError) as error:  # pyarrow's own are of these kinds
        raise ValueError(f"{path} is not a usable file of classes: {error}. Else {remedy}") from error


def _check_name(name: str) -> None:
    if name not in PARTITIONS:
        raise ValueError(f"{name!r} is no kind of class: it takes {' or '.join(PARTITIONS)}")


def _is_name(values: NDArray[np.str_]) -> NDArray[np.bool_]:
    return pd.Series(values, dtype=object).str.fullmatch(rf"[^\x00-\x1f\x7f]{{1,{_LONGEST}}}").to_numpy(dtype=bool)
