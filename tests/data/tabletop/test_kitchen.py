from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop import kitchen
from ivm.data.tabletop.catalogue import KINDS

NAMES = sorted(name for name, kind in KINDS.items() if kind.build.__module__ == kitchen.__name__)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_every_specimen_is_a_solid_of_table_size(name: str, seed: int) -> None:
    parts = KINDS[name].build(np.random.default_rng(seed))
    again = KINDS[name].build(np.random.default_rng(seed))
    assert any(paint == "main" for _, paint in parts)
    for (mesh, paint), (same, _) in zip(parts, again, strict=True):
        a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
        assert (np.cross(a, b) * c).sum() > 0, "faces must look outward"
        assert np.isfinite(mesh.vertices).all()
        np.testing.assert_array_equal(mesh.vertices, same.vertices)
        assert paint in ("main", "accent") or all(0 <= value <= 1 for value in paint)
    points = np.concatenate([mesh.vertices for mesh, _ in parts])
    span = np.ptp(points, axis=0)
    assert 0.02 < span.max() < 0.36
    assert abs(points[:, 2].min()) < 0.006
    assert np.abs((points.max(axis=0) + points.min(axis=0))[:2] / 2).max() < 0.12  # about the z axis


def test_specimens_of_a_kind_differ() -> None:
    for name in NAMES:
        first, second = (KINDS[name].build(np.random.default_rng(seed))[0][0].vertices for seed in (0, 1))
        assert first.shape != second.shape or not np.allclose(first, second), name


def test_a_mug_has_a_handle_and_a_hollow_and_a_cup_no_handle() -> None:
    mug = kitchen.mug(np.random.default_rng(0))[0][0].vertices
    cup = kitchen.cup(np.random.default_rng(0))[0][0].vertices
    assert mug[:, 0].max() > 1.4 * -mug[:, 0].min()
    assert cup[:, 0].max() == pytest.approx(-cup[:, 0].min(), rel=0.02)
    for vertices in (mug, cup):
        floor = vertices[np.hypot(vertices[:, 0], vertices[:, 1]) < 1e-4, 2].max()
        assert floor < 0.1 * vertices[:, 2].max()


def test_a_fork_has_four_tines() -> None:
    vertices = kitchen.fork(np.random.default_rng(0))[0][0].vertices
    tips = np.unique(np.round(vertices[vertices[:, 0] > vertices[:, 0].max() - 1e-4, 1], 4))
    assert len(tips) == 8
