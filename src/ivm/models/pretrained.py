"""What every model of transformers needs here: weights from a folder, device, precision, threads, pixels.

Nothing is fetched, nothing is unpickled: a folder holds config.json, model.safetensors and a tokenizer, as
`save_pretrained` writes them and hubs keep them. torchvision is needed nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ivm.errors import CheckpointError, InstructionError, ModelError, OptionError, require

__all__ = [
    "DTYPES",
    "Runner",
    "open_image_processor",
    "open_model",
    "open_tokenizer",
    "quiet",
    "read_tokenizer",
    "to_squares",
]

_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")

DTYPES = ("auto", "float32", "bfloat16", "float16")
"""What `dtype` may be: "auto" is float32, which every device computes exactly enough."""


class Runner:
    """Where and how a model of transformers computes.

    Args:
        device: "auto" (CUDA where there is one), "cpu" or "cuda".
        threads: CPU threads while the model computes, at least 1; None leaves torch's own number.
        dtype: of weights and features, one of DTYPES. Halves need half the memory and round boxes and masks.

    Attributes:
        device: the torch.device.
        dtype: the torch.dtype.
        advice: what to do when memory runs out, as a sentence goes on.

    Raises:
        OptionError: unknown dtype.
        ModelError: there is no CUDA device.
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(self, device: str = "auto", threads: int | None = None, dtype: str = "auto") -> None:
        torch = require("torch", "full")
        require("transformers", "full")
        if dtype not in DTYPES:
            raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, but got {dtype!r}")
        if device == "cuda" and not torch.cuda.is_available():
            raise ModelError("device cuda needs a CUDA GPU and a torch built for it, but torch sees none")
        use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self.device = torch.device("cuda" if use_cuda else "cpu")
        self.dtype = getattr(torch, "float32" if dtype == "auto" else dtype)
        self.advice = "give a smaller batch_size, dtype='bfloat16' or device='cpu'"
        self._threads = threads

    @contextmanager
    def memory(self) -> Iterator[None]:
        """Say what to do when memory runs out.

        Raises:
            ModelError: the GPU's memory is full; the message has `advice`.
        """
        import torch

        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(f"the GPU's memory is full: {self.advice}") from error

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Compute without gradients on the wished number of threads; say what to do when memory runs out."""
        import torch

        before = torch.get_num_threads()
        try:
            if self._threads is not None:
                torch.set_num_threads(self._threads)
            with self.memory(), torch.inference_mode():
                yield
        finally:
            if self._threads is not None:
                torch.set_num_threads(before)


def open_model(model_class: Any, folder: Path, runner: Runner, **options: Any) -> Any:
    """A model of transformers from `folder`, in evaluation mode, every weight of it read from there.

    Args:
        model_class: a PreTrainedModel class.
        folder: holds config.json and model.safetensors (or its shards with their index).
        options: of from_pretrained; with device_map or quantization_config the weights lie where that says.

    Raises:
        ModelError: the folder has no weights as safetensors, or an option needs a package that is absent.
        CheckpointError: weights are missing, damaged, or of another shape than config.json says.
    """
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} must hold the weights as model.safetensors, but has no such file"
            + (" (a pickled .bin is not read)" if any(folder.glob("*.bin")) else "")
        )
    try:
        with quiet():
            model, report = model_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=runner.dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are reported below, each with its name
                **options,
            )
    except ImportError as error:  # of flash attention, or of a quantisation
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{folder} cannot be loaded with these options: {reason}") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        if type(error).__name__ == "OutOfMemoryError":  # the weights are whole
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{folder} cannot be loaded as {model_class.__name__}: {reason}") from error
    except Exception as error:
        if type(error).__module__.split(".")[0] not in {"safetensors_rust", "safetensors", "huggingface_hub"}:
            raise
        raise CheckpointError(f"{folder} cannot be loaded as {model_class.__name__}: {error}") from error
    missing = sorted(report["missing_keys"])
    shapes = sorted(str(entry[0]) for entry in report["mismatched_keys"])
    for what, names in (("lack", missing), ("have another shape than config.json says for", shapes)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(f"the weights in {folder} {what} {', '.join(names[:5])}{more}")
    placed = options.get("device_map") or options.get("quantization_config")
    return (model if placed else model.to(runner.device)).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bars and reports off the terminal: errors say here what is wrong."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def open_image_processor(folder: Path) -> Any:
    """The image processor of `folder`, on Pillow: with or without torchvision, it answers the same.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from transformers import AutoImageProcessor

    try:
        return AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"the image processor in {folder} (preprocessor_config.json) cannot be loaded: {error}"
        ) from error


def open_tokenizer(folder: Path, longest: int) -> Callable[[Sequence[str]], dict[str, Any]]:
    """The tokenizer of `folder` as a function: texts -> padded tensors on the CPU.

    Args:
        longest: how many tokens the model reads, beginning and end included.

    Returns:
        a function that raises InstructionError for a text of more tokens than that: a part of an instruction
        is another instruction.

    Raises:
        CheckpointError: there is no tokenizer, or it is damaged.
    """
    tokenizer = read_tokenizer(folder)

    def tokenize(texts: Sequence[str]) -> dict[str, Any]:
        lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
        for text, length in zip(texts, lengths, strict=True):
            if length > longest:
                raise InstructionError(
                    f"the instruction {text[:40]!r}... must be at most {longest} tokens for this model, "
                    f"but has {length}: name the target in a short phrase"
                )
        return dict(tokenizer(list(texts), padding=True, return_tensors="pt"))

    return tokenize


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of `folder` as transformers has it.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):
        # transformers would make an empty tokenizer, which reads nothing of any text
        raise CheckpointError(
            f"{folder} must hold a tokenizer, but has neither {' nor '.join(_VOCABULARIES)}"
        )
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of the tokenizers library, which has no class of its own
        raise CheckpointError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    return tokenizer


def to_squares(
    images: Sequence[np.ndarray], side: int, mean: Sequence[float], std: Sequence[float], runner: Runner
) -> Any:
    """uint8 [H, W, 3] images, each squashed to side x side, as a normalised tensor [B, 3, side, side].

    Bilinear with anti-aliasing, as the processors of SAM 2 and SAM 3 do, which need torchvision.
    """
    import torch

    squares = np.stack(
        [
            np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
            for image in images
        ]
    )
    pixels = torch.from_numpy(squares).to(runner.device).permute(0, 3, 1, 2).float() / 255.0
    shape = (1, 3, 1, 1)
    mean_, std_ = (torch.tensor(values, device=runner.device).view(shape) for values in (mean, std))
    return ((pixels - mean_) / std_).to(runner.dtype)
