"""How fast the compact model trains, whether data keeps up with it, and whether memory stays flat.

    python runs/bench_training.py                 all parts; prints a table
    python runs/bench_training.py --part data     one of: data, memory, gpu

data: the recipe itself, once fed with the same few batches from memory (the model's own rate) and once from a
store of JPEG photos with augmentation and 2 workers, in turns; and the loader alone. The store is made of the
bundled pictures in a temporary folder. memory: the resident memory of the process and its workers over many
steps of a small model. gpu: the model's rate in bf16 from uint8 tensors, and the loader's; it needs CUDA.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

import ivm
from ivm.data.shards import ShardWriter
from ivm.images import read_image
from ivm.training import recipe
from ivm.training.config import Data, GeneratorLoss, Model, Optimise, TrainConfig
from ivm.training.feed import Feed, Viewer, open_feed
from ivm.training.trainee import build
from ivm.types import Sample

SMALL = {
    "dim": 32, "heads": 4, "stem": [8, 16, 24], "image_blocks": 1, "fusion_blocks": 1, "text_blocks": 1,
    "text_layers": 1, "vocabulary": 1000,
}  # fmt: skip


def write_store(folder, count=128):
    """Photos of 512 pixels as JPEG, each with a box as its mask; half of them machine annotations."""
    import cv2

    rng = np.random.default_rng(0)
    photos = [read_image(path) for path in sorted((Path(ivm.__file__).parent / "assets").glob("*.jpg"))]
    with ShardWriter(folder, {"reader": "benchmark"}, samples_per_shard=64) as writer:
        for number in range(count):
            photo = photos[number % len(photos)]
            scale = 512 / max(photo.shape[:2])
            size = (round(photo.shape[1] * scale), round(photo.shape[0] * scale))
            image = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            file = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            image = read_image(file)
            mask = np.zeros(image.shape[:2], bool)
            x, y = int(rng.integers(size[0] - 120)), int(rng.integers(size[1] - 120))
            mask[y : y + 120, x : x + 120] = True
            human = number % 2 == 0
            texts = ("pick up the red cup and put it on the plate", "the thing on the left")
            writer.write(Sample(f"b-{number}", image, texts, mask, "benchmark", human=human), file)


class InMemory(Feed):
    """The feed of some stores, whose loader hands out the same few batches again and again."""

    def loader(self, batches, collate, view, workers, pin=False):
        made = list(itertools.islice(super().loader(batches, collate, view, 0, pin), 4))
        return itertools.cycle(made)


def config(folder, store, size, batch, steps, workers=2, precision="auto", sizes=None, report=5):
    optimise = Optimise(steps=steps, batch_size=batch, warmup=min(10, steps), precision=precision)
    return TrainConfig(
        folder=str(folder), track=(), save_every=10**9, report_every=report,
        data=Data((str(store),), workers=workers), loss=GeneratorLoss("equal"),
        model=Model(image_size=size, sizes=sizes or {}), optimise=optimise,
    )  # fmt: skip


def rates(asked, in_memory=False):
    """Samples a second of each report but the first, of a run of the recipe."""

    def opened(data, seed):
        feed = open_feed(data, seed)
        return InMemory(*feed) if in_memory else feed

    def built(stage, model):
        return replace(build(stage, model), export=None)

    with mock.patch.object(recipe, "open_feed", opened), mock.patch.object(recipe, "build", built):
        recipe.train(asked, lambda line: None)
    lines = (Path(asked.folder) / "log.jsonl").read_text().splitlines()
    return [json.loads(line)["samples_per_s"] for line in lines][1:]


def loader_rate(asked, batches):
    feed = open_feed(asked.data, 0)
    trainee = build("generator", asked.model)
    optimise = asked.optimise
    places = itertools.islice(feed.batches(optimise.batch_size, 0.5), batches)
    viewer = Viewer(asked.model.image_size, asked.augment)
    loader = feed.loader(places, trainee.collate, viewer, asked.data.workers)
    next(loader)
    started = time.perf_counter()
    count = sum(1 for _ in loader)
    return count * optimise.batch_size / (time.perf_counter() - started)


def data_part(folder, store, arguments):
    memory, real = [], []
    for turn in range(arguments.turns):
        for found, in_memory in ((memory, True), (real, False)):
            name = folder / f"{turn}-{in_memory}"
            asked = config(name, store, arguments.size, arguments.batch, arguments.steps)
            found += rates(asked, in_memory)
    model, path = statistics.median(memory), statistics.median(real)
    alone = loader_rate(asked, 40)
    print(f"size {arguments.size}, batch {arguments.batch}, {torch.get_num_threads()} threads, 2 workers")
    print(f"model, tensors in memory   {model:8.1f} samples/s")
    print(f"recipe, store of photos    {path:8.1f} samples/s   {path / model:.0%} (to be at least 90 %)")
    print(f"loader alone               {alone:8.1f} samples/s")
    return path / model >= 0.9


def resident():
    """Bytes of this process and its children."""
    import psutil

    own = psutil.Process()
    total = own.memory_info().rss
    for child in own.children(recursive=True):
        try:
            total += child.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def memory_part(folder, store, arguments):
    steps = arguments.memory_steps
    asked = config(
        folder / "memory", store, 32, 8, steps, precision="fp32", sizes=SMALL, report=max(1, steps // 20)
    )
    seen = []

    def built(stage, model):
        return replace(build(stage, model), export=None)

    with mock.patch.object(recipe, "build", built):
        recipe.train(asked, lambda line: seen.append(resident()) if line.startswith("step ") else None)
    early, late = statistics.mean(seen[3:6]), statistics.mean(seen[-3:])
    print(f"resident memory over {steps:,} steps, with 2 workers: {early / 1e6:.0f} MB after a fifth,")
    print(f"{late / 1e6:.0f} MB at the end: {(late - early) / 1e6:+.1f} MB (to be within 2 %)")
    return late - early < 0.02 * early


def gpu_part(folder, store, arguments):
    if not torch.cuda.is_available():
        print("skipped: no CUDA device here; the GPU's rate is to be at least 1,500 images/s at 256 px")
        return True
    asked = config(
        folder / "gpu", store, 256, arguments.gpu_batch, 200, workers=os.cpu_count() or 2, report=20
    )
    model = statistics.median(rates(asked, in_memory=True))
    data = loader_rate(asked, 40)
    print(f"{torch.cuda.get_device_name()}: 256 px, bf16, batch {arguments.gpu_batch}")
    print(f"model, uint8 tensors in memory   {model:8.0f} images/s (to be at least 1,500)")
    print(f"loader, {asked.data.workers} workers           {data:8.0f} images/s")
    return model >= 1500


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=("data", "memory", "gpu"), help="only this one")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40, help="of each run of the part data")
    parser.add_argument("--turns", type=int, default=3, help="runs from memory and from the store each")
    parser.add_argument("--memory-steps", type=int, default=2000)
    parser.add_argument("--gpu-batch", type=int, default=256)
    parser.add_argument("--threads", type=int, help="of torch  [default: all cores]")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    parts = {"data": data_part, "memory": memory_part, "gpu": gpu_part}
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_store(folder / "store")
        for name, part in parts.items():
            if arguments.part in (None, name):
                print(f"== {name}")
                good &= part(folder, folder / "store", arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
