"""The same objects and tables as a world that can be stepped: free bodies with contacts.

Pictures need no physics, robots do. What is drawn is the specimens' own meshes; what collides is made of
convex pieces: a solid part's hull, and, for what is hollow or has a hole, a ring of small hulls round it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ivm.data.tabletop.arranging import Arrangement, Item, arrange
from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.library import Library, Specimen, make_library
from ivm.data.tabletop.meshes import Mesh
from ivm.data.tabletop.setting import REPEATS
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import FINISHES, load_mujoco

__all__ = ["World", "WorldObject", "build_scene", "build_world", "convex_pieces"]

VISUAL_GROUP, COLLISION_GROUP = 0, 3
"""Geom groups of what is drawn and of what collides; the renderer shows groups 0 to 2."""

_DENSITY = 400.0  # kg/m3: things are mostly hollow or wooden
_HOLLOW = {"plate", "ring", "donut", "cap", "tray"} | {
    n for n, k in KINDS.items() if "container" in k.affordances
}
_SECTORS = 14


@dataclass(frozen=True, eq=False)
class WorldObject:
    """One object of a world: what it is called, and the number of its body.

    `joint` is the address in `qpos` of its seven coordinates (position, quaternion), `speed` that of its six
    velocities in `qvel`; `geoms` are the geoms that are drawn.
    """

    name: str
    colour: str
    body: int
    joint: int
    speed: int
    geoms: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class World:
    """A compiled mujoco model with its state, and the objects in it."""

    model: Any
    data: Any
    objects: tuple[WorldObject, ...]
    arrangement: Arrangement

    def step(self, steps: int = 1) -> None:
        """Advance the simulation by `steps` of 2 ms."""
        mujoco = load_mujoco()
        mujoco.mj_step(self.model, self.data, steps)

    def position(self, index: int) -> np.ndarray:
        """float [3]: where the origin of object `index` is now, in metres."""
        return self.data.xpos[self.objects[index].body].copy()


def build_scene(
    spec: TabletopSpec, seed: int, index: int, extend: Callable[[Any], None] | None = None
) -> World:
    """A world with the table and objects of a random arrangement, compiled and at rest.

    Args:
        spec: what may lie on the table; its picture options do not matter here.
        seed: with `index`, chooses specimens, places and colours.
        extend: called with the `mujoco.MjSpec` before it is compiled, to add a robot, cameras or sensors.

    Raises:
        MissingExtraError: mujoco is not installed.
    """
    rng = np.random.default_rng([seed, index, 0x3081D])
    library = make_library(spec, seed, index // spec.block)
    arrangement = arrange(spec, library, float(rng.uniform(0, 2 * np.pi)), rng)
    surfaces = library.by_role["surface"]
    return build_world(library, arrangement, surfaces[rng.integers(len(surfaces))], extend)


def build_world(
    library: Library, arrangement: Arrangement, surface: int, extend: Callable[[Any], None] | None = None
) -> World:
    """A world of a given arrangement, compiled and at rest.

    Args:
        library: whose specimens and textures the arrangement refers to.
        arrangement: what lies where.
        surface: index of the table's texture in the library.
        extend: as in `build_scene`.

    Raises:
        MissingExtraError: mujoco is not installed.
    """
    mujoco = load_mujoco()
    model_spec = mujoco.MjSpec()
    model_spec.option.timestep = 0.002
    model_spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    model_spec.option.impratio = 5
    model_spec.compiler.discardvisual = False
    painter = _Painter(mujoco, model_spec, library)
    top = painter.material(np.full(3, 0.9), "rough", surface, (3.0, 3.0))
    world = model_spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[0.75, 0.6, 0.025],
        pos=[0, 0, -0.025],
        material=top,
    )
    world.add_light(name="lamp", pos=[0.6, -0.5, 2.0], dir=[-0.3, 0.25, -1], diffuse=[0.6, 0.6, 0.6])
    for number, item in enumerate(arrangement.items):
        _add_item(mujoco, model_spec, painter, library, item, number)
    if extend is not None:
        extend(model_spec)
    model = model_spec.compile()
    painter.upload(model)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    objects = tuple(_object(model, item, number) for number, item in enumerate(arrangement.items))
    return World(model, data, objects, arrangement)


def _object(model: Any, item: Item, number: int) -> WorldObject:
    body = model.body(f"object{number}")
    joint = model.joint(f"object{number}")
    geoms = [
        g
        for g in range(model.ngeom)
        if model.geom_bodyid[g] == body.id and model.geom_group[g] == VISUAL_GROUP
    ]
    return WorldObject(
        item.name, item.colour, int(body.id), int(joint.qposadr[0]), int(joint.dofadr[0]), tuple(geoms)
    )


class _Painter:
    """Materials and textures, each texture once."""

    def __init__(self, mujoco: Any, model_spec: Any, library: Library) -> None:
        self._mujoco, self._spec, self._library = mujoco, model_spec, library
        self._textures: dict[int, str] = {}
        self._materials = 0

    def material(self, rgb: Any, finish: str, texture: int, repeat: tuple[float, float]) -> str:
        specular, shininess, emission = FINISHES[finish]
        name = f"paint{self._materials}"
        self._materials += 1
        material = self._spec.add_material(
            name=name,
            rgba=[*map(float, rgb), 1.0],
            specular=specular,
            shininess=shininess,
            emission=emission,
            texrepeat=list(repeat),
        )
        if texture >= 0:
            if texture not in self._textures:
                pixels = self._library.textures[texture].pixels
                self._textures[texture] = f"texture{texture}"
                self._spec.add_texture(
                    name=f"texture{texture}",
                    type=self._mujoco.mjtTexture.mjTEXTURE_2D,
                    width=pixels.shape[1],
                    height=pixels.shape[0],
                    nchannel=3,
                    builtin=self._mujoco.mjtBuiltin.mjBUILTIN_FLAT,
                )
            material.textures[self._mujoco.mjtTextureRole.mjTEXROLE_RGB] = self._textures[texture]
        return name

    def upload(self, model: Any) -> None:
        for texture, name in self._textures.items():
            pixels = self._library.textures[texture].pixels
            start = int(model.tex_adr[model.texture(name).id])
            model.tex_data[start : start + pixels.size] = pixels[::-1].ravel()


def _add_item(
    mujoco: Any, model_spec: Any, painter: _Painter, library: Library, item: Item, number: int
) -> None:
    specimen = library.specimens[item.specimen]
    stretch = np.linalg.norm(item.matrix, axis=0)
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(item.matrix / stretch).ravel())
    body = model_spec.worldbody.add_body(name=f"object{number}", pos=item.position, quat=quaternion)
    body.add_freejoint(name=f"object{number}")
    for k, (which, paint) in enumerate(specimen.parts):
        mesh = library.meshes[which]
        name = f"object{number}part{k}"
        model_spec.add_mesh(
            name=name,
            uservert=(mesh.vertices * stretch.astype(np.float32)).ravel(),
            userface=mesh.faces.ravel(),
            usertexcoord=mesh.uv.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
        main = paint == "main"
        rgb = item.rgb if main else item.accent if paint == "accent" else paint
        texture = item.texture if main else -1
        role = library.textures[texture].role if texture >= 0 else ""
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            material=painter.material(
                rgb, item.finish, texture, REPEATS.get(item.name, {}).get(role, (1.0, 1.0))
            ),
            contype=0,
            conaffinity=0,
            density=0,
            group=VISUAL_GROUP,
        )
    for k, points in enumerate(convex_pieces(specimen, library.meshes)):
        name = f"object{number}hull{k}"
        model_spec.add_mesh(name=name, uservert=(points * stretch).astype(np.float32).ravel())
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=name,
            density=_DENSITY,
            friction=[0.9, 0.01, 0.001],
            group=COLLISION_GROUP,
            condim=4,
        )


def convex_pieces(specimen: Specimen, meshes: tuple[Mesh, ...]) -> list[np.ndarray]:
    """Points [P, 3] of convex pieces that together fill the specimen, all at its own scale."""
    pieces = []
    for which, _ in specimen.parts:
        mesh = meshes[which]
        for vertices, faces in _components(mesh):
            span = np.ptp(vertices, axis=0)
            if span.max() < 0.012:
                continue  # a stem, an eye
            angles = np.arctan2(vertices[:, 1], vertices[:, 0])
            around = np.ptp(np.unique(np.round(angles, 1))) > 5.5
            if specimen.name in _HOLLOW and around and span[:2].min() > 0.03:
                pieces += _ring_pieces(vertices, faces)
            else:
                pieces.append(vertices)
    return pieces


def _components(mesh: Mesh) -> list[tuple[np.ndarray, np.ndarray]]:
    """The connected surfaces of a mesh: (vertices [V, 3], faces [F, 3]) of each."""
    keys, weld = np.unique(np.round(mesh.vertices, 6), axis=0, return_inverse=True)
    faces = weld.reshape(-1)[mesh.faces]
    label = np.arange(len(keys))
    while True:
        least = label[faces].min(axis=1)
        before = label.copy()
        np.minimum.at(label, faces.ravel(), np.repeat(least, 3))
        label = label[label]
        if (label == before).all():
            break
    found = []
    for name in np.unique(label[faces[:, 0]]):
        mine = faces[label[faces[:, 0]] == name]
        used, renumbered = np.unique(mine, return_inverse=True)
        found.append((keys[used].astype(np.float64), renumbered.reshape(-1, 3)))
    return found


def _ring_pieces(vertices: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Pieces of a vessel or ring about the z axis: its floor, if any, and sectors of the wall in bands.

    A sector is cut out of the surface by clipping every triangle with the sector's two half planes, a band by
    clipping with two heights.
    """
    triangles = vertices[faces]
    low, high = vertices[:, 2].min(), vertices[:, 2].max()
    near_axis = vertices[np.hypot(vertices[:, 0], vertices[:, 1]) < 1e-4]
    pieces = []
    if len(near_axis):  # closed at the bottom: the highest point on the axis is the floor's upper side
        floor = float(near_axis[:, 2].max())
        pieces.append(_unique(_clip(triangles, np.array([0, 0, -1.0]), -floor - 1e-5)))
        bands = [floor]
    else:
        bands = [float(low)]
    count = 1 if high - bands[0] < 0.025 else 3
    levels = np.linspace(bands[0], high, count + 1)
    for k in range(_SECTORS):
        a, b = 2 * np.pi * np.array([k, k + 1]) / _SECTORS
        sector = _clip(triangles, np.array([-np.sin(a), np.cos(a), 0]), 0.0)
        sector = _clip(sector, np.array([np.sin(b), -np.cos(b), 0]), 0.0)
        for bottom, top in pairwise(levels):
            part = _clip(_clip(sector, np.array([0, 0, 1.0]), bottom), np.array([0, 0, -1.0]), -top)
            points = _unique(part)
            if len(points) >= 4 and np.linalg.svd(points - points.mean(axis=0))[1][2] > 5e-4:
                pieces.append(points)
    return pieces


def _unique(triangles: np.ndarray) -> np.ndarray:
    return np.unique(np.round(triangles.reshape(-1, 3), 6), axis=0)


def _clip(triangles: np.ndarray, normal: np.ndarray, offset: float) -> np.ndarray:
    """Triangles [N, 3, 3] cut by the half space normal . x >= offset; what is left, as triangles."""
    side = triangles @ normal - offset
    inside = side >= 0
    count = inside.sum(axis=1)
    kept = [triangles[count == 3]]
    for n in (1, 2):
        some = np.flatnonzero(count == n)
        if not len(some):
            continue
        odd = np.argmax(inside[some] == (n == 1), axis=1)  # the corner that is alone on its side
        order = (odd[:, None] + np.arange(3)) % 3
        corners = np.take_along_axis(triangles[some], order[..., None], axis=1)
        height = np.take_along_axis(side[some], order, axis=1)
        cuts = []
        for j in (1, 2):
            t = height[:, 0] / (height[:, 0] - height[:, j])
            cuts.append(corners[:, 0] + t[:, None] * (corners[:, j] - corners[:, 0]))
        if n == 1:
            kept.append(np.stack([corners[:, 0], cuts[0], cuts[1]], axis=1))
        else:
            kept.append(np.stack([cuts[0], corners[:, 1], corners[:, 2]], axis=1))
            kept.append(np.stack([cuts[0], corners[:, 2], cuts[1]], axis=1))
    return np.concatenate(kept)
