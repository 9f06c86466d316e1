"""`ivm eval vqa`: the same questions of an LMM with masking off and in each deployment mode.

    questions -> masks -> requests -> answers.jsonl -> (judge) judgements.jsonl -> outcomes

A question is asked in every condition before the next one is, so that a run that was stopped has whole pairs.
What was asked is looked up in the records of the folder; see `ivm.evaluation.asking`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ivm.errors import IVMError, OptionError, OutputError, require
from ivm.evaluation.asking import Job, ask_all, read_record
from ivm.evaluation.questions import Question
from ivm.evaluation.scoring import OWN_JUDGE, Judge, read_rating, score
from ivm.images import read_image
from ivm.lmm import BOTH_NOTE, LMM, image_url, messages_for
from ivm.masker import Masker
from ivm.render import MODES, render
from ivm.tiles import Tiles
from ivm.types import Heatmap, check_threshold

__all__ = [
    "ANSWERS",
    "JUDGEMENTS",
    "OFF",
    "Outcome",
    "Setup",
    "ask",
    "judge",
    "look",
    "outcomes",
    "size_of_job",
]

ANSWERS, JUDGEMENTS = "answers.jsonl", "judgements.jsonl"
"""Names of the records in the folder of an evaluation."""

OFF = "off"
"""Name of the condition without masking: the whole picture."""

_SHOWN = ("masked", "both")


@dataclass(frozen=True)
class Setup:
    """How an LMM is asked.

    Attributes:
        lmm: who is asked; its options are fields of every request.
        masker: who finds what matters.
        modes: deployment modes, of `ivm.render.MODES`; OFF is always asked beside them.
        show: what is sent in these modes: "masked", or "both" for the whole picture before the masked one.
        threshold: of the masks; None for the masker's own.
        tiles: as in `Masker.encode_image`.
        longest: larger pictures are scaled down to so many pixels along the longer side before they are sent,
            alike in every condition; 0 sends them as they are.
        model: a name for the masker that tells it from others; "" takes its own.

    Raises:
        OptionError: a mode, `show`, `longest` or `threshold` cannot be used.
    """

    lmm: LMM
    masker: Masker
    modes: tuple[str, ...] = ("overlay+crop",)
    show: str = "masked"
    threshold: float | None = None
    tiles: Tiles = None
    longest: int = 2048
    model: str = ""

    def __post_init__(self) -> None:
        if unknown := [mode for mode in self.modes if mode not in MODES]:
            raise OptionError(f"mode must be one of {', '.join(MODES)}, but got {unknown[0]!r}")
        if self.show not in _SHOWN:
            raise OptionError(f"show must be {' or '.join(_SHOWN)}, but got {self.show!r}")
        if self.longest and self.longest < 28:
            raise OptionError(f"longest must be 0 or at least 28 pixels, but got {self.longest}")
        if self.threshold is not None:
            check_threshold(self.threshold)
        object.__setattr__(self, "modes", tuple(dict.fromkeys(self.modes)))
        object.__setattr__(self, "model", self.model or self.masker.name)

    @property
    def conditions(self) -> tuple[str, ...]:
        """OFF and the modes."""
        return (OFF, *self.modes)

    def key(self, question: Question, condition: str) -> str:
        """What decides the answer in a condition, as a digest."""
        try:
            state = question.image.stat()
            picture: list[Any] = [str(question.image), state.st_size, state.st_mtime_ns]
        except OSError:
            picture = [str(question.image)]  # reading it will say what is wrong
        asked = [question.id, question.text, picture, condition, self.longest]
        server = [self.lmm.model, self.lmm.base_url, dict(self.lmm.options)]
        masks: list[Any] = []
        if condition != OFF:
            # A name may stand for another model later.
            model = [self.model, self.masker.fingerprint]
            masks = [question.instruction, *model, self.threshold, self.tiles, self.show, _version()]
        return _digest([asked, server, masks])


@dataclass(frozen=True)
class Outcome:
    """What became of one question in one condition.

    Attributes:
        question: it.
        condition: OFF or a deployment mode.
        state: "answered"; "error": it got no answer; "unjudged": its answer has no rating yet; "unasked".
        score: 0 to 1 where it was answered.
        read: what the answer was taken to say.
        unclear: the answer could not be read; it scores 0.
        error: why there is no score; empty if there is, or if it was not asked.
        line: its line in the record, with text, usage, seconds and facts about the mask.
        ruling: the judge's line, likewise.
    """

    question: Question
    condition: str
    state: str
    score: float = 0.0
    read: str = ""
    unclear: bool = False
    error: str = ""
    line: Mapping[str, Any] = field(default_factory=dict)
    ruling: Mapping[str, Any] = field(default_factory=dict)


def ask(
    questions: Sequence[Question],
    setup: Setup,
    folder: Path,
    *,
    parallel: int = 1,
    progress: Callable[[int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Ask what was not answered before; go through it again to go on after an interruption.

    Args:
        questions: what to ask.
        setup: how.
        folder: of the record; made if absent.
        parallel: most requests under way at once.
        progress: called with the number of answers done, of len(questions) * len(setup.conditions).
        tell: gets a sentence at the first Ctrl-C.

    Raises:
        KeyboardInterrupt: after Ctrl-C; what was answered is in the record.
        LMMError: the server answers nothing.
        OutputError: the record cannot be written.
        MissingExtraError: httpx is not installed.
    """
    require("httpx", "lmm")
    _make(folder)
    done = _answered(folder / ANSWERS)
    count = size_of_job(questions, setup, folder)[0]
    if progress is not None:
        progress(count)
    for _ in ask_all(_jobs(questions, setup, done), folder / ANSWERS, parallel, tell):
        count += 1
        if progress is not None:
            progress(count)


def size_of_job(questions: Sequence[Question], setup: Setup, folder: Path) -> tuple[int, int]:
    """(answers that the record has, answers that the evaluation needs)."""
    done = _answered(folder / ANSWERS)
    have = sum(setup.key(question, c) in done for question in questions for c in setup.conditions)
    return have, len(questions) * len(setup.conditions)


def look(
    questions: Sequence[Question], setup: Setup, folder: Path, progress: Callable[[int], None] | None = None
) -> tuple[list[Outcome], int]:
    """Mask every question and ask nobody.

    Returns:
        outcomes of state "unasked" or, where a picture cannot be read, "error", with the facts about their
        masks; and how many requests `ask` would send.

    Raises:
        OutputError: the record cannot be read.
    """
    replies = {line["request"] for line in read_record(folder / ANSWERS).values() if "text" in line}
    named = {(q.id, c): q for q in questions for c in setup.conditions}
    seen: list[Outcome] = []
    requests: set[str] = set()
    for job in _jobs(questions, setup, set()):
        question = named[job.facts["question"], job.facts["condition"]]
        state = "error" if job.error else "unasked"
        seen.append(Outcome(question, job.facts["condition"], state, error=job.error, line=job.facts))
        if not job.error:
            requests.add(job.request)
        if progress is not None:
            progress(len(seen))
    return seen, len(requests - replies)


def judge(
    questions: Sequence[Question],
    setup: Setup,
    folder: Path,
    by: LMM,
    how: Judge = OWN_JUDGE,
    *,
    parallel: int = 1,
    progress: Callable[[int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Have the answers to questions of the rule "judge" rated; each answer once, as `ask` asks.

    Args:
        questions, setup, folder, parallel, progress, tell: as in `ask`.
        by: the judging LLM; it is sent text alone.
        how: how it is asked.

    Raises:
        KeyboardInterrupt, LMMError, OutputError: as in `ask`.
    """
    lines = read_record(folder / ANSWERS)
    jobs: dict[str, Job] = {}  # an answer that two conditions share is rated once
    for question in questions:
        if question.rule != "judge":
            continue
        for condition in setup.conditions:
            text = lines.get(setup.key(question, condition), {}).get("text")
            if text and score(question, text) is None:
                key = _judgement(question, text, by, how)
                messages = how.messages(question, text)
                facts = {"question": question.id, "condition": condition, "judge": how.name}
                jobs.setdefault(key, Job(key, key, partial(by.complete, messages), facts))
    for count, _ in enumerate(ask_all(jobs.values(), folder / JUDGEMENTS, parallel, tell), start=1):
        if progress is not None:
            progress(count)


def outcomes(
    questions: Sequence[Question],
    setup: Setup,
    folder: Path,
    by: LMM | None = None,
    how: Judge = OWN_JUDGE,
) -> list[Outcome]:
    """What the records say about each question in each condition.

    Args:
        questions, setup, folder: as in `ask`.
        by, how: as in `judge`; None leaves its questions unjudged.

    Raises:
        OutputError: a record cannot be read.
    """
    lines, verdicts = read_record(folder / ANSWERS), read_record(folder / JUDGEMENTS)
    found = []
    for question in questions:
        for condition in setup.conditions:
            line = lines.get(setup.key(question, condition))
            found.append(_outcome(question, condition, line, verdicts, by, how))
    return found


def _outcome(
    question: Question,
    condition: str,
    line: Mapping[str, Any] | None,
    verdicts: Mapping[str, Mapping[str, Any]],
    by: LMM | None,
    how: Judge,
) -> Outcome:
    given = partial(Outcome, question, condition)
    if line is None:
        return given("unasked")
    if "text" not in line:
        return given("error", error=str(line.get("error", "")), line=line)
    verdict = score(question, line["text"])
    if verdict is not None:
        return given("answered", verdict.score, verdict.read, verdict.unclear, line=line)
    if by is None:
        return given("unjudged", line=line)
    ruling = verdicts.get(_judgement(question, line["text"], by, how), {})
    if "text" not in ruling:
        return given("unjudged", error=str(ruling.get("error", "")), line=line)
    rating = read_rating(ruling["text"])
    if rating is None:
        fault = f"the judge gave no rating: {ruling['text'][-80:]!r}; it is asked again without its line, "
        where = f"whose key is {ruling['key']}, in {JUDGEMENTS}"
        return given("error", error=fault + where, line=line, ruling=ruling)
    return given("answered", rating, f"{rating:g}", line=line, ruling=ruling)


def _jobs(questions: Sequence[Question], setup: Setup, done: set[str]) -> Iterator[Job]:
    """What there is to ask, each picture read and encoded once for its consecutive questions."""
    for _, group in groupby(questions, key=lambda question: question.image):
        keyed = [(q, {c: setup.key(q, c) for c in setup.conditions}) for q in group]
        left = [(q, {c: key for c, key in keys.items() if key not in done}) for q, keys in keyed]
        left = [(question, keys) for question, keys in left if keys]
        if not left:
            continue
        try:
            start = time.perf_counter()
            pixels = read_image(left[0][0].image)
            masked = any(condition != OFF for _, keys in left for condition in keys)
            features = setup.masker.encode_image(pixels, tiles=setup.tiles) if masked else None
            seconds = time.perf_counter() - start
        except IVMError as error:
            for question, keys in left:
                for condition, key in keys.items():
                    yield Job(key, "", None, _facts(question, condition), str(error))
            continue
        for question, keys in left:
            heatmap, fault = None, ""
            if features is not None and any(condition != OFF for condition in keys):
                start = time.perf_counter()
                try:
                    heatmap = setup.masker(features, question.instruction)
                except IVMError as error:  # such as an instruction too long for this model
                    fault = str(error)
                seconds += time.perf_counter() - start
            for condition, key in keys.items():
                if fault and condition != OFF:
                    yield Job(key, "", None, _facts(question, condition), fault)
                else:
                    yield _job(question, condition, key, pixels, heatmap, seconds, setup)
            seconds = 0.0  # reading and encoding count for the first question of a picture


def _job(
    question: Question,
    condition: str,
    key: str,
    pixels: np.ndarray,
    heatmap: Heatmap | None,
    seconds: float,
    setup: Setup,
) -> Job:
    facts = _facts(question, condition)
    pictures = [pixels]
    if condition != OFF and heatmap is not None:
        start = time.perf_counter()
        rendered = render(pixels, heatmap, condition, threshold=setup.threshold)
        both = setup.show == "both" and not rendered.kept_whole
        pictures = [pixels, rendered.image] if both else [rendered.image]
        facts |= {
            "found": heatmap.found,
            "found_score": round(heatmap.score, 4),
            "kept_area": 1.0 if rendered.kept_whole else round(heatmap.kept_area(setup.threshold), 6),
            "kept_whole": rendered.kept_whole,
            "masking_seconds": round(seconds + time.perf_counter() - start, 4),
        }
        if question.boxes:
            mask = heatmap.to_mask(setup.threshold) | rendered.kept_whole
            facts["target_kept"] = _target_kept(mask, question)
    try:
        urls = [image_url(picture, setup.longest or None) for picture in pictures]
    except IVMError as error:  # larger than a JPEG can be: other questions can be asked all the same
        return Job(key, "", None, facts, str(error))
    messages = messages_for(question.text, urls, note=BOTH_NOTE if len(urls) == 2 else None)
    request = _digest([setup.lmm.model, setup.lmm.base_url, dict(setup.lmm.options), messages])
    return Job(key, request, partial(setup.lmm.complete, messages), facts)


def _facts(question: Question, condition: str) -> dict[str, Any]:
    return {"question": question.id, "condition": condition, "asked": question.text}


def _target_kept(mask_HW: np.ndarray, question: Question) -> float | None:
    """Share of the pixels of the question's boxes that the mask keeps; None if they lie outside."""
    target = np.zeros_like(mask_HW)
    for x0, y0, x1, y1 in question.boxes:
        target[max(0, int(y0)) : max(0, int(np.ceil(y1))), max(0, int(x0)) : max(0, int(np.ceil(x1)))] = True
    return round(float(mask_HW[target].mean()), 4) if target.any() else None


def _judgement(question: Question, text: str, by: LMM, how: Judge) -> str:
    return _digest([by.model, by.base_url, dict(by.options), how.messages(question, text)])


@cache
def _version() -> str:
    from importlib.metadata import version

    return version("ivm")


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _answered(path: Path) -> set[str]:
    return {key for key, line in read_record(path).items() if "text" in line}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
