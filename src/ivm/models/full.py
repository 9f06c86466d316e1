"""Runs full-size models behind `ivm.load`: the published checkpoint, and folders that training exported."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ivm.errors import ModelError, OptionError, require
from ivm.models.checkpoint import (
    assemble,
    cache_folder,
    import_reference,
    load_model,
    read_reference,
    rename_reference,
    runner_of,
)
from ivm.models.config import PRESETS, REFERENCE_FILE, fetch_file, holds_reference
from ivm.models.full_presets import full_preset
from ivm.models.image_encoder import squash
from ivm.models.instruction_encoder import Prefix, Tokenized
from ivm.models.ivm import IVMModel
from ivm.models.pretrained import Runner

__all__ = ["ATTENTIONS", "QUANTISATIONS", "FullFeatures", "FullModel", "Untrained"]

ATTENTIONS = ("auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3")
"""How the LMM's attention is computed: "auto" is sdpa; flash attention needs its own package."""

QUANTISATIONS = ("none", "8bit", "4bit")
"""Precisions that the LMM's weights can be held in, by bitsandbytes: "4bit" is NF4."""

_ADVICE = (
    "give a smaller batch_size, quantise='4bit', prefix_cache=False (which keeps no image in the LMM), "
    "cache_images=0, or offload=True (which keeps the LMM in the computer's memory)"
)


@dataclass(frozen=True, eq=False)
class FullFeatures:
    """One encoded image, on the model's device.

    Attributes:
        features: of the image encoder, float [D, h, w].
        prefix: the LMM's keys and values of the image, batch 1; None if they are not kept.
        pixels: uint8 [3, S, S], if the prefix is not kept; else None.
    """

    features: Tensor
    prefix: Prefix | None
    pixels: Tensor | None


class FullModel:
    """A full-size model as a `Backend`.

    Args:
        folder: written by IVMModel.save_pretrained; or a preset's name, which is fetched; or one with the
            published file, and the base models in its folders `lmm` and `image` if they are here, too.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None: torch's own number.
        dtype: "auto" (bfloat16 on a GPU, float32 on a CPU), "float32", "bfloat16" or "float16".
        attention: one of ATTENTIONS, of the LMM.
        quantise: one of QUANTISATIONS, of the LMM; needs a GPU and bitsandbytes.
        offload: keep the LMM in the computer's memory and bring each layer to the GPU when it computes: slow,
            but the GPU then holds little more than the image encoder (ivm-v1: 1.3 GB in bfloat16).
        compile: let torch.compile make code of image encoder and mask decoder; the first call takes long.
        cache_images: how many images are kept encoded, the latest used; 0 for none. What `encode_image` gave
            out is kept by whoever holds it, besides.
        prefix_cache: keep what the LMM makes of an image, so that a further instruction costs its own tokens
            alone (ivm-v1: 0.3 GB an image); else the LMM sees the image anew with each instruction.
        lmm: folder or hub id of the LMM, instead of the one that the model names; a hub id may end in @ and
            a commit.
        image: of the image encoder, likewise.
        checkpoint: of ivm-v1, the published file, if it is here already.
        revision: of ivm-v1, the commit or branch of its hub page, where the file is fetched.

    Attributes:
        model: the IVMModel.
        name: the folder's name.
        threshold: the model's own, in [0, 1].
        found_threshold: the same: a target is found where the heatmap reaches it.

    Raises:
        OptionError: an option is not one of those above.
        ModelError: something cannot be had, or memory is full.
        CheckpointError: weights are damaged, or do not fit.
        MissingExtraError: an optional part is not installed.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        threads: int | None = None,
        dtype: str = "auto",
        attention: str = "auto",
        quantise: str = "none",
        offload: bool = False,
        compile: bool = False,
        cache_images: int = 4,
        prefix_cache: bool = True,
        lmm: str | Path = "",
        image: str | Path = "",
        checkpoint: str | Path = "",
        revision: str = "",
    ) -> None:
        _check(attention, "attention", ATTENTIONS)
        _check(quantise, "quantise", QUANTISATIONS)
        if not isinstance(cache_images, int) or cache_images < 0:
            raise OptionError(f"cache_images must be an integer of at least 0, but got {cache_images!r}")
        published = str(folder) in PRESETS
        if not published and (checkpoint or revision):
            raise OptionError(
                f"checkpoint and revision are options of ivm-v1, but {folder} holds its own weights"
            )
        if not published and holds_reference(Path(folder)):
            published, checkpoint = True, Path(folder) / REFERENCE_FILE
            lmm, image = lmm or _inside(Path(folder), "lmm"), image or _inside(Path(folder), "image")
        if checkpoint and revision:
            raise OptionError(
                f"revision says what to fetch, but checkpoint={str(checkpoint)!r} is here already"
            )
        require("peft", "full")
        self._run = _runner(device, threads, dtype)
        options = _options(self._run, attention, quantise, offload)
        with self._run.memory():
            if published:
                self.model = _open_reference(self._run, lmm, image, checkpoint, revision, options)
            else:
                self.model = load_model(
                    IVMModel,
                    Path(folder),
                    dtype=self._run.dtype,
                    device=self._run.device.type,
                    lmm=lmm,
                    image=image,
                    **options,
                )
        if offload:
            require("accelerate", "full").cpu_offload(
                self.model.instruction_encoder.backbone, execution_device=self._run.device
            )
        if compile:
            self.model.image_encoder.backbone.compile()
            self.model.mask_decoder.compile()
        self._serve(Path(folder).name, cache_images, prefix_cache)

    @classmethod
    def of(cls, model: IVMModel, cache_images: int = 4, prefix_cache: bool = True) -> FullModel:
        """A backend of a model that is in memory already, where it is and in its precision.

        Args:
            model: with a tokenizer; it is put into evaluation mode.
            cache_images: as above.
            prefix_cache: as above.
        """
        made = cls.__new__(cls)
        device = model.mask_decoder.mask_tokens.weight.device
        made.model = model.eval()
        made._run = _runner(device.type, None, str(model.dtype).removeprefix("torch."))
        made._run.device = device
        made._serve("full", cache_images, prefix_cache)
        return made

    def _serve(self, name: str, cache_images: int, prefix_cache: bool) -> None:
        self.name = name
        self.threshold = self.found_threshold = float(self.model.config.threshold)
        self._prefixes = prefix_cache
        self._most = cache_images
        self._kept: OrderedDict[bytes, FullFeatures] = OrderedDict()

    def encode_images(self, images: list[np.ndarray]) -> list[FullFeatures]:
        """uint8 [H, W, 3] of any sizes -> features; one that was encoded lately is not encoded again."""
        keys = [_digest(image) for image in images] if self._most else [b""] * len(images)
        found = {key: self._kept[key] for key in keys if key in self._kept}
        fresh: dict[bytes | int, int] = {}  # what to encode, each picture once
        for place, key in enumerate(keys):
            if key not in found:
                fresh.setdefault(key or place, place)
        encoded = iter(self._encode([images[place] for place in fresh.values()]) if fresh else [])
        made = {key: next(encoded) for key in fresh}
        answers = []
        for place, key in enumerate(keys):
            features = found[key] if key in found else made[key or place]
            answers.append(features)
            if self._most:
                self._kept[key] = features
                self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return answers

    def _encode(self, images: Sequence[np.ndarray]) -> list[FullFeatures]:
        model = self.model
        with self._run():
            pixels = squash(images, model.pixel_side, self._run.device)
            features = model.image_encoder(pixels)
            prefix = model.instruction_encoder.encode_images(pixels, "generator") if self._prefixes else None
            # Copies: a slice would keep its whole batch in memory.
            return [
                FullFeatures(
                    features[k].clone(),
                    None if prefix is None else prefix.select(slice(k, k + 1)).clone(),
                    pixels[k].clone() if prefix is None else None,
                )
                for k in range(len(images))
            ]

    def decode(self, features: list[FullFeatures], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [B, h, w] over the whole image each, and the largest of each heatmap, float32 [B].

        Raises:
            InstructionError: an instruction does not fit into the LMM's context.
        """
        if not features:
            return np.zeros((0, 1, 1), np.float32), np.zeros(0, np.float32)
        model = self.model
        with self._run():
            condition = self._conditions(features, instructions)
            seen = (
                features[0].features.expand(len(features), -1, -1, -1)
                if _one(features)
                else torch.stack([one.features for one in features])
            )
            logits, found = model.decode(seen, condition)
            return model.upsample(logits).cpu().numpy(), found.sigmoid().cpu().numpy()

    def conditions(self, features: Sequence[FullFeatures], instructions: Sequence[str]) -> np.ndarray:
        """What the mask decoder takes of each pair, float32 [B, D]: for one that runs elsewhere.

        Raises:
            InstructionError: an instruction does not fit into the LMM's context.
        """
        if not features:
            return np.zeros((0, self.model.image_encoder.channels), np.float32)
        with self._run():
            found: np.ndarray = self._conditions(features, instructions).float().cpu().numpy()
        return found

    def _conditions(self, features: Sequence[FullFeatures], instructions: Sequence[str]) -> Tensor:
        encoder = self.model.instruction_encoder
        assert encoder.tokens is not None
        ids, lengths = encoder.tokens(instructions)
        given = Tokenized(ids.to(self._run.device), lengths)
        if features[0].prefix is not None:
            prefixes = [one.prefix for one in features if one.prefix is not None]
            prefix = prefixes[0].expand(len(features)) if _one(features) else Prefix.join(prefixes)
            return self.model.conditions(prefix, given)
        pixels = torch.stack([one.pixels for one in features if one.pixels is not None])
        condition: Tensor = encoder.text_proj(encoder(pixels, given, "generator", encoder.position))
        return condition


class Untrained:
    """Says of a preset without published weights that it has none: a random heatmap would help nobody.

    Raises:
        ModelError: always.
    """

    def __init__(self, folder: Path, device: str = "auto", threads: int | None = None) -> None:
        raise ModelError(
            f"{folder} is an architecture without trained weights: nobody has trained it yet. Train it with  "
            f'ivm train generator  and  [model] kind = "full", sizes = {{preset = "{folder}"}}  in the '
            "configuration, and give the folder that this writes"
        )


def _runner(device: str, threads: int | None, dtype: str) -> Runner:
    """As `runner_of`, with threads, and advice for full memory."""
    runner = Runner(device, threads, dtype)
    if dtype == "auto":
        runner.dtype = runner_of(device, None).dtype
    runner.advice = _ADVICE
    return runner


def _options(runner: Runner, attention: str, quantise: str, offload: bool) -> dict[str, Any]:
    """Arguments of the LMM's from_pretrained."""
    options: dict[str, Any] = {}
    if attention != "auto":
        if attention.startswith("flash") and runner.device.type != "cuda":
            raise OptionError(f"attention={attention!r} needs a CUDA GPU: leave it out, or give 'sdpa'")
        options["attn_implementation"] = attention
    if quantise != "none":
        if runner.device.type != "cuda" or offload:
            raise OptionError(
                f"quantise={quantise!r} needs a CUDA GPU without offload, but the model runs on "
                f"{runner.device.type}{' with offload' if offload else ''}"
            )
        require("bitsandbytes", "quantise")
        from transformers import BitsAndBytesConfig

        kind = (
            {"load_in_8bit": True}
            if quantise == "8bit"
            else {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_compute_dtype": runner.dtype,
            }
        )
        options |= {
            "quantization_config": BitsAndBytesConfig(**kind),
            "device_map": {"": str(runner.device)},
        }
    if offload:
        options["device_map"] = {"": "cpu"}
    return options


def _open_reference(
    runner: Runner,
    lmm: str | Path,
    image: str | Path,
    checkpoint: str | Path,
    revision: str,
    options: dict[str, Any],
) -> IVMModel:
    """The published model: from its converted form in the cache, or converted now."""
    preset = PRESETS["ivm-v1"]
    wanted = revision or preset.revision
    file = Path(checkpoint) if checkpoint else fetch_file(preset.hub, REFERENCE_FILE, wanted)
    if not file.is_file():
        raise ModelError(f"checkpoint must be the published file {REFERENCE_FILE}, but {file} is no file")
    kept = cache_folder(file)
    if (kept / "config.json").is_file():
        return load_model(
            IVMModel,
            kept,
            dtype=runner.dtype,
            device=runner.device.type,
            lmm=lmm,
            image=image,
            **options,
        )
    model = assemble(full_preset("ivm-v1"), runner, lmm, image, **options)
    state = read_reference(file)
    if import_reference(model, state, str(file)):
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            temporary = kept.with_name(f".{kept.name}-{os.getpid()}")
            # As they were published, whatever precision this call has them in.
            model.save_pretrained(temporary, state_dict=rename_reference(state))
            _name_bases(temporary / "config.json", lmm, image)
            if not kept.exists():
                temporary.replace(kept)
        except OSError:  # a cache that cannot be written is done without
            pass
    return model.eval()


def _name_bases(file: Path, lmm: str | Path, image: str | Path) -> None:
    """Let the cache name the published base models, not folders that a later call may not find."""
    named = full_preset("ivm-v1")
    content = json.loads(file.read_text(encoding="utf-8"))
    for part, given in (("lmm", lmm), ("image", image)):
        if given:
            names = (f"{part}_base", f"{part}_revision")
            content |= {name: getattr(named, name) for name in names}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _one(features: Sequence[FullFeatures]) -> bool:
    return all(other is features[0] for other in features)


def _inside(folder: Path, name: str) -> Path | str:
    """The base model that lies in a model's folder; empty if none does."""
    return folder / name if (folder / name).is_dir() else ""


def _digest(image: np.ndarray) -> bytes:
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def _check(value: str, name: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OptionError(f"{name} must be one of {', '.join(choices)}, but got {value!r}")
