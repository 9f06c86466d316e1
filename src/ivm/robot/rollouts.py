"""Rollouts of policies on the tabletop: how often they succeed, with and without distractors.

Every policy is tried on the same seeds, and a table with distractors is, object by object, the cleared one of
the same seed with more on it; so policies and conditions are compared on equal terms.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import save

from ivm.errors import DataError, OptionError, OutputError
from ivm.files import write_text
from ivm.masker import Masker, load
from ivm.robot import MAX_STEPS
from ivm.robot.cloning import MASKER_FILES, TEXT_ENCODER, load_policy
from ivm.robot.config import TRUE_MASKS, UNMASKED, CloningConfig
from ivm.robot.demonstrations import Setup
from ivm.robot.expert import expert_actions
from ivm.robot.lcbc import DiffusionPolicy, text_features, text_fingerprint
from ivm.robot.masking import MaskSettings
from ivm.robot.moments import shrink
from ivm.robot.wrappers import MaskedObservation

__all__ = [
    "CONDITIONS",
    "EXPERT",
    "Actor",
    "ClonedActor",
    "ExpertActor",
    "Rate",
    "load_actor",
    "roll_out",
    "summarise",
    "wilson_interval",
]

CONDITIONS = {"cleared": "no distractors", "distractors": "with distractors"}
"""Condition -> what it is called in tables."""

EXPERT = "expert"
"""Stands for the scripted expert in place of a policy."""


_FIRST = '{"name": '  # so a line of the record begins


class Actor(Protocol):
    """What is rolled out.

    Attributes:
        name: for tables and records.
        masker: how its pictures are masked: "none", "environment" or a model's name.
        settings: of masking.
        fingerprint: tells it, without its masks, from others of its name.
    """

    name: str
    masker: str
    settings: MaskSettings
    fingerprint: str

    def begin(self, env: Any, seed: int) -> None:
        """An episode begins; `env` is the tabletop without wrappers."""
        ...

    def act(self, observation: dict[str, Any]) -> np.ndarray | None:
        """float32 [5], or None where it has nothing more to do."""
        ...


class ClonedActor:
    """A trained policy: looks, draws a chunk of actions, carries out the first few, looks again.

    `masker_files`: fingerprint of the masker that it was trained with, if that is known.
    """

    def __init__(
        self,
        name: str,
        policy: DiffusionPolicy,
        masker: str,
        settings: MaskSettings,
        masker_files: str | None = None,
    ) -> None:
        self.name, self.masker, self.settings, self.masker_files = name, masker, settings, masker_files
        self._policy, self._waiting = policy.eval(), deque[np.ndarray]()
        content = save(policy.state_dict(), {"config": json.dumps(policy.config.to_json())})
        self.fingerprint = hashlib.sha256(content).hexdigest()[:16]

    def begin(self, env: Any, seed: int) -> None:
        """Its own noise is drawn from the seed, too: an episode is the same every time."""
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting.clear()

    def act(self, observation: dict[str, Any]) -> np.ndarray:
        """See `Actor`."""
        if not self._waiting:
            config = self._policy.config
            pictures = np.stack([shrink(observation[c], config.picture) for c in config.cameras])
            chunk = self._policy.sample(
                torch.from_numpy(pictures).permute(0, 3, 1, 2)[None],
                torch.from_numpy(np.asarray(observation["state"], np.float32))[None],
                torch.from_numpy(text_features(observation["instruction"]).copy())[None],
                self._generator,
            )
            self._waiting.extend(chunk[0, : config.execute].numpy())
        return self._waiting.popleft()


class ExpertActor:
    """The scripted expert, which knows the simulation's state: the most that can be reached."""

    name = EXPERT
    masker = UNMASKED
    settings = MaskSettings()
    fingerprint = EXPERT

    def begin(self, env: Any, seed: int) -> None:
        """See `Actor`."""
        self._actions = expert_actions(env)

    def act(self, observation: dict[str, Any]) -> np.ndarray | None:
        """See `Actor`."""
        return next(self._actions, None)


@dataclass(frozen=True)
class Rate:
    """Successes of one policy in one condition, with the 95 % interval of Wilson's score."""

    name: str
    masker: str
    condition: str
    successes: int
    episodes: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        """In [0, 1]."""
        return self.successes / self.episodes


def load_actor(name: str) -> tuple[Actor, Setup]:
    """What `name` means, a policy's file or run folder or "expert", and the setup it was trained in.

    Raises:
        CheckpointError: there is no policy.
        OptionError: it was trained on the text encoder of other embedded weights.
    """
    if name == EXPERT:
        return ExpertActor(), Setup()
    policy, config, header = load_policy(Path(name))
    trained: CloningConfig = config
    label = Path(name).resolve().parent.name if Path(name).is_file() else Path(name).resolve().name
    asked = header.get("asked", {})
    if asked.get(TEXT_ENCODER, text_fingerprint()) != text_fingerprint():
        raise OptionError(
            f"the policy {label} was trained on another version of ivm's text encoder, and would take "
            "instructions for others: train it again, or install the version that it was trained with"
        )
    files = asked.get(MASKER_FILES)
    actor = ClonedActor(label, policy, trained.masker, trained.settings, files)
    return actor, Setup.from_json(header["environment"])


def wilson_interval(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """(low, high) of a share, by Wilson's score: true to small counts and to shares near 0 and 1.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Raises:
        OptionError: not 0 <= successes <= count, or count is 0.
    """
    if count < 1 or not 0 <= successes <= count:
        raise OptionError(
            f"successes must be from 0 to a count of at least 1, but got {successes} of {count}"
        )
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def roll_out(
    actors: Sequence[Actor],
    setup: Setup,
    episodes: int,
    seed: int,
    record: Path,
    conditions: Sequence[str] = tuple(CONDITIONS),
    progress: Callable[[int, int], None] | None = None,
    load_masker: Callable[[str], Masker] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Try every actor in every condition on seeds `seed`, `seed + 1`, ...; the same call goes on.

    Lines of the record count only where they are of the very same policy, masker and settings of masking.

    Args:
        actors: with different names.
        setup: of the environment; `cleared` is set by the condition.
        episodes: for each actor and condition.
        seed: of the first episode.
        record: JSON-lines file, a line an episode, added to as they end: name, masker, fingerprint,
            condition, seed, environment, success, steps, instruction. Lines that it has already are not done
            again.
        conditions: of CONDITIONS.
        progress: called with (episodes done, episodes in all).
        load_masker: makes the masker of a name; default `ivm.masker.load`.
        say: called with a line for people where the record has others of an actor's name, which do not count.

    Returns:
        the rows asked for, those of earlier calls included. Ctrl-C (KeyboardInterrupt) passes; what is in the
        record stays.

    Raises:
        OptionError: a condition is unknown, two actors have one name, counts are out of range, or a masker's
            files are others than those that a policy was trained with.
        DataError: the record is damaged.
        OutputError: the record cannot be written.
    """
    if episodes < 1 or seed < 0:
        raise OptionError(f"episodes must be at least 1 and seed at least 0, but got {episodes} and {seed}")
    for condition in conditions:
        if condition not in CONDITIONS:
            raise OptionError(f"conditions must be some of {', '.join(CONDITIONS)}, but got {condition!r}")
    names = [actor.name for actor in actors]
    if len(set(names)) < len(names):
        raise OptionError(f"policies must have different names, but got {', '.join(names)}: rename a folder")
    there = _read(record)
    maskers: dict[str, Masker | str] = {UNMASKED: UNMASKED, TRUE_MASKS: TRUE_MASKS}
    for actor in actors:
        if actor.masker not in maskers:
            maskers[actor.masker] = (load_masker or load)(actor.masker)
        _check_masker(actor, maskers[actor.masker])
    fingerprints = {actor.name: _fingerprint(actor, maskers[actor.masker]) for actor in actors}
    others = [
        row["name"]
        for row in there.values()
        if fingerprints.get(row["name"], row["fingerprint"]) != row["fingerprint"]
    ]
    if others:
        say(
            f"{record}: {len(others)} of its episodes stay there but do not count, as they are of other "
            f"policies or masks by the names {', '.join(sorted(set(others)))}"
        )
    rows, wanted = [], len(actors) * len(conditions) * episodes
    record.parent.mkdir(parents=True, exist_ok=True)
    for condition in conditions:
        place = replace(setup, cleared=condition == "cleared")
        for actor in actors:
            env: Any = None
            for number in range(seed, seed + episodes):
                asked = {
                    "name": actor.name,
                    "masker": actor.masker,
                    "fingerprint": fingerprints[actor.name],
                    "condition": condition,
                    "seed": number,
                    "environment": place.to_json(),
                }
                if _key(asked) in there:
                    rows.append(there[_key(asked)])
                else:
                    if env is None:  # an OpenGL context, only where there is something to do
                        env = place.make()
                        if actor.masker != UNMASKED:
                            env = MaskedObservation(env, maskers[actor.masker], actor.settings)
                    row = {**asked, **_episode(env, actor, number)}
                    _append(record, row)
                    rows.append(row)
                if progress is not None:
                    progress(len(rows), wanted)
            if env is not None:
                env.close()
    return rows


def summarise(rows: Sequence[dict[str, Any]]) -> list[Rate]:
    """Success rates by policy and condition, in the order in which they come."""
    groups: dict[tuple[str, str, str], list[bool]] = {}
    for row in rows:
        key = (row["name"], row["masker"], row["condition"])
        groups.setdefault(key, []).append(bool(row["success"]))
    return [
        Rate(*key, sum(found), len(found), *wilson_interval(sum(found), len(found)))
        for key, found in groups.items()
    ]


def _episode(env: Any, actor: Actor, seed: int) -> dict[str, Any]:
    observation, _ = env.reset(seed=seed)
    actor.begin(env.unwrapped, seed)
    success, steps = False, 0
    while steps < MAX_STEPS and not success:
        action = actor.act(observation)
        if action is None:
            break
        observation, _, success, _, _ = env.step(action)
        steps += 1
    return {"success": bool(success), "steps": steps, "instruction": observation["instruction"]}


def _check_masker(actor: Actor, masker: Masker | str) -> None:
    trained, now = getattr(actor, "masker_files", None), getattr(masker, "fingerprint", None)
    if trained is not None and now is not None and trained != now:
        raise OptionError(
            f"the policy {actor.name} was trained with another model by the name {actor.masker!r}: bring its "
            "files back, or train the policy again"
        )


def _fingerprint(actor: Actor, masker: Masker | str) -> str:
    """A hash of all that decides what an actor does: itself, and how its pictures are masked."""
    masks = masker if isinstance(masker, str) else masker.fingerprint
    settings = actor.settings
    parts = [actor.fingerprint, masks, settings.mode, settings.every, dict(settings.options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _key(row: dict[str, Any]) -> str:
    names = ("name", "masker", "fingerprint", "condition", "seed", "environment")
    return json.dumps([row[name] for name in names], sort_keys=True)


def _read(record: Path) -> dict[str, dict[str, Any]]:
    if not record.exists():
        return {}
    try:
        lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{record} must be a record of rollouts, but cannot be read: {error}") from error
    rows = {}
    for number, line in enumerate(lines, 1):
        try:
            row = {"fingerprint": "", **json.loads(line)}  # older records have none
            rows[_key(row)] = {**row, "success": bool(row["success"])}
        except (ValueError, KeyError, TypeError) as error:
            # Cut off as it was written; but only what begins like one of ours is ours to remove.
            if (
                number == len(lines)
                and not line.endswith("\n")
                and line[: len(_FIRST)] == _FIRST[: len(line)]
            ):
                write_text(record, "".join(lines[:-1]))
                return rows
            raise DataError(f"{record}:{number} is no line of a rollout: {error!r}") from error
    if lines and not lines[-1].endswith("\n"):  # else the next line would be added to it
        write_text(record, "".join([*lines, "\n"]))
    return rows


def _append(record: Path, row: dict[str, Any]) -> None:
    try:
        with record.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise OutputError(f"{record} cannot be written: {error.strerror or error}") from error
