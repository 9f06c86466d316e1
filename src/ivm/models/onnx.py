"""The compact model on ONNX Runtime: what `ivm.load("compact")` runs. No torch."""

from __future__ import annotations

import ctypes
import json
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ivm.errors import CheckpointError, ModelError, OptionError
from ivm.models.guided_filter import FINER, Guide, guided_filter, make_guide

__all__ = ["CompactFeatures", "CompactRuntime", "shift_logits"]

_FILES = ("config.json", "tokenizer.json", "image.onnx", "text.onnx", "decoder.onnx")


@dataclass(frozen=True, eq=False)
class CompactFeatures:
    """One picture as the model keeps it, float32: tokens [h*w, D], maps [96, H/8, W/8] and [48, H/4, W/4].

    And the guide of the picture, for what the decoder answers to get its edges.
    """

    tokens: np.ndarray
    map8: np.ndarray
    map4: np.ndarray
    guide: Guide


class CompactRuntime:
    """Runs a folder that `ivm.models.export.export_compact` wrote.

    Args:
        folder: holds config.json, tokenizer.json, image.onnx, text.onnx and decoder.onnx.
        device: "auto" (CUDA where onnxruntime offers it), "cpu" or "cuda".
        threads: of ONNX Runtime; None leaves the choice to it.

    Attributes:
        name: for reports, the folder's name.
        threshold: default threshold of heatmaps.
        found_threshold: a target counts as found from this score on.
        found_scale, found_shift: make a probability of the found logit, sigmoid(scale * logit + shift) (Platt
            scaling, 1999); fitted on validation photos as if targets were there as often as not.
        logit_slope, logit_middle: see `shift_logits`; fitted on validation data.

    Raises:
        ModelError: a file is missing, or the device is not available.
        CheckpointError: a file is damaged or of another kind of model.
        OptionError: unknown device.
    """

    def __init__(self, folder: Path, device: str = "auto", threads: int | None = None) -> None:
        self.folder = Path(folder)
        missing = [name for name in _FILES if not (self.folder / name).is_file()]
        if missing:
            raise ModelError(f"{self.folder} must hold {', '.join(_FILES)}, but lacks {', '.join(missing)}")
        try:
            self.config: dict[str, Any] = json.loads(
                (self.folder / "config.json").read_text(encoding="utf-8")
            )
            kind = self.config["kind"]
            self.image_size = int(self.config["image_size"])
            self.threshold = float(self.config["threshold"])
            self.found_threshold = float(self.config["found_threshold"])
            self.found_scale = float(self.config.get("found_scale", 1.0))
            self.found_shift = float(self.config.get("found_shift", 0.0))
            self.logit_slope = float(self.config.get("logit_slope", 0.0))
            self.logit_middle = float(self.config.get("logit_middle", 0.0))
            if not self.found_scale > 0:
                raise ValueError(f"found_scale must be above 0, but is {self.found_scale}")
            if not 0 <= self.logit_slope < 1:  # at 1 every heatmap would be as hot as another
                raise ValueError(f"logit_slope must be at least 0 and below 1, but is {self.logit_slope}")
            if not np.isfinite(self.logit_middle):
                raise ValueError(f"logit_middle must be finite, but is {self.logit_middle}")
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder / 'config.json'} is not a compact model's: {error!r}"
            ) from error
        if kind != "compact":
            raise CheckpointError(f"{self.folder} must hold a model of kind compact, but holds {kind!r}")
        self.name = self.folder.name
        self._side = self.image_size // 4 * FINER
        self._providers = _providers(device)
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        self._tokenizer: Any = None

    def encode_images(self, images: list[np.ndarray]) -> list[CompactFeatures]:
        """uint8 [H, W, 3] pictures of any sizes -> features; each is squashed to the model's square."""
        if not images:
            return []
        size = self.image_size
        batch = np.empty((len(images), size, size, 3), np.uint8)
        for i, image in enumerate(images):
            shrinks = image.shape[0] >= size and image.shape[1] >= size
            cv2.resize(
                image,
                (size, size),
                dst=batch[i],
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            )
        tokens, map8, map4 = self._run("image", {"images": batch})
        guides = [make_guide(picture, self._side) for picture in batch]
        return [CompactFeatures(*parts) for parts in zip(tokens, map8, map4, guides, strict=True)]

    def decode(
        self, features: list[CompactFeatures], instructions: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """B features and B instructions -> logits float32 [B, h, w] and found probability float32 [B].

        h and w are three quarters of the model's square: what the decoder answers at a quarter is shifted
        (`shift_logits`) and takes over the picture's edges (`guided_filter`).
        """
        if not features and not instructions:
            return np.zeros((0, self._side, self._side), np.float32), np.zeros(0, np.float32)
        return self.finish(*self.answer(features, instructions), [one.guide for one in features])

    def finish(
        self, logits_Bhw: np.ndarray, found_B: np.ndarray, guides: list[Guide]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `answer` gives, and a guide of each picture -> what `decode` gives."""
        shifted = shift_logits(logits_Bhw, self.logit_slope, self.logit_middle)
        logits = np.stack([guided_filter(one, guide) for one, guide in zip(shifted, guides, strict=True)])
        calibrated = np.clip(self.found_scale * found_B + self.found_shift, -30.0, 30.0)
        return logits, (1.0 / (1.0 + np.exp(-calibrated))).astype(np.float32)

    def answer(
        self, features: list[CompactFeatures], instructions: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the decoder itself answers, at least one pair: logits float32 [B, h, w] and found logits [B].

        h and w are a quarter of the model's square.
        """
        if len(features) != len(instructions):
            raise OptionError(
                f"there must be as many features as instructions, but there are {len(features)} and "
                f"{len(instructions)}"
            )
        text, mask = self.encode_text(instructions)
        logits, found = self._run(
            "decoder",
            {
                "tokens": np.stack([f.tokens for f in features]),
                "map8": np.stack([f.map8 for f in features]),
                "map4": np.stack([f.map4 for f in features]),
                "text": text,
                "mask": mask,
            },
        )
        return logits, found

    def encode_text(self, instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """B instructions -> the frozen text encoder's tokens float32 [B, T, D], and int64 mask [B, T]."""
        if self._tokenizer is None:
            from tokenizers import Tokenizer

            try:
                self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            except Exception as error:
                raise CheckpointError(f"{self.folder / 'tokenizer.json'} is damaged: {error}") from error
        distinct = {text: i for i, text in enumerate(dict.fromkeys(instructions))}  # tiles ask the same again
        encoded = self._tokenizer.encode_batch(list(distinct))
        ids = np.array([e.ids for e in encoded], np.int64)
        mask = np.array([e.attention_mask for e in encoded], np.int64)
        (text,) = self._run("text", {"ids": ids, "mask": mask})
        rows = [distinct[instruction] for instruction in instructions]
        return text[rows], mask[rows]

    def _run(self, name: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with _denormals_as_zero():
            return self._session(name).run(None, inputs)

    def _session(self, name: str) -> Any:
        """Sessions open on first use: `encode_image` alone needs no text graph."""
        if name not in self._sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            if _fenv() is not None:
                options.add_session_config_entry("session.set_denormal_as_zero", "1")
            if self._threads is not None:
                options.intra_op_num_threads = self._threads
            file = self.folder / f"{name}.onnx"
            try:
                self._sessions[name] = onnxruntime.InferenceSession(
                    str(file), options, providers=self._providers
                )
            except Exception as error:
                raise CheckpointError(f"{file} cannot be loaded: {error}") from error
        return self._sessions[name]


def shift_logits(logits_BHW: np.ndarray, slope: float, middle: float) -> np.ndarray:
    """Each heatmap's logits plus slope * (middle - the highest of them); slope 0 leaves them as they are.

    Where the model is unsure of what it points at, all is faint, and what is meant would fall below the
    threshold that suits a sure answer. What is hotter than what stays. Ours.
    """
    hottest = logits_BHW.max(axis=(1, 2), keepdims=True)
    return logits_BHW + np.float32(slope) * (np.float32(middle) - hottest)


@cache
def _fenv() -> tuple[Callable[[Any], int], Callable[[Any], int]] | None:
    """C's fegetenv and fesetenv where denormals cost time and fenv_t is known: x86-64 with glibc."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return None
    try:
        library = ctypes.CDLL(None)  # what the process has loaded; numpy brings the mathematical library
        library.gnu_get_libc_version  # noqa: B018
        return library.fegetenv, library.fesetenv
    except (OSError, AttributeError, TypeError):
        return None


@contextmanager
def _denormals_as_zero() -> Iterator[None]:
    """Numbers below 1e-38 count as 0 in this thread, and afterwards as before.

    The softmax of sure attention ends in such numbers, for which x86 processors take long. ONNX Runtime's own
    option sees to its pool of threads; it would also change the caller's thread for good.
    """
    functions = _fenv()
    if functions is None:
        yield
        return
    get, set_ = functions
    before = (ctypes.c_uint32 * 8)()  # fenv_t: seven words of the x87 unit, then MXCSR
    get(before)
    within = (ctypes.c_uint32 * 8)(*before)
    within[7] |= 0x8040  # flush to zero, denormals are zero
    set_(within)
    try:
        yield
    finally:
        set_(before)


def _providers(device: str) -> list[str]:
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"device must be auto, cpu or cuda, but got {device!r}")
    if device == "cpu":
        return ["CPUExecutionProvider"]
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if device == "cuda":
        raise ModelError(
            "device cuda needs ONNX Runtime with CUDA: "
            "run  pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    return ["CPUExecutionProvider"]
