"""What is to be trained and how: one validated value. No torch; `config_file` reads it.

The fields below are the options, and what stands in `about` is their documentation everywhere.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, get_type_hints

from ivm.errors import OptionError
from ivm.training.precision import PRECISIONS

__all__ = [
    "ARCHITECTURES",
    "FIXED",
    "STAGES",
    "Augmentation",
    "Data",
    "DiscriminatorLoss",
    "GeneratorLoss",
    "Lora",
    "Model",
    "Optimise",
    "TrainConfig",
    "faults_of",
    "nearest",
    "report",
    "sections_of",
]

STAGES = ("discriminator", "generator")
"""What is trained: stage I and stage II of the paper."""

ARCHITECTURES: dict[str, str] = {"compact": "ivm.training.compact", "full": "ivm.training.full"}
"""Name -> module; `ivm.training.trainee` says what it has to offer."""

FIXED = (
    "stage", "seed", "model.kind", "model.image_size", "lora", "data.stores", "data.human_share",
    "data.window", "optimise.batch_size", "optimise.freeze",
)  # fmt: skip
"""Options that a run keeps from its first step to its last, besides the sizes that decide the weights
(`trainee.deciding`); the others may change when it goes on."""


def _option(default: Any, about: str, **limits: Any) -> Any:
    """A field. Limits: low, high (inclusive), above (exclusive), choices, path."""
    given = {"default_factory": default} if default is dict else {"default": default}
    return field(**given, metadata={"about": about, **limits})


class _Section:
    """Checks every option when it is made; the error lists all faults."""

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if isinstance(value, list):
                object.__setattr__(self, one.name, tuple(value))
        faults = faults_of(type(self), vars(self))
        if faults:
            raise OptionError(f"{type(self).__name__}: " + "; ".join(faults))


@dataclass(frozen=True)
class Model(_Section):
    """[model]: what is trained."""

    kind: str = _option("compact", "architecture", choices=lambda: ARCHITECTURES)
    image_size: int = _option(192, "side in pixels of the square that pictures are resized to", low=16)
    sizes: Mapping[str, Any] = _option(dict, "sizes of the architecture that differ from its defaults")


@dataclass(frozen=True)
class Data(_Section):
    """[data]: what it is trained on."""

    stores: tuple[str, ...] = _option((), "folders that ivm data convert or synthesize wrote", path=True)
    validation: tuple[str, ...] = _option((), "stores that measure it at each checkpoint", path=True)
    human_share: float = _option(
        0.5, "share of human annotations in each batch; the paper's is a half", low=0, high=1
    )
    validation_samples: int = _option(500, "most samples of them to use, spread evenly", low=1)
    window: int = _option(10_000, "samples are mixed within so many neighbours of a random order", low=0)
    workers: int = _option(2, "processes that read and augment pictures; 0 for none", low=0)


@dataclass(frozen=True)
class Augmentation(_Section):
    """[augment]: how pictures vary (`ivm.data.transforms.Augment`)."""

    crop: float = _option(0.8, "smallest area of a random crop, as a share of the picture", above=0, high=1)
    flip: float = _option(0.5, "share of pictures that are mirrored, with their instructions", low=0, high=1)
    colour: float = _option(0.3, "strength of changes of brightness and colour", low=0, high=1)


@dataclass(frozen=True)
class Optimise(_Section):
    """[optimise]: how long and how fast."""

    steps: int = _option(3000, "optimiser steps in all", low=1)
    batch_size: int = _option(32, "samples a step, over all processes and accumulated parts together", low=1)
    accumulate: int = _option(1, "parts that a batch is computed in, one after the other", low=1)
    learning_rate: float = _option(5e-4, "the highest", above=0)
    schedule: str = _option("cosine", "after the warm-up: cosine, or flat", choices=("cosine", "flat"))
    warmup: int = _option(200, "steps in which it rises from 0 to the highest", low=0)
    decay: int = _option(500, "of flat: steps at the end in which it falls linearly to 0", low=0)
    weight_decay: float = _option(0.05, "AdamW's, of matrices", low=0)
    betas: tuple[float, float] = _option((0.9, 0.98), "decay of AdamW's two moments", low=0, high=0.99999)
    clip: float = _option(1.0, "largest norm of the gradient", above=0)
    average: float = _option(
        0.998,
        "decay of the moving average of the weights, which is what is used; 0: none",
        low=0,
        high=0.999999,
    )
    precision: str = _option(
        "auto", "auto (bf16 where the machine has instructions for it), bf16 or fp32", choices=PRECISIONS
    )
    pretrained_rate: float = _option(
        0.1, "share of the learning rate for what was trained elsewhere: deep.* of a compact model", low=0
    )
    freeze: tuple[str, ...] = _option((), "parameters that stay as they are: patterns such as image_blocks.*")


@dataclass(frozen=True)
class Lora(_Section):
    """[lora]: train low-rank updates of some layers and nothing else (Hu et al., 2021), by peft."""

    rank: int = _option(0, "rank; 0: no LoRA", low=0)
    alpha: float = _option(16.0, "scale", above=0)
    dropout: float = _option(0.05, "dropout before the update", low=0, high=0.9)
    targets: tuple[str, ...] = _option((), "names of the linear layers, such as qkv or q_proj")
    also: tuple[str, ...] = _option((), "patterns of further parameters to train in full")


@dataclass(frozen=True)
class GeneratorLoss(_Section):
    """[loss] of a generator."""

    weights: str = _option(
        "dwsl",
        "weight of a sample: dwsl, odds, self-paced, equal, human or machine",
        choices=lambda: importlib.import_module("ivm.training.dwsl").WEIGHTS,
    )
    discriminator: str = _option("", "its weights file or run folder; of dwsl, odds, self-paced", path=True)
    clip: tuple[float, float] = _option((0.1, 0.9), "range that the score D is kept in", low=0, high=0.999)
    found_weight: float = _option(0.3, "weight of the found score's loss beside the mask loss", low=0)
    teacher: str = _option(
        "", "weights file or run folder of a generator, usually a larger one, to learn from, too", path=True
    )
    teacher_share: float = _option(
        0.5, "share of the loss that is the teacher's; of a teacher alone", above=0, high=1
    )


@dataclass(frozen=True)
class DiscriminatorLoss(_Section):
    """[loss] of a discriminator."""

    method: str = _option(
        "paper",
        "paper, or positive-unlabelled",
        choices=lambda: importlib.import_module("ivm.training.losses").DISCRIMINATOR_LOSSES,
    )
    eta: float = _option(0.5, "of positive-unlabelled: share presumed good", above=0, high=1)
    clip: tuple[float, float] = _option(
        (0.1, 0.9), "range that the score D is kept in; of positive-unlabelled", low=0, high=0.999
    )


@dataclass(frozen=True)
class TrainConfig(_Section):
    """Everything about a run.

    Attributes are the options that `options` lists; `stage` is a name in STAGES and comes from the command.

    Raises:
        OptionError: something is outside what it accepts; the message lists every fault.
    """

    stage: str = "generator"
    folder: str = _option("run", "where the run is kept; one that was interrupted goes on", path=True)
    init: str = _option("", "weights to start from (a warm restart): a file or a run folder", path=True)
    seed: int = _option(0, "of new weights, of the order of samples, and of crops", low=0, high=2**32 - 1)
    save_every: int = _option(500, "steps between checkpoints, each with a validation", low=1)
    report_every: int = _option(20, "steps between reports", low=1)
    track: tuple[str, ...] = _option(("tensorboard",), "where figures go, too: tensorboard, wandb")
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    augment: Augmentation = field(default_factory=Augmentation)
    optimise: Optimise = field(default_factory=Optimise)
    loss: Any = field(default_factory=GeneratorLoss)
    lora: Lora = field(default_factory=Lora)

    TRACKERS: ClassVar[tuple[str, ...]] = ("tensorboard", "wandb")

    def __post_init__(self) -> None:
        super().__post_init__()
        faults = _joint_faults(self)
        if faults:
            raise OptionError(report("the configuration", faults))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def sections_of(stage: str) -> dict[str, type]:
    """Table of the file -> its class, for a stage."""
    loss = DiscriminatorLoss if stage == "discriminator" else GeneratorLoss
    first = {"model": Model, "data": Data, "augment": Augmentation}
    return {**first, "optimise": Optimise, "loss": loss, "lora": Lora}


def _joint_faults(config: TrainConfig) -> list[str]:
    """Faults that lie between options that are right by themselves."""
    faults = []
    optimise, data, loss = config.optimise, config.data, config.loss
    if config.stage not in STAGES:
        return [f"stage must be one of {', '.join(STAGES)}, but is {config.stage!r}"]
    if not isinstance(loss, sections_of(config.stage)["loss"]):
        return [f"loss must be that of a {config.stage}, but is {type(loss).__name__}"]
    if not config.folder:
        faults.append("folder must name a folder, but is empty")
    if not data.stores:
        faults.append("data.stores must name a store or more, but is empty")
    if config.stage == "discriminator" and not 0 < data.human_share < 1:
        faults.append(
            "data.human_share must lie between 0 and 1: a discriminator needs human and machine annotations, "
            f"but is {data.human_share:g}"
        )
    human = optimise.batch_size * data.human_share / optimise.accumulate
    if optimise.batch_size % optimise.accumulate or abs(human - round(human)) > 1e-9:
        faults.append(
            f"optimise.batch_size must split into {optimise.accumulate} equal part(s) (accumulate), each "
            f"with {data.human_share:g} of human annotations, but is {optimise.batch_size}"
        )
    if optimise.warmup + (optimise.decay if optimise.schedule == "flat" else 0) > optimise.steps:
        faults.append(
            f"optimise.warmup and decay must fit into the {optimise.steps} steps, "
            f"but are {optimise.warmup} and {optimise.decay}"
        )
    for name in ("loss.clip", "optimise.betas"):
        section, _, key = name.partition(".")
        low, high = getattr(getattr(config, section), key)
        if name == "loss.clip" and not low < high:
            faults.append(f"{name} must rise, but is [{low:g}, {high:g}]")
    if isinstance(loss, GeneratorLoss):
        asks = loss.weights not in ("equal", "human", "machine")
        if loss.teacher and loss.teacher_share == 1 and loss.weights != "equal":
            faults.append(
                f"loss.weights {loss.weights!r} weighs annotations, which loss.teacher_share = 1 leaves out: "
                'set weights = "equal", or a smaller share'
            )
        if asks and not loss.discriminator:
            faults.append(
                f"loss.weights {loss.weights!r} needs loss.discriminator: train one first, "
                'or set weights = "equal"'
            )
        if data.human_share == {"human": 0.0, "machine": 1.0}.get(loss.weights):
            faults.append(
                f"loss.weights {loss.weights!r} gives every sample the weight 0 where data.human_share is "
                f"{data.human_share:g}: change one of them"
            )
        if not asks and loss.discriminator:
            faults.append(f"loss.discriminator is not used by weights {loss.weights!r}: leave it out")
    if bool(config.lora.rank) != bool(config.lora.targets):
        faults.append("lora.rank and lora.targets belong together, but only one is given")
    if config.lora.rank and optimise.freeze:
        faults.append("optimise.freeze has no place beside lora, which freezes all but lora.also")
    for name in config.track:
        if name not in TrainConfig.TRACKERS:
            faults.append(f"track has no {name!r}{nearest(name, TrainConfig.TRACKERS)}")
    return faults


def faults_of(kind: type, values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What is wrong with the options of a section, each by itself."""
    types = get_type_hints(kind)
    faults = []
    for one in fields(kind):
        if one.name in values and "about" in one.metadata:
            faults += _value_faults(prefix + one.name, values[one.name], types[one.name], one.metadata)
    return faults


def _value_faults(name: str, value: Any, kind: Any, limits: Mapping[str, Any]) -> list[str]:
    if kind in (int, float):
        return _number_faults(name, value, kind, limits)
    if kind is str:
        if not isinstance(value, str):
            return [f"{name} must be text, but is {value!r}"]
        choices = limits.get("choices", ())
        choices = tuple(choices() if callable(choices) else choices)
        if choices and value not in choices:
            return [f"{name} must be one of {', '.join(choices)}, but is {value!r}{nearest(value, choices)}"]
        return []
    if kind == tuple[float, float]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            return [f"{name} must be two numbers, but is {value!r}"]
        return [fault for part in value for fault in _number_faults(name, part, float, limits)]
    if kind == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part for part in value):
            return [f"{name} must be a list of texts, but is {value!r}"]
        return []
    return [] if isinstance(value, Mapping) else [f"{name} must be a table, but is {value!r}"]


def _number_faults(name: str, value: Any, kind: type, limits: Mapping[str, Any]) -> list[str]:
    fits = isinstance(value, int) or (kind is float and isinstance(value, float) and value - value == 0)
    what = "a whole number" if kind is int else "a number"
    if isinstance(value, bool) or not fits:
        return [f"{name} must be {what}, but is {value!r}"]
    low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
    if (low is not None and value < low) or (high is not None and value > high):
        upper = "" if high is None else f" and at most {high}"
        lower = f"above {above}" if low is None else f"at least {low}"
        return [f"{name} must be {lower}{upper}, but is {value!r}"]
    if above is not None and value <= above:
        return [f"{name} must be above {above}, but is {value!r}"]
    return []


def nearest(name: str, known: Iterable[str]) -> str:
    """The words "did you mean", with the nearest known name; empty if none is near."""
    names = list(known)
    found = difflib.get_close_matches(name, names, 1)
    if not found:
        last = {one.rpartition(".")[2]: one for one in names}
        found = [last[one] for one in difflib.get_close_matches(name.rpartition(".")[2], last, 1)]
    return f": did you mean {found[0]}?" if found else ""


def report(what: str, faults: Sequence[str]) -> str:
    """One message of all faults."""
    if len(faults) == 1:
        return f"{what}: {faults[0]}"
    return f"{what} has {len(faults)} faults:" + "".join(f"\n  - {fault}" for fault in faults)
