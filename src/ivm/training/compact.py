"""The compact model and its discriminator as `trainee.Trainee`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ivm.errors import OptionError
from ivm.models.compact import CompactConfig, CompactModel, frozen_parts
from ivm.models.compact_discriminator import CompactDiscriminator, CompactDiscriminatorConfig
from ivm.models.export import export_compact
from ivm.models.minilm import build_tokenizer
from ivm.training.config import Model
from ivm.training.trainee import Trainee, TrainingBatch, View

__all__ = ["check", "deciding", "discriminator", "generator", "sizes"]

_Config = TypeVar("_Config", bound=CompactConfig)
_STRIDE = 4  # of logits and masks
_PRETRAINED = "deep."  # the backbone's deep stages, trained on ImageNet


def sizes(stage: str) -> dict[str, Any]:
    """What [model.sizes] may have, with defaults: fields of the config classes of the two models."""
    config = CompactConfig() if stage == "generator" else CompactDiscriminatorConfig()
    apart = {"image_size"} if stage == "generator" else {"image_size", "threshold", "found_threshold"}
    return {name: value for name, value in asdict(config).items() if name not in apart}


def check(model: Model, stage: str) -> None:
    """Raise OptionError unless the sizes fit together."""
    _config(CompactConfig if stage == "generator" else CompactDiscriminatorConfig, model)


def deciding(model: Model, stage: str) -> dict[str, Any]:
    """All sizes but the thresholds, which are of use after training."""
    values = {**sizes(stage), **model.sizes}
    return {name: value for name, value in values.items() if name not in ("threshold", "found_threshold")}


def generator(model: Model) -> Trainee:
    """A new compact model."""
    config = _config(CompactConfig, model)
    module = CompactModel(config, **frozen_parts(config))
    tokenizer = build_tokenizer(config)
    return Trainee(
        module,
        _GeneratorCollate(tokenizer, config.image_size),
        hidden=module.frozen,
        export=_Export(tokenizer),
        pretrained=_PRETRAINED,
    )


def discriminator(model: Model) -> Trainee:
    """A new compact discriminator."""
    config = _config(CompactDiscriminatorConfig, model)
    module = CompactDiscriminator(config, **frozen_parts(config))
    collate = _DiscriminatorCollate(build_tokenizer(config), model.image_size)
    return Trainee(module, collate, hidden=module.frozen, pretrained=_PRETRAINED)


def _config(kind: type[_Config], model: Model) -> _Config:
    names = {one.name for one in fields(kind)}
    if unknown := sorted(set(model.sizes) - names):
        raise OptionError(f"the sizes of a compact model are {', '.join(sorted(names))}, not {unknown[0]}")
    return kind(image_size=model.image_size, **model.sizes)


@dataclass(frozen=True)
class _GeneratorCollate:
    tokenizer: Any
    size: int

    def __call__(self, views: Sequence[View]) -> TrainingBatch:
        cells = self.size // _STRIDE
        targets = [_squashed(_heatmap(view), cells) for view in views]
        inputs = (_pixels([_squashed(view.sample.image, self.size) for view in views]),)
        return _batch(views, inputs + _tokens(self.tokenizer, views), torch.from_numpy(np.stack(targets)))


@dataclass(frozen=True)
class _DiscriminatorCollate:
    tokenizer: Any
    size: int

    def __call__(self, views: Sequence[View]) -> TrainingBatch:
        wholes = [_squashed(view.sample.image, self.size) for view in views]
        kept = torch.from_numpy(np.stack([_squashed(_heatmap(view), self.size // _STRIDE) for view in views]))
        inputs = (_pixels(wholes), kept, *_tokens(self.tokenizer, views))
        return _batch(views, inputs, torch.zeros(len(views), 0, 0))


@dataclass(frozen=True)
class _Export:
    tokenizer: Any

    def __call__(self, module: nn.Module, folder: Path) -> str:
        assert isinstance(module, CompactModel)
        return str(export_compact(module, self.tokenizer, folder))


def _heatmap(view: View) -> np.ndarray:
    assert view.sample.heatmap is not None
    return view.sample.heatmap.astype(np.float32, copy=False)


def _squashed(array: np.ndarray, size: int) -> np.ndarray:
    if array.shape[:2] == (size, size):
        return array
    way = cv2.INTER_AREA if size <= min(array.shape[:2]) else cv2.INTER_LINEAR
    resized: np.ndarray = cv2.resize(array, (size, size), interpolation=way)
    return resized if array.dtype == np.uint8 else resized.clip(0.0, 1.0)


def _pixels(images: Sequence[np.ndarray]) -> Tensor:
    """uint8 [Q, 3, S, S]"""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _tokens(tokenizer: Any, views: Sequence[View]) -> tuple[Tensor, Tensor]:
    """int64 [Q, T] and bool [Q, T]"""
    encodings = tokenizer.encode_batch([view.instruction for view in views])
    ids = torch.tensor([one.ids for one in encodings])
    return ids, torch.tensor([one.attention_mask for one in encodings]).bool()


def _batch(views: Sequence[View], inputs: tuple[Tensor, ...], targets: Tensor) -> TrainingBatch:
    found = torch.tensor([view.found for view in views])
    human = torch.tensor([view.sample.human for view in views])
    return TrainingBatch(inputs, targets, found, human)
