"""What reports share: JSON written whole or not at all, and figures with their intervals in narrow cells."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ivm.files import write_text

__all__ = ["cell", "show", "write_json", "write_lines"]


def write_json(content: Any, path: str | os.PathLike[str]) -> None:
    """Write as JSON, whole or not at all; null stands for a figure that does not exist (NaN).

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")


def write_lines(records: Iterable[Any], path: str | os.PathLike[str]) -> None:
    """Write as JSON lines, otherwise as `write_json`."""
    # Escaped: an answer may hold half a surrogate pair, which no UTF-8 file can.
    lines = [json.dumps(_plain(record), allow_nan=False) + "\n" for record in records]
    write_text(path, "".join(lines))


def show(item: Any, console: Any) -> None:
    """Print on a Rich console: text as it stands, a table as wide as its figures need."""
    from rich.measure import Measurement

    # Names hold brackets, which are no markup; and half a figure is a wrong one where the console is narrow.
    if not isinstance(item, str):
        free = console.options.update(max_width=10_000, markup=False)
        item.width = Measurement.get(console, free, item).maximum
    console.print(item, markup=False, crop=False)


def cell(value: Sequence[float] | None, interval: bool = True) -> str:
    """A figure [value, low, high] with half the width of its interval; empty for None."""
    if value is None:
        return ""
    # Half the interval's width, without its leading zero: a line of 80 columns holds all figures.
    half = f"±{(value[2] - value[1]) / 2:.2f}".replace("±0.", "±.")
    return f"{value[0]:.2f}{half}" if interval else f"{value[0]:.2f}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
