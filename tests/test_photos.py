import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import IFDRational
from torchvision.transforms.v2 import functional

from helpers import photo_stores, photos

GPS_IFD, EXIF_IFD, ORIENTATION = 0x8825, 0x8769, 0x0112


def encoded(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def textured(width=120, height=80, seed=0):
    """A photo-like image: smooth shades with some grain."""
    generator = np.random.default_rng(seed)
    smooth = Image.fromarray(generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize((width, height))
    grain = generator.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8))


def png(values, colour_type):
    """A 16-bit PNG, which Pillow itself cannot write in colour."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = values.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def pillow_rgb(data):
    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB"))).permute(2, 0, 1)


def located(latitude, longitude, latitude_ref="N", longitude_ref="E", **tags):
    """A JPEG whose EXIF says where it was taken."""
    exif = Image.Exif()
    gps = {1: latitude_ref, 2: latitude, 3: longitude_ref, 4: longitude}
    exif.get_ifd(GPS_IFD).update({tag: value for tag, value in gps.items() if value is not None})
    exif.get_ifd(EXIF_IFD).update({int(tag[1:], 16): value for tag, value in tags.items()})
    return encoded(Image.new("RGB", (32, 24)), exif=exif)


def sexagesimal(degrees):
    whole = int(degrees)
    minutes = int((degrees - whole) * 60)
    return float(whole), float(minutes), IFDRational(round((degrees - whole - minutes / 60) * 3600 * 10**6), 10**6)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"subsampling": "4:2:0"}])
def test_a_jpeg_has_the_pixels_that_pillow_sees(options):
    data = encoded(textured(), **options)
    photo = photos.decode(data, "a.jpg")
    assert photo.dtype == torch.uint8
    assert photo.shape == (3, 80, 120)
    assert torch.equal(photo, pillow_rgb(data))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_file_keeps_every_pixel(format):
    image = textured()
    options = {"lossless": True} if format == "WEBP" else {}
    photo = photos.decode(encoded(image, format, **options), "a")
    assert np.array_equal(photo.permute(1, 2, 0).numpy(), np.asarray(image))


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_is_converted(format):
    data = encoded(textured().convert("CMYK"), format)
    assert torch.equal(photos.decode(data, "a"), pillow_rgb(data))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_and_palette_become_rgb(mode):
    image = textured().convert(mode)
    photo = photos.decode(encoded(image, "PNG"), "a.png")
    assert np.array_equal(photo.permute(1, 2, 0).numpy(), np.asarray(image.convert("RGB")))


def test_grey_jpeg_becomes_rgb():
    photo = photos.decode(encoded(textured().convert("L")), "a.jpg")
    assert torch.equal(photo[0], photo[1])
    assert torch.equal(photo[0], photo[2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_photo_is_turned_upright(format, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(textured(), format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(photos.decode(data, "a").permute(1, 2, 0).numpy(), np.asarray(upright))


def test_transparent_shows_white_and_half_transparent_shows_half():
    image = Image.new("RGBA", (20, 20), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 10, 20))
    image.paste((200, 0, 0, 128), (10, 10, 20, 20))
    photo = photos.decode(encoded(image, "PNG"), "a.png")
    assert photo[:, 0, 0].tolist() == [200, 0, 0]
    assert photo[:, 0, 15].tolist() == [255, 255, 255]
    assert np.allclose(photo[:, 15, 15].tolist(), [227, 127, 127], atol=1)


def test_a_transparent_palette_colour_shows_white():
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    assert photos.decode(encoded(image, "PNG", transparency=1), "a.png").min() == 255


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for data in (png(values, 0), encoded(Image.fromarray(values), "TIFF")):
        photo = photos.decode(data, "a")
        assert np.abs(photo[0].numpy() - values / 257).max() <= 0.5


def test_sixteen_bit_colour_is_scaled():
    values = np.linspace(0, 65535, 64 * 64 * 3).astype(np.uint16).reshape(64, 64, 3)
    photo = photos.decode(png(values, 2), "a.png")
    assert np.abs(photo.permute(1, 2, 0).numpy() - values / 257).max() <= 1


def test_values_of_unknown_range_are_refused():
    with pytest.raises(photos.PhotoError, match=r"'a\.tif' holds 'F' values") as caught:
        photos.decode(encoded(Image.fromarray(np.ones((20, 20), np.float32)), "TIFF"), "a.tif")
    assert caught.value.reason == "unsupported"


def test_a_truncated_photo_is_refused_wherever_it_is_cut():
    image = textured()
    files = [encoded(image), encoded(image, progressive=True), encoded(image, "PNG"), encoded(image, "WEBP")]
    for data in [*files, encoded(image, "TIFF"), encoded(image, "BMP")]:
        for share in (0.02, 0.2, 0.5, 0.9):
            with pytest.raises(photos.PhotoError, match=r"'a' is truncated or damaged: replace it") as caught:
                photos.decode(data[: int(len(data) * share)], "a")
            assert caught.value.reason == "truncated"


def test_a_jpeg_that_lacks_its_last_byte_or_ends_in_zeros_is_truncated():
    data = encoded(textured())
    for damaged in (data[:-1], data[: len(data) // 2] + bytes(len(data) - len(data) // 2)):
        with pytest.raises(photos.PhotoError, match="truncated"):
            photos.decode(damaged, "a.jpg")


def test_a_jpeg_with_something_behind_it_is_a_photo():
    assert photos.decode(encoded(textured()) + b"a motion photo's film", "a.jpg").shape == (3, 80, 120)


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "empty", r"empty \(0 bytes\)"),
        (b"no photo but a text", "not a photo", "no JPEG, PNG, WebP, TIFF or BMP"),
        (encoded(Image.new("L", (30, 30)), "GIF"), "not a photo", "convert it to JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a photo", "convert it to JPEG"),
        (encoded(Image.new("RGB", (1, 1))), "too small", "1 x 1 pixels"),
        (encoded(Image.new("RGB", (400, 15)), "PNG"), "too small", "400 x 15 pixels"),
        (encoded(Image.new("1", (400, 16)), "PNG"), "too narrow", "400 x 16 pixels"),
        (encoded(Image.new("1", (20_000, 10_000)), "PNG"), "too large", "more than 100 million pixels"),
        (encoded(Image.new("1", (10_001, 10_000)), "PNG"), "too large", "more than 100 million pixels"),
    ],
    ids=["empty", "text", "gif", "postscript", "1x1", "15px", "strip", "200MP", "100MP"],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_good_photo_is_refused_by_its_header(data, reason, says):
    with pytest.raises(photos.PhotoError, match=rf"photo 'in/a\.jpg' .*{says}") as caught:
        photos.decode(data, "in/a.jpg")
    assert caught.value.reason == reason


def test_a_jpeg_that_claims_a_gigapixel_is_refused_before_decoding():
    data = bytearray(encoded(Image.new("L", (64, 64))))
    size_at = data.index(b"\xff\xc0") + 5
    data[size_at : size_at + 4] = struct.pack(">HH", 40_000, 40_000)
    with pytest.raises(photos.PhotoError) as caught:
        photos.decode(bytes(data), "a.jpg")
    assert caught.value.reason == "too large"


def test_pillow_keeps_its_own_limit():
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(photos.PhotoError):
        photos.decode(encoded(Image.new("1", (20_000, 10_000)), "PNG"), "a.png")
    assert before == Image.MAX_IMAGE_PIXELS


def scaled_by_pillow(data, scale):
    image = Image.open(io.BytesIO(data))
    image.draft(image.mode, (image.width // scale, image.height // scale))
    return torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB"))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def large():
    return textured(1000, 800)


@pytest.mark.parametrize(
    ("short_side", "scale"), [(0, 1), (401, 1), (400, 2), (201, 2), (200, 4), (101, 4), (100, 8), (99, 8), (1, 8)]
)
def test_a_large_jpeg_is_scaled_as_far_as_the_short_side_stays(large, short_side, scale):
    data = encoded(large)
    photo = photos.decode(data, "a.jpg", short_side)
    assert photo.shape == (3, 800 // scale, 1000 // scale)
    assert photo.dtype == torch.uint8
    assert torch.equal(photo, scaled_by_pillow(data, scale) if scale > 1 else pillow_rgb(data))


def test_scaling_leaves_what_all_pixels_would_show(large):
    data = encoded(large, quality=90)
    whole, scaled = (photos.resize(photos.decode(data, "a", short_side), 128).float() for short_side in (0, 179))
    assert 0 < (whole - scaled).abs().mean() < 1


@pytest.mark.parametrize("size", [(640, 800), (20, 16)])
def test_a_jpeg_of_few_pixels_and_other_formats_keep_them_all(large, size):
    small = large.resize(size)
    for data in (encoded(small), encoded(large, "PNG"), encoded(large, "WEBP", quality=20)):
        assert torch.equal(photos.decode(data, "a", 16), photos.decode(data, "a"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_scaled_jpeg_is_turned_upright(large, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(large, exif=exif)
    whole, scaled = photos.decode(data, "a"), photos.decode(data, "a", 100)
    assert scaled.shape[1:] == tuple(side // 8 for side in whole.shape[1:])
    shrunk = functional.resize(whole, list(scaled.shape[1:]), antialias=True)
    assert (shrunk.float() - scaled.float()).abs().mean() < 2


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_scaled_grey_or_cmyk_jpeg_is_converted(large, mode, progressive):
    data = encoded(large.convert(mode), progressive=progressive)
    whole, scaled = photos.decode(data, "a"), photos.decode(data, "a", 200)
    assert scaled.shape == (3, 200, 250)
    assert (photos.resize(whole, 200).float() - scaled.float()).abs().mean() < 2


def test_a_scaled_jpeg_with_several_pictures_shows_the_first(large):
    data = encoded(large, "MPO", save_all=True, append_images=[large.rotate(180)])
    assert torch.equal(photos.decode(data, "a", 200), scaled_by_pillow(data, 4))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_however_few_pixels_are_wanted(large, progressive):
    data = encoded(large, progressive=progressive)
    half = len(data) // 2
    for damaged in (data[:-1], data[: len(data) * 9 // 10], data[:half], data[:half] + bytes(len(data) - half)):
        with pytest.raises(photos.PhotoError, match="truncated") as caught:
            photos.decode(damaged, "a.jpg", 100)
        assert caught.value.reason == "truncated"


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([encoded(textured(40, 30), format) for format in ("JPEG", "PNG", "WEBP", "TIFF", "BMP")]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_file_is_a_photo_or_a_photo_error(data, changes):
    damaged = bytearray(data)
    for place, value in changes:
        damaged[place % len(damaged)] = value
    with suppress(photos.PhotoError):
        photo = photos.decode(bytes(damaged), "a")
        assert photo.dtype == torch.uint8
        assert photo.shape[0] == 3


def test_reading_names_what_is_not_there_or_no_file(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    for name in ("nowhere.jpg", "folder.jpg"):
        with pytest.raises(photos.PhotoError, match=rf"photo '{name}' is missing") as caught:
            photos.read(photo_stores.Folder(tmp_path), name)
        assert caught.value.reason == "missing"


def test_reading_refuses_a_giant_file_without_reading_it(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(photo_stores.MAX_BYTES + 1)  # sparse: takes no space
    with pytest.raises(photos.PhotoError, match="larger than 256 MiB") as caught:
        photos.read(photo_stores.Folder(tmp_path), "a.jpg")
    assert caught.value.reason == "too large"


@pytest.mark.parametrize("size", [(640, 480), (480, 640)])
def test_a_large_photo_is_shrunk_to_the_short_side(size):
    data = encoded(textured(*size), quality=95)
    kept = photos.prepare(data, "a", 320)
    assert kept.suffix == ".jpg"
    assert kept.data.startswith(b"\xff\xd8")
    shrunk = photos.resize(photos.decode(data, "a"), 320)
    assert sorted(shrunk.shape) == [3, 320, 426]
    assert (photos.decode(kept.data, "a").float() - shrunk.float()).abs().mean() < 4


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("short_side", [0, 80, 320])
def test_a_small_photo_is_never_enlarged_and_keeps_its_bytes(format, short_side):
    data = encoded(textured(120, 80), format)
    kept = photos.prepare(data, "a", short_side)
    assert kept.data == data
    assert kept.suffix in photos.SUFFIXES
    assert Image.open(io.BytesIO(kept.data)).format == format


def test_a_shrunk_photo_is_upright_and_has_no_exif():
    image = textured(120, 80)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    kept = photos.prepare(encoded(image, exif=exif), "a", 40)
    assert Image.open(io.BytesIO(kept.data)).size == (40, 60)
    assert not Image.open(io.BytesIO(kept.data)).getexif()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("short_side", [0, 40])
def test_preparing_refuses_a_photo_that_is_cut(format, short_side):
    data = encoded(textured(120, 80), format)
    for end in (len(data) * 9 // 10, len(data) // 2):
        with pytest.raises(photos.PhotoError) as caught:
            photos.prepare(data[:end], "a", short_side)
        assert caught.value.reason == "truncated"


def test_a_photo_with_padding_after_its_end_is_whole():
    data = encoded(textured(120, 80)) + b"\0" * 3000
    assert photos.prepare(data, "a", 0).data == data


def test_resizing_is_pillows_antialiased_bilinear():
    image = textured(500, 375)
    photo = photos.resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), 224)
    reference = np.asarray(image.resize((298, 224), Image.Resampling.BILINEAR)).astype(int)
    assert photo.dtype == torch.uint8
    assert photo.shape == (3, 224, 298)
    assert np.abs(photo.permute(1, 2, 0).numpy() - reference).mean() <= 0.05


@given(st.floats(0.01, 90), st.floats(0.01, 180), st.sampled_from("NS"), st.sampled_from("EW"))
@settings(max_examples=60, deadline=None)
def test_an_exif_position_is_read_back(latitude, longitude, north_south, east_west):
    data = located(sexagesimal(latitude), sexagesimal(longitude), north_south, east_west)
    signs = (-1 if north_south == "S" else 1, -1 if east_west == "W" else 1)
    assert np.allclose(photos.exif_position(data, "a"), (signs[0] * latitude, signs[1] * longitude), atol=1e-7)


@pytest.mark.parametrize("refs", [("S", "W"), ("s", "w"), (b"S", b"W"), ("S\0", "W\0"), ("South", "West")])
def test_hemispheres_are_read_as_devices_write_them(refs):
    assert photos.exif_position(located((33, 51, 36.0), (70, 40, 12.0), *refs), "a") == (-33.86, -70.67)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_a_position_is_found_in_other_formats(format):
    exif = Image.Exif()
    exif.get_ifd(GPS_IFD).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (2.0, 15.0, 0.0)})
    data = encoded(Image.new("RGB", (32, 24)), format, exif=exif.tobytes())
    assert photos.exif_position(data, "a") == (48.5, 2.25)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("RGB", (32, 24))),
        located(None, None, None, None),
        located(None, None),
        encoded(Image.new("RGB", (32, 24)), "PNG"),
    ],
    ids=["no EXIF", "no GPS", "hemispheres only", "PNG"],
)
def test_no_position_is_none(data):
    assert photos.exif_position(data, "a") is None


@pytest.mark.parametrize(
    "data",
    [
        located((48.0, 51.0, IFDRational(0, 0)), (2.0, 17.0, 40.0)),
        located((48.0, 51.0, 30.0), (IFDRational(2, 0), 17.0, 40.0)),
        located((48.0, 51.0, 30.0), None),
        located((48.0, 51.0, 30.0), (2.0, 17.0, 40.0), longitude_ref=None),
        located((48.0, 51.0, 30.0), (2.0, 17.0, 40.0), latitude_ref="?"),
        located((48.0, 51.0, 30.0), (2.0, 17.0, 40.0), latitude_ref="E"),
        located((95.0, 0.0, 0.0), (2.0, 17.0, 40.0)),
        located((48.0, 0.0, 0.0), (180.0, 0.0, 0.1)),
        located((48.0, 61.0, 0.0), (2.0, 0.0, 0.0)),
        located((48.0, 51.0), (2.0, 17.0)),
        located((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        located((48.0, 51.0, 30.0), (2.0, 17.0, 40.0)).replace(b"\0\x04\0\x05\0\0\0\x03", b"\0\x04\0\x02\0\0\0\x03"),
    ],
)
def test_a_broken_position_is_an_error_that_names_the_photo(data):
    with pytest.raises(photos.PositionError, match=r"'a\.jpg' is broken") as caught:
        photos.exif_position(data, "a.jpg")
    assert caught.value.reason == "broken position in EXIF"


def test_the_equator_and_the_meridian_are_places():
    assert photos.exif_position(located((0.0, 0.0, 0.0), (9.0, 30.0, 0.0)), "a") == (0, 9.5)


def test_the_time_is_read_with_its_offset():
    assert photos.exif_time(located((1.0, 0.0, 0.0), (1.0, 0.0, 0.0), x9003="2023:05:06 07:08:09"), "a") == (
        "2023-05-06T07:08:09"
    )
    data = located(None, None, x9003="2023:05:06 07:08:09", x9011="+02:00")
    assert photos.exif_time(data, "a") == "2023-05-06T07:08:09+02:00"


@pytest.mark.parametrize("value", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", "2023:13:45 07:08:09"])
def test_a_time_that_is_none_is_empty(value):
    assert photos.exif_time(located(None, None, x9003=value), "a") == ""
