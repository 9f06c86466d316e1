from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ivm.data.layout import (
    Encoding,
    _decode_grey,
    decode_heatmap,
    decode_image,
    decode_sample,
    encode_sample,
    key_of,
    member_header,
    own_bytes,
    read_members,
    scale_pixels,
    to_json,
    uuid_of,
)
from ivm.errors import DataError, ImageError, OptionError
from ivm.images import read_image
from ivm.types import Sample

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
MASK = RNG.random((48, 64)) > 0.7
HEATMAP = (np.arange(48 * 64, dtype=np.float32) / (48 * 64 - 1)).reshape(48, 64)


def sample(heatmap=MASK, image=IMAGE, **more):
    return Sample("a/b.c", image, ("the cup", "é?"), heatmap, "made", targets=("cup",), **more)


def file_of(format_, image=IMAGE, **options):
    out = io.BytesIO()
    Image.fromarray(image).save(out, format_, **options)
    return out.getvalue()


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_a_mask_comes_back_as_it_was(image_format):
    given = sample(human=False, kind="category", image_id="p", provenance={"line": 3, "of": ["x", None]})
    back = decode_sample(encode_sample(given, encoding=Encoding(image_format)))
    assert (back.image == IMAGE).all()
    assert back.heatmap.dtype == bool
    assert (back.heatmap == MASK).all()
    for name in ("uuid", "instructions", "source", "human", "image_id", "kind", "targets", "provenance"):
        assert getattr(back, name) == getattr(given, name)


@pytest.mark.parametrize(("bits", "step"), [(8, 255), (16, 65535)])
def test_a_heatmap_comes_back_to_half_a_step(bits, step):
    back = decode_sample(encode_sample(sample(HEATMAP), encoding=Encoding(heatmap_bits=bits))).heatmap
    assert back.dtype == np.float32
    assert np.abs(back - HEATMAP).max() <= 0.5 / step + 1e-6
    again = decode_sample(encode_sample(sample(back), encoding=Encoding(heatmap_bits=bits))).heatmap
    assert (again == back).all()  # quantised once, the same for ever


def test_a_sample_to_be_annotated_has_no_heatmap():
    members = encode_sample(sample(None))
    assert set(members) == {"png", "json"}
    assert decode_sample(members).heatmap is None


@pytest.mark.parametrize(("format_", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
def test_image_files_are_kept_as_they_are(format_, suffix):
    file = file_of(format_)
    image = read_image(file)
    members = encode_sample(sample(image=image), file)
    assert members[suffix] == file
    assert (decode_sample(members).image == image).all()


def test_files_that_readers_would_see_otherwise_are_encoded_anew():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = file_of("JPEG", exif=exif.tobytes())
    out = io.BytesIO()
    Image.fromarray(np.dstack([IMAGE, IMAGE[:, :, 0]])).save(out, "PNG")
    for file in (turned, out.getvalue(), file_of("TIFF"), file_of("JPEG")[:300] + b"x"):
        assert own_bytes(file, IMAGE.shape) is None or file.endswith(b"x")
    image = read_image(turned)
    assert image.shape == (64, 48, 3)
    members = encode_sample(Sample("a", image, ("x",), None, "made"), turned)
    assert members.keys() == {"png", "json"}
    assert (decode_sample(members).image == image).all()
    assert own_bytes(file_of("JPEG"), (10, 10)) is None  # a file of another size


def test_cmyk_and_grey_jpeg():
    out = io.BytesIO()
    Image.fromarray(IMAGE).convert("CMYK").save(out, "JPEG")
    assert own_bytes(out.getvalue(), IMAGE.shape) is None
    grey = file_of("JPEG", IMAGE[:, :, 0])
    assert own_bytes(grey, IMAGE.shape) == "jpg"
    assert decode_sample(encode_sample(sample(image=read_image(grey)), grey)).image.shape == IMAGE.shape


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1, np.inf])
def test_heatmaps_out_of_range_are_refused(value):
    bad = HEATMAP.copy()
    bad[3, 4] = value
    with pytest.raises(DataError, match=r"a/b\.c: heatmap must be in \[0, 1\]"):
        encode_sample(sample(bad))


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_provenance_must_be_json(value):
    with pytest.raises(DataError, match="plain JSON"):
        encode_sample(sample(provenance={"x": value}))


def test_decoding_small_is_close_to_full_and_brings_the_heatmap_along():
    y, x = np.mgrid[:256, :384]
    image = np.stack([x * 0.6, y, (x + y) * 0.4], axis=2).astype(np.uint8)
    mask = x > 192
    file = file_of("JPEG", image)
    members = encode_sample(Sample("a", read_image(file), ("x",), mask, "made"), file)
    small = decode_sample(members, least=100)
    assert small.image.shape == (128, 192, 3)
    assert small.heatmap.shape == (128, 192)
    assert small.heatmap.dtype == np.float32
    assert abs(small.heatmap.mean() - mask.mean()) < 1e-3
    averaged = image.reshape(128, 2, 192, 2, 3).mean(axis=(1, 3))
    assert np.abs(small.image - averaged).mean() < 3
    assert decode_sample(members, least=257).image.shape == image.shape


def test_jpeg_comes_back_as_the_picture_boundary_reads_it():
    for file in (
        file_of("JPEG", quality=80),
        file_of("JPEG", IMAGE[:, :, 0]),
        file_of("JPEG", progressive=True),
    ):
        assert (decode_image({"jpg": file}) == read_image(file)).all()
    for broken in (file_of("JPEG")[:-300], b"\xff\xd8\xff\xd9", b"\xff\xd9"):
        with pytest.raises(ImageError):
            decode_image({"jpg": broken})
    with pytest.raises(DataError, match="must have an image"):
        decode_image({"json": b""})


@pytest.mark.parametrize("annotation", ["mask", "heatmap"])
def test_heatmaps_are_decoded_by_their_description(annotation):
    members = encode_sample(sample(MASK if annotation == "mask" else HEATMAP))
    decoded = decode_heatmap(members, annotation)
    assert decoded.dtype == (bool if annotation == "mask" else np.float32)
    assert decode_heatmap(members, None) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.pop("json"), "must have an image and a json"),
        (lambda m: m.pop("heatmap.png"), "lacks 'heatmap.png'"),
        (lambda m: m.update(json=b"{"), "damaged"),
        (lambda m: m.update(json=b"[]"), "damaged"),
        (lambda m: m.update(json=b"{}"), "lacks"),
        (lambda m: m.update({"png": m["png"][:200]}), "damaged or truncated"),
        (lambda m: m.update({"heatmap.png": m["heatmap.png"][:60]}), "heatmap is damaged"),
        (lambda m: m.update({"heatmap.png": file_of("PNG")}), "must be a grey PNG"),
        (lambda m: m.update({"heatmap.png": file_of("PNG", IMAGE[:9, :, 0])}), "heatmap must be"),
        (lambda m: m.update({"png": file_of("PNG", IMAGE[:9])}), "image must be"),
    ],
)
def test_damage_is_told(change, words):
    members = encode_sample(sample())
    change(members)
    with pytest.raises(DataError, match=words):
        decode_sample(members)


def test_a_description_with_wrong_values_is_damage():
    members = encode_sample(sample())
    described = json.loads(members["json"])
    for key, value in (("instructions", [3]), ("instructions", []), ("height", "x"), ("targets", 3)):
        with pytest.raises(DataError, match=r"damaged|must be"):
            decode_sample({**members, "json": to_json({**described, key: value})})


@given(st.text(min_size=1, max_size=20).filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)))
def test_keys_have_no_dot_or_slash_and_come_back(uuid):
    key = key_of(uuid)
    assert not set("./\\ ") & set(key)
    assert uuid_of(key) == uuid


@pytest.mark.parametrize("uuid", ["", "x" * 201])
def test_uuids_have_a_length(uuid):
    with pytest.raises(DataError, match="1 to 200"):
        key_of(uuid)


def test_a_stretch_of_tar_is_read():
    members = {"jpg": b"12345", "heatmap.png": b"", "json": b"x" * 512}
    name = "k" * 180  # longer than a plain header holds
    block = b"".join(
        member_header(f"{name}.{s}", len(c)) + c + bytes(-len(c) % 512) for s, c in members.items()
    )
    assert read_members(block) == members
    with pytest.raises(DataError, match="shard is damaged"):
        read_members(b"\1" * 512 + block)


@pytest.mark.parametrize("wrong", [{"image_format": "gif"}, {"heatmap_bits": 12}, {"quality": 0}])
def test_encodings_are_checked(wrong):
    with pytest.raises(OptionError):
        Encoding(**wrong)


@pytest.mark.parametrize("shape", [(1, 1), (48, 64), (7, 301)])
def test_heatmap_files_are_plain_png(shape):
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    given_ = sample(values / np.float32(255), np.zeros((*shape, 3), np.uint8))
    file = encode_sample(given_)["heatmap.png"]
    assert (np.asarray(Image.open(io.BytesIO(file))) == values).all()  # any reader's, not ours alone
    theirs = file_of("PNG", values)
    for one in (file, theirs):
        back = decode_heatmap({"heatmap.png": one}, "heatmap")
        assert back.dtype == np.float32
        assert (back == given_.heatmap).all()


def test_a_damaged_heatmap_does_not_pass_for_another():
    """What inflates to other pixels fails the checksum of its stream."""
    file = encode_sample(sample(HEATMAP))["heatmap.png"]
    assert _decode_grey(file, 64, 48) is not None
    for place in range(41, len(file) - 16, 7):
        changed = bytearray(file)
        changed[place] ^= 0x55
        assert _decode_grey(bytes(changed), 64, 48) is None
    for place in range(26, len(file), 11):  # cut short
        with pytest.raises(DataError, match="damaged"):
            decode_heatmap({"heatmap.png": file[:place]}, "heatmap")
    longer = zlib.compress(bytes(10_000_000))  # says 64 x 48, and would inflate to more
    bomb = file[:33] + struct.pack(">I", len(longer)) + b"IDAT" + longer + bytes(4) + file[-12:]
    assert _decode_grey(bomb, 64, 48) is None


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(0, 99),
)
def test_scaled_pixels_keep_their_range_and_a_plain_ground(old, new, seed):
    values = np.random.default_rng(seed).random(old, np.float32)
    scaled = scale_pixels(values, new)
    assert scaled.shape == new
    assert values.min() - 1e-6 <= scaled.min() <= scaled.max() <= min(1.0, values.max() + 1e-6)
    assert (scale_pixels(np.full((*old, 3), 77, np.uint8), new) == 77).all()


@pytest.mark.parametrize("factor", [1.3, 1.9, 2.0, 2.7, 5.0, 8.3])
def test_no_pixel_is_passed_over_when_scaling_down(factor):
    side = round(24 * factor)
    for y, x in [(0, 0), (side // 2, side // 3), (side - 1, side - 1), (side // 3, side - 2)]:
        values = np.zeros((side, side), np.float32)
        values[y, x] = 1.0
        assert scale_pixels(values, (24, 24)).sum() > 0.0


@pytest.mark.parametrize(("kind", "words"), [(tarfile.SYMTYPE, "x.json"), (tarfile.GNUTYPE_SPARSE, "x.json")])
def test_links_and_sparse_files_are_damage(kind, words):
    """One leads elsewhere, the other unpacks 512 bytes to gigabytes."""
    info = tarfile.TarInfo("x.json")
    info.type, info.linkname = kind, "y"
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if kind == tarfile.GNUTYPE_SPARSE:
        block[483:495] = b"00000777777\0"  # its size when unpacked
        block[148:156] = b" " * 8
        block[148:156] = f"{sum(block):06o}\0 ".encode()
    with pytest.raises(DataError, match=f"{words} is no plain file"):
        read_members(bytes(block))
