"""A configuration as a TOML file: read it, and write one with every option and its default. No torch.

`template` is what `ivm train options` prints and what runs/generator.toml and runs/discriminator.toml hold.
"""

from __future__ import annotations

import importlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from ivm.errors import OptionError
from ivm.models.config import PRESETS
from ivm.training.config import (
    ARCHITECTURES,
    Model,
    TrainConfig,
    faults_of,
    nearest,
    report,
    sections_of,
)

__all__ = ["options", "read_config", "template"]

_PLACES = frozenset({"preset", "lmm", "image"})
"""Sizes that may name a folder."""


def read_config(path: str | os.PathLike[str], stage: str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file; paths in it are relative to the file, and may use environment variables.

    Args:
        path: the file.
        stage: a name in STAGES.
        overrides: "section.option=value", which come before what the file says; the value as in TOML, where
            text needs no quotes. Paths in them are relative to the current folder.

    Raises:
        OptionError: the file cannot be read, or is wrong; the message names it and lists every fault, with
            the nearest right name for each unknown one.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OptionError(f"cannot read the configuration {path}: {reason}") from error
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"the configuration {path} is not TOML: {error}") from error
    flat: dict[str, tuple[Any, Path]] = {"folder": (TrainConfig.folder, path.parent)}
    changes: dict[str, Any] = {}  # of model.sizes, by --set
    faults: list[str] = []
    sections = sections_of(stage)
    known = dict(options(stage))
    for key, value in given.items():
        if key in sections and isinstance(value, Mapping):
            flat |= {f"{key}.{name}": (part, path.parent) for name, part in value.items()}
        elif key in sections:
            faults.append(f"{key} must be a table, but is {value!r}")
        else:
            flat[key] = (value, path.parent)
    for text in overrides:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            faults.append(f"--set must be NAME=VALUE, but is {text!r}")
            continue
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        if name in known and known[name].type == "str" and not isinstance(parsed, str):
            parsed = value  # a folder may be called 2026-11-28
        if name.startswith("model.sizes."):
            changes[name.removeprefix("model.sizes.")] = parsed
        else:
            flat[name] = (parsed, Path())
    sizes, base = flat.get("model.sizes", ({}, Path()))
    if isinstance(sizes, Mapping):  # else it is told below
        placed = [_placed(sizes, base), _placed(changes, Path())]
        flat["model.sizes"] = ({name: value for part, _ in placed for name, value in part.items()}, base)
        faults += [fault for _, wrong in placed for fault in wrong]
    tables: dict[str, dict[str, Any]] = {name: {} for name in ("", *sections)}
    for name, (value, base) in flat.items():
        if name not in known:
            faults.append(f"there is no option {name}{nearest(name, known)}")
            continue
        section, _, key = name.rpartition(".")
        if known[name].metadata.get("path"):
            value, wrong = _resolve(name, value, base)
            faults += wrong
        tables[section][key] = value
    for section, kind in {"": TrainConfig, **sections}.items():
        wrong = faults_of(kind, tables[section], section + "." if section else "")
        if section == "model" and not wrong:
            wrong = _architecture_faults(Model(**tables[section]), stage)
        faults += wrong
    if not faults:
        try:
            parts = {name: kind(**tables[name]) for name, kind in sections.items()}
            config = TrainConfig(stage=stage, **parts, **tables[""])
        except OptionError as error:
            raise OptionError(
                str(error).replace("the configuration", f"the configuration {path}", 1)
            ) from None
    if faults:
        raise OptionError(report(f"the configuration {path}", faults))
    return config


def _architecture_faults(model: Model, stage: str) -> list[str]:
    module = importlib.import_module(ARCHITECTURES[model.kind])
    names = module.sizes(stage)
    known = {name: value for name, value in model.sizes.items() if name in names}
    unknown = model.sizes.keys() - known.keys()
    faults = [f"there is no option model.sizes.{name}{nearest(name, names)}" for name in sorted(unknown)]
    try:
        module.check(replace(model, sizes=known), stage)
    except (OptionError, TypeError, ValueError) as error:
        faults.append(f"model: {error}")
    return faults


def _placed(sizes: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], list[str]]:
    """Sizes in which folders are absolute. What names none that is there is left: a preset, or a hub id."""
    made, faults = dict(sizes), []
    for name in _PLACES & sizes.keys():
        value = sizes[name]
        path, wrong = _resolve(f"model.sizes.{name}", value, base)
        if isinstance(value, str) and value not in PRESETS and ("$" in value or Path(path).is_dir()):
            made[name] = path
            faults += wrong
    return made, faults


def _resolve(name: str, value: Any, base: Path) -> tuple[Any, list[str]]:
    """Paths, made absolute; what is no text is left for `faults_of` to tell."""
    if isinstance(value, str) and value:
        path = os.path.expandvars(value)
        wrong = [f"{name}: {value} uses a variable that is not set"] if "$" in path else []
        return os.path.normpath(base.absolute() / path), wrong
    if isinstance(value, list):
        pairs = [_resolve(name, part, base) for part in value]
        return [part for part, _ in pairs], [fault for _, wrong in pairs for fault in wrong]
    return value, []


def options(stage: str) -> Iterator[tuple[str, Any]]:
    """("section.option", its dataclass field) of every option of a stage, in the order of the file."""
    for section, kind in {"": TrainConfig, **sections_of(stage)}.items():
        for one in fields(kind):
            if "about" in one.metadata:
                yield (f"{section}.{one.name}" if section else one.name), one


def template(stage: str) -> str:
    """A TOML file with every option of a stage at its default, each with a line about it."""
    lines = [f"# Options of  ivm train {stage} CONFIG,  at their defaults: leave out what you do not change."]
    shown = ""
    for name, one in options(stage):
        section, _, key = name.rpartition(".")
        if section != shown:
            lines += ["", f"[{section}]"]
            shown = section
        value = one.default if one.default is not MISSING else {}
        lines += [f"# {one.metadata['about']}", f"{key} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool | dict) else repr(value)
