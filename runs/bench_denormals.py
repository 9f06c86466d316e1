"""What numbers below 1e-38 cost this processor, in a training step and in an answer of the embedded model.

    python runs/bench_denormals.py [--turns 5]

In turns within one process, one thread, processor time; from the weights that training goes on from.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import load_file

import ivm
from ivm.images import read_image
from ivm.models import onnx
from ivm.models.compact import CompactConfig, CompactModel, frozen_parts
from ivm.models.minilm import build_tokenizer
from ivm.training.loop import Batch, LoopConfig, train_step

WEIGHTS = Path(__file__).resolve().parent / "weights" / "compact.safetensors"
ASKED = ("the cup", "the cat on the left", "pick up the red cup and put it on the plate")
SIZE, PICTURES = 128, 8


def photos():
    return [read_image(path) for path in sorted((Path(ivm.__file__).parent / "assets").glob("*.jpg"))]


def trainer():
    """A function that takes one step on a small batch of the bundled photos, each asked three things."""
    config = CompactConfig()
    model = CompactModel(config, **frozen_parts(config)).train()
    model.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    encoded = build_tokenizer(config).encode_batch(list(ASKED) * PICTURES)
    images = [cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for photo in photos()]
    images = [image for image, _ in zip(itertools.cycle(images), range(PICTURES), strict=False)]
    count = len(encoded)
    batch = Batch(
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(),
        ids=torch.tensor([e.ids for e in encoded]),
        mask=torch.tensor([e.attention_mask for e in encoded]).bool(),
        picture=torch.arange(PICTURES).repeat_interleave(len(ASKED)),
        targets=torch.zeros(count, SIZE // 4, SIZE // 4),
        found=torch.zeros(count).bool(),
        human=torch.ones(count).bool(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the weights stay: every step is the same work
    return lambda: train_step(model, batch, [optimizer], LoopConfig(precision="fp32"))


def compare(name, with_denormals, without, turns):
    """Prints the ratio of the times, the median over turns."""
    times = []
    for _ in range(turns + 1):
        pair = []
        for function in (without, with_denormals):
            begin = time.process_time()
            function()
            pair.append(time.process_time() - begin)
        times.append(pair)
    ratios = [one / other for one, other in times[1:]]
    fast, slow = (1e3 * statistics.median(column) for column in zip(*times[1:], strict=True))
    print(f"| {name} | {slow:.0f} ms | {fast:.0f} ms | {statistics.median(ratios):.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    torch.set_num_threads(1)
    step = trainer()

    def flushed(on):
        torch.set_flush_denormal(on)
        step()
        torch.set_flush_denormal(False)

    print(f"{platform.machine()}, one thread\n| | with denormals | without | ratio |\n|---|---:|---:|---:|")
    compare("a training step", lambda: flushed(False), lambda: flushed(True), turns)

    def answer(masker, fenv, photo):
        onnx._fenv = fenv
        photo = photo.copy()
        photo[0, 0] = time.monotonic_ns() % 251  # another picture to whatever keeps features
        masker(photo, ASKED[0])

    usual, photo = onnx._fenv, photos()[0]
    quick = ivm.load("compact", threads=1)
    answer(quick, usual, photo)  # sessions open as they will run
    slow = ivm.load("compact", threads=1)
    answer(slow, lambda: None, photo)
    compare(
        "the embedded model's answer",
        lambda: answer(slow, lambda: None, photo),
        lambda: answer(quick, usual, photo),
        8 * turns,
    )


if __name__ == "__main__":
    main()
