"""How good a model is on stores kept apart: what decides which checkpoint is the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object, send_to_device

from ivm import metrics
from ivm.data.stream import ShardSet
from ivm.errors import DataError
from ivm.training.config import TrainConfig
from ivm.training.feed import Failure, Feed, Place, Viewer, validation_places
from ivm.training.losses import discriminator_loss, generator_loss_per_sample
from ivm.training.trainee import Trainee

__all__ = ["SCORE", "Validation"]

SCORE = {"generator": "giou", "discriminator": "auroc"}
"""The figure that decides, by stage; higher is better."""

_BATCH = 16  # samples at a time; the figures do not depend on it


class Validation:
    """Figures of the stores in data.validation, split over all processes.

    Of a generator: loss (as in training, all weights 1, without a teacher), giou and pointing of the present
    targets at the logits' own resolution, found (share of right answers whether the target is there). Of a
    discriminator: loss, auroc of human against machine annotations, and the mean D of both.

    Args:
        config: of the run; data.validation is not empty.
        trainee: what is validated.
        accelerator: of the run.

    Raises:
        DataError: a store cannot be used; or what is taken of them lacks the targets of which a generator's
            figures come, or a kind of annotation that a discriminator needs.
    """

    def __init__(self, config: TrainConfig, trainee: Trainee, accelerator: Any) -> None:
        self.config, self.trainee, self.accelerator = config, trainee, accelerator
        folders = config.data.validation
        self.places = validation_places(folders, config.data.validation_samples)
        self._feed = Feed(folders, (), (), config.seed, 0)
        self._check()

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        """Run it; the same figures on every process."""
        training = model.training
        model.eval()
        try:
            rows = dict(gather_object(list(self._rows(model))))
        finally:
            model.train(training)
        given = [rows[number] for number in sorted(rows)]
        return _discriminator_figures(given) if self.config.stage == "discriminator" else _mask_figures(given)

    def _check(self) -> None:
        """Tell now, and not at the first checkpoint, that no figure that decides would come of them."""
        generator = self.config.stage == "generator"
        what = "targets that are in the picture" if generator else "human and machine annotations"
        viewer = Viewer(self.config.model.image_size, None)
        sets = [ShardSet(folder, viewer.least) for folder in self._feed.folders]
        seen: set[bool] = set()
        for place in self.places:
            view = viewer(sets[place.store].get(place.shard, place.number), place)
            seen.add(view.found if generator else view.sample.human)
            if seen >= ({True} if generator else {True, False}):
                return
        alone = "absent ones" if generator else "human" if True in seen else "machine"
        raise DataError(
            f"data.validation of a {self.config.stage} must hold {what}, but holds {alone} alone in the "
            f"{len(self.places)} samples taken of it: name stores that have them, or raise "
            "data.validation_samples"
        )

    def _rows(self, model: torch.nn.Module) -> Iterator[tuple[int, dict[str, float]]]:
        """(number of the sample, what was measured), of this process's samples."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        most = -(-len(self.places) // world)  # each process runs as many: some models talk while they run
        numbers = [(rank + k * world) % len(self.places) for k in range(most)]
        parts = [numbers[k : k + _BATCH] for k in range(0, most, _BATCH)]
        batches: list[list[Place]] = [[self.places[n] for n in part] for part in parts]
        viewer = Viewer(self.config.model.image_size, None)
        loader = self._feed.loader(batches, self.trainee.collate, viewer, self.config.data.workers)
        with torch.inference_mode():
            for part, batch in zip(parts, loader, strict=True):
                if isinstance(batch, Failure):
                    raise batch.error
                batch = send_to_device(batch, self.accelerator.device)
                outputs = model(*batch.inputs)
                if self.config.stage == "discriminator":
                    rows = [
                        {"logit": float(logit), "human": float(human)}
                        for logit, human in zip(outputs.float(), batch.human, strict=True)
                    ]
                else:
                    rows = _mask_rows(outputs, batch, self.config.loss.found_weight)
                yield from zip(part, rows, strict=True)


def _mask_rows(outputs: Any, batch: Any, found_weight: float) -> list[dict[str, float]]:
    logits, found = outputs
    losses = generator_loss_per_sample(logits, found, batch.targets, batch.found, found_weight)[0]
    rows = []
    heatmaps, targets = logits.float().cpu().numpy(), batch.targets.cpu().numpy()
    for k, (heatmap, target) in enumerate(zip(heatmaps, targets, strict=True)):
        present = bool(batch.found[k])
        # A target smaller than a cell of the logits is the cell that it fills most.
        wanted = target > 0.5 if (target > 0.5).any() else target >= max(target.max(), 1e-6)
        row = {"loss": float(losses[k]), "found": float((found[k] > 0) == present)}
        if present:
            row |= {
                "giou": metrics.iou(heatmap > 0, wanted),
                "pointing": float(metrics.pointing_hit(heatmap, wanted)),
            }
        rows.append(row)
    return rows


def _mask_figures(rows: list[dict[str, float]]) -> dict[str, float]:
    figures = {}
    for name in ("loss", "giou", "pointing", "found"):
        values = [row[name] for row in rows if name in row]
        figures[name] = float(np.mean(values))
    return figures


def _discriminator_figures(rows: list[dict[str, float]]) -> dict[str, float]:
    logits = torch.tensor([row["logit"] for row in rows])
    human = torch.tensor([row["human"] for row in rows]).bool()
    scores = logits.sigmoid()
    return {
        "loss": float(discriminator_loss(logits, human)),
        "auroc": metrics.auroc(scores.numpy(), human.numpy()),
        "human": float(scores[human].mean()),
        "machine": float(scores[~human].mean()),
    }
