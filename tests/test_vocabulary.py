"""One word for one thing, over the pages, the messages and docstrings, and the public names.

The words: instruction, heatmap (float), mask (boolean), relevant and irrelevant area, kept area, deployment
mode, generator, discriminator, human and machine annotation, LLM, LMM, expert, proposal, target, backbone,
model preset; and British spelling.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ivm"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = sorted(SOURCE.rglob("*.py"))

# In running text: what is not written -> the word for it.
SYNONYMS = {
    r"(?:text |user |language )?prompts?": "instruction",
    r"(?:text|user|language|natural-language) quer(?:y|ies)": "instruction",
    r"(?:saliency|attention|relevance|activation|probability|score) maps?": "heatmap",
    r"heat[ -]maps?": "heatmap",
    r"(?:ir)?relevant regions?": "relevant or irrelevant area",
    r"mask (?:ratio|coverage|share)|(?:foreground|area) ratio": "kept area",
    r"mask(?:ing)? modes?|render(?:ing)? modes?": "deployment mode",
    r"(?:mask )?critics?": "discriminator",
    r"[ML]?VLMs?|MLLMs?|vision[- ]language models?|multi-?modal (?:large )?language models?": "LMM",
    r"(?:grounding|mask) candidates?": "proposal",
    r"model (?:zoo|variants?)": "model preset",
    r"colors?|colored|coloring|colorful": "colour",
    r"gr[a]y": "grey",
    r"centers?|centered": "centre",
}
# Parts of public names, split at underscores and capitals.
PARTS = {
    "prompt": "instruction", "prompts": "instruction", "query": "instruction", "queries": "instruction",
    "critic": "discriminator", "vlm": "lmm", "mllm": "lmm", "color": "colour", "colors": "colour",
    "gray": "grey", "center": "centre", "saliency": "heatmap", "heat": "heatmap", "coverage": "kept_area",
}  # fmt: skip

# Where one of these words is right: (file, what is written) -> why.
ALLOWED: dict[tuple[str, str], str] = {
    ("src/ivm/annotation/rules.py", "color"): "words that people write in instructions",
    ("src/ivm/annotation/rules.py", "center"): "words that people write in instructions",
}

TEXT = {
    re.compile(rf"(?<![\w.-])(?:{wrong})(?![\w(=:-])", re.IGNORECASE): right
    for wrong, right in SYNONYMS.items()
}
# Set aside before reading: code, links' addresses, HTML tags and comments, CSS.
NOT_PROSE = re.compile(
    r"^(```|~~~).*?^\1|<!--.*?-->|<style.*?</style>|<script.*?</script>|<[^>\n]*>|``[^`]*``|`[^`\n]*`|\]\([^)]*\)"
    r"|https?://\S+|^::: .*?(?=^\S|\Z)",
    re.DOTALL | re.MULTILINE,
)


def faults(text: str) -> list[tuple[int, str, str]]:
    """(line, what is written, the right word) for each synonym in running text."""
    prose = NOT_PROSE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    return sorted(
        (prose.count("\n", 0, found.start()) + 1, found[0], right)
        for pattern, right in TEXT.items()
        for found in pattern.finditer(prose)
    )


def report(path: Path, found: list[tuple[int, str, str]]) -> list[str]:
    name = str(path.relative_to(ROOT))
    return [
        f"{name}:{line}: {wrong!r}: write {right!r}"
        for line, wrong, right in found
        if (name, wrong) not in ALLOWED
    ]


def sentences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of the strings that people read: docstrings and messages, not keys and not code."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.search(r"[a-z,.:] [a-zA-Z]", node.value)
        ):
            yield node.lineno, node.value


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of the public functions and classes, their public methods, arguments and fields."""
    for node in tree.body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            yield node.lineno, node.name
            for inner in ast.walk(node):
                if isinstance(inner, ast.arg):
                    yield inner.lineno, inner.arg
                elif isinstance(inner, ast.FunctionDef | ast.ClassDef):
                    yield inner.lineno, inner.name
                elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    yield inner.lineno, inner.target.id
        elif isinstance(node, ast.Assign):
            yield from ((node.lineno, target.id) for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id


def name_faults(tree: ast.Module) -> list[tuple[int, str, str]]:
    found = set()
    for line, name in names(tree):
        for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name):
            if part.lower() in PARTS and not name.startswith("_"):
                found.add((line, name, PARTS[part.lower()]))
    return sorted(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages(path: Path) -> None:
    assert report(path, faults(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_messages_and_docstrings(path: Path) -> None:
    found = [
        (line + offset - 1, wrong, right)
        for line, text in sentences(ast.parse(path.read_text(encoding="utf-8")))
        for offset, wrong, right in faults(text)
    ]
    assert report(path, found) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names(path: Path) -> None:
    assert report(path, name_faults(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_exceptions_are_still_needed() -> None:
    for (name, wrong), why in ALLOWED.items():
        assert why
        assert wrong in (ROOT / name).read_text(encoding="utf-8"), (
            f"{name} no longer has {wrong!r}: drop it here"
        )


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Give the prompt.", "instruction"),
        ("The Prompts are", "instruction"),
        ("a natural-language query", "instruction"),
        ("its saliency map", "heatmap"),
        ("a heat-map of it", "heatmap"),
        ("every VLM and", "LMM"),
        ("MLLMs", "LMM"),
        ("the background color", "colour"),
        ("the center of", "centre"),
        ("light gray text", "grey"),
        ("irrelevant regions are", "relevant or irrelevant area"),
        ("the masking mode", "deployment mode"),
    ],
)
def test_synonyms_are_seen(text: str, right: str) -> None:
    assert [word for _, _, word in faults(text)] == [right]


@pytest.mark.parametrize(
    "text",
    [
        "Run promptly; the grayscale mode; `color=red`; LMMs and LLMs.",
        "```python\nprompt = 1\n```\nText.",
        'See <span style="color: red">this</span> and [it](https://example.org/prompt-color).',
        "cv2.COLOR_RGB2GRAY and the colour of the cup at the centre, told by the instruction's heatmap",
    ],
)
def test_code_and_right_words_pass(text: str) -> None:
    assert faults(text) == []


def test_names_are_seen() -> None:
    module = ast.parse(
        "def paint(image, fillColor, _gray=0): ...\nPROMPT = 1\nclass Heatmap:\n    center: int = 0"
    )
    assert [(name, right) for _, name, right in name_faults(module)] == [
        ("fillColor", "colour"), ("PROMPT", "instruction"), ("center", "centre"),
    ]  # fmt: skip
