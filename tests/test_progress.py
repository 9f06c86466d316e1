from __future__ import annotations

import io
import re
import sys

import pytest

from ivm.progress import progress


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
