from __future__ import annotations

import json

import numpy as np
import pytest

from ivm.errors import DataError, OptionError
from ivm.robot import demonstrations
from ivm.robot.demonstrations import Setup, episode_files, read_episode, read_setup, record

SETUP = Setup(tasks=("reach",), distractors=(0, 1), size=32)


def test_recording_is_interrupted_and_goes_on_without_doubles(simulator, tmp_path) -> None:
    def stop(there: int, wanted: int) -> None:
        if there == 2:
            raise KeyboardInterrupt

    first = record(tmp_path, SETUP, 4, seed=10, progress=stop)
    assert (first.made, first.finished) == (2, False)
    stamps = {file: file.stat().st_mtime_ns for file in episode_files(tmp_path)}
    second = record(tmp_path, SETUP, 4, seed=10)
    assert (second.before, second.made, second.finished) == (2, 2, True)
    files = episode_files(tmp_path)
    assert len(files) == 4
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())
    assert read_setup(tmp_path) == SETUP
    assert not list(tmp_path.rglob(".saving*"))
    with pytest.raises(OptionError, match="was recorded with seed 10, but got 0"):
        record(tmp_path, SETUP, 4, seed=0)

    episode = read_episode(files[0])
    assert episode.seed == int(files[0].stem)
    arrays, steps = episode.arrays, len(episode)
    assert steps > 3
    assert arrays["side"].shape == (steps, 32, 32, 3)
    assert arrays["side_robot"].shape == (steps, 32, 32)
    assert arrays["wrist_robot"].any()
    assert np.abs(arrays["action"]).max() <= 1
    env = SETUP.make()  # row 0 is what the environment shows at first
    observation, _ = env.reset(seed=episode.seed)
    assert episode.instruction == observation["instruction"]
    np.testing.assert_array_equal(arrays["side"][0], observation["side"])
    np.testing.assert_array_equal(arrays["side_relevant"][0], env.relevant_mask("side"))
    np.testing.assert_allclose(arrays["state"][0], observation["state"], atol=1e-6)


def test_what_the_expert_cannot_do_is_left_out_and_not_tried_again(simulator, tmp_path, monkeypatch) -> None:
    real = demonstrations.expert_actions
    tried = []

    def lame(env):
        tried.append(1)
        return iter([np.zeros(5, np.float32)] * 2) if len(tried) == 1 else real(env)

    monkeypatch.setattr(demonstrations, "expert_actions", lame)
    found = record(tmp_path, SETUP, 1, seed=3)
    assert (found.made, found.failed) == (1, 1)
    assert json.loads((tmp_path / "failures.jsonl").read_text()) == {"seed": 3, "steps": 2}
    with (tmp_path / "failures.jsonl").open("a") as file:
        file.write('{"seed": 5')  # the machine stopped here
    record(tmp_path, SETUP, 2, seed=3)
    assert [int(file.stem) for file in episode_files(tmp_path)] == [4, 5]


def test_damaged_and_absent_files_are_named(tmp_path) -> None:
    with pytest.raises(DataError, match="as ivm robot record writes it"):
        read_setup(tmp_path)
    with pytest.raises(DataError, match="at least 1 demonstrations, but holds 0"):
        episode_files(tmp_path)
    broken = tmp_path / "000001.npz"
    broken.write_bytes(b"PK not really")
    with pytest.raises(DataError, match=r"000001\.npz is not a demonstration"):
        read_episode(broken)
    np.savez(broken, action=np.zeros((2, 5)))
    with pytest.raises(DataError, match="is not a demonstration"):
        read_episode(broken)
    good = {
        "state": np.zeros((2, 5), np.float32),
        "action": np.zeros((2, 5), np.float32),
        "instruction": "go",
    }
    for camera in ("side", "wrist"):
        good[camera] = np.random.default_rng(0).integers(0, 255, (2, 8, 8, 3), np.uint8)
        good |= {f"{camera}_{kind}": np.zeros((2, 8, 8), bool) for kind in ("robot", "relevant")}
    np.savez_compressed(broken, **good)
    assert len(read_episode(broken)) == 2
    whole = broken.read_bytes()
    for place in range(0, len(whole), 7):  # zip, zlib and NumPy each have errors of their own
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            read_episode(broken)
        except DataError:
            continue
    broken.write_bytes(b"")
    with pytest.raises(DataError, match="is not a demonstration"):
        read_episode(broken)
    np.savez(broken, **{**good, "state": np.float32(1)})
    with pytest.raises(DataError, match=r"state must be float32 of 2 dimensions, but is float32 \[\]"):
        read_episode(broken)
    (tmp_path / "demonstrations.json").write_text('{"format": 99}')
    with pytest.raises(DataError, match="must be of format 1"):
        read_setup(tmp_path)
    with pytest.raises(OptionError, match="no option 'gravity'"):
        Setup.from_json({"gravity": 0})
    with pytest.raises(OptionError, match="episodes must be at least 1"):
        record(tmp_path, SETUP, 0)
