"""Give each photo of a list its country and region."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import country_names, data_lists, places

INSIDE, OFFSHORE, NAMED, NONE = "inside a region", "off its coast", "off every coast, country as named", "no country"
STATES = (INSIDE, OFFSHORE, NAMED, NONE)


class Enriched(NamedTuple):
    """Rows of a list with their countries and regions."""

    rows: pd.DataFrame
    """With ``country``, a code of `places.countries`, and ``region``, as in `places.regions`, both "" where none. Their
    ``attrs`` say so under `data_lists.LOCATED`."""
    state: pd.Series
    """How each row came to its country: one of `STATES`."""
    offshore_km: pd.Series
    """Distance to the region: 0 inside, infinite where there is none."""
    disagreeing: pd.DataFrame
    """Photos whose list names another country: ``id, latitude, longitude, named, named_code, country, region``."""
    unknown_names: pd.Series
    """Photos by the name that no country goes by."""


def enrich(rows: pd.DataFrame, offshore_km: float = places.OFFSHORE_KM) -> Enriched:
    """Find the country and the region of each photo by its coordinate.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list. A column ``country`` may hold names or codes of any origin: see Notes.
    offshore_km : float
        How far off a coast a photo still belongs to it.

    Returns
    -------
    Enriched
        No row is dropped.

    Notes
    -----
    Coordinates decide, for only they give country and region alike. A country that the list names is compared with
    them, and stands only where there is no region: where a name says something else than the coordinate, one of them
    is wrong, or the border is near. Countries that were found here before are no names, and regions of another origin
    are replaced.
    """
    number, distance_km = places.locate_all(rows["latitude"], rows["longitude"], offshore_km)
    regions = places.regions()
    found = number != places.NOWHERE
    country = np.where(found, regions["country"].to_numpy(dtype=object)[number], "")
    region = np.where(found, regions["region"].to_numpy(dtype=object)[number], "")

    is_named = "country" in rows and data_lists.LOCATED not in rows.attrs
    name = rows["country"] if is_named else pd.Series("", index=rows.index, dtype=object)
    named = pd.Series(country_names.codes(name), index=rows.index, dtype=object)
    differs = found & (named != "").to_numpy() & (named.to_numpy() != country)
    country = np.where(found, country, named)
    disagreeing = pd.DataFrame(
        {
            "id": rows["id"],
            "latitude": rows["latitude"],
            "longitude": rows["longitude"],
            "named": name,
            "named_code": named,
            "country": country,
            "region": region,
        }
    )[differs]
    state = np.select([distance_km == 0, found, country != ""], [INSIDE, OFFSHORE, NAMED], NONE)
    enriched = Enriched(
        rows.assign(country=country, region=region),
        pd.Series(state, index=rows.index),
        pd.Series(distance_km, index=rows.index),
        disagreeing.reset_index(drop=True),
        name[(name != "") & (named == "")].value_counts(),
    )
    enriched.rows.attrs = {**rows.attrs, data_lists.LOCATED: f"by coordinate, up to {offshore_km:g} km off a coast"}
    return enriched


def counts(enriched: Enriched) -> dict[str, int]:
    """Photos by how they came to their country, and those that their list disagrees with or names unintelligibly."""
    by_state = enriched.state.value_counts()
    return {
        **{state: int(by_state.get(state, 0)) for state in STATES},
        "another country is named": len(enriched.disagreeing),
        "the name is not known": int(enriched.unknown_names.sum()),
    }
