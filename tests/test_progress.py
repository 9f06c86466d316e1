from __future__ import annotations

import io
import re
import sys

import pytest

from ivm.progress import progress, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(3) as advance:
        advance()
        advance(to=3)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(40, "answers") as advance:
        advance()
        advance(to=17)
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", terminal.getvalue())
    assert "17/40 answers" in plain


def test_a_narrow_encoding_breaks_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a pipe on Windows, where an answer that was paid for would be lost."""
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", pipe)
    say("café 时间 \udcff")
    assert pipe.buffer.getvalue().decode("cp1252").strip() == "café ?? ?"
