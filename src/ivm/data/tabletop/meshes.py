"""Triangle meshes by revolution (`lathe`), extrusion, sweeping (`tube`) and rounding (`box`, `sphere`).

Metres, z up, faces counter-clockwise seen from outside. Pure numpy; nothing here knows the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Mesh", "box", "extrude", "join", "lathe", "sphere", "triangulate", "tube"]


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices float32 [V, 3], faces int32 [F, 3], texture coordinates float32 [V, 2]."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray

    def moved(self, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
        return Mesh(self.vertices + np.array([x, y, z], np.float32), self.faces, self.uv)

    def scaled(self, x: float, y: float | None = None, z: float | None = None) -> Mesh:
        """Scaled by positive factors about the origin; one factor scales alike along all axes."""
        factors = np.array([x, x if y is None else y, x if z is None else z], np.float32)
        return Mesh(self.vertices * factors, self.faces, self.uv)

    def turned(self, axis: str, degrees: float) -> Mesh:
        """Rotated about the x, y or z axis through the origin, right-handed."""
        angle = np.deg2rad(degrees)
        c, s = np.cos(angle), np.sin(angle)
        rotation = {
            "x": [[1, 0, 0], [0, c, -s], [0, s, c]],
            "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]],
            "z": [[c, -s, 0], [s, c, 0], [0, 0, 1]],
        }[axis]
        return Mesh(self.vertices @ np.array(rotation, np.float32).T, self.faces, self.uv)

    def bent(self, function: Callable[[np.ndarray], np.ndarray]) -> Mesh:
        """Every vertex moved by `function(vertices [V, 3]) -> vertices [V, 3]`, which must not fold it."""
        return _mesh(function(self.vertices.astype(np.float64)), self.faces, self.uv)


def _mesh(vertices: np.ndarray, faces: np.ndarray, uv: np.ndarray) -> Mesh:
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32), uv.astype(np.float32))


def join(*meshes: Mesh) -> Mesh:
    """One mesh of several; they may pass through each other."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)]).astype(
            np.int32
        ),
        np.concatenate([mesh.uv for mesh in meshes]),
    )


def lathe(profile: ArrayLike, segments: int = 28) -> Mesh:
    """The profile [(radius, z), ...] turned about the z axis.

    The profile runs counter-clockwise in the (radius, z) half plane: from the axis at the bottom, outward,
    up, and back to the axis; a closed loop off the axis makes a ring. u runs round the axis, v along the
    profile.
    """
    points = np.asarray(profile, np.float64)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    v = np.concatenate([[0.0], np.cumsum(steps)]) / max(steps.sum(), 1e-9)
    u = np.linspace(0.0, 1.0, segments + 1)  # the seam is doubled, so that a texture closes
    angle = 2 * np.pi * u
    rows, columns = len(points), segments + 1
    vertices = np.empty((rows, columns, 3))
    vertices[..., 0] = points[:, :1] * np.cos(angle)
    vertices[..., 1] = points[:, :1] * np.sin(angle)
    vertices[..., 2] = points[:, 1:]
    uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    faces = _grid_faces(rows, columns, np.abs(points[:, 0]) < 1e-9)
    return _mesh(vertices.reshape(-1, 3), faces, uv.reshape(-1, 2))


def _grid_faces(rows: int, columns: int, pole: np.ndarray) -> np.ndarray:
    """Two triangles a cell of a [rows, columns] grid of vertices; rows marked as poles are one point."""
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (i * columns + j).ravel()
    b, c, d = a + 1, a + columns, a + columns + 1
    low, high = pole[:-1].repeat(columns - 1), pole[1:].repeat(columns - 1)
    first = np.stack([a, b, d], axis=1)[~low]
    second = np.stack([a, d, c], axis=1)[~high]
    return np.concatenate([first, second]).astype(np.int32)


def sphere(radius: float, segments: int = 20, rings: int = 12) -> Mesh:
    """A ball about the origin."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    profile[[0, -1], 0] = 0.0
    return lathe(profile, segments)


def tube(
    path: ArrayLike,
    radius: ArrayLike,
    segments: int = 10,
    squash: float = 1.0,
) -> Mesh:
    """A round bar along `path` [(x, y, z), ...] with one radius or one a point, closed by flat ends.

    Args:
        squash: thickness across the path's binormal, as a share of the radius.
    """
    points = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radius, np.float64), len(points))
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    # Parallel transport: carry one normal along, so that the bar does not twist.
    seed = np.eye(3)[np.abs(tangent[0]).argmin()]
    normal = np.empty_like(points)
    for i, t in enumerate(tangent):
        seed = seed - t * (seed @ t)
        seed /= np.linalg.norm(seed)
        normal[i] = seed
    binormal = np.cross(tangent, normal)
    u = np.linspace(0.0, 1.0, segments + 1)
    angle = -2 * np.pi * u  # against the sweep's direction: faces then look outward
    ring = np.cos(angle)[:, None, None] * normal + squash * np.sin(angle)[:, None, None] * binormal
    body = points[:, None] + radii[:, None, None] * ring.transpose(1, 0, 2)
    grid = np.concatenate([np.repeat(points[:1, None], segments + 1, axis=1), body])
    grid = np.concatenate([grid, np.repeat(points[-1:, None], segments + 1, axis=1)])
    rows = len(grid)
    v = np.linspace(0.0, 1.0, rows)
    uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    pole = np.zeros(rows, bool)
    pole[[0, -1]] = True
    faces = _grid_faces(rows, segments + 1, pole)[:, ::-1]
    return _mesh(grid.reshape(-1, 3), faces, uv.reshape(-1, 2))


def extrude(outline: ArrayLike, height: float, bevel: float = 0.0) -> Mesh:
    """The polygon `outline` [(x, y), ...] (counter-clockwise, simple) raised from z 0 to `height`.

    Args:
        bevel: how far both rims are drawn in towards the centroid, in metres; only for outlines that their
            centroid sees whole, such as a star.
    """
    points = np.asarray(outline, np.float64)
    centre = points.mean(axis=0)
    reach = np.linalg.norm(points - centre, axis=1).max()
    if bevel > 0:
        inner = centre + (points - centre) * (1 - bevel / reach)
        levels = [(inner, 0.0), (points, bevel), (points, height - bevel), (inner, height)]
    else:
        levels = [(points, 0.0), (points, height)]
    count = len(points)
    closed = np.arange(count + 1) % count
    rows = np.stack([np.column_stack([xy, np.full(count, z)])[closed] for xy, z in levels])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points[closed], axis=0), axis=1))])
    u, v = along / along[-1], np.linspace(0, 1, len(levels))
    side_uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    sides = _mesh(
        rows.reshape(-1, 3),
        _grid_faces(len(levels), count + 1, np.zeros(len(levels), bool)),
        side_uv.reshape(-1, 2),
    )
    flat = triangulate(levels[0][0])
    low, span = points.min(axis=0), np.ptp(points, axis=0).max()
    cap_uv = (points - low) / span
    top = _mesh(np.column_stack([levels[-1][0], np.full(count, height)]), flat, cap_uv)
    bottom = _mesh(np.column_stack([levels[0][0], np.zeros(count)]), flat[:, ::-1], cap_uv)
    return join(sides, top, bottom)


def triangulate(polygon: np.ndarray) -> np.ndarray:
    """int32 [F, 3]: triangles of a simple counter-clockwise polygon [N, 2], by clipping ears."""
    left = list(range(len(polygon)))
    faces = []

    def cross(o: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a[..., 0] - o[..., 0]) * (b[..., 1] - o[..., 1]) - (a[..., 1] - o[..., 1]) * (
            b[..., 0] - o[..., 0]
        )

    while len(left) > 3:
        for at in range(len(left)):
            i, j, k = left[at - 1], left[at], left[(at + 1) % len(left)]
            a, b, c = polygon[i], polygon[j], polygon[k]
            if cross(a, b, c) <= 1e-14:
                continue
            others = polygon[[m for m in left if m not in (i, j, k)]]
            inside = (cross(a, b, others) >= 0) & (cross(b, c, others) >= 0) & (cross(c, a, others) >= 0)
            if not inside.any():
                faces.append((i, j, k))
                left.pop(at)
                break
        else:  # only flat corners are left
            left.pop(0)
    faces.append((left[0], left[1], left[2]))
    return np.array(faces, np.int32)


def box(x: float, y: float, z: float, bevel: float = 0.0) -> Mesh:
    """A box from z 0 to `z`, centred in x and y, edges cut by `bevel`; each face shows the whole texture."""
    half = np.array([x, y, z]) / 2
    b = min(bevel, 0.45 * min(x, y, z))
    parts = []
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for axis in range(3):
        u_axis, v_axis = ((1, 2), (0, 2), (0, 1))[axis]
        for sign in (-1, 1):
            vertices = np.empty((4, 3))
            vertices[:, axis] = sign * half[axis]
            vertices[:, u_axis] = corners[:, 0] * (half[u_axis] - b)
            vertices[:, v_axis] = corners[:, 1] * (half[v_axis] - b)
            outward = sign * (1 if axis != 1 else -1)  # x cross z looks along -y
            faces = np.array([[0, 1, 2], [0, 2, 3]])
            mirrored = outward < 0  # else a text on this face would be read from behind
            uv = (corners * (-1 if mirrored else 1, 1) + 1) / 2
            parts.append(_mesh(vertices, faces[:, ::-1] if mirrored else faces, uv))
    if b > 0:
        parts.append(_bevels(half, b))
    return join(*parts).moved(z=z / 2)


def _bevels(half: np.ndarray, b: float) -> Mesh:
    """The twelve cut edges and eight cut corners of a box."""
    vertices: list[np.ndarray] = []
    faces: list[list[int]] = []

    def add(points: list[np.ndarray]) -> None:
        start = len(vertices)
        normal = np.cross(points[1] - points[0], points[2] - points[0])
        ordered = points if normal @ np.mean(points, axis=0) > 0 else points[::-1]
        vertices.extend(ordered)
        faces.extend([start, start + i, start + i + 1] for i in range(1, len(points) - 1))

    def corner(signs: Sequence[int], out: int) -> np.ndarray:
        point = np.array(signs) * (half - b)
        point[out] = signs[out] * half[out]
        return point

    for axis in range(3):
        p, q = [i for i in range(3) if i != axis]
        for sp in (-1, 1):
            for sq in (-1, 1):
                signs = [0, 0, 0]
                signs[p], signs[q] = sp, sq
                ends = []
                for s in (-1, 1):
                    signs[axis] = s
                    ends.append((corner(signs, p), corner(signs, q)))
                add([ends[0][0], ends[0][1], ends[1][1], ends[1][0]])
    for sx in (-1, 1):
        for sy in (-1, 1):
            for sz in (-1, 1):
                add([corner((sx, sy, sz), out) for out in range(3)])
    points = np.array(vertices)
    return _mesh(points, np.array(faces), np.full((len(points), 2), 0.02))
