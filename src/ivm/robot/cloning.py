"""Training of the diffusion policy on demonstrations, and loading what was trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ivm.errors import CheckpointError, ModelError, OptionError, TrainingError
from ivm.files import whole, write_text
from ivm.masker import Masker, load
from ivm.models.config import check_device
from ivm.robot.config import TRUE_MASKS, UNMASKED, CloningConfig, PolicyConfig
from ivm.robot.demonstrations import episode_files, read_episode, read_setup
from ivm.robot.lcbc import DiffusionPolicy, text_fingerprint
from ivm.robot.moments import Batch, Moments, heatmaps_of

__all__ = ["MASKER_FILES", "TEXT_ENCODER", "Trained", "load_policy", "train_policy"]

MASKER_FILES = "masker's files"
"""So a run calls the fingerprint of its masker: the masker's name may stand for another model later."""

TEXT_ENCODER = "text encoder"
"""So it calls that of the embedded text encoder, which changes with the weights that ivm ships."""

_WEIGHTS, _CHECKPOINT, _LOG = "policy.safetensors", "checkpoint.pt", "log.jsonl"


@dataclass(frozen=True)
class Trained:
    """What training came to; `finished` is False after Ctrl-C, and the same call goes on."""

    weights: Path
    steps: int
    loss: float
    held_out: float
    finished: bool


def train_policy(
    demonstrations: Path,
    output: Path,
    config: CloningConfig | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] | None = None,
    load_masker: Callable[[str], Masker] | None = None,
    device: str = "auto",
) -> Trained:
    """Train a policy; writes `policy.safetensors`, `log.jsonl` and, until it is done, `checkpoint.pt`.

    Args:
        demonstrations: folder that `ivm.robot.demonstrations.record` wrote.
        output: folder of the run; one with a checkpoint goes on from there, and one that is finished stays.
        config: how.
        say: called with lines for people.
        progress: called with (steps done, steps in all).
        load_masker: makes the masker of a name; default `ivm.masker.load`.
        device: "auto", "cpu" or "cuda", of the policy; a masker finds its own.

    Raises:
        DataError: there are no demonstrations, or one is damaged.
        OptionError: the run in `output` was begun with another configuration or other demonstrations,
            finished or not.
        TrainingError: the loss is not finite.
        ModelError: the device is not available.
    """
    config = config or CloningConfig()
    where = _device(device)
    files = episode_files(demonstrations, least=2)
    setup = read_setup(demonstrations)
    output.mkdir(parents=True, exist_ok=True)
    episodes = [read_episode(file) for file in files]
    named = config.masker not in (UNMASKED, TRUE_MASKS)
    masker = (load_masker or load)(config.masker) if named else None
    contents = {file.stem: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files}
    asked = {**config.to_json(), "demonstrations": contents, TEXT_ENCODER: text_fingerprint()}
    if masker is not None:
        asked[MASKER_FILES] = masker.fingerprint
    weights = output / _WEIGHTS
    if weights.exists():
        return _finished(weights, asked)
    heatmaps = heatmaps_of(demonstrations, episodes, config, say, masker)
    moments = Moments(episodes, heatmaps, config)
    torch.manual_seed(config.seed)
    policy = DiffusionPolicy(config.policy).to(where)
    states = np.concatenate([episode.arrays["state"] for episode in moments.train])
    policy.state_mean.copy_(torch.from_numpy(states.mean(axis=0)))
    policy.state_std.copy_(torch.from_numpy(states.std(axis=0) + 1e-3))
    average = {name: value.clone() for name, value in policy.state_dict().items()}
    optimiser = torch.optim.AdamW(policy.parameters(), lr=config.rate, weight_decay=1e-4)
    checkpoint = output / _CHECKPOINT
    step = _resume(checkpoint, asked, policy, average, optimiser)
    if step:
        say(f"goes on from step {step}")
    _cut_log(output / _LOG, step)
    loss, finished = float("nan"), True
    parameters = sum(p.numel() for p in policy.parameters())
    say(f"{len(moments.train)} demonstrations, {moments.count} moments; {parameters:,} parameters")
    try:
        while step < config.steps:
            for group in optimiser.param_groups:
                group["lr"] = config.rate * _schedule(step, config.steps)
            noise = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            value = policy.loss(*_on(moments.batch(step), where), generator=noise)
            optimiser.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimiser.step()
            step += 1
            loss = float(value.detach())
            if not np.isfinite(loss):
                raise TrainingError(f"the loss is {loss} at step {step}: lower the rate ({config.rate:g})")
            decay = min(0.999, (1 + step) / (10 + step))
            for name, tensor in policy.state_dict().items():
                average[name].lerp_(tensor, 1 - decay) if tensor.is_floating_point() else None
            if step % 100 == 0 or step == config.steps:
                with (output / _LOG).open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": step, "loss": loss}) + "\n")
            if step % 500 == 0 and step < config.steps:
                _save_checkpoint(checkpoint, asked, step, policy, average, optimiser)
            if progress is not None:
                progress(step, config.steps)
    except KeyboardInterrupt:
        finished = False
        _save_checkpoint(checkpoint, asked, step, policy, average, optimiser)
    policy.load_state_dict(average)
    held_out = _held_out_loss(policy, moments, where)
    if finished:
        header = {
            "config": config.to_json(),
            "environment": setup.to_json(),
            "asked": asked,
            "steps": step,
            "loss": loss,
            "held_out": held_out,
        }
        plain = {name: tensor.cpu().contiguous() for name, tensor in policy.state_dict().items()}
        with whole(weights) as temporary:
            save_file(plain, temporary, metadata={"ivm-robot": json.dumps(header)})
        checkpoint.unlink(missing_ok=True)
    return Trained(weights, step, loss, held_out, finished)


def _finished(weights: Path, asked: dict[str, Any]) -> Trained:
    """What a run that is done came to; it must have been asked for the same."""
    header = load_policy(weights)[2]
    _check_same(weights.parent, asked, header.get("asked", {}))
    return Trained(weights, int(header["steps"]), float(header["loss"]), float(header["held_out"]), True)


def _check_same(folder: Path, asked: dict[str, Any], there: dict[str, Any]) -> None:
    different = sorted(name for name in asked if there.get(name) != asked[name])
    if different:
        raise OptionError(
            f"{folder} holds a run that was begun with other values of {', '.join(different)}: "
            "give the same ones, or another folder"
        )


def _cut_log(log: Path, step: int) -> None:
    """Leave in the log what came up to a step: what comes after it is written again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):  # cut off as it was written
            continue
    write_text(log, "".join(kept))


def load_policy(path: Path) -> tuple[DiffusionPolicy, CloningConfig, dict[str, Any]]:
    """A trained policy, how it was trained, and the header of its file.

    Args:
        path: the file, or the folder of its run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    file = path / _WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(
            f"{path} must be a policy's file or the folder of a finished run with {_WEIGHTS}, but is not: "
            f"train one by  ivm robot train DEMONSTRATIONS --output {path}"
        )
    try:
        with safe_open(file, framework="pt") as opened:
            header = json.loads((opened.metadata() or {})["ivm-robot"])
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 not a dict
        values = dict(header["config"])
        config = CloningConfig(**{**values, "policy": PolicyConfig.from_json(values["policy"])})
        policy = DiffusionPolicy(config.policy)
        policy.load_state_dict(state)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{file} is not a policy's weights, or damaged: {error}") from error
    return policy.eval(), config, header


def _held_out_loss(policy: DiffusionPolicy, moments: Moments, where: torch.device) -> float:
    """The loss on episodes that were left out, with fixed noise; masks drawn as in training."""
    generator = torch.Generator().manual_seed(0)
    total = count = 0.0
    policy.eval()
    with torch.inference_mode():
        for batch in moments.held_out():
            loss = policy.loss(*_on(batch, where), generator=generator)
            total += float(loss) * len(batch[0])
            count += len(batch[0])
    return total / count


def _on(batch: Batch, where: torch.device) -> Batch:
    pictures, states, texts, chunks = batch
    return pictures.to(where), states.to(where), texts.to(where), chunks.to(where)


def _device(name: str) -> torch.device:
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise ModelError("device cuda needs a torch that finds a CUDA GPU, but this one finds none")
    return torch.device(name)


def _schedule(step: int, steps: int) -> float:
    warm = max(1, min(200, steps // 10))
    if step < warm:
        return (step + 1) / warm
    return 0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(1, steps - warm))))


def _save_checkpoint(
    path: Path,
    asked: dict[str, Any],
    step: int,
    policy: DiffusionPolicy,
    average: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    content = {
        "asked": json.dumps(asked),
        "step": step,
        "policy": policy.state_dict(),
        "average": average,
        "optimiser": optimiser.state_dict(),
    }
    with whole(path, sync=True) as temporary:
        torch.save(content, temporary)


def _resume(
    path: Path,
    asked: dict[str, Any],
    policy: DiffusionPolicy,
    average: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
) -> int:
    """The step from which to go on: 0 without a checkpoint."""
    if not path.exists():
        return 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        there = json.loads(content["asked"])
    except Exception as error:
        raise CheckpointError(f"{path} is damaged, remove it to begin anew: {error}") from error
    _check_same(path.parent, asked, there)
    policy.load_state_dict(content["policy"])
    optimiser.load_state_dict(content["optimiser"])
    for name, tensor in content["average"].items():
        average[name].copy_(tensor)
    return int(content["step"])
