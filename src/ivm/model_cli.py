"""What every command that loads a masker takes, and how it loads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ivm.errors import OptionError

if TYPE_CHECKING:
    from ivm.masker import Masker

__all__ = ["Device", "Model", "ModelOptions", "Threads", "Threshold", "need", "open_masker", "read_options"]

Model = Annotated[str, typer.Option(help="Preset (see: ivm models), folder, or hub id.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.  [default: all]")]
Threshold = Annotated[float | None, typer.Option(help="Keep what is above, 0 to 1.  [default: the model's]")]
ModelOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--model-option",
        help="NAME=VALUE for this kind of model, such as dtype=bfloat16; may be repeated.",
        show_default=False,
    ),
]


def open_masker(
    model: str, device: str, threads: int | None = None, given: list[str] | None = None
) -> Masker:
    """`ivm.load` with options as a command takes them.

    Raises:
        OptionError: one of `given` is not NAME=VALUE or comes twice; and what `ivm.load` raises.
    """
    from ivm.masker import load

    options = {name: _value(text) for name, text in read_options(given).items()}
    if wrong := sorted({"device", "threads"} & set(options)):
        raise OptionError(f"{wrong[0]} has an option of its own: --{wrong[0]} {options[wrong[0]]}")
    return load(model, device=device, threads=threads, **options)


def need(context: typer.Context, names: Iterable[str], needed: str) -> None:
    """Refuse options that would be ignored: `names` of parameters, of use with `needed` alone.

    Raises:
        OptionError: one of them was given.
    """
    sources = {name: context.get_parameter_source(name) for name in names}
    # By its name: Typer's own copy of click has another class of sources than click has.
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        told = " and ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(f"{told} {'needs' if len(given) == 1 else 'need'} {needed}")


def read_options(given: list[str] | None) -> dict[str, str]:
    """NAME=VALUE as a command takes them.

    Raises:
        OptionError: one has another form, or comes twice.
    """
    options: dict[str, str] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise OptionError(f"an option must be NAME=VALUE, but got {one!r}")
        if name in options:
            raise OptionError(f"option {name} is given twice: {options[name]!r} and {value!r}")
        options[name] = value
    return options


def _value(text: str) -> Any:
    """true, false, null and numbers as JSON has them; anything else is text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text
