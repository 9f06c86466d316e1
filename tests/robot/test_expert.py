from __future__ import annotations

import pytest

from ivm.robot import MAX_STEPS
from ivm.robot.expert import expert_actions
from ivm.robot.tasks import TASKS


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_expert_solves_the_task_among_distractors(simulator, task) -> None:
    env = simulator(task, size=32)
    solved = 0
    for seed in range(100, 106):
        observation, _ = env.reset(seed=seed)
        for count, action in enumerate(expert_actions(env)):
            assert action in env.action_space
            observation, reward, terminated, _, info = env.step(action)
            assert observation in env.observation_space
            assert info["success"] == terminated == bool(reward)
            assert count < MAX_STEPS
            if terminated:
                solved += 1
                break
    assert solved >= 5
