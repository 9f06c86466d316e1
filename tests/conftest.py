"""Fakes that more than one test file needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from ivm.masker import Masker

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 60, 220), "yellow": (240, 220, 30)}


class ColourBackend:
    """A real, small model of colours: relevant is what has a colour that the instruction names.

    Like the true ones it sees each image squashed to a square of `side` pixels, answers at a quarter of that,
    and does not find what covers fewer than `least` of its pixels.
    """

    name = "colours"
    threshold = 0.5
    found_threshold = 0.5

    def __init__(self, side: int = 256, least: int = 12) -> None:
        self.side, self.least = side, least
        self.encoded: list[tuple[int, ...]] = []  # the shape of each image that came
        self.decoded: list[int] = []  # the size of each batch that came

    def encode_images(self, images: list[np.ndarray]) -> list[Any]:
        self.encoded += [image.shape for image in images]
        return [cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_AREA) for image in images]

    def decode(self, features: list[Any], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        assert len(features) == len(instructions)
        self.decoded.append(len(features))
        logits, found = [], []
        for pixels, instruction in zip(features, instructions, strict=True):
            named = [rgb for word, rgb in COLOURS.items() if word in instruction.lower()]
            nearest = np.full(pixels.shape[:2], 500.0, np.float32)
            for rgb in named:
                distance = np.linalg.norm(pixels.astype(np.float32) - np.float32(rgb), axis=2)
                nearest = np.minimum(nearest, distance)
            fine = np.clip((60.0 - nearest) / 8.0, -8.0, 8.0)
            quarter = (self.side // 4, self.side // 4)
            logits.append(cv2.resize(fine, quarter, interpolation=cv2.INTER_AREA))
            found.append(0.97 if (fine > 0).sum() >= self.least else 0.05)
        return np.stack(logits).astype(np.float32), np.array(found, np.float32)


@pytest.fixture
def colour_backend() -> ColourBackend:
    return ColourBackend()


@pytest.fixture
def colour_masker(colour_backend: ColourBackend) -> Masker:
    return Masker(colour_backend)


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """Makes grey, slightly noisy uint8 [H, W, 3] with coloured boxes: picture(H, W, red=(x0, y0, x1, y1))."""

    def make(height: int, width: int, **boxes: tuple[int, int, int, int]) -> np.ndarray:
        noise = np.random.default_rng(0).integers(-6, 7, (height, width, 1))
        image = np.repeat(np.clip(130 + noise, 0, 255), 3, axis=2).astype(np.uint8)
        for name, (x0, y0, x1, y1) in boxes.items():
            image[y0:y1, x0:x1] = COLOURS[name]
        return image

    return make


RED, BLUE, GREEN = (205, 35, 35), (35, 70, 200), (40, 150, 50)


@pytest.fixture
def write_pack():
    """write_pack(folder, photos): photos are lists of (name, colour, (x0, y0, x1, y1)); names may repeat.

    `scenery`: names of which the regions are no things.
    """

    def write(folder, photos, size=(64, 96), suffix="png", scenery=()):
        (folder / "images").mkdir(parents=True)
        names = sorted({name for photo in photos for name, _, _ in photo} | {"zebra"})
        images, annotations = [], []
        for number, photo in enumerate(photos, start=1):
            pixels = np.full((*size, 3), 128, np.uint8)
            for name, colour, (x0, y0, x1, y1) in photo:
                pixels[y0:y1, x0:x1] = colour
                mask = np.zeros(size, np.uint8, order="F")
                mask[y0:y1, x0:x1] = 1
                rle = coco_mask.encode(mask)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": names.index(name) + 1,
                        "segmentation": {"size": list(size), "counts": rle["counts"].decode()},
                        "isthing": int(name not in scenery),
                        "iscrowd": 0,
                    }
                )
            Image.fromarray(pixels).save(folder / "images" / f"{number:04}.{suffix}")
            images.append(
                {"id": number, "file_name": f"{number:04}.{suffix}", "width": size[1], "height": size[0]}
            )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
        }
        (folder / "annotations.json").write_text(json.dumps(content))
        return folder

    return write


@pytest.fixture
def pack_folder(tmp_path, write_pack):
    """Forty photos: two cups of different colours and sizes, and a dog."""
    rng = np.random.default_rng(0)
    photos = []
    for _ in range(40):
        x, y = int(rng.integers(0, 8)), int(rng.integers(0, 8))
        photos.append(
            [
                ("cup", RED, (4 + x, 6 + y, 28 + x, 34 + y)),
                ("cup", BLUE, (60 + x, 10 + y, 74 + x, 24 + y)),
                ("dog", GREEN, (40, 44, 58, 62)),
            ]
        )
    return write_pack(tmp_path / "shapes", photos)


@pytest.fixture
def mixed_pack(tmp_path, write_pack):
    """Ten photos: a dog by a brick wall in each of them, but the wall is annotated in the first five only."""
    dog, wall = ("dog", GREEN, (40, 30, 66, 58)), ("wall-brick", RED, (0, 0, 96, 20))
    return write_pack(tmp_path / "mixed", [[dog, wall]] * 5 + [[dog]] * 5, scenery=("wall-brick",))


TINY_WORDS = (
    "[PAD] [UNK] [CLS] [SEP] the red blue green cup dog zebra where is find on left right ? please".split()
)


@pytest.fixture
def tiny_tokenizer():
    """A word-level tokenizer with the compact model's conventions: [CLS] ... [SEP], padded, cut at 12."""
    from tokenizers import Tokenizer, normalizers
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(TINY_WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(12)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


@pytest.fixture
def tiny_compact():
    """A compact model of 32 channels over an embedding table in place of MiniLM, seeded."""
    torch = pytest.importorskip("torch")
    from ivm.models.compact import CompactConfig, CompactModel

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(len(TINY_WORDS), 16)

        def forward(self, ids_BT, mask_BT):
            return self.words(ids_BT)

    torch.manual_seed(0)
    config = CompactConfig(
        image_size=64,
        dim=32,
        heads=4,
        stem=(8, 16, 24),
        image_blocks=1,
        fusion_blocks=1,
        text_blocks=1,
        max_tokens=12,
        backbone="",
    )
    return CompactModel(config, Table(), text_dim=16)


@pytest.fixture(scope="session")
def _exports(tmp_path_factory):
    return {"folder": tmp_path_factory.mktemp("export") / "tiny"}


@pytest.fixture
def exported(tiny_compact, tiny_tokenizer, _exports):
    """A folder that `export_compact` wrote from `tiny_compact`, in float32; once a run: it takes seconds."""
    import warnings

    from ivm.models.export import export_compact

    folder = _exports["folder"]
    if not folder.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's own
            export_compact(tiny_compact, tiny_tokenizer, folder, quantise=False, extra={"note": "test"})
    return folder


@pytest.fixture
def tiny_discriminator():
    """tiny_discriminator(context) -> a compact discriminator of 32 channels over a small table, seeded."""
    torch = pytest.importorskip("torch")
    from ivm.models.compact_discriminator import CompactDiscriminator, CompactDiscriminatorConfig

    class Table(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(len(TINY_WORDS), 16)

        def forward(self, ids_BT, mask_BT):
            return self.words(ids_BT)

    def make(context):
        torch.manual_seed(0)
        config = CompactDiscriminatorConfig(
            dim=32, heads=4, stem=(8, 16, 24), backbone="",
            image_blocks=1, fusion_blocks=1, text_blocks=1, context=context,
        )  # fmt: skip
        return CompactDiscriminator(config, Table(), text_dim=16)

    return make


@pytest.fixture(autouse=True)
def _denormals_come_back() -> Iterator[None]:
    """Training flushes denormals to zero for its whole process; the next test is not to inherit that."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
