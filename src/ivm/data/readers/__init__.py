"""Readers of published data sets: a folder in the publisher's form -> entries of samples.

A reader is a generator function `read_x(root, ...) -> Iterator[Entry]`. It lists entries in an order that
never changes and reads pictures only when an entry is loaded, so that a conversion can go on where it
stopped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from ivm.data.records import Entry
from ivm.errors import DataError, OptionError

__all__ = ["READERS", "entries", "reader"]

READERS: dict[str, str] = {
    "ivm-mix": "ivm_mix.read_ivm_mix",
    "coco": "coco.read_coco",
    "coco-panoptic": "coco.read_coco_panoptic",
    "refer": "refer.read_refer",
    "visual-genome": "regions.read_visual_genome",
    "flickr30k": "regions.read_flickr30k",
    "open-images": "open_images.read_open_images",
    "phrasecut": "polygons.read_phrasecut",
    "reasonseg": "polygons.read_reasonseg",
    "textvqa": "questions.read_textvqa",
    "gqa": "questions.read_gqa",
    "vsr": "questions.read_vsr",
    "llava": "questions.read_llava",
    "lerobot": "lerobot.read_lerobot",
    "csv": "folder.read_csv",
}
"""Name -> module and function in this folder; a module is loaded when its reader is used."""


def reader(name: str) -> Callable[..., Iterator[Entry]]:
    """The reader of that name.

    Raises:
        OptionError: there is none.
    """
    if name not in READERS:
        near = get_close_matches(name, READERS, 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"the reader must be one of {', '.join(READERS)}, but got {name!r}{hint}")
    module, _, function = READERS[name].partition(".")
    return getattr(import_module(f"{__name__}.{module}"), function)


def entries(name: str, root: str | Path, options: Mapping[str, str] | None = None) -> Iterator[Entry]:
    """The entries of the source at `root`, by the reader `name` with its options given as text.

    Raises:
        OptionError: the reader does not exist, or does not take an option.
        DataError: there is no such folder, or it lacks what the reader needs.
    """
    function = reader(name)
    known = [key for key in inspect.signature(function).parameters if key != "root"]
    given: dict[str, Any] = {}
    for key, value in (options or {}).items():
        if key not in known:
            raise OptionError(
                f"the reader {name!r} takes {', '.join(known) or 'no options'}, but got {key!r}"
            )
        given[key] = value
    if not Path(root).is_dir():
        what = "is a file" if Path(root).exists() else "does not exist"
        raise DataError(f"{root} must be the folder of the source, but {what}")
    return function(Path(root), **given)
