"""`ivm eval masks`: questions with known targets, a model and the trivial baselines, one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np

from ivm import metrics
from ivm.data.grammar import instructions_for, name_instructions
from ivm.data.materials import nouns_looked_for
from ivm.data.packs import Pack, Photo
from ivm.data.photo_scenes import photo_scene
from ivm.errors import DataError, InstructionError, OptionError
from ivm.evaluation.baselines import BASELINES
from ivm.evaluation.reports import cell, show, write_json
from ivm.types import Masking, Sample

__all__ = [
    "KINDS",
    "Answer",
    "MaskReport",
    "answers",
    "evaluate_masks",
    "pack_questions",
    "print_report",
    "summarise",
]

LOOKS = ("colour", "size", "superlative", "two qualities", "side", "place", "ordinal", "beside", "nearest")

KINDS = ("category", *LOOKS, "absent")
"""Kinds of instruction that `pack_questions` asks, of those in `ivm.data.kinds.KINDS`."""

ABSENT = "absent"
TOTAL = "all present"


@dataclass(frozen=True)
class Answer:
    """What one masking said to one question; all that the figures need of it.

    Attributes:
        uuid: the sample's.
        image_id: questions about the same picture share it.
        kind: kind of instruction.
        present: whether the target is in the image.
        intersection: pixels kept and relevant.
        union: pixels kept or relevant.
        hit: whether the heatmap's highest pixel is in the target.
        error: mean absolute error of the heatmap.
        kept: kept area.
        found: whether the masking found the target.
        score: its found score.
        box_iou: intersection over union of the boxes around mask and target.
    """

    uuid: str
    image_id: str
    kind: str
    present: bool
    intersection: int
    union: int
    hit: bool
    error: float
    kept: float
    found: bool
    score: float
    box_iou: float = 0.0

    @property
    def iou(self) -> float:
        """1 where nothing is relevant and nothing was kept."""
        return self.intersection / self.union if self.union else 1.0


@dataclass
class MaskReport:
    """The figures of one evaluation, with what is needed to make them again.

    `tables[masking][kind][metric]` is [value, low, high] with a 95 % interval clustered by image; "n" and
    "images" are counts; "box_p_at_50" is the share of boxes around the mask with an IoU above 0.5.
    `detection[masking]` is over present and absent questions together: "auroc", "absent_at_5" (absent targets
    recognised at 5 % false alarms) and "giou_of_found", the gIoU where a mask of what was not found counts as
    empty, as for gRefCOCO (Liu et al., CVPR 2023).
    """

    model: str
    data: str
    split: str
    seed: int
    threshold: float | None
    version: str
    questions: int
    images: int
    complete: bool
    left_out: list[str]
    tables: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    detection: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        write_json(asdict(self), path)


def pack_questions(
    pack: Pack,
    split: str = "test",
    seed: int = 0,
    looks: int = 6,
    absent: int = 1,
    kinds: Sequence[str] | None = None,
    limit: int | None = None,
    strict: bool = False,
    left_out: list[str] | None = None,
) -> Iterator[Sample]:
    """Questions about the photos of a pack: each name present, looks and places, absent names.

    Args:
        pack: from `ivm.data.packs.read_pack`.
        split: "train", "val", "test", or "all".
        seed: chooses phrasings and absent names, photo by photo.
        looks: at most so many questions a photo that colour, size, position or relation decides.
        absent: questions for absent names a photo.
        kinds: of KINDS; None for all.
        limit: at most so many photos.
        strict: stop at the first damaged photo or mask; else note it in `left_out` and go on.
        left_out: gets a line for each photo left out.

    Raises:
        DataError: with `strict`, a photo or mask is damaged.
        OptionError: there is no such split or kind.
    """
    unknown = sorted(set(kinds or ()) - set(KINDS))
    if unknown:
        raise OptionError(f"kinds must be among {', '.join(KINDS)}, but got {', '.join(unknown)}")
    if split not in ("train", "val", "test", "all"):
        raise OptionError(f"split must be train, val, test or all, but got {split!r}")
    nouns = nouns_looked_for(pack)
    photos = [p for p in (pack.photos if split == "all" else pack.split(split)) if p.regions]
    for photo in photos[:limit]:
        try:
            yield from _photo_questions(photo, nouns, seed, {"looks": looks, "absent": absent}, kinds)
        except DataError as error:
            if strict:
                raise
            if left_out is not None:
                left_out.append(f"{photo.file_name}: {error}")


def _photo_questions(
    photo: Photo, nouns: frozenset[str], seed: int, counts: Mapping[str, int], kinds: Sequence[str] | None
) -> Iterator[Sample]:
    rng = np.random.default_rng([seed, *photo.image_id.encode()])
    scene = photo_scene(photo, nouns)
    ask = partial(instructions_for, scene, rng, polite=0.0, noise=0.0)
    asked = name_instructions(scene, rng, polite=0.0, noise=0.0)
    looks = [kind for kind in LOOKS if kinds is None or kind in kinds]
    if looks and counts["looks"]:
        asked += ask(looks, counts["looks"])
    if counts["absent"]:
        asked += ask((ABSENT,), counts["absent"])
    for number, one in enumerate(asked):
        if kinds is None or one.kind in kinds:
            yield Sample(
                uuid=f"{photo.image_id}#{number}",
                image=scene.image,
                instructions=(one.text,),
                heatmap=one.mask,
                source=photo.pack,
                image_id=photo.image_id,
                kind=one.kind,
                targets=one.target_names,
            )


def answers(
    samples: Iterable[Sample], masking: Masking, threshold: float | None = None, batch: int = 64
) -> Iterator[Answer]:
    """Ask `masking` the first instruction of each sample; an image is given once for its consecutive samples.

    Args:
        samples: with heatmaps; a float one counts as relevant above 0.5.
        masking: a model or a baseline.
        threshold: of the masks; None for the masking's own.
        batch: most questions asked of one image at a time.

    Raises:
        DataError: a sample has no heatmap.
    """
    for _, group in groupby(samples, key=lambda sample: (sample.image_id, id(sample.image))):
        together = list(group)
        for start in range(0, len(together), batch):
            part = together[start : start + batch]
            heatmaps = masking.batch([part[0].image], [sample.instructions[0] for sample in part])
            for sample, heatmap in zip(part, heatmaps, strict=True):
                if sample.heatmap is None:
                    raise DataError(f"sample {sample.uuid} has no heatmap: nothing to compare with")
                target = sample.heatmap if sample.heatmap.dtype == np.bool_ else sample.heatmap > 0.5
                mask = heatmap.to_mask(threshold)
                both, either = metrics.intersection_and_union(mask, target)
                yield Answer(
                    uuid=sample.uuid,
                    image_id=sample.image_id,
                    kind=sample.kind or "other",
                    present=bool(target.any()),
                    intersection=both,
                    union=either,
                    hit=metrics.pointing_hit(heatmap.values, target),
                    error=metrics.mean_absolute_error(heatmap.values, sample.heatmap),
                    kept=float(mask.mean()),
                    found=heatmap.found,
                    score=heatmap.score,
                    box_iou=metrics.box_iou(mask, target),
                )


def summarise(given: Sequence[Answer]) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """(table by kind, detection) as in `MaskReport`; the row "all present" holds every present target."""
    kinds = [*sorted({a.kind for a in given if a.present}), TOTAL]
    table = {}
    for kind in kinds:
        rows = [a for a in given if a.present and (a.kind == kind or kind == TOTAL)]
        if rows:
            table[kind] = _row(rows)
    missing = [a for a in given if not a.present]
    if missing:
        clusters = [a.image_id for a in missing]
        right = np.array([not a.found for a in missing], float)
        kept = np.array([a.kept for a in missing])
        table[ABSENT] = {
            "n": len(missing),
            "images": len(set(clusters)),
            "found_accuracy": [right.mean(), *metrics.clustered_interval(right, np.array(clusters))],
            "kept": [kept.mean(), *metrics.clustered_interval(kept, np.array(clusters))],
        }
    scores, present = np.array([a.score for a in given]), np.array([a.present for a in given], bool)
    detection = {
        "auroc": metrics.auroc(scores, present),
        "absent_at_5": metrics.recall_at_false_alarms(scores, present, 0.05),
        "giou_of_found": metrics.giou(
            np.array([a.iou * a.found if a.present else not a.found or a.kept == 0 for a in given], float)
        ),
    }
    return table, detection


def _row(rows: Sequence[Answer]) -> dict[str, Any]:
    clusters = np.array([a.image_id for a in rows])
    ious = np.array([a.iou for a in rows])
    both, either = np.array([a.intersection for a in rows]), np.array([a.union for a in rows])
    means = {
        "giou": ious,
        "pointing": np.array([a.hit for a in rows], float),
        "p_at_50": (ious > 0.5).astype(float),
        "box_p_at_50": np.array([a.box_iou > 0.5 for a in rows], float),
        "mae": np.array([a.error for a in rows]),
        "kept": np.array([a.kept for a in rows]),
        "found_accuracy": np.array([a.found for a in rows], float),
    }
    row: dict[str, Any] = {"n": len(rows), "images": len(set(clusters))}
    for name, values in means.items():
        row[name] = [float(values.mean()), *metrics.clustered_interval(values, clusters)]
    row["ciou"] = [metrics.ciou(both, either), *metrics.clustered_interval(both, clusters, either)]
    return row


def evaluate_masks(
    samples: Iterable[Sample],
    masking: Masking,
    *,
    model: str,
    data: str,
    split: str = "test",
    seed: int = 0,
    threshold: float | None = None,
    baselines: bool = True,
    left_out: list[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> MaskReport:
    """Run a masking and the baselines over questions; Ctrl-C ends it early with what there is.

    Args:
        samples: consecutive samples of one image share its array; images pass one at a time.
        masking: the model.
        model: its name, for the report.
        data: the data's name, for the report.
        split: for the report.
        seed: for the report.
        threshold: of the model's masks; None for its own. Baselines keep 0.5.
        baselines: whether to run `ivm.evaluation.baselines.BASELINES` too.
        left_out: lines about what was left out, filled while `samples` is read.
        progress: called with the number of questions done.

    Raises:
        DataError: there is no question.
        KeyboardInterrupt: Ctrl-C came before the first answer.
    """
    from importlib.metadata import version

    maskings: dict[str, tuple[Masking, float | None]] = {model: (masking, threshold)}
    if baselines:
        maskings |= {kind.name: (kind(), None) for kind in BASELINES}
    given: dict[str, list[Answer]] = {name: [] for name in maskings}
    complete, refused = True, []

    def ask(group: Sequence[Sample]) -> dict[str, list[Answer]]:
        return {name: list(answers(group, m, limit)) for name, (m, limit) in maskings.items()}

    try:
        for _, group in groupby(samples, key=lambda sample: sample.image_id):
            together = list(group)
            try:
                new = [ask(together)]
            except InstructionError:  # such as one too long for this model: which of them?
                new = []
                for sample in together:
                    try:
                        new.append(ask([sample]))
                    except InstructionError as error:
                        refused.append(f"{sample.uuid}: {error}")
            for answered in new:  # by all maskings: the counts stay equal
                for name, several in answered.items():
                    given[name] += several
            if progress is not None:
                progress(len(given[model]))
    except KeyboardInterrupt:
        complete = False
    lost = [*(left_out or []), *refused]
    if not given[model]:
        if not complete:
            raise KeyboardInterrupt
        why = f"; {len(lost)} were left out, the first: {lost[0]}" if lost else ""
        raise DataError(f"{data}: no question to ask; expected photos with masks in the split {split!r}{why}")
    report = MaskReport(
        model=model,
        data=data,
        split=split,
        seed=seed,
        threshold=threshold,
        version=version("ivm"),
        questions=len(given[model]),
        images=len({a.image_id for a in given[model]}),
        complete=complete,
        left_out=lost,
    )
    for name, several in given.items():
        report.tables[name], report.detection[name] = summarise(several)
    return report


_COLUMNS = (
    ("gIoU", "giou"),
    ("cIoU", "ciou"),
    ("pointing", "pointing"),
    ("P@0.5", "p_at_50"),
    ("kept", "kept"),
    ("found", "found_accuracy"),
)


def print_report(report: MaskReport, console: Any = None) -> None:
    """Print the tables on a Rich console: the model by kind with half the width of its intervals, then the
    baselines' totals.
    """
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    state = "" if report.complete else "  (stopped early: partial)"
    show(
        f"{report.model} on {report.data}, split {report.split}: {report.questions} questions, "
        f"{report.images} images{state}",
        console,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("kind", "n", *(title for title, _ in _COLUMNS)):
        table.add_column(title, justify="left" if title == "kind" else "right")
    for kind, row in report.tables[report.model].items():
        table.add_row(kind, str(row["n"]), *(cell(row.get(key)) for _, key in _COLUMNS))
    for name, by_kind in report.tables.items():
        if name != report.model and TOTAL in by_kind:
            row = by_kind[TOTAL]
            table.add_row(
                f"{name}", str(row["n"]), *(cell(row.get(key), interval=False) for _, key in _COLUMNS)
            )
    show(table, console)
    ours = report.tables[report.model].get(TOTAL)
    others = {name: t[TOTAL] for name, t in report.tables.items() if name != report.model and TOTAL in t}
    if ours and others:
        for title, key in (("gIoU", "giou"), ("pointing", "pointing")):
            best = max(others, key=lambda name: others[name][key][0])
            gain = ours[key][0] - others[best][key][0]
            show(f"{title}: {gain:+.3f} against the best baseline ({best})", console)
    detection = report.detection[report.model]
    if not np.isnan(detection["auroc"]):
        show(
            f"absent targets: {detection['absent_at_5']:.0%} recognised at 5 % false alarms, "
            f"AUROC of the found score {detection['auroc']:.3f}",
            console,
        )
        show(f"gIoU of all, a mask not found counting as empty: {detection['giou_of_found']:.3f}", console)
    if ours:
        met = cell(ours["box_p_at_50"])
        show(f"boxes around the masks of present targets with an IoU above 0.5: {met}", console)
    if report.left_out:
        show(
            f"{len(report.left_out)} photos or questions were left out; the first: {report.left_out[0]}",
            console,
        )
