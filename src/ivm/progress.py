"""What commands show: lines, and the bar of those that take long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["progress", "say"]


def say(text: str, err: bool = False) -> None:
    """Print a line; what is no valid text, or none that the output's encoding has, must not break it."""
    import typer

    stream = sys.stderr if err else sys.stdout  # of a pipe the encoding may be a narrow one
    encoding = getattr(stream, "encoding", None) or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding), err=err)


@contextmanager
def progress(total: int | None, unit: str = "pictures") -> Iterator[Any]:
    """A bar on stderr while it is a terminal, nothing otherwise; yields what moves it on by one, or `to`."""
    if not sys.stderr.isatty():
        yield lambda to=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(30), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)

        def advance(to: int | None = None) -> None:
            if to is None:
                progress.advance(task)
            else:
                progress.update(task, completed=to)

        yield advance
