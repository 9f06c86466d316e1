"""Synthesis: scenes of a spec with instructions, streamed into training or written as shards.

Every scene and sample is a function of (spec, seed, index): any number of processes makes the same ones.
Shards have the WebDataset layout: a tar of `KEY.jpg` (quality 95), `KEY.png` (the mask, one channel, 0 or 255)
and `KEY.json` for each sample, with fixed times and owners, written whole or not at all.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ivm.data.collage import Materials, collage_scene, photo_scene, read_materials
from ivm.data.grammar import Instruction, instructions_for
from ivm.data.scene import Scene
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.data.tabletop import Studio
from ivm.data.tabletop.catalogue import KINDS as TABLETOP_KINDS
from ivm.errors import DataError, OptionError, OutputError
from ivm.types import Sample

__all__ = ["SHARD_SAMPLES", "Synthesis", "stream", "synthesize"]

SHARD_SAMPLES = 500
"""Samples in a shard of `synthesize`; the last one may have fewer."""

_RECORD = "synthesis.json"
_TAG = 0x73796E
_ATTEMPTS = 6  # scenes tried for one index until enough instructions are found


class Synthesis:
    """Makes the scenes of one (spec, seed), in any order; what it has read and compiled is kept.

    Use it as a context manager or call `close`: tabletop scenes hold an OpenGL context. One thread only.

    Raises:
        DataError: a folder of the spec is missing or malformed.
        OptionError: the seed is negative.
    """

    def __init__(self, spec: SynthesisSpec, seed: int) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise OptionError(f"the seed must be a whole number of at least 0, but got {seed!r}")
        self.spec, self.seed = spec, seed
        self._sources = [name for name, share in spec.shares.items() if share > 0]
        shares = np.array([spec.shares[name] for name in self._sources])
        self._shares = shares / shares.sum()
        self._digest = spec.digest()
        self._studio: Studio | None = None
        self._materials: Materials | None = None
        if {"collage", "photo"} & set(self._sources):
            self._materials = read_materials(spec.photos, spec.cutouts, spec.split or None)
            if "photo" in self._sources and not self._materials.photos:
                raise DataError(f"the folders of photos hold none of the split {spec.split!r}")

    def __enter__(self) -> Synthesis:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context, if one is open."""
        if self._studio is not None:
            self._studio.close()
            self._studio = None

    def scene(self, index: int) -> tuple[Scene, str, list[Instruction]]:
        """Scene number `index` (0 or more): the scene, its source, and one to `spec.instructions` instructions.

        A scene of which nothing can be asked is replaced by another of its source, the same one every time.

        Raises:
            OptionError: the index is negative.
            DataError: a picture of the spec's folders is damaged, or nothing can be asked in any scene.
        """
        if index < 0:
            raise OptionError(f"the index of a scene must be at least 0, but got {index}")
        rng = np.random.default_rng([_TAG, self.seed, index])
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        for attempt in range(_ATTEMPTS):
            scene, others = self._make(source, index + attempt * 2**32, rng)
            found = instructions_for(
                scene,
                rng,
                self.spec.kinds or None,
                self.spec.instructions,
                others=others,
                polite=self.spec.polite,
                noise=self.spec.noise,
            )
            if found:
                return scene, source, found
        raise DataError(
            f"none of the {len(self.spec.kinds)} kinds of instruction fits a {source} scene: "
            "name more kinds, or leave kinds empty"
        )

    def samples(self, index: int) -> list[Sample]:
        """The samples of scene `index`, exactly `spec.instructions`; where the scene allows fewer different
        instructions, the first ones are given again.
        """
        scene, source, found = self.scene(index)
        provenance: dict[str, Any] = {
            "spec": self._digest,
            "scene": index,
            "seed": self.seed,
            "view": scene.view,
        }
        image_id = f"{source}-{self._digest}-{self.seed}-{index}"
        if source == "photo":
            image_id = provenance["photo"] = str(scene.provenance["photo"])
        count = self.spec.instructions
        return [
            Sample(
                uuid=f"{self._digest}-{self.seed}-{index * count + k:09d}",
                image=scene.image,
                instructions=(item.text,),
                heatmap=item.mask,
                source=source,
                human=True,  # exact by construction, so it is trusted as a human annotation is
                image_id=image_id,
                kind=item.kind,
                targets=item.target_names,
                provenance=provenance,
            )
            for k, item in enumerate(found[j % len(found)] for j in range(count))
        ]

    def _make(self, source: str, index: int, rng: np.random.Generator) -> tuple[Scene, tuple[str, ...]]:
        if source == "tabletop":
            if self._studio is None:
                self._studio = Studio(self.spec.tabletop_spec(), self.seed)
            return self._studio.scene(index), tuple(TABLETOP_KINDS)
        assert self._materials is not None  # __init__ reads them for these two sources
        if source == "collage":
            names = (*self._materials.cutouts, *self._materials.cuts)
            return collage_scene(self._materials, self.seed, index, self.spec.size), names
        photo = self._materials.photos[int(rng.integers(len(self._materials.photos)))]
        return photo_scene(photo, self._materials.vocabularies[photo.pack], self.spec.size), ()


def stream(spec: SynthesisSpec, seed: int, start: int = 0, step: int = 1) -> Iterator[Sample]:
    """Samples of scenes `start`, `start + step`, ... without end; worker w of W takes start w, step W.

    Samples of one scene follow each other.

    Raises:
        OptionError: start is negative or step is not positive.
        DataError: a folder of the spec is missing or malformed.
    """
    if start < 0 or step < 1:
        raise OptionError(f"start must be at least 0 and step at least 1, but got {start} and {step}")
    with Synthesis(spec, seed) as synthesis:
        index = start
        while True:
            yield from synthesis.samples(index)
            index += step


def synthesize(
    spec: SynthesisSpec,
    count: int,
    seed: int,
    out: str | os.PathLike[str],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write samples 0 to `count` - 1 as shards `shard-000000.tar`, ... and `synthesis.json` into a folder.

    A folder with shards of the same spec, seed and count is completed: whole shards stay, the rest is made,
    and the outcome is the same, byte for byte, as without the interruption.

    Args:
        count: samples, at least 1.
        seed: at least 0.
        out: a new or empty folder, or one to be completed.
        workers: processes.
        progress: called with (samples done, samples in all) a few times a second.

    Returns:
        The shards, in order.

    Raises:
        OptionError: count, seed or workers is out of range.
        OutputError: the folder holds something else, or cannot be written.
        DataError: a folder of the spec is missing or malformed, or a picture in it is damaged.
    """
    if count < 1 or workers < 1:
        raise OptionError(f"count and workers must be at least 1, but got {count} and {workers}")
    folder = Path(out)
    _claim(folder, spec, count, seed)
    shards = [folder / f"shard-{k:06d}.tar" for k in range(-(-count // SHARD_SAMPLES))]
    spans = [(k * SHARD_SAMPLES, min(count, (k + 1) * SHARD_SAMPLES)) for k in range(len(shards))]
    jobs = [(shard, span) for shard, span in zip(shards, spans, strict=True) if not shard.exists()]
    done = count - sum(end - begin for _, (begin, end) in jobs)
    if progress:
        progress(done, count)
    if workers == 1 or len(jobs) <= 1:
        with Synthesis(spec, seed) as synthesis:
            for shard, (begin, end) in jobs:
                for _ in _write_shard(synthesis, shard, begin, end):
                    done += 1
                    if progress:
                        progress(done, count)
        return shards
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    counter = context.Value("q", 0)
    with ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=_start_worker, initargs=(spec, seed, counter)
    ) as pool:
        waiting = {pool.submit(_work, str(shard), begin, end) for shard, (begin, end) in jobs}
        try:
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                if progress:
                    progress(done + counter.value, count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return shards


def _claim(folder: Path, spec: SynthesisSpec, count: int, seed: int) -> None:
    """Make the folder, or see that it belongs to this very job; drop what an interruption left half written."""
    record = (
        json.dumps({"spec": spec.to_json(), "seed": seed, "count": count, "shard": SHARD_SAMPLES}, indent=1)
        + "\n"
    )
    file = folder / _RECORD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            if file.read_text(encoding="utf-8") != record:
                raise OutputError(
                    f"{folder} holds samples of another spec, seed or count (see {file.name} in it): "
                    "choose another folder, or remove this one"
                )
        elif any(folder.iterdir()):
            raise OutputError(
                f"{folder} is not empty and was not written by this command: choose another folder"
            )
        else:
            temporary = folder / f".{_RECORD}.tmp"
            temporary.write_text(record, encoding="utf-8")
            temporary.replace(file)
        for left in folder.glob(".shard-*.tmp"):
            left.unlink()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"cannot write into {folder}: {error.strerror or error}") from error


_worker: tuple[Synthesis, Any] | None = None  # of this process


def _start_worker(spec: SynthesisSpec, seed: int, counter: Any) -> None:
    global _worker
    cv2.setNumThreads(1)
    _worker = Synthesis(spec, seed), counter


def _work(shard: str, begin: int, end: int) -> None:
    assert _worker is not None
    synthesis, counter = _worker
    for _ in _write_shard(synthesis, Path(shard), begin, end):
        with counter.get_lock():
            counter.value += 1


def _write_shard(synthesis: Synthesis, shard: Path, begin: int, end: int) -> Iterator[None]:
    """Write samples `begin` to `end` - 1; yields after each; the file appears when all are in it."""
    temporary = shard.with_name(f".{shard.name}.tmp")
    per_scene = synthesis.spec.instructions
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            made: list[Sample] = []
            picture = b""
            scene = -1
            for index in range(begin, end):
                if index // per_scene != scene:
                    scene = index // per_scene
                    made = synthesis.samples(scene)
                    picture = _encoded(made[0].image, "JPEG", quality=95, subsampling=0)
                _add(tar, made[index % per_scene], picture)
                yield
        temporary.replace(shard)
    except OSError as error:
        raise OutputError(f"cannot write {shard}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _add(tar: tarfile.TarFile, sample: Sample, picture: bytes) -> None:
    assert sample.heatmap is not None
    about = {
        "uuid": sample.uuid,
        "instructions": list(sample.instructions),
        "source": sample.source,
        "human": sample.human,
        "image_id": sample.image_id,
        "kind": sample.kind,
        "targets": list(sample.targets),
        "provenance": dict(sample.provenance),
    }
    mask = _encoded(sample.heatmap.astype(np.uint8) * 255, "PNG", compress_level=6)
    for suffix, content in (
        ("jpg", picture),
        ("png", mask),
        ("json", json.dumps(about, sort_keys=True).encode()),
    ):
        entry = tarfile.TarInfo(f"{sample.uuid}.{suffix}")
        entry.size = len(content)
        entry.mode = 0o644
        tar.addfile(entry, io.BytesIO(content))  # times and owners stay 0: equal samples give equal bytes


def _encoded(image: np.ndarray, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()
