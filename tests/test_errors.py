from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ivm import errors


def test_the_tree_is_as_drawn() -> None:
    """The docstring is the map that users read: every class, under the parent that it names."""
    lines = (errors.__doc__ or "").splitlines()
    path: list[str] = []
    drawn: dict[str, str] = {}
    for line in lines:
        name = line.strip("│├└─ ").split(" ")[0]
        if not name.endswith("Error"):
            continue
        depth = (line.index(name) - 4) // 4
        path[depth:] = [name]
        if depth:
            drawn[name] = path[depth - 1]
    classes = {n: getattr(errors, n) for n in errors.__all__ if n.endswith("Error")}
    assert set(drawn) == set(classes) - {"IVMError"}
    for name, parent in drawn.items():
        assert issubclass(classes[name], classes[parent])
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.OutputError, OSError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_messages_are_what_was_said() -> None:
    for name in errors.__all__:
        if name.endswith("Error"):
            assert str(getattr(errors, name)("one sentence")) == "one sentence"


def test_require_gives_the_module_or_the_command() -> None:
    assert errors.require("json", "full").loads("1") == 1
    with pytest.raises(errors.MissingExtraError, match=r"pip install 'ivm\[full\]'"):
        errors.require("no_such_module_here.deeper", "full")


def test_require_does_not_hide_a_broken_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import its_missing_part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "half_installed", raising=False)
    with pytest.raises(ModuleNotFoundError, match="its_missing_part") as caught:
        errors.require("half_installed", "full")
    assert not isinstance(caught.value, errors.MissingExtraError)
