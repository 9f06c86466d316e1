"""What a run is going to do, before it does: parameters, memory, steps, data. `--dry-run` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from ivm.training.checkpoints import RunFolder
from ivm.training.config import TrainConfig
from ivm.training.feed import Failure, Viewer, open_feed
from ivm.training.precision import uses_bf16
from ivm.training.recipe import assemble
from ivm.training.reports import check_trackers
from ivm.training.validation import Validation

__all__ = ["make_plan"]

_TRIAL = 2  # samples that the memory of activations is measured on, if a batch has as many


def make_plan(config: TrainConfig) -> str:
    """Lines for a person. Builds the model and runs two samples forward on the CPU; trains nothing.

    Raises:
        IVMError: whatever would stop the run before its first step.
    """
    optimise, data = config.optimise, config.data
    run = RunFolder(config.folder)
    run.check(config)
    check_trackers(config)
    feed = open_feed(data, config.seed)
    models = assemble(config, fresh=run.checkpoint is None)
    trainee = models.trainee
    if data.validation:
        Validation(config, trainee, None)  # looks at its stores
    module = trainee.module
    trained = [value for value in module.parameters() if value.requires_grad]
    frozen = [
        value for one in (module, *models.others) for value in one.parameters() if not value.requires_grad
    ]

    viewer = Viewer(models.size, config.augment, config.seed)
    trial = [places[:: max(1, len(places) // _TRIAL)][:_TRIAL] for places in _first(feed, config)]
    tried = len(trial[0])
    batch = next(feed.loader(trial, trainee.collate, viewer, 0))
    if isinstance(batch, Failure):
        raise batch.error
    with (
        _kept_bytes(module) as kept,
        torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16(optimise.precision, "cpu")),
    ):
        module.train()(*batch.inputs)
    part = optimise.batch_size // optimise.accumulate
    copies = 4 + bool(optimise.average)  # weights, gradients, AdamW's two moments, average
    sizes = {
        f"trained parameters x {copies} (gradients, AdamW{', average' * bool(optimise.average)})": copies
        * _bytes(trained),
        "frozen parameters": _bytes(frozen),
        f"activations of {part} samples (from {tried})": sum(kept.values()) * part // tried,
    }
    human, machine = feed.sizes()
    humans = round(optimise.batch_size * data.human_share)
    machines = optimise.batch_size - humans
    epochs = " and ".join(
        f"{name} one {optimise.steps * taken / size:,.1f} times"
        for name, taken, size in (("human", humans, human), ("machine", machines, machine))
        if taken
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"  # the trial above was on the CPU
    lines = [
        f"train a {config.model.kind} {config.stage} in {config.folder}"
        + (f", going on from step {run.step}" if run.state else ""),
        f"trained   {_count(trained):,} parameters"
        + (f", starting from {config.init}" if config.init else ""),
        f"frozen    {_count(frozen):,} parameters",
        *(f"memory    {_megabytes(size)}  {name}" for name, size in sizes.items()),
        f"memory    {_megabytes(sum(sizes.values()))}  in one process, without what torch itself takes",
        f"steps     {optimise.steps:,}, each of {humans} human and {machines} machine annotations"
        + (f" in {optimise.accumulate} parts" if optimise.accumulate > 1 else ""),
        f"rate      up to {optimise.learning_rate:g} in {optimise.warmup:,} steps, then {optimise.schedule}; "
        f"{'bf16' if uses_bf16(optimise.precision, device) else 'fp32'}",
        f"data      {human:,} human and {machine:,} machine annotations; each {epochs}",
    ]
    if config.stage == "generator":
        source = f", by {config.loss.discriminator}" if models.discriminator else ""
        lines.append(f"weights   {config.loss.weights}{source}")
        if models.teacher:
            lines.append(f"teacher   {config.loss.teacher}, {config.loss.teacher_share:g} of the loss")
    # From a teacher, samples of weight 0 learn, too.
    if config.stage == "generator" and config.loss.weights in ("human", "machine") and not models.teacher:
        wasted = machines if config.loss.weights == "human" else humans
        if wasted:
            lines.append(
                f"note      {wasted} of {optimise.batch_size} samples a step have weight 0: "
                f"data.human_share = {int(config.loss.weights == 'human')} saves their time"
            )
    if not data.validation:
        lines.append("note      without data.validation the last checkpoint counts as the best")
    return "\n".join(lines)


def _first(feed: Any, config: TrainConfig) -> list[Any]:
    return list(islice(feed.batches(config.optimise.batch_size, config.data.human_share), 1))


@contextmanager
def _kept_bytes(module: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes of each storage that is kept for the backward pass, parameters left out."""
    own = {value.untyped_storage().data_ptr() for value in module.parameters()}
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        yield kept


def _count(values: list[Any]) -> int:
    return sum(value.numel() for value in values)


def _bytes(values: list[Any]) -> int:
    return sum(value.numel() * value.element_size() for value in values)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:8,.0f} MB"
