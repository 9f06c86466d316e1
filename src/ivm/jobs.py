"""Many pictures: a folder or a JSON-lines manifest -> a folder of masked pictures, resumed where it stopped.

The output folder keeps a record, `results.jsonl`: a line of JSON for a picture, appended when it is done. It
says what was found, where the picture lies and how its coordinates map back, and holds a fingerprint of the
input and every option; a picture whose fingerprint is there is not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ivm.errors import DataError, InputError, IVMError, OptionError, OutputError
from ivm.files import whole, write_text
from ivm.images import IMAGE_SUFFIXES, read_image, write_image
from ivm.masker import Masker
from ivm.render import check_options, render
from ivm.tiles import Tiles, lay_tiles
from ivm.types import Heatmap, check_instruction, check_threshold

__all__ = [
    "RESULTS",
    "Item",
    "Outcome",
    "Settings",
    "mask_items",
    "mask_picture",
    "read_folder",
    "read_manifest",
    "write_heatmap",
]

RESULTS = "results.jsonl"
"""Name of the record in an output folder."""

_HEATMAPS = ".heatmaps"  # in an output folder: a line of JSON for each folder that its heatmaps go to

_LONGEST = 200  # bytes of a file's name, which may have 255 with what is added


@dataclass(frozen=True)
class Settings:
    """How pictures are masked: what `masker` and `render` are called with.

    Attributes:
        mode: deployment mode, a key of `ivm.MODES`.
        tiles: as in a call of `Masker`.
        options: further keyword arguments of `ivm.render`; plain JSON values.
    """

    mode: str = "overlay"
    tiles: Tiles = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Find wrong options before anything is read or written.

        Raises:
            OptionError: as `ivm.render` and a call of `Masker` raise it.
        """
        check_options(self.mode, self.options)
        lay_tiles((10**6, 10**4), self.tiles)  # fits whatever fits any picture


@dataclass(frozen=True)
class Item:
    """One picture to make.

    Attributes:
        image: path of the source.
        instruction: what to keep.
        output: path of the masked picture, relative to the output folder.
        id: the caller's own name for it; empty if none.
    """

    image: Path
    instruction: str
    output: str
    id: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes:
        what: for people: the image's path, or file and line of a manifest.
        record: the line of `results.jsonl`, as plain JSON values; has an "error" if it failed.
        skipped: it had been made before, and was not made again.
    """

    what: str
    record: Mapping[str, Any]
    skipped: bool = False

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return str(self.record.get("error", ""))


def read_folder(folder: Path, instruction: str, without: Sequence[Path] = ()) -> list[Item]:
    """Items for every picture in a folder and its folders, sorted; hidden ones and those in `without` aside.

    The masked picture of `a/b.jpg` is `a/b.png`; where two sources would meet there, `a/b.jpg.png`.

    Raises:
        InputError: there is no picture, or a folder cannot be read.
        OptionError: `folder` itself is in `without`.
        InstructionError: the instruction is empty or not text.
    """
    instruction = check_instruction(instruction)
    aside = {path.resolve() for path in without}
    if folder.resolve() in aside:
        raise OptionError(
            f"what is made must lie in another folder than its sources, but both in {folder}: the next run "
            "would take it for sources"
        )

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read folder {str(error.filename)!r}: {error.strerror}") from error

    found = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        here = Path(root)
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and (here / name).resolve() not in aside
        )
        found += [
            here / name
            for name in sorted(names)
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")
        ]
    if not found:
        raise InputError(f"{folder} must hold pictures ({', '.join(sorted(IMAGE_SUFFIXES))}), but has none")
    outputs = _outputs([path.relative_to(folder) for path in found])
    return [Item(path, instruction, output) for path, output in zip(found, outputs, strict=True)]


def read_manifest(path: Path) -> tuple[list[Item], list[Outcome]]:
    """Items of a JSON-lines file, and the lines that are none.

    A line is `{"image": PATH, "instruction": TEXT, "id": NAME}`; a relative path starts at the manifest's
    folder, and `id` may be left out. The masked picture is named after the id, else after the image and a
    hash of both. A line that repeats image, instruction and id of another adds nothing.

    Raises:
        DataError: the file cannot be read, or has no line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # `splitlines` cuts at U+2028 in a text, too
    except OSError as error:
        raise DataError(f"cannot read manifest {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text, but is not at byte {error.start}") from error
    items: dict[str, tuple[int, Item]] = {}
    faults = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = _item(line, path.parent)
            earlier = items.setdefault(item.output.casefold(), (number, item))
            if earlier[1] != item:
                raise DataError(f"id {item.id!r} must be given once, but line {earlier[0]} has it, too")
        except IVMError as error:
            faults.append(Outcome(f"{path}:{number}", {"line": number, "error": str(error)}))
    if not items and not faults:
        raise DataError(
            f'{path} must have lines such as {{"image": "a.jpg", "instruction": "the cup"}}, but is empty'
        )
    return [item for _, item in items.values()], faults


def mask_picture(
    masker: Masker, image: Any, pixels: np.ndarray, instruction: str, output: Path, settings: Settings
) -> tuple[Heatmap, dict[str, Any]]:
    """Mask one picture and write it.

    Args:
        masker: the model.
        image: uint8 [H, W, 3], or features of the same picture.
        pixels: uint8 [H, W, 3], which are rendered.
        instruction: what to keep.
        output: file to write; its suffix chooses the format.
        settings: how.

    Returns:
        the heatmap, and what is worth knowing about it as plain JSON values: box (xyxy in pixels of the
        source) and kept_area of the mask, transform of the written picture to the source.

    Raises:
        IVMError: as masker, `ivm.render` and `ivm.write_image` raise it.
    """
    heatmap = masker(image, instruction, tiles=settings.tiles)
    rendered = render(pixels, heatmap, settings.mode, **settings.options)
    write_image(rendered.image, output)
    threshold = settings.options.get("threshold")
    return heatmap, {
        "instruction": heatmap.instruction,
        "found": heatmap.found,
        "score": round(heatmap.score, 4),
        "threshold": heatmap.threshold if threshold is None else check_threshold(threshold),
        "box": heatmap.box(threshold),
        "kept_area": round(heatmap.kept_area(threshold), 6),
        "kept_whole": rendered.kept_whole,
        "mode": settings.mode,
        "model": masker.name,
        "output": str(output),
        "transform": rendered.transform.to_dict(),
    }


def write_heatmap(heatmap: Heatmap, path: Path) -> None:
    """Write heatmap values: float32 [H, W] as .npy, or 8-bit grey (0 irrelevant, 255 relevant) as a picture.

    Raises:
        OutputError: the file cannot be written.
    """
    if path.suffix.lower() != ".npy":
        write_image(np.rint(heatmap.values * 255).astype(np.uint8), path)
        return
    with whole(path) as temporary, temporary.open("wb") as file:  # to a name such as h.NPY it would add .npy
        np.save(file, heatmap.values, allow_pickle=False)


def mask_items(
    masker: Masker,
    items: Sequence[Item],
    folder: Path,
    settings: Settings,
    heatmaps: Path | None = None,
    faults: Sequence[Outcome] = (),
) -> Iterator[Outcome]:
    """Mask pictures one after the other, and yield each as it is done, failed or was done before.

    A picture that fails does not stop the others. Stop when you like: the next call with the same items and
    settings goes on. Pictures made with other settings, or from a source that has changed, are made again.

    Args:
        masker: the model.
        items: what to make; their outputs are distinct.
        folder: output folder; made if absent.
        settings: how.
        heatmaps: folder for the heatmaps, as 8-bit grey PNG under the outputs' names; None: not written.
        faults: what failed before, such as lines of a manifest: recorded and yielded first.

    Raises:
        OptionError: the settings are wrong, a folder holds files that are not a job's, or heatmaps and
            pictures would lie in one folder.
        OutputError: the folder or its record cannot be written.
    """
    settings.check()
    if heatmaps is not None:
        roots = folder.resolve(), heatmaps.resolve()  # one may lie in the other, if no two files meet
        if len({root / item.output for root in roots for item in items}) < 2 * len(items):
            raise OptionError(f"heatmaps must lie in another folder than the pictures, but both in {folder}")
    sources = {_file(item.image) for item in items} - {None}
    fingerprints = _fingerprints(items, masker, settings, heatmaps)
    done = _open_record(folder, fingerprints, heatmaps)
    for fault in faults:
        _append(folder / RESULTS, fault.record)
        yield fault
    # The last picture, for a manifest that asks many things of one: read and encoded once.
    held: tuple[Path, np.ndarray, Any] | None = None
    for item in items:
        what = str(item.image)
        record: dict[str, Any] = {"image": what, "instruction": item.instruction}
        if item.id:
            record = {"id": item.id, **record}
        try:
            output = folder / item.output
            if item.output in done:
                yield Outcome(what, done[item.output], skipped=True)
                continue
            for target in (output, heatmaps / item.output if heatmaps is not None else output):
                if _file(target) in sources:
                    raise DataError(f"{target} would be written over a source: choose another folder")
            if held is None or held[0] != item.image:
                pixels = read_image(item.image)
                held = (item.image, pixels, masker.encode_image(pixels, tiles=settings.tiles))
            _make_folder(output.parent)
            heatmap, facts = mask_picture(masker, held[2], held[1], item.instruction, output, settings)
            if heatmaps is not None:
                _make_folder((heatmaps / item.output).parent)
                write_heatmap(heatmap, heatmaps / item.output)
            record |= {**facts, "output": item.output, "fingerprint": fingerprints[item.output]}
        except (IVMError, OSError) as error:  # such as a name too long for the disk
            record |= {"output": item.output, "error": str(error)}
        _append(folder / RESULTS, record)
        yield Outcome(what, record)


def _outputs(sources: list[Path]) -> list[str]:
    short = {source: source.with_suffix(".png").as_posix() for source in sources}
    chosen = dict(short)
    while True:
        times = Counter(name.casefold() for name in chosen.values())
        met = [s for s in sources if times[chosen[s].casefold()] > 1 and chosen[s] == short[s]]
        if not met:
            return [chosen[source] for source in sources]
        chosen |= {source: f"{source.as_posix()}.png" for source in met}


def _item(line: str, folder: Path) -> Item:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"a line must be a JSON object, but is not: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"a line must be a JSON object, but is a {type(fields).__name__}")
    image, instruction, name = fields.get("image"), fields.get("instruction"), fields.get("id", "")
    if not isinstance(image, str) or not image:
        raise DataError(f'"image" must be a path, but is {image!r}')
    if instruction is None:
        raise DataError('"instruction" must be a text, but is missing')
    if not isinstance(name, str | int) or isinstance(name, bool):
        raise DataError(f'"id" must be a text or a whole number, but is {name!r}')
    instruction, name = check_instruction(instruction), str(name)
    stem = re.sub(r"[^\w.-]+", "_", name or Path(image).stem)[:100].lstrip(".")
    stem = stem.encode(errors="ignore")[:_LONGEST].decode(errors="ignore") or "picture"
    if stem != name:  # not a name that the caller chose and a file can have: make it the only one
        stem += "-" + hashlib.sha256(json.dumps([image, instruction, name]).encode()).hexdigest()[:10]
    return Item(folder / image, instruction, f"{stem}.png", name)


def _fingerprints(
    items: Sequence[Item], masker: Masker, settings: Settings, heatmaps: Path | None
) -> dict[str, str]:
    """By output: a hash of everything that the picture depends on."""
    from importlib.metadata import version

    how = [settings.mode, settings.tiles, dict(settings.options), heatmaps]
    shared = [*how, masker.fingerprint, version("ivm")]
    fingerprints = {}
    for item in items:
        try:
            state = item.image.stat()
            source: list[Any] = [item.image, state.st_size, state.st_mtime_ns]
        except (OSError, ValueError):
            source = [item.image]  # reading it will say what is wrong
        text = json.dumps([source, item.instruction, shared], sort_keys=True, default=str)
        fingerprints[item.output] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return fingerprints


def _file(path: Path) -> tuple[int, int] | None:
    """Which file a path leads to, by any name; None if there is none."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino


def _open_record(
    folder: Path, fingerprints: Mapping[str, str], heatmaps: Path | None
) -> dict[str, dict[str, Any]]:
    """What was done before, by output; the record is left without torn, failed, outdated or doubled lines."""
    _make_folder(folder)
    path = folder / RESULTS
    done: dict[str, dict[str, Any]] = {}
    try:
        if not path.exists():
            _check_empty(folder)
        if heatmaps is not None:
            _claim(folder / _HEATMAPS, heatmaps)
        path.touch()
        text = path.read_text(encoding="utf-8", errors="replace")
        for line in text.split("\n"):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue  # torn when the machine stopped: that picture is made again
            if not isinstance(record, dict) or not record.keys() & {"error", "fingerprint"}:
                raise OptionError(f"{path} must be a job's record, but is another's: choose another folder")
            if "error" in record:
                continue
            output = str(record.get("output", ""))
            done.pop(output, None)  # the last line is what the file was made with
            files = [folder / output]
            if output in fingerprints:
                if record.get("fingerprint") != fingerprints[output]:
                    continue
                files += [heatmaps / output] if heatmaps is not None else []
            if output and all(file.exists() for file in files):  # all that is asked of another job's pictures
                done[output] = record
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error
    kept = "".join(_line(record) for record in done.values())
    if kept != text:
        write_text(path, kept)
    return done


def _claim(path: Path, heatmaps: Path) -> None:
    """Note that a job writes heatmaps to a folder, which must be new or empty if that is not noted yet."""
    name = json.dumps(str(heatmaps.resolve()))
    noted = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    if name not in noted:
        _check_empty(heatmaps)
        write_text(path, "\n".join([*noted, name]))


def _check_empty(folder: Path) -> None:
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise OptionError(
            f"the output folder {folder} must be new, empty or an earlier job's, but has other files"
        )


def _append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one line, in one write: a reader or a crash sees the whole line or none."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(file, _line(record).encode("utf-8"))
        finally:
            os.close(file)
    except OSError as error:
        raise OutputError(f"cannot write {str(path)!r}: {error.strerror}") from error


def _line(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a file name that is no valid text
        text = json.dumps(record)
    return text + "\n"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make folder {str(folder)!r}: {error.strerror}") from error
