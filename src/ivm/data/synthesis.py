"""Synthesis: scenes of a spec with instructions, streamed into training or written to a store of shards.

Every scene and sample is a function of (spec, seed, index): any number of processes makes the same ones.
"""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from ivm.data.collage import collage_scene
from ivm.data.grammar import Instruction, instructions_for
from ivm.data.layout import Encoding, encode_sample
from ivm.data.materials import Materials, read_materials
from ivm.data.photo_scenes import photo_scene
from ivm.data.scene import Scene
from ivm.data.shards import OWN_FILES, Index, ShardWriter, read_index
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.data.tabletop import Studio
from ivm.data.tabletop.catalogue import KINDS as TABLETOP_KINDS
from ivm.errors import DataError, OptionError, OutputError
from ivm.types import Sample

__all__ = ["Synthesis", "stream", "synthesize"]

_TAG = 0x73796E
_ATTEMPTS = 6  # scenes tried for one index until enough instructions are found
_CHUNK = 8  # scenes a task of a worker process
_ENCODING = Encoding("jpeg")

_Encoded = list[tuple[str, dict[str, bytes], str]]  # of one scene: uuid, members, source of each sample


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
        """Scene number `index` (0 or more): scene, source, and up to `spec.instructions` instructions.

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
            scene = self._make(source, index + attempt * 2**32, rng)
            found = instructions_for(
                scene,
                rng,
                self.spec.kinds or None,
                self.spec.instructions,
                others=self.others(source),
                polite=self.spec.polite,
                noise=self.spec.noise,
                contrast=self.spec.contrast,
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

    def others(self, source: str) -> tuple[str, ...]:
        """The nouns to ask for in vain in a scene of `source`; empty: those of the scene's own vocabulary."""
        if source == "tabletop":
            return tuple(TABLETOP_KINDS)
        return self._materials.names() if source == "collage" and self._materials else ()

    def _make(self, source: str, index: int, rng: np.random.Generator) -> Scene:
        if source == "tabletop":
            if self._studio is None:
                self._studio = Studio(self.spec.tabletop_spec(), self.seed)
            return self._studio.scene(index)
        assert self._materials is not None  # __init__ reads them for these two sources
        if source == "collage":
            return collage_scene(self._materials, self.seed, index, self.spec.size)
        photo = self._materials.photos[int(rng.integers(len(self._materials.photos)))]
        return photo_scene(photo, self._materials.vocabularies[photo.pack], self.spec.size)


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
    samples_per_shard: int = 1000,
) -> Index:
    """Write samples 0 to `count` - 1 to a store (`ivm.data.shards`), pictures as JPEG of quality 95.

    An unfinished store of the same spec, seed and count is completed, a finished one is returned as it is;
    the outcome is the same, byte for byte, with any number of workers and of interruptions.

    Args:
        count: samples, at least 1.
        seed: at least 0.
        out: the store's folder; made if absent.
        workers: processes.
        progress: called with (samples in the store, samples in all) after each.
        samples_per_shard: at least 1.

    Raises:
        OptionError: count, seed, workers or samples_per_shard is out of range.
        OutputError: the folder cannot be written, or holds other files.
        DataError: it holds another store; a folder of the spec is missing or malformed, or a picture damaged.
    """
    if count < 1 or workers < 1:
        raise OptionError(f"count and workers must be at least 1, but got {count} and {workers}")
    if not isinstance(seed, int) or seed < 0:
        raise OptionError(f"the seed must be a whole number of at least 0, but got {seed!r}")
    folder = Path(out)
    recipe = {"reader": "synthesis", "spec": spec.to_json(), "seed": seed, "count": count}
    if (folder / "index.json").exists():
        done = read_index(folder)
        if all(done.recipe.get(key) == value for key, value in recipe.items()):
            return done
    elif folder.is_dir() and not all(path.name.startswith(OWN_FILES) for path in folder.iterdir()):
        raise OutputError(f"{folder} holds files that are no store: choose a new or an empty folder")
    per_scene = spec.instructions
    with ShardWriter(folder, recipe, _ENCODING, samples_per_shard) as writer:
        first, within = writer.position
        for index, samples in _scenes(spec, seed, range(first, -(-count // per_scene)), workers):
            for k, (uuid, members, source) in enumerate(samples):
                if (index == first and k < within) or index * per_scene + k >= count:
                    continue
                writer.write_members(uuid, members, f"{source}, human", (index, k + 1))
                if progress:
                    progress(writer.samples, count)
    return read_index(folder)


def _scenes(spec: SynthesisSpec, seed: int, indices: range, workers: int) -> Iterator[tuple[int, _Encoded]]:
    """The encoded samples of each scene, in order."""
    if workers == 1 or len(indices) <= _CHUNK:
        with Synthesis(spec, seed) as synthesis:
            for index in indices:
                yield index, _encoded(synthesis, index)
        return
    chunks = [indices[k : k + _CHUNK] for k in range(0, len(indices), _CHUNK)]
    context = multiprocessing.get_context("spawn")  # an OpenGL context does not survive a fork
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(spec, seed))
    try:
        waiting: deque[tuple[range, Future[list[_Encoded]]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_work, chunk)))
            if len(waiting) > 3 * workers:  # bounds what is held in memory
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        while waiting:
            done, future = waiting.popleft()
            yield from zip(done, future.result(), strict=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_given: tuple[SynthesisSpec, int] | None = None  # to this process
_worker: Synthesis | None = None  # of this process


def _start_worker(spec: SynthesisSpec, seed: int) -> None:
    global _given
    cv2.setNumThreads(1)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    _given = (spec, seed)


def _die_with_parent() -> None:
    """End this process when its parent was killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(indices: range) -> list[_Encoded]:
    global _worker
    if _worker is None:  # not when the process starts: what is wrong there breaks the pool without a word
        assert _given is not None
        _worker = Synthesis(*_given)
    return [_encoded(_worker, index) for index in indices]


def _encoded(synthesis: Synthesis, index: int) -> _Encoded:
    samples = synthesis.samples(index)
    picture = io.BytesIO()
    Image.fromarray(samples[0].image).save(picture, "JPEG", quality=_ENCODING.quality, subsampling=0)
    # One picture is encoded once for all its instructions, and with the colour of every pixel.
    return [
        (sample.uuid, encode_sample(sample, picture.getvalue(), _ENCODING), sample.source)
        for sample in samples
    ]
