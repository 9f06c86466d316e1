from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ivm.data.tabletop.meshes import Mesh, box, extrude, join, lathe, sphere, triangulate, tube

STAR = [(np.cos(a) * r, np.sin(a) * r) for a, r in zip(np.arange(10) * np.pi / 5, [1, 0.4] * 5, strict=True)]


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]].astype(np.float64) for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def open_edges(mesh: Mesh) -> int:
    """Edges without exactly one opposite twin, after vertices at the same place are made one."""
    keys, weld = np.unique(np.round(mesh.vertices, 5), axis=0, return_inverse=True)
    faces = weld.reshape(-1)[mesh.faces]
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[edges[:, 0] != edges[:, 1]]
    there = np.unique(edges[:, 0] * len(keys) + edges[:, 1])
    back = np.unique(edges[:, 1] * len(keys) + edges[:, 0])
    return len(np.setxor1d(there, back)) + len(edges) - len(there)


@pytest.mark.parametrize(
    ("mesh", "expected"),
    [
        (sphere(1.0, 64, 32), 4 / 3 * np.pi),
        (lathe([(0, 0), (1, 0), (1, 2), (0, 2)], 96), 2 * np.pi),
        (lathe([(0, 0), (1, 0), (1, 1), (0.9, 1), (0.9, 0.1), (0, 0.1)], 96), np.pi * (1 - 0.81 * 0.9)),
        (tube([(0, 0, 0), (0, 0, 1), (0, 0, 2)], 0.5, 96), np.pi / 2),
        (tube([(0, 0, 0), (1, 0, 0)], 0.5, 96, squash=0.5), np.pi / 8),
        (box(1, 2, 3), 6.0),
        (extrude([(0, 0), (2, 0), (2, 2), (1, 1), (0, 2)], 1.0), 3.0),
    ],
    ids=["sphere", "cylinder", "cup", "tube", "flat tube", "box", "concave prism"],
)
def test_volumes_are_those_of_the_solids(mesh: Mesh, expected: float) -> None:
    assert volume(mesh) == pytest.approx(expected, rel=0.01)  # positive: the faces look outward


@pytest.mark.parametrize(
    "mesh",
    [
        sphere(1.0),
        box(1, 2, 3, 0.1),
        box(1, 1, 1),
        lathe([(0, 0), (1, 0), (1, 1), (0, 1)]),
        lathe([(2 + np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 12)]),
        extrude(STAR, 0.5, 0.1),
        tube([(0, 0, 0), (1, 0, 1), (2, 1, 0)], [0.2, 0.3, 0.1]),
    ],
)
def test_surfaces_are_closed(mesh: Mesh) -> None:
    assert open_edges(mesh) == 0
    assert mesh.vertices.dtype == np.float32
    assert mesh.uv.shape == (len(mesh.vertices), 2)
    assert mesh.faces.max() < len(mesh.vertices)


def test_a_bevel_takes_material_away() -> None:
    assert 0.8 < volume(box(1, 1, 1, 0.1)) < 1.0
    assert volume(extrude(STAR, 0.5, 0.1)) < volume(extrude(STAR, 0.5))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.2, 1.0), min_size=3, max_size=14))
def test_triangles_cover_a_polygon_exactly(radii: list[float]) -> None:
    angle = 2 * np.pi * np.arange(len(radii)) / len(radii)
    polygon = np.column_stack([np.cos(angle), np.sin(angle)]) * np.array(radii)[:, None]
    a, b, c = (polygon[triangulate(polygon)[:, k]] for k in range(3))
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    x, y = polygon.T
    whole = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    assert (doubled > -1e-12).all()
    assert doubled.sum() == pytest.approx(whole)


def test_moving_turning_and_joining() -> None:
    mesh = box(1, 2, 4)
    assert mesh.vertices[:, 2].min() == 0
    turned = mesh.turned("x", 90)
    np.testing.assert_allclose(np.ptp(turned.vertices, axis=0), [1, 4, 2], atol=1e-6)
    assert volume(mesh.scaled(2, 1, 1)) == pytest.approx(16)
    both = join(mesh, mesh.moved(x=5))
    assert volume(both) == pytest.approx(16)
    assert both.vertices[:, 0].max() == pytest.approx(5.5)
