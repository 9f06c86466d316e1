"""The robot of the tabletop: a two-finger gripper that is steered in space, carried by the arm of synthesis.

What acts is a gripper on three sliding joints and one turning joint, each with a servo: the usual Cartesian
controller of a small arm, without the arm's own dynamics. What is seen is the arm that synthesis draws
(`ivm.data.tabletop.arm`), bent anew before each picture so that its hand is where the gripper is; its links
touch nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ivm.data.tabletop.arm import Arm, draw_arm, sample_arm
from ivm.data.tabletop.setting import ARM, GRIPPER, look_at
from ivm.data.tabletop.stage import Drawing, load_mujoco
from ivm.data.tabletop.world import COLLISION_GROUP, VISUAL_GROUP

__all__ = ["MAX_OPENING", "WORKSPACE", "Gripper"]

WORKSPACE = np.array([[-0.30, -0.28, 0.008], [0.30, 0.26, 0.34]])
"""Lowest and highest (x, y, z) of the finger tips, in metres: x to the right, y away from the side camera."""

MAX_OPENING = 0.088
"""Between the open fingers, in metres."""

_BASE = np.array([0.0, 0.50])  # behind the table as the side camera sees it
_LINKS = (0.46, 0.44)  # long enough for every corner of the workspace
_LEASH = 0.03  # metres that the servo's goal may run ahead of a gripper that is held back


class Gripper:
    """Adds the robot to a world, steers it, and knows which geoms are its own.

    Args:
        tip: float [3], where the finger tips start.
        rng: chooses the look.

    Call `add` while the model is built, `bind` when it is compiled.
    """

    def __init__(self, tip: np.ndarray, rng: np.random.Generator) -> None:
        self._mujoco = load_mujoco()
        look = sample_arm(tip, np.pi / 2, rng)
        self._look: Arm = replace(
            look, base=_BASE, links=_LINKS, square=False, thick=0.03, opening=MAX_OPENING, turn=0.0
        )
        self._start = np.asarray(tip, np.float64)
        self._goal = np.append(self._start, 0.0)  # x, y, z, turn
        self._opening = MAX_OPENING

    def add(self, spec: Any) -> None:
        """Add bodies, servos and the wrist camera to a `mujoco.MjSpec`."""
        mujoco = self._mujoco
        hand = spec.worldbody.add_body(name="hand", pos=self._start, gravcomp=1.0)
        for axis, name in zip(np.eye(3), "xyz", strict=True):
            hand.add_joint(name=f"hand_{name}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis)
        hand.add_joint(name="hand_turn", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1], armature=0.02)
        touch: dict[str, Any] = {
            "type": mujoco.mjtGeom.mjGEOM_BOX,
            "group": COLLISION_GROUP,
            "friction": [1.6, 0.02, 0.001],
            "condim": 4,
        }
        hand.add_geom(name="palm", size=[0.055, 0.018, 0.016], pos=[0, 0, 0.075], mass=0.9, **touch)
        for side, name in ((-1, "left"), (1, "right")):
            finger = hand.add_body(name=name, pos=[side * 0.005, 0, 0.03], gravcomp=1.0)
            finger.add_joint(
                name=name,
                type=mujoco.mjtJoint.mjJNT_SLIDE,
                axis=[side, 0, 0],
                range=[0, MAX_OPENING / 2],
                limited=mujoco.mjtLimited.mjLIMITED_TRUE,
                armature=0.05,
            )
            finger.add_geom(name=f"finger_{name}", size=[0.005, 0.010, 0.032], mass=0.05, **touch)
        servos = [(f"hand_{axis}", 3000.0, 110.0, 60.0) for axis in "xyz"]
        servos += [("hand_turn", 30.0, 1.6, 5.0), ("left", 500.0, 14.0, 12.0), ("right", 500.0, 14.0, 12.0)]
        for joint, stiffness, damping, force in servos:
            servo = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
            servo.set_to_position(kp=stiffness, kv=damping)
            servo.forcelimited, servo.forcerange = mujoco.mjtLimited.mjLIMITED_TRUE, [-force, force]
        position = np.array([0.0, -0.115, 0.165])  # on the flat side of the hand, as a real one sits
        frame = np.empty(4)
        rotation = look_at(position, np.array([0.0, -0.05, 0.0]))
        mujoco.mju_mat2Quat(frame, np.ascontiguousarray(rotation).ravel())
        hand.add_camera(name="wrist", pos=position, quat=frame, fovy=72)
        for i, (code, size, rgb, finish) in enumerate(self._parts(self._draw(self._start, 0.0, MAX_OPENING))):
            specular, shininess, emission = finish
            spec.add_material(
                name=f"robot{i}",
                rgba=[*map(float, rgb), 1.0],
                specular=specular,
                shininess=shininess,
                emission=emission,
            )
            part = spec.worldbody.add_body(name=f"robot{i}", mocap=True)
            part.add_geom(
                name=f"robot{i}",
                type=mujoco.mjtGeom(code),
                size=size,
                material=f"robot{i}",
                contype=0,
                conaffinity=0,
                group=VISUAL_GROUP,
            )

    def bind(self, model: Any, data: Any) -> None:
        """Find the robot in the compiled model, open the fingers, and hold the start position."""
        self._model, self._data = model, data
        names = ("hand_x", "hand_y", "hand_z", "hand_turn", "left", "right")
        self._joints = np.array([model.joint(name).qposadr[0] for name in names])
        self._servos = np.array([model.actuator(name).id for name in names])
        count = len(self._draw(self._start, 0.0, MAX_OPENING).meshes)
        self.geoms = frozenset(int(model.geom(f"robot{i}").id) for i in range(count))
        self._fingers = {int(model.geom(f"finger_{name}").id) for name in ("left", "right")}
        data.qpos[self._joints[4:]] = MAX_OPENING / 2
        self._command()
        self._mujoco.mj_forward(model, data)
        self.pose()

    @property
    def tip(self) -> np.ndarray:
        """float [3]: between the finger tips, in metres."""
        return self._start + self._data.qpos[self._joints[:3]]

    @property
    def turn(self) -> float:
        """Of the gripper about the vertical, in radians."""
        return float(self._data.qpos[self._joints[3]])

    @property
    def opening(self) -> float:
        """Between the fingers, in metres."""
        return float(self._data.qpos[self._joints[4:]].sum())

    def move(self, shift: np.ndarray, turn: float, opening: float, steps: int) -> None:
        """Steer by `shift` [3] metres and `turn` radians to `opening` metres; simulate `steps` of 2 ms."""
        ahead = np.clip(self._goal[:3] - self.tip, -_LEASH, _LEASH)  # else it would push on when it is stuck
        start = np.append(self.tip + ahead, self._goal[3])
        low, high = WORKSPACE
        end = np.append(
            np.clip(start[:3] + shift, low, high), np.clip(start[3] + turn, -np.pi / 2, np.pi / 2)
        )
        self._opening = float(np.clip(opening, 0.0, MAX_OPENING))
        slices = 10  # the goal glides: a jump would jerk what is held out of the fingers
        for k in range(1, slices + 1):
            self._goal = start + (end - start) * k / slices
            self._command()
            self._mujoco.mj_step(self._model, self._data, nstep=steps // slices)
        self.pose()

    def pose(self) -> None:
        """Bend the drawn arm to where the gripper is."""
        drawing = self._draw(self.tip, self.turn, self.opening)
        quaternion = np.empty(4)
        for i, (position, matrix) in enumerate(drawing.poses):
            body = self._model.body(f"robot{i}").mocapid[0]
            self._mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix, np.float64).ravel())
            self._data.mocap_pos[body] = position
            self._data.mocap_quat[body] = quaternion
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_camlight(self._model, self._data)

    def touches(self, body: int) -> bool:
        """Whether a finger touches the body of this number."""
        contact = self._data.contact
        for first, second in contact.geom[: self._data.ncon]:
            other = second if first in self._fingers else first if second in self._fingers else None
            if other is not None and self._model.geom_bodyid[other] == body:
                return True
        return False

    def _command(self) -> None:
        self._data.ctrl[self._servos[:3]] = self._goal[:3] - self._start
        self._data.ctrl[self._servos[3]] = self._goal[3]
        self._data.ctrl[self._servos[4:]] = self._opening / 2

    def _draw(self, tip: np.ndarray, turn: float, opening: float) -> Drawing:
        drawing = Drawing()
        draw_arm(drawing, replace(self._look, tip=tip, turn=turn, opening=opening), ARM, GRIPPER)
        return drawing

    @staticmethod
    def _parts(drawing: Drawing) -> list[tuple[int, Any, Any, tuple[float, float, float]]]:
        """(MuJoCo's type of geom, size, colour, finish) of each part; meshes do not occur in an arm."""
        return [
            (-1 - mesh, size, rgb, finish)
            for mesh, size, rgb, finish in zip(
                drawing.meshes, drawing.sizes, drawing.rgb, drawing.finishes, strict=True
            )
        ]
