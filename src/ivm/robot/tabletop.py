"""`ivm/Tabletop-v0`: a robot at a table with things on it, told in words what to do.

The objects, their colours and textures are those of the tabletop scenes that models are trained on, so that a
masker meets here what it knows; the physics is MuJoCo's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ivm.data.tabletop.arranging import arrange
from ivm.data.tabletop.library import Library, make_library
from ivm.data.tabletop.setting import look_at
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import load_mujoco
from ivm.data.tabletop.world import VISUAL_GROUP, World, build_world
from ivm.errors import OptionError, require
from ivm.robot.cameras import CameraRenderer
from ivm.robot.gripper import MAX_OPENING, WORKSPACE, Gripper
from ivm.robot.tasks import GOALS, TASKS, Task, draw_task, item_points, without_distractors

__all__ = ["CAMERAS", "SHIFT", "STEP_SECONDS", "TURN", "TabletopEnv"]

gymnasium: Any = require("gymnasium", "robot")

CAMERAS = ("side", "wrist")
"""Cameras, and keys of their pictures in an observation."""

STEP_SECONDS = 0.1
"""Simulated time of one step."""

SHIFT, TURN = 0.03, 0.25
"""Metres and radians that an action of 1 stands for."""

_ATTEMPTS = 60
_TEXT = "".join(chr(code) for code in range(32, 127))
_KINDS = (
    "cup", "mug", "can", "bottle", "bowl", "plate", "tray", "apple", "orange", "lemon", "banana", "egg",
    "strawberry", "ball", "block", "cylinder", "cone", "star", "heart", "duck", "car", "bus",
)  # fmt: skip
_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "brown")


class TabletopEnv(gymnasium.Env):
    """A language-conditioned task on a table with distractors.

    Observation (a dict):
        side, wrist: uint8 [size, size, 3], pictures of a camera before the table and one on the gripper.
        state: float32 [5]: x, y, z of the finger tips (metres), turn (radians) and opening (metres).
        instruction: str.
    Action, float32 [5] in [-1, 1]: the finger tips' shift along x, y, z (1 is 3 cm), the gripper's turn (1 is
    0.25 rad), and how far it is to be open (-1 closed, 1 open). A step is 0.1 s.
    Reward: 1 when the task is done, which ends the episode; else 0.
    Info: "task", "success", "target" and "goal" (names of objects; None), and "distractors", their number.

    Args:
        tasks: of `TASKS`; one is drawn an episode.
        distractors: (fewest, most) things on the table that the instruction does not name, within 0 to 14.
        cleared: take the distractors off the table, and leave all else as the same seed has it.
        size: side of the pictures in pixels, 32 to 512.
        shapes: kinds of things (`ivm.data.tabletop.catalogue.KINDS`); empty for two dozen common ones.
        colours: of things; empty for ten common ones.
        render_mode: None or "rgb_array" (both pictures side by side).

    Raises:
        OptionError: an option is outside what it accepts.
        MissingExtraError: gymnasium or mujoco is not installed.
        IVMError: no off-screen OpenGL library can be loaded (at the first `reset`).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / STEP_SECONDS)}  # noqa: RUF012 gymnasium's

    def __init__(
        self,
        tasks: tuple[str, ...] | str = tuple(TASKS),
        distractors: tuple[int, int] | int = (3, 7),
        cleared: bool = False,
        size: int = 128,
        shapes: tuple[str, ...] = (),
        colours: tuple[str, ...] = (),
        render_mode: str | None = None,
    ) -> None:
        self.tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
        for task in self.tasks or ("",):
            if task not in TASKS:
                raise OptionError(f"tasks must be some of {', '.join(TASKS)}, but got {task!r}")
        counts = (distractors, distractors) if isinstance(distractors, int) else tuple(distractors)
        if (
            len(counts) != 2
            or not all(isinstance(n, int) for n in counts)
            or not 0 <= counts[0] <= counts[1] <= 14
        ):
            raise OptionError(f"distractors must be (fewest, most) within 0 to 14, but got {distractors!r}")
        if not isinstance(size, int) or not 32 <= size <= 512:
            raise OptionError(f"size must be an integer from 32 to 512, but got {size!r}")
        if render_mode not in (None, "rgb_array"):
            raise OptionError(f"render_mode must be None or 'rgb_array', but got {render_mode!r}")
        self.distractors, self.cleared, self.size, self.render_mode = counts, bool(cleared), size, render_mode
        self._shapes, self._colours = tuple(shapes) or _KINDS, tuple(colours) or _COLOURS
        self._mujoco = load_mujoco("robot")
        self._renderer: CameraRenderer | None = None
        self._pictures: dict[str, np.ndarray] = {}
        for task in self.tasks:
            self._spec(task)  # tell a wrong name now
        spaces = gymnasium.spaces
        picture = {name: spaces.Box(0, 255, (size, size, 3), np.uint8) for name in CAMERAS}
        low = np.array([*(WORKSPACE[0] - 0.15), -2.0, -0.01], np.float32)  # it may be pushed over the edge
        high = np.array([*(WORKSPACE[1] + 0.15), 2.0, MAX_OPENING + 0.01], np.float32)
        self.observation_space = spaces.Dict(
            {
                **picture,
                "state": spaces.Box(low, high, dtype=np.float32),
                "instruction": spaces.Text(200, charset=_TEXT),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (5,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A new table and task; a function of `seed` alone, if that is given. There are no options.

        Raises:
            OptionError: the things and tasks asked for never come together in a way that the robot can do.
        """
        super().reset(seed=seed)
        if options:
            raise OptionError(f"ivm/Tabletop-v0 has no options of reset, but got {sorted(options)}")
        rng = self.np_random
        wanted = self.tasks[rng.integers(len(self.tasks))]
        for _ in range(_ATTEMPTS):
            self.library: Library = make_library(self._spec(wanted), int(rng.integers(2**31)), 0, per_kind=1)
            task = None
            for _ in range(4):  # a library costs more than an arrangement
                arrangement = arrange(self._spec(wanted), self.library, -np.pi / 2, rng)
                task = draw_task((wanted,), arrangement, self.library, rng)
                least = self.distractors[0] + len(task.relevant) if task is not None else 0
                if task is not None and len(arrangement.items) >= least:
                    break
                task = None
            if task is not None:
                break
        else:
            raise OptionError(
                f"no arrangement was found in which the robot can {wanted}: ask for fewer distractors, "
                f"but got {self.distractors}, or for other shapes"
            )
        if self.cleared:
            task, arrangement = without_distractors(task, arrangement)
        self.task: Task = task
        surfaces = self.library.by_role["surface"]
        tip = rng.uniform([-0.06, 0.02, 0.24], [0.06, 0.14, 0.30])
        self.gripper = Gripper(tip, rng)
        room = self._room(rng)

        def extend(spec: Any) -> None:
            room(spec)
            self.gripper.add(spec)

        surface = int(surfaces[rng.integers(len(surfaces))])
        self.world: World = build_world(self.library, arrangement, surface, extend)
        self.gripper.bind(self.world.model, self.world.data)
        self.world.step(60)  # things settle by fractions of a millimetre
        self.gripper.pose()
        self._start = np.array([self.world.position(k) for k in range(len(self.world.objects))])
        item = arrangement.items[task.target]
        top = item_points(item, self.library)[:, 2].max()
        self._top = np.array([*(item.centre - item.position)[:2], top - item.position[2]])
        self._owner = np.full(self.world.model.ngeom + 1, -1, np.int64)  # the last stands for no geom
        for k, thing in enumerate(self.world.objects):
            self._owner[list(thing.geoms)] = k
        self._is_robot = np.isin(np.arange(self.world.model.ngeom + 1), list(self.gripper.geoms))
        self.close()
        return self._observe(), self._info(False)

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move for 0.1 s. Values outside [-1, 1] are clipped.

        Raises:
            OptionError: the action is not five finite numbers.
        """
        values = np.asarray(action, np.float64)
        if values.shape != (5,) or not np.isfinite(values).all():
            raise OptionError(f"an action must be 5 finite numbers in [-1, 1], but got {action!r}")
        values = np.clip(values, -1.0, 1.0)
        steps = round(STEP_SECONDS / float(self.world.model.opt.timestep))
        self.gripper.move(
            values[:3] * SHIFT, float(values[3]) * TURN, (float(values[4]) + 1) / 2 * MAX_OPENING, steps
        )
        success = self.task.done(self.world, self.gripper, self._start, self._top)
        return self._observe(), float(success), success, False, self._info(success)

    def render(self) -> np.ndarray | None:
        """uint8 [size, 2 * size, 3]: both cameras' pictures; None where `render_mode` is None."""
        if self.render_mode is None:
            return None
        return np.concatenate([self._pictures[name] for name in CAMERAS], axis=1)

    def close(self) -> None:
        """Free the OpenGL context; the next picture opens one again."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def robot_mask(self, camera: str) -> np.ndarray:
        """bool [size, size]: the pixels of the robot in the present picture of a camera."""
        return self._is_robot[self._parts(camera)]

    def relevant_mask(self, camera: str) -> np.ndarray:
        """bool [size, size]: the pixels of what the instruction names, in the present picture of a camera."""
        return np.isin(self._owner[self._parts(camera)], self.task.relevant)

    def _spec(self, task: str) -> TabletopSpec:
        named = 2 if task == "place" else 1
        goals = tuple(
            (shape, colour)
            for shape in GOALS
            for colour in TabletopSpec(shapes=(shape,), colours=self._colours).choices.get(shape, ())
        )
        low, high = (n + named for n in self.distractors)
        shapes = self._shapes if task != "place" else (*self._shapes, *(set(GOALS) - set(self._shapes)))
        return TabletopSpec(
            shapes=tuple(sorted(shapes)),
            colours=self._colours,
            only_pairs=goals if task == "place" else (),
            objects=(low, high),
            stacked=0.0,
            patterns=0.1,
            labels=0.2,
        )

    def _room(self, rng: np.random.Generator) -> Any:
        """Adds floor, walls, light and the side camera."""
        floor, wall = (
            np.append(rng.uniform(0.35, 0.85) + rng.normal(0, 0.05, 3), 1).clip(0, 1) for _ in "ab"
        )
        position = np.array([0.0, -0.92, 0.68]) + rng.normal(0, 0.01, 3)
        rotation = look_at(position, np.array([0.0, 0.02, 0.06]))

        def add(spec: Any) -> None:
            mujoco = self._mujoco
            spec.visual.global_.offwidth = spec.visual.global_.offheight = self.size
            spec.visual.quality.shadowsize = 0  # shadows cost more than all else together
            spec.visual.quality.offsamples = 4
            spec.visual.map.znear, spec.visual.map.zfar = 0.02, 8.0
            spec.stat.extent, spec.stat.center = 1.0, [0, 0, 0]
            spec.visual.headlight.ambient = [0.42, 0.42, 0.42]
            spec.visual.headlight.diffuse = [0.25, 0.25, 0.25]
            spec.visual.headlight.specular = [0.0, 0.0, 0.0]
            for name, size, place, colour in (
                ("floor", [4, 4, 0.01], [0, 0, -0.75], floor),
                ("wall", [4, 0.01, 3], [0, 2.2, 0], wall),
            ):
                spec.worldbody.add_geom(
                    name=name,
                    type=mujoco.mjtGeom.mjGEOM_BOX,
                    size=size,
                    pos=place,
                    rgba=colour,
                    contype=0,
                    conaffinity=0,
                    group=VISUAL_GROUP,
                )
            frame = np.empty(4)
            mujoco.mju_mat2Quat(frame, np.ascontiguousarray(rotation).ravel())
            spec.worldbody.add_camera(name="side", pos=position, quat=frame, fovy=42)

        return add

    def _open(self) -> CameraRenderer:
        if self._renderer is None:
            self._renderer = CameraRenderer(self.world.model, self.world.data, self.size)
        return self._renderer

    def _observe(self) -> dict[str, Any]:
        renderer = self._open()
        for name in CAMERAS:
            self._pictures[name] = renderer.picture(name)
        gripper = self.gripper
        state = np.array([*gripper.tip, gripper.turn, gripper.opening], np.float32)
        space = self.observation_space["state"]
        return {
            **{name: self._pictures[name].copy() for name in CAMERAS},
            "state": np.clip(state, space.low, space.high),
            "instruction": self.task.instruction,
        }

    def _parts(self, camera: str) -> np.ndarray:
        """int [size, size]: the number of the geom at each pixel, or -1."""
        if camera not in CAMERAS:
            raise OptionError(f"camera must be one of {', '.join(CAMERAS)}, but got {camera!r}")
        return self._open().parts(camera)

    def _info(self, success: bool) -> dict[str, Any]:
        names = [f"{thing.colour} {thing.name}" for thing in self.world.objects]
        goal = self.task.goal
        return {
            "task": self.task.name,
            "success": success,
            "target": names[self.task.target],
            "goal": None if goal is None else names[goal],
            "distractors": len(names) - len(self.task.relevant),
        }
