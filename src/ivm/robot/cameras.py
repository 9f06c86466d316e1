"""What the cameras of a simulation see, without a screen."""

from __future__ import annotations

from typing import Any

import numpy as np

from ivm.data.tabletop.stage import load_mujoco, open_gl

__all__ = ["CameraRenderer"]

_MAX_GEOMS = 600


class CameraRenderer:
    """Pictures, and the geom seen at each pixel, of a compiled model's fixed cameras.

    MuJoCo's own renderer takes the OpenGL library that was chosen when mujoco was first imported, which may
    be one that needs a screen; this one does not.

    Args:
        model, data: of MuJoCo.
        size: side of the pictures in pixels.

    Raises:
        IVMError: no off-screen OpenGL library can be loaded.
    """

    def __init__(self, model: Any, data: Any, size: int) -> None:
        self._mujoco = mujoco = load_mujoco()
        self._model, self._data = model, data
        self._gl = open_gl(size)
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._option = mujoco.MjvOption()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._view = mujoco.MjrRect(0, 0, size, size)
        self._rgb = np.empty((size, size, 3), np.uint8)

    def close(self) -> None:
        """Free the context; nothing is drawn any more."""
        if self._gl is not None:
            self._gl.make_current()
            self._context.free()
            self._gl.free()
            self._gl = None

    def picture(self, camera: str) -> np.ndarray:
        """uint8 [S, S, 3]: what a camera sees now."""
        self._render(camera)
        return self._rgb[::-1].copy()

    def parts(self, camera: str) -> np.ndarray:
        """int64 [S, S]: the number of the geom seen at each pixel, -1 where there is none."""
        flags, names = self._scene.flags, self._mujoco.mjtRndFlag
        flags[names.mjRND_SEGMENT] = flags[names.mjRND_IDCOLOR] = 1
        self._render(camera)
        flags[names.mjRND_SEGMENT] = flags[names.mjRND_IDCOLOR] = 0
        colours = self._rgb[::-1].astype(np.int64)  # 1 + number of the geom in the scene, low byte first
        seen = colours[..., 0] + 256 * colours[..., 1] + 65536 * colours[..., 2]
        geoms = np.full(_MAX_GEOMS + 1, -1, np.int64)
        is_geom = int(self._mujoco.mjtObj.mjOBJ_GEOM)
        for i in range(self._scene.ngeom):
            geom = self._scene.geoms[i]
            if int(geom.objtype) == is_geom:
                geoms[geom.segid + 1] = geom.objid
        return geoms[np.minimum(seen, _MAX_GEOMS)]

    def _render(self, camera: str) -> None:
        mujoco = self._mujoco
        self._gl.make_current()
        self._camera.fixedcamid = self._model.camera(camera).id
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, everything, self._scene
        )
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._rgb, None, self._view, self._context)
