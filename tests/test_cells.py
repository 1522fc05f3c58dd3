"""`helpers.cells` against plain s2sphere, the published lists, and bad input."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import s2_reference
import s2sphere
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers import cells, paths

PUBLISHED = paths.SOURCE.parent / "shared" / "published" / "geo-cells"
REAL_PHOTOS = paths.SOURCE.parent / "shared" / "photos" / "photos.csv"

# Where rounding decides the cell: poles, date line, and the edges and corners of the cube's faces.
CORNER_LATITUDE = math.degrees(math.atan(math.sqrt(0.5)))
_LATITUDE_EDGES = [0.0, -0.0, 45.0, -45.0, 90.0, -90.0, CORNER_LATITUDE, -CORNER_LATITUDE]
_LONGITUDE_EDGES = [45.0 * k for k in range(-4, 5)]


def _degrees(edges: list[float], limit: float) -> st.SearchStrategy[float]:
    on_edge = st.sampled_from(edges)
    beside_edge = st.builds(np.nextafter, on_edge, st.sampled_from([-limit, limit])).map(float)
    near_edge = st.builds(lambda edge, offset: min(max(edge + offset, -limit), limit), on_edge, st.floats(-1e-6, 1e-6))
    return st.one_of(on_edge, beside_edge, near_edge, st.floats(-limit, limit))


PLACES = st.tuples(_degrees(_LATITUDE_EDGES, 90.0), _degrees(_LONGITUDE_EDGES, 180.0))


@st.composite
def photos(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Latitudes and longitudes with spots that were photographed many times, in any order."""
    spots = draw(st.lists(st.tuples(PLACES, st.integers(1, 8)), min_size=1, max_size=12))
    places = draw(st.permutations([place for place, times in spots for _ in range(times)]))
    return [place[0] for place in places], [place[1] for place in places]


def _clustered(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    city = generator.integers(0, 20, size)
    spread = generator.lognormal(-2, 2, size)
    latitude = np.clip(generator.uniform(-80, 80, 20)[city] + spread * generator.standard_normal(size), -90, 90)
    longitude = generator.uniform(-180, 180, 20)[city] + spread * generator.standard_normal(size)
    return latitude, (longitude + 180) % 360 - 180


def _assert_equals_reference(latitude: list[float], longitude: list[float], min_photos: int, max_photos: dict) -> None:
    leaves = s2_reference.leaves(latitude, longitude)
    expected = {
        name: s2_reference.build(leaves, latitude, longitude, min_photos, limit) for name, limit in max_photos.items()
    }
    if not all(expected.values()):
        with pytest.raises(ValueError, match="min_photos"):
            cells.build_all(latitude, longitude, min_photos=min_photos, max_photos=max_photos)
        return
    partitions = cells.build_all(latitude, longitude, min_photos=min_photos, max_photos=max_photos)
    labels = cells.labels_all(partitions, cells.leaf_ids(latitude, longitude))
    assert list(partitions) == list(max_photos)
    for name, partition in partitions.items():
        reference = expected[name]
        assert partition.name == name
        assert partition.ids.tolist() == [cell.id() for cell in reference]
        assert partition.imgs_per_cell.tolist() == [len(cell.photos) for cell in reference.values()]
        assert labels[name].tolist() == s2_reference.labels(reference, leaves)
        for mean in ("latitude_mean", "longitude_mean"):
            np.testing.assert_allclose(
                getattr(partition, mean), [getattr(cell, mean) for cell in reference.values()], rtol=1e-15, atol=2**-60
            )
    finest, *coarser = reversed(partitions)
    np.testing.assert_array_equal(
        cells.hierarchy(partitions[finest], *(partitions[name] for name in coarser)),
        np.array([s2_reference.hierarchy(expected[finest], expected[name]) for name in coarser]).reshape(
            len(coarser), -1
        ),
    )


# ---------------------------------------------------------------------------------------------------------- leaf cells


@pytest.mark.parametrize(
    ("latitude", "longitude", "token"),
    [
        (0.0, 0.0, "1000000000000001"),
        (90.0, 0.0, "5000000000000001"),
        (-90.0, 0.0, "b000000000000001"),
        (CORNER_LATITUDE, 45.0, "4000000000000001"),
        (48.8584, 2.2945, "47e66fe1f36a36a5"),  # Eiffel Tower
        (40.6892, -74.0445, "89c25088d6fe3dd9"),  # Statue of Liberty
        (-33.8568, 151.2153, "6b12ae669072a21f"),  # Sydney Opera House
        (-17.0, 180.0, "6e1fdf561d589d57"),  # Fiji, on the date line from the west
        (-17.0, -180.0, "71e020a9e2a762a9"),  # … and from the east
    ],
)
def test_famous_places_have_their_known_leaf_cells(latitude: float, longitude: float, token: str) -> None:
    assert cells.tokens(cells.leaf_ids([latitude], [longitude])).tolist() == [token]


@settings(max_examples=400, deadline=None)
@given(st.lists(PLACES, max_size=20))
def test_leaf_ids_equal_s2sphere_on_poles_date_line_and_face_edges(places: list[tuple[float, float]]) -> None:
    latitude, longitude = [place[0] for place in places], [place[1] for place in places]
    ids = cells.leaf_ids(latitude, longitude)
    assert ids.dtype == np.uint64
    assert ids.tolist() == [cell.id() for cell in s2_reference.leaves(latitude, longitude)]


def test_leaf_ids_equal_s2sphere_all_over_the_sphere_and_over_several_blocks() -> None:
    generator = np.random.default_rng(1)
    latitude = np.degrees(np.arcsin(generator.uniform(-1, 1, 70_000)))
    longitude = generator.uniform(-180, 180, 70_000)
    expected = [cell.id() for cell in s2_reference.leaves(latitude.tolist(), longitude.tolist())]
    assert cells.leaf_ids(latitude, longitude).tolist() == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PLACES, st.integers(0, 30)), min_size=1, max_size=20))
def test_tokens_and_levels_equal_s2sphere_and_tokens_give_the_ids_back(
    places: list[tuple[tuple[float, float], int]],
) -> None:
    expected = [
        s2_reference.leaves([latitude], [longitude])[0].parent(depth) for (latitude, longitude), depth in places
    ]
    ids = np.array([cell.id() for cell in expected], np.uint64)
    assert cells.tokens(ids).tolist() == [cell.to_token() for cell in expected]
    assert cells.level(ids).tolist() == [depth for _, depth in places]
    assert cells.ids_from_tokens(cells.tokens(ids)).tolist() == ids.tolist()


@pytest.mark.parametrize(
    ("latitude", "longitude", "message"),
    [
        ([0, 95], [0, 0], r"latitude 95\.0 in row 1 .* swapped"),
        ([0, 0], [0, -180.5], r"longitude -180\.5 in row 1 .* -180 to 180"),
        ([0, math.nan, 91], [0, 0, 0], "latitude nan in row 1"),
        ([0], [math.inf], "longitude inf in row 0"),
        ([0, 1], [0], "one length"),
        ([[0]], [[0]], "one length"),
    ],
)
def test_a_bad_coordinate_is_named(latitude: list, longitude: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cells.leaf_ids(latitude, longitude)
    with pytest.raises(ValueError, match=message):
        cells.build(latitude, longitude, name="coarse", min_photos=0, max_photos=1)


@pytest.mark.parametrize("token", ["", "xyz", "4.7e64", "47E63", "0", "c1", "47e66fe1f36a36a50", 47e63])
def test_what_is_no_token_is_refused(token: object) -> None:
    with pytest.raises(ValueError, match=r"of a cell|S2 cell"):
        cells.ids_from_tokens(["47e63", token])  # type: ignore[list-item]


@pytest.mark.parametrize("number", [0, 2, 0xC100000000000000])
def test_a_number_that_is_no_cell_has_neither_level_nor_token(number: int) -> None:
    for function in (cells.level, cells.tokens):
        with pytest.raises(ValueError, match=f"{number:016x} is not the id of an S2 cell"):
            function([number])


# ---------------------------------------------------------------------------------- partitions, labels and hierarchy


@settings(max_examples=250, deadline=None)
@given(photos(), st.integers(0, 5), st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12)))
@example(([90.0] * 9 + [89.0], [180.0, -180.0, 0.0, 45.0, -45.0, 90.0, -90.0, 1.0, 2.0, 3.0]), 1, (1, 1, 1))
@example(([0.0] * 4 + [-0.0] * 4, [-180.0, 180.0] * 4), 0, (1, 2, 3))
def test_partitions_labels_and_hierarchy_equal_the_reference(
    places: tuple[list[float], list[float]], min_photos: int, more: tuple[int, int, int]
) -> None:
    limits = sorted((min_photos + extra for extra in more), reverse=True)
    _assert_equals_reference(*places, min_photos, dict(zip(cells.PARTITIONS, limits, strict=True)))


def test_partitions_of_clustered_photos_equal_the_reference() -> None:
    latitude, longitude = (values.tolist() for values in _clustered(4_000))
    _assert_equals_reference(latitude, longitude, 10, {"coarse": 400, "middle": 100, "fine": 40})


def test_partitions_of_real_photos_equal_the_reference() -> None:
    if not REAL_PHOTOS.is_file():
        pytest.skip(f"no real photos at {REAL_PHOTOS}")
    table = pd.read_csv(REAL_PHOTOS)
    latitude, longitude = table["latitude"].tolist(), table["longitude"].tolist()
    _assert_equals_reference(latitude, longitude, 5, {"coarse": 200, "middle": 80, "fine": 30})


def test_a_spot_with_more_than_max_photos_is_one_cell_of_level_30() -> None:
    latitude, longitude = [48.8584] * 12 + [-33.8568] * 3, [2.2945] * 12 + [151.2153] * 3
    partition = cells.build(latitude, longitude, name="fine", min_photos=2, max_photos=10)
    assert cells.tokens(partition.ids).tolist() == ["47e66fe1f36a36a5", "6b"]
    assert cells.level(partition.ids).tolist() == [30, 2]
    assert partition.imgs_per_cell.tolist() == [12, 3]
    assert cells.labels(partition, cells.leaf_ids(latitude, longitude)).tolist() == [0] * 12 + [1] * 3


def test_a_cell_is_kept_above_min_photos_and_split_above_max_photos() -> None:
    latitude, longitude = [10.0] * 5 + [10.4] * 5, [20.0] * 5 + [20.4] * 5
    whole = cells.build(latitude, longitude, name="coarse", min_photos=9, max_photos=10)
    assert (cells.level(whole.ids).tolist(), whole.imgs_per_cell.tolist()) == ([2], [10])
    halves = cells.build(latitude, longitude, name="fine", min_photos=4, max_photos=9)
    assert halves.imgs_per_cell.tolist() == [5, 5]
    with pytest.raises(ValueError, match=r"'coarse'.*10 photos has more than min_photos 10 .*lower min_photos"):
        cells.build(latitude, longitude, name="coarse", min_photos=10, max_photos=11)


@settings(max_examples=60, deadline=None)
@given(photos(), st.integers(0, 2**32))
def test_no_bit_of_a_partition_depends_on_the_order_of_the_photos(
    places: tuple[list[float], list[float]], seed: int
) -> None:
    latitude, longitude = np.array(places)
    shuffled = np.random.default_rng(seed).permutation(len(latitude))
    one = cells.build(latitude, longitude, name="fine", min_photos=0, max_photos=4)
    other = cells.build(latitude[shuffled], longitude[shuffled], name="fine", min_photos=0, max_photos=4)
    for field in ("ids", "imgs_per_cell", "latitude_mean", "longitude_mean"):
        assert getattr(one, field).tobytes() == getattr(other, field).tobytes()


def test_means_of_many_photos_are_those_of_exact_sums() -> None:
    latitude, longitude = _clustered(50_000, seed=3)
    partition = cells.build(latitude, longitude, name="coarse", min_photos=50, max_photos=20_000)
    label = cells.labels(partition, cells.leaf_ids(latitude, longitude))
    for mean, values in ((partition.latitude_mean, latitude), (partition.longitude_mean, longitude)):
        assert mean.tolist() == [
            math.fsum(values[label == cell]) / np.count_nonzero(label == cell) for cell in range(len(partition))
        ]


@settings(max_examples=100, deadline=None)
@given(photos(), st.lists(PLACES, max_size=10))
def test_photos_of_another_set_get_the_label_of_the_cell_around_them_or_none(
    places: tuple[list[float], list[float]], others: list[tuple[float, float]]
) -> None:
    partition = cells.build(*places, name="fine", min_photos=0, max_photos=4)
    around = [s2sphere.CellId(cell) for cell in partition.ids.tolist()]
    labels = cells.labels(partition, cells.leaf_ids([place[0] for place in others], [place[1] for place in others]))
    for place, label in zip(others, labels.tolist(), strict=True):
        (leaf,) = s2_reference.leaves([place[0]], [place[1]])
        assert [index for index, cell in enumerate(around) if cell.contains(leaf)] == [label] * (label >= 0)


def test_known_leaves_give_the_same_partition_and_those_of_other_photos_are_refused() -> None:
    latitude, longitude = _clustered(1_000)
    thresholds = {"min_photos": 2, "max_photos": {"fine": 30}}
    leaves = cells.leaf_ids(latitude, longitude)
    one = cells.build_all(latitude, longitude, **thresholds)["fine"]
    other = cells.build_all(latitude, longitude, leaves=leaves, **thresholds)["fine"]
    assert one.ids.tobytes() + one.latitude_mean.tobytes() == other.ids.tobytes() + other.latitude_mean.tobytes()
    with pytest.raises(ValueError, match="999 leaves of 1000 photos"):
        cells.build_all(latitude, longitude, leaves=leaves[1:], **thresholds)


def test_class_labels_follow_the_partition_even_when_its_cells_are_not_sorted() -> None:
    latitude, longitude = _clustered(3_000)
    by_id = cells.build(latitude, longitude, name="fine", min_photos=5, max_photos=100)
    order = np.random.default_rng(0).permutation(len(by_id))
    shuffled = cells.Partition(
        "published",
        *(column[order] for column in (by_id.ids, by_id.imgs_per_cell, by_id.latitude_mean, by_id.longitude_mean)),
    )
    labels = cells.labels(shuffled, cells.leaf_ids(latitude, longitude))
    assert (labels >= 0).sum() == by_id.imgs_per_cell.sum()
    np.testing.assert_array_equal(
        np.where(labels >= 0, order[labels], -1), cells.labels(by_id, cells.leaf_ids(latitude, longitude))
    )
    np.testing.assert_array_equal(cells.hierarchy(shuffled, by_id, shuffled), [order, np.arange(len(order))])


def test_a_fine_cell_without_ancestor_is_an_error_that_names_cell_and_partition() -> None:
    paris = cells.build([48.85] * 3, [2.29] * 3, name="fine", min_photos=1, max_photos=5)
    sydney = cells.build([-33.86] * 3, [151.2] * 3, name="middle", min_photos=1, max_photos=5)
    with pytest.raises(ValueError, match="cell 47 of partition 'fine' lies in no cell of partition 'middle'"):
        cells.hierarchy(paris, paris, sydney)
    spot = cells.build([48.85] * 3, [2.29] * 3, name="middle", min_photos=1, max_photos=2)
    with pytest.raises(ValueError, match="cell 47 of partition 'fine'"):
        cells.hierarchy(paris, spot)  # smaller cells inside a cell are not its ancestors


@pytest.mark.parametrize(("min_photos", "max_photos"), [(-1, 5), (5, 5), (50, 10)])
def test_impossible_thresholds_are_refused(min_photos: int, max_photos: int) -> None:
    with pytest.raises(ValueError, match=rf"'coarse'.*{min_photos}.*{max_photos}.*0 <= min_photos < max_photos"):
        cells.build([0.0] * 99, [0.0] * 99, name="coarse", min_photos=min_photos, max_photos=max_photos)


def test_no_photos_make_no_partition_and_no_labels() -> None:
    with pytest.raises(ValueError, match="0 photos"):
        cells.build([], [], name="coarse", min_photos=0, max_photos=1)
    paris = cells.build([48.85], [2.29], name="fine", min_photos=0, max_photos=5)
    assert cells.labels(paris, cells.leaf_ids([], [])).shape == (0,)


# --------------------------------------------------------------------------------------------------------------- files


def test_a_partition_comes_back_from_its_file_bit_for_bit(tmp_path: Path) -> None:
    partition = cells.build(*_clustered(20_000), name="fine", min_photos=2, max_photos=20)
    cells.write(partition, tmp_path / "new folder" / "fine.csv")
    again = cells.read(tmp_path / "new folder" / "fine.csv", "fine")
    for field in ("ids", "imgs_per_cell", "latitude_mean", "longitude_mean"):
        assert getattr(again, field).dtype == getattr(partition, field).dtype
        assert getattr(again, field).tobytes() == getattr(partition, field).tobytes()
    header, first, *_ = (tmp_path / "new folder" / "fine.csv").read_text().splitlines()
    assert header == "class_label,hex_id,imgs_per_cell,latitude_mean,longitude_mean"
    assert first.startswith(f"0,{cells.tokens(partition.ids)[0]},{partition.imgs_per_cell[0]},")


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "fine.csv").mkdir()  # a folder is in the way of the file
    partition = cells.build([48.85], [2.29], name="fine", min_photos=0, max_photos=5)
    with pytest.raises(OSError, match=r"fine\.csv"):
        cells.write(partition, tmp_path / "fine.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["fine.csv"]


HEADER = "class_label,hex_id,imgs_per_cell,latitude_mean,longitude_mean\n"


@pytest.mark.parametrize("comments", ["", "num_images: 9\n", "num_images: 9\nwhat, ever: ---\n\n", "\ufeff"])
def test_lines_above_the_column_names_and_other_columns_are_left_aside(tmp_path: Path, comments: str) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(
        comments + "hex_id,class_label,note,imgs_per_cell,latitude_mean,longitude_mean\n"
        "47e63,1,a,7,48.5,2.5\n89c25,0,b,8,40.7,-74.0\n"
    )
    partition = cells.read(path, "coarse")
    assert cells.tokens(partition.ids).tolist() == ["89c25", "47e63"]
    assert partition.imgs_per_cell.tolist() == [8, 7]
    assert partition.longitude_mean.tolist() == [-74.0, 2.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns missing: class_label, hex_id, imgs_per_cell, latitude_mean, longitude_mean"),
        ("class_label,hex_id,latitude_mean\n0,47e63,48.5\n", "columns missing: imgs_per_cell, longitude_mean"),
        (HEADER, "no cell"),
        (HEADER + "0,4.7e64,7,48.5,2.5\n", r"'4\.7e64' is not the hex token"),
        (HEADER + "0,c1,7,48.5,2.5\n", "0xc100000000000000 is not the id of an S2 cell"),
        (HEADER + "0,,7,48.5,2.5\n", "'' is not the hex token"),
        (HEADER + "0,47e63,7,48.5,2.5\n1,47e63,7,48.5,2.5\n", "cell 47e63 occurs twice"),
        (HEADER + "0,47e63,7,48.5,2.5\n1,89c25,7,48.5,2.5\n2,47e62c,7,48.5,2.5\n", "47e63.* overlap|overlap.*47e63"),
        (HEADER + "1,47e63,7,48.5,2.5\n", "0 to 0, each once, but that fails for 0"),
        (HEADER + "0,47e63,7,48.5,2.5\n0,89c25,7,48.5,2.5\n", "0 to 1, each once, but that fails for 1"),
        (HEADER + "x,47e63,7,48.5,2.5\n", "invalid value 'x'"),
        (HEADER + "0,47e63,7.5,48.5,2.5\n", r"invalid value '7\.5'"),
        (HEADER + "0,47e63,0,48.5,2.5\n", "47e63 has imgs_per_cell 0"),
        (HEADER + "0,47e63,7,nan,2.5\n", "mean latitude nan in row 0"),
        (HEADER + "0,47e63,7,,2.5\n", "invalid value ''"),
        (HEADER + "0,47e63,7,48.5,200\n", r"mean longitude 200\.0 in row 0"),
        (HEADER + "0,47e63,7,48.5\n", "Expected 5 columns, got 4"),
        ("a,b\n" * 20_000 + HEADER + "0,47e63,7,48.5,2.5\n", "columns missing"),
    ],
)
def test_a_malformed_list_is_refused_with_file_and_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cells.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"(?s)cells\.csv is not a usable list of cells: .*({message})"):
        cells.read(path, "coarse")


def test_binary_rubbish_and_huge_files_are_refused(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.csv"
    rubbish.write_bytes(HEADER.encode() + b"0,\xff\xfe\x00,7,48.5,2.5\n")
    with pytest.raises(ValueError, match=r"rubbish\.csv is not a usable list"):
        cells.read(rubbish, "coarse")
    huge = tmp_path / "huge.csv"
    with huge.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ValueError, match=r"huge\.csv is larger than 256 MiB"):
        cells.read(huge, "coarse")


def test_a_missing_list_is_an_error_that_names_the_notebook(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'coarse' is not at .*03_partitioning/build_cells\.ipynb"):
        cells.read(tmp_path / "coarse.csv", "coarse")


def test_the_published_lists_load_and_nest() -> None:
    if not PUBLISHED.is_dir():
        pytest.skip(f"no published lists at {PUBLISHED}")
    coarse, middle, fine = (
        cells.read(PUBLISHED / f"cells_{cells.PAPER_MIN_PHOTOS}_{cells.PAPER_MAX_PHOTOS[name]}.csv", name)
        for name in cells.PARTITIONS
    )
    facts = {"coarse": (3_298, 4_718_111, 14), "middle": (7_202, 4_702_026, 16), "fine": (12_893, 4_658_503, 30)}
    for partition in (coarse, middle, fine):
        levels = cells.level(partition.ids)
        assert (len(partition), partition.imgs_per_cell.sum(), levels.max()) == facts[partition.name]
        assert levels.min() == 2
        assert partition.imgs_per_cell.min() > cells.PAPER_MIN_PHOTOS
        assert set(levels[partition.imgs_per_cell > cells.PAPER_MAX_PHOTOS[partition.name]]) <= {30}
    assert np.count_nonzero(cells.level(fine.ids) == 30) == 3
    assert cells.tokens(coarse.ids[:2]).tolist() == ["8744", "364"]

    ancestors = cells.hierarchy(fine, middle, coarse)
    assert ancestors.shape == (2, 12_893)
    for row, partition in zip(ancestors, (middle, coarse), strict=True):
        for cell, ancestor in zip(fine.ids.tolist(), partition.ids[row].tolist(), strict=True):
            assert s2sphere.CellId(ancestor).contains(s2sphere.CellId(cell))
        photos_inside = np.bincount(row, fine.imgs_per_cell, len(partition))
        # The published coarse cell 135c counts one photo fewer than the fine cells inside it.
        excess = photos_inside - partition.imgs_per_cell
        assert cells.tokens(partition.ids[excess > 0]).tolist() == ["135c"] * (partition is coarse)
        assert excess.max() <= 1


# ---------------------------------------------------------------------------------------------------------------- maps


def _all_cells_of(depth: int) -> cells.Partition:
    ids = np.array([cell.id() for cell in s2sphere.CellId.walk(depth)], np.uint64)
    return cells.Partition("all", ids, np.ones(len(ids), np.int64), np.zeros(len(ids)), np.zeros(len(ids)))


@pytest.mark.parametrize("depth", [0, 1, 2, 5])
def test_the_outlines_of_all_cells_of_a_level_tile_the_map(depth: int) -> None:
    outlines = cells.polygons(_all_cells_of(depth))
    assert outlines.is_valid.all()
    assert outlines.total_bounds.tolist() == [-180, -90, 180, 90]
    assert shapely.area(outlines.to_numpy()).sum() == pytest.approx(360 * 180, rel=1e-12)
    assert shapely.union_all(outlines.to_numpy(), grid_size=1e-9).area == pytest.approx(360 * 180, rel=1e-9)
    if depth >= 1:  # a face around the pole is as wide as the map
        assert (outlines.bounds["maxx"] - outlines.bounds["minx"]).max() <= 90


def test_an_outline_has_the_corners_and_the_centre_that_s2sphere_gives() -> None:
    partition = cells.build(*_clustered(2_000), name="fine", min_photos=0, max_photos=3)
    assert set(cells.level(partition.ids)) >= set(range(2, 12))
    for cell, outline in zip(partition.ids.tolist(), cells.polygons(partition), strict=True):
        s2_cell = s2sphere.Cell(s2sphere.CellId(cell))
        corners = [s2sphere.LatLng.from_point(s2_cell.get_vertex(k)) for k in range(4)]
        centre = s2sphere.CellId(cell).to_lat_lng()
        assert outline.contains(shapely.Point(centre.lng().degrees, centre.lat().degrees))
        for corner in corners:
            longitude, latitude = corner.lng().degrees, corner.lat().degrees
            assert min(math.dist((longitude, latitude), vertex) for vertex in outline.exterior.coords) < 1e-9 or (
                abs(abs(longitude) - 180) < 1e-9 or abs(abs(latitude) - 90) < 1e-9
            )


def test_outlines_are_indexed_by_class_label_and_placed_on_the_earth() -> None:
    outlines = cells.polygons(cells.build([48.85, -33.9], [2.29, 151.2], name="fine", min_photos=0, max_photos=1))
    assert outlines.index.name == "class_label"
    assert outlines.index.tolist() == [0, 1]
    assert outlines.crs == "EPSG:4326"


def test_a_label_table_has_a_row_for_every_photo_and_null_outside_all_cells():
    photos = pd.DataFrame(
        {
            "id": ["c", "a", "b", "d"],
            "split": ["train", "train", "test", "test"],
            "latitude": [48.85, 48.86, 48.87, -33.9],
            "longitude": [2.29, 2.30, 2.31, 151.2],
        }
    )
    train = photos[photos["split"] == "train"]
    sizes = {"coarse": 9, "fine": 5}
    partitions = cells.build_all(train["latitude"], train["longitude"], min_photos=1, max_photos=sizes)
    table = cells.label_table(photos, partitions)
    assert table["id"].tolist() == ["c", "a", "b", "d"]
    assert table["coarse"].tolist() == [0, 0, 0, pd.NA]
    assert table["fine"].dtype == "Int64"
    summary = cells.summary(photos, table, partitions)
    assert summary.loc["coarse"].to_dict() == {
        "cells": 1, "smallest level": 2, "largest level": 2, "without a cell: train": 0, "without a cell: test": 1,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------- lists of any length


@pytest.mark.parametrize("block", [1, 7, 999, 1000, 10**6])
def test_partitions_do_not_depend_on_how_many_photos_are_summed_at_once(monkeypatch, block):
    latitude, longitude = _clustered(1_000)
    sizes = {"coarse": 100, "fine": 20}
    whole = cells.build_all(latitude, longitude, min_photos=2, max_photos=sizes)
    monkeypatch.setattr(cells, "_PHOTOS_PER_BLOCK", block)
    parts = cells.build_all(latitude, longitude, min_photos=2, max_photos=sizes)
    for name, partition in whole.items():
        for field in ("ids", "imgs_per_cell", "latitude_mean", "longitude_mean"):
            assert getattr(parts[name], field).tobytes() == getattr(partition, field).tobytes()


def _listed(size):
    latitude, longitude = _clustered(size)
    splits = np.array(["train", "validation", "test"], object)[np.random.default_rng(0).integers(0, 3, size)]
    splits[:10] = "train"  # so that the first part has no other
    ids = [f"{number:05d}" for number in range(size)]
    return pd.DataFrame({"id": ids, "latitude": latitude, "longitude": longitude, "split": splits})


@pytest.mark.parametrize("ends", [(), (10,), (10, 11, 2000)])
def test_labels_written_in_parts_are_those_of_the_whole_list(tmp_path, ends):
    photos = _listed(3_000)
    sizes = {"coarse": 200, "fine": 50}
    partitions = cells.build_all(photos["latitude"], photos["longitude"], min_photos=20, max_photos=sizes)
    whole = cells.label_table(photos, partitions)
    whole.to_parquet(tmp_path / "whole.parquet", index=False)
    parts = [photos[start:end] for start, end in zip((0, *ends), (*ends, 3_000), strict=True)]
    summary = cells.write_labels(iter(parts), partitions, tmp_path / "labels" / "parts.parquet")
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "labels" / "parts.parquet"), pd.read_parquet(tmp_path / "whole.parquet")
    )
    pd.testing.assert_frame_equal(summary, cells.summary(photos, whole, partitions))
    outside = photos["split"][whole["fine"].isna()].value_counts()
    assert outside.min() > 0
    assert summary.loc["fine"].filter(like="without").to_dict() == outside.add_prefix("without a cell: ").to_dict()


def test_labels_of_a_list_that_breaks_off_leave_nothing_behind(tmp_path):
    photos = _listed(100)
    partitions = {"fine": cells.build(photos["latitude"], photos["longitude"], name="fine", min_photos=1, max_photos=9)}

    def parts():
        yield photos[:50]
        raise ValueError("the rows are not those that the fingerprint names")

    with pytest.raises(ValueError, match="fingerprint"):
        cells.write_labels(parts(), partitions, tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match=r"labels\.parquet: give at least one part"):
        cells.write_labels([], partitions, tmp_path / "labels.parquet")
    assert list(tmp_path.iterdir()) == []
