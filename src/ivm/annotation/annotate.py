"""The whole way of one sample: its instruction is simplified, experts propose, proposals are fused, and the
result is a sample of machine annotation with all that led to it.

    record without heatmap -> phrases -> proposals -> fused heatmap -> record with heatmap, human=False
    record with heatmap    -> its phrase -> instructions            -> the same heatmap, more instructions

A sample with several instructions becomes one sample for each, because each has its own targets. What fails,
fails for one instruction, with a reason that begins with a key of REASONS. Entries in, entries out, so that
`ivm.data.shards.write_shards` does the rest: it resumes, and reports.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import cv2
import numpy as np

from ivm.annotation.experts import Panel
from ivm.annotation.fuse import FAULTS, WHOLE, Fused, Proposal, fuse
from ivm.annotation.phrases import Compose, Simplified, Simplify
from ivm.data.layout import decode_heatmap
from ivm.data.records import BAD, Entry, Record
from ivm.errors import DataError, IVMError, OptionError
from ivm.types import Heatmap, Sample, check_threshold

__all__ = ["KEEPABLE", "REASONS", "Annotator", "annotate_entries", "read_proposals"]

REASONS: dict[str, str] = {
    **FAULTS,
    "whole-instruction": "the instruction is about the whole picture: there is nothing to ground",
    "no-answer": "the LLM gave no usable answer",
    "annotated": "the sample has a heatmap already, and no instructions were asked for it",
}
"""Why an instruction has no annotation; anything else is a picture or line that cannot be read."""

KEEPABLE = ("not-found", "nearly-whole-image", "disagreement")
"""Faults that may be kept in the store, told in the provenance, where the caller wants them."""


@dataclass(frozen=True, eq=False)
class Annotator:
    """How samples are annotated.

    Attributes:
        panel: the experts.
        simplify: an instruction to its targets.
        compose: instructions for samples that have a heatmap; None leaves such samples out.
        instructions: how many to compose for each, at least 1.
        whole: kept area from which on a mask counts as nearly the whole picture.
        keep: faults, of KEEPABLE, that are written all the same. What was "not-found" has a heatmap of zeros
            and the kind "absent".
        proposal_side: longer side in pixels at which proposals are kept in the store; 0 keeps none.

    Raises:
        OptionError: one of them is out of range.
    """

    panel: Panel
    simplify: Simplify
    compose: Compose | None = None
    instructions: int = 4
    whole: float = WHOLE
    keep: frozenset[str] = frozenset()
    proposal_side: int = 256

    def __post_init__(self) -> None:
        check_threshold(self.whole, "whole")
        if unknown := sorted(self.keep - set(KEEPABLE)):
            raise OptionError(f"keep must be among {', '.join(KEEPABLE)}, but got {', '.join(unknown)}")
        if self.proposal_side < 0 or self.instructions < 1:
            raise OptionError(
                "proposal_side must be at least 0 and instructions at least 1, "
                f"but got {self.proposal_side} and {self.instructions}"
            )

    def __call__(self, record: Record) -> Iterator[Record | DataError]:
        """The annotated records of one record, and a DataError in the place of each that failed."""
        sample = record.sample
        if sample.heatmap is not None:
            yield self._composed(record)
            return
        for number, text in enumerate(sample.instructions):
            uuid = sample.uuid if len(sample.instructions) == 1 else f"{sample.uuid}-{number + 1}"
            try:
                yield self._annotated(record, uuid, text)
            except BAD as error:
                yield DataError(f"{error} ({uuid}: {text[:80]!r})")

    def _annotated(self, record: Record, uuid: str, text: str) -> Record:
        named = self.simplify(text)
        if named.whole:
            raise DataError(f"whole-instruction: {REASONS['whole-instruction']}")
        proposals = self.panel.propose(record.sample.image, named.phrases)
        fused = fuse(proposals, text, self.whole)
        if fused.fault and fused.fault not in self.keep:
            raise DataError(f"{fused.fault}: {FAULTS[fused.fault]}")
        sample = replace(
            record.sample,
            uuid=uuid,
            instructions=(text,),
            heatmap=np.array(fused.heatmap.values),
            human=False,
            kind="absent" if fused.fault == "not-found" else record.sample.kind,
            targets=fused.found,
            provenance=self._provenance(record.sample, named, proposals, fused),
        )
        return Record(sample, record.file, self._members(proposals))

    def _composed(self, record: Record) -> Record | DataError:
        sample = record.sample
        if self.compose is None:
            return DataError(f"annotated: {REASONS['annotated']} ({sample.uuid})")
        try:
            made = self.compose(sample.instructions[0], self.instructions)
        except BAD as error:
            return DataError(f"{error} ({sample.uuid})")
        provenance = {
            "from": {**dict(sample.provenance), "uuid": sample.uuid, "human": sample.human},
            "annotation": {"task": "compose", "by": made.by, "given": len(sample.instructions)},
        }
        texts = tuple(dict.fromkeys((*sample.instructions, *made.instructions)))
        return Record(replace(sample, instructions=texts, human=False, provenance=provenance), record.file)

    def _provenance(
        self, sample: Sample, named: Simplified, proposals: Sequence[Proposal], fused: Fused
    ) -> dict[str, Any]:
        experts = [{"name": expert.name, "weight": expert.weight} for expert in self.panel.experts]
        return {
            "from": {**dict(sample.provenance), "uuid": sample.uuid},
            "annotation": {
                "task": "ground",
                "by": named.by,
                "note": named.note,
                "phrases": list(named.phrases),
                "missing": list(fused.missing),
                "experts": experts,
                "proposals": [
                    {
                        "expert": proposal.expert,
                        "phrase": proposal.phrase,
                        "score": round(proposal.heatmap.score, 4),
                        "found": proposal.heatmap.found,
                        "threshold": proposal.heatmap.threshold,
                        "kept_area": round(float(proposal.mask.mean()), 6),
                        "failed": (proposal.expert, proposal.phrase) in fused.failed,
                    }
                    for proposal in proposals
                ],
                "score": round(fused.heatmap.score, 4),
                "reliability": None if fused.reliability is None else round(fused.reliability, 4),
                "fault": fused.fault,
            },
        }

    def _members(self, proposals: Sequence[Proposal]) -> dict[str, bytes]:
        """Each proposal as an 8-bit grey PNG, at most `proposal_side` pixels along its longer side."""
        if not self.proposal_side:
            return {}
        members = {}
        for number, proposal in enumerate(proposals):
            height, width = proposal.heatmap.shape
            scale = min(1.0, self.proposal_side / max(height, width))
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            small = cv2.resize(proposal.heatmap.values, size, interpolation=cv2.INTER_AREA)
            _, png = cv2.imencode(".png", np.rint(small * 255).astype(np.uint8))
            members[_member(number)] = png.tobytes()
        return members


def _member(number: int) -> str:
    return f"proposal-{number:03}.png"


def read_proposals(members: Mapping[str, bytes], provenance: Mapping[str, Any]) -> list[Proposal]:
    """The proposals that a sample of a store keeps, at the size at which they are kept.

    Args:
        members: of `ivm.data.stream.ShardReader.members`.
        provenance: of the sample.

    Raises:
        DataError: one is damaged, or not told of in the provenance.
    """
    proposals = []
    try:
        told = provenance["annotation"]
        weights = {expert["name"]: expert["weight"] for expert in told.get("experts", ())}
        for number, about in enumerate(told.get("proposals", ())):
            if _member(number) not in members:
                continue
            values = decode_heatmap({"heatmap.png": members[_member(number)]}, "heatmap")
            assert values is not None
            heatmap = Heatmap(values, about["score"], about["found"], about["threshold"], about["phrase"])
            proposals.append(Proposal(about["expert"], about["phrase"], heatmap, weights[about["expert"]]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"the provenance must be that of an annotation, but is not: {error!r}") from error
    return proposals


def annotate_entries(entries: Iterable[Entry], annotator: Annotator, ahead: int = 0) -> Iterator[Entry]:
    """The entries of a source with their records annotated, each when it is loaded.

    Args:
        entries: the source.
        annotator: how.
        ahead: instructions of so many following entries are simplified at the same time, in threads, while
            the experts work: for an LLM that answers slowly but many at once. Its answers must be kept by
            `simplify` itself. 0: each when its turn comes.
    """

    def load(entry: Entry, prepare: Callable[[], object]) -> Iterator[Record | DataError]:
        prepare()
        for item in entry.load():
            if isinstance(item, Record):
                yield from annotator(item)
            else:
                yield item

    if ahead < 1:
        for entry in entries:
            yield Entry(entry.file, entry.place, partial(load, entry, lambda: None))
        return
    source, waiting, begun = iter(entries), deque[Entry](), set[Entry]()
    pool = ThreadPoolExecutor(ahead, thread_name_prefix="ivm-simplify")

    def begin(some: Sequence[Entry]) -> None:
        for entry in some:
            if entry not in begun:
                begun.add(entry)
                pool.submit(_simplify_all, entry, annotator)

    try:
        while True:
            waiting.extend(islice(source, ahead + 1 - len(waiting)))
            if not waiting:
                return
            now = tuple(waiting)
            yield Entry(now[0].file, now[0].place, partial(load, now[0], partial(begin, now)))
            begun.discard(waiting.popleft())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _simplify_all(entry: Entry, annotator: Annotator) -> None:
    """Have the answers ready; whatever fails here fails again, and is told, where it is needed."""
    with suppress(IVMError):
        for text in entry.asks or ():
            with suppress(DataError):
                annotator.simplify(text)
        for item in entry.load() if entry.asks is None else ():
            if isinstance(item, Record) and item.sample.heatmap is None:
                for text in item.sample.instructions:
                    with suppress(DataError):
                        annotator.simplify(text)
            elif isinstance(item, Record) and annotator.compose is not None:
                with suppress(DataError):
                    annotator.compose(item.sample.instructions[0], annotator.instructions)
