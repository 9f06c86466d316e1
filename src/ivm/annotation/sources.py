"""Where samples to annotate come from: a store, a published data set, a table, or a folder of pictures."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ivm.data.clean import identity
from ivm.data.layout import IMAGE_MEMBERS, decode_sample, key_of
from ivm.data.readers import entries as read_entries
from ivm.data.readers.files import fingerprint, load_image
from ivm.data.records import Entry, Record
from ivm.data.stream import ShardReader
from ivm.errors import DataError, InputError, OptionError
from ivm.images import IMAGE_SUFFIXES
from ivm.types import Sample, check_instruction

__all__ = ["Source", "open_source"]


@dataclass(frozen=True, eq=False)
class Source:
    """Entries to annotate.

    Attributes:
        entries: in an order that never changes.
        count: how many there are; None where only reading all would tell.
        recipe: what decides them, in plain JSON values.
    """

    entries: Iterator[Entry]
    count: int | None
    recipe: Mapping[str, Any]


def open_source(
    path: Path,
    instructions: Sequence[str] = (),
    reader: str = "",
    options: Mapping[str, str] | None = None,
    output: Path | None = None,
) -> Source:
    """Find out what `path` is.

    A store (it has an index.json); with `reader`, what `ivm data convert` reads; with `instructions`, a
    folder of pictures, each of which is asked every instruction; else a folder with one CSV table.
    The recipe changes with the files in `path`, but for those in the folder `output`.

    Raises:
        OptionError: arguments contradict each other, or say too little.
        DataError: the source cannot be read.
        InputError: the folder holds no picture.
    """
    if not path.is_dir():
        raise DataError(f"{path} must be a folder: a store, a data set or pictures")
    if reader and instructions:
        raise OptionError("give --reader or --instruction, not both: what a reader reads has instructions")
    if options and not reader:
        raise OptionError("--set needs --reader: it is an option of a reader")
    name = path.resolve().name
    if reader:
        listed = read_entries(reader, path, options)  # first: its errors say more
        recipe = {"reader": reader, "source": name, "options": dict(options or {})}
        return Source(listed, None, {**recipe, "content": fingerprint(path, output)})
    if (path / "index.json").exists() or any(path.glob("shard-*.tar")):
        if instructions:
            raise OptionError(f"{path} is a store, whose samples have instructions: leave out --instruction")
        store = ShardReader(path)
        return Source(_of_store(store), store.index.samples, {"store": identity(store)})
    if instructions:
        texts = tuple(dict.fromkeys(check_instruction(text) for text in instructions))
        pictures = _pictures(path)
        listed = _of_pictures(path, pictures, texts)
        recipe = {"pictures": name, "instructions": texts}
        recipe["content"] = fingerprint(path, output, IMAGE_SUFFIXES)
        return Source(listed, len(pictures), recipe)
    if any(path.glob("*.csv")):
        recipe = {"reader": "csv", "source": name, "content": fingerprint(path, output)}
        return Source(read_entries("csv", path), None, recipe)
    raise OptionError(
        f"{path} is no store and has no CSV table: give --instruction for a folder of pictures, or --reader"
    )


def _of_store(store: ShardReader) -> Iterator[Entry]:
    for shard, described in enumerate(store.index.shards):
        for number, key in enumerate(store.keys(shard)):
            yield Entry(f"{described.name}.tar", key, partial(_stored, store, shard, number))


def _stored(store: ShardReader, shard: int, number: int) -> Iterator[Record]:
    members = store.members(shard, number)
    file = next((members[suffix] for suffix in IMAGE_MEMBERS if suffix in members), None)
    yield Record(decode_sample(members), file)


def _pictures(root: Path) -> list[Path]:
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(one for one in folders if not one.startswith("."))
        found += [
            Path(folder, one)
            for one in sorted(names)
            if Path(one).suffix.lower() in IMAGE_SUFFIXES and not one.startswith(".")
        ]
    if not found:
        raise InputError(f"{root} must hold pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), but has none")
    return found


def _of_pictures(root: Path, pictures: Sequence[Path], texts: tuple[str, ...]) -> Iterator[Entry]:
    for path in pictures:
        yield Entry(path.relative_to(root).as_posix(), "picture", partial(_picture, root, path, texts), texts)


def _picture(root: Path, path: Path, texts: tuple[str, ...]) -> Iterator[Record]:
    image, file = load_image(path, root)
    inside = path.relative_to(root).as_posix()
    source = root.resolve().name
    sample = Sample(
        _uuid(f"{source}-{inside}", len(texts)),
        image,
        texts,
        None,
        source,
        human=False,
        image_id=f"{source}/{inside}",
        provenance={"image": inside},
    )
    yield Record(sample, file)


def _uuid(name: str, instructions: int) -> str:
    """The name, or a digest where it is too long for a store: of Chinese, twenty signs are."""
    try:
        key_of(f"{name}-{instructions}")
    except (DataError, UnicodeEncodeError):
        return f"picture-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:32]}"
    return name
