"""The simplest trainer that works: pictures and questions in, weights out, resumable at any step.

One run = one folder: `config.json`, `last.safetensors` (weights), `average.safetensors` (their exponential
moving average, which is what one uses), `state.pt` (optimisers and step), `log.jsonl` (one line a report).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ivm.errors import CheckpointError, OptionError, TrainingError
from ivm.files import whole, write_text
from ivm.models.compact import CompactConfig, CompactModel
from ivm.training.checkpoints import write_weights
from ivm.training.feed import worker_context
from ivm.training.losses import distillation_loss_per_sample, generator_loss_per_sample
from ivm.training.names import Names, collate_names, names_loss
from ivm.training.photos import Picture
from ivm.training.precision import flush_denormals, uses_bf16

__all__ = ["Batch", "LoopConfig", "collate", "learning_rate", "train", "train_step"]

_READING = ("vocabulary", "max_tokens")
"""Sizes of a model that its tokenizer follows."""


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps in all.
        batch_size: pictures a step.
        learning_rate: the highest.
        warmup: steps from 0 up to it.
        decay: steps at the end in which it falls linearly to 0; between, it stays.
        weight_decay: AdamW's.
        clip: largest gradient norm.
        average: decay of the exponential moving average of the weights.
        optimizer: "adamw", or "muon": Muon (Jordan et al., 2024) for the matrices, AdamW for the rest.
        backbone_rate: share of the learning rate for the backbone, which has learnt much; 0: it stays.
        found_weight: weight of the found score's loss beside the mask loss.
        teacher_share: share of the loss that is a teacher's, where there is one.
        names_weight: weight of `names_loss`, which asks for every name of a batch in every picture; 0: none.
        seed: seed of the weights; the pictures have their own.
        save_every: steps between checkpoints.
        workers: processes that make pictures.
        precision: "auto", "bf16" or "fp32": see `uses_bf16`.
    """

    steps: int = 3000
    batch_size: int = 32
    learning_rate: float = 8e-4
    warmup: int = 200
    decay: int = 1000
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    optimizer: str = "adamw"
    backbone_rate: float = 0.1
    found_weight: float = 0.3
    teacher_share: float = 0.5
    names_weight: float = 0.0
    seed: int = 0
    save_every: int = 200
    workers: int = 1
    precision: str = "auto"

    def __post_init__(self) -> None:
        uses_bf16(self.precision, "cpu")  # complains about another word
        if self.optimizer not in ("adamw", "muon"):
            raise OptionError(f"optimizer must be adamw or muon, but got {self.optimizer!r}")
        if not self.backbone_rate >= 0:
            raise OptionError(f"backbone_rate must be at least 0, but got {self.backbone_rate}")
        if not (self.found_weight >= 0 and self.names_weight >= 0):
            raise OptionError(
                "found_weight and names_weight must be at least 0, "
                f"but got {self.found_weight} and {self.names_weight}"
            )
        if not 0 < self.teacher_share <= 1:
            raise OptionError(f"teacher_share must be above 0 and at most 1, but got {self.teacher_share}")
        if self.steps <= 0 or self.batch_size <= 0:
            raise OptionError(
                f"steps and batch_size must be positive, but got {self.steps}, {self.batch_size}"
            )


@dataclass(frozen=True)
class Batch:
    """B pictures with Q questions in all.

    images uint8 [B, 3, S, S]; ids int64 [Q, T] and mask bool [Q, T]; picture int64 [Q]: which picture a
    question is about; targets float32 [Q, S/4, S/4]; found bool [Q]; human bool [Q], False for a machine
    annotation; names: asked of every picture, None where they are not.
    """

    images: Tensor
    ids: Tensor
    mask: Tensor
    picture: Tensor
    targets: Tensor
    found: Tensor
    human: Tensor
    names: Names | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            k: None if v is None else v.to(device, non_blocking=True) for k, v in vars(self).items()
        }
        return Batch(**moved)


def collate(pictures: Sequence[Picture], tokenizer: Any, names: bool = False) -> Batch:
    """Pictures of equal size -> Batch. `tokenizer` is a `tokenizers.Tokenizer` that pads.

    `names`: with every name of the batch, for `names_loss`.
    """
    encodings = tokenizer.encode_batch([text for picture in pictures for text in picture.texts])
    counts = torch.tensor([len(picture.texts) for picture in pictures])
    return Batch(
        images=torch.from_numpy(np.stack([p.image for p in pictures])).permute(0, 3, 1, 2).contiguous(),
        ids=torch.tensor([e.ids for e in encodings]),
        mask=torch.tensor([e.attention_mask for e in encodings]).bool(),
        picture=torch.arange(len(pictures)).repeat_interleave(counts),
        targets=torch.from_numpy(np.concatenate([p.targets for p in pictures])),
        found=torch.from_numpy(np.concatenate([p.found for p in pictures])),
        human=torch.tensor([p.human for p in pictures]).repeat_interleave(counts),
        names=collate_names([picture.named for picture in pictures], tokenizer) if names else None,
    )


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear up for `warmup` steps, flat, linear down to 0 in the last `decay` steps."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    down = min(1.0, (config.steps - step) / max(1, config.decay))
    return config.learning_rate * min(up, down)


def train_step(
    model: CompactModel,
    batch: Batch,
    optimizers: Sequence[torch.optim.Optimizer],
    config: LoopConfig,
    weights_Q: Tensor | None = None,
    teacher: CompactModel | None = None,
) -> dict[str, float]:
    """One optimiser step on mean(w * loss) over the questions; returns the losses as numbers.

    `weights_Q` float [Q] defaults to 1. To differ from the frozen `teacher` costs the same of any question.
    """
    device_type = batch.images.device.type
    mixed = uses_bf16(config.precision, device_type)
    with torch.autocast(device_type, torch.bfloat16, enabled=mixed):
        features = model.encode_image(batch.images)
        logits, found = model.answer(features, batch.ids, batch.mask, batch.picture)
        named = _names_loss(model, features[0], batch.names)
    per_question, mask_loss, found_loss = generator_loss_per_sample(
        logits, found, batch.targets, batch.found, config.found_weight
    )
    loss = (per_question if weights_Q is None else per_question * weights_Q).mean()
    differing = torch.zeros((), device=loss.device)
    if teacher is not None:
        with torch.no_grad(), torch.autocast(device_type, torch.bfloat16, enabled=mixed):
            heat, there = teacher(batch.images, batch.ids, batch.mask, batch.picture)
        differing = distillation_loss_per_sample(logits, found, heat, there, config.found_weight)[0].mean()
        loss = (1 - config.teacher_share) * loss + config.teacher_share * differing
    loss = loss + config.names_weight * named
    model.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    if not torch.isfinite(norm):
        raise TrainingError("the gradient is not finite: the last checkpoint is whole, lower learning_rate")
    for optimizer in optimizers:
        optimizer.step()
    return {
        "loss": loss.item(),
        "mask": mask_loss[batch.found].mean().item() if batch.found.any() else 0.0,
        "found": found_loss.mean().item(),
        "names": named.item(),
        **({} if teacher is None else {"teacher": differing.item()}),
    }


def _names_loss(model: CompactModel, tokens_BND: Tensor, names: Names | None) -> Tensor:
    """`names_loss` of the names in a batch; 0 where it has none."""
    if names is None:
        return torch.zeros((), device=tokens_BND.device)
    text = model.encode_text(names.ids, names.mask)
    return names_loss(model.look(tokens_BND, text, names.mask), names.targets, names.known)


def train(
    model: CompactModel,
    tokenizer: Any,
    pictures: Any,
    folder: Path,
    config: LoopConfig,
    init: Path | None = None,
    evaluate: Callable[[CompactModel], dict[str, float]] | None = None,
    report: Callable[[str], None] = print,
    device: str = "cpu",
    teacher: CompactModel | None = None,
) -> Path:
    """Train until `config.steps`, going on from a run in `folder`; returns the averaged weights' file.

    Args:
        pictures: `pictures[index]` -> Picture for any index; index = step * batch_size + i, so a resumed run
            sees what an uninterrupted one would.
        init: weights to start from (a warm restart); a checkpoint in `folder` goes first.
        evaluate: called with the averaged model at every checkpoint; its figures are reported and logged.
        teacher: a model, usually a larger one, to learn from, too; of the same vocabulary and token limit.
            It is frozen here.

    Raises:
        OptionError: the teacher reads instructions otherwise.
        CheckpointError: `init` or the checkpoint is of another architecture.
        TrainingError: the gradient is not finite, or `folder` holds a longer run.
    """
    flush_denormals()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    taught: tuple[CompactModel, ...] = () if teacher is None else (teacher.eval().requires_grad_(False),)
    for one in taught:
        for name in _READING:
            ours, theirs = getattr(model.config, name), getattr(one.config, name)
            if ours != theirs:
                raise OptionError(f"a teacher must have the {name} of the model, {ours}, but has {theirs}")
    for whole_model in (model, *taught):
        for part in (whole_model, *whole_model.frozen):
            part.to(device)
    model.train()
    if config.backbone_rate == 0 and model.config.backbone:
        model.deep.requires_grad_(False)
    optimizers = _optimizers(model, config)
    average = {key: value.clone() for key, value in model.state_dict().items()}
    step = 0
    if (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", weights_only=True, map_location=device)
        if len(state["optimizers"]) != len(optimizers):
            raise CheckpointError(f"{folder} was trained with another optimizer than {config.optimizer!r}")
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        step = int(state["step"])
        _load(model, folder / f"last-{step}.safetensors")
        average = load_file(folder / f"average-{step}.safetensors", device=device)
        report(f"going on from step {step}")
    elif init is not None:
        _load(model, init, grown=True)
        average = {key: value.clone() for key, value in model.state_dict().items()}
    if step > config.steps:
        raise TrainingError(f"{folder} holds a run of {step} steps, but steps is {config.steps}")
    write_text(folder / "config.json", json.dumps(asdict(config), indent=1))

    loader = iter(
        DataLoader(
            _Batches(pictures, tokenizer, step, config),
            batch_size=None,
            num_workers=config.workers,
            prefetch_factor=4 if config.workers else None,
            multiprocessing_context=worker_context() if config.workers else None,
        )
    )
    started, sums, count = time.monotonic(), dict[str, float](), 0
    while step < config.steps:
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, config) * group.get("rate", 1.0)
        losses = train_step(model, next(loader).to(device), optimizers, config, teacher=teacher)
        step += 1
        # A young run has little worth averaging: let the average follow closely at first.
        decay = min(config.average, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            average[key].lerp_(value, 1 - decay)
        count += 1
        for key, loss in losses.items():
            sums[key] = sums.get(key, 0.0) + loss
        if step % 50 == 0:
            rate = count * config.batch_size / (time.monotonic() - started)
            line = {"step": step, "pictures_per_s": round(rate, 1)}
            line |= {key: round(value / count, 4) for key, value in sums.items()}
            report(json.dumps(line))
            with (folder / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            started, sums, count = time.monotonic(), {}, 0
        if step % config.save_every == 0 or step == config.steps:
            _save(folder, model, average, optimizers, step)
            if evaluate is not None:
                kept = {key: value.clone() for key, value in model.state_dict().items()}
                model.load_state_dict(average)
                figures = evaluate(model.eval())
                model.load_state_dict(kept)
                model.train()
                report(json.dumps({"step": step} | figures))
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps({"step": step} | figures) + "\n")
                started, sums, count = time.monotonic(), {}, 0
    return folder / f"average-{step}.safetensors"


class _Batches(Dataset):
    """Batch number i from step `first` on; made in the loader's processes."""

    def __init__(self, pictures: Any, tokenizer: Any, first: int, config: LoopConfig) -> None:
        self.pictures, self.tokenizer, self.first, self.config = pictures, tokenizer, first, config

    def __len__(self) -> int:
        return max(0, self.config.steps - self.first)

    def __getitem__(self, i: int) -> Batch:
        size = self.config.batch_size
        start = (self.first + i) * size
        pictures = [self.pictures[start + j] for j in range(size)]
        return collate(pictures, self.tokenizer, names=self.config.names_weight > 0)


def _optimizers(model: CompactModel, config: LoopConfig) -> list[torch.optim.Optimizer]:
    """Of what is not frozen. Matrices decay; biases, norms and tokens do not. Muon takes matrices alone."""
    backbone = [p for name, p in model.named_parameters() if p.requires_grad and name.startswith("deep.")]
    apart = {id(p) for p in backbone}
    trained = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    decayed = [p for p in trained if p.ndim >= 2 and p.shape[0] > 1]
    plain = [p for p in trained if not (p.ndim >= 2 and p.shape[0] > 1)]
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon":
        matrices = [p for p in decayed if p.ndim == 2]
        decayed = [p for p in decayed if p.ndim != 2]
        optimizers.append(
            torch.optim.Muon(
                matrices,
                lr=config.learning_rate,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",  # so that one learning rate serves both
            )
        )
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
        {"params": backbone, "weight_decay": 0.0, "rate": config.backbone_rate},
    ]
    optimizers.append(torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98)))
    return optimizers


def _load(model: CompactModel, file: Path, grown: bool = False) -> None:
    """`grown`: weights without a backbone, or on a frozen one, will do; what is new has no say at first."""
    try:
        state = load_file(file)
        for key, value in model.state_dict().items() if grown else ():
            if key.startswith(("seen", "deep.")) and key not in state:
                given = "norm" in key or key.startswith("deep.")
                state[key] = value if given else torch.zeros_like(value)
        model.load_state_dict(state)
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} does not fit the model: {error}") from error


def _save(
    folder: Path,
    model: CompactModel,
    average: dict[str, Tensor],
    optimizers: Sequence[torch.optim.Optimizer],
    step: int,
) -> None:
    """Weights first, under names of their own; `state.pt` last: it makes the checkpoint count."""
    for name, tensors in (("last", model.state_dict()), ("average", average)):
        with whole(folder / f"{name}-{step}.safetensors") as temporary:
            write_weights(temporary, tensors, _header(model.config))
    with whole(folder / "state.pt") as temporary:
        torch.save({"optimizers": [one.state_dict() for one in optimizers], "step": step}, temporary)
    for old in _old(folder, step):
        old.unlink()


def _header(config: CompactConfig) -> dict[str, Any]:
    """What `ivm.training.checkpoints` expects of a weights file."""
    given, usual = config.to_dict(), CompactConfig().to_dict()
    apart = {"image_size", "threshold", "found_threshold"}
    sizes = {name: value for name, value in given.items() if value != usual[name] and name not in apart}
    model = {"kind": "compact", "image_size": config.image_size, "sizes": sizes}
    return {"kind": "compact", "stage": "generator", "model": model}


def _old(folder: Path, step: int) -> Iterator[Path]:
    for pattern in ("last-*.safetensors", "average-*.safetensors"):
        yield from (p for p in folder.glob(pattern) if int(p.stem.split("-")[1]) != step)
