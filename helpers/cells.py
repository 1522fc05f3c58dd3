"""S2 partitions and their hierarchy.

A partition divides the places where training photos were taken into cells of the S2 sphere, one class per cell: small
cells where photos are many, large ones where they are few, none where there are hardly any. The rule is that of
Müller-Budack et al., "Geolocation Estimation of Photos using a Hierarchical Model and Scene Classification" (ECCV
2018). Several partitions of the same photos form a hierarchy: a fine cell lies inside one cell of each coarser one.

A cell is named by its 64-bit S2 id (``uint64``) or by the id's hex digits without trailing zeros, its token. The
photos in a cell are a contiguous range of the sorted leaf ids, which is why nothing here loops over photos. A hundred
million of them take 32 bytes each.
"""

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import shapely
from numpy.typing import ArrayLike, NDArray

from helpers import paths

PARTITIONS = ("coarse", "middle", "fine")
PAPER_MAX_PHOTOS = {"coarse": 5000, "middle": 2000, "fine": 1000}
"""A cell with more photos than this is split (Müller-Budack et al., 2018)."""
PAPER_MIN_PHOTOS = 50
"""A cell is kept when it holds more photos than this (Müller-Budack et al., 2018)."""

COLUMNS = ("class_label", "hex_id", "imgs_per_cell", "latitude_mean", "longitude_mean")
"""Columns of a partition's CSV file, those of the published lists."""

_FIRST_LEVEL = 2
_LEAF_LEVEL = 30
_FACES = 6
_TOKEN = re.compile(r"[0-9a-f]{1,16}")
_HEADER_WITHIN_BYTES = 1 << 16
_PHOTOS_PER_BLOCK = 1 << 20
_MAX_FILE_BYTES = 1 << 28  # three million cells; the published fine list has 12,893

# The Hilbert curve on one face of the cube. A quadrant is 2 i + j, with i and j one bit each; an orientation is a bit
# that exchanges i and j and a bit (2) that inverts both.
_QUADRANT_AT = np.array([[0, 1, 3, 2], [0, 2, 3, 1], [3, 2, 0, 1], [3, 1, 0, 2]])  # [orientation, position]
_POSITION_OF = np.argsort(_QUADRANT_AT, axis=1)  # [orientation, quadrant]
_TURN_AT = np.array([1, 0, 0, 3])  # what a position changes about the orientation of its quadrant


@dataclass(frozen=True, eq=False)
class Partition:
    """The cells of one partition; a cell's class label is its place in the arrays.

    Attributes
    ----------
    name
        Such as ``coarse``; errors show it.
    ids : uint64, shape (cells,)
        S2 ids of the cells, none inside another.
    imgs_per_cell : int64, shape (cells,)
        Training photos in each cell.
    latitude_mean, longitude_mean : float64, shape (cells,)
        Arithmetic mean of the cell's training photos, in degrees: the coordinate that stands for the class.

    Raises
    ------
    ValueError
        If there is no cell, the arrays differ in length, an id is not that of an S2 cell, cells overlap, or a count
        or a mean is impossible.
    """

    name: str
    ids: NDArray[np.uint64]
    imgs_per_cell: NDArray[np.int64]
    latitude_mean: NDArray[np.float64]
    longitude_mean: NDArray[np.float64]

    def __post_init__(self) -> None:
        columns = (self.ids, self.imgs_per_cell, self.latitude_mean, self.longitude_mean)
        if len({column.shape for column in columns}) > 1 or self.ids.ndim != 1:
            raise ValueError(f"partition {self.name!r}: the columns differ in length")
        if not len(self):
            raise ValueError(f"partition {self.name!r} has no cell")
        first, last = _leaf_range(self.ids)
        order = np.argsort(first, kind="stable")
        clash = np.flatnonzero(last[order][:-1] >= first[order][1:])
        if len(clash):
            one, other = tokens(self.ids[order[clash[0] : clash[0] + 2]])
            what = f"cell {one} occurs twice" if one == other else f"cells {one} and {other} overlap"
            raise ValueError(f"partition {self.name!r}: {what}, so a photo there would have two labels")
        if (self.imgs_per_cell < 1).any():
            cell = int(np.argmax(self.imgs_per_cell < 1))
            count = self.imgs_per_cell[cell]
            raise ValueError(f"partition {self.name!r}: cell {tokens(self.ids)[cell]} has imgs_per_cell {count}")
        try:
            _checked_degrees(self.latitude_mean, self.longitude_mean)
        except ValueError as error:
            raise ValueError(f"partition {self.name!r}: mean {error}") from error

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def coordinates(self) -> NDArray[np.float64]:
        """Latitude and longitude that stand for each class, in degrees, of shape (cells, 2)."""
        return np.stack([self.latitude_mean, self.longitude_mean], axis=1)

    @property
    def training_photos(self) -> NDArray[np.int64]:
        """Number of training photos of each class, of shape (cells,)."""
        return self.imgs_per_cell


def leaf_ids(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.uint64]:
    """S2 ids of the leaf cells (level 30, about 1 cm) that hold the given coordinates.

    Parameters
    ----------
    latitude, longitude : float64, shape (photos,)
        In degrees, -90 to 90 and -180 to 180.

    Returns
    -------
    uint64, shape (photos,)

    Raises
    ------
    ValueError
        If a value is missing or out of range (the first such is named), or the lengths differ.

    Examples
    --------
    >>> tokens(leaf_ids([48.8584], [2.2945]))  # the Eiffel Tower
    array(['47e66fe1f36a36a5'], dtype='<U16')
    """
    latitude, longitude = _checked_degrees(latitude, longitude)
    ids = np.empty(len(latitude), np.uint64)

    def fill(rows: slice) -> None:
        ids[rows] = _leaf_ids_of_block(latitude[rows], longitude[rows])

    block = 1 << 15  # small enough for the temporary arrays to stay in the processor's cache
    with ThreadPoolExecutor() as pool:  # numpy lets other threads run while it computes
        list(pool.map(fill, [slice(start, start + block) for start in range(0, len(ids), block)]))
    return ids


def tokens(ids: ArrayLike) -> NDArray[np.str_]:
    """Hex tokens of cells.

    Raises
    ------
    ValueError
        If an id is not that of an S2 cell.

    Examples
    --------
    >>> tokens([0x47E6300000000000, 0x9000000000000000])
    array(['47e63', '9'], dtype='<U16')
    """
    return np.array([f"{cell:016x}".rstrip("0") for cell in _checked_ids(ids).tolist()], dtype="<U16")


def ids_from_tokens(hex_ids: Iterable[str]) -> NDArray[np.uint64]:
    """Ids of the cells with the given hex tokens.

    Raises
    ------
    ValueError
        If a token is not that of an S2 cell.

    Examples
    --------
    >>> [hex(cell) for cell in ids_from_tokens(["47e63", "9"])]
    ['0x47e6300000000000', '0x9000000000000000']
    """
    ids = []
    for token in hex_ids:
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise ValueError(
                f"{token!r} is not the hex token of a cell: 1 to 16 digits 0-9 a-f, read as text "
                "(a reader that guesses turns '47e63' into a number)"
            )
        ids.append(int(token.ljust(16, "0"), 16))
    return _checked_ids(np.array(ids, np.uint64))


def level(ids: ArrayLike) -> NDArray[np.int64]:
    """S2 levels of cells, 0 (a sixth of the Earth) to 30 (about 1 cm).

    Raises
    ------
    ValueError
        If an id is not that of an S2 cell.

    Examples
    --------
    >>> level(ids_from_tokens(["9", "47e63", "47e66fe1f36a36a5"]))
    array([ 0,  8, 30])
    """
    return _LEAF_LEVEL - (np.frexp(_lowest_bit(_checked_ids(ids)).astype(np.float64))[1].astype(np.int64) - 1) // 2


def build(latitude: ArrayLike, longitude: ArrayLike, *, name: str, min_photos: int, max_photos: int) -> Partition:
    """Build one partition: `build_all` says how, and shares the work when there are several."""
    return build_all(latitude, longitude, min_photos=min_photos, max_photos={name: max_photos})[name]


def build_all(
    latitude: ArrayLike,
    longitude: ArrayLike,
    *,
    min_photos: int,
    max_photos: Mapping[str, int],
    leaves: NDArray[np.uint64] | None = None,
) -> dict[str, Partition]:
    """Build partitions of the same training photos.

    Starting from the cells of S2 level 2, a cell with more than ``max_photos`` photos is replaced by its four
    children, down to level 30, whose cells may hold more. Then cells with ``min_photos`` photos or fewer are dropped.
    Classes are numbered in the order of the cell ids. Coordinates are summed as integers, without rounding, so no
    bit of a partition depends on the order of the photos.

    Parameters
    ----------
    latitude, longitude : float64, shape (photos,)
        Where the training photos were taken, in degrees.
    min_photos
        A cell must hold more photos than this.
    max_photos
        For each partition's name, the number of photos above which a cell is split.
    leaves : uint64, shape (photos,), optional
        `leaf_ids` of the same coordinates, where they are known already: computing them is a third of the work.

    Returns
    -------
    dict
        The partitions by name, in the order of `max_photos`.

    Raises
    ------
    ValueError
        If a coordinate is missing or out of range, a threshold is impossible, or no cell has enough photos.

    Notes
    -----
    Method and the thresholds `PAPER_MIN_PHOTOS` and `PAPER_MAX_PHOTOS` are from Müller-Budack et al. (ECCV 2018). The
    arithmetic mean of longitudes is right because no cell from level 1 on reaches across the date line.

    Examples
    --------
    >>> photos = {"latitude": [48.85, 48.86, 48.87, -33.86], "longitude": [2.29, 2.30, 2.31, 151.21]}
    >>> partition = build_all(**photos, min_photos=1, max_photos={"coarse": 3})["coarse"]
    >>> tokens(partition.ids), partition.imgs_per_cell, partition.latitude_mean
    (array(['47'], dtype='<U16'), array([3]), array([48.86]))
    """
    for name, limit in max_photos.items():
        if not 0 <= min_photos < limit:
            raise ValueError(
                f"partition {name!r}: min_photos {min_photos} and max_photos {limit} keep no cell: "
                "give 0 <= min_photos < max_photos"
            )
    latitude, longitude = _checked_degrees(latitude, longitude)
    leaves = leaf_ids(latitude, longitude) if leaves is None else _checked_ids(leaves)
    if leaves.shape != latitude.shape:
        raise ValueError(f"there are {len(leaves)} leaves of {len(latitude)} photos: give the leaf_ids of these photos")
    ordered = np.sort(leaves)
    found = {name: _split(ordered, min_photos, limit) for name, limit in max_photos.items()}
    del ordered
    for name, (ids, _) in found.items():
        if not len(ids):
            raise ValueError(
                f"partition {name!r}: none of the cells of {len(leaves)} photos has more than min_photos {min_photos} "
                f"photos (max_photos {max_photos[name]}): lower min_photos, raise max_photos, or give more photos"
            )
    sums = _sums(latitude, longitude, leaves, {name: ids for name, (ids, _) in found.items()})
    return {name: Partition(name, ids, counts, *_means(sums[name], counts)) for name, (ids, counts) in found.items()}


def labels(partition: Partition, ids: ArrayLike) -> NDArray[np.int64]:
    """Class labels of photos in one partition: `labels_all` says how, and shares the work when there are several."""
    return _labels([partition], ids)[0]


def labels_all(partitions: Mapping[str, Partition], ids: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """Class labels of photos in several partitions.

    Parameters
    ----------
    partitions
        Partitions under any keys.
    ids : uint64, shape (photos,)
        `leaf_ids` of the photos.

    Returns
    -------
    dict
        Under each key the labels, int64, shape (photos,); -1 for a photo outside all cells.

    Raises
    ------
    ValueError
        If an id is not that of an S2 cell.

    Examples
    --------
    >>> paris = build([48.85, 48.86], [2.29, 2.30], name="coarse", min_photos=1, max_photos=9)
    >>> labels_all({"coarse": paris}, leaf_ids([48.9, -33.9], [2.4, 151.2]))
    {'coarse': array([ 0, -1])}
    """
    return dict(zip(partitions, _labels(partitions.values(), ids), strict=True))


def label_table(photos: pd.DataFrame, partitions: Mapping[str, Partition]) -> pd.DataFrame:
    """Class labels of the photos of a list, by ``id``.

    Parameters
    ----------
    photos : DataFrame
        Columns ``id, latitude, longitude``.
    partitions
        Partitions by name.

    Returns
    -------
    DataFrame
        ``id`` and a column for each partition, nullable integers: null for a photo outside all its cells.
    """
    table = photos[["id"]].reset_index(drop=True)
    for name, column in labels_all(partitions, leaf_ids(photos["latitude"], photos["longitude"])).items():
        table[name] = pd.array(column, dtype="Int64")
        table.loc[column < 0, name] = pd.NA
    return table


def write_labels(parts: Iterable[pd.DataFrame], partitions: Mapping[str, Partition], path: Path) -> pd.DataFrame:
    """Write the `label_table` of a list as Parquet, part by part, so that a list of any length fits in memory.

    Parameters
    ----------
    parts : iterable of DataFrame
        Columns ``id, latitude, longitude, split``, such as from `data_lists.parts`.
    partitions
        Partitions by name.
    path : Path
        Replaced in one move, after the last part.

    Returns
    -------
    DataFrame
        The `summary` of the whole list.
    """
    outside = []
    with paths.replacing(path) as temporary, ExitStack() as stack:
        writer = None
        for part in parts:
            labelled = label_table(part, partitions)
            outside.append(_outside(part, labelled, partitions))
            table = pa.Table.from_pandas(labelled, preserve_index=False)
            writer = writer or stack.enter_context(pq.ParquetWriter(temporary, table.schema))
            writer.write_table(table)
        if writer is None:
            raise ValueError(f"there is no photo to write labels of into {path}: give at least one part of a list")
    return _summary(pd.concat(outside), partitions)


def summary(photos: pd.DataFrame, labelled: pd.DataFrame, partitions: Mapping[str, Partition]) -> pd.DataFrame:
    """Size of each partition, and how many photos of each split lie outside all its cells.

    Parameters
    ----------
    photos : DataFrame
        Rows of a data list.
    labelled : DataFrame
        Its `label_table`.
    partitions
        Partitions by name.
    """
    return _summary(_outside(photos, labelled, partitions), partitions)


def hierarchy(fine: Partition, *coarser: Partition) -> NDArray[np.int64]:
    """Find the cells of coarser partitions in which the cells of a fine one lie.

    Parameters
    ----------
    fine
        Partition whose cells are looked up.
    *coarser
        Partitions in which to find them.

    Returns
    -------
    int64, shape (coarser partitions, fine cells)
        Class label of the cell that contains, or is, the fine cell.

    Raises
    ------
    ValueError
        If a fine cell lies in no cell of a coarser partition.
    """
    # A cell's id is the middle of its range of ids and belongs to the range of no smaller cell.
    ancestors = _labels(coarser, fine.ids)
    for row, partition in zip(ancestors, coarser, strict=True):
        orphans = fine.ids[row < 0]
        if len(orphans):
            raise ValueError(
                f"cell {tokens(orphans)[0]} of partition {fine.name!r} lies in no cell of partition "
                f"{partition.name!r}: build both from the same photos with the same min_photos, and "
                f"{partition.name!r} with the larger max_photos"
            )
    return np.array(ancestors, np.int64).reshape(len(coarser), len(fine))


def write(partition: Partition, path: Path) -> None:
    """Write a partition as CSV, from which `read` restores every bit."""
    table = pd.DataFrame(
        {
            "class_label": np.arange(len(partition)),
            "hex_id": tokens(partition.ids),
            "imgs_per_cell": partition.imgs_per_cell,
            "latitude_mean": partition.latitude_mean,
            "longitude_mean": partition.longitude_mean,
        }
    )
    with paths.replacing(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def read(path: Path, name: str) -> Partition:
    """Read a partition that `write` made or that was published; lines above the column names are comments.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not the list of a partition; the message names file and fault.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"partition {name!r} is not at {path}: make it with 03_partitioning/build_cells.ipynb")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB, so it is not the list of a partition")
    try:
        table = pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(skip_rows=_comment_lines(path)),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict(zip(COLUMNS, ("int64", "string", "int64", "float64", "float64"), strict=True)),
                include_columns=COLUMNS,
                null_values=[],  # so that an empty field is an error
            ),
        )
        columns = {column: table[column].to_numpy() for column in COLUMNS}
        order = np.argsort(columns["class_label"], kind="stable")
        wrong = np.flatnonzero(columns["class_label"][order] != np.arange(len(order)))
        if len(wrong):
            raise ValueError(f"class_label must be 0 to {len(order) - 1}, each once, but that fails for {wrong[0]}")
        return Partition(
            name,
            ids_from_tokens(columns["hex_id"][order]),
            columns["imgs_per_cell"][order],
            columns["latitude_mean"][order],
            columns["longitude_mean"][order],
        )
    except ValueError as error:  # pyarrow's own are of this kind
        raise ValueError(f"{path} is not a usable list of cells: {error}") from error


def polygons(partition: Partition, classes: ArrayLike | None = None) -> geopandas.GeoSeries:
    """Outlines of the cells for maps in longitude and latitude, indexed by class label.

    Edges follow the great circles that bound S2 cells. No outline reaches across the date line, and one that touches
    a pole runs along it, so a plain map shows no streaks.

    Parameters
    ----------
    partition : Partition
    classes : array_like of int, optional
        Labels of the cells that are wanted, by default all.

    Returns
    -------
    geopandas.GeoSeries
        Polygons in degrees (EPSG:4326), in the order of the classes.
    """
    wanted = np.arange(len(partition)) if classes is None else np.asarray(classes, dtype=np.int64)
    ids = partition.ids[wanted]
    levels = level(ids)
    outlines = np.empty(len(ids), object)
    for cell_level in np.unique(levels):
        at_level = levels == cell_level
        outlines[at_level] = _outlines(ids[at_level], int(cell_level))
    return geopandas.GeoSeries(outlines, index=pd.Index(wanted, name="class_label"), crs="EPSG:4326")


def _checked_degrees(latitude: ArrayLike, longitude: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    latitude, longitude = np.asarray(latitude, np.float64), np.asarray(longitude, np.float64)
    if latitude.shape != longitude.shape or latitude.ndim != 1:
        raise ValueError(f"latitude {latitude.shape} and longitude {longitude.shape} must be columns of one length")
    for what, values, limit in (("latitude", latitude, 90), ("longitude", longitude, 180)):
        outside = ~(np.abs(values) <= limit)  # also true of NaN
        if outside.any():
            row = int(np.argmax(outside))
            raise ValueError(
                f"{what} {values[row]} in row {row} is not within -{limit} to {limit} degrees: "
                "correct it or leave the row out, and check that latitude and longitude are not swapped"
            )
    return latitude, longitude


def _checked_ids(ids: ArrayLike) -> NDArray[np.uint64]:
    ids = np.asarray(ids, np.uint64)
    invalid = (ids >> np.uint64(61) >= _FACES) | (_lowest_bit(ids) & np.uint64(0x1555_5555_5555_5555) == 0)
    if invalid.any():
        raise ValueError(f"{int(ids[invalid][0]):#018x} is not the id of an S2 cell")
    return ids


def _lowest_bit(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return ids & (~ids + np.uint64(1))


def _leaf_range(ids: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """First and last id inside each cell, of leaf cells and of all between."""
    reach = _lowest_bit(_checked_ids(ids)) - np.uint64(1)
    return ids - reach, ids + reach


def _hilbert_table() -> NDArray[np.uint16]:
    """Follow the curve through six levels: orientation, six bits of i, six of j → next orientation, 12 of position."""
    orientation, i, j = np.meshgrid(np.arange(4), np.arange(64), np.arange(64), indexing="ij")
    position = np.zeros_like(i)
    for bit in reversed(range(6)):
        step = _POSITION_OF[orientation, (i >> bit & 1) << 1 | (j >> bit & 1)]
        position = position << 2 | step
        orientation = orientation ^ _TURN_AT[step]
    return (orientation << 12 | position).ravel().astype(np.uint16)


_HILBERT = _hilbert_table()


def _leaf_ids_of_block(latitude: NDArray[np.float64], longitude: NDArray[np.float64]) -> NDArray[np.uint64]:
    # Operations that round like those of S2 itself, so that points on cell edges fall on the same side.
    phi, theta = np.radians(latitude), np.radians(longitude)
    cos_phi = np.cos(phi)
    x, y, z = np.cos(theta) * cos_phi, np.sin(theta) * cos_phi, np.sin(phi)

    # A face of the cube is seen along the axis on which the point lies farthest out; the later axis wins a tie.
    abs_x, abs_y, abs_z = np.abs(x), np.abs(y), np.abs(z)
    along_z = abs_z >= np.maximum(abs_x, abs_y)
    along_x = (abs_x > abs_y) & ~along_z
    axis = np.where(along_x, x, np.where(along_z, z, y))
    i = _grid_of_face(np.where(along_x, y, -x) / axis)
    j = _grid_of_face(np.where(along_z, -y, z) / axis)

    # On faces 3 to 5, behind, S2 exchanges i and j, and on odd faces the curve does: of the two, axis y is left.
    axis_number = 1 - along_x + along_z.astype(np.int64)
    ids = axis_number + 3 * (axis < 0)
    orientation = (axis_number & 1) << 12
    for shift in (24, 18, 12, 6, 0):
        step = _HILBERT[orientation | (i >> shift & 63) << 6 | (j >> shift & 63)].astype(np.int64)
        ids = ids << 12 | (step & 0xFFF)
        orientation = step & 0x3000
    return ids.astype(np.uint64) << np.uint64(1) | np.uint64(1)


def _grid_of_face(u: NDArray[np.float64]) -> NDArray[np.int64]:
    """Row or column of the leaf cells at `u`, -1 to 1 across a face (S2's quadratic projection)."""
    from_middle = np.copysign(0.5 * np.sqrt(1 + 3 * np.abs(u)) - 0.5, u)
    return np.minimum(((0.5 + from_middle) * (1 << _LEAF_LEVEL)).astype(np.int64), (1 << _LEAF_LEVEL) - 1)


def _split(
    leaves: NDArray[np.uint64], min_photos: int, max_photos: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Cells of a partition in the order of their ids, with the number of photos in each, from sorted leaf ids."""
    lowest_bit = np.uint64(1 << 2 * (_LEAF_LEVEL - _FIRST_LEVEL))
    cells = np.arange(_FACES << 2 * _FIRST_LEVEL, dtype=np.uint64) * (lowest_bit << np.uint64(1)) + lowest_bit
    kept = []
    for cell_level in range(_FIRST_LEVEL, _LEAF_LEVEL + 1):
        first, last = _leaf_range(cells)
        counts = np.searchsorted(leaves, last, "right") - np.searchsorted(leaves, first, "left")
        # A cell with too few photos has no descendant with enough: dropping it here is dropping it at the end.
        enough = counts > min_photos
        final = enough & ((counts <= max_photos) | (cell_level == _LEAF_LEVEL))
        kept.append((cells[final], counts[final]))
        quarter = lowest_bit >> np.uint64(2)
        offsets = np.array([1, 3, 5, 7], np.uint64) * quarter
        cells = (cells[enough & ~final, None] - lowest_bit + offsets).ravel()
        lowest_bit = quarter
    ids, counts = (np.concatenate(columns) for columns in zip(*kept, strict=True))
    order = np.argsort(ids)
    return ids[order], counts[order]


def _sums(
    latitude: NDArray[np.float64],
    longitude: NDArray[np.float64],
    leaves: NDArray[np.uint64],
    cells: Mapping[str, NDArray[np.uint64]],
) -> dict[str, NDArray[np.int64]]:
    """Sums of latitude and longitude of the photos in each cell, of shape (2, 2, cells), see `_running_sums`."""
    ranges = {name: _leaf_range(ids) for name, ids in cells.items()}
    sums = {name: np.zeros((2, 2, len(ids)), np.int64) for name, ids in cells.items()}
    for start in range(0, len(leaves), _PHOTOS_PER_BLOCK):
        block = slice(start, start + _PHOTOS_PER_BLOCK)
        order = np.argsort(leaves[block])
        ordered = leaves[block][order]
        running = np.stack([_running_sums(degrees[block][order]) for degrees in (latitude, longitude)])
        for name, (first, last) in ranges.items():
            starts, ends = np.searchsorted(ordered, first, "left"), np.searchsorted(ordered, last, "right")
            sums[name] += running[..., ends] - running[..., starts]
    return sums


def _running_sums(degrees: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sums of the first 0, 1, 2, … values in units of 2**-26 degrees and, for the rest, of 2**-60 degrees.

    Floating-point sums depend on the order of their terms; these integers do not. They are exact for values of at
    least 2**-8 degrees, good to 1e-13 m below, and overflow only with 2**28 photos in one cell.
    """
    coarse = (degrees * 2.0**26).astype(np.int64)
    rest = ((degrees - coarse * 2.0**-26) * 2.0**60).astype(np.int64)
    sums = np.zeros((2, len(degrees) + 1), np.int64)
    np.cumsum(coarse, out=sums[0, 1:])
    np.cumsum(rest, out=sums[1, 1:])
    return sums


def _means(sums: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean latitudes and longitudes, of shape (2, cells)."""
    return (sums[:, 0] * 2.0**-26 + sums[:, 1] * 2.0**-60) / counts


def _outside(photos: pd.DataFrame, labelled: pd.DataFrame, partitions: Mapping[str, Partition]) -> pd.DataFrame:
    """Photos outside all cells of each partition, by split."""
    return labelled[list(partitions)].isna().groupby(photos["split"].to_numpy(), sort=False).sum()


def _summary(outside: pd.DataFrame, partitions: Mapping[str, Partition]) -> pd.DataFrame:
    levels = {name: level(partition.ids) for name, partition in partitions.items()}
    rows = {
        name: {"cells": len(found), "smallest level": int(found.min()), "largest level": int(found.max())}
        for name, found in levels.items()
    }
    total = outside.groupby(level=0, sort=False).sum()
    return pd.DataFrame(rows).T.join(total.T.add_prefix("without a cell: "))


def _labels(partitions: Iterable[Partition], ids: ArrayLike) -> list[NDArray[np.int64]]:
    """Label of the cell that contains, or is, each of the given cells, per partition; -1 where there is none."""
    ranges = [_leaf_range(partition.ids) for partition in partitions]
    # The borders of all partitions' cells cut the curve into pieces. Looking up the piece of each id is the slow step,
    # so it is done once; each partition then says which label a piece has.
    borders = [border for first, last in ranges for border in (first, last + np.uint64(1))]
    starts = np.unique(np.concatenate([np.zeros(1, np.uint64), *borders]))
    piece = np.searchsorted(starts, _checked_ids(ids), "right") - 1
    found = []
    for first, last in ranges:
        order = np.argsort(first)
        cell = np.searchsorted(first[order], starts, "right") - 1
        inside = (cell >= 0) & (starts <= last[order][cell])
        found.append(np.where(inside, order[cell], -1)[piece])
    return found


def _comment_lines(path: Path) -> int:
    """Lines above the column names."""
    with path.open("rb") as file:
        lines = file.read(_HEADER_WITHIN_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    missing: list[str] = list(COLUMNS)
    for number, line in enumerate(lines):
        absent = [column for column in COLUMNS if column not in line.split(",")]
        if not absent:
            return number
        missing = min(missing, absent, key=len)
    raise ValueError(f"columns missing: {', '.join(missing)}")


def _outlines(ids: NDArray[np.uint64], cell_level: int) -> NDArray[np.object_]:
    """Outlines of cells of one level."""
    if cell_level == 0:  # only these hold a pole or part of the date line inside: draw their quarters
        quarter = np.uint64(1 << 2 * (_LEAF_LEVEL - 1))
        children = (ids[:, None] + np.array([-3, -1, 1, 3]).astype(np.uint64) * quarter).ravel()
        return shapely.union_all(_outlines(children, 1).reshape(-1, 4), axis=1)

    face, i, j = _face_and_grid(ids, cell_level)
    # Cut the edges where cells of level 7 would: finer is not to be seen on a map of the world.
    steps = np.linspace(0, 1, 1 + (1 << max(0, 7 - cell_level)))
    along, start, end = steps, np.zeros_like(steps), np.ones_like(steps)
    across_i = np.stack([along, end, along[::-1], start])
    across_j = np.stack([start, along, end, along[::-1]])
    u = _across_face((i[:, None, None] + across_i) / (1 << cell_level))
    v = _across_face((j[:, None, None] + across_j) / (1 << cell_level))
    longitude, latitude = _degrees_on_face(face[:, None, None], u, v)

    # At a pole any longitude is right: take that of the edge, so that the outline follows it to the map's border.
    at_pole = np.abs(latitude) > 90 - 1e-9
    longitude[..., 0] = np.where(at_pole[..., 0], longitude[..., 1], longitude[..., 0])
    longitude[..., -1] = np.where(at_pole[..., -1], longitude[..., -2], longitude[..., -1])

    # The date line is both 180 and -180 degrees: take the one on the cell's side.
    middle, _ = _degrees_on_face(face, *(_across_face((grid + 0.5) / (1 << cell_level)) for grid in (i, j)))
    on_date_line = np.abs(longitude) > 180 - 1e-9
    longitude = np.where(on_date_line, np.copysign(180, middle)[:, None, None], longitude)
    rings = np.stack([longitude, latitude], axis=-1).reshape(len(ids), -1, 2)
    return shapely.remove_repeated_points(shapely.polygons(rings))


def _face_and_grid(
    ids: NDArray[np.uint64], cell_level: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Face of each cell, and its column and row among the cells of its level on that face."""
    bits = (ids >> np.uint64(1)).astype(np.int64)
    face = bits >> 60
    orientation = face & 1
    i, j = np.zeros_like(face), np.zeros_like(face)
    for depth in range(1, cell_level + 1):
        position = bits >> 60 - 2 * depth & 3
        quadrant = _QUADRANT_AT[orientation, position]
        i, j = i << 1 | quadrant >> 1, j << 1 | quadrant & 1
        orientation = orientation ^ _TURN_AT[position]
    return face, i, j


def _across_face(s: NDArray[np.float64]) -> NDArray[np.float64]:
    """From -1 to 1 for `s` from 0 to 1: the inverse of S2's quadratic projection."""
    return np.where(s >= 0.5, 4 * s * s - 1, 1 - 4 * (1 - s) * (1 - s)) / 3


def _degrees_on_face(
    face: NDArray[np.int64], u: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude of points on faces of the cube."""
    one = np.ones_like(u)
    x = np.choose(face, [one, -u, -u, -one, v, v])
    y = np.choose(face, [u, one, -v, -v, -one, u])
    z = np.choose(face, [v, v, one, -u, -u, -one])
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
