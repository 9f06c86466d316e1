"""Every name of a batch asked of every picture of it, cell by cell, where the answer is known.

Three instructions a picture say little of what is in it. A picture's labels say more: where each of its
things is, and that what was looked for and is not listed is nowhere. So all names of a batch are asked of all
its pictures at once, through `CompactModel.look` alone, for a tenth of the time of a step. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ivm.data.reading import called
from ivm.data.scene import Scene

__all__ = ["CELL", "Named", "Names", "collate_names", "name_targets", "named_things", "names_loss"]

CELL = 16
"""Side of a cell in pixels: the stride of the compact model's picture tokens."""


@dataclass(frozen=True, eq=False)
class Named:
    """What can be named in a picture of S x S pixels.

    Attributes:
        things: name and other nouns of each.
        shares: float32 [things, S/16, S/16] in [0, 1], the share of each cell that a thing covers.
        looked_for: of these nouns, what is in the picture is among `things`; None: of all nouns.
    """

    things: tuple[tuple[str, tuple[str, ...]], ...]
    shares: np.ndarray
    looked_for: frozenset[str] | None


@dataclass(frozen=True)
class Names:
    """C names, asked of each of B pictures with N cells.

    ids int64 [C, T] and mask bool [C, T]; targets float32 [B, C, N] and known bool [B, C]: see
    `name_targets`.
    """

    ids: Tensor
    mask: Tensor
    targets: Tensor
    known: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Names:
        """The same names on another device."""
        return Names(*(value.to(device, non_blocking=non_blocking) for value in vars(self).values()))


def named_things(scene: Scene, looked_for: frozenset[str] | None) -> Named:
    """The things of a square scene whose side is a multiple of 16."""
    cells = scene.image.shape[0] // CELL
    shares = [
        cv2.resize(thing.mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA)
        for thing in scene.things
    ]
    return Named(
        tuple((thing.name, thing.synonyms) for thing in scene.things),
        np.stack(shares) if shares else np.zeros((0, cells, cells), np.float32),
        looked_for,
    )


def name_targets(pictures: Sequence[Named]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The names of all things, and for each picture where they are.

    Returns:
        C names, sorted; float32 [B, C, h, w] in [0, 1], the share of each cell that is so called; bool
        [B, C], whether that is known: not where a thing may or may not be so called, nor where what bears
        the name was not looked for.
    """
    names = sorted({name for picture in pictures for name, _ in picture.things})
    column = {name: c for c, name in enumerate(names)}
    cells = pictures[0].shares.shape[1:]
    targets = np.zeros((len(pictures), len(names), *cells), np.float32)
    known = np.zeros((len(pictures), len(names)), bool)
    for b, picture in enumerate(pictures):
        for name in names:
            c = column[name]
            truth = [called(own, synonyms, name) for own, synonyms in picture.things]
            sought = picture.looked_for is None or name in picture.looked_for
            known[b, c] = sought and 0.5 not in truth
            if known[b, c] and 1.0 in truth:
                targets[b, c] = picture.shares[np.array(truth) == 1.0].sum(axis=0).clip(0.0, 1.0)
    return names, targets, known


def collate_names(pictures: Sequence[Named], tokenizer: Any) -> Names | None:
    """The names of a batch; None if it has none. `tokenizer`: a `tokenizers.Tokenizer` that pads."""
    names, targets, known = name_targets(pictures)
    if not names:
        return None
    encodings = tokenizer.encode_batch(names)
    return Names(
        ids=torch.tensor([e.ids for e in encodings]),
        mask=torch.tensor([e.attention_mask for e in encodings]).bool(),
        targets=torch.from_numpy(targets).flatten(2),
        known=torch.from_numpy(known),
    )


def names_loss(logits_BCN: Tensor, target_BCN: Tensor, known_BC: Tensor) -> Tensor:
    """Binary cross-entropy, summed over the known names and averaged over cells and pictures.

    Args:
        logits_BCN: float, from `CompactModel.look`; 0 says that a name is as likely as any other, so before
            training all names together are expected on one cell.
        target_BCN: float in [0, 1], the share of a cell that is so called.
        known_BC: bool.
    """
    prior = -math.log(max(1, logits_BCN.shape[1]))
    loss = F.binary_cross_entropy_with_logits(logits_BCN.float() + prior, target_BCN, reduction="none")
    return torch.where(known_BC[:, :, None], loss, 0.0).sum(dim=1).mean()
