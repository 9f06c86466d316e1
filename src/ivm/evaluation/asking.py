"""Asking servers that are paid by the question: each request once, its reply kept before the next is sent.

The record is a file of JSON lines that is only ever added to; a line is a reply or an error. The next run
asks again for an error, never for a reply: neither for the same job nor for another with the same request, as
that of a picture from which masking removed nothing.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivm.errors import IVMError, LMMError, OutputError
from ivm.lmm import Reply

__all__ = ["GIVE_UP", "Job", "ask_all", "read_record"]

GIVE_UP = 5
"""After so many jobs in a row without a reply the server is taken to be down, or the key to be wrong."""


@dataclass(frozen=True)
class Job:
    """One thing to ask.

    Attributes:
        key: what it is, so that a later run knows it again.
        request: a digest of everything that is sent, and of where to.
        ask: sends it.
        facts: plain JSON values that go into its line.
        error: why it cannot be asked, such as a damaged picture; empty if it can.
    """

    key: str
    request: str
    ask: Callable[[], Reply] | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def read_record(path: Path) -> dict[str, dict[str, Any]]:
    """The answer to each job, else its last error, by key; empty if there is no record yet.

    Raises:
        OutputError: it cannot be read.
    """
    lines: dict[str, dict[str, Any]] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    for line in text.splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue  # the machine stopped while it was written: that job is asked again
        key = content.get("key") if isinstance(content, dict) else None
        # What was answered first stays the answer, whatever a later line says.
        if isinstance(key, str) and "text" not in lines.get(key, {}):
            lines[key] = content
    return lines


def ask_all(
    jobs: Iterable[Job], path: Path, parallel: int = 1, tell: Callable[[str], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Ask what was not answered before, and yield each job's line once it is in the record.

    The first Ctrl-C sends nothing more, waits for the replies that are under way and records them; a second
    one does not wait. Both end in KeyboardInterrupt, and so the next call goes on from there.

    Args:
        jobs: made one at a time, when they can be asked; those whose key was answered are passed over.
        path: the record; its folder must exist.
        parallel: most requests under way at once.
        tell: gets a sentence at the first Ctrl-C.

    Raises:
        LMMError: GIVE_UP jobs in a row failed.
        OutputError: the record cannot be read or written, or another run is adding to it.
    """
    with _only_one(path):
        yield from _ask_all(jobs, path, parallel, tell)


def _ask_all(
    jobs: Iterable[Job], path: Path, parallel: int, tell: Callable[[str], None] | None
) -> Iterator[dict[str, Any]]:
    lines = read_record(path)
    replies = {line.get("request"): line for line in lines.values() if "text" in line}
    answered = {key for key, line in lines.items() if "text" in line}
    running: dict[Future[tuple[Reply, float]], Job] = {}
    followers: dict[str, list[Job]] = {}  # whose request is under way for another job
    coming, more, failed = iter(jobs), True, 0
    last = ""
    fault: BaseException | None = None  # raised when all that is under way is in the record
    with _interrupts(tell) as interrupted:
        while True:
            while more and len(running) < parallel and not interrupted() and failed < GIVE_UP:
                try:
                    job = next(coming, None)
                except Exception as stop:  # noqa: BLE001 - raised below, when the replies are kept
                    job, fault = None, stop
                if job is None:
                    more = False
                elif job.key in answered:
                    continue
                elif job.error:
                    yield _keep(path, {"key": job.key, **job.facts, "error": job.error})
                elif job.request in replies:
                    yield _keep(path, _again(job, replies[job.request]))
                elif job.request in followers:
                    followers[job.request].append(job)
                else:
                    assert job.ask is not None
                    followers[job.request] = []
                    running[_start(job.ask)] = job
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(done)
                line: dict[str, Any] = {"key": job.key, "request": job.request, **job.facts}
                error = done.exception()
                if error is None:
                    reply, seconds = done.result()
                    failed = 0
                    line |= {
                        "text": reply.text,
                        "served_by": reply.model,
                        "usage": dict(reply.usage) if isinstance(reply.usage, Mapping) else {},
                        "finish_reason": reply.finish_reason,
                        "seconds": round(seconds, 3),
                    }
                    replies[job.request] = line
                elif isinstance(error, IVMError):
                    failed, last = failed + 1, str(error)
                    line["error"] = last
                else:
                    more, fault = False, error
                    line["error"] = last = repr(error)
                yield _keep(path, line)
                for follower in followers.pop(job.request):
                    if error is None:
                        yield _keep(path, _again(follower, line))
                    else:
                        yield _keep(path, {"key": follower.key, **follower.facts, "error": last})
        if fault is not None:
            raise fault
        if interrupted():
            raise KeyboardInterrupt
        if failed >= GIVE_UP:
            raise LMMError(
                f"{failed} questions in a row got no answer, the last: {last}; "
                "what was answered is kept, and the same command goes on from there"
            )


def _start(ask: Callable[[], Reply]) -> Future[tuple[Reply, float]]:
    """Ask in a thread that the process does not wait for at its end, as it does for those of an executor."""
    future: Future[tuple[Reply, float]] = Future()

    def run() -> None:
        try:
            future.set_result(_timed(ask))
        except BaseException as error:  # noqa: BLE001 - raised or recorded where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _timed(ask: Callable[[], Reply]) -> tuple[Reply, float]:
    start = time.perf_counter()
    return ask(), time.perf_counter() - start


def _again(job: Job, line: Mapping[str, Any]) -> dict[str, Any]:
    """The line of a job whose request another one has sent: the same reply, at no cost."""
    reply = {name: line[name] for name in ("text", "served_by", "finish_reason") if name in line}
    return {
        "key": job.key,
        "request": job.request,
        **job.facts,
        **reply,
        "same_as": line.get("same_as", line["key"]),
    }


def _keep(path: Path, line: dict[str, Any]) -> dict[str, Any]:
    """Add one line, in one write that reaches the disk: it was paid for."""
    content = json.dumps(line, ensure_ascii=True).encode("ascii") + b"\n"
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # a torn line must not swallow this one
                content = b"\n" + content
            if os.write(file, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return line


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Two runs at once would pay twice. The lock goes with the process, so that none is left behind."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise OutputError(
            f"{path} is in use by another run: wait for it, or choose another folder"
        ) from error
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def _interrupts(tell: Callable[[str], None] | None) -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C only makes the function that it yields true."""
    seen = False

    def note(number: int, frame: object) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        if tell is not None:
            tell("stopping once the questions under way are answered; Ctrl-C again does not wait for them")

    if threading.current_thread() is not threading.main_thread():  # only there a signal can be handled
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)
