"""Referring expressions: every sentence of RefCOCO and its relatives, or of any store, and the mask it means.

The figures are those of `ivm.evaluation.masks`; published results name them gIoU (or mIoU), cIoU (or oIoU),
P@0.5, and accuracy at 0.5 for boxes (Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; gRefCOCO: Liu et
al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ivm.data.readers import entries
from ivm.data.records import Entry, Problem, Record, Report, load
from ivm.data.stream import ShardSet
from ivm.types import Sample

__all__ = ["one_each", "read_expressions"]


def one_each(samples: Iterable[Sample]) -> Iterator[Sample]:
    """A sample for each instruction: published figures ask every sentence of a reference.

    Samples of one picture share its array, so that a model encodes it once. A sample without a kind gets
    "expression".
    """
    for sample in samples:
        for number, text in enumerate(sample.instructions):
            yield replace(
                sample,
                uuid=f"{sample.uuid}#{number}",
                instructions=(text,),
                kind=sample.kind or "expression",
            )


def read_expressions(
    source: Path,
    reader: str = "",
    options: Mapping[str, str] | None = None,
    left_out: list[str] | None = None,
) -> Iterator[Sample]:
    """The samples of a store, or of a data set in its publisher's form; one at a time.

    Args:
        source: folder of the store or data set.
        reader: a key of `ivm.data.readers.READERS`, such as "refer"; empty for a store.
        options: of the reader, such as {"split": "testA"}.
        left_out: gets a line for each record that is wrong; None: stop at the first.

    Raises:
        OptionError: there is no such reader or option.
        DataError: the source lacks what is needed, or, without `left_out`, a record is wrong.
    """
    report = Report(strict=left_out is None)
    for entry in entries(reader, source, options) if reader else _of_store(source):
        for _, record in load(entry, report):
            if record.sample.heatmap is None:
                reason = f"sample {record.sample.uuid} has no heatmap: nothing to compare with"
                report.add(Problem(entry.file, entry.place, reason))
            else:
                yield record.sample
        if left_out is not None:
            left_out += [str(problem) for problem in report.problems]
            report.problems.clear()


def _of_store(source: Path) -> Iterator[Entry]:
    store = ShardSet(source)
    for number in range(len(store)):
        yield Entry(str(source), f"sample {number}", partial(_stored, store, number))


def _stored(store: ShardSet, number: int) -> Iterator[Record]:
    yield Record(store[number])
