"""Instruction-guided visual masking: keep the pixels an instruction is about, mask out the rest.

    import ivm

    masker = ivm.load("compact")
    heatmap = masker("photo.jpg", "pick up the red cup")
    ivm.write_image(ivm.render("photo.jpg", heatmap, mode="overlay").image, "masked.png")

The public names are lazy: `import ivm` loads no library, a name loads what it needs when it is first used.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ivm.errors import (
        CheckpointError,
        DataError,
        ImageError,
        InputError,
        InstructionError,
        IVMError,
        LMMError,
        MissingExtraError,
        ModelError,
        OptionError,
        OutputError,
        TrainingError,
    )
    from ivm.images import read_image, write_image
    from ivm.lmm import LMM, MaskedChat
    from ivm.masker import ImageFeatures, Masker, load
    from ivm.models.config import PRESETS
    from ivm.render import MODES, Rendered, Transform, render
    from ivm.types import Heatmap, Masking, Sample

    __version__: str

__all__ = [
    "LMM",
    "MODES",
    "PRESETS",
    "CheckpointError",
    "DataError",
    "Heatmap",
    "IVMError",
    "ImageError",
    "ImageFeatures",
    "InputError",
    "InstructionError",
    "LMMError",
    "MaskedChat",
    "Masker",
    "Masking",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutputError",
    "Rendered",
    "Sample",
    "TrainingError",
    "Transform",
    "__version__",
    "load",
    "read_image",
    "render",
    "write_image",
]

_HOME = {
    "ivm.errors": (
        "CheckpointError DataError IVMError ImageError InputError InstructionError LMMError "
        "MissingExtraError ModelError OptionError OutputError TrainingError"
    ),
    "ivm.images": "read_image write_image",
    "ivm.lmm": "LMM MaskedChat",
    "ivm.masker": "ImageFeatures Masker load",
    "ivm.models.config": "PRESETS",
    "ivm.render": "MODES Rendered Transform render",
    "ivm.types": "Heatmap Masking Sample",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("ivm")
    elif name in _MODULE_OF:
        from importlib import import_module

        value = getattr(import_module(_MODULE_OF[name]), name)
    else:
        raise AttributeError(f"module 'ivm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `ivm.render` the function, over which Python would put the module of that name at its import."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "render" and isinstance(value, ModuleType):
            value = value.render
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
