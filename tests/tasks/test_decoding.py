import contextlib
import io
import re
import struct
import sys
import time
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import tasks.decoding
from ssdnet_core.errors import SsdnetError
from tasks.decoding import (
    MAX_PIXELS,
    SUFFIXES,
    DecodeError,
    ImageHeader,
    IncompleteHeaderError,
    decode,
    read_header,
    require_size,
)

HEIGHT, WIDTH = 11, 14
RNG = np.random.default_rng(7)
DTYPES = {8: np.uint8, 16: np.uint16, 32: np.float32, 64: np.float64}


def noise(channels=1, dtype=np.uint8, shape=(HEIGHT, WIDTH)):
    size = shape if channels == 1 else (*shape, channels)
    if np.issubdtype(dtype, np.floating):
        return RNG.normal(size=size).astype(dtype)
    return RNG.integers(0, np.iinfo(dtype).max, size, dtype=dtype, endpoint=True)


def pillow(pixels, name, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_png_chunk(data, kind, content):
    """Insert a chunk after the header of a PNG."""
    return data[:33] + png_chunk(kind, content) + data[33:]


def patched_tiff(data, tag, value):
    """Overwrite the value of a tag that a little-endian classic TIFF holds inline."""
    start = struct.unpack_from("<I", data, 4)[0]
    for entry in range(start + 2, start + 2 + 12 * struct.unpack_from("<H", data, start)[0], 12):
        code, kind = struct.unpack_from("<HH", data, entry)
        if code == tag:
            return data[: entry + 8] + struct.pack("<H2x" if kind == 3 else "<I", value) + data[entry + 12 :]
    raise KeyError(tag)


def colours(pixels):
    return pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]


# Name of the file: the bytes, the pixels expected (exactly), and whether there is alpha.
GREY, RGB, LA, RGBA = noise(), noise(3), noise(2), noise(4)
GREY16, RGB16, LA16, RGBA16 = (noise(channels, np.uint16) for channels in (1, 3, 2, 4))
FLOAT, FLOAT_RGB = noise(1, np.float32), noise(3, np.float32)
BILEVEL = GREY > 127
INDICES = Image.fromarray(GREY % 8).convert("P")
INDICES.putpalette(RGB.tobytes()[:24])
PALETTED = np.array(INDICES.convert("RGB"))
SEPARATE = {"photometric": "rgb", "planarconfig": "separate"}
MINISBLACK = {"photometric": "minisblack"}
MARKED = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}

LOSSLESS = {
    "png grey": (pillow(GREY, "PNG"), GREY),
    "png grey alpha": (pillow(LA, "PNG"), LA),
    "png rgb": (pillow(RGB, "PNG"), RGB),
    "png rgba": (pillow(RGBA, "PNG"), RGBA),
    "png grey 16": (imagecodecs.png_encode(GREY16), GREY16),
    "png grey alpha 16": (imagecodecs.png_encode(LA16), LA16),
    "png rgb 16": (imagecodecs.png_encode(RGB16), RGB16),
    "png rgba 16": (imagecodecs.png_encode(RGBA16), RGBA16),
    "png 1 bit": (pillow(BILEVEL, "PNG"), BILEVEL * np.uint8(255)),
    "png palette": (pillow(INDICES, "PNG"), PALETTED),
    "bmp grey": (pillow(GREY, "BMP"), GREY),
    "bmp rgb": (pillow(RGB, "BMP"), RGB),
    "bmp 1 bit": (pillow(BILEVEL, "BMP"), BILEVEL * np.uint8(255)),
    "bmp palette": (pillow(INDICES, "BMP"), PALETTED),
    "webp rgb": (pillow(RGB, "WEBP", lossless=True), RGB),
    "webp rgba": (pillow(RGBA, "WEBP", lossless=True, exact=True), RGBA),
    "tiff grey": (tiff(GREY), GREY),
    "tiff grey alpha": (tiff(LA, **MARKED), LA),
    "tiff rgb": (tiff(RGB), RGB),
    "tiff rgba": (tiff(RGBA), RGBA),
    "tiff grey 16": (tiff(GREY16), GREY16),
    "tiff rgb 16": (tiff(RGB16, photometric="rgb"), RGB16),
    "tiff rgba 16": (tiff(RGBA16, photometric="rgb"), RGBA16),
    "tiff rgb 16 big-endian": (tiff(RGB16, photometric="rgb", byteorder=">"), RGB16),
    "tiff rgb bigtiff": (tiff(RGB, bigtiff=True), RGB),
    "tiff big-endian bigtiff": (tiff(GREY16, bigtiff=True, byteorder=">"), GREY16),
    "tiff separate planes": (tiff(np.moveaxis(RGB16, -1, 0), **SEPARATE), RGB16),
    "tiff separate planes with alpha": (tiff(np.moveaxis(RGBA, -1, 0), **SEPARATE), RGBA),
    "tiff separate planes, tiled": (
        tiff(np.moveaxis(RGB, -1, 0), tile=(16, 16), compression="zlib", **SEPARATE),
        RGB,
    ),
    "tiff channels not called rgb": (tiff(RGB, planarconfig="contig", **MINISBLACK), RGB),
    "tiff float": (tiff(FLOAT), FLOAT),
    "tiff float rgb": (tiff(FLOAT_RGB, photometric="rgb"), FLOAT_RGB),
    "tiff float predictor": (tiff(FLOAT, compression="zlib", predictor=3), FLOAT),
    "tiff half float": (tiff(FLOAT.astype(np.float16)), FLOAT.astype(np.float16).astype(np.float32)),
    "tiff double far from zero": (tiff(FLOAT.astype(np.float64) + 1e9), FLOAT.astype(np.float64) + 1e9),
    "tiff 1 bit": (pillow(BILEVEL, "TIFF"), BILEVEL * np.uint8(255)),
    "tiff palette": (pillow(INDICES, "TIFF"), PALETTED),
    "tiff white is zero": (tiff(GREY16, photometric="miniswhite"), 65535 - GREY16),
    "tiff lzw": (tiff(RGB, compression="lzw", predictor=True), RGB),
    "tiff deflate strips": (tiff(RGB16, photometric="rgb", compression="zlib", rowsperstrip=3), RGB16),
    "tiff packbits": (tiff(GREY, compression="packbits"), GREY),
    "tiff zstd": (tiff(GREY16, compression="zstd"), GREY16),
    "tiff tiles": (tiff(RGB16, photometric="rgb", tile=(16, 16), compression="lzw"), RGB16),
    "tiff lzw by libtiff": (pillow(RGB, "TIFF", compression="tiff_lzw"), RGB),
}
LOSSY = {
    "jpeg grey": pillow(GREY, "JPEG"),
    "jpeg rgb": pillow(RGB, "JPEG"),
    "jpeg progressive": pillow(RGB, "JPEG", progressive=True),
    "jpeg cmyk": pillow(Image.fromarray(RGBA, "CMYK"), "JPEG"),
    "webp lossy": pillow(RGB, "WEBP"),
    "webp lossy with alpha": pillow(RGBA, "WEBP"),
}
FILES = {name: data for name, (data, _) in LOSSLESS.items()} | LOSSY
every_file = pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())


@pytest.mark.parametrize(("data", "pixels"), LOSSLESS.values(), ids=LOSSLESS.keys())
def test_a_lossless_file_gives_the_pixels_it_was_made_of(data, pixels):
    decoded = decode(data)
    alpha = pixels[..., -1] if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else None
    expected = pixels if alpha is None else colours(pixels)
    assert decoded.pixels.dtype == expected.dtype
    np.testing.assert_array_equal(decoded.pixels, expected)
    if alpha is None:
        assert decoded.mask is None
    else:
        assert decoded.mask.dtype == bool
        np.testing.assert_array_equal(decoded.mask, alpha < np.iinfo(alpha.dtype).max / 2)


@pytest.mark.parametrize("name", [name for name in LOSSY if "alpha" not in name])
def test_a_lossy_file_gives_what_pillow_makes_of_it(name):
    image = Image.open(io.BytesIO(LOSSY[name]))
    expected = np.array(image if image.mode == "L" else image.convert("RGB"))
    np.testing.assert_array_equal(decode(LOSSY[name]).pixels, expected)


@every_file
def test_the_header_says_what_decoding_gives(data):
    header, decoded = read_header(data), decode(data)
    shape = (header.height, header.width) + ((3,) if header.channels == 3 else ())
    assert decoded.pixels.shape == shape
    assert decoded.pixels.dtype == DTYPES[header.bit_depth]
    assert decoded.pixels.flags.c_contiguous
    assert decoded.pixels.flags.writeable
    assert decoded.mask is None or header.has_alpha


@pytest.mark.parametrize(
    ("name", "image_format", "channels", "bit_depth", "has_alpha"),
    [
        ("png grey", "PNG", 1, 8, False),
        ("png grey alpha 16", "PNG", 1, 16, True),
        ("png palette", "PNG", 3, 8, False),
        ("bmp 1 bit", "BMP", 1, 8, False),
        ("jpeg cmyk", "JPEG", 3, 8, False),
        ("webp lossy", "WebP", 3, 8, False),
        ("webp lossy with alpha", "WebP", 3, 8, True),
        ("webp rgba", "WebP", 3, 8, True),
        ("tiff rgba 16", "TIFF", 3, 16, True),
        ("tiff half float", "TIFF", 1, 32, False),
    ],
)
def test_the_header_is_read_in_full(name, image_format, channels, bit_depth, has_alpha):
    assert read_header(FILES[name]) == ImageHeader(
        format=image_format, height=HEIGHT, width=WIDTH, channels=channels, bit_depth=bit_depth, has_alpha=has_alpha
    )


# Pixels: alpha, transparent colours, values that are not finite


@pytest.mark.parametrize(("dtype", "last_hidden"), [(np.uint8, 127), (np.uint16, 32767)])
def test_alpha_hides_a_pixel_below_half_of_full(dtype, last_hidden):
    pixels = noise(4, dtype)
    pixels[..., 3] = last_hidden + 1
    pixels[2, 3, 3] = last_hidden
    mask = decode(imagecodecs.png_encode(pixels)).mask
    assert list(zip(*np.nonzero(mask), strict=True)) == [(2, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_that_were_multiplied_by_a_partial_alpha_are_refused(dtype):
    pixels, full = noise(4, dtype), np.iinfo(dtype).max
    pixels[..., 3] = np.where(np.arange(WIDTH) < 5, 0, full)
    multiplied = {"photometric": "rgb", "extrasamples": ["assocalpha"]}
    decoded = decode(tiff(pixels, **multiplied))
    np.testing.assert_array_equal(decoded.mask, pixels[..., 3] == 0)
    np.testing.assert_array_equal(decoded.pixels, pixels[..., :3])
    pixels[2, 8:10, 3] = full - 1
    with pytest.raises(DecodeError, match=r"2 pixels of partial transparency .*unassociated"):
        decode(tiff(pixels, **multiplied))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_alpha_of_a_few_bits_is_full_where_all_of_them_are_set(bits):
    full = 2**bits - 1
    pixels = RNG.integers(0, full, (HEIGHT, WIDTH, 2), dtype=np.uint8, endpoint=True)
    pixels[..., 1] = np.where(np.arange(WIDTH) < 5, 0, full)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["assocalpha"]}
    decoded = decode(tiff(pixels, bitspersample=bits, **options))
    np.testing.assert_array_equal(decoded.mask, pixels[..., 1] == 0)
    np.testing.assert_array_equal(decoded.pixels, pixels[..., 0] * (255 // full))


def test_an_opaque_alpha_channel_gives_no_mask():
    pixels = RGBA.copy()
    pixels[..., 3] = 255
    decoded = decode(pillow(pixels, "PNG"))
    assert decoded.mask is None
    np.testing.assert_array_equal(decoded.pixels, pixels[..., :3])


def test_a_transparent_colour_of_a_palette_is_masked():
    data = pillow(INDICES, "PNG", transparency=3)
    decoded = decode(data)
    assert read_header(data).has_alpha
    np.testing.assert_array_equal(decoded.mask, np.asarray(INDICES) == 3)
    np.testing.assert_array_equal(decoded.pixels, PALETTED)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_transparent_grey_is_masked(bits):
    pixels = noise(1, DTYPES[bits])
    data = with_png_chunk(imagecodecs.png_encode(pixels), b"tRNS", struct.pack(">H", pixels[4, 5]))
    decoded = decode(data)
    assert read_header(data).has_alpha
    np.testing.assert_array_equal(decoded.mask, pixels == pixels[4, 5])
    np.testing.assert_array_equal(decoded.pixels, pixels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_is_masked(bits):
    levels = RNG.integers(0, 2**bits, (HEIGHT, 16), dtype=np.uint8)
    bit_rows = np.unpackbits(levels[:, :, None], axis=2)[:, :, -bits:].reshape(HEIGHT, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in np.packbits(bit_rows, axis=1))
    hidden = levels[4, 5]
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16, HEIGHT, bits, 0, 0, 0, 0))
    transparency = png_chunk(b"tRNS", struct.pack(">H", hidden))
    data = (
        b"\x89PNG\r\n\x1a\n" + header + transparency + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    )
    decoded = decode(data)
    np.testing.assert_array_equal(decoded.mask, levels == hidden)
    np.testing.assert_array_equal(decoded.pixels, levels * (255 // (2**bits - 1)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_masked_and_zero(value):
    pixels = FLOAT_RGB.copy()
    pixels[1, 2, 1] = value
    decoded = decode(tiff(pixels, photometric="rgb"))
    assert list(zip(*np.nonzero(decoded.mask), strict=True)) == [(1, 2)]
    assert decoded.not_finite == pytest.approx(1 / FLOAT.size)
    pixels[1, 2] = 0
    np.testing.assert_array_equal(decoded.pixels, pixels)


def test_a_double_beyond_single_precision_is_masked():
    pixels = FLOAT.astype(np.float64)
    pixels[0, 0] = 1e300
    decoded = decode(tiff(pixels))
    assert decoded.mask.sum() == 1
    assert decoded.pixels[0, 0] == 0


def test_alpha_of_a_floating_point_tiff_is_full_at_one():
    pixels = np.dstack([FLOAT_RGB, np.linspace(0, 1, FLOAT.size, dtype=np.float32).reshape(FLOAT.shape)])
    pixels[0, 0, 3] = pixels[5, 5, 3] = np.nan
    pixels[3, 3, 3], pixels[3, 4, 3] = 0.5, np.nextafter(np.float32(0.5), np.float32(0))
    decoded = decode(tiff(pixels, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(decoded.mask, ~(pixels[..., 3] >= 0.5))


def test_a_value_that_is_not_finite_is_none_to_tell_of_where_it_is_transparent():
    pixels = np.dstack([FLOAT, np.ones_like(FLOAT)])
    pixels[0, :2, 0] = np.nan
    pixels[0, 0, 1] = 0
    decoded = decode(tiff(pixels, extrasamples=["unassalpha"]))
    assert int(decoded.mask.sum()) == 2
    assert decoded.not_finite == pytest.approx(1 / FLOAT.size)


# Orientation


def upright_by_definition(stored, orientation):
    """Where the EXIF specification puts row 0 and column 0 of what is stored, pixel by pixel."""
    rows, columns = stored.shape[:2]
    swapped = orientation >= 5
    shown = np.empty((columns, rows) if swapped else (rows, columns), stored.dtype)
    bottom, right = shown.shape[0] - 1, shown.shape[1] - 1
    for i in range(rows):
        for j in range(columns):
            place = {
                1: (i, j),  # row 0 at the top, column 0 at the left
                2: (i, right - j),  # top, right
                3: (bottom - i, right - j),  # bottom, right
                4: (bottom - i, j),  # bottom, left
                5: (j, i),  # left, top
                6: (j, right - i),  # right, top
                7: (bottom - j, right - i),  # right, bottom
                8: (bottom - j, i),  # left, bottom
            }[orientation]
            shown[place] = stored[i, j]
    return shown


ORIENTED = {
    "png": lambda pixels, turn: pillow(pixels, "PNG", exif=exif(turn)),
    "png 16": lambda pixels, turn: with_png_chunk(
        imagecodecs.png_encode(pixels.astype(np.uint16) * 257), b"eXIf", exif(turn)[6:]
    ),
    "webp": lambda pixels, turn: pillow(pixels, "WEBP", lossless=True, exact=True, exif=exif(turn)),
    "tiff": lambda pixels, turn: tiff(pixels, extratags=[(274, 3, 1, turn, True)]),
    "tiff 16": lambda pixels, turn: tiff(
        pixels.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, 3, 1, turn, True)]
    ),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encode", ORIENTED.values(), ids=ORIENTED.keys())
def test_pixels_and_mask_are_turned_upright(encode, orientation):
    data = encode(RGBA, orientation)
    decoded = decode(data)
    expected = [upright_by_definition(RGBA[..., channel], orientation) for channel in range(4)]
    scale = 257 if decoded.pixels.dtype == np.uint16 else 1
    np.testing.assert_array_equal(decoded.pixels, np.dstack(expected[:3]).astype(np.uint16) * scale)
    np.testing.assert_array_equal(decoded.mask, expected[3] < 128)
    header = read_header(data)
    assert (header.height, header.width) == expected[3].shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_pillow_turns_it(orientation):
    data = pillow(RGB, "JPEG", exif=exif(orientation))
    expected = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decode(data).pixels, expected)
    assert (read_header(data).height, read_header(data).width) == expected.shape[:2]


def test_the_orientation_of_a_webp_is_found_behind_a_chunk_of_odd_length():
    data = pillow(RGB, "WEBP", exif=exif(6))
    longer = data[:4] + struct.pack("<I", len(data) - 8 + 12) + data[8:30] + b"ODD \3\0\0\0abc\0" + data[30:]
    header = read_header(longer)
    assert (header.height, header.width) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_leaves_the_pixels_as_stored(orientation):
    data = pillow(RGB, "PNG", exif=exif(orientation))
    np.testing.assert_array_equal(decode(data).pixels, RGB)
    assert (read_header(data).height, read_header(data).width) == RGB.shape[:2]


def test_damaged_exif_data_leave_the_pixels_as_stored():
    data = with_png_chunk(pillow(RGB, "PNG"), b"eXIf", b"II*\0\xff\xff")
    np.testing.assert_array_equal(decode(data).pixels, RGB)


# Prefixes


LARGE = noise(3, np.uint8, (200, 300))


@pytest.mark.parametrize(
    "data",
    [
        pillow(LARGE, "PNG", exif=exif(6)),
        pillow(LARGE, "JPEG", exif=exif(6)),
        pillow(LARGE, "BMP"),
        pillow(LARGE, "WEBP"),
        pillow(LARGE, "WEBP", lossless=True),
        pillow(noise(4, np.uint8, (200, 300)), "WEBP"),
        imagecodecs.png_encode(LARGE.astype(np.uint16)),
    ],
    ids=["png", "jpeg", "bmp", "webp lossy", "webp lossless", "webp extended", "png 16"],
)
def test_a_kilobyte_of_the_file_holds_the_header(data):
    assert len(data) > 10_000
    assert read_header(data[:1024]) == read_header(data)


@every_file
def test_a_prefix_gives_the_header_of_the_file_or_asks_for_more(data):
    header = read_header(data)
    for length in range(12, len(data), 3):
        with contextlib.suppress(IncompleteHeaderError):
            assert read_header(data[:length]) == header


@pytest.mark.parametrize(
    "data",
    [
        pillow(LARGE, "TIFF", compression="tiff_lzw"),
        pillow(LARGE, "WEBP", exif=exif(6)),
        pillow(LARGE, "JPEG", icc_profile=bytes(5000)),
    ],
    ids=["tiff, directory last", "webp, exif last", "jpeg, long profile first"],
)
def test_a_header_beyond_the_prefix_asks_for_the_whole_file(data):
    with pytest.raises(IncompleteHeaderError, match="pass the whole file"):
        read_header(data[:1024])
    assert read_header(data).channels == 3


# Files cut short


@every_file
def test_a_file_cut_anywhere_raises(data):
    # The padding of a BMP's last row holds no pixels.
    end = len(data) - (3 if data.startswith(b"BM") else 0)
    for length in {*range(0, end, 5), *range(end - 30, end)}:
        with pytest.raises(DecodeError):
            decode(data[:length])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize(
    "data",
    [
        pillow(LARGE, "PNG"),
        imagecodecs.png_encode(LARGE.astype(np.uint16) * 200),
        pillow(LARGE, "JPEG", quality=98),
        pillow(LARGE, "JPEG", quality=98, progressive=True),
        pillow(np.full_like(LARGE, 90), "JPEG"),
        pillow(LARGE, "BMP"),
        pillow(LARGE, "WEBP"),
        tiff(LARGE),
        tiff(LARGE, compression="lzw", rowsperstrip=10),
        pillow(LARGE, "TIFF"),
    ],
    ids=[
        "png",
        "png 16",
        "jpeg",
        "progressive",
        "flat jpeg",
        "bmp",
        "webp",
        "tiff",
        "tiff lzw",
        "tiff pillow",
    ],
)
def test_a_large_file_cut_short_raises(data, fraction):
    with pytest.raises(DecodeError, match="truncated"):
        decode(data[: min(int(fraction * len(data)), len(data) - 1)])


@st.composite
def jpegs(draw):
    """JPEGs as Pillow writes them: with any of its options, thumbnails that are JPEGs themselves, several frames."""
    rng = np.random.default_rng(draw(st.integers(0, 100)))
    height, width = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    shape = (height, width) if draw(st.booleans()) else (height, width, 3)
    image = Image.fromarray((rng.normal(128, draw(st.sampled_from([0, 20, 80])), shape)).clip(0, 255).astype(np.uint8))
    options = {
        "quality": draw(st.integers(1, 100)),
        "progressive": draw(st.booleans()),
        "optimize": draw(st.booleans()),
        "restart_marker_blocks": draw(st.integers(0, 3)),
        "restart_marker_rows": draw(st.integers(0, 2)),
        "comment": draw(st.binary(max_size=50)),
    }
    if draw(st.booleans()):
        tags = Image.Exif()
        tags[37500] = pillow(image, "JPEG")  # As a thumbnail or a maker's note.
        options["exif"] = b"Exif\0\0" + tags.tobytes().removeprefix(b"Exif\0\0")
    if draw(st.booleans()):
        return pillow(image, "MPO", save_all=True, append_images=[image], **options)
    return pillow(image, "JPEG", **options)


@settings(max_examples=200)
@given(jpegs(), st.binary(max_size=20))
def test_every_jpeg_that_pillow_writes_is_decoded_as_pillow_does(data, trailing):
    expected = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decode(data + trailing).pixels, expected)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"exif": exif(1)}], ids=str
)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.99])
def test_a_jpeg_whose_last_part_is_zeros_raises(kept, options):
    data = pillow(LARGE, "JPEG", quality=98, **options)
    cut = int(kept * len(data))
    with pytest.raises(DecodeError, match=rf"truncated JPEG: its {len(data)} bytes do not come to its end"):
        decode(data[:cut] + bytes(len(data) - cut))


@pytest.mark.parametrize(("quality", "warned"), [(10, True), (20, True), (30, False), (95, False)])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "colour"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": exif(6)}], ids=str)
def test_a_jpeg_of_very_low_quality_is_told_by_its_quantisation(quality, warned, pixels, options):
    warnings = decode(pillow(pixels, "JPEG", quality=quality, **options)).warnings
    assert ["strongly compressed" in warning for warning in warnings] == ([True] if warned else [])


def test_a_jpeg_is_judged_by_its_luminance_alone():
    fine, coarse = [1] * 64, [255] * 64
    assert decode(pillow(RGB, "JPEG", qtables=[fine, coarse])).warnings == ()
    assert len(decode(pillow(RGB, "JPEG", qtables=[coarse, fine])).warnings) == 1


def damaged(decoded):
    return [warning for warning in decoded.warnings if "JPEG seems to be damaged" in warning]


@settings(max_examples=200)
@given(jpegs(), st.binary(max_size=20))
def test_no_jpeg_that_pillow_writes_seems_damaged(data, trailing):
    assert damaged(decode(data + trailing)) == []


def zeroed(data, place):
    return data[:place] + bytes(512) + data[place + 512 :]


def lost(data, place):
    return data[:place] + data[place + 512 :]


@pytest.mark.parametrize("harm", [zeroed, lost])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("RGB", {}),
        ("RGB", {"progressive": True}),
        ("RGB", {"restart_marker_rows": 1}),
        ("RGB", {"subsampling": 0}),
        ("CMYK", {}),
    ],
    ids=str,
)
def test_a_jpeg_that_lost_data_in_its_middle_is_decoded_and_told(harm, mode, options):
    whole = pillow(Image.fromarray(LARGE).convert(mode), "JPEG", quality=90, **options)
    assert damaged(decode(whole)) == []
    harmed = decode(harm(whole, len(whole) // 2))
    assert (harmed.pixels != decode(whole).pixels).any()
    [warning] = damaged(harmed)
    assert "Corrupt JPEG data: " in warning
    assert "write the file again" in warning


@pytest.mark.parametrize("name", ["PNG", "BMP", "TIFF", "WEBP"])
def test_what_is_no_jpeg_has_no_warning_of_its_compression(name):
    assert decode(pillow(RGB, name)).warnings == ()


@pytest.mark.parametrize("name", ["png rgb", "jpeg rgb", "bmp rgb", "tiff rgb", "webp rgb"])
def test_bytes_after_the_image_do_no_harm(name):
    np.testing.assert_array_equal(decode(FILES[name] + b"trailing").pixels, decode(FILES[name]).pixels)


def test_a_changed_pixel_byte_of_a_png_raises():
    data = FILES["png rgb 16"]
    for place in range(data.index(b"IDAT") + 4, len(data) - 16, 7):
        with pytest.raises(DecodeError):
            decode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_a_tiff_says_how_many_bytes_there_are_of_it():
    data = tiff(LARGE)[:1000]
    with pytest.raises(DecodeError, match="truncated TIFF: it goes on past the 1000 bytes there are"):
        decode(data)


def test_data_of_another_shape_than_the_header_says_raise():
    palette = tiff(GREY, photometric="palette", colormap=np.zeros((3, 256), np.uint16))
    with pytest.raises(DecodeError, match="header says"):
        decode(patched_tiff(palette, 277, 3) + bytes(2 * GREY.size))


def exhausted(*_arguments, **_options):
    raise MemoryError


def test_a_lack_of_memory_for_the_pixels_is_no_fault_of_the_image(monkeypatch):
    monkeypatch.setattr(imagecodecs, "webp_decode", exhausted)
    with pytest.raises(MemoryError):
        decode(FILES["webp rgb"])


@pytest.mark.parametrize("read", [decode, read_header])
def test_a_header_that_asks_for_more_memory_than_there_is_is_a_fault_of_the_file(monkeypatch, read):
    monkeypatch.setattr(tifffile, "TiffFile", exhausted)
    with pytest.raises(DecodeError, match="more memory than there is"):
        read(FILES["tiff rgb"])


def test_a_tiff_strip_without_data_raises():
    data = tiff(GREY, compression="zlib")
    with pytest.raises(DecodeError, match="0 of its 1 strips"):
        decode(patched_tiff(data, 279, 0))


# What is refused, and what the message says


def test_an_empty_file_is_called_empty():
    with pytest.raises(DecodeError, match=r"empty file \(0 bytes\)"):
        decode(b"")


@pytest.mark.parametrize("data", [b"hello world", b"GIF89a..", pillow(GREY, "GIF"), b"\x89PN"])
def test_another_format_is_refused_with_its_first_bytes(data):
    start = ascii(data[:8].decode("latin-1"))
    with pytest.raises(DecodeError) as raised:
        decode(data)
    assert f"not a PNG, JPEG, TIFF, BMP or WebP image: it begins with {start}" in str(raised.value)


@pytest.mark.parametrize("read", [read_header, decode])
@every_file
def test_an_image_over_the_limit_is_refused(data, read, monkeypatch):
    monkeypatch.setattr(tasks.decoding, "MAX_PIXELS", HEIGHT * WIDTH)
    read(data)
    monkeypatch.setattr(tasks.decoding, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(DecodeError, match=f"image is {WIDTH} x {HEIGHT} = .* cut it into parts, or scale it down"):
        read(data)


def test_the_largest_image_fits_the_largest_file():
    side = int(MAX_PIXELS**0.5)
    largest = np.broadcast_to(np.uint16(0), (side, side, 4))
    require_size(largest.size * largest.itemsize)
    with pytest.raises(DecodeError, match=r"file has 20 GB, over the limit of 3\.2: cut it into parts"):
        require_size(20 * 10**9)


def test_a_decompression_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    bomb += png_chunk(b"IDAT", zlib.compress(bytes(10**6))) + png_chunk(b"IEND", b"")
    started = time.thread_time()  # What else runs on the machine does not count.
    with pytest.raises(DecodeError) as raised:
        decode(bomb)
    assert "image is 60000 x 60000 = 3600 megapixels, over the limit of 400: cut it into parts" in str(raised.value)
    assert time.thread_time() - started < 1


@every_file
def test_the_limit_of_pillow_does_not_matter(data, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    assert decode(data).pixels.shape[:2] == (HEIGHT, WIDTH)


def test_a_tiff_of_several_pages_is_refused_with_their_number():
    with pytest.raises(DecodeError, match="3 pages: split it"):
        decode(tiff(noise(1, np.uint8, (3, HEIGHT, WIDTH)), photometric="minisblack"))


def test_a_tiff_whose_pages_go_in_a_circle_is_refused():
    data = tiff(noise(1, np.uint8, (2, HEIGHT, WIDTH)), photometric="minisblack")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        first, second = (page.offset for page in file.pages)
    link = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    with pytest.raises(DecodeError, match="leads back"):
        decode(data[:link] + struct.pack("<I", first) + data[link + 4 :])


def frames(name):
    first, *others = [Image.fromarray(noise(3)) for _ in range(3)]
    return pillow(first, name, save_all=True, append_images=others)


@pytest.mark.parametrize("name", ["PNG", "WEBP"])
def test_an_animation_is_refused(name):
    with pytest.raises(DecodeError, match="animation"):
        read_header(frames(name))


CONTIG = {"planarconfig": "contig", "photometric": "minisblack"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(GREY.astype(np.uint32)), "32-bit samples of type uint32"),
        (tiff(GREY.astype(np.int16)), "16-bit samples of type int16"),
        (tiff(FLOAT.astype(np.complex64)), "64-bit samples of type complex64"),
        (tiff(noise(7), **CONTIG), "7 channels, 0 of them marked as alpha"),
        (tiff(noise(2), **CONTIG), "2 channels, 0 of them marked as alpha"),
        (tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), "4 channels, 0 of them"),
        (pillow(Image.fromarray(RGBA, "CMYK"), "TIFF"), "colour space SEPARATED"),
        (pillow(RGB, "TIFF", compression="jpeg"), "compressed with JPEG"),
        (pillow(Image.fromarray(RGB, "YCbCr"), "TIFF"), "colour space YCBCR"),
        (tiff(FLOAT, photometric="miniswhite"), "colour space MINISWHITE"),
        (tiff(noise(1, np.uint8, (16, 16, 16)), volumetric=True, **MINISBLACK), "volume of 16 slices"),
    ],
)
def test_an_unusual_tiff_is_refused_with_the_reason(data, reason):
    with pytest.raises(DecodeError, match=reason):
        read_header(data)


def test_a_tile_far_larger_than_its_image_is_refused():
    data = tiff(GREY, tile=(16, 16), compression="zlib")
    with pytest.raises(DecodeError, match="smaller ones"):
        decode(patched_tiff(patched_tiff(data, 322, 65520), 323, 65520))


def test_a_run_length_encoded_bmp_is_refused():
    data = bytearray(pillow(GREY, "BMP"))
    data[30] = 1
    with pytest.raises(DecodeError, match="run-length"):
        decode(bytes(data))


def test_an_image_without_pixels_is_refused():
    with pytest.raises(DecodeError, match=f"0 x {HEIGHT} and so has no pixels"):
        decode(patched_tiff(tiff(GREY), 256, 0))


def test_errors_name_their_cause():
    with pytest.raises(SsdnetError) as raised:
        decode(FILES["png rgb"][:-30] + bytes(30))
    assert raised.value.__cause__ is not None
    assert "\n" not in str(raised.value)


def test_a_tiff_that_does_not_say_its_colour_space_is_refused():
    data = tiff(GREY, photometric="minisblack")
    unsaid = data.replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 65000, 3))
    assert unsaid != data
    with pytest.raises(DecodeError, match="colour space None"):
        decode(unsaid)


def test_a_large_tiff_may_be_a_single_strip():
    pixels = np.zeros((4100, 4100), dtype=np.uint8)
    assert decode(tiff(pixels, compression="zlib", rowsperstrip=4100)).pixels.shape == pixels.shape


def test_suffixes_are_lower_case_with_a_dot():
    assert all(re.fullmatch(r"\.[a-z]+", suffix) for suffix in SUFFIXES)
    assert {"." + name.split()[0] for name in FILES} <= SUFFIXES


# Any bytes


@pytest.fixture
def few_pixels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.decoding, "MAX_PIXELS", 10**6)
        yield


def decode_or_refuse(data):
    for read in (read_header, decode):
        with contextlib.suppress(DecodeError):
            read(data)


# The fixture does the same for each example.
quick = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
starts = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0+", b"BM", b"RIFF0000WEBPVP8X"])


@pytest.mark.usefixtures("few_pixels")
@quick
@given(starts, st.binary(max_size=200))
def test_no_other_exception_leaves_for_random_bytes(start, rest):
    decode_or_refuse(start + rest)


@pytest.mark.usefixtures("few_pixels")
@settings(quick, max_examples=1500)
@given(
    st.sampled_from(sorted(FILES)),
    # Near the start, where the headers are, or anywhere.
    st.lists(st.tuples(st.integers(0, 300) | st.integers(0, 5000), st.binary(min_size=1, max_size=4)), max_size=4),
    st.none() | st.floats(0, 1),
)
def test_no_other_exception_leaves_for_a_damaged_file(name, changes, cut):
    data = bytearray(FILES[name])
    for place, content in changes:
        start = place % len(data)
        data[start : start + len(content)] = content
    decode_or_refuse(bytes(data if cut is None else data[: int(cut * len(data))]))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal")
def test_damaged_files_do_not_use_up_the_references_to_none():
    data = FILES["png rgb 16"]
    middle = len(data) // 2
    damaged = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    before = sys.getrefcount(None)
    for _ in range(400):
        with pytest.raises(DecodeError):
            decode(damaged)
    assert sys.getrefcount(None) > before - 200
