from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ivm.errors import DataError, OptionError
from ivm.robot.config import PolicyConfig
from ivm.robot.demonstrations import Setup
from ivm.robot.lcbc import DiffusionPolicy
from ivm.robot.masking import MaskSettings
from ivm.robot.rollouts import ClonedActor, ExpertActor, load_actor, roll_out, summarise, wilson_interval

SETUP = Setup(tasks=("reach",), distractors=(2, 2), size=32)
LOOKS = MaskSettings(every=1)


class Idle:
    """Looks twice and gives up."""

    def __init__(
        self,
        name: str = "idle",
        masker: str = "none",
        fingerprint: str = "first",
        settings: MaskSettings = LOOKS,
    ) -> None:
        self.name, self.masker, self.fingerprint, self.settings = name, masker, fingerprint, settings
        self.seen: list[dict] = []
        self.begun: list[int] = []

    def begin(self, env, seed):
        self.left = 2
        self.begun.append(seed)

    def act(self, observation):
        self.seen.append(observation)
        self.left -= 1
        return np.zeros(5, np.float32) if self.left >= 0 else None


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596)],
)
def test_wilson_intervals_are_those_of_the_tables(successes, count, low, high) -> None:
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-3)
    with pytest.raises(OptionError, match="successes must be"):
        wilson_interval(count + 1, count)


def test_the_expert_succeeds_and_the_idle_do_not_on_the_same_tables(simulator, tmp_path) -> None:
    record = tmp_path / "rollouts.jsonl"
    idle = Idle()
    rows = roll_out([ExpertActor(), idle], SETUP, 2, 40, record)
    rates = {(rate.name, rate.condition): rate for rate in summarise(rows)}
    for condition in ("cleared", "distractors"):
        assert rates["expert", condition].rate == 1.0
        assert rates["idle", condition].successes == 0
        assert rates["idle", condition].episodes == 2
    told = {(row["condition"], row["seed"]): row["instruction"] for row in rows if row["name"] == "idle"}
    for seed in (40, 41):
        assert told["cleared", seed] == told["distractors", seed]
    # Again: nothing is done twice; a line cut off is done again.
    lines = record.read_text().splitlines(keepends=True)
    assert len(lines) == 8
    record.write_text("".join(lines[:-1]) + lines[-1][:20])
    idle.begun.clear()
    again = roll_out([ExpertActor(), idle], SETUP, 2, 40, record)
    assert idle.begun == [41]
    assert [row["success"] for row in again] == [row["success"] for row in rows]
    assert len(record.read_text().splitlines()) == 8


def test_pictures_are_masked_as_the_actor_wants(simulator, tmp_path, bright) -> None:
    true, model = Idle("true", "environment"), Idle("model", "bright")
    roll_out(
        [true, model], SETUP, 1, 7, tmp_path / "r.jsonl", ["distractors"], load_masker=lambda name: bright
    )
    assert len(bright.asked) == 2 * 3  # cameras, and the moments of one episode of two steps
    white = (true.seen[0]["side"] == 255).all(axis=2).mean()
    assert white > 0.5


def test_episodes_of_another_policy_or_mask_do_not_count(simulator, tmp_path, bright) -> None:
    record = tmp_path / "rollouts.jsonl"
    said: list[str] = []

    def begun(actor: Idle) -> list[int]:
        roll_out([actor], SETUP, 1, 7, record, ["cleared"], load_masker=lambda name: bright, say=said.append)
        return actor.begun

    assert begun(Idle(masker="bright")) == [7]
    assert begun(Idle(masker="bright")) == []
    assert said == []
    assert begun(Idle(masker="bright", fingerprint="trained further")) == [7]
    assert said == [
        f"{record}: 1 of its episodes stay there but do not count, as they are of other policies or masks by "
        "the names idle"
    ]
    for settings in (
        MaskSettings("blur", 1),
        MaskSettings(every=2),
        MaskSettings("overlay", 1, {"dilate": 0.1}),
    ):
        assert begun(Idle(masker="bright", settings=settings)) == [7]
    bright.fingerprint = "ba9876543210"
    assert begun(Idle(masker="bright")) == [7]
    assert begun(Idle(masker="none")) == [7]
    assert len(record.read_text().splitlines()) == 7
    bright.fingerprint = "0123456789ab"
    assert begun(Idle(masker="bright")) == []  # the first policy's are still there

    # Records of old, without fingerprints, are read, and do not count.
    rows = [json.loads(line) for line in record.read_text().splitlines()]
    record.write_text(
        "".join(json.dumps({k: v for k, v in r.items() if k != "fingerprint"}) + "\n" for r in rows)
    )
    assert begun(Idle(masker="bright")) == [7]


def test_a_cloned_actors_fingerprint_is_of_its_weights_and_sizes() -> None:
    config = PolicyConfig(picture=32, width=4, hidden=32, blocks=1, horizon=4, execute=3, noise_steps=4)
    policy = DiffusionPolicy(config)

    def fingerprint(name: str = "x") -> str:
        return ClonedActor(name, policy, "none", MaskSettings()).fingerprint

    first = fingerprint()
    assert fingerprint("y") == first
    policy.config = replace(config, execute=2)
    assert fingerprint() != first
    policy.config = config
    with torch.no_grad():
        next(policy.parameters()).view(-1)[0] += 1
    assert fingerprint() != first


def test_a_cloned_actor_looks_again_after_a_few_actions() -> None:
    config = PolicyConfig(picture=32, width=4, hidden=32, blocks=1, horizon=4, execute=3, noise_steps=4)
    policy = DiffusionPolicy(config)
    chunks = []
    real = policy.sample
    policy.sample = lambda *given: chunks.append(real(*given)) or chunks[-1]
    actor = ClonedActor("x", policy, "none", MaskSettings())
    observation = {
        "side": np.zeros((64, 64, 3), np.uint8),
        "wrist": np.zeros((64, 64, 3), np.uint8),
        "state": np.zeros(5, np.float32),
        "instruction": "reach for the cup",
    }
    runs = []
    for _ in range(2):
        actor.begin(None, seed=3)
        runs.append([actor.act(observation) for _ in range(7)])
    assert len(chunks) == 6
    np.testing.assert_array_equal(runs[0], runs[1])  # the same seed, the same noise
    np.testing.assert_allclose(runs[0][:3], chunks[0][0, :3])
    np.testing.assert_allclose(runs[0][3], chunks[1][0, 0])


def test_what_does_not_fit_is_told(tmp_path) -> None:
    record = tmp_path / "r.jsonl"
    with pytest.raises(OptionError, match="different names"):
        roll_out([Idle(), Idle()], SETUP, 1, 0, record)
    with pytest.raises(OptionError, match="conditions must be some of"):
        roll_out([Idle()], SETUP, 1, 0, record, ["dark"])
    with pytest.raises(OptionError, match="episodes must be at least 1"):
        roll_out([Idle()], SETUP, 0, 0, record)
    record.write_text('{"name": "x"}\n' + json.dumps({}) + "\n")
    with pytest.raises(DataError, match=r"r\.jsonl:1 is no line"):
        roll_out([Idle()], SETUP, 1, 0, record)
    actor, setup = load_actor("expert")
    assert (actor.name, setup) == ("expert", Setup())


def test_a_record_is_mended_only_where_it_is_ours(simulator, tmp_path) -> None:
    record = tmp_path / "r.jsonl"
    for foreign in (b'{"important": true}', b"my notes", b"\xff\xfe\x00"):  # without a line's end
        record.write_bytes(foreign)
        with pytest.raises(DataError, match=r"r\.jsonl"):
            roll_out([Idle()], SETUP, 1, 0, record)
        assert record.read_bytes() == foreign
    record.unlink()
    roll_out([Idle()], SETUP, 1, 0, record, ["cleared"])
    line = record.read_text()
    for end in (line, line[:5], line[:50]):
        record.write_text(line + end.replace('"seed": 0', '"seed": 1').rstrip("\n"))
        again = Idle()
        roll_out([again], SETUP, 3, 0, record, ["cleared"])
        assert again.begun == ([2] if end == line else [1, 2])
        assert [json.loads(text)["seed"] for text in record.read_text().splitlines()] == [0, 1, 2]
