from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ivm.errors import CheckpointError, DataError, OptionError
from ivm.robot import cloning, rollouts
from ivm.robot.cloning import load_policy, train_policy
from ivm.robot.config import CloningConfig, PolicyConfig
from ivm.robot.demonstrations import Setup, record
from ivm.robot.rollouts import load_actor, roll_out

POLICY = PolicyConfig(picture=32, width=4, hidden=32, blocks=1, horizon=4, execute=2, noise_steps=10)
CONFIG = CloningConfig(masker="environment", steps=12, batch=4, policy=POLICY)


@pytest.fixture(scope="module")
def demonstrations(simulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demonstrations")
    record(folder, Setup(tasks=("reach",), distractors=(0, 0), size=32), 3)
    return folder


def test_an_interrupted_run_ends_as_one_that_was_not(demonstrations, tmp_path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    whole = train_policy(demonstrations, tmp_path / "whole", CONFIG)
    assert (whole.finished, whole.steps) == (True, 12)
    part = train_policy(demonstrations, tmp_path / "part", CONFIG, progress=stop)
    assert (part.finished, part.steps) == (False, 5)
    with pytest.raises(CheckpointError, match="a finished run"):
        load_policy(tmp_path / "part")
    with pytest.raises(OptionError, match="other values of batch"):
        train_policy(
            demonstrations,
            tmp_path / "part",
            CloningConfig(masker="environment", steps=12, batch=5, policy=POLICY),
        )
    said = []
    rest = train_policy(demonstrations, tmp_path / "part", CONFIG, said.append)
    assert rest.finished
    assert "goes on from step 5" in said
    one, config, header = load_policy(tmp_path / "whole")
    two, *_ = load_policy(tmp_path / "part" / "policy.safetensors")
    assert config == CONFIG
    assert header["environment"]["tasks"] == ["reach"]
    for (name, a), (_, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert rest.held_out == pytest.approx(whole.held_out, rel=1e-4)
    assert not (tmp_path / "part" / "checkpoint.pt").exists()
    # Once it is done, it stays as it is.
    content = rest.weights.read_bytes()
    assert train_policy(demonstrations, tmp_path / "part", CONFIG, progress=stop) == rest
    with pytest.raises(OptionError, match="other values of seed"):
        train_policy(demonstrations, tmp_path / "part", replace(CONFIG, seed=1))
    assert rest.weights.read_bytes() == content


def test_a_step_is_in_the_log_once(demonstrations, tmp_path) -> None:
    config = replace(CONFIG, steps=1)
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    log.write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 9.0}\n{"st')  # of a run that was killed
    train_policy(demonstrations, log.parent, config)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1]
    assert lines[1]["loss"] != 9.0


def test_training_lowers_the_loss_on_what_was_left_out(demonstrations, tmp_path) -> None:
    short, long = (
        CloningConfig(masker="none", steps=steps, batch=8, policy=POLICY, rate=3e-3) for steps in (1, 150)
    )
    before = train_policy(demonstrations, tmp_path / "short", short).held_out
    after = train_policy(demonstrations, tmp_path / "long", long).held_out
    assert after < 0.8 * before


def test_damage_is_named(demonstrations, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="train one by  ivm robot train"):
        load_policy(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="is not a policy's weights"):
        load_policy(tmp_path)
    with pytest.raises(CheckpointError, match="is not a policy's weights"):
        train_policy(demonstrations, tmp_path, CONFIG)
    (tmp_path / "policy.safetensors").unlink()
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="remove it to begin anew"):
        train_policy(demonstrations, tmp_path, CONFIG)
    with pytest.raises(OptionError, match="device must be"):
        train_policy(demonstrations, tmp_path / "run", CONFIG, device="abacus")
    with pytest.raises(DataError, match="at least 2 demonstrations"):
        train_policy(tmp_path, tmp_path / "run", CONFIG)


def test_a_run_stays_with_its_demonstrations(demonstrations, tmp_path) -> None:
    config = replace(CONFIG, steps=2)
    assert train_policy(demonstrations, tmp_path / "run", config).finished
    others = tmp_path / "others"  # of the same seeds
    shutil.copytree(demonstrations, others)
    for file in sorted(others.glob("episodes/*.npz")):
        with np.load(file) as stored:
            arrays = dict(stored)
        np.savez_compressed(file, **{**arrays, "action": -arrays["action"]})
    with pytest.raises(OptionError, match="other values of demonstrations"):
        train_policy(others, tmp_path / "run", config)


def test_a_run_does_not_go_on_with_a_masker_that_has_changed(demonstrations, tmp_path, bright) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    def go_on(progress=None):
        config = replace(CONFIG, masker="mine", steps=4)
        return train_policy(
            demonstrations, tmp_path / "run", config, progress=progress, load_masker=lambda name: bright
        )

    assert not go_on(stop).finished
    bright.fingerprint = "ba9876543210"
    with pytest.raises(OptionError, match="other values of masker's files"):
        go_on()
    bright.fingerprint = type(bright).fingerprint
    assert go_on().finished
    # Nor is the policy tried on what another one masked.
    actor, setup = load_actor(str(tmp_path / "run"))
    assert actor.masker_files == bright.fingerprint
    bright.fingerprint = "ba9876543210"
    with pytest.raises(OptionError, match="another model by the name 'mine'"):
        roll_out([actor], setup, 1, 0, tmp_path / "r.jsonl", load_masker=lambda name: bright)


def test_a_policy_is_not_tried_on_another_text_encoder(demonstrations, tmp_path, monkeypatch) -> None:
    train_policy(demonstrations, tmp_path / "run", CONFIG)
    load_actor(str(tmp_path / "run"))
    for module in (cloning, rollouts):
        monkeypatch.setattr(module, "text_fingerprint", lambda: "0123456789abcdef")
    with pytest.raises(OptionError, match="trained on another version of ivm's text encoder"):
        load_actor(str(tmp_path / "run"))
    with pytest.raises(OptionError, match="other values of text encoder"):
        train_policy(demonstrations, tmp_path / "run", CONFIG)
