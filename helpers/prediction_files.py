"""Tables of placed photos as files: CSV, JSON and GeoJSON."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from helpers import paths, placing

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet may run, see OWASP, "CSV Injection"
_DECIMALS = {"_km": 1, "latitude": 6, "longitude": 6, "confidence": 6, "probability": 6}


def check(output: Path) -> None:
    """Refuse a file that :func:`write` could not write, before any work.

    Raises
    ------
    ValueError
        If its suffix stands for none of the forms, or it is a folder.
    """
    if output.suffix.lower() not in FORMS:
        raise ValueError(f"{output} has none of the suffixes {', '.join(FORMS)}: they say in which form to write it")
    if output.is_dir():
        raise ValueError(f"{output} is a folder: name a file")


def write(table: pd.DataFrame, output: Path) -> None:
    """Write a table of placed photos in the form that the suffix stands for.

    Parameters
    ----------
    table : DataFrame
        Of :class:`helpers.placing.Predictions`.
    output : Path
        ``.csv``, ``.json`` or ``.geojson``. It is there whole or not at all.
    """
    check(output)
    text = as_text(table, output.suffix.lower())
    with paths.replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_text(table: pd.DataFrame, form: str) -> str:
    """A table of placed photos as one of :data:`FORMS`, its numbers rounded to what can be known."""
    return FORMS[form](_rounded(table))


def as_csv(table: pd.DataFrame) -> str:
    """A row for each photo, with the columns :data:`helpers.placing.COLUMNS`.

    A text that a spreadsheet would take for a formula, such as the name ``=1+1.jpg``, has ``'`` in front.
    """
    safe = table.copy()
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = [f"'{text}" if str(text).startswith(_FORMULA) else text for text in safe[column]]
    return str(safe.to_csv(index=False, lineterminator="\n"))


def as_json(table: pd.DataFrame) -> str:
    """A list of objects, one for each photo, its likeliest places in a list; what is not known is ``null``."""
    return _dumped([_nested(row) for row in table.to_dict("records")])


def as_geojson(table: pd.DataFrame) -> str:
    """A collection of points (RFC 7946), longitude first; a photo that could not be read has no geometry."""
    features = []
    for row in table.to_dict("records"):
        properties = _nested(row)
        position = [properties.pop("longitude"), properties.pop("latitude")]
        geometry = None if row["error"] else {"type": "Point", "coordinates": position}
        features.append({"type": "Feature", "id": row["id"], "geometry": geometry, "properties": properties})
    return _dumped({"type": "FeatureCollection", "features": features})


FORMS: dict[str, Callable[[pd.DataFrame], str]] = {".csv": as_csv, ".json": as_json, ".geojson": as_geojson}
"""How a table is written, by the suffix of the file."""


def _nested(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with its likeliest places in a list, without what is not known of them."""
    plain = {name: _plain(value) for name, value in row.items() if not name.startswith("place_")}
    ranks = range(1, placing.PLACES + 1) if not row["error"] else ()
    places = [
        {what: _plain(row[f"place_{rank}_{what}"]) for what in placing.OF_PLACES}
        for rank in ranks
        if _plain(row[f"place_{rank}_latitude"]) is not None
    ]
    error = plain.pop("error")
    return plain | {"places": places, "error": error or None}


def _plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, no numbers of numpy, no empty words."""
    if value is pd.NA or value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value.item() if hasattr(value, "item") else value


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Kilometres to a hundred metres, degrees to a decimetre: there is nothing to be known beyond."""
    decimals = {column: digits for column in table.columns for end, digits in _DECIMALS.items() if column.endswith(end)}
    return table.round(decimals)


def _dumped(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
