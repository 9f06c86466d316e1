from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop.arranging import LABEL_ANGLE, TURNED, arrange
from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.library import make_library
from ivm.data.tabletop.spec import TabletopSpec


def arrangements(spec: TabletopSpec, count: int, azimuth: float = 0.0):
    library = make_library(spec, 0, 0)
    for seed in range(count):
        yield library, arrange(spec, library, azimuth, np.random.default_rng(seed))


def points_of(library, item) -> np.ndarray:
    return library.specimens[item.specimen].points @ item.matrix.T + item.position


def test_things_rest_on_what_carries_them() -> None:
    spec = TabletopSpec(stacked=0.6)
    carried = 0
    for library, arrangement in arrangements(spec, 40):
        for i, item in enumerate(arrangement.items):
            points = points_of(library, item)
            if item.support < 0:
                assert points[:, 2].min() == pytest.approx(0, abs=1e-4)
                assert not item.inside
                continue
            carried += 1
            assert item.support < i
            bearer = arrangement.items[item.support]
            assert {"surface", "container", "stackable"} & set(KINDS[bearer.name].affordances)
            below = points_of(library, bearer)
            assert points[:, 2].min() > 0
            if item.inside:
                assert "container" in KINDS[bearer.name].affordances
                assert points[:, 2].min() < below[:, 2].max()
                assert np.linalg.norm((item.centre - bearer.centre)[:2]) < np.ptp(below[:, 0]) / 2
            else:
                assert points[:, 2].min() < below[:, 2].max() + 0.005
    assert carried > 40


def test_things_on_the_table_do_not_overlap() -> None:
    cell = 0.008
    for library, arrangement in arrangements(TabletopSpec(stacked=0.0, objects=(12, 12)), 15):
        taken: dict[tuple[int, int], int] = {}
        shared = 0
        for i, item in enumerate(arrangement.items):
            cells = {tuple(c) for c in np.floor(points_of(library, item)[:, :2] / cell).astype(int)}
            shared += sum(taken.setdefault(c, i) != i for c in cells)
        assert shared < 0.03 * len(taken)  # neighbours may share the cell of their border


def test_the_height_map_knows_the_tops() -> None:
    for library, arrangement in arrangements(TabletopSpec(), 10):
        for item in arrangement.items:
            top = points_of(library, item)[:, 2].max()
            assert arrangement.height_near(*item.centre[:2], 0.3) >= top - 1e-3
        assert arrangement.height_near(0.7, 0.7, 0.01) == 0


def test_excluded_pairs_never_occur_and_wanted_pairs_always() -> None:
    spec = TabletopSpec(
        shapes=("mug", "block", "bowl", "can"),
        exclude_pairs=(("mug", "red"), ("block", "blue")),
        only_pairs=(("bowl", "green"),),
        objects=(3, 8),
    )
    pairs = [{(i.name, i.colour) for i in a.items} for _, a in arrangements(spec, 60)]
    assert all(("bowl", "green") in found for found in pairs)
    everything = set().union(*pairs)
    assert not everything & set(spec.exclude_pairs)
    assert ("mug", "blue") in everything


def test_textures_fit_kind_and_colour() -> None:
    seen = set()
    for library, arrangement in arrangements(TabletopSpec(patterns=1.0, labels=1.0), 60):
        for item in arrangement.items:
            if item.texture < 0:
                continue
            texture = library.textures[item.texture]
            seen.add(texture.role)
            if texture.role in ("pattern", "label"):
                assert texture.colour == item.colour
                assert KINDS[item.name].patterned if texture.role == "pattern" else KINDS[item.name].label
            else:
                assert texture.material == item.finish
    assert seen == {"pattern", "label", "tint"}


def test_labels_are_turned_to_the_viewer() -> None:
    spec = TabletopSpec(shapes=("can", "jar"), labels=1.0, patterns=0.0, stacked=0.0)
    off = []
    for library, arrangement in arrangements(spec, 60, azimuth=1.0):
        for item in arrangement.items:
            labelled = item.texture >= 0 and library.textures[item.texture].role == "label"
            if labelled and item.name in TURNED and item.matrix[2, 2] > 0:
                heading = np.arctan2(item.matrix[1, 0], item.matrix[0, 0]) + LABEL_ANGLE
                off.append(abs((heading - 1.0 + np.pi) % (2 * np.pi) - np.pi))
    assert len(off) > 20
    assert np.mean(np.array(off) < 0.6) > 0.6


def test_the_same_seed_arranges_the_same() -> None:
    spec = TabletopSpec()
    (_, a), (_, b) = next(arrangements(spec, 1)), next(arrangements(spec, 1))
    assert [i.name for i in a.items] == [i.name for i in b.items]
    for x, y in zip(a.items, b.items, strict=True):
        np.testing.assert_array_equal(x.matrix, y.matrix)
        np.testing.assert_array_equal(x.position, y.position)
