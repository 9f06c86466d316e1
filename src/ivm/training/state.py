"""What a run goes on from: all that accelerate keeps, and the moving average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from zipfile import is_zipfile

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ivm.errors import TrainingError
from ivm.training.checkpoints import ANEW
from ivm.training.parts import Average

__all__ = ["keep_what_is_trained", "restore", "write_state"]


def keep_what_is_trained(accelerator: Accelerator, module: nn.Module, names: set[str]) -> None:
    """Let checkpoints hold what this run trains, whatever wraps the module.

    What the architecture freezes, such as an LMM of 14 GB, can be built; and the adapter that a discriminator
    has in the same LMM is its own affair.
    """
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    kept = {
        name for name in module.state_dict() if name in trained or name.replace(".base_layer", "") in names
    }

    def of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        plain = {name.removeprefix("module."): value for name, value in state.items()}  # as DDP calls them
        return {name: value for name, value in plain.items() if name in kept}

    def write(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        weights[:] = map(of, weights)  # empty where models are sharded: then accelerate writes them itself

    def read(models: list[nn.Module], folder: str) -> None:
        if not models:
            return
        models.clear()  # accelerate would take what is lacking for loaded
        state = of(load_file(Path(folder, "model.safetensors")))
        if lacking := sorted(kept - state.keys()):
            raise ValueError(f"model.safetensors lacks {len(lacking)} tensors, {lacking[0]} first")
        module.load_state_dict(state, strict=False)  # what is frozen is not there

    accelerator.register_save_state_pre_hook(write)
    accelerator.register_load_state_pre_hook(read)


def write_state(accelerator: Accelerator, folder: Path, average: Average) -> None:
    """Write all that a run goes on from into a folder; called by every process."""
    accelerator.save_state(str(folder))
    if accelerator.is_main_process:
        average.save(folder)


_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, EOFError, UnpicklingError, SafetensorError)
"""What reading a damaged checkpoint raises."""


def restore(accelerator: Accelerator, folder: Path, average: Average) -> None:
    """Read it back, on any number of processes.

    Raises:
        TrainingError: the checkpoint is damaged, or of another run.
    """
    try:
        accelerator.load_state(str(folder))
        accelerator.step = 0  # a checkpoint lies between two steps, whatever a step was accumulated from
        random = folder / f"random_states_{accelerator.process_index}.pkl"
        if random.exists() and not is_zipfile(random):  # accelerate would pass over it
            raise OSError(f"{random.name} is damaged")
        average.load(folder)
    except _DAMAGE as error:
        reason = str(error).partition("\n")[0]
        raise TrainingError(f"the checkpoint {folder} cannot be gone on from: {reason}; {ANEW}") from error
