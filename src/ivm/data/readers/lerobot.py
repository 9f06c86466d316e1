"""Robot episodes in LeRobot's form, as Open X-Embodiment is also published: frames with a task.

Publisher's description: https://huggingface.co/docs/lerobot/lerobot-dataset-v3 (meta/info.json with
`codebase_version`, `features`, `data_path`, `video_path`; v2: one Parquet and MP4 file an episode and
meta/tasks.jsonl; v3: several episodes a file, meta/tasks.parquet and meta/episodes/). Parquet is read by
pyarrow, MP4 by OpenCV. Checked against folders written by our tests to that description, not yet against
published ones.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivm.data.readers.files import below
from ivm.data.records import Entry, Record, get, read_json, read_lines
from ivm.errors import DataError, ImageError, OptionError, require
from ivm.images import read_image
from ivm.types import Sample

__all__ = ["read_lerobot"]


@dataclass
class _Source:
    root: Path
    name: str
    camera: str
    fps: float
    info: Mapping[str, Any]
    tasks: Mapping[int, str]
    films: dict[Path, tuple[cv2.VideoCapture, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)  # of the films: a decoder is for one thread


def read_lerobot(root: Path, camera: str = "", every: str = "10", source: str = "") -> Iterator[Entry]:
    """One entry a frame.

    Args:
        root: folder of meta/, data/ and, with films, videos/.
        camera: a feature such as "observation.images.front"; without it, the first of images or videos.
        every: take each n-th frame of an episode, from its first.
        source: name of the data set in the samples; without it, the folder's.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: the folder is no LeRobot data set of version 2 or 3.
        OptionError: the camera does not exist, or `every` is no positive whole number.
    """
    parquet = require("pyarrow.parquet", "robot-data")
    if not str(every).isdigit() or int(every) < 1:
        raise OptionError(f"every must be a positive whole number, but got {every!r}")
    info = read_json(root / "meta" / "info.json")
    version = get(info, "codebase_version", str)
    if not version.startswith(("v2", "v3")):
        raise DataError(f"{root} must be a LeRobot data set of version 2 or 3, but is {version}")
    features = get(info, "features", dict)
    cameras = [
        key
        for key, one in features.items()
        if isinstance(one, dict) and one.get("dtype") in ("image", "video")
    ]
    camera = camera or (cameras[0] if cameras else "")
    if camera not in cameras:
        raise OptionError(f"camera must be one of {', '.join(cameras) or '(none)'}, but got {camera!r}")
    tasks = _tasks(root, version, parquet)
    fps = float(get(info, "fps", (int, float)))
    place = _Source(root, source or root.resolve().name, camera, fps, info, tasks)
    starts = _starts(root, version, parquet, camera) if features[camera]["dtype"] == "video" else {}
    paths = sorted((root / "data").rglob("*.parquet"))
    if not paths:
        raise DataError(f"{root} must hold data/**/*.parquet, but has none")
    columns = ["episode_index", "frame_index", "task_index", "timestamp"]
    stored = features[camera]["dtype"] == "image"
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            table = parquet.ParquetFile(path)
            batches = table.iter_batches(batch_size=256, columns=columns + ([camera] if stored else []))
            row = 0
            for batch in batches:
                for item in batch.to_pylist():
                    row += 1
                    if item["frame_index"] % int(every) == 0:
                        text = tasks.get(item["task_index"])
                        load = partial(_load, item, place, starts, stored)
                        yield Entry(name, f"row {row}", load, (text,) if text else None)
        except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's own are among these
            raise DataError(f"{path} cannot be read as LeRobot's frames: {error}") from error


def _tasks(root: Path, version: str, parquet: Any) -> dict[int, str]:
    if version.startswith("v2"):
        rows = dict(read_lines(root / "meta" / "tasks.jsonl"))
        if any(isinstance(row, DataError) for row in rows.values()):
            raise DataError(f"{root}/meta/tasks.jsonl is malformed")
        return {get(row, "task_index", int): get(row, "task", str) for row in rows.values()}
    path = root / "meta" / "tasks.parquet"
    try:
        table = parquet.read_table(path).to_pydict()
        numbers = table.pop("task_index")
        texts = next(
            iter(table.values())
        )  # pandas stores the index, the text, as "task" or "__index_level_0__"
        return dict(zip(numbers, texts, strict=True))
    except (OSError, KeyError, StopIteration, ValueError) as error:
        raise DataError(f"{path} must have task_index and a text, but cannot be read: {error!r}") from error


def _starts(root: Path, version: str, parquet: Any, camera: str) -> dict[int, tuple[int, int, float]]:
    """Episode -> (chunk, file, second at which it starts in that film), of version 3."""
    if version.startswith("v2"):
        return {}
    prefix = f"videos/{camera}/"
    columns = ["episode_index", *(prefix + key for key in ("chunk_index", "file_index", "from_timestamp"))]
    found = {}
    for path in sorted((root / "meta" / "episodes").rglob("*.parquet")):
        try:
            for row in parquet.read_table(path, columns=columns).to_pylist():
                found[row[columns[0]]] = (row[columns[1]], row[columns[2]], float(row[columns[3]]))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{path} must have {', '.join(columns)}: {error}") from error
    return found


def _load(
    item: dict[str, Any], place: _Source, starts: Mapping[int, tuple[int, int, float]], stored: bool
) -> Iterator[Record]:
    episode, frame = item["episode_index"], item["frame_index"]
    text = place.tasks.get(item["task_index"])
    if text is None:
        raise DataError(f"refers to an unknown task {item['task_index']}")
    file = None
    if stored:
        file = (item[place.camera] or {}).get("bytes")
        if not file:
            raise DataError(f"{place.camera} must hold the bytes of an image, but does not")
        try:
            image = read_image(file)
        except ImageError as error:
            raise DataError(f"{place.camera}: {error}") from error
    else:
        with place.lock:
            image = _from_film(place, episode, frame, float(item["timestamp"]), starts)
    sample = Sample(
        f"{place.name}-{episode:06d}-{frame:06d}",
        image,
        (text,),
        None,
        place.name,
        human=False,
        image_id=f"{place.name}/episode-{episode:06d}",  # neighbouring frames never part into two splits
        kind="command",
        provenance={"episode": episode, "frame": frame, "camera": place.camera},
    )
    yield Record(sample, file)


def _from_film(
    place: _Source, episode: int, frame: int, second: float, starts: Mapping[int, tuple[int, int, float]]
) -> np.ndarray:
    if starts:
        if episode not in starts:
            raise DataError(f"episode {episode} is not in meta/episodes")
        chunk, number, first = starts[episode]
        keys = {"video_key": place.camera, "chunk_index": chunk, "file_index": number}
        wanted = round((first + second) * place.fps)
    else:
        chunk = episode // int(place.info.get("chunks_size", 1000))
        keys = {"video_key": place.camera, "episode_chunk": chunk, "episode_index": episode}
        wanted = frame
    path = below(place.root, get(place.info, "video_path", str).format(**keys))
    if path not in place.films:
        for film, _ in place.films.values():
            film.release()
        place.films.clear()
        if not path.exists():
            raise DataError(f"the film {path.relative_to(place.root)} is missing")
        place.films[path] = (cv2.VideoCapture(str(path)), 0)
    film, at = place.films[path]
    if wanted < at:  # going back: from the beginning, because seeking is not exact in every film
        film.release()
        film, at = cv2.VideoCapture(str(path)), 0
    while at < wanted and film.grab():
        at += 1
    good, bgr = film.read()
    place.films[path] = (film, at + 1)
    if not good or at != wanted:
        raise DataError(f"the film {path.relative_to(place.root)} has no frame {wanted}")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
