"""The recipe: how both models are trained, from the laptop to the cluster, from top to bottom.

Accelerate owns devices and processes: started plainly it runs on what there is, started by `accelerate
launch` as its own configuration says (DDP, FSDP, DeepSpeed). A batch is that of all processes together, and
what a run computes does not depend on their number but for rounding.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import (
    DistributedType,
    ProjectConfiguration,
    parse_flag_from_env,
    send_to_device,
    set_seed,
)
from torch import Tensor

from ivm.errors import OptionError, OutputError, TrainingError, require
from ivm.training.checkpoints import RunFolder, kept_names, load_trainee, load_weights, weights_file
from ivm.training.config import TrainConfig
from ivm.training.dwsl import sample_weights
from ivm.training.feed import Failure, Viewer, open_feed
from ivm.training.losses import (
    discriminator_loss,
    distillation_loss_per_sample,
    generator_loss_per_sample,
)
from ivm.training.parts import Average, Frozen, choose_parameters, groups, learning_rate, plain_weights
from ivm.training.precision import flush_denormals, uses_bf16
from ivm.training.reports import Reporter
from ivm.training.state import keep_what_is_trained, restore, write_state
from ivm.training.trainee import Trainee, TrainingBatch, View, build
from ivm.training.validation import SCORE, Validation

__all__ = ["Assembly", "Outcome", "assemble", "export", "train"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: steps done, whether all, its weights, and of a generator the folder for `ivm.load`."""

    step: int
    finished: bool
    weights: Path | None
    model: Path | None


class Assembly(NamedTuple):
    """The models of a run.

    Attributes:
        trainee: what is trained.
        names: of its weights in files.
        discriminator: frozen, gives samples their weights; or None.
        teacher: frozen, shows the trainee how it would answer; or None.
        size: side in pixels of the views: the largest that one of them takes.
    """

    trainee: Trainee
    names: set[str]
    discriminator: Trainee | None
    teacher: Trainee | None
    size: int

    @property
    def others(self) -> list[torch.nn.Module]:
        """All modules but the trained one."""
        helpers = [one for one in (self.discriminator, self.teacher) if one is not None]
        modules = [module for one in helpers for module in (one.module, *one.hidden)]
        return [*self.trainee.hidden, *modules]

    @property
    def collate(self) -> Callable[[Sequence[View]], tuple[TrainingBatch | None, ...]]:
        """Views -> a batch for each of the three models, None where there is none."""
        three = (self.trainee, self.discriminator, self.teacher)
        return _Collates(tuple(one.collate if one is not None else None for one in three))


@dataclass(frozen=True)
class _Collates:
    each: tuple[Callable[[Sequence[View]], TrainingBatch] | None, ...]

    def __call__(self, views: Sequence[View]) -> tuple[TrainingBatch | None, ...]:
        return tuple(one(views) if one is not None else None for one in self.each)


def assemble(config: TrainConfig, fresh: bool = True) -> Assembly:
    """The models of a run, on the CPU.

    Args:
        config: of the run.
        fresh: whether to load `init`; a checkpoint to go on from has all that it brought.

    Raises:
        CheckpointError: `init` is of another architecture; the discriminator's or the teacher's weights are
            of another kind of model, or damaged.
        OptionError: a pattern of the configuration matches nothing.
    """
    set_seed(config.seed)
    trainee = build(config.stage, config.model)
    names = kept_names(trainee.module)
    if config.init and fresh:
        load_weights(trainee.module, config.init, names, config.stage, config.model, trainee.pretrained)
    choose_parameters(trainee.module, config)
    helpers: dict[str, Trainee | None] = {"discriminator": None, "teacher": None}
    size = config.model.image_size
    if config.stage == "generator":
        for name, stage in (("discriminator", "discriminator"), ("teacher", "generator")):
            if file := getattr(config.loss, name):
                helper, model = load_trainee(file, stage)
                helper.module.eval().requires_grad_(False)
                helpers[name] = helper
                size = max(size, model.image_size)
    return Assembly(trainee, names, size=size, **helpers)


def train(config: TrainConfig, say: Callable[[str], object] = print) -> Outcome:
    """Train until all steps are done, going on with what is in the folder; Ctrl-C saves and stops.

    Args:
        config: what is trained and how.
        say: takes lines for a person.

    Raises:
        CheckpointError, OptionError: as `assemble`.
        DataError: a store cannot be used, or a kind of annotation is missing.
        TrainingError: the folder holds another run, the disk is full, data went missing, or the loss is not
            finite; the last checkpoint is whole.
        MissingExtraError: an optional part is not installed.
    """
    flush_denormals()
    optimise, data = config.optimise, config.data
    run = RunFolder(config.folder)
    run.check(config)
    feed = open_feed(data, config.seed)
    accelerator = _accelerator(config)
    world, rank = accelerator.num_processes, accelerator.process_index

    models = assemble(config, fresh=run.checkpoint is None)
    trainee, names, discriminator, teacher, size = models
    validation = Validation(config, trainee, accelerator) if data.validation else None
    optimizer = torch.optim.AdamW(
        groups(trainee.module, optimise, trainee.pretrained), lr=optimise.learning_rate, betas=optimise.betas
    )
    wanted = [
        {key: group[key] for key in ("weight_decay", "rate", "betas")} for group in optimizer.param_groups
    ]
    keep_what_is_trained(accelerator, trainee.module, names)
    model, optimizer = accelerator.prepare(trainee.module, optimizer)
    for module in models.others:
        module.to(accelerator.device)
    average = Average(accelerator.unwrap_model(model), optimise.average)
    trained = [value for value in model.parameters() if value.requires_grad]
    set_seed(config.seed, device_specific=True)  # for what is random in a model, such as dropout

    if accelerator.is_main_process:
        run.begin()
    accelerator.wait_for_everyone()
    if run.forget_best(config, accelerator.is_main_process) and accelerator.is_main_process:
        say("data.validation is another than before: the best weights so far count no more and are removed")
    if run.checkpoint is not None:
        restore(accelerator, run.checkpoint, average)
        for group, settings in zip(optimizer.param_groups, wanted, strict=True):  # they may change on the way
            group |= settings
        say(f"going on from step {run.step}") if accelerator.is_main_process else None

    # As they are now: a checkpoint holds what the configuration froze.
    frozen = Frozen([model, *models.others])

    parts = world * optimise.accumulate
    mine = range(rank * optimise.accumulate, (rank + 1) * optimise.accumulate)
    places = feed.batches(optimise.batch_size, data.human_share, run.step, parts, mine)
    loader = feed.loader(
        islice(places, (optimise.steps - run.step) * optimise.accumulate),
        models.collate,
        Viewer(size, config.augment, config.seed),
        data.workers,
        pin=accelerator.device.type == "cuda",
    )

    def save(step: int, due: bool) -> None:
        """`due`: not only because the run is stopped here, where no other run would look for the best."""
        frozen.check()
        figures = None
        with average.shown():
            if validation is not None and due:
                figures = validation(model)
            score = None if figures is None else figures[SCORE[config.stage]]
            state = accelerator.get_state_dict(model) if _sharded(accelerator) else None
            kept = _plain(state, names) if state else plain_weights(accelerator.unwrap_model(model), names)
            kept = {name: value.detach().clone() for name, value in kept.items()}
        best = run.save(
            step,
            config,
            lambda folder: write_state(accelerator, folder, average),
            lambda: kept,
            score,
            accelerator.is_main_process,
            accelerator.wait_for_everyone,
        )
        if figures is not None:
            reporter.validated(step, figures, best)
        reporter.pause()

    step, sums, count = run.step, dict[str, Tensor](), 0
    model.train()
    with Reporter(config, step, say, accelerator) as reporter, _stop_signals() as stop:
        while step < optimise.steps:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, optimise) * group["rate"]
            for _ in range(optimise.accumulate):
                batch = next(loader)
                if isinstance(batch, Failure):
                    _say_lost(batch, run)
                batch, shown, taught = send_to_device(batch, accelerator.device, non_blocking=True)
                with accelerator.accumulate(model):
                    with torch.no_grad(), accelerator.autocast():
                        scores = discriminator.module(*shown.inputs).sigmoid() if discriminator else None
                        lesson = teacher.module(*taught.inputs) if teacher else None
                    outputs = model(*batch.inputs)
                    loss, figures = _loss(config, outputs, batch, scores, lesson, step / optimise.steps)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(trained, optimise.clip)
                        _check_finite(loss, norm, step, run)
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
                for name, value in figures.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value / optimise.accumulate
            step, count = step + 1, count + 1
            average.update(step)
            stopped = _anywhere(accelerator, stop())
            if step % config.report_every == 0 or step == optimise.steps or stopped:
                means = {name: value / count for name, value in sums.items()}
                means = accelerator.reduce(means, "mean")
                shown_means = {name: float(value) for name, value in means.items()}
                reporter.report(step, count, shown_means | {"rate": learning_rate(step - 1, optimise)})
                sums, count = {}, 0
            due = step % config.save_every == 0 or step == optimise.steps
            if due or stopped:
                save(step, due)
            if stopped:
                reporter.tell(f"stopped at step {step} and saved: the same command goes on from there")
                return Outcome(step, False, weights_file(run.folder), None)
    made = run.folder / "model" if trainee.export is not None else None
    if made and accelerator.is_main_process and not (run.exported and made.is_dir()):
        _export_whole(run.folder, made, say)
        run.note_export()
    accelerator.wait_for_everyone()
    return Outcome(step, True, weights_file(run.folder), made)


def export(weights: Path, folder: Path, say: Callable[[str], object] = print) -> Path:
    """Turn a generator's weights into a folder that `ivm.load` takes; returns it.

    Raises:
        CheckpointError: `weights` is no generator's file or run folder.
        ModelError: the result does not compute what torch does; nothing is written then.
        MissingExtraError: what the export needs is not installed.
    """
    file = weights_file(weights)
    trainee, _ = load_trainee(file, "generator")
    assert trainee.export is not None
    say(f"exporting {file}")
    say(trainee.export(trainee.module.eval(), Path(folder)))
    return Path(folder)


def _export_whole(run: Path, made: Path, say: Callable[[str], object]) -> None:
    """As `export` of a run, but what stands in `made` is always whole: the model before, or the new one."""
    new, old = run / ".saving-model", run / ".saving-old"
    try:
        export(run, new, say)
        if made.exists():
            made.replace(old)
        new.replace(made)
    except OSError as error:
        raise OutputError(
            f"cannot write {made}: {error.strerror or error}; the same command tries it again"
        ) from error
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def _loss(
    config: TrainConfig,
    outputs: Any,
    batch: TrainingBatch,
    scores: Tensor | None,
    lesson: tuple[Tensor, Tensor] | None,
    progress: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean loss of a batch, and what to report of it; `lesson`: the teacher's outputs."""
    options = config.loss
    if config.stage == "discriminator":
        loss = discriminator_loss(outputs, batch.human, options.method, options.eta, options.clip)
        d = outputs.detach().float().sigmoid()
        return loss, {
            "loss": loss.detach(),
            "human": d[batch.human].mean(),
            "machine": d[~batch.human].mean(),
        }
    logits, found = outputs
    given = torch.ones_like(found, dtype=torch.float32) if scores is None else scores.float()
    weights = sample_weights(given, batch.human, options.weights, progress, options.clip)
    each, mask, found_loss = generator_loss_per_sample(
        logits, found, batch.targets, batch.found, options.found_weight
    )
    loss = (weights * each).mean()
    figures = {"mask": mask.mean(), "found": found_loss.mean(), "weight": weights.mean()}
    if lesson is not None:
        # Of weight 1 whoever annotated the sample: the teacher has not seen the annotation.
        differing, _, _ = distillation_loss_per_sample(logits, found, *lesson, options.found_weight)
        figures["teacher"] = differing.mean()
        loss = (1 - options.teacher_share) * loss + options.teacher_share * figures["teacher"]
    figures = {"loss": loss, **figures}
    return loss, {name: value.detach() for name, value in figures.items()}


def _accelerator(config: TrainConfig) -> Accelerator:
    optimise = config.optimise
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        require("deepspeed", "deepspeed")
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))  # decides for all who come later
    bf16 = uses_bf16(optimise.precision, state.device.type)
    deepspeed = state.distributed_type == DistributedType.DEEPSPEED
    made = Accelerator(
        mixed_precision="bf16" if bf16 and not deepspeed else "no",
        gradient_accumulation_steps=optimise.accumulate,
        log_with=list(config.track) or None,
        project_config=ProjectConfiguration(project_dir=config.folder, logging_dir=config.folder),
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != made.num_processes:
        raise OptionError(
            f"{started} processes were started, but accelerate did not join them: each would train alone and "
            "write over the others; on a CPU set ACCELERATE_USE_CPU=true, and see what  accelerate env  says"
        )
    if optimise.average and _sharded(made):
        raise OptionError(
            f"optimise.average must be 0 under {made.distributed_type.value}, which keeps parts of the "
            f"parameters on each process, but is {optimise.average:g}"
        )
    if optimise.batch_size % (made.num_processes * optimise.accumulate):
        raise OptionError(
            f"optimise.batch_size must be a multiple of {made.num_processes} processes x "
            f"{optimise.accumulate} accumulated parts, but is {optimise.batch_size}"
        )
    if deepspeed:
        _steer_deepspeed(made, config, bf16)
    return made


def _steer_deepspeed(accelerator: Accelerator, config: TrainConfig, bf16: bool) -> None:
    """DeepSpeed clips, accumulates and casts itself: as `config` says, whatever its own file does.

    Its bf16 would turn all weights into bf16, which a frozen part beside the model does not follow; its
    autocast is the mixed precision of all other ways to train.
    """
    optimise = config.optimise
    ways: dict[str, Any] = accelerator.state.deepspeed_plugin.deepspeed_config
    ways.update(
        train_micro_batch_size_per_gpu=optimise.batch_size
        // (accelerator.num_processes * optimise.accumulate),
        gradient_accumulation_steps=optimise.accumulate,
        gradient_clipping=optimise.clip,
        fp16={"enabled": False},
        bf16={"enabled": False},
        torch_autocast={"enabled": bf16, "dtype": "bfloat16"},
    )
    # Without it, what stage 3 shards could not be written as plain weights.
    ways.setdefault("zero_optimization", {})["stage3_gather_16bit_weights_on_model_save"] = True


def _sharded(accelerator: Accelerator) -> bool:
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def _plain(state: Mapping[str, Tensor], names: set[str]) -> dict[str, Tensor]:
    """Of a gathered state; LoRA put in by the recipe is not merged there."""
    if any("lora_" in name and name not in names for name in state):
        raise OptionError("lora cannot be merged from a sharded model: use DDP for [lora]")
    return {name: value for name, value in state.items() if name in names}


def _check_finite(loss: Tensor, norm: Any, step: int, run: RunFolder) -> None:
    values = [float(loss.detach())] + ([] if norm is None else [float(norm)])
    if not all(value - value == 0 for value in values):
        kept = f"the checkpoint of step {run.step} is whole" if run.state else "there is no checkpoint yet"
        raise TrainingError(
            f"the loss or its gradient is not finite at step {step + 1}: {kept}; lower "
            "optimise.learning_rate and run the same command again"
        )


def _say_lost(failure: Failure, run: RunFolder) -> None:
    kept = f"goes on from step {run.step}" if run.state else "starts anew"
    raise TrainingError(
        f"the data cannot be read on: {failure.error}; once it is back, the same command {kept}"
    ) from failure.error


def _anywhere(accelerator: Accelerator, flag: bool) -> bool:
    """Whether any process wants it."""
    if accelerator.num_processes == 1:
        return flag
    return bool(accelerator.reduce(torch.tensor(float(flag), device=accelerator.device), "sum") > 0)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C or SIGTERM came; a second one kills as usual."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
