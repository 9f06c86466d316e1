"""CLIPSeg (Lüddecke and Ecker, CVPR 2022, arXiv 2112.10003), by transformers: a soft heatmap for a phrase."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ivm.models.pretrained import Runner, open_image_processor, open_model, open_tokenizer

__all__ = ["ClipSeg"]


class ClipSeg:
    """A zero-shot masker for short phrases: "a red cup", "the dog's ear". A `Backend`.

    It was trained on phrases that name what is to be seen. A command ("pick up the cup") works as far as the
    noun in it does, a question hardly. It gives one soft heatmap and does not tell instances apart.

    The text goes to it as it is. Its score is the heatmap's highest value: the model has no opinion of its
    own on whether a target is there, and often lights up on something when it is not.

    Args:
        folder: a CLIPSegForImageSegmentation with tokenizer and image processor, as `save_pretrained` writes.
        device: "auto", "cpu" or "cuda".
        threads: CPU threads; None: torch's own number.
        dtype: "auto" (float32), "float32", "bfloat16" or "float16".

    Attributes:
        name: the folder's name.
        threshold: 0.3, lower than a half because CLIPSeg is seldom sure (ours, by the example of its paper).
        found_threshold: the same.

    Raises:
        ModelError: there are no weights, or no such device.
        CheckpointError: the files are damaged, or do not fit each other.
        OptionError: unknown dtype.
        MissingExtraError: torch or transformers is not installed.
    """

    def __init__(
        self, folder: Path, device: str = "auto", threads: int | None = None, dtype: str = "auto"
    ) -> None:
        self._run = Runner(device, threads, dtype)
        from transformers import CLIPSegForImageSegmentation

        self.name = Path(folder).name
        self.threshold = self.found_threshold = 0.3
        self._model = open_model(CLIPSegForImageSegmentation, Path(folder), self._run)
        config = self._model.config
        self._tokenize = open_tokenizer(Path(folder), config.text_config.max_position_embeddings)
        self._process = open_image_processor(Path(folder))
        self._layers = [layer + 1 for layer in config.extract_layers]  # entry 0 is what goes into layer 0

    def encode_images(self, images: list[np.ndarray]) -> list[Any]:
        """uint8 [H, W, 3] of any sizes -> the activations that the decoder reads, [layers, T, D] each."""
        if not images:
            return []
        import torch

        with self._run():
            pixels = self._process(images=images, return_tensors="pt")["pixel_values"]
            answer = self._model.clip.vision_model(
                pixel_values=pixels.to(self._run.device, self._run.dtype), output_hidden_states=True
            )
            layers = torch.stack([answer.hidden_states[layer] for layer in self._layers], dim=1)
            return [one.clone() for one in layers]  # a view would keep its whole batch in memory

    def decode(self, features: list[Any], instructions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Logits float32 [B, side, side] over the whole image each, and the highest probability [B].

        Raises:
            InstructionError: an instruction is longer than the text encoder reads (77 tokens as published).
        """
        import torch

        if not features:
            return np.zeros((0, 1, 1), np.float32), np.zeros(0, np.float32)
        distinct = {text: i for i, text in enumerate(dict.fromkeys(instructions))}
        tokens = {name: ids.to(self._run.device) for name, ids in self._tokenize(list(distinct)).items()}
        with self._run():
            texts = self._model.clip.get_text_features(
                input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
            ).pooler_output
            layers = torch.stack(features, dim=1)
            rows = [distinct[text] for text in instructions]
            logits = self._model.decoder(tuple(layers), texts[rows]).logits.float()
            found = logits.amax(dim=(1, 2)).sigmoid()
            return logits.cpu().numpy(), found.cpu().numpy()
