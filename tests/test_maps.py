"""Maps hold the data they were given and are right at the date line and the poles."""

import numpy as np
import pandas as pd
import pytest
import s2sphere
import shapely
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.image import AxesImage

from helpers import enriching, maps, metrics, places, plots

LATITUDE, LONGITUDE = st.floats(-90, 90), st.floats(-180, 180)
# The map is 34,488 km wide: no honest piece of a line goes farther at a stride of a degree than along a pole.
POLE_LINE_KM = 2 * maps.project(90, 180)[0, 0]


def cell_polygon(cell_id):
    cell = s2sphere.Cell(cell_id)
    corners = [s2sphere.LatLng.from_point(cell.get_vertex(corner)) for corner in range(4)]
    return shapely.Polygon([(corner.lng().degrees, corner.lat().degrees) for corner in corners])


def cells_at_level(level):
    faces = [s2sphere.CellId.from_face_pos_level(face, 0, 0) for face in range(6)]
    return [cell_polygon(child) for face in faces for child in face.children(level)]


def guesses(photos):
    """Facts about photos, as `breakdown.best` gives them."""
    rng = np.random.default_rng(7)
    names = ("latitude", "longitude", "predicted_latitude", "predicted_longitude")
    table = pd.DataFrame({name: rng.uniform(-90, 90, photos) for name in names})
    columns = {"country": "South Georgia and the Islands", "guessed_country": "Democratic Republic of the Congo"}
    return table.assign(distance_km=np.geomspace(0.01, 20_000, photos), **columns)


def told(photos):
    """What is told beside maps of what speaks for guesses, as `explaining.facts` gives it."""
    columns = {"named": "cell 89abcdef01234567", "confidence": 0.5, "radius_50_km": 20_015.0}
    return guesses(photos).assign(**columns)


def with_radii(photos):
    """Predictions with radii, and the likeliest places of each."""
    rng = np.random.default_rng(5)
    columns = ["latitude", "longitude", "predicted_latitude", "predicted_longitude"]
    table = pd.DataFrame(rng.uniform(-89, 89, (photos, 4)), columns=columns).assign(id=np.arange(photos).astype(str))
    table["radius_50_km"] = np.linspace(0, 9000, photos)
    table["radius_90_km"] = np.linspace(0, 20015, photos)
    table["distance_km"] = 1234.0
    table.loc[table.index[-1:], ["radius_50_km", "radius_90_km"]] = np.nan if photos == 2 else 20015.0
    likeliest = table[["id", "latitude", "longitude"]].loc[table.index.repeat(5)]
    return table, likeliest


def one_of_each(width):
    """Every map, of the smallest input and of some."""
    rng = np.random.default_rng(7)
    some = rng.uniform(-80, 80, (4, 300))
    yield maps.error_map([10], [179], [-20], [-170], width=width)
    yield maps.error_map(*some, "errors", width=width)
    yield maps.density_map([10], [179], width=width)
    yield maps.density_map(some[0], some[1], "density", width=width)
    yield maps.split_map([10], [179], ["test"], width=width)
    yield maps.split_map(some[0], some[1], rng.choice(["train", "validation", "test"], 300), "splits", width=width)
    yield maps.located_map([10], [179], [enriching.NONE], width=width)
    yield maps.located_map(some[0], some[1], rng.choice(enriching.STATES, 300), "located", width=width)
    for photos in (1, 2, 30):
        yield maps.radius_maps(*with_radii(photos), "radii" * (photos > 2), width=width)
    yield maps.median_error_map([10], [179], [0], width=width)
    yield maps.median_error_map(some[0], 2 * some[1], 250 * np.abs(some[2]), "median errors", width=width)
    photo = np.zeros((4, 6, 3), dtype=np.uint8)
    yield maps.photo_gallery([photo], guesses(1), width=width)
    yield maps.photo_gallery([photo, photo.swapaxes(0, 1)] * 12, guesses(24), "the best", width=width)
    for count in (1, 12):
        views, evidence = [np.zeros((8, 8, 3), np.uint8)] * count, [np.eye(8, dtype=np.float32)] * count
        yield maps.explained_gallery(views, evidence, told(count), "f*" * (count > 1), width=width)
    regions = np.arange(len(places.regions()))
    yield maps.region_map(regions == 7, width=width)
    yield maps.region_map(regions**2 % 999, "regions", width=width)
    cells = cells_at_level(2)
    yield maps.cells_map({"coarse": (cells[:1], [51])}, width=width)
    yield maps.cells_map({name: (cells, range(51, 51 + len(cells))) for name in "abc"}, width=width)


@pytest.mark.parametrize("width", [plots.SINGLE_COLUMN, plots.DOUBLE_COLUMN])
def test_every_map_fits_its_width(width, assert_fits):
    for figure in one_of_each(width):
        assert_fits(figure, width)


@given(LATITUDE, LONGITUDE, LATITUDE, LONGITUDE)
def test_arcs_are_great_circles_and_never_span_the_map(lat_1, lon_1, lat_2, lon_2):
    pieces = maps.great_circle_arc(lat_1, lon_1, lat_2, lon_2)
    points = np.concatenate(pieces)
    whole = metrics.great_circle_km(lat_1, lon_1, lat_2, lon_2)
    assert metrics.great_circle_km(lat_1, lon_1, *points[0]) < 1e-6
    assert metrics.great_circle_km(*points[-1], lat_2, lon_2) < 1e-3
    strides = metrics.great_circle_km(*points[:-1].T, *points[1:].T)
    assert strides.max() <= 6371 * np.pi / 180 + 1e-6
    assert strides.sum() == pytest.approx(whole, abs=1e-3)  # so no point lies off the shortest way
    for piece in pieces:
        on_map = maps.project(*piece.T)
        assert np.linalg.norm(np.diff(on_map, axis=0), axis=1).max(initial=0) < POLE_LINE_KM / 3


@pytest.mark.parametrize(
    ("pair", "pieces"),
    [
        ((35.7, 139.7, 37.8, -122.4), 2),  # Tokyo to San Francisco
        ((48.9, 2.4, 40.7, -74), 1),  # Paris to New York
        ((80, 10, 80, -171), 3),  # close by the pole, then over the date line
        ((33.5, 20, 33.5, 20), 1),
    ],
)
def test_an_arc_is_cut_where_the_map_is(pair, pieces):
    assert len(maps.great_circle_arc(*pair)) == pieces


def test_error_map_shares_are_of_all_photos_and_the_sample_is_readable():
    latitude = np.zeros(1000)
    degrees = np.repeat([0.1, 1, 5, 15, 90], [100, 150, 200, 250, 300])
    figure = maps.error_map(latitude, latitude, latitude, degrees, drawn=40)
    (axes,) = figure.axes
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["≤ 25 km: 10 %", "≤ 200 km: 15 %", "≤ 750 km: 20 %", "≤ 2,500 km: 25 %", "> 2,500 km: 30 %"]
    dots = [artist for artist in axes.collections if isinstance(artist, PathCollection)][-1]
    assert len(dots.get_offsets()) == 40
    assert any("40 of 1,000 photos" in text.get_text() for text in figure.texts)


def test_error_map_class_boundary_is_within():
    kilometre = 180 / np.pi / 6371
    east = np.array([25, 200, 750, 2500]) * kilometre * (1 - 1e-12)
    figure = maps.error_map([0] * 4, [0] * 4, [0] * 4, east)
    assert [text.get_text()[-5:] for text in figure.legends[0].get_texts()][:4] == [" 25 %"] * 4


def test_maps_do_not_depend_on_the_order_of_rows(tmp_path):
    rng = np.random.default_rng(7)
    photos = rng.uniform(-80, 80, (400, 4))
    split = rng.choice(list(plots.SPLIT_COLORS), 400)
    shuffle = rng.permutation(400)
    for name, draw in {
        "errors": lambda rows: maps.error_map(*photos[rows].T),
        "density": lambda rows: maps.density_map(*photos[rows, :2].T),
        "splits": lambda rows: maps.split_map(*photos[rows, :2].T, split[rows]),
        "median errors": lambda rows: maps.median_error_map(*photos[rows, :2].T, np.abs(photos[rows, 2])),
    }.items():
        plots.save(draw(np.arange(400)), tmp_path / "one.png")
        plots.save(draw(shuffle), tmp_path / "two.png")
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes(), name


def test_land_has_no_streak_across_the_map_and_keeps_every_country():
    (axes,) = maps.split_map([0], [0], ["test"]).axes
    land = next(artist for artist in axes.collections if isinstance(artist, PathCollection)).get_paths()
    assert len(land) == len(places.outlines())
    for path in land:
        for ring in path.to_polygons(closed_only=False):
            steps = np.abs(np.diff(ring, axis=0))
            # Antarctica follows the foot of the map, and rightly.
            above = np.minimum(ring[1:, 1], ring[:-1, 1]) > maps.project(-84, 0)[0, 1]
            assert steps[above, 0].max(initial=0) < 2500  # the longest is the 49th parallel, of 2,200 km
    square_km = sum(shapely.Polygon(ring).area for path in land for ring in path.to_polygons() if len(ring) > 3)
    assert 0.28 < square_km / (4 * np.pi * 6371**2) < 0.30  # land is 29 % of the Earth, and the map keeps areas


@pytest.mark.parametrize("level", [1, 2, 4])
def test_s2_cells_cover_the_map_once_with_their_true_areas(level):
    cells = cells_at_level(level)
    pieces, owner = maps.flat_polygons(cells)
    area = np.bincount(owner, weights=[shapely.Polygon(piece).area for piece in pieces], minlength=len(cells))
    faces = [s2sphere.CellId.from_face_pos_level(face, 0, 0) for face in range(6)]
    true = [s2sphere.Cell(child).exact_area() * 6371**2 for face in faces for child in face.children(level)]
    np.testing.assert_allclose(area, true, rtol=0.005)
    assert len(pieces) == len(cells)  # the date line is an edge of cells, so it cuts none


def test_a_cell_in_two_pieces_touches_both_edges_of_the_map():
    square = shapely.Polygon([(179, 10), (-179, 10), (-179, 12), (179, 12)])
    pieces, owner = maps.flat_polygons([square])
    assert owner.tolist() == [0, 0]
    spans = sorted((piece[:, 0].min(), piece[:, 0].max()) for piece in pieces)
    assert spans[0][1] < -16_000
    assert spans[1][0] > 16_000
    assert all(high - low < 300 for low, high in spans)


def test_a_polygon_around_a_pole_is_refused():
    with pytest.raises(ValueError, match="number 0 holds a pole inside"):
        maps.flat_polygons([shapely.Polygon([(-135, 70), (-45, 70), (45, 70), (135, 70)])])
    assert maps.flat_polygons([])[0] == []


def test_cells_map_colours_each_cell_by_its_photos():
    cells = cells_at_level(2)
    counts = np.arange(51, 51 + len(cells))
    figure = maps.cells_map({"coarse": (cells, counts)})
    drawn = next(artist for artist in figure.axes[0].collections if isinstance(artist, PolyCollection))
    assert set(np.asarray(drawn.get_array())) == set(counts)
    assert drawn.norm.vmin == 51
    assert figure.axes[-1].get_xlabel() == "Training photos per cell"
    with pytest.raises(ValueError, match="'coarse' has 96 cells but 1 counts"):
        maps.cells_map({"coarse": (cells, [51])})


def test_density_counts_every_photo():
    rng = np.random.default_rng(7)
    figure = maps.density_map(rng.uniform(-90, 90, 5000), rng.uniform(-180, 180, 5000))
    drawn = next(artist for artist in figure.axes[0].collections if isinstance(artist, PolyCollection))
    assert np.sum(drawn.get_array()) == 5000
    assert "5,000 photos in all" in figure.axes[-1].get_xlabel()


def test_split_map_draws_every_photo_in_its_splits_colour():
    figure = maps.split_map([1, 2, 3], [1, 2, 3], ["train", "train", "test"])
    dots = [artist for artist in figure.axes[0].collections if isinstance(artist, PathCollection)][-1]
    train, test = (colors.to_rgba(plots.SPLIT_COLORS[name]) for name in ("train", "test"))
    np.testing.assert_allclose(dots.get_facecolors(), [train, train, test])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["train: 2", "test: 1"]
    with pytest.raises(ValueError, match="'dev' is no split"):
        maps.split_map([1], [1], ["dev"])


def test_a_hundred_thousand_coordinates_project_like_scalars():
    rng = np.random.default_rng(7)
    latitude, longitude = rng.uniform(-90, 90, 100_000), rng.uniform(-180, 180, 100_000)
    positions = maps.project(latitude, longitude)
    np.testing.assert_array_equal(positions[99], maps.project(latitude[99], longitude[99])[0])
    assert np.abs(positions).max() < 17_244
    lines = [artist for artist in maps.density_map([0], [0]).axes[0].collections if isinstance(artist, LineCollection)]
    assert len(lines[0].get_segments()) == 11 + 5  # the graticule


def test_located_photos_are_drawn_in_the_colour_of_their_state():
    assert tuple(maps.STATE_COLORS) == enriching.STATES
    state = [enriching.INSIDE] * 3 + [enriching.NONE]
    figure = maps.located_map([1, 2, 3, 40], [5, 6, 7, 80], state)
    dots = [
        drawn for drawn in figure.axes[0].collections if isinstance(drawn, PathCollection) and len(drawn.get_sizes())
    ]
    found = {colors.to_hex(drawn.get_facecolor()[0]).upper(): np.asarray(drawn.get_offsets()) for drawn in dots}
    np.testing.assert_allclose(found[maps.STATE_COLORS[enriching.INSIDE]], maps.project([1, 2, 3], [5, 6, 7]))
    np.testing.assert_allclose(found[maps.STATE_COLORS[enriching.NONE]], maps.project([40], [80]))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["inside a region: 3", "no country: 1"]


def test_the_map_of_regions_colours_those_that_have_photos():
    photos = np.zeros(len(places.regions()), dtype=int)
    photos[[5, 700]] = 10, 1000
    figure = maps.region_map(photos)
    (drawn,) = [
        collection
        for collection in figure.axes[0].collections
        if isinstance(collection, PathCollection) and len(collection.get_paths()) == 2
    ]
    viridis = plt.get_cmap("viridis")
    np.testing.assert_allclose(drawn.get_facecolor(), [viridis(0.0), viridis(1.0)])
    middle = drawn.get_paths()[0].get_extents()
    west, south, east, north = places.regions().geometry.iloc[5].bounds
    box = maps.project([south, north, south, north], [west, east, east, west])
    np.testing.assert_allclose([middle.x0, middle.x1], [box[:, 0].min(), box[:, 0].max()], atol=60)
    np.testing.assert_allclose([middle.y0, middle.y1], [box[:, 1].min(), box[:, 1].max()], atol=10)


def test_hexagons_have_equal_areas_the_median_of_their_photos_and_a_size_by_their_number():
    rng = np.random.default_rng(7)
    latitude, longitude = np.repeat([0.2, 30.0, -40.0], [25, 9, 3]), np.repeat([0.1, 80.0, -100.0], [25, 9, 3])
    distance_km = rng.lognormal(6, 2, 37)
    (axes, bar) = maps.median_error_map(latitude, longitude, distance_km).axes
    drawn = next(artist for artist in axes.collections if isinstance(artist, PolyCollection))
    outlines = [shapely.Polygon(path.vertices[:-1]) for path in drawn.get_paths()]
    found = dict(zip(np.asarray(drawn.get_array()), outlines, strict=True))
    parts = np.split(distance_km, [25, 34])
    for part, at, share in zip(parts, ([0.2, 0.1], [30, 80], [-40, -100]), (1, 0.75, 0.5), strict=True):
        outline = found[np.median(part)]
        assert outline.area == pytest.approx(share**2 * maps.HEXAGON_KM2)
        spacing_km = np.sqrt(2 / np.sqrt(3) * maps.HEXAGON_KM2)
        position = shapely.Point(maps.project(*at)[0])
        assert outline.centroid.distance(position) <= spacing_km / np.sqrt(3)
    assert "500,000 km²; 37 photos" in bar.get_xlabel()


@given(st.lists(st.tuples(LATITUDE, LONGITUDE), min_size=1, max_size=20))
def test_photos_lie_in_the_hexagon_of_their_nearest_centre(places_of_photos):
    positions = maps.project(*np.array(places_of_photos).T)
    centres = maps._hexagon_centres(positions)
    spacing = maps._hexagon_spacing_km()
    angle = np.radians(60 * np.arange(6))
    around = centres[:, None] + spacing * np.column_stack([np.cos(angle), np.sin(angle)])
    own = np.linalg.norm(positions - centres, axis=1)
    assert (own[:, None] <= np.linalg.norm(positions[:, None] - around, axis=2) + 1e-6).all()


def test_a_gallery_shows_each_photo_its_two_places_and_how_far_apart_they_are():
    table = guesses(3).assign(country=["France", "Chad", "no country"], guessed_country=["France", "Peru", "Japan"])
    images = [np.full((*shape, 3), 40 * number, np.uint8) for number, shape in enumerate([(4, 6), (6, 4), (5, 5)])]
    figure = maps.photo_gallery(images, table)
    photos, charts = figure.axes[::2], figure.axes[1::2]
    across, up = figure.get_size_inches()
    for axes, image in zip(photos, images, strict=True):
        (drawn,) = (artist for artist in axes.get_children() if isinstance(artist, AxesImage))
        np.testing.assert_array_equal(drawn.get_array(), image)
        box = axes.get_position()
        assert box.width * across / (box.height * up) == pytest.approx(image.shape[1] / image.shape[0])
    for axes, row in zip(charts, table.itertuples(), strict=True):
        guess, truth = [drawn for drawn in axes.collections if isinstance(drawn, PathCollection)][-2:]
        np.testing.assert_allclose(truth.get_offsets(), maps.project(row.latitude, row.longitude))
        np.testing.assert_allclose(guess.get_offsets(), maps.project(row.predicted_latitude, row.predicted_longitude))
        line = next(drawn for drawn in axes.collections if isinstance(drawn, LineCollection)).get_segments()
        np.testing.assert_allclose([line[0][0], line[-1][-1]], [truth.get_offsets()[0], guess.get_offsets()[0]])
    captions = [text.get_text() for text in figure.texts][:3]
    assert captions == ["< 0.1 km\nFrance\n→ France", "14 km\nChad\n→ Peru", "20,000 km\nno country\n→ Japan"]
    with pytest.raises(ValueError, match="3 images and 2 rows: give one row per image"):
        maps.photo_gallery(images, table[:2])
    with pytest.raises(ValueError, match="0 images and 0 rows"):
        maps.photo_gallery([], table[:0])


def test_an_explained_guess_is_shown_with_its_map_how_sure_it_is_and_the_truth():
    table = guesses(2).assign(country=["Fiji", "Chad"], guessed_country=["Peru", "Chad"], named=["cell 12", "Chad"])
    table = table.assign(confidence=[0.25, np.nan], radius_50_km=[1234.5, np.nan])
    views = [np.full((4, 4, 3), 40 * number, np.uint8) for number in (1, 2)]
    evidence = [np.eye(4, dtype=np.float32), np.zeros((4, 4), np.float32)]
    figure = maps.explained_gallery(views, evidence, table)
    images = [artist for axes in figure.axes for artist in axes.get_children() if isinstance(artist, AxesImage)]
    shown = [image.get_array() for image in images]
    for number in (0, 1):
        np.testing.assert_array_equal(shown[2 * number], views[number])
        np.testing.assert_array_equal(shown[2 * number + 1], plots.overlaid(views[number], evidence[number]))
    assert [text.get_text() for text in figure.texts][:2] == [
        "→ cell 12\nPeru\n25 % sure\n50 % in 1,234 km\noff by < 0.1 km\ntrue: Fiji",
        "→ Chad\noff by 20,000 km\ntrue: Chad",
    ]
    with pytest.raises(ValueError, match="2 photos, 1 maps and 2 rows: give one of each"):
        maps.explained_gallery(views, evidence[:1], table)


def test_radii_are_drawn_for_the_surest_and_for_the_least_sure_photo():
    table, likeliest = with_radii(30)
    figure = maps.radius_maps(table, likeliest)
    titles = [text.get_text() for text in figure.texts]
    assert any(title.startswith("radii 0 and 0 km; 1,234 km off") for title in titles)
    assert any(title.startswith("radii 20,015 and 20,015 km") for title in titles)
    assert len(figure.axes) == 4
