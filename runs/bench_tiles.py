"""Do tiles help? The same model with and without them, on 12-megapixel pictures made of held-out photos.

    IVM_DATA=... python runs/bench_tiles.py [--model compact] [--pictures 30] [--sweep]

Two kinds of picture, 4000 x 3000: mosaics of photos, one of which (or none) shows the target, which then is
small; and one photo enlarged, where the target is large and tiles can only do harm. Prints gIoU, pointing
accuracy, and the share of pictures in which the target was found where it is, and where it is not.
`--sweep` does so for other constants of `ivm.tiles.fuse`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import ivm
from ivm import tiles
from ivm.data.packs import Photo, data_folder, read_pack

WIDTH, HEIGHT = 4000, 3000
NAMES = ("dog", "cat", "horse", "sheep", "cow", "person", "bird")


def shows(photo: Photo, name: str) -> bool:
    return any(region.name == name for region in photo.regions)


def filled(photo: Photo, name: str, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The middle of a photo and of its mask of `name`, resized to fill width x height."""
    image, mask = photo.image(), np.zeros((photo.height, photo.width), np.uint8)
    for region in photo.regions:
        if region.name == name:
            mask |= region.mask().astype(np.uint8)
    scale = max(width / photo.width, height / photo.height)
    size = (max(width, round(photo.width * scale)), max(height, round(photo.height * scale)))
    x, y = (size[0] - width) // 2, (size[1] - height) // 2
    part = (slice(y, y + height), slice(x, x + width))
    large = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    return large[part], cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)[part].astype(bool)


def pictures(
    photos: list[Photo], columns: int, rows: int, count: int, rng: random.Random
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, uint8 [H, W, 3], bool [H, W]); in each third mosaic the target is absent."""
    names = [name for name in NAMES if any(shows(photo, name) for photo in photos)]
    for number in range(count):
        name = names[number % len(names)]
        with_, without = ([p for p in photos if shows(p, name) == wanted] for wanted in (True, False))
        cells = columns * rows
        place = rng.randrange(cells) if cells == 1 or number % 3 < 2 else -1
        image, mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), bool)
        width, height = WIDTH // columns, HEIGHT // rows
        for cell in range(cells):
            y, x = (cell // columns) * height, (cell % columns) * width
            photo = rng.choice(with_ if cell == place else without)
            part = (slice(y, y + height), slice(x, x + width))
            image[part], mask[part] = filled(photo, name, width, height)
        yield name, image, mask


def measure(heatmap: ivm.Heatmap, mask: np.ndarray) -> tuple[float, float, float, float]:
    """(IoU, hit, found, found wrongly); NaN for what a picture cannot tell."""
    if not mask.any():
        return np.nan, np.nan, np.nan, float(heatmap.found)
    kept, (x, y) = heatmap.to_mask(), heatmap.point()
    return float((kept & mask).sum() / (kept | mask).sum()), float(mask[y, x]), float(heatmap.found), np.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="compact")
    parser.add_argument("--pictures", type=int, default=30, help="of each kind")
    parser.add_argument("--sweep", action="store_true", help="try other constants of the fusion")
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        parser.error("set IVM_DATA to the folder of packs")
    photos = [photo for photo in read_pack(Path(folder) / "voc").split("test") if photo.regions]
    masker = ivm.load(arguments.model)
    own = (tiles._LOOKS, tiles._ELSEWHERE)
    others = [(looks, elsewhere) for looks in (0.0, 0.5, 1.0) for elsewhere in (0.0, 2.0, 4.0)]
    print(f"{'':34}{'gIoU':>8} {'pointing':>8} {'found':>8} {'wrongly':>8}")
    for label, columns, rows in (("mosaic of 12", 4, 3), ("mosaic of 24", 6, 4), ("one photo", 1, 1)):
        rows_of: dict[str, list[tuple[float, ...]]] = {}
        for name, image, mask in pictures(photos, columns, rows, arguments.pictures, random.Random(0)):
            features = masker.encode_image(image, tiles="auto" if columns == 1 else columns)
            whole = ivm.ImageFeatures(features.size, features.whole, (), features.backend)
            text = f"the {name}"
            rows_of.setdefault("without tiles", []).append(measure(masker(whole, text), mask))
            rows_of.setdefault("with", []).append(measure(masker(features, text), mask))
            for looks, elsewhere in others if arguments.sweep else []:
                tiles._LOOKS, tiles._ELSEWHERE = looks, elsewhere
                told = f"  looks {looks}, elsewhere {elsewhere}"
                rows_of.setdefault(told, []).append(measure(masker(features, text), mask))
            tiles._LOOKS, tiles._ELSEWHERE = own
        for told, measured in rows_of.items():
            columns_of = np.array(measured).T
            means = [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in columns_of]
            print(f"{label + ', ' + told:34}" + " ".join(f"{mean:8.3f}" for mean in means))


if __name__ == "__main__":
    main()
