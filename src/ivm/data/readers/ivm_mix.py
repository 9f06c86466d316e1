"""IVM-Mix-1M, the data set of the paper: JSON lines beside grey heatmaps.

Publisher's description: https://github.com/2toinf/IVM (README, section "IVM-Mix-1M Dataset", and
IVM_1M_Mix/datareader.py); files at https://huggingface.co/datasets/2toINF/IVM-Mix-1M. The parts are
HumanLabelData and RobotMachineData, with images, and VQAMachineData, whose images come from the data sets
named in `image` (coco, gqa, textvqa, vg, flickr30k, vsr, openimages).
Not verified: the names of the JSON-lines files, and whether folders lie between them and the heatmaps.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivm.data.readers.files import below, check_size, find_file, load_image, photo_id, short_name
from ivm.data.records import Entry, Record, get, read_lines
from ivm.errors import DataError, OptionError
from ivm.types import Sample

__all__ = ["PARTS", "normalise_heatmap", "read_ivm_mix"]

PARTS = {"human": True, "robot": False, "vqa": False}
"""Part -> whether people annotated it."""

_MAX_SIDE = 30_000


def normalise_heatmap(bgr_HW3: np.ndarray) -> np.ndarray:
    """The heatmap that the reference code makes of a file's pixels: grey, times 1.5 (saturating), min-max.

    A constant heatmap is divided by its value and so becomes 1 everywhere, as there: a file that is equally
    grey everywhere keeps the whole image. An all-black file, of which the reference makes NaN, stays 0.

    Args:
        bgr_HW3: uint8, as `cv2.imread` gives it.

    Returns:
        float32 [H, W] in [0, 1].
    """
    # The reference takes blue for red here. It matters only for files that are not grey.
    grey = cv2.convertScaleAbs(cv2.cvtColor(bgr_HW3, cv2.COLOR_RGB2GRAY), alpha=1.5, beta=0)
    low, high = int(grey.min()), int(grey.max())
    if high > low:
        return ((grey - low) / (high - low)).astype(np.float32)
    return np.full(grey.shape, float(high > 0), np.float32)


def read_ivm_mix(
    root: Path, part: str = "", annotations: str = "", masks: str = "", images: str = ""
) -> Iterator[Entry]:
    """One entry a line.

    Args:
        root: folder of one part, or holding its files below it.
        part: "human", "robot" or "vqa"; without it, what the folder's or file's name says.
        annotations: the JSON-lines file, below `root`; without it, the only *.jsonl there.
        masks: folder of mask_{uuid}.jpg, below `root`; without it, where they are found.
        images: folder of img_{uuid}.jpg, or into which `image` leads; without it, where they are found, and
            `root` for "vqa".

    Raises:
        DataError: a file or folder is missing.
        OptionError: the part is unknown, or cannot be told.
    """
    lines = (
        below(root, annotations) if annotations else find_file(root, ("*.jsonl", "*/*.jsonl"), "JSON lines")
    )
    if not part:
        told = f"{root.resolve().name} {lines.name}".lower()
        part = next((name for name in PARTS if name in told), "")
    if part not in PARTS:
        raise OptionError(f"part must be one of {', '.join(PARTS)}, but got {part!r}: say which")
    mask_folders = [below(root, masks)] if masks else _folders(root, lines, ("masks", "mask"))
    image_folders = [below(root, images)] if images else _folders(root, lines, ("images", "image"))
    for number, item in read_lines(lines):
        name = short_name(lines, root)
        if isinstance(item, DataError):
            yield Entry.bad(name, number, str(item))
        else:
            yield Entry(name, number, partial(_load, item, part, mask_folders, image_folders, root, number))


def _folders(root: Path, lines: Path, names: tuple[str, ...]) -> list[Path]:
    homes = dict.fromkeys((lines.parent, root))
    return [*homes, *(home / name for home in homes for name in names if (home / name).is_dir())]


def _load(
    item: Any, part: str, mask_folders: list[Path], image_folders: list[Path], root: Path, number: int
) -> Iterator[Record]:
    uuid = str(get(item, "uuid", (str, int)))
    instructions = get(item, "instruction", list)
    if not instructions or not all(isinstance(text, str) for text in instructions):
        raise DataError(f"'instruction' must be a list of texts, but is {str(instructions)[:60]!r}")
    named = get(item, "image", str, "") or f"img_{uuid}.jpg"
    image, file = load_image(_first(image_folders, named), root)
    heatmap = _heatmap(_first(mask_folders, f"mask_{uuid}.jpg"), root)
    check_size(heatmap, image, f"mask_{uuid}.jpg")
    source = Path(named).parts[0] if part == "vqa" and len(Path(named).parts) > 1 else part
    yield Record(
        Sample(
            uuid,
            image,
            tuple(instructions),
            heatmap,
            source=f"ivm-mix/{source}",
            human=PARTS[part],
            image_id=photo_id(f"ivm-mix/{source}", named),
            provenance={"data_set": "IVM-Mix-1M", "part": part, "line": number, "image": named},
        ),
        file,
    )


def _first(folders: list[Path], name: str) -> Path:
    paths = [below(folder, name) for folder in folders]
    return next((path for path in paths if path.exists()), paths[0])


def _heatmap(path: Path, root: Path) -> np.ndarray:
    name = short_name(path, root)
    try:
        content = np.frombuffer(path.read_bytes(), np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"the heatmap {name} is missing") from error
    except OSError as error:
        raise DataError(f"the heatmap {name} cannot be read: {error.strerror or error}") from error
    load_image(path, root)  # refuses what is damaged or too large, in words; OpenCV reads on past damage
    pixels = cv2.imdecode(content, cv2.IMREAD_COLOR)  # the decoder of the reference, to the same last bit
    if pixels is None or max(pixels.shape) > _MAX_SIDE:
        raise DataError(f"the heatmap {name} is damaged")
    return normalise_heatmap(pixels)
