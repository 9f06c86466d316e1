"""Cut-outs: pictures of single things with alpha, named by their files.

A folder holds pictures and `names.json`: {file name without suffix: name}. Pictures with an alpha channel are
taken as they are; of those without (product photos on plain ground) the ground is removed.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivm.data.packs import split_of
from ivm.errors import DataError

__all__ = ["Cutout", "plain_ground_alpha", "read_cutouts", "spoken_name"]

_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")
_MAX_SIDE = 4096

# What is a drawing of writing, of an idea or of an event, not of a thing that one could point at in a room.
_NO_PICTURE = re.compile(
    r"""\b(sign|symbol|squared|circled|keycap|ideograph|latin|katakana|ornament|emblem|mark|arrow|arrows
    |triangle|asterisk
    |clock\ face|flags?|skin\ tone|type-\d|pointing|loop|dash|bar\ chart|button|musical|chart|silhouette
    |no\ (bicycles|pedestrians|mobile|entry|smoking|one)|input|vibration|antenna|brightness|speaker\ with
    |exchange|fist|hands?|fingers?|backhand|index|palms?|shrug|bowing
    |person\ (bowing|climbing|doing|in|raising|with\ folded)
    |water\ polo|handball|racing$|suit$|star\ of|cross$|crescent$|yin|tray|slider|knobs|level)\b""",
    re.VERBOSE,
)
_SMILEYS = re.compile(r"\bface\b|^rolling on the floor")


@cache
def _names() -> dict[str, Any]:
    return tomllib.loads(files("ivm").joinpath("assets", "cutouts.toml").read_text(encoding="utf-8"))


@cache
def _listed(key: str) -> frozenset[str]:
    return frozenset(name.strip() for name in _names()[key].replace("\n", " ").split(","))


def spoken_name(raw: str) -> str | None:
    """The noun that people say for a file's name, or None if it pictures no thing that one could point at.

    Rule (ours): names of writing, signs, symbols, arrows, flags, zodiac and clock faces, gestures, parts of a
    face, skin-tone variants, events and views ("sunrise", "cinema") are skipped; Unicode's descriptive names
    become the plain noun ("closed mailbox with raised flag" -> "mailbox"); an animal's face is called by the
    animal; every other face is a "smiley"; a product is called by what it is, without the brand.
    """
    name = raw.strip().lower().replace("_", " ").replace("’", "'")
    spoken: dict[str, str] = _names()["spoken"]
    if name in spoken:
        return spoken[name]
    if name in _listed("no_picture"):
        return None
    for part, product in _names()["products"].items():
        if name.endswith(part) and name != part:
            return product
    if _NO_PICTURE.search(name):
        return None
    if _SMILEYS.search(name):
        if "cat face" in name and name != "cat face":
            return "smiley cat"
        animal = name.removesuffix(" face")
        return animal if animal in _listed("faced") else "smiley"
    return name


@dataclass(frozen=True)
class Cutout:
    """One file of a folder of cut-outs; pixels are read on demand.

    Attributes:
        pack: the folder's name.
        file_name: with suffix; the split goes by it.
        name: spoken name.
    """

    pack: str
    file_name: str
    path: Path
    name: str

    @property
    def split(self) -> str:
        """ "train", "val" or "test", by pack and file name."""
        return split_of(self.pack, self.file_name)

    def rgba(self, longest: int = 128) -> np.ndarray:
        """uint8 [H, W, 4], cropped to what is opaque, its longest side at most `longest`.

        Raises:
            DataError: the file is missing or damaged, or nothing in it is opaque.
        """
        try:
            pixels = cv2.imdecode(np.fromfile(self.path, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error) as error:
            raise DataError(f"cut-out {self.path} cannot be read: {error}") from error
        if pixels is None or pixels.dtype != np.uint8:
            raise DataError(f"cut-out {self.path} is not an 8-bit picture that can be read")
        if max(pixels.shape[:2]) > _MAX_SIDE:
            raise DataError(
                f"cut-out {self.path} is {pixels.shape[1]}x{pixels.shape[0]}: at most {_MAX_SIDE} are read"
            )
        if pixels.ndim == 2:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
        if pixels.shape[2] == 4:
            rgba = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
        else:
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
            rgba = np.dstack([rgb, plain_ground_alpha(rgb)])
        solid = rgba[:, :, 3] > 127
        rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
        if rows.size < 4 or columns.size < 4:
            raise DataError(f"cut-out {self.path} has no opaque part of at least 4x4 pixels")
        rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        scale = longest / max(rgba.shape[:2])
        if scale < 1:
            size = (max(4, round(rgba.shape[1] * scale)), max(4, round(rgba.shape[0] * scale)))
            rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
        return np.ascontiguousarray(rgba)


def plain_ground_alpha(rgb_HW3: np.ndarray, tolerance: int = 14) -> np.ndarray:
    """uint8 [H, W] alpha of a thing on plain ground: what is like the border and joined to it becomes clear.

    Args:
        rgb_HW3: uint8.
        tolerance: largest difference to the border's median colour, in each channel, in [0, 255].
    """
    border = np.concatenate([rgb_HW3[0], rgb_HW3[-1], rgb_HW3[:, 0], rgb_HW3[:, -1]])
    ground = np.median(border, axis=0)
    like = (np.abs(rgb_HW3.astype(np.int16) - ground.astype(np.int16)).max(axis=2) <= tolerance).astype(
        np.uint8
    )
    like = np.pad(like, 1, constant_values=1)  # so that one flood reaches every side
    _, labels = cv2.connectedComponents(like, connectivity=4)
    solid = (labels[1:-1, 1:-1] != labels[0, 0]).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    solid = cv2.erode(solid, np.ones((3, 3), np.uint8))  # the outermost ring is mixed with the ground
    return cv2.GaussianBlur(solid * 255, (3, 3), 0)


def read_cutouts(folder: str | os.PathLike[str], split: str | None = None) -> list[Cutout]:
    """The usable cut-outs of a folder, sorted by file name.

    Args:
        folder: holds pictures and `names.json`; without that file, file names are the names.
        split: "train", "val" or "test"; None for all.

    Raises:
        DataError: the folder is missing, names.json is malformed, or no picture is usable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"the folder of cut-outs {folder} does not exist")
    names: dict[str, str] = {}
    file = folder / "names.json"
    if file.is_file():
        try:
            names = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is not JSON: {error}") from error
        if not isinstance(names, dict) or not all(isinstance(value, str) for value in names.values()):
            raise DataError(f'{file} must map file names to names, such as {{"1f34c": "banana"}}')
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES:
            continue
        name = spoken_name(names.get(path.stem, path.stem.replace("-", " ")))
        cutout = None if name is None else Cutout(folder.name, path.name, path, name)
        if cutout and (split is None or cutout.split == split):
            found.append(cutout)
    if not found:
        raise DataError(f"{folder} holds no usable cut-out" + (f" of the split {split!r}" if split else ""))
    return found
