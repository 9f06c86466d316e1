"""How fast the full-size model is, with random weights: many instructions on one image, and many images.

    python runs/bench_full_size.py                 ivm-v1 on a GPU, which it needs
    python runs/bench_full_size.py --preset tiny   every step at tiny sizes on any machine: nothing to quote

many: one image of 1 megapixel with 8 instructions, encoded once, against 8 encodings of it (to be at least
4x). batch: 8 images with an instruction each in bfloat16, against the way of the reference code (to be at
least 2x): LMM in float16 over whole sequences, SAM in float32, and each heatmap brought to its image's size,
put through the sigmoid and taken to numpy by itself. Both go from arrays in memory to heatmaps; medians, and
the peak memory of each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ivm.masker import Masker
from ivm.models.checkpoint import assemble, runner_of
from ivm.models.full import FullModel
from ivm.models.full_presets import FULL_PRESETS, full_preset
from ivm.models.image_encoder import squash
from ivm.models.instruction_encoder import Tokenized
from ivm.models.ivm import IVMModel
from ivm.models.tiny import tiny_tokenizer, write_tiny

INSTRUCTIONS = [
    "pick up the red cup", "what time is it?", "the dog on the left", "open the top drawer",
    "how many chairs are there?", "the man in the blue shirt", "read the sign", "put the spoon on the plate",
]  # fmt: skip


def photos(count, height=864, width=1152):
    """Pictures of 1 megapixel, no two of them equal."""
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 256, (9, 12, 3)), np.ones((96, 96, 1))).astype(np.uint8)[:height, :width]
        for _ in range(count)
    ]


def build(preset, device, dtype, folder):
    """A model with random weights: one seed, so that every precision has the same ones but for rounding."""
    torch.manual_seed(0)
    if preset == "tiny":
        model = assemble(write_tiny(Path(folder) / "tiny"), runner_of(device.type, dtype))
        return model.eval()
    config = full_preset(preset)
    tokenizer = tiny_tokenizer()
    name = {"llava": "image_token_index"}.get(config.lmm["model_type"], "image_token_id")
    sign = "<|image_pad|>" if config.lmm["model_type"] == "qwen3_vl" else "<image>"
    config.lmm = {**config.lmm, name: tokenizer.convert_tokens_to_ids(sign)}
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            return IVMModel(config, tokenizer).eval().to(device, dtype)
    finally:
        torch.set_default_dtype(before)


def timed(device, work, repeats):
    """(median seconds, peak bytes on the device or None) of work(), after one run that does not count."""
    cuda = device.type == "cuda"
    work()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    seconds = []
    for _ in range(repeats):
        if cuda:
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), torch.cuda.max_memory_allocated(device) if cuda else None


@torch.inference_mode()
def by_the_reference(model, images, instructions):
    """Heatmaps as the reference code computes a batch of them."""
    device = model.mask_decoder.mask_tokens.weight.device
    encoder = model.instruction_encoder
    squares = [np.asarray(Image.fromarray(image).resize((model.pixel_side,) * 2)) for image in images]
    pixels = squash(squares, model.pixel_side, device)
    ids, lengths = encoder.tokens(instructions)
    hidden = encoder(pixels, Tokenized(ids.to(device), lengths), "generator", encoder.position)
    logits, _ = model.decode(model.image_encoder(pixels), encoder.text_proj(hidden))
    side = (model.config.upsampled or model.pixel_side,) * 2
    resize = torch.nn.functional.interpolate
    wide = resize(logits[:, None], side, mode="bilinear", align_corners=False)
    return [
        torch.sigmoid(resize(one[None], image.shape[:2], mode="bilinear", align_corners=False))[0, 0]
        .cpu()
        .numpy()
        .astype(np.float32)
        for one, image in zip(wide, images, strict=True)
    ]


def measure_many(model, device, repeats):
    """One image, 8 instructions: encoded once, and encoded for each."""
    image = photos(1)[0]
    once = Masker(FullModel.of(model, cache_images=0))
    good, peak = timed(device, lambda: once.batch([image], INSTRUCTIONS), repeats)
    bad, _ = timed(device, lambda: [once(image, text) for text in INSTRUCTIONS], repeats)
    return {
        "seconds once": good,
        "seconds each": bad,
        "ratio": bad / good,
        "limit": 4.0,
        "peak bytes": peak,
    }


def _ours(build_model, device, images, repeats):
    model = build_model(torch.bfloat16 if device.type == "cuda" else torch.float32)
    masker = Masker(FullModel.of(model, cache_images=0))
    return timed(device, lambda: masker.batch(images, INSTRUCTIONS), repeats)


def measure_batch(build_model, device, repeats):
    """8 images: ours, and the reference's way, one model in memory at a time."""
    images = photos(len(INSTRUCTIONS))
    good, peak = _ours(build_model, device, images, repeats)
    if device.type == "cuda":
        torch.cuda.empty_cache()
    model = build_model(torch.float16 if device.type == "cuda" else torch.float32)
    model.image_encoder.float()
    model.mask_decoder.float()
    model.instruction_encoder.text_proj.float()
    bad, bad_peak = timed(device, lambda: by_the_reference(model, images, INSTRUCTIONS), repeats)
    return {
        "seconds ours": good, "seconds of the reference": bad, "ratio": bad / good, "limit": 2.0,
        "peak bytes": peak, "peak bytes of the reference": bad_peak,
    }  # fmt: skip


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="ivm-v1", choices=[*FULL_PRESETS, "tiny"])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each; the median counts")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    given = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and given.preset != "tiny":
        print(f"skipped: {given.preset} is measured on a CUDA GPU, and torch sees none; try --preset tiny")
        return 0
    with tempfile.TemporaryDirectory() as folder:

        def build_model(dtype):
            return build(given.preset, device, dtype, folder)

        model = build_model(torch.bfloat16 if device.type == "cuda" else torch.float32)
        report = {"many": measure_many(model, device, given.repeats)}
        del model
        report["batch"] = measure_batch(build_model, device, given.repeats)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{given.preset} with random weights on {name}, torch {torch.__version__}")
    for part, figures in report.items():
        missed = figures["ratio"] < figures["limit"]
        verdict = "" if given.preset == "tiny" else "  MISSED" if missed else "  met"
        print(f"{part}: {figures['ratio']:.2f}x (to be at least {figures['limit']:g}x){verdict}")
        for key, value in figures.items():
            if value is not None and key not in ("ratio", "limit"):
                print(f"  {key:<28}" + (f"{value / 1e9:8.2f} GB" if "bytes" in key else f"{value:8.3f}"))
    if given.json:
        given.json.write_text(json.dumps({"device": name, "preset": given.preset, **report}, indent=1) + "\n")
    missed = any(figures["ratio"] < figures["limit"] for figures in report.values())
    return int(missed and given.preset != "tiny")


if __name__ == "__main__":
    sys.exit(main())
