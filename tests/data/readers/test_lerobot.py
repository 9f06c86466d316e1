"""A contract test: folders as LeRobot's documentation describes them, written here."""

from __future__ import annotations

import io
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from PIL import Image

from ivm.data.readers.lerobot import read_lerobot
from ivm.data.records import Report, samples
from ivm.errors import DataError, MissingExtraError, OptionError

CAMERA = "observation.images.front"
TASKS = ["pick up the red cup", "open the drawer"]


@pytest.fixture
def parquet():
    return pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is not installed: pip install 'ivm[robot-data]'"
    )


def table(rows):
    import pyarrow

    return pyarrow.Table.from_pylist(rows)


def colour(episode, frame):
    return (40 * episode + 10, 200 - 20 * frame, 60 + 15 * frame)


def frame_row(episode, frame, with_image):
    row = {"episode_index": episode, "frame_index": frame, "task_index": episode, "timestamp": frame / 10}
    if with_image:
        out = io.BytesIO()
        Image.new("RGB", (16, 8), colour(episode, frame)).save(out, "PNG")
        row[CAMERA] = {"bytes": out.getvalue(), "path": f"{frame}.png"}
    return row


def film(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for rgb in frames:
        writer.write(np.full((48, 64, 3), rgb[::-1], np.uint8))
    writer.release()


@pytest.fixture(params=["v2.1 images", "v2.1 film", "v3.0 film"])
def root(request, tmp_path, parquet):
    version, kind = request.param.split()
    home = tmp_path / "robot"
    (home / "meta").mkdir(parents=True)
    info = {
        "codebase_version": version,
        "fps": 10,
        "chunks_size": 1000,
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        if version == "v2.1"
        else "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {
            CAMERA: {"dtype": "image" if kind == "images" else "video"},
            "action": {"dtype": "float32"},
        },
    }
    (home / "meta" / "info.json").write_text(json.dumps(info))
    data = home / "data" / "chunk-000"
    data.mkdir(parents=True)
    rows = [[frame_row(e, f, kind == "images") for f in range(6)] for e in range(2)]
    if version == "v2.1":
        lines = [json.dumps({"task_index": k, "task": task}) for k, task in enumerate(TASKS)]
        (home / "meta" / "tasks.jsonl").write_text("\n".join(lines))
        for episode in range(2):
            parquet.write_table(table(rows[episode]), data / f"episode_{episode:06d}.parquet")
            if kind == "film":
                path = home / "videos" / "chunk-000" / CAMERA / f"episode_{episode:06d}.mp4"
                film(path, [colour(episode, f) for f in range(6)])
    else:
        tasks = [{"task_index": k, "__index_level_0__": task} for k, task in enumerate(TASKS)]
        parquet.write_table(table(tasks), home / "meta" / "tasks.parquet")
        parquet.write_table(table(rows[0] + rows[1]), data / "file-000.parquet")
        prefix = f"videos/{CAMERA}/"
        episodes = [
            {
                "episode_index": e,
                prefix + "chunk_index": 0,
                prefix + "file_index": 0,
                prefix + "from_timestamp": e * 0.6,
            }
            for e in range(2)
        ]
        (home / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        parquet.write_table(table(episodes), home / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
        path = home / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
        film(path, [colour(e, f) for e in range(2) for f in range(6)])
    return home


def test_frames_with_their_task(root):
    found = list(samples(read_lerobot(root, every="3")))
    assert [s.uuid for s in found] == [f"robot-00000{e}-00000{f}" for e in range(2) for f in (0, 3)]
    assert found[0].instructions == (TASKS[0],)
    assert found[3].instructions == (TASKS[1],)
    assert found[0].image_id == found[1].image_id != found[2].image_id
    assert found[0].heatmap is None
    for sample, (episode, frame) in zip(found, [(0, 0), (0, 3), (1, 0), (1, 3)], strict=True):
        assert np.abs(sample.image.mean(axis=(0, 1)) - colour(episode, frame)).max() < 6


def test_options_and_missing_films_are_told(root):
    with pytest.raises(OptionError, match="camera must be one of observation"):
        list(read_lerobot(root, camera="wrist"))
    with pytest.raises(OptionError, match="every must be"):
        list(read_lerobot(root, every="0"))
    for path in root.rglob("*.mp4"):
        path.unlink()
        report = Report()
        list(samples(read_lerobot(root), report))
        assert "film" in report.problems[0].reason


def test_another_version_is_refused(tmp_path, parquet):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "info.json").write_text('{"codebase_version": "v1.6"}')
    with pytest.raises(DataError, match=r"version 2 or 3, but is v1\.6"):
        list(read_lerobot(tmp_path))


def test_without_pyarrow_the_install_command_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[robot-data\]'"):
        list(read_lerobot(tmp_path))


def test_listing_tells_the_task(root):
    assert {entry.asks for entry in read_lerobot(root)} == {(task,) for task in TASKS}


def test_many_threads_read_one_film(root):
    listed = list(read_lerobot(root, every="1"))

    def mean(entry):
        (record,) = entry.load()
        return record.sample.image.mean(axis=(0, 1))

    with ThreadPoolExecutor(6) as pool:
        means = list(pool.map(mean, listed * 3))
    for found, (episode, frame) in zip(means, [(e, f) for e in range(2) for f in range(6)] * 3, strict=True):
        assert np.abs(found - colour(episode, frame)).max() < 6
