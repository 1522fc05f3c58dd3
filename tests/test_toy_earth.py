import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import places, toy_earth
from helpers import toy_earth_drawing as drawing
from helpers import toy_earth_facts as world
from helpers import toy_earth_scenes as scenes
from helpers import toy_earth_styles as styles
from helpers.metrics import great_circle_km


@pytest.fixture(scope="module")
def photos():
    return toy_earth.sample(3000, seed=5)


def drawn(place, subject, chances):
    """A scene as pixels, before the camera, with these chances."""
    generator = np.random.default_rng(chances)
    return np.asarray(scenes.draw(scenes.moment(place, subject, generator.random)).image)


# Facts


@pytest.mark.parametrize(
    ("name", "latitude", "longitude", "climate", "country", "left", "script"),
    [
        ("London", 51.51, -0.13, "Cfb", "GB", True, "latin"),
        ("Singapore", 1.36, 103.80, "Af", "SG", True, "latin"),
        ("Cairo", 30.05, 31.25, "BWh", "EG", False, "arabic"),
        ("Moscow", 55.75, 37.60, "Dfb", "RU", False, "cyrillic"),
        ("Tokyo", 35.70, 139.70, "Cfa", "JP", True, "kana"),
        ("Irkutsk", 52.29, 104.28, "Dwb", "RU", False, "cyrillic"),
        ("Rome", 41.90, 12.50, "Csa", "IT", False, "latin"),
        ("Johannesburg", -26.20, 28.05, "Cwb", "ZA", True, "latin"),
        ("Addis Ababa", 9.03, 38.74, "Cwb", "ET", False, "ethiopic"),
        ("Harbin", 45.75, 126.65, "Dwa", "CN", False, "han"),
        ("Phoenix", 33.45, -112.07, "BWh", "US", False, "latin"),
    ],
)
def test_facts_of_well_known_cities(name, latitude, longitude, climate, country, left, script):
    place = world.place(latitude, longitude)
    assert (place.climate, place.country, place.drives_left, place.script) == (climate, country, left, script), name
    assert place.density > 0.45


def test_countries_drive_on_the_side_they_do():
    left = "GB IE JP AU NZ IN PK TH ID MY ZA KE TZ ZM CY MT HK MO SG LK NP BD JM GY SR MZ TL PG FJ WS"
    right = "US CA MX BR AR FR DE ES IT SE NO RU CN KR VN PH KH LA MM TR EG MA NG GH ET RW CM MG TW AE SA IL GI AO VU"
    assert set(left.split()) <= world.DRIVES_LEFT
    assert not set(right.split()) & world.DRIVES_LEFT
    assert world.CENTRE_LINE["US"] == world.CENTRE_LINE["BR"] == "yellow"
    assert "DE" not in world.CENTRE_LINE


def test_tables_name_countries_of_the_map_only_and_each_region_has_a_style():
    known = set(places.outlines()["code"]) | {"MQ", "SX", ""}
    for table in (world.CENTRE_LINE, world.EDGE_LINE, world.WARNING_SIGN, world.KERB, world.SCRIPT, world.REGION):
        assert set(table) <= known
    for codes in (world.DRIVES_LEFT, set(styles.POST_BOX), set(styles.TAXI)):
        assert codes <= known
    assert set(world.REGION.values()) == set(styles.STYLES)
    assert set(scenes._DRAW) == set(scenes.SUBJECTS)


def test_every_climate_of_the_map_has_plants_and_a_temperature():
    _, names = world._climates()
    for climate in set(names) - {world.OCEAN}:
        place = replace(world.place(48.85, 2.35), climate=climate)
        nature, trees = styles.nature(place)
        assert trees
        assert sum(nature.sky) <= 100
        assert climate in styles.TEMPERATURE_C


def test_height_and_relief():
    facts = toy_earth.facts([27.7, 52.37, 29.65], [85.3, 4.9, 91.1])  # Kathmandu, Amsterdam, Lhasa
    assert facts["relief_m"].iloc[0] > 1000 > 60 > facts["relief_m"].iloc[1]
    assert facts["elevation_m"].iloc[2] > 3500
    assert (facts["relief_m"] >= 0).all()


def test_facts_of_many_are_those_of_each(photos):
    some = photos.sample(40, random_state=1)
    table = toy_earth.facts(some["latitude"], some["longitude"])
    for row, (_, photo) in zip(table.itertuples(index=False), some.iterrows(), strict=True):
        assert world.place(photo["latitude"], photo["longitude"]) == world.Place(**row._asdict())


def test_coasts_and_the_open_country():
    # Marseille, Paris, the Sahara, Sydney
    facts = toy_earth.facts([43.26, 48.85, 24.0, -33.89], [5.37, 2.35, 10.0, 151.26])
    assert facts["coast"].tolist() == [True, False, False, True]
    assert facts["density"].iloc[2] == 0


# The sample


def test_a_sample_has_unique_ids_and_safe_paths(photos):
    assert photos.columns.tolist() == ["id", "path", "latitude", "longitude", "author", "country", "scene"]
    assert photos["id"].is_unique
    assert photos["path"].is_unique
    assert photos["path"].str.fullmatch(r"[0-9a-f]{2}/toy-5-\d{6}\.jpg").all()
    assert photos["latitude"].between(-60, 80).all()
    assert photos["longitude"].between(-180, 180).all()


def test_photos_are_on_land_near_towns(photos):
    climate = world.climate(photos["latitude"], photos["longitude"], reach=2)
    assert (climate == world.OCEAN).mean() < 0.005  # islets that the climate map lacks
    assert world.place(0.0, -30.0).town_km > 500
    assert toy_earth.facts(photos["latitude"], photos["longitude"])["town_km"].max() < 40


def test_the_whole_world_is_there(photos):
    share = photos["country"].value_counts(normalize=True)
    assert len(share) > 70
    assert share.iloc[0] < 0.15
    continents = toy_earth.facts(photos["latitude"], photos["longitude"])["continent"].value_counts(normalize=True)
    assert (continents[["Africa", "Asia", "Europe", "North America", "South America", "Oceania"]] > 0.005).all()


def test_authors_have_few_photos_or_many_and_stay_near_their_places(photos):
    counts = photos["author"].value_counts()
    assert counts.max() <= 40
    assert counts.median() <= 8
    assert counts.nlargest(len(counts) // 10).sum() > 0.2 * len(photos)
    first, second = photos[:-1].reset_index(drop=True), photos[1:].reset_index(drop=True)
    km = great_circle_km(first["latitude"], first["longitude"], second["latitude"], second["longitude"])
    km = km[first["author"] == second["author"]]
    assert (km < 1).mean() > 0.5  # stays
    assert (km == 0).mean() > 0.03  # the same spot again
    assert 0.01 < (km > 500).mean() < 0.3  # journeys


def test_the_mix_of_scenes(photos):
    share = photos["scene"].value_counts(normalize=True)
    assert 0.06 < share["indoor"] < 0.16
    assert 0.4 < share["urban"] < 0.75
    assert 0.15 < share["natural"] < 0.5
    assert toy_earth.scenes(photos["id"], photos["latitude"], photos["longitude"]).tolist() == photos["scene"].tolist()


def test_same_seed_same_sample_another_seed_another(photos):
    pd.testing.assert_frame_equal(toy_earth.sample(3000, seed=5), photos)
    other = toy_earth.sample(3000, seed=6)
    assert not set(other["id"]) & set(photos["id"])
    assert (other["latitude"] != photos["latitude"]).mean() > 0.99


def test_a_sample_does_not_depend_on_the_state_of_the_machine(photos):
    np.random.seed(1)  # noqa: NPY002
    first = toy_earth.sample(5, seed=1)
    np.random.seed(2)  # noqa: NPY002
    pd.testing.assert_frame_equal(toy_earth.sample(5, seed=1), first)


@pytest.mark.parametrize("count", [0, -3, 1_000_001])
def test_a_senseless_count_is_refused(count):
    with pytest.raises(ValueError, match=f"count is {count}: ask for 1 to 1,000,000 photos"):
        toy_earth.sample(count, seed=1)


def test_samples_of_one_to_some_photos_work():
    for count in (1, 2, 3, 7, 50):
        assert len(toy_earth.sample(count, seed=count)) == count


# The pictures


def test_a_fresh_process_renders_the_same_bytes_and_leaves_pillow_as_it_was(photos):
    rows = photos.head(24)[["id", "latitude", "longitude"]].values.tolist()
    here = hashlib.sha256(b"".join(toy_earth.render_jpeg(*row) for row in rows)).hexdigest()
    code = f"""
import hashlib
from PIL import Image
limit = Image.MAX_IMAGE_PIXELS
from helpers import toy_earth
print(hashlib.sha256(b"".join(toy_earth.render_jpeg(*row) for row in {rows!r})).hexdigest())
print(Image.MAX_IMAGE_PIXELS == limit)
"""
    fresh = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=fresh)
    assert there.stdout.split() == [here, "True"]


def test_maps_of_kinds_are_of_the_photos_and_do_not_change_them(photos):
    shown = {}
    for row in photos.head(150).itertuples():
        picture = toy_earth.render(row.id, row.latitude, row.longitude)
        kinds = toy_earth.render_kinds(row.id, row.latitude, row.longitude)
        assert kinds.size == picture.size
        assert np.array_equal(picture, toy_earth.render(row.id, row.latitude, row.longitude))
        names = {toy_earth.KINDS[number] for number in np.unique(kinds)}
        assert ("indoors" in names) == (row.scene == "indoor")
        for name in names:
            shown.setdefault(name, []).append(np.asarray(picture)[np.asarray(kinds) == toy_earth.KINDS.index(name)])
    assert set(shown) == set(toy_earth.KINDS)
    sky, plant, road = (np.concatenate(shown[kind]).mean(0) for kind in ("sky", "plant", "road"))
    assert sky[2] > sky[0]
    assert plant[1] == plant.max()
    assert np.ptp(road) < np.ptp(plant)  # nearly grey, for some are of soil


def test_order_of_rendering_does_not_matter(photos):
    rows = photos.head(12)[["id", "latitude", "longitude"]].values.tolist()
    forwards = [toy_earth.render_jpeg(*row) for row in rows]
    assert [toy_earth.render_jpeg(*row) for row in rows[::-1]] == forwards[::-1]


def test_pictures_have_the_promised_size_and_content(photos):
    shapes = set()
    for row in photos.head(60).itertuples():
        data = toy_earth.render_jpeg(row.id, row.latitude, row.longitude)
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.mode) == ("JPEG", "RGB")
            shapes.add(picture.size)
        assert 1000 < len(data) < 20000
    assert shapes == {(160, 128), (128, 160)}


def test_another_id_or_another_place_gives_another_picture():
    paris, lima = (48.8566, 2.3522), (-12.05, -77.04)
    assert toy_earth.render("a", *paris).tobytes() != toy_earth.render("b", *paris).tobytes()
    assert toy_earth.render("a", *paris).tobytes() != toy_earth.render("a", *lima).tobytes()


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [
        (90, 0),
        (-90, 0),
        (-77.85, 166.67),
        (0, 180),
        (0, -180),
        (-17.0, 180.0),
        (0, -30),
        (27.99, 86.93),
        (78.22, 15.65),
        (31.5, 35.5),
    ],
)
def test_every_coordinate_can_be_drawn(latitude, longitude):
    for index in range(12):
        picture = np.asarray(toy_earth.render(f"edge-{index}", latitude, longitude))
        assert min(picture.shape[:2]) == 128
        assert picture.std() > 1


@pytest.mark.parametrize("subject", scenes.SUBJECTS)
def test_every_subject_can_be_drawn_in_every_climate_and_style(subject):
    _, names = world._climates()
    climates = sorted(set(names) - {world.OCEAN})
    base = world.place(48.85, 2.35)
    for index, region in enumerate(styles.STYLES):
        place = replace(base, region=region, climate=climates[index % len(climates)], density=index % 3 / 2)
        pixels = drawn(place, subject, index)
        assert pixels.shape[2] == 3


@pytest.mark.parametrize(("latitude", "longitude"), [(91, 0), (0, 181), (float("nan"), 0), (0, float("inf"))])
def test_a_coordinate_off_the_earth_is_refused(latitude, longitude):
    with pytest.raises(ValueError, match=r"photo 'x' has latitude .*: give degrees within ±90 and ±180"):
        toy_earth.render("x", latitude, longitude)


def test_people_drive_on_their_side():
    # We follow tail lights on our side and meet headlamps on the other.
    place = replace(world.place(48.85, 2.35), country="XX", density=0.2)
    for drives_left in (True, False):
        tail_lights, headlamps = [], []
        for chances in range(60):
            pixels = drawn(replace(place, drives_left=drives_left), "road", chances).astype(int)
            red, green, blue = np.moveaxis(pixels, 2, 0)
            width = pixels.shape[1]
            tail_lights += (np.nonzero((red > 130) & (green < 70) & (blue < 70))[1] / width).tolist()
            warm = (red > 240) & (red - green > 4) & (red - green < 25) & (red - blue > 26) & (blue > 180)
            headlamps += (np.nonzero(warm)[1] / width).tolist()
        assert min(len(tail_lights), len(headlamps)) > 1000
        assert (np.mean(tail_lights) < np.mean(headlamps) - 0.02) == drives_left
        assert (np.mean(tail_lights) > np.mean(headlamps) + 0.02) == (not drives_left)


def test_centre_lines_have_the_colour_of_the_country():
    place = replace(world.place(40.0, -100.0), warning_sign="white triangle", country="XX")
    yellow, white = (
        np.concatenate(
            [drawn(replace(place, centre_line=line), "road", chances).reshape(-1, 3) for chances in range(25)]
        )
        for line in ("yellow", "white")
    )
    changed = (yellow != white).any(axis=1)
    assert changed.sum() > 2000
    # Yellow is far from grey; the road and the white line are not.
    assert (
        np.median(np.ptp(yellow[changed].astype(int), axis=1))
        > np.median(np.ptp(white[changed].astype(int), axis=1)) + 20
    )


def test_a_wet_climate_is_greener_than_a_desert():
    place = world.place(48.85, 2.35)

    def greenness(climate):
        scenes_there = [drawn(replace(place, climate=climate), "wild", chances).astype(int) for chances in range(12)]
        return np.mean([(pixels[..., 1] - pixels[..., 0]).mean() for pixels in scenes_there])

    assert greenness("Af") > greenness("BWh") + 10


def test_noise_is_periodic_and_the_same_everywhere():
    tile = drawing.noise()
    assert tile.shape == (512, 512)
    wrapped = np.abs(tile[:, 0].astype(int) - tile[:, -1]).mean()
    inside = np.abs(tile[:, 100].astype(int) - tile[:, 101]).mean()
    assert wrapped < 2 * inside
    assert abs(float(drawing.grain().mean())) < 0.1
