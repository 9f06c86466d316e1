"""What a run says while it runs: a bar or lines, log.jsonl, TensorBoard and W&B."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ivm.errors import OutputError, TrainingError, require
from ivm.files import write_text
from ivm.training.config import TrainConfig

__all__ = ["Reporter", "check_trackers", "wandb_options"]


def check_trackers(config: TrainConfig) -> None:
    """Raise MissingExtraError if a tracker that is asked for is not installed."""
    for name in config.track:
        require(name, "wandb" if name == "wandb" else "train")


def wandb_options(folder: Path) -> dict[str, Any]:
    """What `wandb.init` is told: its files go into the run's folder, and a run gone on with stays one run."""
    file = folder / "wandb-id"
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:8])
    return {"dir": str(folder), "name": folder.resolve().name, "id": file.read_text(), "resume": "allow"}


class Reporter:
    """Says and records what comes; on the main process alone. A context manager.

    Args:
        config: of the run.
        step: where the run goes on from: what log.jsonl has of later steps is dropped, for they come again.
        say: takes a line for a person.
        accelerator: of the run; it owns the trackers.

    Raises:
        MissingExtraError: a tracker is not installed.
        TrainingError: the log cannot be written.
    """

    def __init__(
        self, config: TrainConfig, step: int, say: Callable[[str], object], accelerator: Any
    ) -> None:
        self.config, self.say, self.accelerator = config, say, accelerator
        self.main = bool(accelerator.is_main_process)
        self._log = Path(config.folder) / "log.jsonl"
        self._bar: Any = None
        self._since, self._first = time.monotonic(), step
        check_trackers(config)
        if self.main:
            self._cut(step)
        if config.track:
            options: dict[str, Any] = {"tensorboard": {"purge_step": step + 1}}
            if "wandb" in config.track and self.main:
                options["wandb"] = wandb_options(Path(config.folder))
            accelerator.init_trackers("figures", init_kwargs=options)

    def __enter__(self) -> Reporter:
        if self.main and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(30), MofNCompleteColumn(), TextColumn("{task.fields[figures]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
            self._task = self._bar.add_task(
                "", total=self.config.optimise.steps, completed=self._first, figures=""
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.config.track:
            self.accelerator.end_training()

    def pause(self) -> None:
        """The time until the next report does not count from before now: a checkpoint was written."""
        self._since = time.monotonic()

    def report(self, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """Means over the last `steps` steps; throughput and time left are added."""
        spent, self._since = time.monotonic() - self._since, time.monotonic()
        rate = steps * self.config.optimise.batch_size / max(spent, 1e-9)
        self.record(step, {**figures, "samples_per_s": rate})
        left = (self.config.optimise.steps - step) * self.config.optimise.batch_size / rate
        line = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name != "rate")
        if self._bar is not None:
            self._bar.update(self._task, completed=step, figures=f"{line}  {rate:.0f} samples/s")
        elif self.main:
            self.say(
                f"step {step}/{self.config.optimise.steps}  {line}  {rate:.1f} samples/s  "
                f"{_duration(left)} left"
            )

    def validated(self, step: int, figures: Mapping[str, float], best: bool) -> None:
        """Figures of a validation."""
        self.record(step, {f"validation_{name}": value for name, value in figures.items()})
        line = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self.tell(f"step {step}: validation  {line}{'  (best so far)' if best else ''}")

    def tell(self, line: str) -> None:
        """A line for a person."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self.main:
            self.say(line)

    def record(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures into log.jsonl and the trackers."""
        if self.main:
            rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
            try:
                with self._log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": step, **rounded}) + "\n")
            except OSError as error:
                raise TrainingError(f"cannot write {self._log}: {error.strerror or error}") from error
        if self.config.track:
            self.accelerator.log(dict(figures), step=step)

    def _cut(self, step: int) -> None:
        if not self._log.exists():
            return
        kept = []
        for line in self._log.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, KeyError, TypeError):  # the half line of a killed run
                continue
        try:
            write_text(self._log, "".join(kept))
        except OutputError as error:
            raise TrainingError(str(error)) from error


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
