"""Speed, memory and size of the embedded model, beside what the project promises.

    python runs/benchmark.py [--only speed|start|memory|size ...] [--json FILE] [--check]

Prints one table and, with --json, writes it. `--check` makes a figure that misses its limit an error.
Times are medians on two CPU threads; the two models that are compared take turns within one run, so that
whatever else the machine does meets both. CLIPSeg has its published size (ViT patch 16, 352 px) and random
weights: the time does not depend on them. Needs the extra `full` for CLIPSeg; "size" needs nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

THREADS = 2
INSTRUCTION, SECOND = "the cup of coffee", "where is the spoon?"
PARTS = ("size", "memory", "start", "speed")  # memory and start first: torch is not loaded yet


@dataclass(frozen=True)
class Figure:
    """One measured number, its unit, and the largest that the project allows (None: for information)."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def kept(self) -> bool:
        return self.limit is None or self.value <= self.limit


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="which parts; default all")
    parser.add_argument(
        "--repeats", type=int, default=30, help="timed calls of each kind in speed (default 30)"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure misses its limit")
    options = parser.parse_args()

    busy = busy_share()
    if busy > 0.1:
        print(f"other processes use {busy:.0%} of this machine: its times say little", file=sys.stderr)
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        small, large = (None, None) if tuple(options.only) == ("size",) else write_pictures(Path(folder))
        for part in PARTS:
            if part not in options.only:
                continue
            if part == "size":
                figures += size()
            elif part == "memory":
                figures += memory(small, large)
            elif part == "start":
                figures += start(small)
            else:
                figures += speed(small, options.repeats)
    show(figures)
    if options.json:
        report = {"machine": machine(), "date": f"{date.today():%Y-%m}", "command": " ".join(sys.argv)}
        report["busy_before"] = f"{busy:.0%} of the cores used by other processes"
        options.json.write_text(
            json.dumps(report | {"figures": [asdict(f) for f in figures]}, indent=2) + "\n"
        )
    return int(options.check and not all(figure.kept for figure in figures))


def write_pictures(folder: Path) -> tuple[Path, Path]:
    """A bundled photo at 640x480, and enlarged to 12 megapixels, as JPEG files in `folder`."""
    from importlib.resources import files

    from PIL import Image

    with Image.open(str(files("ivm") / "assets" / "coffee.jpg")) as image:
        photo = image.convert("RGB")
    paths = folder / "small.jpg", folder / "large.jpg"
    for path, sides in zip(paths, [(640, 480), (4000, 3000)], strict=True):
        photo.resize(sides, Image.Resampling.BICUBIC).save(path, quality=92)
    return paths


def size() -> list[Figure]:
    """The files of ivm, weights included, and of all that its core dependencies install."""
    total, names = installed_bytes("ivm")
    return [Figure(f"installed core ({len(names)} packages)", total / 1e6, "MB", 480)]


def installed_bytes(package: str) -> tuple[int, set[str]]:
    """Bytes on disk of `package` and everything it requires without extras, and those packages' names."""
    waiting, seen, total = [package], set[str](), 0
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # required on another platform only
        seen.add(name)
        paths = {Path(str(distribution.locate_file(file))) for file in distribution.files or []}
        if name == "ivm":  # in an editable install the files are those of the source tree
            paths |= {
                path for path in Path(__file__).parents[1].glob("src/ivm/**/*") if is_editable(distribution)
            }
        total += sum(path.stat().st_size for path in paths if path.is_file())
        waiting += [requirement_name(text) for text in distribution.requires or [] if "extra ==" not in text]
    return total, seen


def is_editable(distribution: metadata.Distribution) -> bool:
    return '"editable": true' in (distribution.read_text("direct_url.json") or "")


def requirement_name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return found[0]


def memory(small: Path, large: Path) -> list[Figure]:
    """Peak resident memory of fresh processes that read, mask, render and write one picture."""
    return [
        Figure("peak memory, 640x480", peak_bytes(small) / 1e6, "MB", 400),
        Figure(
            "peak memory, 12 megapixels with tiles", peak_bytes(large, "--tiles", "auto") / 1e6, "MB", 1000
        ),
    ]


def peak_bytes(picture: Path, *options: str) -> int:
    # VmHWM and not ru_maxrss: that one also remembers the process which started this one.
    code = (
        "import sys, pathlib\n"
        "from ivm.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "print('peak', pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
    )
    arguments = ["mask", str(picture), INSTRUCTION, "--output", str(picture.with_suffix(".png")), *options]
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return int(re.findall(r"peak (\d+)", answer.stdout)[-1]) * 1024


def start(small: Path) -> list[Figure]:
    """Wall time of `ivm mask`, from the start of the process to the end, the masked picture written."""
    command = [str(Path(sys.executable).with_name("ivm")), "mask", str(small), INSTRUCTION, "--output"]

    def once() -> None:
        output = small.with_name("start.png")
        subprocess.run([*command, str(output)], env=environment(), check=True, capture_output=True)
        assert output.exists()
        output.unlink()

    once()  # fills the file cache
    return [
        Figure("`ivm mask`, process start to file written", statistics.median(timed(once, 10)), "ms", 1000)
    ]


def speed(small: Path, repeats: int) -> list[Figure]:
    """One picture, and a second instruction on it, beside CLIPSeg."""
    import cv2
    import numpy as np

    import ivm
    from ivm.images import read_image

    image = read_image(small)
    masker = ivm.load("compact", device="cpu", threads=THREADS)
    cv2.setNumThreads(THREADS)
    features = masker.encode_image(image)

    def whole() -> np.ndarray:
        return ivm.render(image, masker(image, INSTRUCTION), mode="overlay").image

    # It stands beside no other model: timed before torch is loaded, each right after a first instruction.
    after_first = []
    for _ in range(repeats):
        masker(features, INSTRUCTION)
        begin = time.perf_counter()
        masker(features, SECOND)
        after_first.append((time.perf_counter() - begin) * 1e3)
    # A person does not ask at once: after a pause the threads sleep and the caches hold other things.
    after_pause = timed(lambda: masker(features, SECOND), repeats)

    clipseg = load_clipseg()
    tasks: dict[str, Callable[[], object]] = {"whole": whole, "clipseg": lambda: clipseg(image)}
    for task in tasks.values():
        task()
        task()
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            times[name] += timed(task, 1)
    median = {name: statistics.median(values) for name, values in times.items()}
    return [
        Figure("end to end, 640x480: heatmap and rendered picture", median["whole"], "ms", 60),
        Figure("CLIPSeg, 640x480: heatmap", median["clipseg"], "ms"),
        Figure("end to end as a share of CLIPSeg", median["whole"] / median["clipseg"], "", 1 / 8),
        Figure("second instruction on the same features", statistics.median(after_first), "ms", 15),
        Figure("the same after a pause of 30 ms", statistics.median(after_pause), "ms"),
    ]


def load_clipseg() -> Callable[..., object]:
    """A function from an image to CLIPSeg's heatmap at the image's size."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # it would tell that it prepares images with PIL
    from transformers import CLIPSegConfig, CLIPSegForImageSegmentation, ViTImageProcessor

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = CLIPSegForImageSegmentation(
        CLIPSegConfig(vision_config={"patch_size": 16, "image_size": 352}, reduce_dim=64)
    ).eval()
    processor = ViTImageProcessor(size={"height": 352, "width": 352})
    tokens_BT = torch.tensor([[49406, 320, 1937, 539, 2453, 49407]])  # as long as INSTRUCTION; any words do

    def heatmap(image: object) -> object:
        with torch.inference_mode():
            pixels = processor(images=image, return_tensors="pt")["pixel_values"]
            logits = model(input_ids=tokens_BT, pixel_values=pixels).logits.reshape(1, 1, 352, 352)
            height, width = image.shape[:2]  # type: ignore[attr-defined]
            return torch.nn.functional.interpolate(logits, (height, width), mode="bilinear").sigmoid().numpy()

    return heatmap


def timed(task: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each call. The pause lets threads of the other runtime, which spin, go to sleep."""
    times = []
    for _ in range(repeats):
        time.sleep(0.03)
        begin = time.perf_counter()
        task()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(THREADS)}


def busy_share(seconds: float = 2.0) -> float:
    """Share of the cores that others use now, measured over some seconds; 0 where it is not told."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def ticks() -> list[int]:
        return [int(value) for value in stat.read_text().splitlines()[0].split()[1:9]]

    before = ticks()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(ticks(), before, strict=True)]
    return 1 - (spent[3] + spent[4]) / max(1, sum(spent))  # idle, and waiting for a disk


def machine() -> str:
    """What kind of machine this is, without its name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE)
        model = found[1] if found else model
    return f"{os.cpu_count()} cores, {model}, {platform.system()}, Python {platform.python_version()}"


def show(figures: list[Figure]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"ivm on {machine()}", title_justify="left")
    for heading in ("figure", "measured", "at most", ""):
        table.add_column(heading, justify="left" if heading in ("figure", "") else "right")
    for figure in figures:
        digits = 3 if not figure.unit else 1
        limit = "" if figure.limit is None else f"{figure.limit:.{digits}f} {figure.unit}"
        verdict = "" if figure.limit is None else "kept" if figure.kept else "MISSED"
        table.add_row(figure.name, f"{figure.value:.{digits}f} {figure.unit}", limit, verdict)
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
