"""Instructions without masks, to be annotated: TextVQA, GQA, VSR and conversations in LLaVA's form.

Publishers' descriptions: https://textvqa.org/dataset/ (TextVQA_0.5.1_*.json, photos of Open Images),
https://cs.stanford.edu/people/dorarad/gqa/download.html (questions.json, photos of Visual Genome),
https://github.com/cambridgeltl/visual-spatial-reasoning (data/README.md, photos of COCO), and
https://github.com/haotian-liu/LLaVA (docs/Finetune_Custom_Data.md). Samples have `heatmap` None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ivm.data.readers.files import below, find_file, load_image, mixed_photo_id, photo_id, short_name
from ivm.data.records import Entry, Record, get, read_json, read_lines
from ivm.errors import DataError
from ivm.types import Sample

__all__ = ["read_gqa", "read_llava", "read_textvqa", "read_vsr"]


def read_textvqa(root: Path, annotations: str = "", images: str = "") -> Iterator[Entry]:
    """One entry a question.

    Args:
        root: folder of TextVQA_0.5.1_{split}.json and train_images/ or test_images/.
        annotations: the file, below `root`; without it, the only TextVQA_*.json.
        images: folder of the photos; without it, test_images/ for the test file, else train_images/.

    Raises:
        DataError: a file is missing or malformed.
    """
    path = find_file(root, (annotations,) if annotations else ("TextVQA_*.json",), "questions")
    usual = "test_images" if "test" in path.stem else "train_images"
    folder = below(root, images) if images else find_file(root, (usual, "images"), "photos")
    content = read_json(path)
    questions = content.get("data") if isinstance(content, dict) else content
    if not isinstance(questions, list):
        raise DataError(f"{path} must have a list 'data' of questions")
    for number, item in enumerate(questions):
        label = f"question {item.get('question_id', number)}" if isinstance(item, dict) else f"item {number}"
        yield Entry(short_name(path, root), label, partial(_textvqa, item, folder, root))


def _textvqa(item: Any, folder: Path, root: Path) -> Iterator[Record]:
    uuid = f"textvqa-{get(item, 'question_id', int)}"
    name = f"{get(item, 'image_id', str)}.jpg"
    yield _question(uuid, "textvqa", folder, name, root, (get(item, "question", str),))


def read_gqa(root: Path, annotations: str = "", images: str = "images") -> Iterator[Entry]:
    """One entry a question.

    Args:
        root: folder of the question file and images/.
        annotations: such as train_balanced_questions.json, below `root`; without it, the only
            *questions*.json.
        images: folder of the photos, below `root`.

    Raises:
        DataError: a file is missing or malformed.
    """
    path = find_file(root, (annotations,) if annotations else ("*questions*.json",), "questions")
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path} must be an object, question id -> question")
    for key, item in content.items():
        yield Entry(
            short_name(path, root), f"question {key}", partial(_gqa, key, item, below(root, images), root)
        )


def _gqa(key: str, item: Any, folder: Path, root: Path) -> Iterator[Record]:
    name = f"{get(item, 'imageId', str)}.jpg"
    yield _question(f"gqa-{key}", "gqa", folder, name, root, (get(item, "question", str),))


def read_vsr(root: Path, annotations: str = "", images: str = "images") -> Iterator[Entry]:
    """One entry a statement, true or false of its photo ("label" in the provenance).

    Args:
        root: folder of the statements and images/.
        annotations: such as train.jsonl, below `root`; without it, the only *.jsonl.
        images: folder of the photos, below `root`.

    Raises:
        DataError: a file is missing.
    """
    path = find_file(root, (annotations,) if annotations else ("*.jsonl",), "statements")
    for number, item in read_lines(path):
        if isinstance(item, DataError):
            yield Entry.bad(short_name(path, root), number, str(item))
        else:
            load = partial(_vsr, item, f"vsr-{path.stem}-{number}", below(root, images), root)
            yield Entry(short_name(path, root), number, load)


def _vsr(item: Any, uuid: str, folder: Path, root: Path) -> Iterator[Record]:
    texts = (get(item, "caption", str),)
    more = {"label": get(item, "label", int), "relation": get(item, "relation", str, "")}
    yield _question(uuid, "vsr", folder, get(item, "image", str), root, texts, more)


def read_llava(
    root: Path, annotations: str = "", images: str = ".", source: str = "llava"
) -> Iterator[Entry]:
    """One entry a conversation; what the human says, without "<image>", are its instructions.

    Conversations without an image are passed over: they are part of the form.

    Args:
        root: folder of the file, and into which `image` leads.
        annotations: JSON list or JSON lines, below `root`; without it, the only *.json or *.jsonl.
        images: folder into which `image` leads, below `root`.
        source: name of the data set in the samples.

    Raises:
        DataError: a file is missing or malformed.
    """
    path = find_file(root, (annotations,) if annotations else ("*.json", "*.jsonl"), "conversations")
    if path.suffix == ".jsonl":
        items: Iterator[tuple[int, Any]] = read_lines(path)
    else:
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path} must hold a list of conversations, but holds {type(content).__name__}")
        items = iter(enumerate(content, start=1))
    name = short_name(path, root)
    for number, item in items:
        place = number if path.suffix == ".jsonl" else f"item {number}"
        if isinstance(item, DataError):
            yield Entry.bad(name, place, str(item))
        elif not isinstance(item, dict) or "image" in item:
            yield Entry(name, place, partial(_llava, item, number, below(root, images), root, source))


def _llava(item: Any, number: int, folder: Path, root: Path, source: str) -> Iterator[Record]:
    said = [
        get(turn, "value", str).replace("<image>", "").strip()
        for turn in get(item, "conversations", list)
        if get(turn, "from", str) == "human"
    ]
    texts = tuple(dict.fromkeys(text for text in said if text))
    if not texts:
        raise DataError("a conversation must have something that the human says, but has not")
    uuid = f"{source}-{number}-{get(item, 'id', (str, int), number)}"
    yield _question(uuid, source, folder, get(item, "image", str), root, texts, identify=mixed_photo_id)


def _question(
    uuid: str,
    source: str,
    folder: Path,
    name: str,
    root: Path,
    texts: tuple[str, ...],
    more: dict[str, Any] | None = None,
    identify: Callable[[str, str], str] = photo_id,
) -> Record:
    image, file = load_image(below(folder, name), root)
    return Record(
        Sample(
            uuid,
            image,
            texts,
            None,
            source,
            human=False,
            image_id=identify(source, name),
            kind="question",
            provenance={"image": name, **(more or {})},
        ),
        file,
    )
