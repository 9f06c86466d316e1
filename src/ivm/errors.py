"""Every exception that `ivm` raises on purpose.

    IVMError
    ├── InputError            also a ValueError: an argument is wrong
    │   ├── ImageError        an image cannot be read, or is not an image
    │   ├── InstructionError  an instruction is empty, or not text
    │   └── OptionError       a mode, threshold, colour or other option is out of range
    ├── DataError             a data set, shard or annotation is wrong; names file and line
    ├── ModelError            a model cannot be found, loaded or built
    │   └── CheckpointError   weights do not fit the model they are loaded into
    ├── LMMError              an LMM does not answer, or refuses
    ├── TrainingError         a run cannot start or go on (bad config, NaN loss, full disk)
    ├── OutputError           also an OSError: a result cannot be written
    └── MissingExtraError     also an ImportError: an optional part is not installed

Messages say what was expected, what came, and what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = [
    "CheckpointError",
    "DataError",
    "IVMError",
    "ImageError",
    "InputError",
    "InstructionError",
    "LMMError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutputError",
    "TrainingError",
    "require",
]


class IVMError(Exception):
    """Base of every error raised by ivm."""


class InputError(IVMError, ValueError):
    """What the caller passed in cannot be used."""


class ImageError(InputError):
    """An image is unreadable, truncated, empty, too large or of an unsupported layout."""


class InstructionError(InputError):
    """An instruction is empty or not text."""


class OptionError(InputError):
    """An option has a value outside what it accepts."""


class DataError(IVMError):
    """A data set, shard or annotation is wrong; the message names the file and the line or key."""


class ModelError(IVMError):
    """A model cannot be found, loaded or built."""


class CheckpointError(ModelError):
    """Weights do not fit the model they are loaded into."""


class LMMError(IVMError):
    """An LMM cannot be reached, refuses, or answers in a form that was not expected."""


class TrainingError(IVMError):
    """A training run cannot start or go on."""


class OutputError(IVMError, OSError):
    """A result cannot be written."""


class MissingExtraError(IVMError, ImportError):
    """An optional part of ivm is not installed."""


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which `pip install ivm[extra]` brings.

    Args:
        module: dotted module name, such as "torch".
        extra: the extra of this package that installs it.

    Raises:
        MissingExtraError: the module is absent; the message is the install command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the module is there, and one of its own imports is broken: do not hide that
        raise MissingExtraError(
            f"this needs {module.split('.')[0]}, which is not installed: run  pip install 'ivm[{extra}]'"
        ) from error
