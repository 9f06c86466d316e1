"""A weight for every sample of a store, by a discriminator; and their histogram by source.

    {"uuid": "...", "source": "...", "human": false, "score": 0.3127, "weight": 0.3127}

A line a sample, in the order of the store: `score` is D in [0, 1], the mean over the sample's instructions;
`weight` is clip(D, 0.1, 0.9), what DWSL multiplies the sample's loss by.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ivm.data.clean import identity
from ivm.data.stream import ShardReader, ShardSet
from ivm.errors import DataError, OptionError, OutputError, require
from ivm.files import whole, write_text
from ivm.models.config import check_device
from ivm.models.pretrained import Runner
from ivm.training.checkpoints import load_trainee, weights_file
from ivm.training.feed import Place, Viewer
from ivm.training.trainee import Trainee
from ivm.types import Sample

__all__ = ["check_histogram", "draw_scores", "score_store"]

_BINS = 40
_CLIP = (0.1, 0.9)  # the paper's


def score_store(
    weights: str | os.PathLike[str],
    store: str | os.PathLike[str],
    output: str | os.PathLike[str],
    device: str = "auto",
    batch_size: int = 32,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Score every sample of a store into a JSON-lines file; returns how many there are.

    What is done so far stands in a file beside it, `.<name>.part`; killed, the same call goes on. The file
    itself appears when it is whole.

    Args:
        weights: of the discriminator: file or run folder.
        store: folder of a finished store.
        output: the file.
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        batch_size: instructions that go through the discriminator at once.
        progress: called with (samples done, samples in all).

    Raises:
        CheckpointError: `weights` is no discriminator's.
        DataError: the store is unfinished or damaged, or a sample has no heatmap.
        ModelError: there is no CUDA device.
        OptionError: another word for the device.
        OutputError: the file cannot be written.
    """
    chosen = Runner(check_device(device)).device
    output = Path(output)
    file = weights_file(weights)
    # What decides the scores; a part with another first line belongs to another job.
    begin = {"weights": _digest(file), "store": identity(ShardReader(store))}
    part = output.with_name(f".{output.name}.part")
    done = _done(part, begin)
    trainee, model = load_trainee(file, "discriminator")
    samples = ShardSet(store, model.image_size)
    for module in (trainee.module, *trainee.hidden):
        module.to(chosen).eval()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a", encoding="utf-8") as out:
            if out.tell() == 0:  # a part without a row may have its first line already
                out.write(json.dumps(begin) + "\n")
            todo = (samples[number] for number in range(done, len(samples)))
            while group := list(islice(todo, max(1, batch_size // 2))):
                scores = _scores(trainee, model.image_size, group, chosen, batch_size)
                out.writelines(map(_line, group, scores))
                out.flush()
                done += len(group)
                if progress is not None:
                    progress(done, len(samples))
        content = part.read_text(encoding="utf-8").partition("\n")[2]
        write_text(output, content)
        part.unlink()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write {output}: {error.strerror or error}") from error
    return len(samples)


def _scores(
    trainee: Trainee, size: int, samples: Sequence[Sample], device: torch.device, batch_size: int
) -> list[float]:
    """Mean D of each sample over its instructions."""
    viewer = Viewer(size, None)
    views, owners = [], []
    for number, sample in enumerate(samples):
        view = viewer(sample, Place(0, 0, number, 0))
        for text in sample.instructions:
            views.append(view._replace(instruction=text))
            owners.append(number)
    values = []
    with torch.inference_mode():
        for start in range(0, len(views), batch_size):
            batch = trainee.collate(views[start : start + batch_size])
            logits = trainee.module(*(value.to(device) for value in batch.inputs))
            values.append(logits.float().sigmoid().cpu().numpy())
    totals = np.bincount(owners, np.concatenate(values), len(samples))
    means: list[float] = (totals / np.bincount(owners, minlength=len(samples))).tolist()
    return means


def _line(sample: Sample, score: float) -> str:
    line = {"uuid": sample.uuid, "source": sample.source, "human": sample.human, "score": round(score, 6)}
    return json.dumps({**line, "weight": round(float(np.clip(score, *_CLIP)), 6)}, ensure_ascii=False) + "\n"


def _done(part: Path, begin: Mapping[str, Any]) -> int:
    """Samples in an unfinished file of the same job, its torn last line cut off; another job's is dropped."""
    if not part.exists():
        return 0
    raw = part.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    lines = whole.splitlines()
    try:
        same = bool(lines) and json.loads(lines[0]) == begin
    except ValueError:
        same = False
    if not same:
        part.unlink()
        return 0
    if whole != raw:
        part.write_bytes(whole)
    return len(lines) - 1


def _digest(file: Path) -> str:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check_histogram(path: Path, scores: Path) -> None:
    """Refuse now what `draw_scores` could not write when all is scored.

    Raises:
        OptionError: the name has no ending of a picture, or is that of the scores.
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "data")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix[1:].lower() not in known:
        raise OptionError(f"the histogram must end in one of .{', .'.join(known)}, but is {path}")
    if path.resolve() == scores.resolve():
        raise OptionError(f"the scores and their histogram must be two files, but both are {path}")


def draw_scores(rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draw the paper's Figure 10b: how D is distributed over the samples of each source.

    Args:
        rows: with source, human and score.
        path: PNG or SVG to write; its folder is made.

    Raises:
        DataError: there are no rows.
        OutputError: the picture cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    require("matplotlib", "data")
    from matplotlib.figure import Figure

    groups: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for row in rows:
        groups[not row["human"], str(row["source"])].append(float(row["score"]))
    if not groups:
        raise DataError("there are no scores to draw")
    figure = Figure(figsize=(6.4, 1.0 + 1.05 * len(groups)), layout="constrained")
    axes = figure.subplots(len(groups), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, 1, _BINS + 1)
    for axis, ((machine, source), scores) in zip(axes, sorted(groups.items()), strict=True):
        colour = "#E69F00" if machine else "#0072B2"
        shares = np.histogram(scores, edges)[0] / len(scores)
        axis.bar(edges[:-1], shares, 1 / _BINS, align="edge", color=colour, edgecolor="white", linewidth=0.4)
        axis.axvline(float(np.mean(scores)), color="#333333", lw=1.0, ls="--")
        kind = "machine" if machine else "human"
        label = f"{source}, {kind}: {len(scores):,} samples, mean {np.mean(scores):.2f}"
        axis.set_title(label, loc="left", fontsize=9)
        axis.set_ylim(0, max(shares) * 1.12)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value * 100:g}%")
        axis.tick_params(labelsize=8)
        axis.locator_params(axis="y", nbins=3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_axisbelow(True)
        axis.grid(axis="y", color="#dddddd", lw=0.6)
    axes[-1].set_xlim(0, 1)
    axes[-1].set_xlabel("score D of the discriminator (dashed: mean)", fontsize=9)
    figure.supylabel("share of the samples", fontsize=9)
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=150)
