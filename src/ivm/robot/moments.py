"""Moments of demonstrations in batches, with masks that vary as the paper's do.

With masks, every picture is masked as it will be at test (`ivm.robot.masking`), the robot visible; threshold
and dilation are drawn anew for each picture, so that the policy does not rely on how large masks happen to
be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor

from ivm.errors import DataError
from ivm.files import whole
from ivm.masker import Masker, load
from ivm.robot.config import TRUE_MASKS, UNMASKED, CloningConfig
from ivm.robot.demonstrations import Episode
from ivm.robot.lcbc import text_features
from ivm.robot.masking import MaskSettings, StreamMasker, mask_picture
from ivm.types import Heatmap

__all__ = ["Batch", "Moments", "heatmaps_of", "shrink"]

Batch: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Pictures, states, text features and chunks of actions, as `DiffusionPolicy.loss` takes them."""

_SHIFT = 2  # pixels by which pictures are moved at random
_HELD_OUT = 10  # every so manieth episode is left out


def shrink(picture: np.ndarray, side: int) -> np.ndarray:
    """uint8 [side, side, 3] of a picture of any size: what the policy's network sees."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)


class Moments:
    """Batches for training, each a function of the configuration and the step alone.

    Args:
        episodes: demonstrations; every tenth, the first included, is left out to measure the loss on.
        heatmaps: as `heatmaps_of` makes them; None for pictures as they are.
        config: see there.

    Attributes:
        train: the episodes that are trained on.
        count: how many moments they have.
    """

    def __init__(
        self, episodes: list[Episode], heatmaps: list[dict[str, list[Heatmap]]] | None, config: CloningConfig
    ) -> None:
        self._config = config
        held = [len(episodes) > 1 and i % _HELD_OUT == 0 for i in range(len(episodes))]
        self.train = [episode for episode, out in zip(episodes, held, strict=True) if not out]
        self._held = [episode for episode, out in zip(episodes, held, strict=True) if out]
        maps = heatmaps if heatmaps is not None else [{} for _ in episodes]
        self._maps = {id(episode): found for episode, found in zip(episodes, maps, strict=True)}
        self._masked = heatmaps is not None
        self._index = [(episode, t) for episode in self.train for t in range(len(episode))]
        self.count = len(self._index)

    def batch(self, step: int) -> Batch:
        """The batch of a step of training."""
        rng = np.random.default_rng([self._config.seed, step])
        picks = rng.integers(self.count, size=self._config.batch)
        return self._stack([self._index[k] for k in picks], rng)

    def held_out(self) -> Iterator[Batch]:
        """Batches of up to 512 moments of the episodes that were left out; the same ones every time."""
        rng = np.random.default_rng([self._config.seed, 0x4E1D])
        index = [(episode, t) for episode in self._held for t in range(len(episode))]
        picks = rng.permutation(len(index))[:512]
        for part in np.array_split(picks, max(1, len(picks) // 64)):
            yield self._stack([index[k] for k in part], rng)

    def _stack(self, moments: list[tuple[Episode, int]], rng: np.random.Generator) -> Batch:
        horizon = self._config.policy.horizon
        pictures, states, texts, chunks = [], [], [], []
        for episode, t in moments:
            pictures.append(np.stack([self._see(episode, t, c, rng) for c in self._config.policy.cameras]))
            states.append(episode.arrays["state"][t])
            texts.append(text_features(episode.instruction))
            actions = episode.arrays["action"][t : t + horizon]
            rest = np.zeros((horizon - len(actions), actions.shape[1]), np.float32)
            rest[:, -1] = actions[-1, -1]  # when it is done it stands still, the fingers as they are
            chunks.append(np.concatenate([actions, rest]))
        nchw = torch.from_numpy(np.stack(pictures)).permute(0, 1, 4, 2, 3)
        state, text, chunk = (torch.from_numpy(np.stack(rows)) for rows in (states, texts, chunks))
        return nchw, state, text, chunk

    def _see(self, episode: Episode, t: int, camera: str, rng: np.random.Generator) -> np.ndarray:
        picture = episode.arrays[camera][t]
        if self._masked:
            low, high = self._config.thresholds
            options = {"threshold": rng.uniform(low, high), "dilate": rng.uniform(*self._config.dilations)}
            if self._config.mode == "heatmap":  # draws what it knows, and grows nothing
                del options["dilate"]
            heatmap = self._maps[id(episode)][camera][t]
            robot = episode.arrays[f"{camera}_robot"][t]
            settings = MaskSettings(self._config.mode, self._config.every, options)
            picture = mask_picture(picture, heatmap, robot, settings)
        small = shrink(picture, self._config.policy.picture)
        padded = cv2.copyMakeBorder(small, _SHIFT, _SHIFT, _SHIFT, _SHIFT, cv2.BORDER_REPLICATE)
        y, x = rng.integers(2 * _SHIFT + 1, size=2)
        return padded[y : y + small.shape[0], x : x + small.shape[1]]


def heatmaps_of(
    folder: Path,
    episodes: list[Episode],
    config: CloningConfig,
    say: Callable[[str], None],
    masker: Masker | None = None,
) -> list[dict[str, list[Heatmap]]] | None:
    """A heatmap of every picture of the episodes, by camera; None where pictures are not to be masked.

    A model's are made as they are at test, for every n-th picture, and kept beside the demonstrations, in a
    folder for each fingerprint: a model that has changed makes its own.

    Args:
        folder: of the demonstrations.
        episodes: read from it.
        config: names the masker.
        say: called with lines for people.
        masker: the one that is named; default: it is loaded.

    Raises:
        DataError: a file of heatmaps is damaged.
    """
    cameras = config.policy.cameras
    if config.masker == UNMASKED:
        return None
    if config.masker == TRUE_MASKS:
        return [
            {c: [Heatmap.from_mask(mask) for mask in episode.arrays[f"{c}_relevant"]] for c in cameras}
            for episode in episodes
        ]
    masker = masker or load(config.masker)
    name = "".join(c if c.isalnum() else "-" for c in config.masker)
    kept = folder / "heatmaps" / f"{name}-{masker.fingerprint}-{config.every}"
    kept.mkdir(parents=True, exist_ok=True)
    missing = [episode for episode in episodes if not (kept / f"{episode.seed:06d}.npz").exists()]
    if missing:
        say(f"{config.masker} looks at {len(missing)} demonstrations")
    stream = StreamMasker(masker, MaskSettings(config.mode, every=1))  # it is given only those that are due
    for episode in missing:
        stream.reset()
        rows = [
            stream.heatmaps({c: episode.arrays[c][t] for c in cameras}, episode.instruction)
            for t in range(0, len(episode), config.every)
        ]
        stored: dict[str, np.ndarray] = {}
        for c in cameras:
            stored[c] = np.stack([np.rint(row[c].values * 255).astype(np.uint8) for row in rows])
            stored[f"{c}_found"] = np.array([row[c].found for row in rows])
        with whole(kept / f"{episode.seed:06d}.npz", sync=True) as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **stored)
    found = []
    for episode in episodes:
        file, maps = kept / f"{episode.seed:06d}.npz", {}
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored_:
                for c in cameras:
                    rows_ = [
                        Heatmap(values.astype(np.float32) / 255, found=bool(there))
                        for values, there in zip(stored_[c], stored_[f"{c}_found"], strict=True)
                    ]
                    maps[c] = [rows_[t // config.every] for t in range(len(episode))]
        except Exception as error:  # zip, zlib and NumPy raise many kinds
            raise DataError(f"{file} is damaged, remove it to have it made again: {error}") from error
        found.append(maps)
    return found
