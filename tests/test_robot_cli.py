from __future__ import annotations

import importlib.util
import shutil
import sys

import pytest
from typer.testing import CliRunner

from ivm.cli import app

needs = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gymnasium", "mujoco", "torch")),
    reason="needs the extra 'robot' and an off-screen OpenGL library (EGL or OSMesa)",
)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["robot", *map(str, arguments)])
    return result.exit_code, result.output


@needs
def test_record_train_roll_out(tmp_path) -> None:
    demonstrations, record = tmp_path / "demonstrations", tmp_path / "rollouts.jsonl"
    recording = (
        "record",
        demonstrations,
        "--task",
        "reach",
        "--episodes",
        2,
        "--distractors",
        0,
        "--size",
        32,
    )
    code, text = run(*recording)
    if "off-screen OpenGL" in text:
        pytest.skip(text)
    assert (code, "2 recorded" in text) == (0, True), text
    code, text = run(*recording)
    assert "0 recorded, 2 there before" in text
    for masker in ("none", "environment"):
        code, text = run(
            "train", demonstrations, "--output", tmp_path / masker, "--masker", masker, "--steps", 2,
            "--batch", 2, "--picture", 32, "--width", 4, "--hidden", 32,
        )  # fmt: skip
        assert code == 0, text
        assert f"weights: {tmp_path / masker / 'policy.safetensors'}" in text.replace("\n", "")
    code, text = run(
        "rollout", "expert", tmp_path / "none", tmp_path / "environment", "--episodes", 1,
        "--distractors", "1-2", "--output", record,
    )  # fmt: skip
    assert code == 0, text
    assert "expert" in text
    assert "1/1 = 1.00" in text
    assert "0.21 to 1.00" in text  # Wilson's interval of one success in one
    assert len(record.read_text().splitlines()) == 6
    longer = (
        "train", demonstrations, "--output", tmp_path / "none", "--masker", "none", "--steps", 3,
        "--batch", 2, "--picture", 32, "--width", 4, "--hidden", 32,
    )  # fmt: skip
    code, text = run(*longer)
    assert (code, "other values of steps" in text) == (2, True), text
    shutil.rmtree(tmp_path / "none")
    code, text = run(*longer)
    assert code == 0, text
    again = ("rollout", tmp_path / "none", "--episodes", 1, "--distractors", "1-2", "--output", record)
    code, text = run(*again, "--condition", "cleared")
    assert (code, "2 of its episodes stay there but do not count" in text) == (0, True), text
    assert len(record.read_text().splitlines()) == 7  # the policy that was trained longer is tried anew


@needs
def test_wrong_usage_is_one_sentence(tmp_path) -> None:
    code, text = run("record", tmp_path / "x", "--distractors", "many")
    assert (code, text.startswith("error: distractors must be a number or fewest-most")) == (2, True)
    code, text = run("record", tmp_path / "x", "--distractors", "²")
    assert (code, text.startswith("error: distractors must be a number or fewest-most")) == (2, True)
    train = ("train", tmp_path / "x", "--output", tmp_path / "y", "--masker")
    code, text = run(*train, "none", "--mode", "blur", "--threshold", 0.5)
    assert (code, "--mode and --threshold need a --masker other than none" in text) == (2, True), text
    code, text = run(*train, "environment", "--every", 2)
    assert (code, "--every needs a --masker that is a model" in text) == (2, True), text
    code, text = run("record", tmp_path / "x", "--task", "dance")
    assert (code, "tasks must be some of reach, push, pick, place" in text) == (2, True)
    code, text = run("rollout", tmp_path / "nothing")
    assert code == 1
    assert "train one by  ivm robot train" in text.replace("\n", " ")


@needs
def test_policies_that_saw_other_numbers_of_distractors_are_not_compared_unasked(monkeypatch) -> None:
    from ivm.robot import rollouts
    from ivm.robot.demonstrations import Setup

    setups = {"a": Setup(distractors=(1, 2)), "b": Setup(distractors=(3, 7))}
    monkeypatch.setattr(rollouts, "load_actor", lambda name: (rollouts.ExpertActor(), setups[name]))
    monkeypatch.setattr(
        rollouts,
        "roll_out",
        lambda actors, *rest, **more: [
            {"name": "a", "masker": "none", "condition": "cleared", "success": True} for _ in actors
        ],
    )
    code, text = run("rollout", "a", "b")
    assert (code, "unless --distractors says how many" in text.replace("\n", " ")) == (2, True), text
    code, text = run("rollout", "a", "b", "--distractors", 5)
    assert (code, "distractors 5 to 5" in text) == (0, True), text
    code, text = run("rollout", "b")
    assert (code, "distractors 3 to 7" in text) == (0, True), text


@needs
def test_a_folders_name_that_the_output_has_no_letters_for(tmp_path, monkeypatch) -> None:
    from ivm.robot import demonstrations

    monkeypatch.setattr(
        demonstrations, "record", lambda *given: demonstrations.Recorded(1, 0, 0, finished=True)
    )
    result = CliRunner(charset="ascii").invoke(app, ["robot", "record", str(tmp_path / "tür")])
    assert result.exit_code == 0, result.output
    assert "t?r: 1 recorded" in result.output


def test_a_missing_extra_is_told_with_the_command(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    code, text = run("record", tmp_path / "x")
    assert code == 1
    assert "pip install 'ivm[robot]'" in text
