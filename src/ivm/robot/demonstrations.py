"""Demonstrations on disk: recorded by the scripted expert, read by training.

A folder holds

    demonstrations.json    how they were recorded: the environment's options, first seed, noise
    episodes/000017.npz    one episode, named by its seed (below)
    failures.jsonl         {"seed": 18, "steps": 31}: what the expert did not solve, and is not tried again

An episode of T steps holds, for each camera ("side", "wrist"), `<camera>` uint8 [T, S, S, 3] (the picture),
`<camera>_robot` and `<camera>_relevant` bool [T, S, S] (the true masks of the robot and of what the
instruction names); `state` float32 [T, 5] and `action` float32 [T, 5], as `ivm.robot.tabletop` has them;
`instruction`, a text of no dimension. Row t is what was seen before action t. Nothing is pickled: any NumPy
reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ivm.errors import DataError, OptionError, OutputError
from ivm.files import whole, write_text
from ivm.robot import MAX_STEPS
from ivm.robot.expert import expert_actions
from ivm.robot.tabletop import CAMERAS, TabletopEnv
from ivm.robot.tasks import TASKS

__all__ = ["Episode", "Recorded", "Setup", "episode_files", "read_episode", "read_setup", "record"]

_SETUP, _EPISODES, _FAILURES = "demonstrations.json", "episodes", "failures.jsonl"
_FORMAT = 1


@dataclass(frozen=True)
class Setup:
    """Options of the tabletop environment, as plain values; see `ivm.robot.tabletop.TabletopEnv`.

    Raises:
        OptionError: from `make`, where an option is outside what it accepts.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    distractors: tuple[int, int] = (3, 7)
    cleared: bool = False
    size: int = 128
    shapes: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()

    def make(self) -> TabletopEnv:
        """The environment."""
        return TabletopEnv(**asdict(self))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setup:
        """A setup from plain values; absent ones keep their default."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise OptionError(f"the environment has no option {unknown[0]!r}: expected {sorted(known)}")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True, eq=False)
class Episode:
    """One demonstration: `arrays` as the module describes them, and its instruction."""

    seed: int
    instruction: str
    arrays: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.arrays["action"])


@dataclass(frozen=True)
class Recorded:
    """What a recording came to: episodes made now, made before, and failed."""

    made: int
    before: int
    failed: int
    finished: bool


def record(
    folder: Path,
    setup: Setup,
    episodes: int,
    seed: int = 0,
    noise: float = 0.1,
    progress: Callable[[int, int], None] | None = None,
) -> Recorded:
    """Record until the folder holds `episodes` demonstrations that succeed; the same call goes on.

    Args:
        folder: is made if absent.
        setup: the environment's options.
        episodes: how many, at least 1.
        seed: of the first episode; the others follow.
        noise: standard deviation of what is added to the expert's actions as they are carried out (the ones
            written stay the expert's), in units of an action: the expert then also shows how to correct.
        progress: called with (episodes there, episodes wanted).

    Returns:
        counts; `finished` is False where it was interrupted by Ctrl-C, which loses nothing but the episode
        at hand.

    Raises:
        OptionError: an option is out of range, or the folder was recorded with others.
        OutputError: the folder cannot be written.
    """
    if episodes < 1 or seed < 0 or not 0.0 <= noise <= 1.0:
        raise OptionError(
            "episodes must be at least 1, seed at least 0 and noise in [0, 1], "
            f"but got {episodes}, {seed} and {noise}"
        )
    settings = {"format": _FORMAT, "environment": setup.to_json(), "seed": seed, "noise": noise}
    env = setup.make()
    try:
        (folder / _EPISODES).mkdir(parents=True, exist_ok=True)
        _begin(folder / _SETUP, settings)
        done = {int(file.stem) for file in episode_files(folder, least=0)}
        failed = _failures(folder / _FAILURES)
        before, made = len(done), 0
        try:
            while len(done) < episodes:
                while seed in done or seed in failed:
                    seed += 1
                arrays, steps = _record_one(env, seed, noise)
                if arrays is None:
                    failed.add(seed)
                    with (folder / _FAILURES).open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"seed": seed, "steps": steps}) + "\n")
                else:
                    _write(folder / _EPISODES / f"{seed:06d}.npz", arrays)
                    done.add(seed)
                    made += 1
                if progress is not None:
                    progress(len(done), episodes)
        except KeyboardInterrupt:
            return Recorded(made, before, len(failed), False)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        env.close()
    return Recorded(made, before, len(failed), True)


def read_setup(folder: Path) -> Setup:
    """How the demonstrations of a folder were recorded.

    Raises:
        DataError: it holds none.
    """
    return Setup.from_json(_settings(folder / _SETUP)["environment"])


def episode_files(folder: Path, least: int = 1) -> list[Path]:
    """The files of a folder's episodes, by seed.

    Raises:
        DataError: there are fewer than `least`.
    """
    files = sorted(file for file in (folder / _EPISODES).glob("*.npz") if file.stem.isdigit())
    if len(files) < least:
        raise DataError(
            f"{folder} must hold at least {least} demonstrations, but holds {len(files)}: "
            f"make some by  ivm robot record {folder}"
        )
    return files


def read_episode(file: Path) -> Episode:
    """One demonstration.

    Raises:
        DataError: the file is damaged or of another form.
    """
    forms: dict[str, tuple[type, int]] = {
        "state": (np.float32, 2),
        "action": (np.float32, 2),
    }  # and dimensions
    for c in CAMERAS:
        forms |= {c: (np.uint8, 4), f"{c}_robot": (np.bool_, 3), f"{c}_relevant": (np.bool_, 3)}
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            instruction = str(stored["instruction"])
            arrays = {name: stored[name] for name in forms}
    except Exception as error:  # zip, zlib and NumPy raise many kinds
        raise DataError(f"{file} is not a demonstration, or damaged: {error}") from error
    for name, (dtype, dimensions) in forms.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != dimensions:
            raise DataError(
                f"{file}: {name} must be {np.dtype(dtype)} of {dimensions} dimensions, but is "
                f"{arrays[name].dtype} {list(arrays[name].shape)}"
            )
    steps = len(arrays["action"])
    for name, array in arrays.items():
        if len(array) != steps or not steps:
            raise DataError(f"{file}: {name} must have {steps} rows like action, but has {len(array)}")
    return Episode(int(file.stem), instruction, arrays)


def _record_one(env: TabletopEnv, seed: int, noise: float) -> tuple[dict[str, np.ndarray] | None, int]:
    """The arrays of an episode, or None where the expert fails, and the steps it took."""
    rng = np.random.default_rng([seed, 0xDE40])
    observation, _ = env.reset(seed=seed)
    rows: dict[str, list[Any]] = {}
    for step, action in enumerate(expert_actions(env)):
        row = {"state": observation["state"], "action": action}
        for camera in CAMERAS:
            row[camera] = observation[camera]
            row[f"{camera}_robot"] = env.robot_mask(camera)
            row[f"{camera}_relevant"] = env.relevant_mask(camera)
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
        shaken = action.copy()
        shaken[:4] += rng.normal(0.0, noise, 4)  # not the fingers: they would drop things
        observation, _, success, _, _ = env.step(shaken)
        if success:
            arrays = {name: np.stack(values) for name, values in rows.items()}
            return arrays | {"instruction": np.array(observation["instruction"])}, step + 1
        if step + 1 >= MAX_STEPS:
            break
    return None, len(rows["action"])


def _begin(path: Path, settings: dict[str, Any]) -> None:
    if path.exists():
        there = _settings(path)
        if there != settings:
            wrong = next(name for name in settings if there.get(name) != settings[name])
            raise OptionError(
                f"{path.parent} was recorded with {wrong} {there.get(wrong)}, but got {settings[wrong]}: "
                "choose another folder"
            )
        return
    write_text(path, json.dumps(settings, indent=2) + "\n")


def _settings(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path.parent} must hold {_SETUP}, as ivm robot record writes it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or values.get("format") != _FORMAT or "environment" not in values:
        raise DataError(f"{path} must be of format {_FORMAT}, but is not")
    return values


def _failures(path: Path) -> set[int]:
    if not path.exists():
        return set()
    seeds = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            seeds.add(int(json.loads(line)["seed"]))
        except (ValueError, KeyError, TypeError):  # cut off when the machine stopped: it is tried again
            continue
    return seeds


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with whole(path, sync=True) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
