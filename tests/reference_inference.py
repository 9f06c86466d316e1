"""The reference inference in float64, step by step as the paper's model is described, by numpy.

The two base models are black boxes of transformers in float64, fed one sample at a time without padding or
caches; all else is written out. Weights come by the names of the reference's state dict.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711])
LORA = (
    "prompt_encoder.model.base_model.model.language_model.model.layers.{}.self_attn.{}.lora_{}.default.weight"
)


def layer_norm(x, weight, bias, eps):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * weight + bias


def gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


class Decoder:
    """SAM's two-way transformer over [mask token, condition token] and the image, and what follows it."""

    def __init__(self, state, heads):
        self.state = {name: np.asarray(value, np.float64) for name, value in state.items()}
        self.heads = heads

    def linear(self, name, x):
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name, x, eps=1e-5):
        return layer_norm(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def attention(self, name, q, k, v):
        q, k, v = (self.linear(f"{name}.{part}_proj", x) for part, x in (("q", q), ("k", k), ("v", v)))
        width = q.shape[1] // self.heads
        heads = []
        for h in range(self.heads):
            part = slice(h * width, (h + 1) * width)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width)
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            heads.append(scores / scores.sum(axis=1, keepdims=True) @ v[:, part])
        return self.linear(f"{name}.out_proj", np.concatenate(heads, axis=1))

    def positions(self, rows, columns):
        matrix = self.state["mask_decoder.pe_layer.positional_encoding_gaussian_matrix"]
        x, y = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
        waves = 2 * math.pi * ((2 * np.stack([x, y], axis=-1) - 1) @ matrix)
        return np.concatenate([np.sin(waves), np.cos(waves)], axis=-1).reshape(rows * columns, -1)

    def upscale(self, name, x_DHW):
        """A transposed convolution with kernel and stride 2: every cell becomes four."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        _, height, width = x_DHW.shape
        y = np.einsum("chw,cdij->dhiwj", x_DHW, weight).reshape(weight.shape[1], 2 * height, 2 * width)
        return y + bias[:, None, None]

    def __call__(self, features_DHW, condition_D):
        depth, rows, columns = features_DHW.shape
        transformer = "mask_decoder.transformer"
        prompt = np.stack([self.state["mask_decoder.mask_tokens.weight"][0], condition_D])
        keys, queries = features_DHW.reshape(depth, -1).T, prompt
        place = self.positions(rows, columns)
        for i in range(2):
            block = f"{transformer}.layers.{i}"
            if i == 0:
                queries = self.attention(f"{block}.self_attn", queries, queries, queries)
            else:
                q = queries + prompt
                queries = queries + self.attention(f"{block}.self_attn", q, q, queries)
            queries = self.norm(f"{block}.norm1", queries)
            seen = self.attention(f"{block}.cross_attn_token_to_image", queries + prompt, keys + place, keys)
            queries = self.norm(f"{block}.norm2", queries + seen)
            inner = np.maximum(self.linear(f"{block}.mlp.lin1", queries), 0)
            queries = self.norm(f"{block}.norm3", queries + self.linear(f"{block}.mlp.lin2", inner))
            seen = self.attention(
                f"{block}.cross_attn_image_to_token", keys + place, queries + prompt, queries
            )
            keys = self.norm(f"{block}.norm4", keys + seen)
        last = f"{transformer}.final_attn_token_to_image"
        queries = queries + self.attention(last, queries + prompt, keys + place, keys)
        queries = self.norm(f"{transformer}.norm_final_attn", queries)
        x = self.upscale("mask_decoder.output_upscaling.0", keys.T.reshape(depth, rows, columns))
        x = self.norm("mask_decoder.output_upscaling.1", x.transpose(1, 2, 0), eps=1e-6).transpose(2, 0, 1)
        x = gelu(self.upscale("mask_decoder.output_upscaling.3", gelu(x)))
        weights = queries[0]
        for i in range(3):
            weights = self.linear(f"mask_decoder.output_hypernetworks_mlps.layers.{i}", weights)
            weights = np.maximum(weights, 0) if i < 2 else weights
        return np.einsum("d,dhw->hw", weights, x)


def bilinear(x_HW, height, width):
    """Without anti-aliasing, align_corners false."""
    for axis, size in ((0, height), (1, width)):
        before = x_HW.shape[axis]
        place = np.maximum((np.arange(size) + 0.5) * before / size - 0.5, 0)
        low = np.minimum(place.astype(int), before - 1)
        high, share = np.minimum(low + 1, before - 1), place - low
        share = share[:, None] if axis == 0 else share[None]
        x_HW = np.take(x_HW, low, axis) * (1 - share) + np.take(x_HW, high, axis) * share
    return x_HW


def heatmap(logits, side, height, width):
    """Two bilinear steps and a sigmoid."""
    return 1 / (1 + np.exp(-bilinear(bilinear(logits, side, side), height, width)))


def condition(state, lmm, tokenizer, square, instruction, rank, alpha):
    """Hidden state at position -2 through the projection; `lmm` is a LlavaForConditionalGeneration, float64.

    LoRA is added to its weights, once and for all.
    """
    import torch

    for number, layer in enumerate(lmm.model.language_model.layers):
        for name in ("q_proj", "v_proj"):
            if (LORA.format(number, name, "A")) in state:
                a, b = (state.pop(LORA.format(number, name, part)).double() for part in "AB")
                with torch.no_grad():
                    getattr(layer.self_attn, name).weight += alpha / rank * (b @ a)
    side, patch = lmm.config.vision_config.image_size, lmm.config.vision_config.patch_size
    prompt = f"USER: {'<image>' * (side // patch) ** 2}\n{instruction} \n ASSISTANT:"
    pixels = np.asarray(Image.fromarray(square).resize((side, side))) / 255
    pixels = torch.from_numpy(((pixels - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)[None])
    with torch.no_grad():
        answer = lmm(
            input_ids=torch.tensor([tokenizer(prompt)["input_ids"]]),
            pixel_values=pixels,
            output_hidden_states=True,
        )
    hidden = answer.hidden_states[-1][0, -2].numpy()
    given = {name: np.asarray(value, np.float64) for name, value in state.items() if "text_proj" in name}
    inner = gelu(
        hidden @ given["prompt_encoder.text_proj.fc1.weight"].T + given["prompt_encoder.text_proj.fc1.bias"]
    )
    return inner @ given["prompt_encoder.text_proj.fc2.weight"].T + given["prompt_encoder.text_proj.fc2.bias"]


def square_of(image, side):
    """Pillow's default resize."""
    return np.asarray(Image.fromarray(image).resize((side, side)))


def sam_features(encoder, square):
    """Features [D, h, w] of a SamVisionEncoder in float64."""
    import torch

    pixels = ((square / 255 - MEAN) / STD).transpose(2, 0, 1)[None]
    with torch.no_grad():
        return encoder(torch.from_numpy(pixels)).last_hidden_state[0].numpy()
