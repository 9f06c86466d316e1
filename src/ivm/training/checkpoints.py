"""The folder of a run: weights that one uses, the state that one goes on from. Written whole or not at all.

    run/
      best.safetensors   weights with the best validation so far (averaged, if the run averages)
      last.safetensors   the same of the last checkpoint
      step-000500/       the last checkpoint: all that accelerate keeps (weights, optimiser, random state),
                         and the moving average
      state.json         which checkpoint counts, and what was asked for; written last
      log.jsonl          one line a report
      model/             what ivm.load takes, once a generator is trained

A weights file has a header that tells its architecture, so that it can be built from the file alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivm.errors import CheckpointError, OptionError, OutputError, TrainingError
from ivm.files import UNFINISHED, write_text
from ivm.training.config import FIXED, STAGES, Model, TrainConfig
from ivm.training.trainee import Trainee, build, deciding

__all__ = [
    "ANEW",
    "RunFolder",
    "kept_names",
    "load_trainee",
    "load_weights",
    "read_header",
    "weights_file",
    "write_weights",
]

ANEW = "to start anew from the weights alone, give last.safetensors of that run as init, and another folder"
"""The way out where a run cannot be gone on with."""

_WRITE_FAULTS = (OSError, RuntimeError, SafetensorError)
"""A full disk is an OSError to Python, a RuntimeError to torch.save and a SafetensorError to safetensors."""


class RunFolder:
    """One run on disk.

    Args:
        folder: made by `begin`.

    Raises:
        TrainingError: its state.json is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.state: dict[str, Any] = {}
        path = self.folder / "state.json"
        try:
            if path.exists():
                self.state = json.loads(path.read_text(encoding="utf-8"))
                self.step, self.best = int(self.state["step"]), dict(self.state["best"])
                if not (_fixed(self.state["config"]) and isinstance(self.state["checkpoint"], str)):
                    raise TypeError("checkpoint must be the name of a folder")
        except (OSError, ValueError, KeyError, TypeError, OptionError) as error:
            raise TrainingError(f"{path} cannot be read: {error!r}; {ANEW}") from error
        if not self.state:
            self.step, self.best = 0, {}

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the last checkpoint; None of a new run."""
        return self.folder / self.state["checkpoint"] if self.state else None

    @property
    def exported(self) -> bool:
        """Whether model/ was made of the weights that are here now."""
        return bool(self.state.get("exported"))

    def check(self, config: TrainConfig) -> None:
        """Refuse to go on with another run.

        Raises:
            TrainingError: the folder holds a run with other options of FIXED, or a longer one.
        """
        if not self.state:
            return
        then, now = _fixed(self.state["config"]), _fixed(config.to_dict())
        differ = _differences(now, then, "was {!r}")
        if differ:  # the stage comes first, and with another one nothing else compares
            differ = differ[:1] if then["stage"] != now["stage"] else differ
            raise TrainingError(
                f"{self.folder} holds another run: {'; '.join(differ)}; choose another folder, or delete it"
            )
        if self.step > config.optimise.steps:
            raise TrainingError(
                f"{self.folder} holds a run of {self.step} steps already, "
                f"but optimise.steps is {config.optimise.steps}"
            )

    def begin(self) -> None:
        """Make the folder, and clear what a killed run left half-written, and checkpoints that do not count.

        Raises:
            TrainingError: it cannot be written, or another process trains in it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = _hold(self.folder / ".running")
            if held is not None:
                weakref.finalize(self, os.close, held)
            patterns = [".saving*", f"{UNFINISHED}*"] + ["step-[0-9]*"] * bool(self.state)
            for leftover in (path for pattern in patterns for path in self.folder.glob(pattern)):
                if leftover != self.checkpoint:
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        except OSError as error:
            raise TrainingError(f"cannot write {self.folder}: {error.strerror or error}") from error

    def forget_best(self, config: TrainConfig, main: bool) -> bool:
        """Forget the best weights if another validation found them; returns whether. All processes call it.

        Raises:
            TrainingError: the folder cannot be written.
        """
        if not self.best:
            return False
        then, now = self.state["config"], config.to_dict()
        names = ("data.validation", "data.validation_samples")
        if all(_at(then, name) == _at(now, name) for name in names):
            return False
        self.best = {}
        self.state |= {"best": {}, "exported": False}
        if main:
            try:  # before the state: killed between both, the next start comes here again
                (self.folder / "best.safetensors").unlink(missing_ok=True)
            except OSError as error:
                raise TrainingError(f"cannot write {self.folder}: {error.strerror or error}") from error
            self._write_state()
        return True

    def note_export(self) -> None:
        """Note that model/ is made of the weights that are here; the next checkpoint ends that.

        Raises:
            TrainingError: the folder cannot be written.
        """
        self.state["exported"] = True
        self._write_state()

    def _write_state(self) -> None:
        try:
            write_text(self.folder / "state.json", json.dumps(self.state, indent=1) + "\n")
        except OutputError as error:
            raise TrainingError(str(error)) from error

    def save(
        self,
        step: int,
        config: TrainConfig,
        write_state: Callable[[Path], None],
        weights: Callable[[], Mapping[str, Tensor]],
        score: float | None,
        main: bool,
        wait: Callable[[], None],
    ) -> bool:
        """Write a checkpoint of `step`; returns whether it is the best so far. All processes call it.

        Args:
            step: steps done.
            config: of the run.
            write_state: writes what the run goes on from into a folder; called by every process.
            weights: what goes into last.safetensors, gathered by every process.
            score: of the validation, the higher the better; None without one.
            main: whether this is the main process.
            wait: returns when all processes have called it.

        Raises:
            TrainingError: the disk does not take it; the last good checkpoint is still there.
        """
        temporary = self.folder / ".saving"
        name = f"step-{step:06}"
        best = score is not None and score > self.best.get("score", float("-inf"))
        tensors = weights()
        try:
            write_state(temporary)
            wait()
            if main:
                header = {"kind": config.model.kind, "stage": config.stage, "step": step}
                model = {"model": config.to_dict()["model"]}
                files = ["last.safetensors"] + ["best.safetensors"] * best
                for file in files:
                    write_weights(self.folder / f".saving-{file}", tensors, header | model)
                if (self.folder / name).exists():
                    shutil.rmtree(self.folder / name)
                temporary.replace(self.folder / name)
                for file in files:
                    (self.folder / f".saving-{file}").replace(self.folder / file)
        except _WRITE_FAULTS as error:
            shutil.rmtree(temporary, ignore_errors=True)
            for leftover in self.folder.glob(".saving-*"):
                leftover.unlink(missing_ok=True)
            raise TrainingError(self._not_written(step, error)) from error
        if best:
            self.best = {"step": step, "score": score}
        old, self.step = self.state.get("checkpoint"), step
        self.state = {"step": step, "checkpoint": name, "best": self.best, "config": config.to_dict()}
        if main:
            try:
                write_text(self.folder / "state.json", json.dumps(self.state, indent=1) + "\n")
            except OutputError as error:
                raise TrainingError(self._not_written(step, error)) from error
            if old and old != name:
                shutil.rmtree(self.folder / old, ignore_errors=True)
        wait()
        return best

    def _not_written(self, step: int, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        kept = f"the one of step {self.step} is whole" if self.state else "there is none before it"
        return (
            f"cannot write the checkpoint of step {step} to {self.folder}: {reason}; {kept}: "
            "make room, then run the same command again"
        )


def _hold(path: Path) -> int | None:
    """Take a file for this process until it closes the descriptor or ends; None where nothing can lock.

    Of the whole process, unlike `flock`: a run that failed in a notebook may be started there again.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return None  # a file system without locks
        raise TrainingError(
            f"another process trains in {path.parent}: wait for it, stop it, or choose another folder"
        ) from None
    return file


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run keeps from its first step to its last."""
    sizes = deciding(config["stage"], Model(**config["model"]))
    plain = {name: _at(config, name) for name in FIXED}
    return plain | {f"model.sizes.{name}": value for name, value in sizes.items()}


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], other: str) -> list[str]:
    """What differs, a text each; `other` is what is said of theirs."""
    return [
        f"{name} is {ours.get(name, 'nothing')!r} but {other.format(theirs.get(name, 'nothing'))}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def _at(values: Mapping[str, Any], name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values


def write_weights(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write a weights file; `header` is plain JSON values."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(plain, path, metadata={"ivm": json.dumps(header)})


def weights_file(path: str | os.PathLike[str]) -> Path:
    """The weights that `path` means: itself, or the best (else the last) of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(path)
    if path.is_file():
        return path
    for name in ("best.safetensors", "last.safetensors"):
        if (path / name).is_file():
            return path / name
    raise CheckpointError(
        f"{path} must be a .safetensors file or the folder of a run with best.safetensors or "
        f"last.safetensors, but {'holds neither' if path.is_dir() else 'is not there'}"
    )


def read_header(file: Path) -> dict[str, Any]:
    """The header of a weights file; empty if it has none of ours.

    Raises:
        CheckpointError: it is no safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            header: dict[str, Any] = json.loads((opened.metadata() or {}).get("ivm", "{}"))
            if not isinstance(header, dict):
                raise ValueError(f"its header must be a JSON object, but is {header!r}")
            return header
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{file} is no weights file (safetensors): {error}") from error


def load_weights(
    module: nn.Module,
    path: str | os.PathLike[str],
    names: set[str],
    stage: str,
    model: Model,
    pretrained: str = "",
) -> None:
    """Load the weights `names` of a new module from a file or run folder.

    A discriminator that knows how to (`start_from`) also takes what it shares with a generator. A file that
    lacks what is pretrained (`trainee.Trainee.pretrained`) is of a training in which that stayed as built.

    Raises:
        CheckpointError: there are none, or they are of another architecture; the message tells how.
    """
    file = weights_file(path)
    header = read_header(file)
    start_from = getattr(module, "start_from", None)
    tensors = load_file(file)
    if pretrained and not any(name.startswith(pretrained) for name in tensors):
        built = module.state_dict()
        tensors |= {name: value for name, value in built.items() if name.startswith(pretrained)}
    other_stage = stage == "discriminator" and header.get("stage") != stage
    if start_from is not None and other_stage and (header or not names <= set(tensors)):
        if header:
            other = _model_of(header, file)
            ours, theirs = deciding(stage, model), deciding(header["stage"], other)
            shared = {name: value for name, value in ours.items() if name in theirs}
            if differ := _differences(shared, {n: theirs[n] for n in shared}, "{!r} there"):
                raise CheckpointError(f"{file} is of another architecture: {'; '.join(differ)}")
        start_from(tensors)
        return
    if header:
        other = _model_of(header, file)
        plain = {"kind": model.kind, "stage": stage, **deciding(stage, model)}
        theirs = {"kind": other.kind, "stage": header["stage"], **deciding(header["stage"], other)}
        if differ := _differences(plain, theirs, "{!r} there"):
            raise CheckpointError(f"{file} is of another architecture: {'; '.join(differ)}")
    wanted = {name: value for name, value in module.state_dict().items() if name in names}
    faults = [f"lacks {name}" for name in wanted if name not in tensors]
    faults += [f"has {name} besides" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{file} is of another architecture: it {', '.join(faults[:3])}{more}")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])


def load_trainee(path: str | os.PathLike[str], stage: str) -> tuple[Trainee, Model]:
    """Build what a weights file or run folder holds, from its header, and load it.

    Raises:
        CheckpointError: it is no such file, or of another stage.
    """
    file = weights_file(path)
    header = read_header(file)
    if header.get("stage") != stage:
        raise CheckpointError(
            f"{file} must hold a {stage} that ivm train {stage} wrote, "
            f"but holds {header.get('stage', 'weights without a header')}"
        )
    model = _model_of(header, file)
    try:
        trainee = build(stage, model)
    except OptionError as error:
        raise CheckpointError(f"{file} has a damaged header: {error}") from error
    load_weights(trainee.module, file, kept_names(trainee.module), stage, model, trainee.pretrained)
    return trainee, model


def _model_of(header: Mapping[str, Any], file: Path) -> Model:
    try:
        if header["stage"] not in STAGES:
            raise ValueError(f"there is no stage {header['stage']!r}")
        return Model(**header["model"])
    except (KeyError, TypeError, ValueError, OptionError) as error:
        raise CheckpointError(f"{file} has a damaged header: {error}") from error


def kept_names(module: nn.Module) -> set[str]:
    """What goes into weight files: all that the architecture itself does not freeze, and its buffers."""
    frozen = {name for name, value in module.named_parameters() if not value.requires_grad}
    return set(module.state_dict()) - frozen
