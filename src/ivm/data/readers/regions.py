"""Phrases with boxes: Visual Genome's regions and Flickr30k Entities. A mask is the union of boxes.

Publisher's descriptions: https://homes.cs.washington.edu/~ranjay/visualgenome/api.html
(region_descriptions.json, images in VG_100K and VG_100K_2) and
https://github.com/BryanPlummer/flickr30k_entities (README, and flickr30k_entities_utils.py; its photos by
request from https://shannon.cs.illinois.edu/DenotationGraph/).
Not verified: the name of the photos' folder of Flickr30k, which its publisher leaves open.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ivm.data.readers.files import below, boxes_mask, find_file, load_image, photo_id, short_name
from ivm.data.records import Entry, Record, get, read_json
from ivm.errors import DataError, InputError
from ivm.types import Sample

__all__ = ["read_flickr30k", "read_visual_genome"]

_XML_BYTES = 2_000_000
_CHAIN = re.compile(r"\[/EN#(\d+)((?:/[^\s\]]+)*)\s+([^\]]*)\]")


def read_visual_genome(root: Path, annotations: str = "region_descriptions.json") -> Iterator[Entry]:
    """One entry a photo, one sample a region.

    Args:
        root: folder of the annotations and of VG_100K/ and VG_100K_2/ (or images/).
        annotations: the region file, below `root`.

    Raises:
        DataError: it is missing or malformed.
    """
    path = find_file(root, (annotations,), "region descriptions")
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} must hold a list of images, but holds {type(content).__name__}")
    listed = short_name(path, root)
    for number, image in enumerate(content):
        label = f"image {image.get('id', number)}" if isinstance(image, dict) else f"item {number}"
        yield Entry(listed, label, partial(_load_regions, image, root))


def _load_regions(image: Any, root: Path) -> Iterator[Record | DataError]:
    regions = get(image, "regions", list)
    if not regions:
        return
    # Both files of version 1.2 and 1.4 name the photo in each region; the older has no "id" of the image.
    number = image.get("id", regions[0].get("image_id") if isinstance(regions[0], dict) else None)
    if not isinstance(number, int):
        raise DataError(f"an image must have a number, but has {number!r}")
    name = f"{number}.jpg"
    path = find_file(root, (f"VG_100K/{name}", f"VG_100K_2/{name}", f"images/{name}"), "the photo")
    pixels, file = load_image(path, root)
    for region in regions:
        try:
            x, y = get(region, "x", (int, float)), get(region, "y", (int, float))
            box = (x, y, x + get(region, "width", (int, float)), y + get(region, "height", (int, float)))
            sample = Sample(
                f"vg-{get(region, 'region_id', int)}",
                pixels,
                (get(region, "phrase", str),),
                boxes_mask([box], *pixels.shape[:2]),
                "visual-genome",
                image_id=photo_id("visual-genome", name),
                kind="region",
                provenance={"image": short_name(path, root), "box": list(box), "shape": "box"},
            )
        except (DataError, InputError) as error:
            label = region.get("region_id") if isinstance(region, dict) else region
            yield DataError(f"region {label}: {error}")
        else:
            yield Record(sample, file)


def read_flickr30k(root: Path, images: str = "", split: str = "") -> Iterator[Entry]:
    """One entry a photo, one sample a coreference chain that has boxes; its phrases are the instructions.

    Chains that the annotators marked as the whole scene or as not visible have no boxes and give no sample.

    Args:
        root: folder of Sentences/ and Annotations/.
        images: folder of the photos; without it, flickr30k-images/, flickr30k_images/ or images/ in `root`.
        split: "train", "val" or "test" (by train.txt, ... in `root`); without it, all.

    Raises:
        DataError: a folder is missing.
    """
    sentences = find_file(root, ("Sentences",), "the captions")
    boxes = find_file(root, ("Annotations",), "the boxes")
    usual = ("flickr30k-images", "flickr30k_images", "images")
    folder = below(root, images) if images else find_file(root, usual, "the photos")
    if split:
        lines = find_file(root, (f"{split}.txt",), "the split").read_text(encoding="utf-8").split()
        paths = [sentences / f"{line}.txt" for line in lines]
    else:
        paths = sorted(sentences.glob("*.txt"))
    for path in paths:
        yield Entry(short_name(path, root), "its chains", partial(_load_chains, path, boxes, folder, root))


def _load_chains(path: Path, boxes: Path, folder: Path, root: Path) -> Iterator[Record | DataError]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the captions cannot be read: {error}") from error
    phrases: dict[str, list[str]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for chain, types, phrase in _CHAIN.findall(text):
        phrases[chain].append(phrase.strip())
        kinds.setdefault(chain, types.split("/")[1] if types else "")
    placed = _flickr_boxes(boxes / f"{path.stem}.xml", root)
    wanted = [chain for chain in phrases if chain != "0" and placed.get(chain)]
    if not wanted:
        return
    pixels, file = load_image(folder / f"{path.stem}.jpg", root)
    for chain in wanted:
        try:
            sample = Sample(
                f"flickr30k-{path.stem}-{chain}",
                pixels,
                tuple(dict.fromkeys(phrases[chain])),
                boxes_mask(placed[chain], *pixels.shape[:2]),
                "flickr30k",
                image_id=photo_id("flickr30k", path.name),
                kind="phrase",
                provenance={"image": path.stem, "chain": chain, "type": kinds[chain], "shape": "box"},
            )
        except (DataError, InputError) as error:
            yield DataError(f"chain {chain}: {error}")
        else:
            yield Record(sample, file)


def _flickr_boxes(path: Path, root: Path) -> dict[str, list[tuple[int, int, int, int]]]:
    name = short_name(path, root)
    try:
        if path.stat().st_size > _XML_BYTES:
            raise DataError(f"{name} must be below {_XML_BYTES:,} bytes")
        content = path.read_bytes()
        if b"<!ENTITY" in content:  # entities that expand to more than memory holds
            raise DataError(f"{name} must not define entities")
        tree = ElementTree.fromstring(content)
        placed: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
        for thing in tree.findall("object"):
            box = thing.find("bndbox")
            if box is not None:
                x0, y0, x1, y1 = (int(box.findtext(key, "")) for key in ("xmin", "ymin", "xmax", "ymax"))
                for chain in thing.findall("name"):  # counted from 1, right and bottom inclusive
                    placed[chain.text or ""].append((x0 - 1, y0 - 1, x1, y1))
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror or error}") from error
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{name} is malformed: {error}") from error
    return placed
