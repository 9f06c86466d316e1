"""What is to be synthesised: one validated value, read from a TOML or JSON file."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ivm.data.kinds import KINDS
from ivm.data.packs import SPLITS
from ivm.data.tabletop.spec import TabletopSpec
from ivm.errors import IVMError, OptionError

__all__ = ["SOURCES", "SynthesisSpec", "read_spec"]

SOURCES = ("tabletop", "collage", "photo")


@dataclass(frozen=True)
class SynthesisSpec:
    """Options of synthesis; samples are a function of (spec, seed, index) and of the pictures in its folders.

    Attributes:
        shares: source of SOURCES -> its share of the scenes; they need not add up to 1.
        size: side of tabletop pictures and collages, shorter side of photos, in pixels, 64 to 1024.
        kinds: names in `ivm.data.kinds.KINDS`; empty for all.
        instructions: samples of each scene, 1 to 64.
        polite: share of commands that get a polite frame, in [0, 1].
        noise: share of instructions that get typing errors, in [0, 1].
        contrast: how often an instruction is followed by its contrast (`ivm.data.grammar`), in [0, 1].
        photos: folders of masked photos (`ivm.data.packs`); grounds of collages, and photo scenes.
        cutouts: folders of cut-outs (`ivm.data.cutouts`).
        split: which photos and cut-outs: "train", "val", "test", or "" for all.
        tabletop: options of `TabletopSpec`; its size is `size`.

    Raises:
        OptionError: something is outside what it accepts; the message lists every error.
    """

    shares: Mapping[str, float]
    size: int = 256
    kinds: tuple[str, ...] = ()
    instructions: int = 4
    polite: float = 0.25
    noise: float = 0.05
    contrast: float = 0.0
    photos: tuple[str, ...] = ()
    cutouts: tuple[str, ...] = ()
    split: str = "train"
    tabletop: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        errors = _errors(self)
        if errors:
            raise OptionError(_report("the synthesis spec", errors))
        for name in ("kinds", "photos", "cutouts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(
            self, "shares", {name: float(self.shares[name]) for name in SOURCES if name in self.shares}
        )
        object.__setattr__(self, "tabletop", dict(self.tabletop or {}))

    def tabletop_spec(self) -> TabletopSpec:
        """The options of tabletop scenes."""
        return TabletopSpec.from_json({**(self.tabletop or {}), "size": self.size})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, with the folders' names instead of their paths: equal on every machine."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("photos", "cutouts"):
            values[name] = [Path(folder).name for folder in values[name]]
        return json.loads(json.dumps(values))

    def digest(self) -> str:
        """Eight hexadecimal digits that change with anything in `to_json`."""
        canonical = json.dumps(self.to_json(), sort_keys=True).encode()
        return hashlib.sha256(canonical).hexdigest()[:8]


def _errors(spec: SynthesisSpec) -> list[str]:
    errors: list[str] = []
    shares = spec.shares
    if not isinstance(shares, Mapping) or not shares:
        errors.append(f"shares must be a table such as {{tabletop = 0.5, collage = 0.5}}, but is {shares!r}")
        shares = {}
    for name, share in shares.items():
        if name not in SOURCES:
            errors.append(f"shares has no source {name!r}{_nearest(name, SOURCES)}")
        elif isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < float("inf"):
            errors.append(f"shares.{name} must be a number of at least 0, but is {share!r}")
    if shares and not errors and not sum(shares.values()) > 0:
        errors.append("shares must not all be 0")
    for name, low, high in (("size", 64, 1024), ("instructions", 1, 64)):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            errors.append(f"{name} must be a whole number from {low} to {high}, but is {value!r}")
    for name in ("polite", "noise", "contrast"):
        value = getattr(spec, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            errors.append(f"{name} must be a number in [0, 1], but is {value!r}")
    for name in ("kinds", "photos", "cutouts"):
        value = getattr(spec, name)
        if (
            isinstance(value, str)
            or not isinstance(value, list | tuple)
            or not all(isinstance(v, str) for v in value)
        ):
            errors.append(f"{name} must be a list of strings, but is {value!r}")
        elif name == "kinds":
            errors += [f"kinds has no {kind!r}{_nearest(kind, KINDS)}" for kind in value if kind not in KINDS]
    if spec.split not in (*SPLITS, ""):
        errors.append(f'split must be one of {", ".join(SPLITS)} or "", but is {spec.split!r}')
    if isinstance(spec.shares, Mapping):
        if spec.shares.get("photo") and not spec.photos:
            errors.append("photo scenes need folders of masked photos: set photos")
        if spec.shares.get("collage") and not spec.photos and not spec.cutouts:
            errors.append("collages need something to paste: set cutouts or photos")
    errors += _tabletop_errors(spec.tabletop)
    return errors


def _tabletop_errors(values: Any) -> list[str]:
    if values is None:
        return []
    if not isinstance(values, Mapping):
        return [f"tabletop must be a table of options, but is {values!r}"]
    known = {field.name for field in fields(TabletopSpec)} - {"size"}
    errors = [f"tabletop has no option {key!r}{_nearest(key, known)}" for key in values if key not in known]
    for key in sorted(known & set(values)):
        try:
            TabletopSpec.from_json({key: values[key]})
        except (IVMError, TypeError, ValueError) as error:
            errors.append(f"tabletop.{key}: {error}")
    if not errors:
        try:
            TabletopSpec.from_json(values)
        except (IVMError, TypeError, ValueError) as error:
            errors.append(str(error))
    return errors


def read_spec(path: str | os.PathLike[str]) -> SynthesisSpec:
    """Read a spec file; folders in it are relative to the file, and may use environment variables.

    Raises:
        OptionError: the file cannot be read, or is wrong; the message lists every error, and the nearest
            known name for each unknown one.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(
            f"cannot read the spec {path}: {getattr(error, 'strerror', None) or error}"
        ) from error
    try:
        values = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, tomllib.TOMLDecodeError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        raise OptionError(f"the spec {path} is not {kind}: {error}") from error
    if not isinstance(values, dict):
        raise OptionError(f"the spec {path} must be a table of options, but is a {type(values).__name__}")
    known = [field.name for field in fields(SynthesisSpec)]
    errors = [f"there is no option {key!r}{_nearest(key, known)}" for key in values if key not in known]
    given = {key: value for key, value in values.items() if key in known}
    given.setdefault("shares", {})
    for name in ("photos", "cutouts"):
        if isinstance(given.get(name), list) and all(isinstance(folder, str) for folder in given[name]):
            filled = [os.path.expandvars(folder) for folder in given[name]]
            folders = [path.parent / folder for folder in filled]
            for text, folder in zip(filled, folders, strict=True):
                if "$" in text:
                    errors.append(f"{name}: {text} uses a variable that is not set")
                elif not folder.is_dir():
                    errors.append(f"{name}: there is no folder {folder}")
            given[name] = tuple(str(folder) for folder in folders)
    trial = object.__new__(SynthesisSpec)
    for field in fields(SynthesisSpec):
        object.__setattr__(trial, field.name, given.get(field.name, field.default))
    errors += _errors(trial)
    if errors:
        raise OptionError(_report(f"the spec {path}", errors))
    return SynthesisSpec(**given)


def _nearest(word: str, known: Any) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else f": expected one of {', '.join(sorted(known))}"


def _report(what: str, errors: list[str]) -> str:
    if len(errors) == 1:
        return f"{what} is wrong: {errors[0]}"
    return f"{what} has {len(errors)} errors:\n" + "\n".join(f"  - {error}" for error in errors)
