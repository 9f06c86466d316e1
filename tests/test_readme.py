"""What the README and the pages show is run: Python and `ivm` commands in a temporary folder with pictures.

Fences of one page run in order and share their names, as a reader would type them. A fence that cannot run
here has a comment above it, `<!-- not run: needs a GPU -->`, and its test is skipped with that reason.
`make`, `pip` and the like are not run; their targets and extras must exist.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
ASSETS = ROOT / "src" / "ivm" / "assets"
FENCE = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]*?) -->\s*\n\s*)?"
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^ *```",
    re.MULTILINE | re.DOTALL,
)
# Commands that install or call this test themselves: a fence with one of them runs its `ivm` lines only.
SET_UP = ("make", "pip ", "apt-get ", "python3 -m venv", ".venv/", ".ci/", "git ", "docker ")
SHELLS = {"sh", "bash", "shell", "console"}


@dataclass(frozen=True)
class Snippet:
    page: str
    line: int
    language: str
    body: str
    why_not: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def commands(self) -> list[str]:
        """The shell commands; in a `console` fence only what follows `$ ` counts, the rest is output."""
        text = self.body
        if self.language == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith(("$ ", "> ")))
        joined = re.sub(r"\s*\\\n\s*", " ", text)
        bare = (re.sub(r"\s+#\s.*$", "", line).strip() for line in joined.splitlines())
        return [line for line in bare if line and not line.startswith("#")]


def snippets(page: str, text: str) -> list[Snippet]:
    found = []
    for match in FENCE.finditer(text):
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["body"].splitlines())
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Snippet(page, line, match["language"], body, match["why"]))
    return found


SNIPPETS = [
    s
    for page in PAGES
    if page.exists()
    for s in snippets(str(page.relative_to(ROOT)), page.read_text("utf-8"))
]


@dataclass
class Reader:
    """Somebody who follows one page from its top in a folder of pictures."""

    folder: Path
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})
    done: set[Snippet] = field(default_factory=set)

    def follow(self, snippet: Snippet) -> None:
        for earlier in SNIPPETS:
            if earlier.page == snippet.page and earlier.line <= snippet.line and earlier not in self.done:
                self.done.add(earlier)
                if earlier.why_not is None:
                    self.run(earlier)

    def run(self, snippet: Snippet) -> None:
        if snippet.language == "python":
            code = "\n" * (snippet.line) + snippet.body
            exec(compile(code, str(ROOT / snippet.page), "exec"), self.names)
        elif snippet.language in SHELLS:
            commands = snippet.commands()
            if any(command.startswith(SET_UP) for command in commands):
                commands = [command for command in commands if command.startswith("ivm ")]
            if commands:
                self.shell("\n".join(commands))

    def shell(self, command: str) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        answer = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder, env=os.environ | {"PATH": path},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert answer.returncode == 0, f"{command}\n{answer.stdout}\n{answer.stderr}"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    """One reader a page, made when its first snippet is run; kept for the page's other snippets."""

    class Readers(dict[str, Reader]):
        def __missing__(self, page: str) -> Reader:
            folder = tmp_path_factory.mktemp(re.sub(r"\W+", "-", page))
            lay_out(folder)
            self[page] = Reader(folder)
            return self[page]

    return Readers()


def lay_out(folder: Path) -> None:
    """The files that the pages speak of: the bundled pictures, a photo, a folder of photos, specs."""
    (folder / "photos").mkdir()
    for picture in sorted(ASSETS.glob("*.jpg")):
        shutil.copy(picture, folder / picture.name)
        shutil.copy(picture, folder / "photos" / picture.name)
    shutil.copy(ASSETS / "coffee.jpg", folder / "photo.jpg")
    (folder / "runs").mkdir()
    (folder / "runs" / "weights").symlink_to(ROOT / "runs" / "weights")
    for spec in (ROOT / "runs").glob("*.toml"):
        shutil.copy(spec, folder / "runs" / spec.name)


@pytest.mark.weights
@pytest.mark.parametrize("snippet", [s for s in SNIPPETS if s.language in {"python"} | SHELLS], ids=str)
def test_snippets_run(snippet: Snippet, readers: dict[str, Reader], monkeypatch: pytest.MonkeyPatch) -> None:
    if snippet.why_not is not None:
        pytest.skip(snippet.why_not)
    reader = readers[snippet.page]
    monkeypatch.chdir(reader.folder)
    reader.follow(snippet)


def test_commands_that_are_not_run_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for snippet in SNIPPETS:
        for command in snippet.commands() if snippet.language in SHELLS else []:
            first, *rest = command.split()
            if first == "make":
                assert {word for word in rest if "=" not in word} <= targets, f"{snippet}: {command}"
            for extras in re.findall(r"(?:ivm|\.)\[([\w,]+)\]", command):
                assert set(extras.split(",")) <= set(project["optional-dependencies"]), (
                    f"{snippet}: {command}"
                )
            if first.startswith((".", "runs/")):
                assert (ROOT / first).exists(), f"{snippet}: {command}"


def test_the_page_on_installing_tells_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "docs" / "install.md").read_text("utf-8")
    rows = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
        for name in re.findall(r"`([\w-]+)`", row)
    }
    assert set(project["optional-dependencies"]) <= rows


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.exists()], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)|<img[^>]*src=\"([^\"]+)\"", text)
    for target in filter(None, (a or b for a, b in targets)):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_file_tree_of_the_readme_is_true() -> None:
    tree = next(
        s for s in snippets("README.md", (ROOT / "README.md").read_text("utf-8")) if s.language == "text"
    )
    stack: list[tuple[int, Path]] = []
    shown_paths: set[Path] = set()
    for line in tree.body.splitlines():
        shown, _, about = line.partition("  #") if "  #" in line else line.strip().partition("  ")
        depth, name = len(line) - len(line.lstrip()), shown.strip()
        stack = [(d, p) for d, p in stack if d < depth]
        path = (stack[-1][1] if stack else ROOT) / name
        assert about.strip(), f"{name} says nothing about itself"
        assert path.exists(), f"the file tree shows {path.relative_to(ROOT)}"
        stack.append((depth, path))
        shown_paths.add(path)
    package = ROOT / "src" / "ivm"
    unseen = {
        path.name
        for path in package.iterdir()
        if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("_")
    } - {path.name for path in shown_paths}
    assert not unseen, f"the file tree of the README lacks {sorted(unseen)}"


def test_marks_and_outputs_are_understood() -> None:
    text = "<!-- not run: needs a GPU -->\n```python\nx\n```\n\n```console\n$ ivm a \\\n> b  # c\nout\n```\n"
    first, second = snippets("page", text)
    assert (first.why_not, first.line, first.body) == ("needs a GPU", 2, "x")
    assert (second.why_not, second.commands()) == (None, ["ivm a b"])


def test_a_wrong_snippet_fails(tmp_path: Path) -> None:
    with pytest.raises(NameError):
        Reader(tmp_path).run(Snippet("README.md", 1, "python", "no_such_name"))
    with pytest.raises(AssertionError, match="no-such-command"):
        Reader(tmp_path).run(Snippet("README.md", 1, "sh", "ivm no-such-command"))
