import io
import json

import numpy as np
import pandas as pd
import pytest

from helpers import placing, prediction_files

NAME = '=HYPERLINK("https://evil.example")<script>,\u00e9.jpg'


@pytest.fixture
def table():
    """A placed photo of a hostile name, one that could not be read, and one of a run on coordinates."""
    blank = {column: np.nan for column in placing.COLUMNS} | {"scene": "", "country": "", "region": "", "error": ""}
    blank |= {f"place_{rank}_{what}": "" for rank in range(1, 6) for what in ("country", "region")}
    first = {"id": NAME, "latitude": -33.86881234, "longitude": 151.209, "country": "Australia", "cell": 3}
    first |= {"confidence": 0.25, "radius_50_km": 100.04, "radius_90_km": 2000.0, "scene": "urban", "calibrated": True}
    first |= {"place_1_latitude": -33.86881234, "place_1_longitude": 151.209, "place_1_probability": 0.25}
    bad = {"id": "bad.jpg", "error": "-1 is no photo"}
    last = {"id": "last.jpg", "latitude": 1.0, "longitude": 2.0, "calibrated": False, "place_1_latitude": 1.0}
    rows = pd.DataFrame([blank | first, blank | bad, blank | last])[list(placing.COLUMNS)]
    return rows.astype({"cell": "Int64", "calibrated": "boolean"})


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_csv_is_read_back_and_runs_no_formula(table):
    found = pd.read_csv(io.StringIO(prediction_files.as_csv(table)))
    assert tuple(found.columns) == placing.COLUMNS
    assert found["id"].tolist() == [f"'{NAME}", "bad.jpg", "last.jpg"]
    assert found["latitude"][0] == -33.86881234  # a number, and no formula
    assert found["error"][1] == "'-1 is no photo"
    assert found["cell"].dropna().tolist() == [3]


def test_json_has_places_in_a_list_and_null_for_what_is_not_known(table, tmp_path):
    prediction_files.write(table, tmp_path / "new" / "where.json")
    first, bad, last = json.loads((tmp_path / "new" / "where.json").read_text("utf-8"), parse_constant=refuse)
    assert first["id"] == NAME
    assert first["radius_50_km"] == 100.0
    assert first["latitude"] == -33.868812
    expected = {"latitude": -33.868812, "longitude": 151.209, "probability": 0.25, "country": None, "region": None}
    assert first["places"] == [expected]
    assert first["error"] is None
    assert bad["error"] == "-1 is no photo"
    assert (bad["latitude"], bad["places"], bad["calibrated"]) == (None, [], None)
    assert last["radius_90_km"] is None
    assert last["places"][0]["probability"] is None


def test_geojson_has_points_longitude_first_and_no_geometry_for_what_was_not_read(table):
    found = json.loads(prediction_files.as_geojson(table), parse_constant=refuse)
    assert found["type"] == "FeatureCollection"
    first, bad, _ = found["features"]
    assert {feature["type"] for feature in found["features"]} == {"Feature"}
    assert first["geometry"] == {"type": "Point", "coordinates": [151.209, -33.86881234]}
    assert first["properties"]["radius_90_km"] == 2000.0
    assert bad["geometry"] is None
    assert bad["properties"]["error"] == "-1 is no photo"


@pytest.mark.parametrize("name", ["where.xlsx", "where", "folder.csv"])
def test_an_output_that_cannot_be_written_is_refused(table, tmp_path, name):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match=r"none of the suffixes \.csv, \.json, \.geojson|is a folder"):
        prediction_files.write(table, tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["folder.csv"]
