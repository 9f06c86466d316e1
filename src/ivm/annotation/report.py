"""What came of an annotation run: counts, reasons, and the reliability of each sample."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ivm.annotation.annotate import REASONS
from ivm.data.layout import to_json
from ivm.data.records import read_lines
from ivm.data.stream import ShardReader
from ivm.errors import DataError
from ivm.files import whole

__all__ = ["Summary", "summarise", "write_reliability"]


@dataclass(frozen=True)
class Summary:
    """What is in a store of annotations, and what is not.

    Attributes:
        samples: how many it has.
        reasons: why others are left out: key of `ivm.annotation.annotate.REASONS`, or "unreadable" -> number.
        marked: what readers of the store should know of samples in it -> number.
        reliability: mean over the samples that have one; None if none has.
    """

    samples: int
    reasons: Mapping[str, int]
    marked: Mapping[str, int]
    reliability: float | None


def summarise(folder: str | os.PathLike[str]) -> Summary:
    """Count what a finished store of annotations holds and lacks.

    Raises:
        DataError: the folder holds no finished store, or a file of it is damaged.
    """
    folder = Path(folder)
    reasons: Counter[str] = Counter()
    for line, row in read_lines(folder / "report.jsonl"):
        if not isinstance(row, dict):
            raise DataError(f"{folder / 'report.jsonl'}:{line} is damaged: {row}")
        key = str(row.get("reason", "")).partition(":")[0]
        reasons[key if key in REASONS else "unreadable"] += 1
    marked: Counter[str] = Counter()
    known = []
    samples = 0
    for _, told in _annotations(folder):
        samples += 1
        if told.get("reliability") is not None:
            known.append(float(told["reliability"]))
        if told.get("fault"):
            marked[f"are marked {told['fault']}"] += 1
        elif told.get("missing"):
            marked["lack a phrase that was not found"] += 1
        if str(told.get("note", "")).startswith("unchanged"):
            marked["went to the experts as they are: no rule applies"] += 1
    order = dict(sorted(reasons.items(), key=lambda item: -item[1]))
    return Summary(samples, order, dict(marked), sum(known) / len(known) if known else None)


def write_reliability(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> int:
    """Write the reliability of each sample as `{"uuid": ..., "score": ...}` lines; return how many have one.

    The form is that of `ivm score`, so that `ivm data clean --scores` can go by it. A sample without one,
    such as a mask for which instructions were composed, has the score null, and passes there.

    Raises:
        DataError: the folder holds no finished store.
        OutputError: the file cannot be written.
    """
    known = 0
    with whole(path) as temporary, temporary.open("wb") as file:
        for uuid, told in _annotations(Path(folder)):
            reliability = told.get("reliability")
            file.write(to_json({"uuid": uuid, "score": reliability}) + b"\n")
            known += reliability is not None
    return known


def _annotations(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(uuid, what the provenance says of the annotation) of each sample."""
    reader = ShardReader(folder)
    for shard, described in enumerate(reader.index.shards):
        for number in range(described.samples):
            told = json.loads(reader.members(shard, number)["json"])
            yield told["uuid"], told["provenance"].get("annotation", {})
