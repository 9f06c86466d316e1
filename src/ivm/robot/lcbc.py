"""Language-conditioned behaviour cloning: a small diffusion policy.

Pictures go through small residual networks, one a camera, whose last maps become points (spatial softmax);
instructions through a frozen text encoder; both with the state condition a network that takes noise away from
a chunk of actions, step by step (DDPM). The paper's policy is a large one of this kind; this one trains on a
CPU in minutes.

Source: Ho et al., "Denoising Diffusion Probabilistic Models", 2020 (sampling); Nichol & Dhariwal, 2021
(cosine schedule); Salimans & Ho, 2022 (predicting the clean signal); Chi et al., "Diffusion Policy", 2023
(chunks of actions, receding horizon).
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ivm.robot.config import PolicyConfig

__all__ = ["TEXT_DIM", "DiffusionPolicy", "text_features", "text_fingerprint"]

TEXT_DIM = 256
"""Length of the frozen text encoder's features."""


class DiffusionPolicy(nn.Module):
    """The network; `loss` trains it, `sample` draws a chunk of actions.

    Inputs: pictures uint8 [B, C, 3, P, P] (C cameras, P `config.picture`), state float32 [B, S], text float32
    [B, 256]. Actions float32 [B, horizon, A] in [-1, 1].

    States are standardised by the buffers `state_mean` and `state_std`, which training sets.
    """

    state_mean: Tensor
    state_std: Tensor
    kept: Tensor

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        cameras, hidden = len(config.cameras), config.hidden
        self.eyes = nn.ModuleList(_Eye(config.width, TEXT_DIM) for _ in range(cameras))
        points = 2 * 4 * config.width
        self.text = nn.Linear(TEXT_DIM, 64)
        self.condition = nn.Sequential(
            nn.Linear(cameras * points + config.state_dim + 64, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.time = nn.Sequential(nn.Linear(32, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        chunk = config.horizon * config.action_dim
        self.inlet = nn.Linear(chunk, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(config.blocks))
        self.outlet = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, chunk))
        self.register_buffer("state_mean", torch.zeros(config.state_dim))
        self.register_buffer("state_std", torch.ones(config.state_dim))
        self.register_buffer("kept", _kept_signal(config.noise_steps), persistent=False)

    def encode(self, pictures_BC3PP: Tensor, state_BS: Tensor, text_BD: Tensor) -> Tensor:
        """What the actions are conditioned on, [B, hidden]."""
        seen = [eye(pictures_BC3PP[:, i].float() / 127.5 - 1.0, text_BD) for i, eye in enumerate(self.eyes)]
        state = (state_BS - self.state_mean) / self.state_std
        return self.condition(torch.cat([*seen, state, self.text(text_BD)], dim=1))

    def denoise(self, noisy_BHA: Tensor, step_B: Tensor, condition_BD: Tensor) -> Tensor:
        """The clean chunk in a noisy one, [B, horizon, A]; steps int64 [B], 0 the least noisy.

        It answers with the actions, not with the noise: where nearly all is noise, that is what can be known,
        and a small network that is trained for minutes is then right about the condition from the first step.
        """
        x = self.inlet(noisy_BHA.flatten(1))
        given = condition_BD + self.time(_waves(step_B.float(), 32))
        for block in self.blocks:
            x = block(x, given)
        return self.outlet(x).view_as(noisy_BHA)

    def loss(
        self,
        pictures_BC3PP: Tensor,
        state_BS: Tensor,
        text_BD: Tensor,
        actions_BHA: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean squared error of the clean actions, at a random step of the diffusion for each sample."""
        condition = self.encode(pictures_BC3PP, state_BS, text_BD)
        count = len(actions_BHA)
        where = actions_BHA.device  # noise is drawn on the CPU: the same on every device
        step = torch.randint(self.config.noise_steps, (count,), generator=generator).to(where)
        noise = torch.randn(actions_BHA.shape, generator=generator).to(where)
        kept = self.kept[step].view(-1, 1, 1)
        noisy = kept.sqrt() * actions_BHA + (1 - kept).sqrt() * noise
        return F.mse_loss(self.denoise(noisy, step, condition), actions_BHA)

    @torch.inference_mode()
    def sample(
        self,
        pictures_BC3PP: Tensor,
        state_BS: Tensor,
        text_BD: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A chunk of actions, [B, horizon, A] in [-1, 1], by ancestral sampling."""
        condition = self.encode(pictures_BC3PP, state_BS, text_BD)
        shape = (len(state_BS), self.config.horizon, self.config.action_dim)
        where = condition.device
        x = torch.randn(shape, generator=generator).to(where)
        for step in reversed(range(self.config.noise_steps)):
            kept = self.kept[step]
            before = self.kept[step - 1] if step else torch.ones((), device=where)
            clean = self.denoise(x, torch.full((shape[0],), step, device=where), condition).clamp(-1.0, 1.0)
            ratio = kept / before  # alpha of this step alone
            mean = (before.sqrt() * (1 - ratio) * clean + ratio.sqrt() * (1 - before) * x) / (1 - kept)
            x = mean
            if step:
                variance = (1 - ratio) * (1 - before) / (1 - kept)
                x = mean + variance.sqrt() * torch.randn(shape, generator=generator).to(where)
        return x


class _Eye(nn.Module):
    """A camera's network: pictures [B, 3, P, P] -> points [B, 8 * width] in [-1, 1]."""

    def __init__(self, width: int, text_dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 5, stride=2, padding=2)
        stages = ((1, 2, 2), (2, 3, 2), (3, 4, 1))  # channels in and out, in widths, and stride
        self.stages = nn.ModuleList(_Stage(a * width, b * width, text_dim, stride) for a, b, stride in stages)

    def forward(self, x: Tensor, text_BD: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for stage in self.stages:
            x = stage(x, text_BD)
        weights = x.flatten(2).softmax(dim=-1).view_as(x)
        rows = torch.linspace(-1, 1, x.shape[2], device=x.device)
        columns = torch.linspace(-1, 1, x.shape[3], device=x.device)
        return torch.cat([(weights.sum(3) * rows).sum(2), (weights.sum(2) * columns).sum(2)], dim=1)


class _Stage(nn.Module):
    """A residual block whose channels the instruction scales and shifts (FiLM)."""

    def __init__(self, channels: int, out: int, text_dim: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride=stride, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(4, out), nn.GroupNorm(4, out)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.short = nn.Conv2d(channels, out, 1, stride=stride)
        self.film = nn.Linear(text_dim, 2 * out)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, text_BD: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.first(x)))
        scale, shift = self.film(text_BD)[:, :, None, None].chunk(2, dim=1)
        y = self.norm2(self.second(y)) * (1 + scale) + shift
        return F.relu(y + self.short(x))


class _Block(nn.Module):
    """A residual block of the denoising network."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.first, self.second = nn.Linear(2 * hidden, 2 * hidden), nn.Linear(2 * hidden, hidden)

    def forward(self, x: Tensor, given: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(torch.cat([self.norm(x), given], dim=1))))


def _kept_signal(steps: int) -> Tensor:
    """float32 [steps]: the share of signal in the variance at each step, by the cosine schedule."""
    t = (torch.arange(steps + 1, dtype=torch.float64) / steps + 0.008) / 1.008
    curve = (t * math.pi / 2).cos() ** 2
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return (1 - betas).cumprod(0).float()


def _waves(step_B: Tensor, dim: int) -> Tensor:
    """Sines and cosines of a step at frequencies from 1 to 1/10,000, [B, dim]."""
    rates = torch.exp(-math.log(10_000) * torch.arange(dim // 2, device=step_B.device) / (dim // 2))
    angles = step_B[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@lru_cache(maxsize=1)
def _text_runtime() -> Any:
    from ivm.models.config import locate
    from ivm.models.onnx import CompactRuntime

    _, folder = locate("compact")
    return CompactRuntime(folder, device="cpu", threads=1)


@lru_cache(maxsize=4096)
def text_features(instruction: str) -> np.ndarray:
    """float32 [256] of length 1: the mean of an instruction's tokens from the frozen text encoder.

    It is the one that comes with the compact model (MiniLM, pruned, and a projection learned with it), so
    that nothing else is to be installed.
    """
    tokens, mask = _text_runtime().encode_text([instruction])
    mean = (tokens[0] * mask[0, :, None]).sum(0) / mask[0].sum()
    features: np.ndarray = (mean / np.linalg.norm(mean)).astype(np.float32)
    features.flags.writeable = False
    return features


@lru_cache(maxsize=1)
def text_fingerprint() -> str:
    """16 hexadecimal digits of the text encoder's files: all that a policy knows of words comes from them."""
    from ivm.models.config import locate

    _, folder = locate("compact")
    content = b"".join((folder / name).read_bytes() for name in ("text.onnx", "tokenizer.json"))
    return hashlib.sha256(content).hexdigest()[:16]
