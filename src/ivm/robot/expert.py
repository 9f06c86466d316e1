"""A scripted expert that solves the tabletop's tasks from the simulation's own state, for demonstrations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ivm.robot.gripper import WORKSPACE
from ivm.robot.tabletop import SHIFT, TURN, TabletopEnv
from ivm.robot.tasks import footprint, grasp, item_points

__all__ = ["expert_actions"]

_OPEN, _CLOSED = 1.0, -1.0
_TRAVEL = 0.16  # metres above the table at which it passes over things, at least
_PATIENCE = 25  # steps of one movement, after which the next begins


def expert_actions(env: TabletopEnv) -> Iterator[np.ndarray]:
    """The actions of one episode, float32 [5] each, from where the environment is when each is asked for.

    Ask for the next action after `env.step`. It stops by itself if its plan has been carried out without
    success; it never asks for more steps than the plan needs.

    Args:
        env: after `reset`, without wrappers (`env.unwrapped`).
    """
    world, task = env.world, env.task
    item = world.arrangement.items[task.target]
    points = item_points(item, env.library)
    tall = max(float(item_points(one, env.library)[:, 2].max()) for one in world.arrangement.items)

    def place() -> np.ndarray:
        return world.position(task.target) - item.position  # how far it has moved since it was laid out

    travel = min(max(_TRAVEL, tall + 0.03), WORKSPACE[1, 2])
    if task.name == "reach":
        top = np.array([*item.centre[:2], points[:, 2].max() + 0.012])
        yield from _over(env, top + place(), 0.0, _OPEN, travel)
        yield from _go(env, lambda: top + place(), 0.0, _OPEN, steps=8, near=0.004)
    elif task.name == "push":
        angle = float(np.arctan2(task.way[1], task.way[0]))
        back, _ = footprint(points, angle)
        middle = sum(footprint(points, angle + np.pi / 2)) / 2
        height = float(np.clip(0.4 * np.ptp(points[:, 2]), 0.012, 0.03))
        across = np.array([-task.way[1], task.way[0]])
        start = np.array([*(task.way * (back - 0.045) + across * middle), height])
        # The hand is wide along its own x: turned across the way, it pushes without slipping off.
        turn = (angle + np.pi) % np.pi - np.pi / 2
        yield from _over(env, start, turn, _CLOSED, travel)
        yield from _go(env, lambda: start, turn, _CLOSED)
        for _ in range(12):
            drift = float((place()[:2]) @ across)  # a round thing is kept before the hand
            goal = env.gripper.tip + np.array([*(0.02 * task.way + 0.5 * drift * across), 0.0])
            goal[2] = height
            yield _action(env, goal, turn, _CLOSED)
    else:
        turn, _, hold = grasp(points)
        yield from _over(env, hold + place(), turn, _OPEN, hold[2] + 0.09)
        yield from _go(env, lambda: hold + place(), turn, _OPEN, near=0.004)
        held = hold + place()
        for _ in range(4):
            yield _action(env, held, turn, _CLOSED)
        lift = held + np.array([0, 0, max(0.11, travel - held[2])])
        lift[2] = min(lift[2], WORKSPACE[1, 2])
        yield from _go(env, lambda: lift, turn, _CLOSED, near=0.02)
        if task.name == "place":
            assert task.goal is not None
            aim = world.arrangement.items[task.goal].centre[:2] + (hold[:2] - item.centre[:2])
            above = np.array([*aim, lift[2]])
            yield from _go(env, lambda: above, turn, _CLOSED)
            down = np.array([*aim, held[2] + 0.016])
            yield from _go(env, lambda: down, turn, _CLOSED)
            for _ in range(4):
                yield _action(env, down, turn, _OPEN)
            yield from _go(env, lambda: above, turn, _OPEN, steps=10)


def _over(
    env: TabletopEnv, goal: np.ndarray, turn: float, opening: float, height: float
) -> Iterator[np.ndarray]:
    """To above a place, at a height at which nothing is in the way."""
    above = np.array([*goal[:2], min(max(height, goal[2]), WORKSPACE[1, 2])])
    yield from _go(env, lambda: above, turn, opening, near=0.015)


def _go(
    env: TabletopEnv,
    goal: object,
    turn: float,
    opening: float,
    steps: int = _PATIENCE,
    near: float = 0.008,
) -> Iterator[np.ndarray]:
    """Towards a place until the finger tips are within `near` metres of it and turned as asked."""
    assert callable(goal)
    for _ in range(steps):
        place = np.clip(goal(), WORKSPACE[0], WORKSPACE[1])
        yield _action(env, place, turn, opening)
        if np.linalg.norm(env.gripper.tip - place) < near and abs(env.gripper.turn - turn) < 0.08:
            return


def _action(env: TabletopEnv, goal: np.ndarray, turn: float, opening: float) -> np.ndarray:
    """The action that leads straight to a goal, as fast as may be."""
    shift = (goal - env.gripper.tip) / SHIFT
    shift = shift / max(1.0, float(np.abs(shift).max()))
    action = np.array([*shift, (turn - env.gripper.turn) / TURN, opening])
    return np.clip(action, -1.0, 1.0).astype(np.float32)
