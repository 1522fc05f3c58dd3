"""Decode, resize and judge a photo.

Decoding takes the fast way for JPEG (torchvision's decoder, straight into a tensor) and Pillow for the other formats;
both give the same pixels. A large JPEG of which few pixels are wanted is decoded by Pillow at a fraction of its scale.
A photo is judged by its header before anything is decoded, so that a file that lies about what it is costs neither time
nor memory.
"""

import io
import math
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from helpers import photo_stores

MAX_PIXELS = 100_000_000
MIN_SIDE = 16
MAX_ASPECT = 20  # beyond this, a resized strip would fill the memory
NO_POSITION = "no position in EXIF"
"""Reason of photos whose EXIF says nothing of where they were taken."""
JPEG_QUALITY = 90  # of photos that are shrunk: as good as the eye can tell, in half the bytes of 95
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".tif", ".tiff", ".bmp")

# The Pillow plugins that may touch a file, by how the file begins: each plugin more is one more parser to attack.
_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"RIFF": "WEBP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
_JPEG_SCALES = (2, 4, 8)
# Of a photo that is decoded faster at half its scale, by Pillow, than whole, by torchvision.
_PIXELS_WORTH_SCALING = 1 << 19
_JPEG_END = b"\xff\xd9"
_PADDING = 1024  # bytes that cameras and servers leave after the end of a JPEG
_COLOUR_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr"}

# Tags of the EXIF standard (CIPA DC-008, "Exif 3.0").
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
_CAPTURED, _CAPTURED_OFFSET = 0x9003, 0x9011


class PhotoError(ValueError):
    """A file that cannot serve as a photo.

    Attributes
    ----------
    reason : str
        By which bad photos are counted: ``missing``, ``empty``, ``not a photo``, ``truncated``, ``unsupported``, ``too
        small``, ``too narrow``, ``too large``, or why a store refuses the file.
    """

    # One positional argument and a default, so that a DataLoader can rebuild it from a worker's message.
    def __init__(self, message: str, reason: str = "unsupported") -> None:
        super().__init__(message)
        self.reason = reason


class PositionError(PhotoError):
    """EXIF that speaks of a position but does not give one; the reason is ``broken position in EXIF``."""

    def __init__(self, message: str, reason: str = "broken position in EXIF") -> None:
        super().__init__(message, reason)


class Prepared(NamedTuple):
    """A photo as it is kept."""

    data: bytes
    suffix: str
    """Of the format of `data`, e.g. ``.jpg``."""


def read(store: photo_stores.PhotoStore, path: str, short_side: int = 0) -> Tensor:
    """Decode a photo of a store; see `decode`."""
    return decode(read_bytes(store, path), path, short_side)


def read_bytes(store: photo_stores.PhotoStore, path: str) -> bytes:
    """Bytes of a photo of a store.

    Raises
    ------
    PhotoError
        If the store has no such file, or one that cannot be read.
    photo_stores.Unreadable
        If the path leaves the store: nobody should go on without noticing that.
    """
    try:
        return store.read(path)
    except photo_stores.Unreadable as error:
        if error.reason == photo_stores.UNSAFE:
            raise
        raise PhotoError(str(error), error.reason) from None
    except OSError as error:
        raise PhotoError(f"photo {path!r} is missing: {error}", "missing") from None


def decode(data: bytes, name: str, short_side: int = 0) -> Tensor:
    """Decode a photo, turned upright as its EXIF orientation says.

    Grey becomes RGB, CMYK is converted, 16-bit values are scaled to 8 bits, and what is transparent shows white, as on
    a page. Of a file with several frames the first is taken.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, WebP, TIFF or BMP file.
    name : str
        What errors call the photo.
    short_side : int
        Pixels that the shorter side must keep at least: a large JPEG is decoded at 1/2, 1/4 or 1/8 of its scale, by its
        own transform, as far as that leaves so many. 0 keeps all pixels.

    Returns
    -------
    Tensor
        RGB, uint8, of shape (3, height, width). Like torchvision's, it lies in memory with the channels last.

    Raises
    ------
    PhotoError
        If the file is empty, is no photo of these formats, is truncated or damaged, has a side shorter than
        `MIN_SIDE` pixels, a side more than `MAX_ASPECT` times the other, or more than `MAX_PIXELS` pixels.
    """
    image = opened(data, name)
    scale = _jpeg_scale(image, short_side) if short_side else 1
    scaled = _scaled_jpeg(image, scale, name) if scale > 1 else None
    return _decoded(image, data, name) if scaled is None else scaled


def _jpeg_scale(image: Image.Image, short_side: int) -> int:
    """Largest divisor that leaves a JPEG `short_side` pixels, 1 where decoding all of it is as fast."""
    if image.format not in ("JPEG", "MPO") or image.width * image.height < _PIXELS_WORTH_SCALING:
        return 1
    return max((scale for scale in _JPEG_SCALES if min(image.size) >= scale * short_side), default=1)


def _scaled_jpeg(image: Image.Image, scale: int, name: str) -> Tensor | None:
    """A JPEG at a fraction of its scale, or None where Pillow cannot: whole, it is judged like any other."""
    try:
        image.draft(image.mode, (image.width // scale, image.height // scale))
        pixels = np.array(_eight_bit_rgb(ImageOps.exif_transpose(image), name))
    except Exception:  # decoders raise anything from struct.error to IndexError on hostile files
        return None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _decoded(image: Image.Image, data: bytes, name: str) -> Tensor:
    try:
        if data.startswith(b"\xff\xd8"):
            # The copy, a hundredth of the time of decoding, is writable, as torch wants its memory.
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return decode_jpeg(encoded, mode=ImageReadMode.RGB, apply_exif_orientation=True)
        pixels = np.array(_eight_bit_rgb(ImageOps.exif_transpose(image), name))
    except (PhotoError, MemoryError):
        raise
    except Exception as error:  # decoders raise anything from struct.error to IndexError on hostile files
        raise _damaged(name) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize(photo: Tensor, short_side: int, how: InterpolationMode = InterpolationMode.BILINEAR) -> Tensor:
    """Scale a photo so that its shorter side is `short_side` pixels long.

    Parameters
    ----------
    photo : Tensor
        uint8, of shape (3, height, width).
    short_side : int
        In pixels; enlarging a small photo is the caller's choice.
    how : InterpolationMode

    Returns
    -------
    Tensor
        uint8; bilinear it is antialiased, as Pillow and torchvision do.
    """
    return functional.resize(photo, [short_side], interpolation=how, antialias=True)


def prepare(data: bytes, name: str, short_side: int) -> Prepared:
    """Judge a photo, and shrink it where it is larger than asked for.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, WebP, TIFF or BMP file.
    name : str
        What errors call the photo.
    short_side : int
        Pixels that the shorter side may have; 0 keeps any photo as it came.

    Returns
    -------
    Prepared
        A larger photo turned upright, shrunk and encoded as JPEG without EXIF; any other with the bytes it came with.

    Raises
    ------
    PhotoError
        As :func:`decode` does. What is kept as it came is decoded only if it is no JPEG with its end in place: a
        download is cut at its end, and decoding takes ten times as long as all else.
    """
    image = opened(data, name)
    if short_side and min(image.size) > short_side:
        photo = resize(_decoded(image, data, name), short_side)
        encoded = encode_jpeg(photo, quality=JPEG_QUALITY).numpy().tobytes()
        return Prepared(encoded, ".jpg")
    if image.format not in ("JPEG", "MPO") or not has_jpeg_end(data):
        _decoded(image, data, name)
    return Prepared(data, _SUFFIX.get(str(image.format), ".jpg"))


def thumbnails(store: photo_stores.PhotoStore, paths: Iterable[str], short_side: int = 128) -> list[NDArray[np.uint8]]:
    """Small copies of photos for a contact sheet, each of shape (height, width, 3)."""
    small = (resize(read(store, path), short_side) for path in paths)
    return [photo.permute(1, 2, 0).numpy() for photo in small]


def exif_position(data: bytes, name: str) -> tuple[float, float] | None:
    """Where a photo was taken, as its EXIF says.

    Returns
    -------
    tuple of float, or None
        Latitude and longitude in degrees, rounded to 7 decimals (1 cm); None where EXIF says nothing of a position.

    Raises
    ------
    PositionError
        If there is half a position, no hemisphere, a zero denominator, a value out of range, or exactly 0° N 0° E,
        which devices write when they do not know.
    PhotoError
        If the file is no photo.
    """
    image = opened(data, name)
    try:
        gps = image.getexif().get_ifd(_GPS_IFD)
    except Exception as error:  # Pillow raises anything from struct.error to KeyError on damaged EXIF
        raise PositionError(f"the EXIF of photo {name!r} is damaged: mend it, or leave it out") from error
    if _LATITUDE not in gps and _LONGITUDE not in gps:
        return None
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        raise PositionError(f"the EXIF position of photo {name!r} is broken: mend it, or leave it out")
    return latitude, longitude


def exif_time(data: bytes, name: str) -> str:
    """When a photo was taken by its camera's clock, in ISO 8601, or ``""`` where EXIF does not say.

    Raises
    ------
    PhotoError
        If the file is no photo.
    """
    image = opened(data, name)
    try:
        exif = image.getexif().get_ifd(_EXIF_IFD)
        captured = datetime.strptime(str(exif[_CAPTURED]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except Exception:  # no or a damaged time loses nothing else
        return ""
    offset = str(exif.get(_CAPTURED_OFFSET, "")).strip("\0 ")
    return captured.isoformat() + (offset if re.fullmatch(r"[+-]\d\d:\d\d", offset) else "")


def opened(data: bytes, name: str) -> Image.Image:
    """Read the header of a photo and judge by it; pixels are not decoded yet.

    Raises
    ------
    PhotoError
        For what the header shows, which is all that :func:`decode` refuses but truncated and damaged pixels.
    """
    if not data:
        raise PhotoError(f"photo {name!r} is empty (0 bytes): replace it, or leave it out", "empty")
    plugin = next((plugin for signature, plugin in _SIGNATURES.items() if data.startswith(signature)), None)
    if plugin is None:
        raise PhotoError(
            f"photo {name!r} is no JPEG, PNG, WebP, TIFF or BMP file: convert it to JPEG, or leave it out",
            "not a photo",
        )
    try:
        image = Image.open(io.BytesIO(data), formats=[plugin])
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except Exception as error:  # Pillow's parsers raise anything from struct.error to IndexError on hostile files
        raise _damaged(name) from error
    short, long = sorted(image.size)
    if short < MIN_SIDE:
        raise PhotoError(
            f"photo {name!r} is too small: {image.width} x {image.height} pixels, the shorter side must have "
            f"{MIN_SIDE} or more: replace it, or leave it out",
            "too small",
        )
    if short * long > MAX_PIXELS:
        raise _too_large(name)
    if long > MAX_ASPECT * short:
        raise PhotoError(
            f"photo {name!r} is too narrow: {image.width} x {image.height} pixels, one side may be {MAX_ASPECT} times "
            "the other: crop it, or leave it out",
            "too narrow",
        )
    return image


def has_jpeg_end(data: bytes) -> bool:
    """Whether a JPEG has its end in place; what a download cut has not."""
    return data.rfind(_JPEG_END, -_PADDING) >= 0


def _damaged(name: str) -> PhotoError:
    return PhotoError(f"photo {name!r} is truncated or damaged: replace it, or leave it out", "truncated")


def _too_large(name: str) -> PhotoError:
    return PhotoError(
        f"photo {name!r} is too large: more than {MAX_PIXELS // 10**6} million pixels: shrink it, or leave it out",
        "too large",
    )


def _eight_bit_rgb(image: Image.Image, name: str) -> Image.Image:
    # Older releases of Pillow open 16-bit grey PNG as "I". Pillow's own conversion clips at 255 instead of scaling.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode not in _COLOUR_MODES:
        raise PhotoError(
            f"photo {name!r} holds {image.mode!r} values, whose range is unknown: convert it to JPEG, or leave it out",
            "unsupported",
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _degrees(values: Any, reference: Any, hemispheres: str, limit: int) -> float | None:
    """Signed degrees of three EXIF rationals and a hemisphere, or None if they make none.

    Examples
    --------
    >>> _degrees((33.0, 51.0, 36.0), b"s", "NS", 90)
    -33.86
    """
    if isinstance(reference, bytes):
        reference = reference.decode("ascii", "replace")
    letter = str(reference or "").strip("\0 ").upper()[:1]
    if not letter or letter not in hemispheres:
        return None
    try:
        degrees, minutes, seconds = map(float, values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    value = degrees + minutes / 60 + seconds / 3600
    # Written so that NaN, which Pillow makes of a zero denominator, fails too.
    if not (degrees >= 0 and 0 <= minutes <= 60 and 0 <= seconds <= 60 and value <= limit) or math.isinf(value):
        return None
    return round(-value if letter == hemispheres[1] else value, 7)
