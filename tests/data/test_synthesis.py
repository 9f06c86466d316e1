from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivm.data import synthesis
from ivm.data.stream import ShardSet
from ivm.data.synthesis import Synthesis, stream, synthesize
from ivm.data.synthesis_spec import SynthesisSpec
from ivm.errors import DataError, OptionError, OutputError


@pytest.fixture
def spec(pack_folder, tmp_path):
    cutouts = tmp_path / "cutouts"
    cutouts.mkdir()
    for k, name in enumerate(("apple", "guitar", "saxophone")):
        pixels = np.zeros((40, 40, 4), np.uint8)
        pixels[4:36, 4:36] = (60 + 70 * k, 200 - 60 * k, 40, 255)
        Image.fromarray(pixels).save(cutouts / f"{name}.png")
    return SynthesisSpec(
        {"collage": 1, "photo": 1},
        size=64,
        instructions=3,
        photos=(str(pack_folder),),
        cutouts=(str(cutouts),),
        split="",
    )


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def same(a, b):
    return (
        a.uuid == b.uuid
        and a.instructions == b.instructions
        and np.array_equal(a.image, b.image)
        and np.array_equal(a.heatmap, b.heatmap)
    )


def test_a_sample_is_a_function_of_its_index(spec):
    with Synthesis(spec, 7) as one, Synthesis(spec, 7) as two:
        forward = [sample for k in range(6) for sample in one.samples(k)]
        backward = [sample for k in reversed(range(6)) for sample in reversed(two.samples(k))][::-1]
    assert all(same(a, b) for a, b in zip(forward, backward, strict=True))
    assert len({sample.uuid for sample in forward}) == 18
    assert {sample.source for sample in forward} == {"collage", "photo"}
    for sample in forward:
        assert sample.heatmap.dtype == bool
        assert bool(sample.targets) == sample.heatmap.any()
    photos = [sample for sample in forward if sample.source == "photo"]
    assert all(sample.image_id.startswith("shapes/") for sample in photos)  # splits go by the photo


def test_workers_share_the_stream_out_among_them(spec):
    whole = list(islice(stream(spec, 1), 24))
    parts = [iter(stream(spec, 1, start, 2)) for start in (0, 1)]
    joined = [next(parts[k // 3 % 2]) for k in range(24)]  # three samples a scene
    assert all(same(a, b) for a, b in zip(whole, joined, strict=True))


def test_kinds_and_manner_follow_the_spec(pack_folder):
    spec = SynthesisSpec(
        {"photo": 1},
        size=64,
        instructions=2,
        kinds=("colour",),
        polite=0,
        noise=0,
        photos=(str(pack_folder),),
        split="",
    )
    for sample in islice(stream(spec, 0), 20):
        assert sample.kind == "colour"
        assert "please" not in sample.instructions[0]


def test_a_store_is_the_same_for_any_number_of_workers(spec, tmp_path):
    done = []
    index = synthesize(spec, 50, 3, tmp_path / "a", 1, lambda *p: done.append(p), samples_per_shard=20)
    assert index.samples == 50
    assert done[-1] == (50, 50)
    assert [d for d, _ in done] == list(range(1, 51))
    synthesize(spec, 50, 3, tmp_path / "b", 2, samples_per_shard=20)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    stored, made = [*ShardSet(tmp_path / "a")], list(islice(stream(spec, 3), 50))
    for a, b in zip(stored, made, strict=True):
        assert (a.uuid, a.instructions, a.kind, a.targets) == (b.uuid, b.instructions, b.kind, b.targets)
        assert np.array_equal(a.heatmap, b.heatmap)
        assert np.abs(a.image.astype(int) - b.image).mean() < 6  # JPEG


@pytest.mark.parametrize("at", [5, 20, 33])
def test_an_interruption_changes_nothing(spec, tmp_path, at):
    class StopError(Exception):
        pass

    def stop(done, total):
        if done == at:
            raise StopError

    with pytest.raises(StopError):
        synthesize(spec, 50, 3, tmp_path / "a", 1, stop, samples_per_shard=10)
    assert not (tmp_path / "a" / "index.json").exists()
    made = []
    synthesize(spec, 50, 3, tmp_path / "a", 1, lambda done, total: made.append(done), samples_per_shard=10)
    assert len(made) == 50 - at // 10 * 10  # whole shards are not made again
    synthesize(spec, 50, 3, tmp_path / "b", samples_per_shard=10)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_stop_before_the_index_changes_nothing(spec, tmp_path):
    synthesize(spec, 20, 3, tmp_path / "a", samples_per_shard=10)
    whole = digests(tmp_path / "a")
    (tmp_path / "a" / "index.json").rename(tmp_path / "a" / ".ivm-7-0.json")
    (tmp_path / "a" / ".ivm-7-1.jsonl").touch()
    assert synthesize(spec, 20, 3, tmp_path / "a", samples_per_shard=10).samples == 20
    assert digests(tmp_path / "a") == whole
    assert not list((tmp_path / "a").glob(".*"))


def test_a_finished_store_is_left_alone(spec, tmp_path, monkeypatch):
    synthesize(spec, 9, 3, tmp_path / "a")
    monkeypatch.setattr(synthesis, "_scenes", None)  # would be needed to make anything
    assert synthesize(spec, 9, 3, tmp_path / "a").samples == 9


def test_another_job_does_not_get_mixed_in(spec, tmp_path):
    synthesize(spec, 9, 3, tmp_path / "a")
    with pytest.raises(DataError, match="already holds a finished store"):
        synthesize(spec, 9, 4, tmp_path / "a")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "letter.txt").write_text("dear ...")
    with pytest.raises(OutputError, match="no store"):
        synthesize(spec, 9, 3, tmp_path / "c")
    assert (tmp_path / "c" / "letter.txt").read_text() == "dear ..."


@pytest.mark.parametrize(("count", "seed", "workers"), [(0, 0, 1), (5, -1, 1), (5, 0, 0)])
def test_numbers_out_of_range_are_told(spec, tmp_path, count, seed, workers):
    with pytest.raises(OptionError, match="at least"):
        synthesize(spec, count, seed, tmp_path / "a", workers)


def test_kinds_that_fit_no_scene_are_told(pack_folder):
    spec = SynthesisSpec({"photo": 1}, size=64, kinds=("closest",), photos=(str(pack_folder),), split="")
    with pytest.raises(DataError, match="none of the 1 kinds"):
        next(stream(spec, 0))


def test_tabletop_scenes_come_too():
    pytest.importorskip("mujoco")
    spec = SynthesisSpec({"tabletop": 1}, size=64, instructions=2, tabletop={"shadows": False, "block": 10})
    with Synthesis(spec, 0) as one, Synthesis(spec, 0) as two:
        assert all(same(a, b) for a, b in zip(one.samples(3), two.samples(3), strict=True))
        assert one.samples(1)[0].source == "tabletop"
        assert one.samples(1)[0].provenance["view"] in ("side", "top", "wrist")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's list of child processes")
def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "s.toml").write_text("size = 64\n[shares]\ntabletop = 1\n[tabletop]\nshadows = false\n")
    code = (
        "from ivm.data.synthesis import synthesize; from ivm.data.synthesis_spec import read_spec\n"
        "if __name__ == '__main__': synthesize(read_spec('s.toml'), 10**5, 0, 'out', 2, None, 50)\n"
    )
    (tmp_path / "job.py").write_text(code)
    job = subprocess.Popen([sys.executable, "job.py"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/shard-*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    assert len(children) >= 2
    job.kill()
    job.wait()
    while any(_runs(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_runs(child) for child in children)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_what_is_wrong_with_the_sources_is_told_by_workers_too(pack_folder, tmp_path):
    (pack_folder / "annotations.json").write_text("{")
    spec = SynthesisSpec({"photo": 1.0}, photos=(str(pack_folder),))
    for workers in (1, 2):
        with pytest.raises(DataError, match="is not JSON"):
            synthesize(spec, 200, 0, tmp_path / str(workers), workers)
