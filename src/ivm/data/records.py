"""What a reader yields: entries of a source, not read yet, and what was wrong with some of them.

A reader lists entries; whoever takes them loads them. So one place decides what becomes of a bad record, and
a conversion that starts again passes over what it has already written without reading it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivm.errors import DataError, InputError
from ivm.types import Sample

__all__ = ["BAD", "Entry", "Problem", "Record", "Report", "get", "load", "read_json", "read_lines", "samples"]

BAD = (DataError, InputError)
"""What a wrong record raises; anything else is a fault of the program and is not held back."""


@dataclass(frozen=True, eq=False)
class Record:
    """A sample, and the file its image came in.

    Attributes:
        sample: the sample.
        file: the image's JPEG, PNG or WebP bytes where they hold exactly the sample's pixels, so that a store
            can keep them as they are; None where the image was made, cropped or turned.
        more: further members that a store keeps beside the sample, suffix -> bytes.
    """

    sample: Sample
    file: bytes | None = None
    more: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Entry:
    """One line or annotation of a source.

    Attributes:
        file: where it stands: the path of a list or annotation file, or "seed 3" for what is made.
        place: line number from 1, or what the file counts by: "annotation 17".
        load: gives its records; for a wrong one a DataError is in its place. Raising a DataError or
            InputError gives up the rest of the entry. It must give the same records whenever it is called.
        asks: instructions of its records, which have no heatmap, where listing the source tells them: what
            needs no more than these need not decode the pictures. None: only loading tells.
    """

    file: str
    place: int | str
    load: Callable[[], Iterable[Record | DataError]]
    asks: tuple[str, ...] | None = None

    @classmethod
    def bad(cls, file: str | os.PathLike[str], place: int | str, reason: str) -> Entry:
        """An entry that cannot be read at all, such as a malformed line."""
        return cls(os.fspath(file), place, lambda: (DataError(reason),))


@dataclass(frozen=True)
class Problem:
    """What is wrong with one record: file, place in it, reason."""

    file: str
    place: int | str
    reason: str

    def __post_init__(self) -> None:
        """What is wrong with a record may be that it is no text: the report must hold it all the same."""
        for name in ("file", "place", "reason"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, value.encode("utf-8", "backslashreplace").decode("utf-8"))

    def __str__(self) -> str:
        place = f"{self.file}:{self.place}" if isinstance(self.place, int) else f"{self.file}: {self.place}"
        return f"{place}: {self.reason}"


@dataclass
class Report:
    """The problems met so far.

    Attributes:
        strict: raise the first problem instead of noting it.
        problems: in the order of the source.
    """

    strict: bool = False
    problems: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Note a problem.

        Raises:
            DataError: the report is strict.
        """
        self.problems.append(problem)
        if self.strict:
            raise DataError(str(problem))


def load(entry: Entry, report: Report) -> Iterator[tuple[int, Record]]:
    """Yield (number within the entry, record); what is wrong goes to the report.

    Numbers count wrong records, too, so that a number always means the same record.

    Raises:
        DataError: something is wrong and the report is strict.
    """
    for number, item in enumerate(_items(entry)):
        if isinstance(item, Record):
            yield number, item
        else:
            report.add(Problem(entry.file, entry.place, str(item)))


def _items(entry: Entry) -> Iterator[Record | Exception]:
    try:
        yield from entry.load()
    except BAD as error:
        yield error


def samples(entries: Iterable[Entry], report: Report | None = None) -> Iterator[Sample]:
    """Yield the samples of a source; without a report the first wrong record raises DataError."""
    report = Report(strict=True) if report is None else report
    for entry in entries:
        for _, record in load(entry, report):
            yield record.sample


def get(record: Any, key: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """`record[key]`, which must be of `kind`; `default`, if given, where it is absent or null.

    Raises:
        DataError: the record is no object, or the key is absent or holds something else.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"a record must be a JSON object, but is {type(record).__name__}")
    value = record.get(key)
    if value is None:
        if default is not ...:
            return default
        raise DataError(
            f"a record must have {key!r}, but has only {', '.join(map(str, record)) or 'nothing'}"
        )
    if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, (int, float))):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        names = " or ".join(_PLAIN.get(one, one.__name__) for one in kinds)
        raise DataError(f"{key!r} must be {names}, but is {type(value).__name__} {str(value)[:40]!r}")
    if isinstance(value, float) and value - value != 0.0:
        raise DataError(f"{key!r} must be a finite number, but is {value}")
    return value


_PLAIN = {str: "text", int: "a whole number", float: "a number", list: "a list", dict: "an object"}


def read_json(path: str | os.PathLike[str]) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is missing or malformed.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error


def _why(error: Exception) -> str:
    """The error without the number of the line, of which there is one."""
    return (
        f"{error.msg} at character {error.pos + 1}" if isinstance(error, json.JSONDecodeError) else str(error)
    )


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, Any | DataError]]:
    """Yield (line number from 1, value) of a JSON-lines file; a DataError for a malformed line.

    Empty lines are passed over.

    Raises:
        DataError: the file cannot be opened.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as error:  # ValueError: bytes that are not UTF-8, too
                    yield number, DataError(f"the line is not JSON: {_why(error)}")
