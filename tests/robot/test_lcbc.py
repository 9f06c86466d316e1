from __future__ import annotations

import numpy as np
import pytest
import torch

from ivm.robot.config import PolicyConfig
from ivm.robot.lcbc import TEXT_DIM, DiffusionPolicy, text_features

SMALL = PolicyConfig(picture=32, width=4, hidden=64, blocks=1, horizon=4, execute=2, noise_steps=30)


def inputs(count: int = 3) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(256, (count, 2, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return (
        pictures,
        torch.randn(count, 5, generator=generator),
        torch.randn(count, TEXT_DIM, generator=generator),
    )


def test_sampling_with_a_perfect_denoiser_returns_the_data() -> None:
    """The schedule, the estimate of the clean chunk and the posterior fit together."""
    policy = DiffusionPolicy(SMALL)
    clean = torch.rand(3, 4, 5) * 2 - 1

    policy.denoise = lambda noisy, step, condition: clean
    torch.testing.assert_close(policy.sample(*inputs()), clean, atol=1e-4, rtol=0)


def test_sampling_with_the_best_denoiser_of_a_spread_returns_the_spread() -> None:
    """For actions from a Gaussian the best denoiser is known; samples must have its mean and width."""
    policy = DiffusionPolicy(
        PolicyConfig(picture=32, width=4, hidden=64, horizon=1, execute=1, noise_steps=100)
    )
    mean, std = 0.2, 0.15

    def best(noisy, step, condition):
        kept = policy.kept[step].view(-1, 1, 1)
        return mean + kept.sqrt() * std**2 / (kept * std**2 + 1 - kept) * (noisy - kept.sqrt() * mean)

    policy.denoise = best
    policy.encode = lambda pictures, state, text: torch.zeros(len(state), 64)
    state = torch.zeros(2000, 5)
    drawn = policy.sample(state, state, state, torch.Generator().manual_seed(0))
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.01)
    assert float(drawn.std()) == pytest.approx(std, rel=0.1)


def test_the_signal_fades_from_nearly_all_to_nearly_nothing() -> None:
    kept = DiffusionPolicy(SMALL).kept
    assert (kept[1:] < kept[:-1]).all()
    assert kept[0] > 0.99
    assert kept[-1] < 0.01


def test_it_learns_one_batch_and_depends_on_every_input() -> None:
    torch.manual_seed(0)
    policy = DiffusionPolicy(SMALL)
    given = inputs()
    actions = torch.tensor([[-0.8], [0.0], [0.8]])[:, :, None].expand(3, 4, 5).contiguous()
    before = float(policy.loss(*given, actions, torch.Generator().manual_seed(5)).detach())
    optimiser = torch.optim.Adam(policy.parameters(), 3e-3)
    for step in range(150):
        optimiser.zero_grad()
        policy.loss(*given, actions, torch.Generator().manual_seed(step)).backward()
        optimiser.step()
    after = float(policy.loss(*given, actions, torch.Generator().manual_seed(5)).detach())
    assert after < 0.5 * before
    drawn = policy.sample(*given, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 4, 5)
    assert drawn.abs().max() <= 1
    torch.testing.assert_close(drawn.mean((1, 2)), actions.mean((1, 2)), atol=0.25, rtol=0)
    again = policy.sample(*given, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, again)
    whole = policy.encode(*given)
    for k in range(3):
        changed = [tensor.clone() for tensor in given]
        changed[k] = changed[k].flip(0)
        assert not torch.allclose(policy.encode(*changed), whole, atol=1e-3)


def test_text_features_are_of_length_one_and_tell_instructions_apart() -> None:
    cup, mug, bus = (text_features(f"pick up the red {noun}") for noun in ("cup", "mug", "bus"))
    for features in (cup, mug, bus):
        assert features.shape == (TEXT_DIM,)
        assert np.linalg.norm(features) == pytest.approx(1, abs=1e-5)
    assert not np.allclose(cup, bus, atol=0.01)
    assert not cup.flags.writeable
