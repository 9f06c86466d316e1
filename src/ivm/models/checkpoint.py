"""Full-size models on disk: folders of our own, the base models they name, and the published checkpoint.

A folder of ours holds config.json, the LMM's tokenizer, and model.safetensors with what was trained (66 MB of
ivm-v1), or with everything (`whole`). The published checkpoint is a pickle of tensors by the names of its own
code; it is read with `weights_only=True`, renamed strictly, and kept as safetensors from then on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ivm.errors import CheckpointError, ModelError
from ivm.models.config import fetch
from ivm.models.image_encoder import IMAGE_ENCODERS
from ivm.models.ivm import IVMConfig, IVMModel
from ivm.models.lmm_families import FAMILIES
from ivm.models.pretrained import Runner, open_model, quiet, read_tokenizer

__all__ = [
    "assemble",
    "cache_folder",
    "fill",
    "fit",
    "import_reference",
    "load_model",
    "read_model_config",
    "read_reference",
    "read_weights",
    "rename_reference",
    "resolve",
    "runner_of",
]

_WEIGHTS = "model.safetensors"


def load_model(
    model_class: type[IVMModel],
    path: str | Path,
    *,
    revision: str = "",
    dtype: Any = None,
    device: str = "auto",
    lmm: str | Path = "",
    image: str | Path = "",
    local_files_only: bool = False,
    **options: Any,
) -> IVMModel:
    """A model from a folder that `save_pretrained` wrote, or from a hub id.

    Args:
        model_class: IVMModel, or a class derived from it.
        path: folder or hub id; revision: of the hub id.
        dtype: a torch.dtype, or its name; None: float32 on a CPU, bfloat16 on a GPU.
        device: "auto", "cpu" or "cuda"; of what device_map does not place.
        lmm, image: folders or hub ids to take the base models from, instead of those in config.json;
            "organisation/name@revision" for a certain commit or branch.
        local_files_only: fetch nothing: what is not in the hub's cache is an error.
        options: of the LMM's from_pretrained: device_map, quantization_config, attn_implementation, ...

    Raises:
        CheckpointError: weights are missing, superfluous, damaged or of another shape.
        ModelError: a base model cannot be had.
    """
    folder = resolve(str(path), revision, local_files_only)
    config = read_model_config(model_class, folder)
    runner = runner_of(device, dtype)
    if config.whole:
        if lmm or image:
            raise ModelError(f"{folder} holds its base models itself: leave lmm and image out")
        return _load_whole(model_class, folder, config, runner, options)
    model = assemble(config, runner, lmm, image, model_class, local_files_only, **options)
    given = "".join(f" with {name}={str(base)!r}" for name, base in (("lmm", lmm), ("image", image)) if base)
    fill(model, read_weights(folder / _WEIGHTS), f"{folder}{given}")
    return model.eval()


def runner_of(device: str, dtype: Any) -> Runner:
    """Device and precision: of None, float32 on a CPU and bfloat16 on a GPU."""
    name = str(dtype or "auto").removeprefix("torch.")
    runner = Runner(device, None, name)
    if name == "auto" and runner.device.type == "cuda":
        runner.dtype = torch.bfloat16
    return runner


def assemble(
    config: IVMConfig,
    runner: Runner,
    lmm: str | Path = "",
    image: str | Path = "",
    model_class: type[IVMModel] = IVMModel,
    local_files_only: bool = False,
    **options: Any,
) -> IVMModel:
    """A model of a configuration: base models as published, the rest new.

    Args:
        config: what it names (or what `lmm` and `image` name instead) is read; the configurations of the two
            and the commits that were fetched are put into it.
        runner: device and precision.
        lmm, image, local_files_only, options: as in `load_model`.
        model_class: IVMModel, or a class derived from it.

    Raises:
        ModelError: a base model cannot be had.
        CheckpointError: it is damaged.
    """
    import transformers

    folders = {}
    for name, given in (("image", str(image)), ("lmm", str(lmm))):
        if given:  # another base has commits of its own
            base, _, revision = (given, "", "") if Path(given).is_dir() else given.partition("@")
            setattr(config, f"{name}_base", base)
            setattr(config, f"{name}_revision", revision or "main")
        base, revision = getattr(config, f"{name}_base"), getattr(config, f"{name}_revision")
        try:
            folders[name] = folder = resolve(base, revision, local_files_only)
        except ModelError as error:
            raise ModelError(f"{error}. For this part, give it as {name}='FOLDER'") from error
        if Path(base).is_dir():  # what is saved must find it from any folder
            setattr(config, f"{name}_base", str(folder.absolute()))
        if (
            folder.parent.name == "snapshots"
        ):  # the hub's cache calls it by its commit: the same one next time
            setattr(config, f"{name}_revision", folder.name)
    eager = options.get("attn_implementation") == "eager"
    image_class = getattr(transformers, IMAGE_ENCODERS[_image_kind(config, folders["image"])])
    # Flash attention has no place for SAM's relative positions: it is the LMM's alone.
    vision = open_model(
        image_class,
        folders["image"],
        runner,
        **({"attn_implementation": "eager"} if eager else {}),
    ).vision_encoder
    family = FAMILIES.get(_kind(folders["lmm"]))
    if family is None:
        raise ModelError(
            f"{folders['lmm']} must hold an LMM of {', '.join(FAMILIES)}, but holds {_kind(folders['lmm'])}: "
            "it cannot read pictures, or not in a way that is known here"
        )
    language = open_model(getattr(transformers, family.model), folders["lmm"], runner, **options)
    config.image_encoder, config.lmm = vision.config.to_dict(), language.config.to_dict()
    model = model_class(config, read_tokenizer(folders["lmm"]), vision, language)
    for part in (model.mask_decoder, model.instruction_encoder.text_proj):
        part.to(runner.device, runner.dtype)
    return model


def fill(model: IVMModel, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put trained weights into a model: every one of its, and no other.

    Raises:
        CheckpointError: names or shapes differ; the message lists them.
    """
    state = model.state_dict()
    wanted = {name: state[name] for name in model.trained_names()}
    fit(wanted, tensors, source)
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])


def fit(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Check that `tensors`, of `source`, have the names and shapes of `wanted`.

    Raises:
        CheckpointError: they have not; the message lists them.
    """
    faults = [f"lacks {name}" for name in wanted if name not in tensors]
    faults += [f"has {name} besides" for name in tensors if name not in wanted]
    faults += [
        f"has {name} as {list(tensors[name].shape)} instead of {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if faults:
        raise CheckpointError(f"{source} does not fit its configuration: it {_few(faults)}")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, on the CPU.

    Raises:
        CheckpointError: it is not there, or damaged.
    """
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: {error}") from error


def resolve(base: str, revision: str = "", local_files_only: bool = False) -> Path:
    """Folder of a base model, or any model: itself, or fetched from the hub (or its cache alone).

    Raises:
        ModelError: it is neither a folder nor to be had from the hub; the message says what to download.
    """
    folder = Path(base)
    if base and folder.is_dir():
        return folder
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", base):
        raise ModelError(
            f"{base!r} must be a folder that exists or a hub id 'organisation/name', but is neither"
        )
    return fetch(base, revision, local_files_only)


def read_reference(file: Path) -> dict[str, Tensor]:
    """The tensors of the published checkpoint, by its own names; nothing but tensors is unpickled.

    Raises:
        CheckpointError: it is not there, damaged, or holds anything but named tensors.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, UnpicklingError):  # whose own words tell how to run what is in it
            reason = "it is damaged, or holds other objects, which are not unpickled"
        raise CheckpointError(f"{file} cannot be read as a checkpoint of tensors: {reason}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} must hold tensors by their names, but holds something else")
    return dict(state)


# (pattern of a name in the reference's state dict, its name here), tried in this order.
_RULES: Sequence[tuple[str, str]] = (
    (r"image_encoder\.patch_embed\.proj\.(.*)", r"image_encoder.backbone.patch_embed.projection.\1"),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.(.*)", r"image_encoder.backbone.layers.\1.layer_norm\2.\3"),
    (r"image_encoder\.blocks\.(\d+)\.(attn|mlp)\.(.*)", r"image_encoder.backbone.layers.\1.\2.\3"),
    (r"image_encoder\.neck\.0\.(.*)", r"image_encoder.backbone.neck.conv1.\1"),
    (r"image_encoder\.neck\.1\.(.*)", r"image_encoder.backbone.neck.layer_norm1.\1"),
    (r"image_encoder\.neck\.2\.(.*)", r"image_encoder.backbone.neck.conv2.\1"),
    (r"image_encoder\.neck\.3\.(.*)", r"image_encoder.backbone.neck.layer_norm2.\1"),
    (r"image_encoder\.(pos_embed)", r"image_encoder.backbone.\1"),
    (r"prompt_encoder\.text_proj\.(fc[12]\..*)", r"instruction_encoder.text_proj.\1"),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.norm(\d)\.(.*)",
     r"mask_decoder.transformer.layers.\1.layer_norm\2.\3"),
    (r"mask_decoder\.transformer\.norm_final_attn\.(.*)",
     r"mask_decoder.transformer.layer_norm_final_attn.\1"),
    (r"(mask_decoder\.(transformer\.(layers|final_attn_token_to_image)|mask_tokens|output_upscaling|"
     r"output_hypernetworks_mlps|pe_layer)\..*)", r"\1"),
)  # fmt: skip

_LMM = "prompt_encoder.model.base_model.model."  # peft over LlavaForConditionalGeneration

_LMM_RULES: Sequence[tuple[str, str]] = (
    (r"(.*)\.lora_([AB])\.default\.weight", r"\1.lora_\2.generator.weight"),
    (r"(.*_proj)\.base_layer\.(weight|bias)", r"\1.base_layer.\2"),
    (r"(.*)", r"\1"),
)


def rename_reference(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by our names, of tensors by the names of the reference code.

    The LMM's are those of peft over LlavaForConditionalGeneration as it was in early 2024. Its language head
    is left out: no hidden state depends on it.

    Raises:
        CheckpointError: a name is not known, or two mean the same; the message lists them.
    """
    strip = "module." if state and all(name.startswith("module.") for name in state) else ""
    renamed: dict[str, Tensor] = {}
    unknown = []
    for name, value in state.items():
        plain = name.removeprefix(strip)
        if plain == f"{_LMM}language_model.lm_head.weight":
            continue
        new = _rename_lmm(plain.removeprefix(_LMM)) if plain.startswith(_LMM) else _by_rules(plain, _RULES)
        if new is None or new in renamed:
            unknown.append(name)
        else:
            renamed[new] = value
    if unknown:
        raise CheckpointError(f"the checkpoint has names that the reference code does not: {_few(unknown)}")
    return renamed


def _rename_lmm(name: str) -> str | None:
    if not name.startswith(("language_model.model.", "vision_tower.vision_model.", "multi_modal_projector.")):
        return None
    name = name.replace("language_model.model.", "language_model.", 1)
    name = name.replace("vision_tower.vision_model.", "vision_tower.", 1)
    tuned = re.fullmatch(r"(language_model\.layers\.\d+\.self_attn\.[qv]_proj)\.(weight)", name)
    if tuned:  # peft before 0.7 had no base_layer
        name = f"{tuned[1]}.base_layer.{tuned[2]}"
    new = _by_rules(name, _LMM_RULES)
    return f"instruction_encoder.backbone.{new}"


def _by_rules(name: str, rules: Sequence[tuple[str, str]]) -> str | None:
    for pattern, new in rules:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, new, name)
    return None


def import_reference(model: IVMModel, state: Mapping[str, Tensor], source: str) -> bool:
    """Put the reference's tensors into a model; returns whether they were the trained ones alone.

    Weights of the base models, where the checkpoint has them, take the place of those that were loaded.

    Raises:
        CheckpointError: a name is not known, a trained one is missing, or a shape differs.
    """
    tensors = rename_reference(state)
    trained = set(model.trained_names())
    fill(model, {name: value for name, value in tensors.items() if name in trained}, source)
    rest = {name: value for name, value in tensors.items() if name not in trained}
    own = model.state_dict()
    faults = [f"{name} has no place in the model" for name in rest if name not in own]
    faults += [
        f"{name} is {list(value.shape)} instead of {list(own[name].shape)}"
        for name, value in rest.items()
        if name in own and own[name].shape != value.shape
    ]
    if faults:
        raise CheckpointError(f"{source} does not fit its base models: {_few(faults)}")
    with torch.no_grad():
        for name, value in rest.items():
            own[name].copy_(value)
    return not rest


def cache_folder(file: Path) -> Path:
    """Where the converted form of a checkpoint is kept: by its content, in IVM_CACHE or ~/.cache/ivm."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    root = os.environ.get("IVM_CACHE") or Path.home() / ".cache" / "ivm"
    return Path(root) / f"ivm-v1-float32-{digest[:16]}"


def read_model_config(model_class: type[IVMModel], folder: Path) -> IVMConfig:
    """The configuration in a folder of a full-size model.

    Raises:
        ModelError: there is none, or another model's.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no full-size model: it has no config.json")
    try:
        config: IVMConfig = model_class.config_class.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{folder} holds no full-size model: its config.json is damaged: {error}") from error
    if config.model_type != "ivm" or not (config.image_base or config.image_encoder):
        raise ModelError(
            f"{folder}/config.json must be that of a full-size model (model_type ivm), but is not"
        )
    return config


def _load_whole(
    model_class: Any, folder: Path, config: IVMConfig, runner: Runner, options: dict[str, Any]
) -> IVMModel:
    tokenizer = read_tokenizer(folder)
    placed = options if options.get("device_map") else options | {"device_map": {"": str(runner.device)}}
    try:
        with quiet():
            model, report = super(IVMModel, model_class).from_pretrained(
                folder,
                config=config,
                tokenizer=tokenizer,
                dtype=runner.dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **placed,
            )
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} cannot be loaded: {error}") from error
    faults = [f"lacks {name}" for name in sorted(report["missing_keys"])]
    faults += [f"has {name} besides" for name in sorted(report["unexpected_keys"])]
    faults += [f"has {entry[0]} in another shape" for entry in report["mismatched_keys"]]
    if faults:
        raise CheckpointError(f"{folder} does not fit its configuration: it {_few(faults)}")
    made: IVMModel = model.eval()
    return made


def _kind(folder: Path) -> str:
    from transformers import AutoConfig

    try:
        return str(AutoConfig.from_pretrained(folder, local_files_only=True).model_type)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} holds no model of transformers: {error}") from error


def _image_kind(config: IVMConfig, folder: Path) -> str:
    kinds = {"sam": "sam_vision_model", "sam2": "sam2_vision_model", "sam2_video": "sam2_vision_model"}
    kind = _kind(folder)
    if kind not in kinds:
        raise ModelError(f"{folder} must hold a SAM or SAM 2, but holds {kind}")
    return kinds[kind]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
