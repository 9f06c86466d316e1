from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ivm.errors import ImageError, OptionError, OutputError
from ivm.images import IMAGE_SUFFIXES, read_image, write_image

RGB = np.random.default_rng(0).integers(0, 256, (24, 36, 3)).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, format_: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, format_, **options)
    return stream.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that announces a size and has nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    file = tmp_path / "ein Bild ü.png"
    data = encoded(RGB)
    file.write_bytes(data)
    lazy = Image.open(io.BytesIO(data))
    for source in (file, str(file), data, bytearray(data), memoryview(data), Image.fromarray(RGB), lazy):
        pixels = read_image(source)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, RGB)
    assert read_image(RGB) is RGB


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "BMP", "PPM", "WEBP", "QOI"])
def test_lossless_formats_keep_every_pixel(format_: str) -> None:
    options = {"lossless": True} if format_ == "WEBP" else {}
    np.testing.assert_array_equal(read_image(encoded(RGB, format_, **options)), RGB)


@pytest.mark.parametrize("format_", ["JPEG", "GIF", "AVIF", "JPEG2000"])
def test_lossy_formats_are_read(format_: str) -> None:
    smooth = np.dstack(np.meshgrid(np.arange(64), np.arange(48))).astype(np.uint8)
    smooth = np.dstack([smooth * 3, smooth[..., :1]])
    pixels = read_image(encoded(smooth, format_))
    assert pixels.shape == smooth.shape
    assert np.abs(pixels.astype(int) - smooth).mean() < 8


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_exif_says(orientation: int, format_: str) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = (255, 0, 0)
    upright[20:, 30:] = (0, 0, 255)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(
        np.ascontiguousarray(stored), format_, exif=exif, **({"quality": 95} if format_ != "PNG" else {})
    )
    pixels = read_image(data)
    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).mean() < 6


def test_a_damaged_exif_block_does_not_hide_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(RGB, "JPEG", exif=exif))
    start = data.index(b"Exif\x00\x00") + 6
    data[start : start + 8] = b"\xff" * 8
    assert read_image(bytes(data)).shape == RGB.shape


def test_an_orientation_that_is_no_number_does_not_hide_the_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = bytearray(exif.tobytes())
    entry = block.index(b"\x01\x12")  # its tag; then type, count and value
    block[entry + 2 : entry + 12] = struct.pack(">HIf", 11, 1, float("inf"))
    assert read_image(encoded(RGB, "JPEG", exif=bytes(block))).shape == RGB.shape


def test_alpha_is_laid_over_white_in_every_mode_that_has_it() -> None:
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 0, 3], rgba[:, 1, 3], rgba[:, 2, 3] = 0, 128, 255
    expected = np.array([255, 200 * 128 / 255 + 127, 200])
    for source in (
        rgba,
        Image.fromarray(rgba),
        encoded(rgba),
        encoded(rgba, "WEBP", lossless=True, exact=True),
    ):
        pixels = read_image(source)
        assert np.abs(pixels[0, :, 0] - expected).max() <= 1
    for mode in ("LA", "PA", "RGBa", "La"):
        picture = Image.fromarray(rgba)
        picture = picture.convert("LA") if mode == "La" else picture
        picture = picture.convert(mode)
        assert tuple(read_image(picture)[0, 0]) == (255, 255, 255), mode


def test_palettes_with_a_transparent_colour() -> None:
    picture = Image.new("P", (3, 2), 0)
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.putpixel((1, 0), 1)
    for format_ in ("PNG", "GIF"):
        pixels = read_image(encoded(picture, format_, transparency=0))
        assert tuple(pixels[0, 0]) == (255, 255, 255)
        assert tuple(pixels[0, 1]) == (0, 255, 0)
    assert tuple(read_image(encoded(picture))[0, 0]) == (255, 0, 0)


def test_deep_pictures_are_scaled_by_their_own_range() -> None:
    ramp = np.linspace(0, 65535, 32).astype(np.uint16)[None].repeat(4, 0)
    expected = np.round(ramp / 257).astype(np.uint8)
    for format_ in ("PNG", "TIFF"):
        pixels = read_image(encoded(Image.fromarray(ramp), format_))
        np.testing.assert_array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))
    wide = Image.fromarray(ramp.astype(np.int32) * 2)  # 32 bits: what is over 16 of them is white
    assert read_image(wide)[0, -1, 0] == 255
    unit = np.linspace(0, 1, 256, dtype=np.float32)[None]
    np.testing.assert_array_equal(read_image(Image.fromarray(unit))[0, :, 1], np.arange(256))
    np.testing.assert_array_equal(read_image(Image.fromarray(unit * 255))[0, :, 1], np.arange(256))
    with pytest.raises(ImageError, match="finite"):
        read_image(Image.fromarray(unit * np.nan))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "RGBX"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    grey = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[None, :, None], 3, axis=2).repeat(8, 0)
    pixels = read_image(Image.fromarray(grey).convert(mode))
    assert pixels.shape == grey.shape
    assert np.abs(pixels.astype(int) - grey).mean() < {"1": 130, "P": 20}.get(mode, 4)  # both are dithered
    assert pixels[0, 0, 0] == 0
    assert pixels[0, -1, 0] == 255


def test_cmyk_files_are_read_in_their_colours() -> None:
    solid = np.full((16, 16, 3), (200, 60, 40), np.uint8)
    for format_ in ("JPEG", "TIFF"):
        pixels = read_image(encoded(Image.fromarray(solid).convert("CMYK"), format_))
        assert np.abs(pixels.astype(int) - solid).max() < 12


def test_a_colour_mode_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, convert = Image.new("LAB", (4, 4), (128, 128, 128)), Image.Image.convert

    def old_pillow(self: Image.Image, mode: str) -> Image.Image:
        if self.mode == "LAB":
            raise ValueError("conversion from LAB to RGB not supported")
        return convert(self, mode)

    monkeypatch.setattr(Image.Image, "convert", old_pillow)
    with pytest.raises(ImageError, match="colour mode LAB, which cannot be read: save it as RGB"):
        read_image(picture)


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue", "green")]
    for format_ in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], format_, save_all=True, append_images=frames[1:])
        pixels = read_image(data)
        assert pixels[0, 0, 0] > 240
        assert pixels[0, 0, 2] < 15


def test_grey_and_strided_arrays() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(read_image(grey), np.repeat(grey[..., None], 3, axis=2))
    np.testing.assert_array_equal(read_image(grey[:, ::-1]), np.repeat(grey[:, ::-1, None], 3, axis=2))
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(read_image(rgba[::2, ::-1]), RGB[::2, ::-1])


def test_the_callers_image_is_not_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(io.BytesIO(encoded(RGB, exif=exif)))
    assert read_image(picture).shape == (36, 24, 3)
    assert picture.size == (36, 24)
    assert picture.getexif()[0x0112] == 6


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "0 bytes"),
        (b"not an image at all", "not an image that can be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image that can be read"),
        (encoded(RGB)[:200], "damaged or truncated"),
        (encoded(RGB, "JPEG")[:-200], "damaged or truncated"),
        (encoded(RGB, "WEBP")[:-40], "damaged|not an image"),
        (png_of_size(0, 7), "damaged|pixels|not an image"),
        (png_of_size(11_000, 11_000), "121,000,000 pixels, but at most 120,000,000"),
        (png_of_size(60_000, 60_000), "too large"),
        (np.zeros((0, 5, 3), np.uint8), "must have pixels"),
        (np.zeros((5, 5, 3)), r"uint8 \[H, W, 3\], but got float64 \[5, 5, 3\]; scale it"),
        (np.zeros((5, 5, 2), np.uint8), r"but got uint8 \[5, 5, 2\]"),
        (np.zeros((1, 5, 5, 3), np.uint8), r"but got uint8 \[1, 5, 5, 3\]"),
        (None, "but got builtins.NoneType"),
        ([1, 2], "but got builtins.list"),
        ("no/such/file.png", "cannot open image 'no/such/file.png': No such file"),
        (".", "Is a directory"),
        ("a\0b.png", "cannot open image"),
        ("https://example.org/a.png", "nothing is fetched"),
        ("data:image/png;base64,AAAA", "nothing is fetched"),
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(source: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        read_image(source)
    assert "\n" not in str(caught.value)


def test_a_bound_of_the_callers_own() -> None:
    assert read_image(RGB, max_pixels=36 * 24) is RGB
    for source in (RGB, encoded(RGB), Image.fromarray(RGB)):
        with pytest.raises(ImageError, match="at most 863"):
            read_image(source, max_pixels=36 * 24 - 1)


def test_an_unloaded_pil_image_of_a_broken_file_is_an_image_error(tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(encoded(RGB)[:300])
    with Image.open(file) as picture, pytest.raises(ImageError, match="the given PIL image is damaged"):
        read_image(picture)


def test_reading_gives_no_warnings() -> None:
    large = Image.fromarray(np.zeros((9_500, 9_500), np.uint8))  # over the size at which Pillow warns
    data = encoded(large)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(data).shape == (9_500, 9_500, 3)


SOURCES = [
    encoded(RGB, format_, **options)
    for format_, options in (
        ("JPEG", {}),
        ("PNG", {}),
        ("WEBP", {}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("AVIF", {}),
        ("JPEG2000", {}),
        ("QOI", {}),
        ("PPM", {}),
    )
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_damage_never_leaks_another_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(0, 6))):
        content[data.draw(st.integers(0, min(len(content) - 1, 400)))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    try:
        pixels = read_image(bytes(content), max_pixels=1_000_000)
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


# Writing


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".PNG"])
def test_lossless_writing_comes_back(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    write_image(RGB, file)
    np.testing.assert_array_equal(read_image(file), RGB)
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_layouts_and_qualities(tmp_path: Path) -> None:
    def mode_of(name: str) -> str:
        with Image.open(tmp_path / name) as picture:
            return picture.mode

    write_image(RGB[..., 0], tmp_path / "grey.png")
    assert mode_of("grey.png") == "L"
    rgba = np.dstack([RGB, RGB[..., 0]])
    for name in ("a.png", "a.webp", "a.tiff"):
        write_image(rgba, tmp_path / name)
        assert mode_of(name) == "RGBA"
    write_image(RGB, tmp_path / "good.jpg")
    write_image(RGB, tmp_path / "bad.jpg", quality=10)
    assert (tmp_path / "bad.jpg").stat().st_size < (tmp_path / "good.jpg").stat().st_size
    write_image(RGB[::2, ::-1], tmp_path / "view.png")
    np.testing.assert_array_equal(read_image(tmp_path / "view.png"), RGB[::2, ::-1])


def test_what_cannot_be_written_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, RGB[..., 0]])
    (tmp_path / "taken.png").mkdir()
    for image, name, message in (
        (RGB, "a.xyz", "must end in .bmp"),
        (RGB, "a", "must end in"),
        (rgba, "a.jpg", "cannot hold transparency"),
        (RGB, "no/such/folder/a.png", "cannot write .*No such file"),
        (RGB, "x" * 300 + ".png", "cannot write .*too long"),
        (RGB, "taken.png", "cannot write"),
    ):
        with pytest.raises(OutputError, match=message):
            write_image(image, tmp_path / name)
    for image in (RGB / 255.0, np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8), RGB[0, 0]):
        with pytest.raises(ImageError, match="a picture to write must be uint8"):
            write_image(image, tmp_path / "a.png")
    for image in (Image.fromarray(RGB), RGB.tolist(), None):
        with pytest.raises(ImageError, match=r"uint8 array, but got (Image|list|NoneType)"):
            write_image(image, tmp_path / "a.png")  # type: ignore[arg-type]
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken.png"]


def test_a_failed_write_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    write_image(RGB, file)
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        write_image(RGB[::-1], file)
    assert file.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_threads_may_write_one_path(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    threads = [threading.Thread(target=write_image, args=(RGB, file)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(read_image(file), RGB)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_suffixes_are_lower_case_endings() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".gif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)


@pytest.mark.parametrize("quality", [0, -1, 101, 90.5, "high"])
def test_a_quality_out_of_range_is_refused(tmp_path: Path, quality: object) -> None:
    for name in ("a.jpg", "a.webp", "a.png"):
        with pytest.raises(OptionError, match="quality must be a whole number from 1 to 100"):
            write_image(np.zeros((8, 8, 3), np.uint8), tmp_path / name, quality=quality)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
