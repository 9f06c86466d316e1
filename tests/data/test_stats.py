from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ivm.data.measure import measure
from ivm.data.stats import AREA_BINS, draw_areas, summarise, write_statistics
from ivm.data.stream import ShardReader
from ivm.errors import OutputError
from ivm.types import Sample


@pytest.fixture
def plain(make_store, scenery):
    """One measured sample, to be varied."""
    mask = np.zeros((48, 64), bool)
    mask[:24] = True
    (one,) = measure(
        ShardReader(make_store([Sample("a", scenery(0), ("the cup",), mask, "x", kind="category")]))
    )
    return one


def many(one, areas, source="x"):
    return [
        replace(one, uuid=f"{source}{k}", area=float(area), image_id=f"{source}{k}", source=source, hash=b"")
        for k, area in enumerate(areas)
    ]


def smooth(count=4000):
    return np.random.default_rng(0).beta(0.6, 2.5, count)


def test_counts(plain):
    other = replace(plain, uuid="b", area=None, kind="", texts=("the cup", "a dog"), words=7, targets=2)
    found = summarise([plain, other])
    assert (found.samples, found.images, found.without_heatmap) == (2, 1, 1)
    assert found.kinds == {"category": 1, "unknown": 1}
    assert found.words == {2: 1, 7: 1}
    assert found.instructions == 1.5
    assert found.repeated_texts == (("the cup", 2),)
    assert found.repeated_annotations == 1
    areas = found.areas["x, human"]
    assert (len(areas), sum(areas), areas[AREA_BINS // 2]) == (AREA_BINS, 1, 1)


def test_an_even_slope_has_no_bump(plain):
    assert summarise(many(plain, smooth())).bumps == ()
    assert summarise(many(plain, np.random.default_rng(0).random(300))).bumps == ()


@pytest.mark.parametrize(("low", "high"), [(0.97, 1.0), (0.50, 0.52), (1.0, 1.0)])
def test_a_bump_is_named_with_its_samples(plain, low, high):
    extra = np.random.default_rng(1).uniform(low, high, 150)
    found = summarise(many(plain, smooth()) + many(plain, extra, "y") + many(plain, [*smooth(), *extra], "z"))
    bump = next(b for b in found.bumps if b.source == "z, human")
    assert bump.low <= low + 1e-9
    assert bump.high >= high - 0.021
    assert 140 <= bump.samples - bump.expected <= 160
    assert {f"z{k}" for k in range(4000, 4150)} <= set(bump.uuids)
    assert not any(b.source == "x, human" for b in found.bumps)


def test_look_alike_pictures_are_listed(plain):
    twin = replace(plain, uuid="b", image_id="other")
    assert summarise([plain, twin]).look_alike_images == (("a", "other"),)


def test_files_are_written(plain, tmp_path):
    pytest.importorskip("matplotlib")
    found = summarise(many(plain, [*smooth(), *[0.99] * 200]))
    names = [path.name for path in write_statistics(found, tmp_path / "s", "all")]
    assert names == ["stats.json", "areas.png", "instructions.png", "bumps.jsonl"]
    content = json.loads((tmp_path / "s" / "stats.json").read_text())
    assert content["samples"] == 4200
    assert content["bumps"][0]["source"] == "x, human"
    (line,) = (tmp_path / "s" / "bumps.jsonl").read_text().splitlines()
    assert len(json.loads(line)["uuids"]) >= 200
    draw_areas({"before": found, "after": summarise(many(plain, smooth()))}, tmp_path / "two.png")
    with Image.open(tmp_path / "two.png") as picture:
        assert picture.width > 1.5 * picture.height
        assert np.array(picture.convert("RGB")).std() > 10


def test_an_empty_store_and_one_without_heatmaps(plain, tmp_path):
    pytest.importorskip("matplotlib")
    assert summarise([]).samples == 0
    unmarked = summarise([replace(plain, area=None)])
    assert [p.name for p in write_statistics(unmarked, tmp_path)] == ["stats.json", "instructions.png"]


def test_frames_of_an_episode_are_pictures_of_their_own(make_store, episode):
    found = summarise(measure(ShardReader(make_store([*episode(0), *episode(3)]))))
    assert (found.samples, found.images, found.repeated_annotations) == (8, 8, 0)
    assert found.look_alike_images == (("robot/episode-0", "robot/episode-3"),)


def test_what_a_call_does_not_write_does_not_stay(plain, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    folder = tmp_path / "stats"
    write_statistics(summarise(many(plain, [*smooth(), *[0.99] * 200])), folder)
    unmarked = summarise([replace(plain, area=None)])
    write_statistics(unmarked, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["instructions.png", "stats.json"]
    before = (folder / "stats.json").read_text()

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:9])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"stats\.json': No space left"):
        write_statistics(summarise([plain]), folder)
    assert (folder / "stats.json").read_text() == before
    assert sorted(path.name for path in folder.iterdir()) == ["instructions.png", "stats.json"]
