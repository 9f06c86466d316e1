"""The full-size model and its discriminator as `trainee.Trainee`s: one frozen LMM under both.

The generator's trained parts are its LoRA adapter, the projection and the mask decoder; the
discriminator's are its adapter and head. Where a run needs both, they share the LMM in memory, each by its
own adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ivm.blending import blend
from ivm.errors import OptionError
from ivm.models.checkpoint import assemble, read_weights, runner_of
from ivm.models.discriminator import IVMDiscriminator
from ivm.models.full import ATTENTIONS
from ivm.models.full_presets import FULL_PRESETS, full_preset
from ivm.models.instruction_encoder import InstructionTokens
from ivm.models.ivm import IVMModel
from ivm.models.pretrained import DTYPES
from ivm.training.config import Model
from ivm.training.trainee import Trainee, TrainingBatch, View

__all__ = ["check", "deciding", "discriminator", "generator", "sizes"]

_SIZES: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "ivm-qwen3-vl-2b-sam2",  # or ivm-v1, ivm-smolvlm-256m-sam2, or a folder with a config.json
        "dtype": "auto",  # of the frozen parts: bfloat16 on a GPU, float32 on a CPU
        "attention": "auto",  # of the LMM
        "lmm": "",  # folder or hub id of the LMM, instead of the preset's
        "image": "",  # of the image encoder, likewise
        "gradient_checkpointing": False,  # compute the LMM's layers again in the backward pass
    }
)

# One LMM for a generator and its discriminator, as long as either lives.
_SHARED: WeakValueDictionary[tuple[Any, ...], IVMModel] = WeakValueDictionary()


def sizes(stage: str) -> dict[str, Any]:
    """What [model.sizes] may have, with defaults; the same for both stages."""
    return dict(_SIZES)


def check(model: Model, stage: str) -> None:
    """Raise OptionError unless the options fit together."""
    given = _given(model)
    faults = [
        f"sizes.{name} must be text, but is {given[name]!r}"
        for name in ("preset", "lmm", "image")
        if not isinstance(given[name], str)
    ]
    for name, choices in (("dtype", DTYPES), ("attention", ATTENTIONS)):
        if given[name] not in choices:
            faults.append(f"sizes.{name} must be one of {', '.join(choices)}, but is {given[name]!r}")
    if not isinstance(given["gradient_checkpointing"], bool):
        faults.append(
            f"sizes.gradient_checkpointing must be true or false, but is {given['gradient_checkpointing']!r}"
        )
    if faults:
        raise OptionError("; ".join(faults))
    config = full_preset(given["preset"])
    image = config.parts()[0]
    side = int(np.max(image.image_size if hasattr(image, "image_size") else image.backbone_config.image_size))
    if model.image_size != side:
        raise OptionError(
            f"image_size must be {side}, which {given['preset']} sees, but is {model.image_size}"
        )


def deciding(model: Model, stage: str) -> dict[str, Any]:
    """Preset and base models; how the LMM lies in memory and computes changes no weight."""
    given = _given(model)
    return {name: _place(str(given[name])) for name in ("preset", "lmm", "image")}


def _place(name: str) -> str:
    """One name for one folder; what is none is the name of a preset, or a hub id."""
    return str(Path(name).resolve()) if name not in FULL_PRESETS and name and Path(name).is_dir() else name


def generator(model: Model) -> Trainee:
    """A new generator over published base models."""
    module = _build(model)
    names = set(module.trained_names())
    for name, value in module.named_parameters():
        value.requires_grad_(name in names)
    return Trainee(module, _GeneratorCollate(_tokens(module), model.image_size), export=_export)


def discriminator(model: Model) -> Trainee:
    """A new discriminator, over the LMM of a generator of the same base models where one lives, as it is."""
    whole = _SHARED.get(_key(model)) or _build(model)
    encoder = whole.instruction_encoder
    module = IVMDiscriminator(encoder, model.image_size, whole.config.discriminator_dim)
    module.float()  # half precision is too coarse for AdamW's steps
    module.requires_grad_(True)
    collate = _DiscriminatorCollate(_tokens(whole), model.image_size)
    return Trainee(module, collate, hidden=(encoder.backbone,))


def _given(model: Model) -> dict[str, Any]:
    if unknown := sorted(set(model.sizes) - set(_SIZES)):
        raise OptionError(f"the sizes of a full model are {', '.join(_SIZES)}, but there is {unknown[0]}")
    return {**_SIZES, **model.sizes}


def _key(model: Model) -> tuple[Any, ...]:
    return tuple(deciding(model, "generator").items())


def _build(model: Model) -> IVMModel:
    given = _given(model)
    dtype = None if given["dtype"] == "auto" else given["dtype"]
    options = {} if given["attention"] == "auto" else {"attn_implementation": given["attention"]}
    # The recipe moves the model to its device; until then it lies in the computer's memory.
    runner = runner_of("cpu", dtype or runner_of("auto", None).dtype)
    module = assemble(full_preset(given["preset"]), runner, given["lmm"], given["image"], **options)
    state = dict(module.named_parameters())
    for name in module.trained_names():
        if name in state:  # not the buffer of the positions, which is float32 anyway
            state[name].data = state[name].data.float()
    if given["gradient_checkpointing"]:
        module.activation_checkpointing_enable()
    _SHARED[_key(model)] = module
    return module


def _tokens(module: IVMModel) -> InstructionTokens:
    tokens = module.instruction_encoder.tokens
    assert tokens is not None
    return tokens


def _export(module: nn.Module, folder: Path) -> str:
    """Write what `ivm.load` takes, and read it back."""
    assert isinstance(module, IVMModel)
    module.save_pretrained(folder)
    state, names = module.state_dict(), module.trained_names()
    written = read_weights(Path(folder) / "model.safetensors")
    same = sum(torch.equal(written[name], state[name].cpu()) for name in names)
    values = sum(state[name].numel() for name in names)
    return (
        f"{same} of {len(names)} trained tensors ({values:,} values) read back as they are; the base models "
        f"{module.config.lmm_base} and {module.config.image_base} are named, not written"
    )


@dataclass(frozen=True)
class _GeneratorCollate:
    tokens: InstructionTokens
    side: int

    def __call__(self, views: Sequence[View]) -> TrainingBatch:
        cells = self.side // 4
        targets = np.stack([_resized(_heatmap(view), cells) for view in views])
        ids, lengths = self.tokens([view.instruction for view in views])
        pixels = _pixels([_resized(view.sample.image, self.side) for view in views])
        return _batch(views, (pixels, ids, lengths), torch.from_numpy(targets))


@dataclass(frozen=True)
class _DiscriminatorCollate:
    tokens: InstructionTokens
    side: int

    def __call__(self, views: Sequence[View]) -> TrainingBatch:
        masked = [
            blend(_resized(view.sample.image, self.side), _resized(_heatmap(view), self.side))
            for view in views
        ]
        ids, lengths = self.tokens([view.instruction for view in views], asks=True)
        return _batch(views, (_pixels(masked), ids, lengths), torch.zeros(len(views), 0, 0))


def _heatmap(view: View) -> np.ndarray:
    assert view.sample.heatmap is not None
    return view.sample.heatmap.astype(np.float32, copy=False)


def _resized(array: np.ndarray, side: int) -> np.ndarray:
    if array.shape[:2] == (side, side):
        return array
    way = cv2.INTER_AREA if side <= min(array.shape[:2]) else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(array, (side, side), interpolation=way)
    return resized if array.dtype == np.uint8 else resized.clip(0.0, 1.0)


def _pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 [Q, 3, S, S]"""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _batch(views: Sequence[View], inputs: tuple[Tensor, ...], targets: Tensor) -> TrainingBatch:
    found = torch.tensor([view.found for view in views])
    human = torch.tensor([view.sample.human for view in views])
    return TrainingBatch(inputs, targets, found, human)
