from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

import conftest
from ivm.cli import app
from ivm.errors import OptionError
from ivm.model_cli import open_masker, read_options
from ivm.models import config


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """The options that a model in the folder `tmp_path` was opened with, a dictionary each time."""
    (tmp_path / "config.json").write_text('{"kind": "colours"}')
    kind = config.Kind("conftest_colours", "open_colours", ("*.json",))
    monkeypatch.setattr(config, "KINDS", config.KINDS | {"colours": kind})
    monkeypatch.setattr("ivm.masker.KINDS", config.KINDS)
    calls: list[dict[str, object]] = []

    def open_colours(
        folder: Path,
        device: str,
        threads: int | None,
        dtype: str = "auto",
        size: int = 1,
        exact: bool = False,
    ) -> object:
        calls.append({"device": device, "threads": threads, "dtype": dtype, "size": size, "exact": exact})
        return conftest.ColourBackend()

    module = types.ModuleType("conftest_colours")
    module.open_colours = open_colours  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "conftest_colours", module)
    return calls


def test_options_are_pairs_that_come_once() -> None:
    assert read_options(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert read_options(None) == {}
    for wrong in ("a", "=1", ""):
        with pytest.raises(OptionError, match="NAME=VALUE"):
            read_options([wrong])
    with pytest.raises(OptionError, match="a is given twice: '1' and '2'"):
        read_options(["a=1", "a=2"])


def test_numbers_and_truth_reach_the_model_as_such(opened: list[dict[str, object]], tmp_path: Path) -> None:
    open_masker(str(tmp_path), "cpu", 2, ["dtype=bfloat16", "size=7", "exact=true"])
    assert opened == [{"device": "cpu", "threads": 2, "dtype": "bfloat16", "size": 7, "exact": True}]
    with pytest.raises(OptionError, match="threads has an option of its own: --threads 3"):
        open_masker(str(tmp_path), "cpu", None, ["threads=3"])
    with pytest.raises(OptionError, match="has no option siz: it has dtype, exact, size"):
        open_masker(str(tmp_path), "cpu", None, ["siz=3"])


@pytest.mark.parametrize("command", ["mask", "demo"])
def test_commands_hand_them_on(
    opened: list[dict[str, object]], tmp_path: Path, picture: conftest.Picture, command: str
) -> None:
    photo = tmp_path / "photo.png"
    from ivm.images import write_image

    write_image(picture(40, 40, red=(4, 4, 30, 30)), photo)
    words = [str(photo), "the red square"] if command == "mask" else []
    result = CliRunner().invoke(
        app,
        [command, *words, "--model", str(tmp_path), "--output", str(tmp_path / "out.png"),
         "--model-option", "size=7", "--model-option", "dtype=float16"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [(one["size"], one["dtype"]) for one in opened] == [(7, "float16")]


@pytest.mark.parametrize(
    "words",
    [["mask"], ["demo"], ["ask"], ["serve"], ["eval", "masks"], ["eval", "expressions"], ["eval", "vqa"]],
)
def test_every_command_that_loads_a_masker_takes_them(words: list[str]) -> None:
    help_text = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
    assert "--model-option" in help_text
    assert "--device" in help_text
