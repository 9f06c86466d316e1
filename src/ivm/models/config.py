"""Which models there are, where they lie and what runs them: two tables, and the way from name to folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ivm.errors import ModelError, OptionError, require

__all__ = [
    "DEVICES",
    "KINDS",
    "PRESETS",
    "REFERENCE_FILE",
    "Kind",
    "Preset",
    "check_device",
    "fetch",
    "fetch_file",
    "holds_reference",
    "locate",
]

DEVICES = ("auto", "cpu", "cuda")
"""What `device` may be: "auto" takes an accelerator where there is one."""

REFERENCE_FILE = "IVM-V1.0.bin"
"""Name of the published checkpoint's file on its hub page."""

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class Preset:
    """A named configuration of a model.

    Attributes:
        name: what `ivm.load` is asked for.
        kind: key of KINDS: which code runs it.
        summary: one line for people.
        licence: of the weights.
        megabytes: size of the weights on disk.
        extra: the extra of this package that it needs; empty if the core is enough.
        hub: "organisation/name" on the Hugging Face hub; empty if the weights come with the package.
        revision: the commit or branch of `hub` that is meant; empty if there is no hub.
        cannot: one line on what it cannot do; empty if its summary says it.
        parts: (hub, revision) of each further model that it is made of.
    """

    name: str
    kind: str
    summary: str
    licence: str
    megabytes: float
    extra: str = ""
    hub: str = ""
    revision: str = ""
    cannot: str = ""
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Kind:
    """The code that runs one kind of model folder: `module.loader(folder, device=..., threads=..., ...)`.

    What the loader takes beyond those by keyword are the options of the kind, which `ivm.load` passes on.
    """

    module: str
    loader: str
    files: tuple[str, ...]  # what is fetched from a hub; never a pickle
    fetches: bool = False  # whether the loader is given a preset's name instead, and sees to the rest


# Weights as safetensors; tokenizers as JSON, or as the text files of their day.
_TRANSFORMERS = ("*.json", "*.safetensors", "*.txt")

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "compact": Kind("ivm.models.onnx", "CompactRuntime", ("*.onnx", "*.json")),
        "clipseg": Kind("ivm.models.clipseg", "ClipSeg", _TRANSFORMERS),
        "ivm": Kind("ivm.models.full", "FullModel", _TRANSFORMERS),
        "ivm-v1": Kind("ivm.models.full", "FullModel", _TRANSFORMERS, fetches=True),
        "untrained": Kind("ivm.models.full", "Untrained", (), fetches=True),
        "grounding-dino": Kind("ivm.models.grounded_sam", "GroundedSam", _TRANSFORMERS),
        "sam3": Kind("ivm.models.sam3", "Sam3", _TRANSFORMERS),
        "sam3_video": Kind("ivm.models.sam3", "Sam3", _TRANSFORMERS),  # the published folder holds both
    }
)
"""By the value of "kind" in a model folder's config.json, or of "model_type" in one made by transformers."""

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            Preset(
                name="compact",
                kind="compact",
                summary="small model for a CPU, comes with the package",
                licence="Apache-2.0",
                megabytes=30,
            ),
            Preset(
                name="ivm-v1",
                kind="ivm-v1",
                summary="the paper's model as published: LLaVA-1.5-7B with LoRA, SAM ViT-H, mask decoder",
                cannot="run at a useful speed without a GPU: its weights alone are 15 GB in bfloat16",
                licence="Llama 2 (LLaVA-1.5), Apache-2.0 (SAM)",
                megabytes=16_760,
                extra="full",
                hub="2toINF/IVM",
                revision="main",
                parts=(("llava-hf/llava-1.5-7b-hf", "main"), ("facebook/sam-vit-huge", "main")),
            ),
            Preset(
                name="ivm-qwen3-vl-2b-sam2",
                kind="untrained",
                summary="an architecture to train: Qwen3-VL-2B with LoRA, SAM 2.1 Hiera-B+; untrained as yet",
                cannot="be loaded before you have trained it: there are no weights",
                licence="Apache-2.0",
                megabytes=4_600,
                extra="full",
                parts=(("Qwen/Qwen3-VL-2B-Instruct", "main"), ("facebook/sam2.1-hiera-base-plus", "main")),
            ),
            Preset(
                name="ivm-smolvlm-256m-sam2",
                kind="untrained",
                summary="an architecture to train on a laptop: SmolVLM-256M with LoRA, SAM 2.1 Hiera-T; "
                "untrained as yet",
                cannot="be loaded before you have trained it: there are no weights",
                licence="Apache-2.0",
                megabytes=670,
                extra="full",
                parts=(
                    ("HuggingFaceTB/SmolVLM-256M-Instruct", "main"),
                    ("facebook/sam2.1-hiera-tiny", "main"),
                ),
            ),
            Preset(
                name="clipseg",
                kind="clipseg",
                summary="zero-shot: a soft heatmap of what a short phrase names",
                cannot="tell instances apart, follow commands, or say that a target is absent",
                licence="Apache-2.0",
                megabytes=603,
                extra="full",
                hub="CIDAS/clipseg-rd64-refined",
                revision="main",
            ),
            Preset(
                name="grounding-dino-sam2",
                kind="grounding-dino",
                summary="zero-shot: Grounding DINO finds boxes for a phrase, SAM 2 turns them into masks",
                cannot="follow commands or reason; of relations such as 'left of' it takes little",
                licence="Apache-2.0",
                megabytes=873,
                extra="full",
                hub="IDEA-Research/grounding-dino-tiny",
                revision="main",
                parts=(("facebook/sam2.1-hiera-small", "main"),),
            ),
            Preset(
                name="sam3",
                kind="sam3",
                summary="zero-shot: SAM 3 masks all instances of what a noun phrase names",
                cannot="follow commands, read more than 32 tokens, or pick one instance by a relation",
                licence="SAM License, consent asked on its hub page",
                megabytes=3440,
                extra="full",
                hub="facebook/sam3",
                revision="main",
            ),
        )
    }
)
"""The models that `ivm.load` knows by name."""


def locate(name: str | Path) -> tuple[str, Path]:
    """Find a model: (key of KINDS, folder with its files).

    A preset's name wins over a folder of the same name; write "./name" for the folder. Something like
    "organisation/name" or "organisation/name@revision" that is no folder here is fetched from the Hugging
    Face hub, once, into its cache.

    Raises:
        OptionError: `name` is no preset, folder or hub id.
        ModelError: the folder holds no model, or the hub does not give it.
        MissingExtraError: a hub is needed, and `huggingface-hub` is not installed.
    """
    # The page of ivm-v1 is no folder of a model: what lies there goes with two more.
    pages = {preset.hub: preset for preset in PRESETS.values() if preset.hub and KINDS[preset.kind].fetches}
    preset = PRESETS.get(str(name)) or pages.get(str(name))
    if preset is not None and KINDS[preset.kind].fetches:
        return preset.kind, Path(preset.name)
    if preset is not None:
        return preset.kind, fetch(preset.hub, preset.revision) if preset.hub else _WEIGHTS / preset.name
    folder = Path(name)
    if str(name) and folder.is_dir():  # "" would be the current folder
        # "./ivm-v1" is a folder, and Path would make a preset's name of it.
        return _kind_of(folder), folder.absolute() if str(folder) in PRESETS else folder
    if isinstance(name, str) and re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@[\w.-]+)?", name):
        hub, _, revision = name.partition("@")
        fetched = fetch(hub, revision)
        return _kind_of(fetched), fetched
    raise OptionError(f"no model is called {str(name)!r}: {_choices(str(name))}")


def check_device(device: str) -> str:
    """Return `device`, one of DEVICES.

    Raises:
        OptionError: it is something else.
    """
    if device not in DEVICES:
        raise OptionError(f"device must be one of {', '.join(DEVICES)}, but got {device!r}")
    return device


def holds_reference(folder: Path) -> bool:
    """Whether a folder is the published checkpoint's, as it is fetched by hand: it has no config.json."""
    return (folder / REFERENCE_FILE).is_file() and not (folder / "config.json").exists()


def _kind_of(folder: Path) -> str:
    if holds_reference(folder):
        return "ivm-v1"
    config = folder / "config.json"
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
        kind = content["kind"] if "kind" in content else content["model_type"]
    except OSError as error:
        raise ModelError(
            f"{folder} holds no model: cannot read its config.json ({error.strerror})"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f'{config} must be a JSON object with a "kind", or the "model_type" of transformers, but is not'
        ) from error
    if kind not in KINDS:
        raise ModelError(f"{config}: kind must be one of {', '.join(sorted(KINDS))}, but is {kind!r}")
    return str(kind)


def fetch(hub: str, revision: str = "", local_files_only: bool = False) -> Path:
    """Folder of a model of the Hugging Face hub, fetched unless it is in the cache already.

    Args:
        hub: "organisation/name".
        revision: commit or branch; empty for the main one.
        local_files_only: look into the cache alone.

    Raises:
        ModelError: the hub does not give it; the message says how to bring it by hand.
        MissingExtraError: `huggingface-hub` is not installed.
    """
    hub_library = require("huggingface_hub", "full")
    patterns = sorted({pattern for kind in KINDS.values() for pattern in kind.files})
    try:
        fetched = hub_library.snapshot_download(
            hub, revision=revision or None, allow_patterns=patterns, local_files_only=local_files_only
        )
        return Path(fetched)
    except Exception as error:  # the hub's errors have no common base, and those of its HTTP library vary
        reason = _reason(error)
        raise ModelError(
            f"{hub!r} is no folder here and could not be fetched from the Hugging Face hub: {reason}. Where "
            f"there is a network, run  hf download {hub} --local-dir FOLDER  (after  hf auth login  if its "
            "page asks for consent), and give that folder instead of the name"
        ) from error


def fetch_file(hub: str, name: str, revision: str = "") -> Path:
    """One file of a model of the hub, whatever its kind, fetched unless it is in the cache already.

    Raises:
        ModelError: the hub does not give it; the message says how to bring it by hand.
        MissingExtraError: `huggingface-hub` is not installed.
    """
    hub_library = require("huggingface_hub", "full")
    try:
        # Not hf_hub_download, which without a network tries on for half a minute.
        folder = Path(hub_library.snapshot_download(hub, revision=revision or None, allow_patterns=[name]))
        if not (folder / name).is_file():
            raise FileNotFoundError("neither its page nor the cache has that file")
    except Exception as error:  # as above
        raise ModelError(
            f"{name} of {hub!r} could not be fetched from the Hugging Face hub: {_reason(error)}. Where "
            f"there is a network, run  hf download {hub} {name} --local-dir FOLDER,  and give "
            "that folder instead of the name"
        ) from error
    return folder / name


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _choices(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name.lower(), PRESETS, n=1)
    return (
        (f"did you mean {near[0]!r}? " if near else "")
        + f"There are {', '.join(sorted(PRESETS))}; "
        + 'or give a folder with a config.json, or a hub id such as "organisation/name"'
    )
