"""Visual questions with known answers: published benchmarks in their publishers' form, and your own.

    folder -> read_questions("vstar", folder) -> [Question, ...]

A reader only lists: no picture is opened here. Each is a function (root, images) -> questions, where `images`
is the folder of the photos if they do not lie where the publisher puts them.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ivm.data.readers.files import below
from ivm.data.records import get, read_json, read_lines
from ivm.errors import DataError, OptionError
from ivm.images import IMAGE_SUFFIXES
from ivm.types import check_instruction

__all__ = ["BENCHMARKS", "RULES", "Benchmark", "Question", "choose", "letter", "read_questions"]

RULES: dict[str, str] = {
    "choice": "the letter of an option",
    "yes-no": "yes or no, as POPE's evaluate.py reads it",
    "exact": "one of the accepted answers, but for case, punctuation and articles",
    "judge": "a judging LLM compares the answer with the reference: 0, 0.5 or 1",
}
"""How an answer can be scored; see `ivm.evaluation.scoring`."""

_LETTERS = "ABCDEFGHIJ"
_ASKED = "Answer with the option's letter from the given choices directly."  # V*Bench's question file


@dataclass(frozen=True)
class Question:
    """One question about one picture.

    Attributes:
        id: unique within its benchmark.
        image: path of the picture.
        image_id: equal for questions about the same picture; intervals go by it.
        instruction: what the masker is given: the question alone, without options.
        text: what the LMM is asked, word for word.
        answers: what is right: one letter, "yes" or "no", or one or more reference answers.
        rule: how an answer is scored, a key of RULES.
        kind: the publisher's category.
        options: texts of the options, the first is A; empty unless the rule is "choice".
        boxes: (x0, y0, x1, y1) in pixels around what the question is about; empty if not told.
    """

    id: str
    image: Path
    image_id: str
    instruction: str
    text: str
    answers: tuple[str, ...]
    rule: str
    kind: str
    options: tuple[str, ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A form in which questions are published.

    Attributes:
        title: its name.
        address: where the publisher offers it.
        tree: the files that the reader expects below the root.
        scoring: who defines it, and how.
        read: the reader.
    """

    title: str
    address: str
    tree: str
    scoring: str
    read: Callable[[Path, Path | None], list[Question]]


def letter(place: int) -> str:
    """The letter of option `place`, from 0."""
    return _LETTERS[place]


def read_questions(name: str, root: Path, images: Path | None = None) -> list[Question]:
    """The questions of a benchmark, in the publisher's order.

    Args:
        name: a key of BENCHMARKS.
        root: its folder or question file.
        images: folder of the photos; None: where the publisher puts them.

    Raises:
        OptionError: there is no such benchmark.
        DataError: a file is missing or malformed, two questions have one id, or there is no question.
    """
    if name not in BENCHMARKS:
        near = get_close_matches(name, BENCHMARKS, 1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        raise OptionError(f"the benchmark must be one of {', '.join(BENCHMARKS)}, but got {name!r}{hint}")
    benchmark = BENCHMARKS[name]
    if not root.exists():
        raise DataError(f"{root} does not exist; {benchmark.title} is published at {benchmark.address}")
    if images is not None and not images.is_dir():
        raise DataError(f"the folder of the photos must be a folder, but {images} is none")
    questions = benchmark.read(root, images)
    if not questions:
        raise DataError(f"{root} has no question; {benchmark.title} needs: {benchmark.tree}")
    twice = [key for key, count in Counter(q.id for q in questions).items() if count > 1]
    if twice:
        raise DataError(f"{root}: each question must have an id of its own, but {twice[0]!r} comes twice")
    return questions


def choose(
    questions: Sequence[Question], kinds: Iterable[str] = (), limit: int | None = None, seed: int = 0
) -> list[Question]:
    """Some of the questions, in their order.

    Args:
        questions: all of them.
        kinds: only these; empty for all.
        limit: so many, drawn by seed from a hash of each id: a larger limit keeps those of a smaller one.
        seed: another seed draws others.

    Raises:
        OptionError: there is no such kind.
    """
    known = list(dict.fromkeys(question.kind for question in questions))
    wanted = set(kinds)
    if unknown := sorted(wanted - set(known)):
        raise OptionError(f"the kind must be one of {', '.join(known)}, but got {', '.join(unknown)}")
    chosen = [question for question in questions if not wanted or question.kind in wanted]
    if limit is None or limit >= len(chosen):
        return chosen
    drawn = {question.id for question in sorted(chosen, key=lambda q: _draw(seed, q.id))[:limit]}
    return [question for question in chosen if question.id in drawn]


def _draw(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}/{text}".encode()).digest()


def _multiple_choice(question: str, options: Sequence[str]) -> str:
    """A question in the form of V*Bench's question file."""
    lines = [f"({letter(place)}) {option}" for place, option in enumerate(options)]
    return "\n".join([question, *lines, _ASKED])


def _read_vstar(root: Path, images: Path | None) -> list[Question]:
    """V*Bench: test_questions.jsonl if it is there, else the annotations beside the photos.

    In those the right option is always the first, so they are put in an order drawn from the question's id.
    """
    file = root if root.is_file() else root / "test_questions.jsonl"
    folder = images or (root.parent if root.is_file() else root)
    if file.is_file():
        return [_at(file, n, line, partial(_vstar_line, folder=folder)) for n, line in read_lines(file)]
    questions = []
    for kind in ("direct_attributes", "relative_position"):
        for path in sorted((root / kind).glob("*.json")):
            questions.append(
                _at(path, 1, read_json(path), partial(_vstar_photo, path=path, kind=kind, folder=folder))
            )
    return questions


def _vstar_line(item: Any, folder: Path) -> Question:
    text, label = get(item, "text", str), get(item, "label", str).strip().strip("()").upper()
    found = re.findall(r"^\(([A-J])\)\s*(.+?)\s*$", text, re.MULTILINE)
    options = tuple(option for _, option in found)
    if [mark for mark, _ in found] != list(_LETTERS[: len(found)]) or len(found) < 2:
        raise DataError("'text' must have options (A), (B), ... on lines of their own")
    if label not in list(_LETTERS[: len(found)]):  # in the string "" and "AB" were, too
        raise DataError(f"'label' must be the letter of one of {len(found)} options, but is {label!r}")
    name = get(item, "image", str)
    photo = below(folder, name)
    return Question(
        id=f"vstar/{get(item, 'question_id', (int, str))}",
        image=photo,
        image_id=f"vstar/{Path(name).with_suffix('')}",
        instruction=check_instruction(text.split("\n(A)")[0]),
        text=text,
        answers=(label,),
        rule="choice",
        kind=get(item, "category", str),
        options=options,
        boxes=_vstar_boxes(photo.with_suffix(".json")),
    )


def _vstar_photo(item: Any, path: Path, kind: str, folder: Path) -> Question:
    asked, given = get(item, "question", str), [str(option) for option in get(item, "options", list)]
    if not 2 <= len(given) <= len(_LETTERS):
        raise DataError(f"'options' must be 2 to {len(_LETTERS)}, but are {len(given)}")
    uid = f"vstar/{kind}/{path.stem}"
    order = sorted(range(len(given)), key=lambda place: _draw(0, f"{uid}#{place}"))
    options = tuple(given[place] for place in order)
    photos = [folder / kind / f"{path.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
    return Question(
        id=uid,
        image=next((photo for photo in photos if photo.exists()), folder / kind / f"{path.stem}.jpg"),
        image_id=uid,
        instruction=check_instruction(asked),
        text=_multiple_choice(asked, options),
        answers=(letter(order.index(0)),),
        rule="choice",
        kind=kind,
        options=options,
        boxes=_vstar_boxes(path),
    )


def _vstar_boxes(path: Path) -> tuple[tuple[float, float, float, float], ...]:
    """From x, y, width, height in the photo's annotation; none where the photos came without."""
    if not path.is_file():
        return ()
    boxes = get(read_json(path), "bbox", list, [])
    try:
        corners = [(float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in boxes]
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: 'bbox' must be a list of [x, y, width, height]: {error}") from error
    if not np.isfinite(corners).all():
        raise DataError(f"{path}: 'bbox' must be of finite numbers, but is {boxes}")
    return tuple(corners)


def _read_pope(root: Path, images: Path | None) -> list[Question]:
    """POPE: a file of JSON lines for each way to draw absent objects; photos of COCO val2014."""
    files = [root] if root.is_file() else sorted(root.glob("*_pope_*.json"))
    folder = images or _first(root if root.is_dir() else root.parent, ("val2014", "images"))
    if folder is None:
        raise DataError("POPE needs the photos of COCO val2014: name their folder (--images)")
    return [
        _at(file, n, line, partial(_pope, file=file, folder=folder))
        for file in files
        for n, line in read_lines(file)
    ]


def _pope(item: Any, file: Path, folder: Path) -> Question:
    label, name = get(item, "label", str).lower(), get(item, "image", str)
    if label not in ("yes", "no"):
        raise DataError(f"'label' must be yes or no, but is {label!r}")
    text = get(item, "text", str)
    return Question(
        id=f"{file.stem}/{get(item, 'question_id', int)}",
        image=below(folder, name),
        image_id=Path(name).stem,
        instruction=check_instruction(text),
        text=text,
        answers=(label,),
        rule="yes-no",
        kind=file.stem.rpartition("_")[2],
    )


def _read_egothink(root: Path, images: Path | None) -> list[Question]:
    """EgoThink: annotations.json and images/ for each capability, in folders of up to three levels."""
    folders = ("*", "*/*", "*/*/*")
    files = [root] if root.is_file() else [p for f in folders for p in root.glob(f"{f}/annotations.json")]
    questions = []
    for file in sorted(files):
        content = read_json(file)
        if not isinstance(content, list):
            raise DataError(f"{file} must hold a list of questions, but holds {type(content).__name__}")
        place = file.parent.relative_to(root).as_posix() if root.is_dir() else file.parent.name
        folder = file.parent / "images" if images is None else images / place / "images"
        for number, item in enumerate(content, start=1):
            questions.append(
                _at(file, number, item, partial(_egothink, number=number, place=place, folder=folder))
            )
    return questions


def _egothink(item: Any, number: int, place: str, folder: Path) -> Question:
    names = get(item, "image_path", list)
    if len(names) != 1 or not isinstance(names[0], str):
        raise DataError(f"'image_path' must name one picture, but is {names}")
    text = get(item, "question", str)
    return Question(
        id=f"{place}/{number}",
        image=below(folder, names[0]),
        image_id=f"egothink/{place}/{names[0]}",
        instruction=check_instruction(text),
        text=text,
        answers=(get(item, "answer", str),),
        rule="judge",
        kind=place,
    )


def _read_own(root: Path, images: Path | None) -> list[Question]:
    """Your own: JSON lines."""
    file = root / "questions.jsonl" if root.is_dir() else root
    folder = images or file.parent
    return [_at(file, n, line, partial(_own, number=n, folder=folder)) for n, line in read_lines(file)]


def _own(item: Any, number: int, folder: Path) -> Question:
    name, text = get(item, "image", str), get(item, "question", str)
    options = tuple(str(option) for option in get(item, "options", list, []))
    given = get(item, "answer", (str, list))
    answers = tuple(str(one) for one in (given if isinstance(given, list) else [given]))
    rule = get(item, "scoring", str, "choice" if options else "exact")
    if rule not in RULES or (rule == "choice") != bool(options):
        raise DataError(
            f"'scoring' must be one of {', '.join(RULES)}, and choice goes with 'options', but is {rule!r}"
        )
    if rule == "choice":
        if not 2 <= len(options) <= len(_LETTERS) or len(set(options)) < len(options):
            raise DataError(f"'options' must be 2 to {len(_LETTERS)} different texts")
        if len(answers) != 1 or answers[0] not in options:
            raise DataError(f"'answer' must be one of the options, but is {given!r}")
        answers = (letter(options.index(answers[0])),)
    if rule == "yes-no" and answers not in (("yes",), ("no",)):
        raise DataError(f"'answer' must be yes or no, but is {given!r}")
    if not answers:
        raise DataError("'answer' must be a text or a list of accepted texts, but is empty")
    kind = get(item, "kind", str, "question")
    if kind == "all":
        raise DataError("'kind' must be another word than 'all', which is the row of all kinds in reports")
    return Question(
        id=str(get(item, "id", (str, int), f"line {number}")),
        image=below(folder, name),
        image_id=name,
        instruction=check_instruction(get(item, "instruction", str, text)),
        text=_multiple_choice(text, options) if options else text,
        answers=answers,
        rule=rule,
        kind=kind,
        options=options,
    )


def _at(file: Path, place: int, item: Any, make: Callable[[Any], Question]) -> Question:
    """Name file and place of what is wrong, and stop: without a question it would be another benchmark."""
    try:
        if isinstance(item, DataError):
            raise item
        return make(item)
    except (DataError, ValueError) as error:
        raise DataError(f"{file}:{place}: {error}") from error


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


BENCHMARKS: dict[str, Benchmark] = {
    "vstar": Benchmark(
        "V*Bench",
        "https://huggingface.co/datasets/craigwu/vstar_bench",
        "test_questions.jsonl; direct_attributes/ and relative_position/, a .jpg and a .json for each photo",
        "accuracy over the letters of its question file (Wu and Xie, CVPR 2024); the publishers' own script "
        "compares likelihoods of the options, which a chat server does not tell",
        _read_vstar,
    ),
    "pope": Benchmark(
        "POPE",
        "https://github.com/AoiDragon/POPE",
        "coco_pope_{random,popular,adversarial}.json; the photos of COCO val2014, by --images",
        "accuracy, precision, recall, F1 and share of yes as in its evaluate.py (Li et al., EMNLP 2023)",
        _read_pope,
    ),
    "egothink": Benchmark(
        "EgoThink",
        "https://github.com/AdaCheng/EgoThink",
        "{Activity,Forecast,Localization/location,...}/annotations.json, each beside images/",
        "a judging LLM gives 0, 0.5 or 1, as its gen_judgment.py asks it to (Cheng et al., CVPR 2024)",
        _read_egothink,
    ),
    "own": Benchmark(
        "your own questions",
        "docs/evaluate.md",
        "questions.jsonl, or a file of another name, with image, question, answer and perhaps options a line",
        "choice, yes-no, exact or judge, as each line says",
        _read_own,
    ),
}
"""Name -> where it comes from and how it is read."""
