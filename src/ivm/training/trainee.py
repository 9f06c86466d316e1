"""What the recipe needs of a model, and all that it needs: how any architecture is trained unchanged.

An architecture is a module named in `ivm.training.config.ARCHITECTURES`, with five functions:

    sizes(stage) -> the names that [model.sizes] may have, each with its default
    check(model, stage)    raises OptionError if the sizes or image_size do not fit
    deciding(model, stage) -> those of the sizes that decide the weights, defaults filled in: models of equal
        ones take each other's; the others, such as a precision, may change when a run goes on
    generator(model) -> Trainee
    discriminator(model) -> Trainee

with `model` the section [model] of the configuration, which also goes into the header of weight files.

`ivm.training.compact` is the example. Nothing else in training knows what a model looks like inside.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from ivm.training.config import ARCHITECTURES, Model
from ivm.types import Sample

__all__ = ["Trainee", "TrainingBatch", "View", "build", "deciding"]


class View(NamedTuple):
    """One sample as it is shown to a model once.

    Attributes:
        sample: cropped, mirrored and resized to the model's square; its heatmap is float32 [S, S].
        instruction: the one of its instructions that is asked.
        found: whether the instruction's target is in the picture.
    """

    sample: Sample
    instruction: str
    found: bool


class TrainingBatch(NamedTuple):
    """Q views as tensors.

    Attributes:
        inputs: what the module is called with, in order; any shapes, the first axis is Q.
        targets: float32 [Q, h, w] in [0, 1], at the size of a generator's logits; else [Q, 0, 0].
        found: bool [Q].
        human: bool [Q], False for a machine annotation.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    found: Tensor
    human: Tensor


@dataclass(frozen=True)
class Trainee:
    """A model as the recipe sees it.

    Attributes:
        module: what is trained: its parameters that require a gradient. `module(*batch.inputs)` is
            (logits float [Q, h, w], found logits float [Q]) of a generator, logits float [Q] of a
            discriminator: D is their sigmoid. It has no BatchNorm and otherwise treats samples one by one, so
            that a batch may be split over processes.
        collate: views -> TrainingBatch; called in the loader's processes, so it must pickle.
        hidden: frozen modules that are not sub-modules of `module`, and so in no weight file; they are moved
            and checked with it.
        export: (module with its final weights, folder) -> a line on how near the result is to the module:
            writes what `ivm.load(folder)` accepts. None for a discriminator.
        pretrained: what the names of those parameters begin with that were trained elsewhere and learn at
            `optimise.pretrained_rate` of the learning rate; "" for none.
    """

    module: nn.Module
    collate: Callable[[Sequence[View]], TrainingBatch]
    hidden: tuple[nn.Module, ...] = ()
    export: Callable[[nn.Module, Path], str] | None = field(default=None)
    pretrained: str = ""


def build(stage: str, model: Model) -> Trainee:
    """The model that a configuration asks for, with new weights; seed torch first.

    Args:
        stage: a name in STAGES.
        model: its section of the configuration.

    Raises:
        MissingExtraError: the architecture needs a part that is not installed.
    """
    module = importlib.import_module(ARCHITECTURES[model.kind])
    made: Trainee = getattr(module, stage)(model)
    return made


def deciding(stage: str, model: Model) -> dict[str, Any]:
    """The sizes that decide a model's weights, defaults filled in, as plain JSON values.

    Args:
        stage: a name in STAGES.
        model: section of the configuration, or of the header of a weights file.
    """
    module = importlib.import_module(ARCHITECTURES[model.kind])
    plain: dict[str, Any] = json.loads(json.dumps(module.deciding(model, stage)))
    return plain
