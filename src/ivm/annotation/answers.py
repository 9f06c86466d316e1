"""Strict answers of an LLM: asked in JSON, checked, asked once more if wrong, kept on disk so that nothing is
asked twice.

The file of answers has a JSON line for each question: what was asked of whom (as a hash), and the answer or
why there is none. It is appended to in single writes, so that a stopped run loses at most the answer under
way; a torn last line is passed over. Take out the lines with an "error" to have those asked again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ivm.data.records import get, read_lines
from ivm.errors import DataError, LMMError, OutputError

__all__ = ["Answers", "Chat", "without_thoughts"]

T = TypeVar("T")

PATIENCE = 3
"""So many failures of the server one after the other mean that it is down, and stop the run."""


class Chat(Protocol):
    """Who is asked; `ivm.LMM` is one. Texts alone are sent, so that any LLM will do.

    Attributes:
        model: its name on the server.
        options: fields of every request.
    """

    @property
    def model(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...

    def complete(self, messages: Sequence[Mapping[str, Any]]) -> Any:
        """Something with the answer as `text`; LMMError where there is none."""
        ...


class Answers:
    """The LLM with its memory; may be asked from several threads.

    Args:
        chat: who answers.
        path: file of answers, made when the first one comes; None keeps them in memory.

    Raises:
        DataError: the file is there, but is none of answers.
    """

    def __init__(self, chat: Chat, path: str | os.PathLike[str] | None = None) -> None:
        self.chat, self.path = chat, None if path is None else Path(path)
        self.asked = 0  # requests sent, second tries included
        self._down = 0  # failures of the server since it last answered
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}  # one thread asks, the others wait for its answer
        self._known: dict[str, dict[str, Any]] = {}
        if self.path is not None and self.path.exists():
            self._known = _read(self.path)

    @property
    def by(self) -> str:
        """Who answers, for the provenance."""
        return f"llm {self.chat.model}"

    def knows(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Whether `ask` would send nothing."""
        return self._key(messages) in self._known

    def ask(self, messages: Sequence[Mapping[str, Any]], about: str, check: Callable[[Any], T]) -> T:
        """The checked answer, from the file or from the LLM.

        Args:
            messages: of a chat completion; the answer must be one JSON value.
            about: for people who read the file of answers.
            check: turns the value into the result; raises DataError with the reason if it is wrong.

        Raises:
            DataError: two answers were wrong, or the server refused this one question.
            LMMError: the server failed several times in a row: the run is better stopped, and loses nothing.
            OutputError: the answer cannot be written.
        """
        key = self._key(messages)
        with self._lock:
            busy = self._busy.setdefault(key, threading.Lock())
        with busy:  # kept for ever: a hundred bytes a question, as the answer itself
            record = self._known.get(key)
            if record is None:
                record = self._ask(messages, check)
                with self._lock:
                    if self.path is not None:
                        _append(self.path, {"key": key, "model": self.chat.model, "about": about, **record})
                    self._known[key] = record
        if "error" in record:
            raise DataError(f"no-answer: {self.chat.model} gave no usable answer: {record['error']}")
        return check(record["answer"])

    def _key(self, messages: Sequence[Mapping[str, Any]]) -> str:
        asked = [self.chat.model, dict(self.chat.options), list(messages)]
        text = json.dumps(asked, sort_keys=True, ensure_ascii=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _ask(self, messages: Sequence[Mapping[str, Any]], check: Callable[[Any], Any]) -> dict[str, Any]:
        said: list[Mapping[str, Any]] = list(messages)
        reason = ""
        for _ in range(2):
            text = self._complete(said)
            try:
                value = _parse(text)
                check(value)
                return {"answer": value}
            except DataError as error:
                reason = str(error)
            said = [
                *messages,
                {"role": "assistant", "content": text},
                {"role": "user", "content": f"That is not usable: {reason}. Answer with the JSON alone."},
            ]
        return {"error": reason}

    def _complete(self, messages: Sequence[Mapping[str, Any]]) -> str:
        with self._lock:
            self.asked += 1
        try:
            text = self.chat.complete(messages).text
        except LMMError as error:
            with self._lock:
                self._down += 1
                down = self._down
            if down >= PATIENCE:
                raise LMMError(
                    f"{self.chat.model} failed {down} times in a row, so the run is stopped; run it again "
                    f"when the server answers, and nothing is asked twice. The last failure: {error}"
                ) from error
            raise DataError(f"no-answer: {error}") from error
        with self._lock:
            self._down = 0
        return str(text)


def without_thoughts(text: str) -> str:
    """An answer without what a model thinks between <think> and </think>.

    Where a template gave the first mark to the model, the second stands alone.
    """
    rest = re.sub(r"<think>.*?(?:</think>|\Z)", "", text, flags=re.DOTALL)
    return rest.rpartition("</think>")[2].strip()


def _parse(text: str) -> Any:
    """The JSON value of an answer; thoughts, a code fence and words around a single object are forgiven."""
    text = without_thoughts(text)
    fenced = re.search(r"```(?:json)?\s*\n(.*?)```", text, re.DOTALL)
    body = (fenced[1] if fenced else text).strip()
    if "{" in body and not body.startswith("["):
        body = body[body.index("{") : body.rfind("}") + 1 or None]  # cut off, it has no end
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the answer must be JSON, but is {text.strip()[:80]!r} ({error})") from None


def _read(path: Path) -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {}
    for line, row in read_lines(path):
        if isinstance(row, DataError):
            if not _begins_as_ours(path):  # to add lines to it would damage it
                raise DataError(f"{path}:{line} is no answer: {row}; give another file")
            continue  # torn when the machine stopped: that question is asked again
        try:
            key = get(row, "key", str)
        except DataError as error:
            raise DataError(f"{path}:{line} is no answer: {error}; give another file") from error
        if isinstance(row.get("error"), str):
            known[key] = {"error": row["error"]}
        elif "answer" in row:
            known[key] = {"answer": row["answer"]}
    return known


def _begins_as_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip()[:1] in (b"", b"{")


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """One line in one write; after a torn last line it begins anew."""
    content = (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                content = b"\n" + content
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror or error}") from error
