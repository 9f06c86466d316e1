"""The data room's promises, measured: reading speed, memory, verification, and conversions that are killed.

    IVM_DATA=folder-of-packs python runs/bench_data.py [--samples N] [--many N] [--json FILE] [--check]

1. stream   samples a second of one core's time, of a store and of JSON lines + JPEG files normalised at every
            read (the form of IVM-Mix-1M), taking turns within one run, at equal output size and with the
            reference's augmentation, a random resized crop. The files are read in two ways: with the calls of
            the reference reader, and with the decoders and the crop that the store uses. Stores and files
            twice: as they are, at 192 (the embedded model's), 256 and 1024 (the reference's) pixels, and both
            shrunk to 384 pixels
2. memory   peak memory of processes that read 1,000 samples, and --many
3. verify   seconds for every byte and pixel of --samples samples
4. restart  a conversion of --many samples, killed at random moments: are its shards the same bytes?

Works in a temporary folder (about 2 GB at the defaults), on the photos of the packs. `--check` makes a figure
that misses its limit an error. Needs the extras `data` and `train`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from benchmark import busy_share, machine
from ivm.data.layout import Encoding, decode_image, scale_pixels
from ivm.data.packs import data_folder, read_pack
from ivm.data.readers import entries
from ivm.data.readers.ivm_mix import normalise_heatmap
from ivm.data.shards import write_shards
from ivm.data.stream import ShardStream
from ivm.data.transforms import Augment, limit_sides
from ivm.data.verify import verify
from ivm.types import Sample

SMALL = 384
VERDICT = {True: "kept", False: "MISSED", None: ""}
PARTS = ("stream", "memory", "verify", "restart")


def write_mix(root: Path, count: int, packs: Path) -> None:
    """`count` samples in the form of IVM-Mix-1M's human part: JSON lines, img_*.jpg, mask_*.jpg.

    The packs' photos are small; they are enlarged to COCO's 640 pixels along the longer side.
    """
    root.mkdir(parents=True)
    photos = [p for name in ("voc", "coco", "clothing") for p in read_pack(packs / name).photos if p.regions]
    random.Random(0).shuffle(photos)
    with (root / "human.jsonl").open("w") as lines:
        for number in range(count):
            photo = photos[number % len(photos)]
            region = photo.regions[number // len(photos) % len(photo.regions)]
            scale = 640 / max(photo.width, photo.height)
            size = (round(photo.width * scale), round(photo.height * scale))
            image = cv2.resize(photo.image(), size, interpolation=cv2.INTER_CUBIC)
            mask = cv2.resize(region.mask().astype(np.uint8) * 160, size, interpolation=cv2.INTER_LINEAR)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(root / f"img_{number:06d}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
            cv2.imwrite(str(root / f"mask_{number:06d}.jpg"), cv2.GaussianBlur(mask, (9, 9), 0))
            texts = [f"the {region.name}", f"find the {region.name}"]
            lines.write(json.dumps({"uuid": f"{number:06d}", "instruction": texts}) + "\n")


def shrink_mix(root: Path, small: Path, longest: int) -> None:
    """The same samples with pictures and heatmaps scaled down, in the same form and JPEG quality."""
    small.mkdir()
    shutil.copy(root / "human.jsonl", small)
    for file in root.glob("*.jpg"):
        pixels = cv2.imread(str(file))
        scale = min(1.0, longest / max(pixels.shape[:2]))
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(small / file.name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])


def read_as_published(root: Path, lines: list[str], size: int):
    """Views, made with the calls of the reference reader: Pillow, OpenCV for the heatmap, torchvision's crop.

    Torchvision is not needed: below are the two calls that its `resized_crop` comes down to, antialiased as
    since its version 0.17 (the reference names no version, but wants a transformers later than that).
    """
    for line in lines:
        item = json.loads(line)
        content = (root / f"img_{item['uuid']}.jpg").read_bytes()
        image = Image.open(io.BytesIO(content)).convert("RGB")
        grey = cv2.cvtColor(cv2.imread(str(root / f"mask_{item['uuid']}.jpg")), cv2.COLOR_RGB2GRAY)
        grey = cv2.convertScaleAbs(grey, alpha=1.5, beta=0)
        heatmap = torch.from_numpy((grey - grey.min()) / (grey.max() - grey.min()))
        x, y, w, h = crop_as_published(image.width, image.height)
        view = image.crop((x, y, x + w, y + h)).resize((size, size), Image.Resampling.BILINEAR)
        part = heatmap[None, None, y : y + h, x : x + w]
        part = torch.nn.functional.interpolate(part, (size, size), mode="bilinear", antialias=True)
        yield (view, part.squeeze()), random.choice(item["instruction"])


def crop_as_published(width: int, height: int) -> tuple[int, int, int, int]:
    """(x, y, width, height) of a random crop, as torchvision draws it (0.8 to 1 of the area)."""
    for _ in range(10):
        area = width * height * random.uniform(0.8, 1.0)
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if w <= width and h <= height:
            return random.randint(0, width - w), random.randint(0, height - h), w, h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side


def read_quickly(root: Path, lines: list[str], augment: Augment):
    """Views of the same files, made with the decoders and the augmentation that the store uses."""
    for number, line in enumerate(lines):
        item = json.loads(line)
        image = decode_image({"jpg": (root / f"img_{item['uuid']}.jpg").read_bytes()}, augment.least)
        heatmap = normalise_heatmap(cv2.imread(str(root / f"mask_{item['uuid']}.jpg")))
        heatmap = scale_pixels(heatmap, image.shape[:2])
        yield augment(Sample(item["uuid"], image, tuple(item["instruction"]), heatmap, "mix"), number)


def stream(work: Path, store: str, files: str, size: int, piece: int, turns: int = 8) -> dict[str, float]:
    """Samples a second of one core's time, of a store and of files: medians over turns of `piece` samples,
    one after the other; and the medians of the store's ratios to them.

    Both read in one thread, so that on a quiet machine it is the time of day; elsewhere it leaves others out.
    """
    augment = Augment(size=size, flip=0.0, colour=0.0)
    lines = (work / files / "human.jsonl").read_text().splitlines()
    random.Random(1).shuffle(lines)
    views = iter(ShardStream(work / store, least=augment.least, transform=augment))
    rates: dict[str, list[float]] = {"store": [], "reference": [], "quick": []}
    for turn in range(turns + 1):
        mine = lines[turn * piece : (turn + 1) * piece]
        for name, sink in rates.items():
            begin = time.process_time()
            if name == "store":
                read = islice(views, piece)
            elif name == "quick":
                read = read_quickly(work / files, mine, augment)
            else:
                read = read_as_published(work / files, mine, size)
            assert sum(1 for _ in read) == piece
            if turn:  # the first one opens files and fills caches
                sink.append(piece / (time.process_time() - begin))
    result = {name: statistics.median(values) for name, values in rates.items()}
    for name in ("reference", "quick"):
        ratios = [a / b for a, b in zip(rates["store"], rates[name], strict=True)]
        result[f"to {name}"] = statistics.median(ratios)
    return result


READ = """
import sys, pathlib
from ivm.data.stream import ShardStream
from ivm.data.transforms import Augment, limit_sides
stream = ShardStream(sys.argv[1], transform=Augment(size=64))
count = sum(1 for _ in stream)
peak = pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
print(count, peak)
"""


def peak_megabytes(store: Path) -> float:
    answer = subprocess.run(
        [sys.executable, "-c", READ, str(store)], check=True, capture_output=True, text=True
    )
    return int(answer.stdout.split()[1]) * 1024 / 1e6


def write_table(root: Path, count: int) -> None:
    """A folder with a table of `count` rows about 200 small pictures and masks."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(200):
        cv2.imwrite(str(root / f"{i}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
        mask = np.zeros((48, 64), np.uint8)
        cv2.circle(mask, (int(rng.integers(64)), int(rng.integers(48))), 9, 255, -1)
        mask[0, 0] = 255
        cv2.imwrite(str(root / f"{i}_mask.png"), mask)
    with (root / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "instruction", "mask", "uuid"])
        for n in range(count):
            i = n * 7919 % 200
            rows.writerow([f"{i}.png", f"the thing number {n}", f"{i}_mask.png", f"row-{n}"])


def convert(source: Path, store: Path) -> subprocess.Popen[bytes]:
    command = [
        str(Path(sys.executable).with_name("ivm")),
        "data",
        "convert",
        "csv",
        str(source),
        "-o",
        str(store),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(store: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.iterdir())
        if not file.name.startswith(".")
    }


def restart(work: Path, kills: int = 3) -> tuple[float, int, bool]:
    """(seconds undisturbed, times killed, whether all files are the same bytes)."""
    begin = time.perf_counter()
    assert convert(work / "table", work / "whole").wait() == 0
    seconds = time.perf_counter() - begin
    rng, killed = random.Random(), 0
    while killed < kills:
        process = convert(work / "table", work / "killed")
        try:
            process.wait(timeout=rng.uniform(0.1, 0.6) * seconds)
            break  # it was faster than the first
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            killed += 1
    assert convert(work / "table", work / "killed").wait() == 0
    return seconds, killed, digests(work / "whole") == digests(work / "killed")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=10_000, help="of stream and verify (default 10000)")
    parser.add_argument("--many", type=int, default=100_000, help="of memory and restart (default 100000)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="which parts; default all")
    parser.add_argument("--workers", type=int, default=2, help="processes of verify")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure misses its limit")
    options = parser.parse_args()
    packs = data_folder()
    if packs is None and {"stream", "verify"} & set(options.only):
        parser.error("IVM_DATA must name the folder of the packs")
    busy = busy_share()
    if busy > 0.1:
        print(f"other processes use {busy:.0%} of this machine: its times say little", file=sys.stderr)
    cv2.setNumThreads(1)
    rows: list[tuple[str, str, str, bool | None]] = []  # figure, measured, limit, kept
    with tempfile.TemporaryDirectory(prefix="ivm-bench-") as folder:
        work = Path(folder)
        if packs is not None and {"stream", "verify"} & set(options.only):
            write_mix(work / "mix", options.samples, packs)
            write_shards(entries("ivm-mix", work / "mix"), work / "store", {"reader": "ivm-mix"})
            shrink_mix(work / "mix", work / "mix-small", SMALL)
            small = limit_sides(entries("ivm-mix", work / "mix"), SMALL)
            jpeg = Encoding(image_format="jpeg", quality=90)
            write_shards(small, work / "small", {"reader": "ivm-mix", "max_side": SMALL}, encoding=jpeg)
        if {"memory", "restart"} & set(options.only):
            write_table(work / "table", options.many)
        if "stream" in options.only:
            torch.set_num_threads(1)
            piece = min(400, options.samples // 9)
            for store, files, size, title in (
                ("store", "mix", 192, "as converted"),
                ("store", "mix", 256, "as converted"),
                ("store", "mix", 1024, "as converted"),
                ("small", "mix-small", 256, f"both at {SMALL}"),
            ):
                rates = stream(work, store, files, size, piece if size < 1024 else piece // 2)
                for name, other in (("reference", "the reference's reader"), ("quick", "our quickest")):
                    ratio = rates[f"to {name}"]
                    told = f"{rates['store']:.0f} against {rates[name]:.0f} samples/s: {ratio:.2f} times"
                    kept = ratio >= 2.0 if name == "reference" else None
                    rows.append(
                        (
                            f"stream at {size} px, {title}, to {other}",
                            told,
                            "2 times" if kept is not None else "",
                            kept,
                        )
                    )
        if "verify" in options.only:
            begin = time.perf_counter()
            verified = verify(work / "store", workers=options.workers)
            seconds = time.perf_counter() - begin
            assert not verified.problems, verified.problems[:3]
            told = f"{seconds:.1f} s ({verified.bytes / 1e6:.0f} MB)"
            kept = seconds * 10_000 / options.samples < 60
            rows.append(
                (f"verify, {verified.samples:,} samples, {options.workers} processes", told, "60 s", kept)
            )
        if "restart" in options.only:
            seconds, killed, same = restart(work)
            bytes_ = "the same" if same else "OTHER"
            told = f"killed {killed} times: {bytes_} bytes ({seconds:.0f} s in one go)"
            rows.append((f"conversion, {options.many:,} samples", told, "the same bytes", same))
        if "memory" in options.only:
            write_table(work / "few", 1000)
            for source in ("few", "table"):
                write_shards(entries("csv", work / source), work / f"{source}-store", {"reader": "csv"})
            few, many = peak_megabytes(work / "few-store"), peak_megabytes(work / "table-store")
            told = f"{few:.0f} and {many:.0f} MB: {many / few:.2f} times"
            rows.append(
                (f"peak memory, 1,000 and {options.many:,} samples", told, "1.10 times", many <= 1.1 * few)
            )
    print(f"{machine()}, {date.today():%Y-%m}")
    for name, told, limit, kept in rows:
        print(f"{name:60} {told:54} {limit:15} {VERDICT[kept]}")
    if options.json:
        report = {
            "machine": machine(), "date": f"{date.today():%Y-%m}", "command": " ".join(sys.argv),
            "busy_before": f"{busy:.0%} of the cores used by other processes",
            "figures": [dict(zip(("name", "measured", "limit", "kept"), row, strict=True)) for row in rows],
        }  # fmt: skip
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return int(options.check and any(kept is False for *_, kept in rows))


if __name__ == "__main__":
    sys.exit(main())
