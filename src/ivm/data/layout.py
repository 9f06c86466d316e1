"""How one sample lies in a shard: image, heatmap and description as three members of a tar file.

    {uuid}.jpg, .png or .webp   the image: the publisher's own file wherever it holds exactly these pixels
    {uuid}.heatmap.png          1-bit for a mask, 8-bit grey for a heatmap (16-bit on demand)
    {uuid}.json                 everything else

A heatmap of 8 bits has steps of 1/255: published annotations are 8-bit JPEG, and 16 bits double their size
for digits that nobody annotated. The layout is webdataset's (Aizman, Maltby and Breuel, 2020,
arXiv 2001.01858).
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import cv2
import numpy as np
from PIL import Image

from ivm.errors import DataError, InputError, OptionError
from ivm.images import MAX_PIXELS, read_image
from ivm.types import Sample

__all__ = [
    "IMAGE_MEMBERS",
    "Encoding",
    "decode_heatmap",
    "decode_image",
    "decode_sample",
    "encode_sample",
    "key_of",
    "member_header",
    "own_bytes",
    "read_members",
    "scale_pixels",
    "to_json",
    "uuid_of",
]

IMAGE_MEMBERS = ("jpg", "png", "webp")
_ORIENTATION = 0x0112
_KEPT = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "WEBP": "webp",
}  # MPO: JPEG with further pictures behind it
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_COLOR_8),
    (4, cv2.IMREAD_REDUCED_COLOR_4),
    (2, cv2.IMREAD_REDUCED_COLOR_2),
    (1, cv2.IMREAD_COLOR),
)
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_SUFFIX = {"png": "png", "jpeg": "jpg", "webp": "webp"}


@dataclass(frozen=True)
class Encoding:
    """How pixels are written.

    Attributes:
        image_format: of images without a file of their own: "png" and "webp" are lossless, "jpeg" is not.
        quality: of JPEG, 1 to 100.
        heatmap_bits: 8 or 16; a mask always takes 1.

    Raises:
        OptionError: one of them is out of range.
    """

    image_format: str = "png"
    quality: int = 95
    heatmap_bits: int = 8

    def __post_init__(self) -> None:
        if self.image_format not in _SUFFIX:
            raise OptionError(
                f"image_format must be one of {', '.join(_SUFFIX)}, but got {self.image_format!r}"
            )
        if self.heatmap_bits not in (8, 16):
            raise OptionError(f"heatmap_bits must be 8 or 16, but got {self.heatmap_bits}")
        if not 1 <= self.quality <= 100:
            raise OptionError(f"quality must be in 1 to 100, but got {self.quality}")


def key_of(uuid: str) -> str:
    """The name of a sample's members: its uuid with "/", "." and the like percent-encoded.

    Webdataset ends a key at its first dot, and takes what is before a slash for a folder.

    Raises:
        DataError: the uuid is empty, or its key longer than 200 characters.
    """
    key = quote(uuid, safe="").replace(".", "%2E")
    if not key or len(key) > 200:
        raise DataError(f"a uuid must have 1 to 200 characters, but has {len(key)}: {uuid[:40]!r}")
    return key


def uuid_of(key: str) -> str:
    """What `key_of` was given."""
    return unquote(key)


def own_bytes(file: bytes, shape: tuple[int, ...]) -> str | None:
    """The suffix under which an image file may be stored as it is, of IMAGE_MEMBERS; None if it may not.

    It may if every reader sees the pixels that `ivm.images.read_image` sees: 8-bit RGB or grey, opaque,
    upright, one picture, of the size given.

    Args:
        file: the file's bytes.
        shape: (H, W, ...) of the decoded image.
    """
    try:
        with Image.open(io.BytesIO(file), formats=("JPEG", "PNG", "WEBP")) as image:
            upright = image.getexif().get(_ORIENTATION, 1) in (0, 1)
            plain = image.mode in ("RGB", "L") and not image.has_transparency_data
            still = image.format == "MPO" or getattr(image, "n_frames", 1) == 1
            if plain and upright and still and image.size == (shape[1], shape[0]):
                return _KEPT[image.format or ""]
    except (OSError, ValueError, SyntaxError, TypeError):
        return None
    return None


def encode_sample(
    sample: Sample, file: bytes | None = None, encoding: Encoding | None = None
) -> dict[str, bytes]:
    """The members of a sample: {"jpg" or "png" or "webp": ..., "heatmap.png": ..., "json": ...}.

    Args:
        sample: what to store; without a heatmap there is no "heatmap.png".
        file: the image's own file, kept as it is where it may be (`own_bytes`).
        encoding: of everything else.

    Raises:
        DataError: the heatmap is not finite and in [0, 1], or the provenance is not plain JSON.
    """
    encoding = encoding or Encoding()
    suffix = own_bytes(file, sample.image.shape) if file is not None else None
    if suffix is None or file is None:
        suffix, file = _SUFFIX[encoding.image_format], _encode_image(sample.image, encoding)
    members = {suffix: file}
    annotation = None
    if sample.heatmap is not None:
        annotation = "mask" if sample.heatmap.dtype == bool else "heatmap"
        members["heatmap.png"] = _encode_heatmap(sample.uuid, sample.heatmap, encoding.heatmap_bits)
    try:
        members["json"] = to_json({
            "uuid": sample.uuid,
            "instructions": sample.instructions,
            "annotation": annotation,
            "source": sample.source,
            "human": sample.human,
            "image_id": sample.image_id,
            "kind": sample.kind,
            "targets": sample.targets,
            "provenance": dict(sample.provenance),
            "width": sample.image.shape[1],
            "height": sample.image.shape[0],
        })  # fmt: skip
    except (TypeError, ValueError) as error:
        raise DataError(f"sample {sample.uuid}: provenance must be plain JSON values: {error}") from error
    return members


def decode_sample(members: Mapping[str, bytes], least: int | None = None) -> Sample:
    """The sample that `encode_sample` was given.

    Args:
        members: suffix -> bytes.
        least: where the image is a JPEG, decode it at a half, a quarter or an eighth, as long as both sides
            stay at least this long, in pixels: several times faster. The heatmap is brought to the same size;
            a mask becomes a heatmap of the relevant share of each pixel. None decodes everything in full.

    Raises:
        DataError: a member is missing, damaged, or does not fit the others.
    """
    if "json" not in members:
        raise DataError(
            f"a sample must have an image and a json, but has only {', '.join(members) or 'nothing'}"
        )
    try:
        described = json.loads(members["json"])
        full = (described["height"], described["width"])
        image = decode_image(members, least)
        heatmap = decode_heatmap(members, described["annotation"])
        if heatmap is not None:
            if heatmap.shape != full:
                raise DataError(f"the heatmap must be {full}, but is {heatmap.shape}")
            if heatmap.shape != image.shape[:2] and least is not None:
                heatmap = scale_pixels(heatmap.astype(np.float32, copy=False), image.shape[:2])
        if least is None and image.shape[:2] != full:
            raise DataError(f"the image must be {full}, but is {image.shape[:2]}")
        return Sample(
            described["uuid"],
            image,
            tuple(described["instructions"]),
            heatmap,
            described["source"],
            described["human"],
            described["image_id"],
            described["kind"],
            tuple(described["targets"]),
            described["provenance"],
        )
    except KeyError as error:
        raise DataError(f"a sample lacks {error}") from error
    except (ValueError, TypeError, InputError) as error:
        raise DataError(f"a sample is damaged: {error}") from error


def member_header(name: str, size: int) -> bytes:
    """The tar header of a member of `size` bytes, without time, owner or group: same samples, same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def read_members(block: bytes) -> dict[str, bytes]:
    """{suffix: content} of the one sample whose headers and members are `block`, a stretch of a tar file.

    Raises:
        DataError: it is not a stretch of a tar file.
    """
    members = {}
    place, size = 0, tarfile.BLOCKSIZE
    while place < len(block):
        header = block[place : place + size]
        # tarfile takes longer over a sample's headers than OpenCV over its picture; `member_header` writes
        # plain ones, and what is not so is left to it.
        if header[156:157] != b"0" or sum(header[:148]) + sum(header[156:]) + 256 != _octal(header[148:156]):
            return _read_any_members(block)
        length = _octal(header[124:136])
        name = header[:100].rstrip(b"\0").decode("utf-8", "surrogateescape")
        content = block[place + size : place + size + length]
        if length < 0 or len(content) != length:
            raise DataError(f"the shard is damaged: {name} is cut short")
        members[name.partition(".")[2]] = content
        place += size + -(-length // size) * size
    return members


def _octal(field: bytes) -> int:
    """A number in a tar header; -1 where it is none."""
    try:
        return int(field.strip(b" \0"), 8)
    except ValueError:
        return -1


def _read_any_members(block: bytes) -> dict[str, bytes]:
    """`read_members` for long names and whatever else a tar file may hold."""
    members = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(block + bytes(2 * tarfile.BLOCKSIZE)), mode="r:") as tar:
            for info in tar:
                # A link leads elsewhere, and a sparse file unpacks to any size.
                if info.issparse() or not info.isreg():
                    raise DataError(f"the shard is damaged: {info.name} is no plain file")
                content = tar.extractfile(info)
                if content is not None:
                    members[info.name.partition(".")[2]] = content.read()
    except tarfile.TarError as error:
        raise DataError(f"the shard is damaged: {error}") from error
    return members


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8; NaN and infinity raise ValueError."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8")


def scale_pixels(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`pixels`, uint8 [H, W, ...] or float32 [H, W] in [0, 1], at (H, W) = size; themselves if they are so.

    Each side is halved while it is twice too long, then two taps a side do the rest: every pixel counts, as
    in `cv2.INTER_AREA`, in a third of its time; on photos the two differ by 1 to 2 % of the range.
    """
    height, width = size
    if pixels.shape[:2] == size:
        return pixels
    while pixels.shape[0] >= 2 * height or pixels.shape[1] >= 2 * width:
        # Half, rounded up: a factor above two would pass over pixels.
        rows, columns = [(side + 1) // 2 if side >= 2 * to else side for side, to in zip(pixels.shape, size)]  # noqa: B905 - colours
        if pixels.shape[0] == 2 * rows:  # a third of the time of resize
            pixels = cv2.addWeighted(pixels[::2], 0.5, pixels[1::2], 0.5, 0.0)
        if pixels.shape[:2] != (rows, columns):
            pixels = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_LINEAR)
    pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR))
    if pixels.dtype == np.float32:
        np.minimum(pixels, 1.0, out=pixels)  # the weights of two taps add up to 1 but for rounding
    return pixels


def _encode_image(image: np.ndarray, encoding: Encoding) -> bytes:
    out = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(image))
    if encoding.image_format == "png":
        picture.save(out, "PNG", compress_level=3)
    elif encoding.image_format == "webp":
        picture.save(out, "WEBP", lossless=True, quality=50, method=2)
    else:
        picture.save(out, "JPEG", quality=encoding.quality)
    return out.getvalue()


def _encode_heatmap(uuid: str, heatmap: np.ndarray, bits: int) -> bytes:
    out = io.BytesIO()
    if heatmap.dtype != bool:
        low, high = float(heatmap.min()), float(heatmap.max())
        if not (low >= 0.0 and high <= 1.0):  # NaN too
            raise DataError(
                f"sample {uuid}: heatmap must be in [0, 1], but ranges over [{low:.4g}, {high:.4g}]"
            )
        if bits == 8:
            return _encode_grey(np.rint(heatmap * np.float32(255)).astype(np.uint8))
        heatmap = np.rint(heatmap * np.float32(65535)).astype(np.uint16)
    Image.fromarray(np.ascontiguousarray(heatmap)).save(out, "PNG", compress_level=6)
    return out.getvalue()


def _encode_grey(grey: np.ndarray) -> bytes:
    """A PNG file of uint8 [H, W] whose rows are not filtered: a seventh longer than Pillow's, and read in a
    third of the time.
    """
    height, width = grey.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter: 0, none
    rows[:, 1:] = grey
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 3)), (b"IEND", b""))
    return _PNG + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _decode_grey(content: bytes, width: int, height: int) -> np.ndarray | None:
    """uint8 [H, W] of a file of `_encode_grey`, faster than by OpenCV; None if it is another's or damaged."""
    (length,) = struct.unpack(">I", content[33:37].ljust(4, b"\0"))
    if content[37:41] != b"IDAT" or len(content) != 57 + length:  # one chunk, between the header and the end
        return None
    size = height * (width + 1)
    try:
        inflate = zlib.decompressobj()
        rows = np.frombuffer(inflate.decompress(content[41 : 41 + length], size), np.uint8)
    except zlib.error:
        return None
    if rows.size != size or not inflate.eof:
        return None
    rows = rows.reshape(height, width + 1)
    return None if rows[:, 0].any() else rows[:, 1:]


def decode_image(members: Mapping[str, bytes], least: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3] from the members of a sample; `least` as in `decode_sample`.

    Raises:
        DataError: there is no image.
        ImageError: it is damaged.
    """
    suffix = next((suffix for suffix in IMAGE_MEMBERS if suffix in members), None)
    if suffix is None:
        raise DataError(f"a sample must have an image and a json, but has only {', '.join(members)}")
    content = members[suffix]
    # OpenCV gives the same pixels as Pillow in half the time, but reads on where a file is cut short.
    if suffix == "jpg" and content.endswith(b"\xff\xd9"):
        pixels = _decode_jpeg(content, least)
        if pixels is not None:
            return pixels
    return read_image(content)


def _decode_jpeg(content: bytes, least: int | None) -> np.ndarray | None:
    """uint8 [H, W, 3]; None if it is not what `own_bytes` admits, or cannot be decoded."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            size, mode = image.size, image.mode
    except (OSError, ValueError, SyntaxError):
        return None
    if mode not in ("RGB", "L") or size[0] * size[1] > MAX_PIXELS:
        return None
    shorter = max(1, min(size) // least) if least is not None else 1
    flag = next(flag for divisor, flag in _REDUCED if shorter >= divisor)
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)


def decode_heatmap(members: Mapping[str, bytes], annotation: str | None) -> np.ndarray | None:
    """The heatmap in the members of a sample, whose description says that it is a "mask", a "heatmap" or
    None.

    Returns:
        bool [H, W], float32 [H, W] in [0, 1], or None.

    Raises:
        DataError: it is missing or damaged.
    """
    if annotation is None:
        return None
    if "heatmap.png" not in members:
        raise DataError("a sample lacks 'heatmap.png'")
    return _decode_heatmap(members["heatmap.png"], annotation == "mask")


def _decode_heatmap(content: bytes, is_mask: bool) -> np.ndarray:
    # OpenCV decodes faster than Pillow, but reads on where a file is cut short: the last chunk must be there.
    # In the first one are width, height, bits a pixel and colour type (0: grey).
    width, height, bits, colour = struct.unpack(">IIBB", content[16:26].ljust(10, b"\0"))
    if content[:8] != _PNG or not content.endswith(_PNG_END):
        raise DataError("the heatmap is damaged: it is no PNG, or cut short")
    if colour != 0 or bits not in (1, 8, 16) or not 0 < width * height <= MAX_PIXELS:
        raise DataError(
            f"the heatmap must be a grey PNG of 1, 8 or 16 bits, but has {bits} bits, colour type {colour} "
            f"and {width} x {height} pixels"
        )
    values = _decode_grey(content, width, height) if bits == 8 else None
    if values is None:
        values = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.shape != (height, width):
        raise DataError("the heatmap is damaged: it cannot be decoded")
    if is_mask:
        return values.astype(bool)
    return np.divide(values, np.float32(65535 if bits == 16 else 255), dtype=np.float32)
