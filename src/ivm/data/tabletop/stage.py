"""Off-screen drawing: one compiled model a block, whose slots take any mesh, colour and pose.

Compiling costs as much as a dozen pictures, so nothing is compiled for a scene: the model has slots
(geoms without a body of their own), and a scene writes mesh number, material and world pose straight into
the arrays from which the renderer reads. Poses may stretch (a matrix that is no rotation), so that one
compiled mesh serves many sizes.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from ivm.data.tabletop.library import Library
from ivm.errors import IVMError, MissingExtraError, require

__all__ = ["FINISHES", "SLOTS", "Camera", "Drawing", "Light", "Stage", "load_mujoco", "open_gl"]

SLOTS = 150
"""Parts that one scene may draw, primitives included."""

MAX_LIGHTS = 3

FINISHES: dict[str, tuple[float, float, float]] = {
    "ceramic": (0.55, 0.75, 0.0),
    "plastic": (0.35, 0.5, 0.0),
    "metal": (0.85, 0.8, 0.0),
    "wood": (0.08, 0.1, 0.0),
    "wicker": (0.05, 0.1, 0.0),
    "rough": (0.03, 0.05, 0.0),
    "fruit": (0.22, 0.35, 0.0),
    "varnish": (0.14, 0.6, 0.0),
    "wall": (0.0, 0.0, 0.3),  # walls stand edge-on to light from above, yet rooms are not dark
}
"""Finish -> (specular, shininess, emission)."""


@dataclass(frozen=True)
class Camera:
    """Position [3] and rotation [3, 3] (columns right, up, back), vertical field of view in degrees."""

    position: np.ndarray
    rotation: np.ndarray
    fovy: float


@dataclass(frozen=True)
class Light:
    """A light that falls along `direction` [3] from `position` [3]; colours float [3]."""

    position: np.ndarray
    direction: np.ndarray
    diffuse: np.ndarray
    specular: float
    shadow: bool


class Drawing:
    """The parts of one picture, collected before they are drawn."""

    def __init__(self) -> None:
        self.meshes: list[int] = []  # index of the mesh, or -1 - type for a primitive
        self.sizes: list[Any] = []
        self.poses: list[tuple[np.ndarray, np.ndarray]] = []
        self.owners: list[int] = []
        self.main: list[bool] = []
        self.rgb: list[Any] = []
        self.textures: list[int] = []
        self.repeats: list[tuple[float, float]] = []
        self.finishes: list[tuple[float, float, float]] = []

    def mesh(
        self,
        owner: int,
        mesh: int,
        position: np.ndarray,
        matrix: np.ndarray,
        rgb: Any,
        finish: str = "plastic",
        texture: int = -1,
        repeat: tuple[float, float] = (1.0, 1.0),
        main: bool = True,
    ) -> None:
        """Add a mesh of the library; `matrix` [3, 3] may turn and stretch it.

        `owner` is what it is a part of; `main` says that the part has the colour after which that is named.
        """
        self._add(owner, mesh, (0, 0, 0), position, matrix, rgb, finish, texture, repeat)
        self.main[-1] = main

    def primitive(
        self,
        owner: int,
        kind: str,
        size: Any,
        position: np.ndarray,
        rotation: np.ndarray,
        rgb: Any,
        finish: str,
    ) -> None:
        """Add a "capsule", "cylinder", "box" or "sphere" of MuJoCo's half sizes."""
        code = {"sphere": 2, "capsule": 3, "cylinder": 5, "box": 6}[kind]
        self._add(owner, -1 - code, size, position, rotation, rgb, finish, -1, (1.0, 1.0))

    def _add(
        self,
        owner: int,
        mesh: int,
        size: Any,
        position: np.ndarray,
        matrix: np.ndarray,
        rgb: Any,
        finish: str,
        texture: int,
        repeat: tuple[float, float],
    ) -> None:
        self.meshes.append(mesh)
        self.sizes.append(size)
        self.poses.append((position, matrix))
        self.owners.append(owner)
        self.main.append(True)
        self.rgb.append(rgb)
        self.textures.append(texture)
        self.repeats.append(repeat)
        self.finishes.append(FINISHES[finish])


def load_mujoco(extra: str = "synthesis") -> Any:
    """The mujoco module, set up to draw without a screen.

    MUJOCO_GL is obeyed where it is set; else EGL is chosen, or OSMesa where EGL is missing. `extra` is the
    one that is named where mujoco is missing.

    Raises:
        MissingExtraError: mujoco is not installed.
        IVMError: no off-screen OpenGL library can be loaded.
    """
    if sys.platform.startswith("linux") and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = _first_backend()  # mujoco reads it while it is imported
    try:
        return require("mujoco", extra)
    except MissingExtraError:
        raise
    except (ImportError, AttributeError, RuntimeError) as error:  # how its OpenGL bindings fail
        raise IVMError(_no_opengl(error)) from error


def open_gl(size: int) -> Any:
    """An OpenGL context without a screen for pictures of `size` pixels a side, made current; free it.

    Raises:
        MissingExtraError: mujoco is not installed.
        IVMError: no off-screen OpenGL library can be loaded.
    """
    mujoco = load_mujoco()
    try:
        backend = os.environ.get("MUJOCO_GL", "").lower()
        # Its own choice was made when it was first imported, perhaps by somebody else.
        named = backend in ("egl", "osmesa", "glfw")
        source = importlib.import_module(f"mujoco.{backend}") if named else mujoco
        context = source.GLContext(size, size)
        context.make_current()
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:
        raise IVMError(_no_opengl(error)) from error
    return context


def _first_backend() -> str:
    for backend, library in (("egl", "libEGL.so.1"), ("osmesa", "libOSMesa.so.8")):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return backend
    raise IVMError(_no_opengl("neither libEGL.so.1 nor libOSMesa.so.8 is installed"))


def _no_opengl(reason: object) -> str:
    setting = os.environ.get("MUJOCO_GL")
    why = (f"MUJOCO_GL={setting}: " if setting else "") + (str(reason).strip() or type(reason).__name__)
    return (
        f"tabletop scenes need an off-screen OpenGL library ({why}): on Debian and Ubuntu run  "
        "apt-get install libegl1 libegl-mesa0 libopengl0 libgl1-mesa-dri  and leave MUJOCO_GL unset, "
        "or install libosmesa6 and set MUJOCO_GL=osmesa"
    )


class Stage:
    """A compiled library with its OpenGL context; draws `Drawing`s. Close it to free the context's memory."""

    def __init__(self, library: Library, size: int, shadows: bool, smooth: bool) -> None:
        self._mujoco = mujoco = load_mujoco()
        self.size = size
        self._context: Any = None
        self._labels: Any = None
        self._gl: Any = None
        self.model = _compile(mujoco, library, size, shadows, smooth)
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)
        self._mesh_rotation = _rotations(self.model.mesh_quat)
        self._mesh_position = self.model.mesh_pos.copy()
        self._scene = mujoco.MjvScene(self.model, maxgeom=SLOTS + 4)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_HAZE] = False
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[0] = 1
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = 0
        self._view = mujoco.MjrRect(0, 0, size, size)
        self._rgb = np.empty((size, size, 3), np.uint8)
        self._open()

    def _open(self) -> None:
        mujoco = self._mujoco
        self._gl = open_gl(self.size)
        try:
            self._context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
            # Part numbers need no samples and no shadows: a buffer without them halves what they cost.
            self.model.vis.quality.offsamples = self.model.vis.quality.shadowsize = 0
            self._labels = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        except (RuntimeError, mujoco.FatalError) as error:
            raise IVMError(_no_opengl(error)) from error

    def close(self) -> None:
        """Free the context; the stage draws no more."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            if self._labels is not None:
                self._labels.free()
            self._context = self._labels = None
        if self._gl is not None:
            self._gl.free()
            self._gl = None

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def draw(
        self, drawing: Drawing, camera: Camera, lights: list[Light], ambient: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The picture uint8 [S, S, 3], and the number of the part seen at every pixel int16 [S, S], or -1."""
        self._write(drawing, camera, lights, ambient)
        mujoco, scene = self._mujoco, self._scene
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self.model, self.data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, scene
        )
        self._render(self._context)
        image = self._rgb[::-1].copy()
        flags = scene.flags
        shadow = int(flags[mujoco.mjtRndFlag.mjRND_SHADOW])
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        self._render(self._labels)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadow
        # The renderer writes 1 + number of the geom in the scene, low byte first; fewer than 256 are drawn.
        parts = np.full(SLOTS + 5, -1, np.int16)
        for i in range(scene.ngeom):
            geom = scene.geoms[i]
            parts[geom.segid + 1] = geom.objid
        return image, parts[self._rgb[::-1, :, 0]]

    def _render(self, context: Any) -> None:
        mujoco = self._mujoco
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        mujoco.mjr_render(self._view, self._scene, context)
        mujoco.mjr_readPixels(self._rgb, None, self._view, context)

    def _write(self, drawing: Drawing, camera: Camera, lights: list[Light], ambient: np.ndarray) -> None:
        model, data = self.model, self.data
        n = len(drawing.meshes)
        if n > SLOTS:
            raise IVMError(f"a scene must have at most {SLOTS} parts, but has {n}")
        mesh = np.array(drawing.meshes)
        is_mesh = mesh >= 0
        position = np.array([p for p, _ in drawing.poses])
        matrix = np.array([m for _, m in drawing.poses])
        # The compiler moved each mesh into its own frame of inertia; undo that first.
        which = np.where(is_mesh, mesh, 0)
        shift = np.where(is_mesh[:, None], self._mesh_position[which], 0.0)
        turn = np.where(is_mesh[:, None, None], self._mesh_rotation[which], np.eye(3))
        data.geom_xpos[:n] = position + np.einsum("nij,nj->ni", matrix, shift)
        data.geom_xmat[:n] = (matrix @ turn).reshape(n, 9)
        model.geom_type[:n] = np.where(is_mesh, 7, -1 - mesh)
        model.geom_dataid[:n] = np.where(is_mesh, mesh, -1)
        model.geom_size[:n] = drawing.sizes
        model.geom_group[:n] = 0
        model.geom_group[n:] = 5
        model.mat_rgba[:n, :3] = drawing.rgb
        model.mat_texid[:n, 1] = drawing.textures  # column 1: the role "rgb"
        model.mat_texrepeat[:n] = drawing.repeats
        finish = np.array(drawing.finishes)
        model.mat_specular[:n], model.mat_shininess[:n] = finish[:, 0], finish[:, 1]
        model.mat_emission[:n] = finish[:, 2]
        data.cam_xpos[0] = camera.position
        data.cam_xmat[0] = camera.rotation.ravel()
        model.cam_fovy[0] = camera.fovy
        model.vis.headlight.ambient[:] = ambient
        for i in range(MAX_LIGHTS):
            model.light_active[i] = i < len(lights)
        for i, light in enumerate(lights):
            data.light_xpos[i] = light.position
            data.light_xdir[i] = light.direction
            model.light_diffuse[i] = light.diffuse
            model.light_specular[i] = light.specular
            model.light_castshadow[i] = light.shadow


def _compile(mujoco: Any, library: Library, size: int, shadows: bool, smooth: bool) -> Any:
    """One model with the library's meshes and textures, and SLOTS empty slots."""
    spec = mujoco.MjSpec()
    spec.visual.global_.offwidth = spec.visual.global_.offheight = size
    spec.visual.quality.offsamples = 4 if smooth else 0
    spec.visual.quality.shadowsize = 768 if shadows else 0
    spec.visual.headlight.diffuse = spec.visual.headlight.specular = [0, 0, 0]
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 8.0
    spec.visual.map.shadowclip = 1.5
    spec.stat.extent, spec.stat.center = 1.0, [0, 0, 0]
    for i, mesh in enumerate(library.meshes):
        spec.add_mesh(
            name=f"m{i}",
            uservert=mesh.vertices.ravel(),
            userface=mesh.faces.ravel(),
            usertexcoord=mesh.uv.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
    for i, texture in enumerate(library.textures):
        spec.add_texture(
            name=f"t{i}",
            type=mujoco.mjtTexture.mjTEXTURE_2D,
            width=texture.pixels.shape[1],
            height=texture.pixels.shape[0],
            nchannel=3,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_FLAT,
        )
    for i in range(SLOTS):
        spec.add_material(name=f"p{i}", reflectance=0)
        spec.worldbody.add_geom(
            type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.01, 0, 0], material=f"p{i}", contype=0, conaffinity=0
        )
    # Meshes that no geom uses would be thrown away.
    spec.compiler.discardvisual = False
    for i in range(MAX_LIGHTS):
        spec.worldbody.add_light(
            name=f"l{i}",
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            pos=[0, 0, 2],
            dir=[0, 0, -1],
            ambient=[0, 0, 0],
        )
    spec.worldbody.add_camera(name="camera", pos=[0, 0, 1])
    model = spec.compile()
    for texture, start in zip(library.textures, model.tex_adr, strict=True):
        # v grows upward, rows of a picture downward
        model.tex_data[start : start + texture.pixels.size] = texture.pixels[::-1].ravel()
    return model


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """[N, 3, 3] of unit quaternions [N, 4] (w, x, y, z)."""
    w, x, y, z = quaternions.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)
