"""What the robot may be told to do: which object, where to, in what words, and when it is done."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ivm.data.tabletop.arranging import Arrangement, Item
from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.library import Library
from ivm.data.tabletop.world import World
from ivm.robot.gripper import MAX_OPENING, WORKSPACE, Gripper

__all__ = ["GOALS", "TASKS", "Task", "draw_task", "footprint", "grasp", "item_points", "without_distractors"]

TASKS: dict[str, str] = {
    "reach": "bring the finger tips to the object's top",
    "push": "push the object at least 6 cm to the left, to the right, away or closer",
    "pick": "lift the object at least 6 cm",
    "place": "put the object on or in another one and let go",
}
"""Task -> when it is done."""

GOALS = ("plate", "bowl", "tray")
"""Kinds that things are put on or in."""

_TEXTS: dict[str, tuple[str, ...]] = {
    "reach": ("reach for {x}", "go to {x}", "move the gripper to {x}", "touch {x}"),
    "push": ("push {x} {way}", "slide {x} {way}", "move {x} {way}", "shift {x} {way}"),
    "pick": ("pick up {x}", "lift {x}", "grab {x}", "take {x}"),
    "place": ("put {x} {on} {y}", "place {x} {on} {y}", "pick up {x} and put it {on} {y}"),
}
_WAYS: dict[str, tuple[float, float]] = {  # as the side camera sees it
    "to the left": (-1.0, 0.0),
    "to the right": (1.0, 0.0),
    "away": (0.0, 1.0),
    "closer": (0.0, -1.0),
}
_PUSHED = _LIFTED = 0.06
_NEAR = 0.03  # metres from the middle of the top, sideways, and above it
_GRASPED = MAX_OPENING - 0.012  # widest thing that goes between the fingers with room to spare
_HAND = 0.062  # half width of the hand, in metres: what stands nearer is in its way


@dataclass(frozen=True, eq=False)
class Task:
    """One task in one arrangement.

    Attributes:
        name: of TASKS.
        instruction: what the robot is told.
        target: index of the object to act on.
        goal: index of the object to put it on or in; None for other tasks.
        way: float [2], where to push, in the table's plane; zero for other tasks.
        radius: half the goal's smallest width, in metres; 0 for other tasks.
    """

    name: str
    instruction: str
    target: int
    goal: int | None
    way: np.ndarray
    radius: float = 0.0

    @property
    def relevant(self) -> tuple[int, ...]:
        """Indices of the objects that the instruction names."""
        return (self.target,) if self.goal is None else (self.target, self.goal)

    def done(self, world: World, gripper: Gripper, start: np.ndarray, top: np.ndarray) -> bool:
        """Whether it is done now.

        Args:
            world: as it is.
            gripper: as it is.
            start: float [N, 3], positions of the objects at the beginning.
            top: float [3], the middle of the target's upper side, relative to its position at the beginning.
        """
        place = world.position(self.target)
        moved = place - start[self.target]
        if self.name == "reach":
            apart = gripper.tip - (place + top)
            return bool(np.linalg.norm(apart[:2]) < _NEAR and abs(apart[2]) < _NEAR)
        if self.name == "push":
            along = float(moved[:2] @ self.way)
            across = float(np.linalg.norm(moved[:2] - along * self.way))
            return along > _PUSHED and across < along
        if self.name == "pick":
            return bool(moved[2] > _LIFTED and gripper.touches(world.objects[self.target].body))
        assert self.goal is not None
        item = world.arrangement.items[self.goal]
        apart = place + top - (world.position(self.goal) + item.centre - item.position)
        held = gripper.touches(world.objects[self.target].body)
        speed = world.data.qvel[world.objects[self.target].speed :][:3]
        resting = not held and float(np.linalg.norm(speed)) < 0.05
        # In the plane of the goal's rim or above it, within the rim, and no longer on the table's level.
        return bool(resting and np.linalg.norm(apart[:2]) < 0.85 * self.radius and moved[2] > 0.002)


def item_points(item: Item, library: Library) -> np.ndarray:
    """float [P, 3]: points on the surface of an object as it was placed."""
    points = library.specimens[item.specimen].points @ item.matrix.T
    return points + item.position


def footprint(points: np.ndarray, angle: float) -> tuple[float, float]:
    """(least, greatest) coordinate of points along the direction `angle` (radians) in the table's plane."""
    along = points[:, 0] * np.cos(angle) + points[:, 1] * np.sin(angle)
    return float(along.min()), float(along.max())


def grasp(points: np.ndarray) -> tuple[float, float, np.ndarray]:
    """How to take hold of an object from above.

    Returns:
        turn of the gripper in [-pi/2, pi/2) along which the object is narrowest at the height of the fingers,
        its width there in metres, and where the finger tips go, float [3].
    """
    low, high = points[:, 2].min(), points[:, 2].max()
    height = float(max(low + 0.010, high - 0.045, WORKSPACE[0, 2]))
    reached = points[points[:, 2] > height - 0.004]
    turns = np.arange(-90, 90, 7.5) * np.pi / 180
    spans = [footprint(reached, turn) for turn in turns]
    widths = np.array([b - a for a, b in spans])
    best = int(np.argmin(widths + 0.002 * np.abs(turns)))  # of round things, the smallest turn
    turn = float(turns[best])
    along, across = sum(spans[best]) / 2, sum(footprint(reached, turn + np.pi / 2)) / 2
    c, s = np.cos(turn), np.sin(turn)
    return turn, float(widths[best]), np.array([c * along - s * across, s * along + c * across, height])


def draw_task(
    names: tuple[str, ...], arrangement: Arrangement, library: Library, rng: np.random.Generator
) -> Task | None:
    """A task, of `names`, that the robot can do in an arrangement; None if there is none.

    The object can be told from all others by the words used, and nothing stands where the hand has to go.
    """
    items = arrangement.items
    clouds = [item_points(item, library) for item in items]
    for name in rng.permutation(names):
        for target in rng.permutation(len(items)):
            noun = _noun(int(target), items, rng)
            if noun is None or not _within(clouds[target]) or items[target].support >= 0:
                continue
            others = [cloud for k, cloud in enumerate(clouds) if k != target]
            others_at = np.concatenate(others) if others else np.full((1, 3), 9.0)
            words = {"x": noun}
            goal, way = None, np.zeros(2)
            if name == "reach":
                if items[target].name in GOALS or not _clear(clouds[target].mean(axis=0)[:2], others_at):
                    continue
            elif name == "push":
                ways = [w for w in rng.permutation(list(_WAYS)) if _free(clouds[target], _WAYS[w], others_at)]
                if not ways:
                    continue
                words["way"], way = str(ways[0]), np.array(_WAYS[str(ways[0])])
            else:
                _, width, place = grasp(clouds[target])
                if (
                    width > _GRASPED
                    or items[target].name in GOALS
                    or np.ptp(clouds[target][:, 2]) < 0.018
                    or not _clear(place[:2], others_at)
                ):
                    continue
                if name == "place":
                    goal = _draw_goal(int(target), items, clouds, rng)
                    if goal is None:
                        continue
                    words["y"] = _noun(goal, items, rng) or ""
                    words["on"] = "in" if items[goal].name == "bowl" else "on"
            texts = _TEXTS[str(name)]
            text = texts[rng.integers(len(texts))].format(**words)
            radius = 0.0 if goal is None else _radius(clouds[goal])
            return Task(str(name), text, int(target), goal, way, radius)
    return None


def without_distractors(task: Task, arrangement: Arrangement) -> tuple[Task, Arrangement]:
    """The same task with nothing on the table but what its instruction names, each where it was."""
    kept = tuple(replace(arrangement.items[k], support=-1) for k in task.relevant)
    goal = None if task.goal is None else 1
    return replace(task, target=0, goal=goal), Arrangement(kept, arrangement.heights)


def _noun(index: int, items: tuple[Item, ...], rng: np.random.Generator) -> str | None:
    """Words that tell one item from all others, or None."""
    item = items[index]
    alike = [
        other
        for k, other in enumerate(items)
        if k != index and (other.name == item.name or item.name in KINDS[other.name].synonyms)
    ]
    if not alike and rng.random() < 0.3:
        return f"the {item.name}"
    if any(other.colour == item.colour for other in alike):
        return None
    return f"the {item.name}" if item.colour == item.name else f"the {item.colour} {item.name}"


def _radius(points: np.ndarray) -> float:
    """Half the smallest width of an object as seen from above."""
    spans = [footprint(points, angle) for angle in np.linspace(0, np.pi, 12, endpoint=False)]
    return min(b - a for a, b in spans) / 2


def _within(points: np.ndarray) -> bool:
    low, high = WORKSPACE[0, :2] + 0.05, WORKSPACE[1, :2] - 0.05
    middle = (points.min(axis=0) + points.max(axis=0))[:2] / 2
    return bool((middle > low).all() and (middle < high).all() and points[:, 2].max() < 0.2)


def _clear(place: np.ndarray, others: np.ndarray) -> bool:
    """Whether the open hand can come down at `place` [2]."""
    return bool(np.linalg.norm(others[:, :2] - place, axis=1).min() > _HAND)


def _free(points: np.ndarray, way: tuple[float, float], others: np.ndarray) -> bool:
    """Whether the hand can stand behind the object, and the object slide 15 cm along `way`."""
    direction = np.array(way)
    angle = float(np.arctan2(direction[1], direction[0]))
    back, front = footprint(points, angle)
    left, right = footprint(points, angle + np.pi / 2)
    along = others[:, :2] @ direction
    across = others[:, :2] @ np.array([-direction[1], direction[0]])
    in_way = (along > back - 0.1) & (along < front + 0.15) & (across > left - 0.03) & (across < right + 0.03)
    middle = (left + right) / 2
    ends = np.array([[back - 0.06, middle], [front + 0.09, middle]])
    ends = ends @ np.array([direction, [-direction[1], direction[0]]])
    inside = (ends > WORKSPACE[0, :2]).all() and (ends < WORKSPACE[1, :2]).all()
    return bool(inside and not in_way.any() and np.ptp(points[:, 2]) > 0.025)


def _draw_goal(
    target: int, items: tuple[Item, ...], clouds: list[np.ndarray], rng: np.random.Generator
) -> int | None:
    width = max(np.ptp(clouds[target][:, 0]), np.ptp(clouds[target][:, 1]))
    for k in rng.permutation(len(items)):
        fits = items[k].name in GOALS and k != target and _within(clouds[k])
        if fits and width < 1.5 * _radius(clouds[k]) and _noun(int(k), items, rng):
            middle = (clouds[k].min(axis=0) + clouds[k].max(axis=0))[:2] / 2
            tall = [c[c[:, 2] > 0.07] for n, c in enumerate(clouds) if n not in (k, target)]
            if all(not len(c) or np.linalg.norm(c[:, :2] - middle, axis=1).min() > _HAND for c in tall):
                return int(k)
    return None
