"""The parts that the recipe puts together: what is trained and what is frozen, the rates, the average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivm.errors import CheckpointError, OptionError, TrainingError, require
from ivm.training.config import Lora, Optimise, TrainConfig, nearest

__all__ = ["Average", "Frozen", "choose_parameters", "groups", "learning_rate", "plain_weights"]


def choose_parameters(module: nn.Module, config: TrainConfig) -> None:
    """Put LoRA into a module, or freeze what the configuration freezes; the rest requires a gradient.

    Raises:
        OptionError: a pattern or layer name matches nothing, or nothing is left to train.
        MissingExtraError: peft is not installed, and LoRA is asked for.
    """
    names = [name for name, value in module.named_parameters() if value.requires_grad]
    if config.lora.rank:
        _add_lora(module, config.lora)
        for name, value in module.named_parameters():
            plain = name.replace(".base_layer", "")
            value.requires_grad_("lora_" in name or (plain in names and _matches(plain, config.lora.also)))
    patterns = config.lora.also if config.lora.rank else config.optimise.freeze
    for pattern in patterns:
        if not any(_matches(name, (pattern,)) for name in names):
            option = "lora.also" if config.lora.rank else "optimise.freeze"
            raise OptionError(f"{option}: no parameter is called {pattern!r}{nearest(pattern, names)}")
    if not config.lora.rank:
        for name, value in module.named_parameters():
            if _matches(name, patterns):
                value.requires_grad_(False)
    if not any(value.requires_grad for value in module.parameters()):
        raise OptionError("optimise.freeze leaves nothing to train")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _add_lora(module: nn.Module, lora: Lora) -> None:
    peft = require("peft", "train")
    layers = {name for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    lasts = {name.rpartition(".")[2] for name in layers}
    for target in lora.targets:
        if target not in layers | lasts:
            raise OptionError(f"lora.targets: no linear layer is called {target!r}{nearest(target, lasts)}")
    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets)
    )
    peft.inject_adapter_in_model(settings, module)


def plain_weights(module: nn.Module, names: set[str]) -> dict[str, Tensor]:
    """The weights `names` of a module, with LoRA's updates added to the layers that it was put into."""
    state = dict(module.state_dict())
    for name, part in module.named_modules():
        if hasattr(part, "base_layer") and hasattr(part, "get_delta_weight"):
            for adapter in part.active_adapters:
                key = f"{name}.base_layer.weight"
                if f"{name}.weight" not in names:
                    continue  # an adapter of the architecture itself, over a layer that no file holds
                state[key] = state[key] + part.get_delta_weight(adapter).to(state[key].dtype)
    plain = {key.replace(".base_layer", ""): value for key, value in state.items()}
    return {key: value for key, value in plain.items() if key in names}


def groups(module: nn.Module, optimise: Optimise, pretrained: str = "") -> list[dict[str, Any]]:
    """AdamW's groups: matrices decay; biases, norms and tokens do not, and neither does what is pretrained.

    Args:
        module: whose parameters.
        optimise: section of the configuration.
        pretrained: what the names of pretrained parameters begin with; "" for none.

    Returns:
        Groups with their share of the learning rate as "rate".
    """
    made: list[dict[str, Any]] = [
        {"params": [], "weight_decay": optimise.weight_decay, "rate": 1.0},
        {"params": [], "weight_decay": 0.0, "rate": 1.0},
        {"params": [], "weight_decay": 0.0, "rate": optimise.pretrained_rate},
    ]
    for name, value in module.named_parameters():
        if value.requires_grad:
            before = bool(pretrained) and name.startswith(pretrained)
            matrix = value.ndim >= 2 and value.shape[0] > 1
            made[2 if before else 0 if matrix else 1]["params"].append(value)
    return [group for group in made if group["params"]]


def learning_rate(step: int, optimise: Optimise) -> float:
    """Linear up for `warmup` steps; then half a cosine down to 0, or flat and at last linear down to 0."""
    up = min(1.0, (step + 1) / max(1, optimise.warmup))
    if optimise.schedule == "flat":
        down = min(1.0, (optimise.steps - step) / max(1, optimise.decay))
        return optimise.learning_rate * min(up, down)
    done = max(0, step - optimise.warmup) / max(1, optimise.steps - optimise.warmup)
    return optimise.learning_rate * up * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))


class Average:
    """An exponential moving average of the trained parameters.

    Args:
        module: whose parameters.
        decay: 0 for none: then the average is the parameters themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._values = (
            {name: value.detach().clone() for name, value in self._parameters.items()} if decay else {}
        )

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the parameters after `step` steps in."""
        if self.decay:  # a young run has little worth averaging: follow it closely
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self._values.values()), list(self._parameters.values()), 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The parameters are the average meanwhile."""
        kept = {name: self._parameters[name].detach().clone() for name in self._values}
        self._put(self._values)
        try:
            yield
        finally:
            self._put(kept)

    def save(self, folder: Path) -> None:
        """Write average.safetensors."""
        if self.decay:
            save_file(
                {name: value.cpu() for name, value in self._values.items()}, folder / "average.safetensors"
            )

    def load(self, folder: Path) -> None:
        """Read it; a run that did not average starts from its parameters.

        Raises:
            CheckpointError: it is of other parameters.
        """
        file = folder / "average.safetensors"
        if not self.decay or not file.exists():
            self._values = {name: self._parameters[name].detach().clone() for name in self._values}
            return
        values = load_file(file)
        if values.keys() != self._values.keys():
            raise CheckpointError(f"{file} is of other parameters than this run trains")
        for name, value in values.items():
            self._values[name].copy_(value)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._parameters[name].copy_(value)


class Frozen:
    """Knows what must not change, and checks that it has not: by a checksum of each tensor.

    Args:
        modules: all that the run touches; of these what requires no gradient.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        # A list: a teacher or a discriminator may have the names of what it teaches or judges.
        self._kept = [
            (f"{name} of {type(module).__name__}", value, _checksum(value))
            for module in modules
            for name, value in module.named_parameters()
            if not value.requires_grad
        ]

    def check(self) -> None:
        """Raise TrainingError if a frozen parameter has changed or has a gradient."""
        for name, value, sums in self._kept:
            if value.grad is not None or _checksum(value) != sums:
                raise TrainingError(f"the frozen parameter {name} has changed: it must not be trained")


@torch.no_grad()
def _checksum(value: Tensor) -> tuple[int, ...]:
    """Sums over the bits, of all and of parts: equal for equal tensors, and nearly surely for no others."""
    local = value.to_local() if hasattr(value, "to_local") else value
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[local.element_size()]
    bits = local.detach().contiguous().flatten().view(whole)
    return tuple(int(bits[::every].sum(dtype=torch.int64)) for every in (1, 3, 7))
