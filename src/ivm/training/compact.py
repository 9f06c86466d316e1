"""The compact model and its discriminator as `trainee.Trainee`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ivm.blending import blend
from ivm.errors import OptionError
from ivm.models.compact import CompactConfig, CompactModel, build_tokenizer, minilm_text_encoder
from ivm.models.compact_discriminator import CompactDiscriminator, CompactDiscriminatorConfig
from ivm.models.export import export_compact
from ivm.training.config import Model
from ivm.training.trainee import Trainee, TrainingBatch, View

__all__ = ["check", "discriminator", "generator", "sizes"]

_STRIDE = 4  # of the generator's logits
_TEXT = ("text_layers", "vocabulary", "max_tokens")  # of the frozen text encoder, which both have


def sizes(stage: str) -> dict[str, Any]:
    """What [model.sizes] may have, with defaults: fields of the config classes of the two models."""
    general = asdict(CompactConfig())
    del general["image_size"]
    if stage == "generator":
        return general
    return asdict(CompactDiscriminatorConfig()) | {name: general[name] for name in _TEXT}


def check(model: Model, stage: str) -> None:
    """Raise OptionError unless the sizes fit together."""
    _general(model)
    if stage == "discriminator":
        _special(model)


def generator(model: Model) -> Trainee:
    """A new compact model."""
    config = _general(model)
    module = CompactModel(config, minilm_text_encoder(config))
    tokenizer = build_tokenizer(config)
    return Trainee(
        module,
        _GeneratorCollate(tokenizer, config.image_size),
        hidden=(module.text_encoder,),
        export=_Export(tokenizer),
    )


def discriminator(model: Model) -> Trainee:
    """A new compact discriminator."""
    general = _general(model)
    module = CompactDiscriminator(_special(model), minilm_text_encoder(general))
    collate = _DiscriminatorCollate(build_tokenizer(general), model.image_size)
    return Trainee(module, collate, hidden=(module.text_encoder,))


def _general(model: Model) -> CompactConfig:
    names = {one.name for one in fields(CompactConfig)}
    if any(key not in sizes("generator") | sizes("discriminator") for key in model.sizes):
        raise OptionError(f"the sizes of a compact model are {', '.join(sorted(names))}")
    shared = {key: value for key, value in model.sizes.items() if key in names}
    return CompactConfig(image_size=model.image_size, **shared)


def _special(model: Model) -> CompactDiscriminatorConfig:
    names = {one.name for one in fields(CompactDiscriminatorConfig)}
    return CompactDiscriminatorConfig(**{key: value for key, value in model.sizes.items() if key in names})


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
        heatmaps = [_squashed(_heatmap(view), self.size) for view in views]
        masked = [blend(image, heatmap) for image, heatmap in zip(wholes, heatmaps, strict=True)]
        inputs = (_pixels(masked), _pixels(wholes), *_tokens(self.tokenizer, views))
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
