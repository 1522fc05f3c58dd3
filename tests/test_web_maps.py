"""Areas hold what lies within their radius and nothing else, and a page with maps is whole in itself."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from helpers import cells, maps, metrics, regions, web_maps


def shape(parts):
    polygons = [
        shapely.Polygon(np.array(outer)[:, ::-1], [np.array(hole)[:, ::-1] for hole in holes])
        for outer, *holes in parts
    ]
    return shapely.union_all([shapely.make_valid(polygon) for polygon in polygons])


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(0.5, 20100), st.integers(0, 2**32))
def test_an_area_holds_what_is_within_its_radius(latitude, longitude, radius_km, seed):
    area = shape(web_maps.area(latitude, longitude, radius_km))
    rng = np.random.default_rng(seed)
    turn, distance = (
        rng.uniform(0, 2 * np.pi, 400),
        np.r_[rng.uniform(0.5, 1.5, 200) * radius_km, rng.uniform(0, 20015, 200)],
    )
    angle = np.minimum(distance / metrics.EARTH_RADIUS_KM, np.pi)
    north = np.radians(latitude)
    sine = np.sin(north) * np.cos(angle) + np.cos(north) * np.sin(angle) * np.cos(turn)
    aside = np.arctan2(np.sin(turn) * np.sin(angle) * np.cos(north), np.cos(angle) - np.sin(north) * sine)
    y, x = np.degrees(np.arcsin(sine.clip(-1, 1))), (longitude + np.degrees(aside) + 180) % 360 - 180
    far = metrics.great_circle_km(latitude, longitude, y, x)
    # Not at the very edge, which is drawn by chords of 3 degrees, nor where a map has no area.
    clear = (np.abs(far - radius_km) > 0.003 * radius_km + 0.05) & (np.abs(y) < 88) & (np.abs(x) < 179.99)
    inside = shapely.contains_xy(area, x, y)
    assert (inside == (far < radius_km))[clear].all()


@pytest.mark.parametrize("place", [(10, 179.5), (-89, 20), (89.5, -170), (0, 0)])
@pytest.mark.parametrize("radius_km", [1, 800, 9000, 15000, 19900])
def test_no_edge_of_an_area_reaches_across_the_map(place, radius_km):
    for part in web_maps.area(*place, radius_km):
        for ring in part:
            points = np.array(ring)
            assert np.abs(points[:, 1]).max() <= 180
            assert np.abs(points[:, 0]).max() <= 90
            assert np.array_equal(points[0], points[-1])
            assert np.abs(np.diff(points[:, 1])).max() < 90 or np.abs(points[:, 0]).max() > 80


def test_land_is_where_land_is():
    land = shape(web_maps.land())
    cities = {"Paris": (48.86, 2.35), "Nairobi": (-1.29, 36.82), "Auckland": (-36.9, 174.8), "Suva": (-17.9, 178.2)}
    assert all(land.contains(shapely.Point(x, y)) for y, x in cities.values())
    assert not land.contains(shapely.Point(-30, 0))
    assert len(json.dumps(web_maps.land())) < 1_500_000


def test_a_page_with_maps_asks_nobody_for_anything():
    head = web_maps.head()
    assert re.findall(r"<link|@import|<(?:script|img)[^>]*\bsrc=|url\(['\"]?(?:https?:)?//", head) == []
    assert "geolocationMap" in head


def test_names_cannot_end_the_script_that_they_stand_in():
    assert "<" not in web_maps.in_script({"name": "</script><!-- & \u2028"})
    assert json.loads(web_maps.in_script({"name": "</script>&\u2028"})) == {"name": "</script>&\u2028"}


def likely(classes, probability):
    table = pd.DataFrame({"cell": np.arange(len(classes)), "probability": probability})
    return table.assign(**dict(zip(["latitude", "longitude"], classes.coordinates.T, strict=True)))


def test_the_heat_map_has_the_likeliest_cells_with_their_outlines():
    rng = np.random.default_rng(5)
    fine = cells.build(rng.uniform(40, 60, 4000), rng.uniform(0, 40, 4000), name="fine", min_photos=1, max_photos=5)
    assert len(fine) > web_maps.SHOWN
    probability = rng.dirichlet(np.ones(len(fine)))
    shown = web_maps.heat(likely(fine, probability), fine)
    best = np.sort(probability)[-web_maps.SHOWN :]
    np.testing.assert_allclose([each["probability"] for each in shown], best[best > best.max() / 1000])
    number = int(probability.argmax())
    assert shown[-1]["label"].startswith(f"cell {cells.tokens(fine.ids[[number]])[0]}: ")
    outline = shape(shown[-1]["rings"])
    assert outline.contains(shapely.Point(*fine.coordinates[number][::-1]))
    assert outline.symmetric_difference(cells.polygons(fine).iloc[number]).area < 1e-3


def test_the_heat_map_of_countries_has_their_names():
    codes, names = np.array(["DE", "ES", "FR"]), np.array(["Germany", "Spain", "France"])
    place = np.array([[51.1, 10.4], [40.4, -3.7], [46.6, 2.5]])
    classes = regions.Classes("country", codes, names, codes, np.array([3, 4, 5]), place)
    shown = web_maps.heat(likely(classes, [0.5, 0.2, 0.3]), classes)
    assert [each["label"] for each in shown] == ["Spain: 20 %", "France: 30 %", "Germany: 50 %"]
    assert all("rings" not in each for each in shown)


PLACES = [(7.21, 124.23), (43.88, 39.82), (5.88, -3.11), (45.24, 40.85), (7.98, 123.49)]


def placed(latitude, longitude):
    """A photo whose guess is there, and whose likeliest places are those."""
    photo = {"latitude": latitude, "longitude": longitude, "country": "Russia", "region": "Krasnodar"}
    photo |= {"radius_50_km": 3360.0, "radius_90_km": 11295.0, "calibrated": True}
    for rank, (north, east) in enumerate(PLACES, 1):
        of_place = {"latitude": north, "longitude": east, "probability": 0.02 / rank, "country": "", "region": ""}
        photo |= {f"place_{rank}_{name}": value for name, value in of_place.items()}
    return pd.Series(photo)


def test_the_guess_is_marked_where_it_is_which_need_not_be_the_likeliest_place():
    usual = web_maps.layers(placed(*PLACES[0]))["places"]
    assert [(place["kind"], place["mark"]) for place in usual] == [*(("next", str(n)) for n in "5432"), ("guess", "1")]
    *others, guess = web_maps.layers(placed(45.36, 40.68))["places"]
    assert [(place["kind"], place["mark"]) for place in others] == [("next", str(n)) for n in "54321"]
    assert (guess["kind"], guess["latitude"], guess["longitude"]) == ("guess", 45.36, 40.68)
    assert guess["label"] == "Krasnodar, Russia (45.36° N, 40.68° E)"
    assert guess["above"] > max(place["above"] for place in others)


def test_a_map_of_a_guess_names_it_where_it_is_not_the_likeliest_place():
    for photo, named in ((placed(*PLACES[0]), False), (placed(45.36, 40.68), True)):
        figure = maps.guess_map(photo, "beach.jpg")
        words = [text.get_text() for text in figure.texts]
        assert ("Krasnodar, Russia (45.36° N, 40.68° E)" in words) == named
        (legend,) = figure.legends
        entries = [text.get_text() for text in legend.get_texts()]
        assert ("likeliest places" if named else "next likeliest places") in entries
        plt.close(figure)
