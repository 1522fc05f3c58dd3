"""Judge which photos of a list are worth training on.

A photo is measured once, from one decoding at the size that a network sees, and what it measures is kept; judging by
thresholds is then a matter of a moment, so that a person can try several and look at what they would remove.
"""

import dataclasses
import functools
import hashlib
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from PIL import ExifTags, Image

from helpers import cluster, data_lists, paths, photo_stores, photos

SHORT_SIDE = 180
"""Pixels of the shorter side at which photos are measured; smaller ones are not enlarged."""
PARTIAL = "decodes only in part"
"""Problem of a photo whose lower part, or whose detail, was lost."""
DARK, BLURRED = "dark or blank", "blurred"
EXACT_COPY, NEAR_IDENTICAL, SAME_COORDINATE = "exact copy", "near-identical", "same coordinate"
SAME_COORDINATE_CHOICES = ("remove", "keep")
_REASONS = (PARTIAL, DARK, BLURRED, EXACT_COPY, NEAR_IDENTICAL, SAME_COORDINATE)
MOST_BITS = 10
"""Fewer than these may be asked for: with each more, unrelated photos look alike and comparing takes twice as long."""

_VERSION = 2  # of the measures: raise it when they change, and photos are measured again
_PHOTOS_BETWEEN_SAVES = 100_000
_PAIRED_PHOTOS = 20_000
_ROWS_AT_ONCE = 256  # that are compared with all others
_MOST_PAIRS = 20_000_000  # about 1 GB while they are sorted
_PAIRS_AT_ONCE = 100_000
_BITS_BEYOND = 4  # of pairs that are shown beside a threshold
_MID_GREY = 128
_BLOCK = 8  # pixels, of a JPEG
_HASHED_SIDE, _HASH_SIDE = 32, 8  # pixels that are transformed, frequencies that are kept
_BITS = 64
_QUANTILES = (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1)
# JFIF (ITU-T T.871): R, G and B from Y, Cb and Cr, up to an offset.
_RGB_FROM_YCBCR = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])
_FREQUENCIES = np.cos(np.pi * np.outer(np.arange(_HASH_SIDE), 2 * np.arange(_HASHED_SIDE) + 1) / (2 * _HASHED_SIDE))
# In the data of a JPEG: neither a stuffed byte, nor a restart, nor padding.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_PROGRESSIVE, _SCAN, _END = 0xC2, 0xDA, 0xD9
_MORE_DATA = bytes(range(1, 255)) * 16  # none of which could be a marker
_UPRIGHT = {  # by the orientation that EXIF gives
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which photos are removed. A threshold of 0 switches its filter off.

    Attributes
    ----------
    min_channel_variance : float
        Photos below it are dark, or blank.
    min_laplacian_variance : float
        Photos below it are blurred.
    near_identical_bits : int
        Photos whose perceptual hashes differ in fewer bits are near-identical; 1 asks for equal hashes.
    same_coordinate : str
        ``remove``: of the photos at exactly the same coordinate the first is kept; ``keep``: all of them are.

    Raises
    ------
    ValueError
        For a threshold that is negative or not a number, more than `MOST_BITS` bits, or another word.
    """

    min_channel_variance: float = 150.0
    min_laplacian_variance: float = 30.0
    near_identical_bits: int = 6
    same_coordinate: str = "remove"

    def __post_init__(self) -> None:
        for name in ("min_channel_variance", "min_laplacian_variance"):
            if not (0 <= getattr(self, name) < math.inf):
                raise ValueError(f"{name} is {getattr(self, name)}: it must be 0, which switches it off, or more")
        if not 0 <= self.near_identical_bits <= MOST_BITS:
            raise ValueError(
                f"near_identical_bits is {self.near_identical_bits}: it must be from 0, which switches it off, to "
                f"{MOST_BITS}: beyond, most pairs are of unrelated photos"
            )
        if self.same_coordinate not in SAME_COORDINATE_CHOICES:
            raise ValueError(
                f"same_coordinate is {self.same_coordinate!r}: it must be one of {', '.join(SAME_COORDINATE_CHOICES)}"
            )


class Measured(NamedTuple):
    """What a photo measures."""

    problem: str
    """Why it is of no use, as :class:`helpers.photos.PhotoError` gives reasons, or `PARTIAL`; else empty."""
    width: int = 0
    height: int = 0
    """Pixels of the file, upright; 0 where its header could not be read."""
    channel_variance: float = math.nan
    """Largest of the variances of R, G and B, of values from 0 to 255."""
    laplacian_variance: float = math.nan
    """Variance of the Laplacian with four neighbours, of grey values from 0 to 255."""
    perceptual_hash: int = 0
    """64 bits, of the low frequencies; see :func:`perceptual_hash`."""


def measure(rows: pd.DataFrame, photo_root: Path, kept: Path) -> pd.DataFrame:
    """Measure the photos of a list that have not been measured before, on all cores.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    photo_root : Path
        Where its photos are, sure to be there; see :func:`helpers.fetch.ensure`.
    kept : Path
        Parquet file with what photos measured before, by their hash, to which this adds; it need not be there.

    Returns
    -------
    DataFrame
        The fields of :class:`Measured`, a row for each of `rows` and with its index.

    Raises
    ------
    data_lists.MissingPhotos, data_lists.ChangedPhoto
        If a photo that has to be read is not there or cannot be read, or is not the one that the list names.
    ValueError
        If `kept` is damaged, or a path leaves the photo root.
    """
    known = _kept(kept)
    unknown = rows[~rows["sha256"].isin(known.index)].drop_duplicates("sha256").sort_values("sha256")
    for start in range(0, len(unknown), _PHOTOS_BETWEEN_SAVES):
        part = unknown.iloc[start : start + _PHOTOS_BETWEEN_SAVES]
        look = functools.partial(_measured, photo_root)
        photos_of_part = list(zip(part["path"].tolist(), part["sha256"].tolist(), strict=True))
        measured = pd.DataFrame(cluster.each(look, photos_of_part, "measuring"), columns=Measured._fields)
        known = pd.concat([known, _typed(measured.set_index(pd.Index(part["sha256"], name="sha256")))])
        with paths.replacing(kept) as temporary:
            known.assign(version=_VERSION).sort_index().to_parquet(temporary, compression="zstd")
    return known.loc[rows["sha256"]].set_index(rows.index)


def measure_photo(data: bytes, name: str) -> Measured:
    """Measure a photo.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, WebP, TIFF or BMP file, which may be hostile.
    name : str
        What errors would call it.

    Returns
    -------
    Measured
        The measures, or the problem that it has.

    Notes
    -----
    Photos are measured at a short side of `SHORT_SIDE` pixels, averaged over the pixels that each stands for, because
    a photo that is larger has a Laplacian of another size; thresholds hold for that size only. A JPEG is decoded at the
    smallest of the scales 1, 1/2, 1/4 and 1/8 that has as many pixels, which skips most of the work, and stays in its
    own colours Y, Cb and Cr, of which Y is the grey image and R, G and B are linear combinations.

    A JPEG that was cut and closed again, as by a server or an editor, decodes without an error: to the grey in the
    middle of the range from there on, or, if it is progressive, without some detail. A last row of blocks of just that
    grey is taken for such damage, because it stays when the photo is encoded again; so is, rarely, a grey frame. What
    else looks like it is decoded once more with other data added, of which only a JPEG that lacks some takes any. The
    colours in which it is stored do not matter. Of a photo of 1440 pixels or more the last refinement of a progressive
    JPEG is not looked for, because at 1/8 next to nothing of it shows, and looking would take as long as all else.
    """
    try:
        image = photos.opened(data, name)
        width, height = image.size if _orientation(image) < 5 else image.size[::-1]
        small = reduced(image, data, name)
    except photos.PhotoError as error:
        return Measured(error.reason)
    if small is None:
        return Measured(PARTIAL, width, height)
    grey = small.getchannel(0)
    return Measured(
        "", width, height, channel_variance(small), laplacian_variance(np.asarray(grey)), perceptual_hash(grey)
    )


def reduced(image: Image.Image, data: bytes, name: str) -> Image.Image | None:
    """A photo at the size at which it is measured.

    Parameters
    ----------
    image : Image
        What :func:`helpers.photos.opened` gives.
    data : bytes
        The same file.
    name : str
        What errors call it.

    Returns
    -------
    Image or None
        In Y, Cb and Cr, upright; None if it decodes only in part.

    Raises
    ------
    helpers.photos.PhotoError
        If it cannot be decoded.
    """
    decoded = _decoded(image, data, name)
    if decoded is None:
        return None
    scale = min(1.0, SHORT_SIDE / min(decoded.size))
    size = (round(decoded.width * scale), round(decoded.height * scale))
    return decoded.resize(size, Image.Resampling.BOX)


def channel_variance(image: Image.Image) -> float:
    """Largest of the variances of R, G and B of an image in Y, Cb and Cr.

    It follows from their covariances, without a conversion and without what that rounds and clips.
    """
    # Sums of products of integers are exact in float64, whatever the order in which a library adds them. Not by BLAS
    # (@), whose threads would get in each other's way where photos are measured on all cores.
    planes = np.asarray(image).transpose(2, 0, 1).astype(np.float64, order="C").reshape(3, -1)
    products = np.empty((3, 3))
    for row, column in itertools.combinations_with_replacement(range(3), 2):
        products[row, column] = products[column, row] = np.einsum("i,i->", planes[row], planes[column])
    mean = planes.mean(axis=1)
    covariance = products / planes.shape[1] - np.outer(mean, mean)
    return max(float(np.einsum("ci,ij,cj->c", _RGB_FROM_YCBCR, covariance, _RGB_FROM_YCBCR).max()), 0.0)


def laplacian_variance(grey: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian with four neighbours, mirrored at the borders: small where nothing is sharp.

    Parameters
    ----------
    grey : ndarray of uint8, shape (height, width)
        Two pixels or more each way.

    Notes
    -----
    Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.

    Examples
    --------
    >>> laplacian_variance(np.tile(np.uint8([0, 1]), (4, 2)))
    4.0
    """
    values = grey.astype(np.int16)
    laplacian = values * np.int16(-4)
    for result, value in ((laplacian, values), (laplacian.T, values.T)):
        result[1:] += value[:-1]
        result[:-1] += value[1:]
        result[0] += value[1]
        result[-1] += value[-2]
    exact = laplacian.ravel().astype(np.float64)
    return float(np.einsum("i,i->", exact, exact) / exact.size - exact.mean() ** 2)  # no BLAS, as above


def perceptual_hash(grey: Image.Image) -> int:
    """64 bits that hardly change when a photo is scaled, compressed or brightened ("pHash").

    They say which of the 8 x 8 lowest frequencies of the photo, at 32 x 32 pixels, are above their median (Zauner,
    Implementation and benchmarking of perceptual image hash functions, 2010).

    Parameters
    ----------
    grey : Image
        Of mode ``L``.

    Returns
    -------
    int
        Of unrelated photos about 32 bits differ.
    """
    pixels = np.asarray(grey.resize((_HASHED_SIDE, _HASHED_SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    columns = np.einsum("fy,yx->fx", _FREQUENCIES, pixels)
    # Rounded, so that a frequency that a flat image has not is 0 on every machine.
    spectrum = np.einsum("fx,gx->fg", columns, _FREQUENCIES).round(6)
    return int.from_bytes(np.packbits(spectrum > np.median(spectrum)).tobytes(), "big")


def near_identical(hashes: ArrayLike, bits: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Pairs of hashes that differ in at most `bits` bits: all of them, without comparing each with each.

    Parameters
    ----------
    hashes : array_like of uint64, shape (n,)
    bits : int
        From 0 to `MOST_BITS` - 1.

    Returns
    -------
    first, second : ndarray of int, shape (pairs,)
        Positions in `hashes`, the smaller one first; sorted by first and second. Of hashes that are equal, each is
        paired with the first of them, and that one stands for them in all other pairs: a million copies make a million
        pairs, not half a billion.
    distance : ndarray of uint8, shape (pairs,)
        Number of bits in which they differ.

    Raises
    ------
    ValueError
        For more bits, or more than 20 million pairs of different hashes: a thousand photos that look alike, such as a
        webcam's, make half a million. :func:`judge` needs no pairs.

    Notes
    -----
    Cut into `bits` + k bands, two hashes that differ in `bits` bits agree in k bands at least. So for each choice of k
    bands the hashes are sorted by these, and compared where they agree; k is chosen for the least work. Time grows with
    the number of hashes as long as hashes fill their range, memory with it and with the number of pairs.

    Examples
    --------
    >>> near_identical([0b0000, 0b1111, 0b0001, 0b0000], bits=1)
    (array([0, 0]), array([2, 3]), array([1, 0], dtype=uint8))
    """
    if not 0 <= bits < MOST_BITS:
        raise ValueError(
            f"bits is {bits}: it must be from 0 to {MOST_BITS - 1}, and near_identical_bits at most {MOST_BITS}"
        )
    values, first_of, number = np.unique(np.asarray(hashes, dtype=np.uint64), return_index=True, return_inverse=True)
    first = first_of[number.reshape(-1)]
    repeats = np.flatnonzero(first != np.arange(len(first)))
    pairs = [(first[repeats], repeats, np.zeros(len(repeats), dtype=np.uint8))]
    close = _close_pairs(values, bits, _MOST_PAIRS)
    if close is None:
        raise ValueError(
            f"more than {_MOST_PAIRS:,} pairs among {len(first):,} hashes differ in at most {bits} bits: compare fewer "
            "photos, lower near_identical_bits, or run 01_data/clean first, which removes such photos"
        )
    pairs += ((first_of[one], first_of[other], distance) for one, other, distance in close)
    return _in_order(pairs)


def judge(rows: pd.DataFrame, measures: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Which photos of a list are to be removed, and why.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list, in any order.
    measures : DataFrame
        What :func:`measure` returned for them.
    settings : Settings

    Returns
    -------
    DataFrame
        ``id, path, reason, value, of``, a row for each photo that is removed, sorted by id. The reason is the first
        that applies of: a problem of the file, ``dark or blank``, ``blurred``, ``exact copy``, ``near-identical``,
        ``same coordinate``. The value is what the photo measures, or in how many bits it differs; `of` is the id of the
        photo that it repeats: of several, the one with the smallest id is kept.

    Raises
    ------
    ValueError
        If no photo can be decoded, or a threshold leaves none; it then shows how the measure is distributed.
    """
    left = rows[["id", "path", "sha256", "latitude", "longitude"]].join(measures).sort_values("id", ignore_index=True)
    columns = ["id", "path", "reason", "value", "of"]
    removed = [pd.DataFrame({name: pd.Series(dtype=float if name == "value" else str) for name in columns})]
    for found_in in (_unusable, _dark, _blurred, _exact_copies, _near_identical, _at_same_coordinate):
        found = found_in(left, settings)
        removed.append(found.join(left[["id", "path"]])[columns])
        left = left.drop(found.index)
    return pd.concat([part for part in removed if len(part)] or removed[:1]).sort_values("id", ignore_index=True)


def report(rows: pd.DataFrame, removed: pd.DataFrame) -> pd.DataFrame:
    """How many photos were kept, and removed for which reason, in the order in which reasons were looked for.

    Returns
    -------
    DataFrame
        ``outcome, reason, photos``; a reason that applies to no photo is missing.
    """
    by_reason = removed["reason"].value_counts()
    problems = sorted(set(by_reason.index) - set(_REASONS))
    reasons = [*problems, *(reason for reason in _REASONS if reason in by_reason.index)]
    return pd.DataFrame(
        [("kept", "", len(rows) - len(removed)), *(("removed", reason, int(by_reason[reason])) for reason in reasons)],
        columns=["outcome", "reason", "photos"],
    )


def beside_threshold(
    rows: pd.DataFrame, values: pd.Series, threshold: float, photo_root: Path, count: int = 10
) -> dict[str, tuple[list[NDArray[np.uint8]], list[str]]]:
    """Photos on the two sides of a threshold, the nearest first, for :func:`helpers.plots.photo_rows`.

    Parameters
    ----------
    rows : DataFrame
        Rows of a data list.
    values : Series of float
        What the photos measure, with the index of `rows`; NaN where they have a problem.
    threshold : float
    photo_root : Path
        Where the photos are.
    count : int
        Of photos on each side.

    Returns
    -------
    dict
        Small copies of the photos, and as captions what they measure.
    """
    measured = values.dropna().sort_values(kind="stable")
    below, above = measured[measured < threshold].iloc[::-1], measured[measured >= threshold]
    sides = {f"below {threshold:g}: {len(below):,} photos": below, f"{threshold:g} or more: {len(above):,}": above}
    store = photo_stores.open_store(photo_root)
    return {
        heading: (photos.thumbnails(store, rows.loc[side.index, "path"]), [f"{value:,.1f}" for value in side])
        for heading, side in ((heading, side.iloc[:count]) for heading, side in sides.items())
    }


def beside_bits(
    rows: pd.DataFrame, measures: pd.DataFrame, bits: int, photo_root: Path, count: int = 4
) -> dict[str, tuple[list[NDArray[np.uint8]], list[str]]]:
    """Pairs of photos whose hashes differ in fewer, and in a few more, bits than a threshold.

    Parameters
    ----------
    rows, measures : DataFrame
        Rows of a data list, and what :func:`measure` returned for them.
    bits : int
        The threshold.
    photo_root : Path
        Where the photos are.
    count : int
        Of pairs for each distance.

    Returns
    -------
    dict
        For :func:`helpers.plots.photo_rows`: small copies of photos, two by two, and their ids.

    Notes
    -----
    Of a large list only `_PAIRED_PHOTOS` photos, drawn by their hashes, are compared, because pairs that are less and
    less alike become more and more.
    """
    compared = rows[comparable(measures)].sort_values("sha256").iloc[:_PAIRED_PHOTOS]
    distances = range(max(bits - _BITS_BEYOND, 0), bits + _BITS_BEYOND)
    hashes = measures.loc[compared.index, "perceptual_hash"].to_numpy(np.uint64)
    store = photo_stores.open_store(photo_root)
    shown = {}
    for bits_apart, (pairs, first_pairs) in _pairs_apart(hashes, distances, count).items():
        if pairs or bits_apart % 2 == 0:  # hashes with half of their bits set differ in even numbers of bits
            pair = compared.iloc[first_pairs.ravel()]
            fate = "taken for one photo" if bits_apart < bits else "taken for two photos"
            heading = f"{bits_apart} bits apart, {fate}: {pairs:,} pair{'' if pairs == 1 else 's'}"
            shown[heading] = (photos.thumbnails(store, pair["path"]), pair["id"].tolist())
    return shown


def comparable(measures: pd.DataFrame) -> pd.Series:
    """Which photos have a perceptual hash that says anything.

    Half of its bits are set, unless a photo lacks frequencies: it is flat, or drawn. Whatever their colours, such
    photos have the same hash.
    """
    half = _ones(measures["perceptual_hash"].to_numpy(np.uint64)) == _BITS // 2
    return (measures["problem"] == "") & half


def _kept(file: Path) -> pd.DataFrame:
    """What is known of photos, by the hash of their bytes."""
    if not file.exists():
        return _typed(pd.DataFrame(columns=Measured._fields, index=pd.Index([], dtype=str, name="sha256")))
    try:
        table = pd.read_parquet(file)
        current = table[(table["version"] == _VERSION) & ~table.index.duplicated()]
        return _typed(current[list(Measured._fields)])
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is damaged ({error}): remove it, and the photos are measured again") from error


def _typed(measures: pd.DataFrame) -> pd.DataFrame:
    return measures.astype(
        {
            "problem": str,
            "width": np.int32,
            "height": np.int32,
            "channel_variance": np.float64,
            "laplacian_variance": np.float64,
            "perceptual_hash": np.uint64,
        }
    )


def _measured(photo_root: Path, photo: tuple[str, str]) -> Measured:
    path, sha256 = photo
    try:
        data = photos.read_bytes(photo_stores.reopened(photo_root), path)
    except photos.PhotoError as error:
        remedy = f". Put it below {photo_root}, or give the folder that holds the photos as photo_root"
        raise data_lists.MissingPhotos(f"{error}{remedy if error.reason == 'missing' else ''}") from None
    # What it measures is kept under this hash, so it has to be the photo's.
    if hashlib.sha256(data).hexdigest() != sha256:
        raise data_lists.ChangedPhoto(f"photo {path!r} below {photo_root} is not that of the list: restore it")
    return measure_photo(data, path)


def _decoded(image: Image.Image, data: bytes, name: str) -> Image.Image | None:
    """A photo in Y, Cb and Cr, upright, as large as it is measured or larger; None if it decodes only in part."""
    if data.startswith(b"\xff\xd8") and photos.has_jpeg_end(data):
        size, orientation = image.size, _orientation(image)
        colours = "YCbCr"
        small = _small(image, colours)
        if small is None:  # those of a JPEG that is stored in R, G and B can be had as they are only
            colours = ""
            small = _small(_jpeg(data), colours)
        if small is not None:
            if _is_partial(small, size, data, colours):
                return None
            upright = small.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else small
            return (upright.convert("RGB") if upright.mode == "CMYK" else upright).convert("YCbCr")
    pixels = photos.decode(data, name).permute(1, 2, 0)
    return Image.fromarray(pixels.numpy()).convert("YCbCr")


def _jpeg(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=["JPEG"])


def _small(image: Image.Image, colours: str) -> Image.Image | None:
    """A JPEG at the smallest of the scales of its decoder that is large enough; None if that fails."""
    image.draft(colours or None, (SHORT_SIDE, SHORT_SIDE))
    try:
        image.load()
    except OSError:  # the decoder's only word, for damage and for colours that it cannot give
        return None
    return image


def _is_partial(small: Image.Image, size: tuple[int, int], data: bytes, colours: str) -> bool:
    """Whether the lower part of a JPEG, or detail, is lost, though the file has an end."""
    side = max(_BLOCK * small.height // size[1], 1)
    values = np.asarray(small)[-side:]
    lowest = values == _MID_GREY  # what decoders fill in for data that are missing
    if small.mode == "CMYK":  # some of which Pillow inverts
        lowest |= values == 255 - _MID_GREY
    if lowest.all():
        return True
    progressive = "progressive" in small.info
    if not progressive and not lowest[:, -side:].all():
        return False
    segments = list(_segments(data))
    if progressive and _lacks_scans(segments):
        return True
    last_scan = next((content for marker, _, content in reversed(segments) if marker == _SCAN), b"")
    if side == 1 and last_scan[-3:-2] > b"\0":  # it brings no lowest frequency, of which a photo at 1/8 consists
        return False
    end = next((start for marker, start, _ in segments if marker == _END), len(data))
    other = _small(_jpeg(data[:end] + _MORE_DATA + data[end:]), colours)
    return other is None or not np.array_equal(np.asarray(small), np.asarray(other))


def _lacks_scans(segments: Iterable[tuple[int, int, bytes]]) -> bool:
    """Whether no scan of a progressive JPEG brings the last bit of some frequency (ITU-T T.81, annex G)."""
    exact: dict[int, int] = {}  # of each component, a bit for each of its frequencies
    for marker, _, content in segments:
        if marker == _PROGRESSIVE:
            exact |= dict.fromkeys(content[6::3], 0)
        elif marker == _SCAN and len(content) > 3 and not content[-1] & 15:
            lowest, highest = content[-3:-1]
            for component in exact.keys() & set(content[1:-3:2]):
                exact[component] |= (2 << highest) - (1 << lowest)
    return any(bits != (1 << _BITS) - 1 for bits in exact.values())


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, place and content of each segment of a JPEG, to its end."""
    place = 2
    while found := _JPEG_MARKER.search(data, place):
        marker, start = data[found.start() + 1], found.end()
        place = start + int.from_bytes(data[start : start + 2], "big")
        yield marker, found.start(), data[start + 2 : place]
        if marker == _END:
            return


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow raises anything from struct.error to KeyError on damaged EXIF
        return 1


def _pairs_apart(
    hashes: NDArray[np.uint64], distances: Iterable[int], count: int
) -> dict[int, tuple[int, NDArray[np.intp]]]:
    """How many pairs differ in so many bits, and positions of the first `count` of them.

    Each hash is compared with each, for the pairs of many photos that look alike would fill the memory.
    """
    found = {apart: (0, np.empty((0, 2), dtype=np.intp)) for apart in distances}
    for start in range(0, len(hashes), _ROWS_AT_ONCE):
        distance = _ones(hashes[start : start + _ROWS_AT_ONCE, None] ^ hashes[start:])
        distance[np.tri(*distance.shape, dtype=np.bool_)] = _BITS + 1  # of pairs of a photo with itself, or seen before
        for apart, (pairs, first) in found.items():
            places = np.flatnonzero(distance == apart)
            more = start + np.column_stack(np.unravel_index(places[: count - len(first)], distance.shape))
            found[apart] = (pairs + len(places), np.concatenate([first, more]))
    return found


def _stand_ins(hashes: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Which hash stands for each, and in how many bits they differ.

    One after the other, a hash is kept, and stands for itself, unless one that was kept before it is within `bits`
    bits: then the first such one stands for it.
    """
    number, values = pd.factorize(hashes)
    first = np.flatnonzero(~pd.Series(number).duplicated().to_numpy())
    kept, distance = _kept_of_different(values, bits)
    return first[kept][number], distance[number]


def _kept_of_different(values: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """As `_stand_ins`, for values that all differ.

    Where many are near each other, most are near one that is kept. So the first half is done first, and of the second
    only what is far from what was kept of the first is compared any further.
    """
    pairs = _close_pairs(values, bits, _PAIRS_AT_ONCE)
    if pairs is not None:
        return _kept_of_pairs(len(values), pairs)
    middle = len(values) // 2
    kept, distance = np.empty(len(values), dtype=np.intp), np.empty(len(values), dtype=np.uint8)
    kept[:middle], distance[:middle] = _kept_of_different(values[:middle], bits)
    before = np.flatnonzero(kept[:middle] == np.arange(middle))
    nearby = _first_near(values[before], values[middle:], bits)
    near = middle + np.flatnonzero(nearby < len(before))
    kept[near] = before[nearby[near - middle]]
    distance[near] = _ones(values[near] ^ values[kept[near]])
    far = middle + np.flatnonzero(nearby == len(before))
    kept_of_far, distance[far] = _kept_of_different(values[far], bits)
    kept[far] = far[kept_of_far]
    return kept, distance


def _kept_of_pairs(
    count: int, pairs: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]
) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    kept, distance = np.arange(count), np.zeros(count, dtype=np.uint8)
    if not pairs:
        return kept, distance
    # One after the other, because whether a photo is repeated depends on whether the one before it was kept.
    stands_for: dict[int, tuple[int, int]] = {}
    for one, other, bits in zip(*(column.tolist() for column in _in_order(pairs)), strict=True):
        if one not in stands_for:
            stands_for.setdefault(other, (one, bits))
    for other, (one, bits) in stands_for.items():
        kept[other], distance[other] = one, bits
    return kept, distance


def _in_order(
    pairs: Sequence[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]:
    """Pairs with the smaller position first, sorted by first and second, and how far they are apart."""
    ones, others, apart = (np.concatenate(column) for column in zip(*pairs, strict=True))
    first, second = np.minimum(ones, others), np.maximum(ones, others)
    order = np.lexsort([second, first])
    return first[order], second[order], apart[order]


def _first_near(kept: NDArray[np.uint64], values: NDArray[np.uint64], bits: int) -> NDArray[np.intp]:
    """Position of the first of `kept` within `bits` bits of each value; their number where there is none."""
    first = np.full(len(values), len(kept))
    for mask, _ in _masks(len(kept) + len(values), bits):
        order = np.argsort(kept & mask)
        key = kept[order] & mask
        start, end = (np.searchsorted(key, values & mask, side=side) for side in ("left", "right"))
        one = np.arange(len(values))
        for step in itertools.count():
            one = one[start[one] + step < end[one]]
            if not len(one):
                break
            other = order[start[one] + step]
            near = _ones(kept[other] ^ values[one]) <= bits
            first[one[near]] = np.minimum(first[one[near]], other[near])
    return first


def _close_pairs(
    values: NDArray[np.uint64], bits: int, most: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]] | None:
    """What `_close` gives, unless that is more than `most` pairs."""
    found, pairs = [], 0
    for some in _close(values, bits):
        found.append(some)
        pairs += len(some[0])
        if pairs > most:
            return None
    return found


def _close(
    values: NDArray[np.uint64], bits: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.uint8]]]:
    """Positions of pairs of different values within `bits` bits, each pair once."""
    if not len(values) or not bits:
        return
    for mask, others in _masks(len(values), bits):
        order = np.argsort(values & mask)
        ordered = values[order]
        key = ordered & mask
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        end = np.repeat(np.r_[starts[1:], len(key)], np.diff(np.r_[starts, len(key)]))
        one = np.arange(len(key))
        for step in itertools.count(1):
            one = one[one + step < end[one]]
            if not len(one):
                break
            differing = ordered[one] ^ ordered[one + step]
            distance = _ones(differing)
            near = np.flatnonzero(distance <= bits)
            near = near[np.all([differing[near] & band != 0 for band in others], axis=0)] if others else near
            if len(near):
                yield order[one[near]], order[one[near] + step], distance[near]


def _masks(hashes: int, bits: int) -> Iterator[tuple[np.uint64, list[np.uint64]]]:
    """Bits of which hashes within `bits` bits share one choice or more, and bands that show whether one before did.

    A pair that agrees in more bands than are chosen is met again and again: it counts for the first choice only.
    """
    agreeing = min(range(9), key=lambda agreeing: _work(hashes, bits, agreeing))
    bands = _bands(bits + agreeing)
    for chosen in itertools.combinations(range(len(bands)), agreeing):
        mask = functools.reduce(np.bitwise_or, bands[list(chosen)], np.uint64(0))
        yield mask, [bands[band] for band in range(max(chosen, default=0)) if band not in chosen]


def _work(hashes: int, bits: int, agreeing: int) -> float:
    """Comparisons and steps of sorting, about, if hashes fill their range."""
    share = 0.5 ** (_BITS * agreeing / (bits + agreeing))
    return math.comb(bits + agreeing, agreeing) * hashes * (math.log2(hashes + 1) + hashes * share / 2)


def _bands(count: int) -> NDArray[np.uint64]:
    """Masks that share out the bits of a hash."""
    edges = [_BITS * band // count for band in range(count + 1)]
    return np.array([(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)], dtype=np.uint64)


def _ones(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Number of bits that are set."""
    if hasattr(np, "bitwise_count"):  # from NumPy 2 on
        return np.bitwise_count(values)
    return np.unpackbits(values[..., None].view(np.uint8), axis=-1).sum(axis=-1, dtype=np.uint8)


def _unusable(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    unusable = left[left["problem"] != ""]
    if len(unusable) == len(left):
        problems = data_lists.in_words(unusable["problem"].value_counts().sort_index())
        raise ValueError(f"none of the {len(left)} photos can be decoded ({problems}): is this their folder?")
    return _found(unusable, unusable["problem"])


def _dark(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return _below(left, "channel_variance", settings.min_channel_variance, DARK)


def _blurred(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return _below(left, "laplacian_variance", settings.min_laplacian_variance, BLURRED)


def _below(left: pd.DataFrame, measure: str, threshold: float, reason: str) -> pd.DataFrame:
    below = left[left[measure] < threshold]
    if len(below) == len(left):
        quantiles = left[measure].quantile(list(_QUANTILES))
        shown = ", ".join(f"{100 * share:g} %: {value:.4g}" for share, value in zip(_QUANTILES, quantiles, strict=True))
        raise ValueError(
            f"min_{measure} {threshold:g} leaves none of {len(left)} photos: choose a lower one. Of these photos, so "
            f"many are at or below: {shown}"
        )
    return _found(below, reason, below[measure])


def _exact_copies(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    return _repeated(left, ["sha256"], EXACT_COPY)


def _at_same_coordinate(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    if settings.same_coordinate == "keep":
        return _found(left[:0], SAME_COORDINATE)
    return _repeated(left, ["latitude", "longitude"], SAME_COORDINATE)


def _repeated(left: pd.DataFrame, columns: list[str], reason: str) -> pd.DataFrame:
    repeated = left[left.duplicated(columns)]
    first = left.groupby(columns, sort=False)["id"].transform("first")
    return _found(repeated, reason, of=first[repeated.index])


def _near_identical(left: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    if not settings.near_identical_bits:
        return _found(left[:0], NEAR_IDENTICAL)
    compared = left[comparable(left)]
    kept, distance = _stand_ins(compared["perceptual_hash"].to_numpy(), settings.near_identical_bits - 1)
    repeats = np.flatnonzero(kept != np.arange(len(compared)))
    repeated = compared.iloc[repeats]
    of = compared["id"].iloc[kept[repeats]].set_axis(repeated.index)
    return _found(repeated, NEAR_IDENTICAL, pd.Series(distance[repeats], repeated.index), of)


def _found(
    photos_found: pd.DataFrame, reason: str | pd.Series, value: float | pd.Series = math.nan, of: str | pd.Series = ""
) -> pd.DataFrame:
    return pd.DataFrame({"reason": reason, "value": value, "of": of}, index=photos_found.index)
