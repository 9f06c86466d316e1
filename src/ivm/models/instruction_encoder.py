"""The instruction encoder: an LMM reads image and instruction; one hidden state is what both mean.

One backbone (LLaVA-1.5, Qwen3-VL or SmolVLM) carries named LoRA adapters, `generator` and `discriminator`,
which are switched, never copied. An adapter changes how image tokens are read, too, so the keys and values of
the image, which come first in the sequence, are kept for each image and adapter, not for each instruction.

Sequences are padded on the right. Attention is causal, so what stands before the padding does not see it, no
attention mask is needed, and every attention kernel serves.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import DynamicCache

from ivm.errors import InstructionError, ModelError
from ivm.models.image_encoder import normalise, squash
from ivm.models.lmm_families import FAMILIES

__all__ = ["Adapter", "InstructionEncoder", "InstructionTokens", "Prefix", "Projection", "Tokenized"]


class Prefix(NamedTuple):
    """What an LMM keeps of an image: of each layer keys and values, float [B, heads, P, d] each."""

    layers: tuple[tuple[Tensor, Tensor], ...]

    def select(self, index: Any) -> Prefix:
        """Of some images of the batch."""
        return Prefix(tuple((keys[index], values[index]) for keys, values in self.layers))

    def expand(self, count: int) -> Prefix:
        """A batch of one as a batch of many, without copies."""
        return Prefix(
            tuple((k.expand(count, -1, -1, -1), v.expand(count, -1, -1, -1)) for k, v in self.layers)
        )

    def clone(self) -> Prefix:
        """A copy that keeps nothing else alive."""
        return Prefix(tuple((keys.clone(), values.clone()) for keys, values in self.layers))

    @classmethod
    def join(cls, parts: Sequence[Prefix]) -> Prefix:
        """One batch of several."""
        layers = zip(*(part.layers for part in parts), strict=True)
        return cls(
            tuple((torch.cat([k for k, _ in same]), torch.cat([v for _, v in same])) for same in layers)
        )


class Tokenized(NamedTuple):
    """Q instructions, after the image: int64 ids [Q, T], padded on the right, and lengths [Q]."""

    ids: Tensor
    lengths: Tensor


class InstructionTokens:
    """From instructions to token ids, by an LMM's own tokenizer; pickles, so loaders' processes can hold it.

    Args:
        tokenizer: of transformers.
        config: of the LMM.
        template: what the LMM reads, with {image} and {instruction}.
        question: what follows the instruction for the discriminator.
        side: of the square picture that the LMM sees.

    Attributes:
        prefix: int64 [P]: the ids up to the last image token, equal for all instructions.

    Raises:
        ModelError: the tokenizer lacks the LMM's image token, or the template its place.
    """

    def __init__(self, tokenizer: Any, config: Any, template: str, question: str, side: int) -> None:
        family = FAMILIES[config.model_type]
        self.image_id = int(config.image_token_id)
        found = tokenizer.convert_tokens_to_ids(family.image_token)
        if found != self.image_id:
            raise ModelError(
                f"the LMM must have the image token {family.image_token} with id {self.image_id}, but its "
                + ("tokenizer has none" if found is None else f"tokenizer gives it the id {found}")
                + ": is it that of a text model?"
            )
        if template.count("{image}") != 1 or template.count("{instruction}") != 1:
            raise ModelError(f"a template must have {{image}} and {{instruction}} once, but is {template!r}")
        if template.index("{image}") > template.index("{instruction}"):
            raise ModelError(f"a template must have {{image}} before {{instruction}}, but is {template!r}")
        self.tokenizer, self.question = tokenizer, question
        self.longest = int(config.get_text_config().max_position_embeddings)
        self._template = template.replace("{image}", family.image_text(config, side))
        self._signs = sorted(
            {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        )
        ids = tokenizer(self._template.replace("{instruction}", "a"))["input_ids"]
        places = [place for place, one in enumerate(ids) if one == self.image_id]
        expected = family.image_tokens(config, side)
        if len(places) != expected:
            raise ModelError(
                f"the LMM takes {expected} image tokens of a picture, but its tokenizer makes {len(places)}"
            )
        self.prefix = torch.tensor(ids[: places[-1] + 1], device="cpu")  # even where a model is built on meta
        pad = tokenizer.pad_token_id
        self._pad = 0 if pad is None or pad == self.image_id else int(pad)

    def __call__(self, instructions: Sequence[str], asks: bool = False) -> Tokenized:
        """The ids that follow the image.

        Args:
            instructions: texts.
            asks: whether the discriminator's question follows each.

        Raises:
            InstructionError: one is longer than the LMM's context, or has one of its control signs.
        """
        rows = []
        for text in instructions:
            if signs := [sign for sign in self._signs if sign in text]:
                raise InstructionError(
                    f"the instruction must not contain {signs[0]}, which is a control sign of this LMM"
                )
            asked = text + self.question if asks else text
            ids = self.tokenizer(self._template.replace("{instruction}", asked), verbose=False)["input_ids"]
            if len(ids) > self.longest:
                raise InstructionError(
                    f"the instruction {text[:40]!r}... must fit into the LMM's context of {self.longest} "
                    f"tokens with the {len(self.prefix)} of image and template, but makes {len(ids)}"
                )
            rows.append(ids[len(self.prefix) :])
        lengths = torch.tensor([len(row) for row in rows])
        width = int(lengths.max()) if rows else 0
        padded = [row + [self._pad] * (width - len(row)) for row in rows]
        return Tokenized(torch.tensor(padded, dtype=torch.long).reshape(len(rows), width), lengths)


class Projection(nn.Module):
    """Two linear layers with GELU between them; names as in the reference code."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., out], in the precision of its weights."""
        y: Tensor = self.fc2(nn.functional.gelu(self.fc1(x.to(self.fc1.weight.dtype))))
        return y


class Adapter(nn.Module):
    """The parameters of one LoRA adapter, as a module of its own: to train, save and count them apart.

    It holds the very modules that sit in the backbone's layers, not copies.
    """

    def __init__(self, backbone: nn.Module, name: str) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        for path, layer in backbone.named_modules():
            if isinstance(layer, LoraLayer) and name in layer.lora_A:
                parts = {"lora_A": layer.lora_A[name], "lora_B": layer.lora_B[name]}
                # The dropout comes along, so that train() and eval() of this adapter reach no other.
                self.layers[path.replace(".", "/")] = nn.ModuleDict(
                    parts | {"dropout": layer.lora_dropout[name]}
                )


class InstructionEncoder(nn.Module):
    """An LMM with adapters, and the projection of its hidden state to the decoder's width.

    Args:
        backbone: transformers' LlavaModel, Qwen3VLModel or SmolVLMModel.
        tokens: of the same LMM.
        side: of the square picture that it sees.
        dim: width of the conditions.
        hidden: width inside of the projection.
        rank, alpha, dropout: of the LoRA adapters.
        targets: last names of the linear layers of the language model that have LoRA.
        position: of the token that is read, from the end: -2 as published, -1 for the last one.

    Raises:
        ModelError: the backbone is of another kind, or has no such layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tokens: InstructionTokens,
        side: int,
        dim: int = 256,
        hidden: int = 2048,
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.05,
        targets: Sequence[str] = ("q_proj", "v_proj"),
        position: int = -2,
    ) -> None:
        super().__init__()
        config: Any = backbone.config
        self.config = config
        self.family = FAMILIES[config.model_type]
        self.backbone = backbone.requires_grad_(False)
        self.tokens, self.side, self.position = tokens, side, position
        self.width = int(config.get_text_config().hidden_size)
        self.text_proj = Projection(self.width, hidden, dim)
        self._lora: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "lora_dropout": dropout}
        self._targets = tuple(targets)
        self.active = ""

    def add_adapter(self, name: str) -> Adapter:
        """Put a new LoRA adapter into the language model, or give back the one that is there.

        Raises:
            ModelError: the language model has no layers of the targets' names.
        """
        if name not in self.adapters():
            ends = "|".join(self._targets)
            where = rf"{self.family.language}\.(.*\.)?({ends})"
            others = [Adapter(self.backbone, other) for other in self.adapters()]
            before = [(value, value.requires_grad) for one in others for value in one.parameters()]
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings(
                        "ignore", message="Already found a `peft_config`"
                    )  # that is meant
                    inject_adapter_in_model(
                        LoraConfig(target_modules=where, **self._lora), self.backbone, adapter_name=name
                    )
            except ValueError as error:
                raise ModelError(f"the LMM's language model has no layers called {ends}: {error}") from error
            for value, trained in before:  # peft lets the newest alone be trained
                value.requires_grad_(trained)
            self.active = name
        return Adapter(self.backbone, name)

    def adapters(self) -> list[str]:
        """Names of the adapters that are there."""
        for layer in self.backbone.modules():
            if isinstance(layer, LoraLayer):
                return list(layer.lora_A)
        return []

    def use(self, name: str) -> None:
        """Let the backbone compute with an adapter. No weight moves, and what is trained stays so."""
        if name == self.active:
            return
        if name not in self.adapters():
            raise ModelError(
                f"the LMM has no adapter {name!r}: it has {', '.join(self.adapters()) or 'none'}"
            )
        for layer in self.backbone.modules():
            if isinstance(layer, LoraLayer):
                layer._active_adapter = [name]  # set_adapter would freeze the others, too
        self.active = name

    def forward(self, pixels_B3SS: Tensor, given: Tokenized, adapter: str, position: int) -> Tensor:
        """Hidden states float [Q, width] of whole sequences, image by image; what training computes.

        Args:
            pixels_B3SS: uint8 squares of any side, as many as instructions.
            given: instructions.
            adapter: which one reads.
            position: of the token that is read, from the end of each sequence.
        """
        self.use(adapter)
        prefix = self.tokens.prefix.to(given.ids.device).expand(len(given.ids), -1)
        hidden = self._read(pixels_B3SS, torch.cat([prefix, given.ids], dim=1), None)
        return _pick(hidden, prefix.shape[1] + given.lengths, position)

    def encode_images(self, pixels_B3SS: Tensor, adapter: str) -> Prefix:
        """Read images alone: what `encode_instructions` goes on from.

        Args:
            pixels_B3SS: uint8 squares of any side.
            adapter: which one reads.
        """
        self.use(adapter)
        cache = DynamicCache(config=self.config)
        ids = self.tokens.prefix.to(pixels_B3SS.device).expand(len(pixels_B3SS), -1)
        self._read(pixels_B3SS, ids, cache)
        return Prefix(tuple((layer[0], layer[1]) for layer in cache))

    def encode_instructions(self, prefix: Prefix, given: Tokenized, adapter: str, position: int) -> Tensor:
        """As `forward`, from prefixes: one an instruction."""
        self.use(adapter)
        # A list of its own: the cache grows in place of what it is given, not in the prefix.
        cache = DynamicCache(ddp_cache_data=[(keys, values) for keys, values in prefix.layers])
        positions = self.family.positions(self.config, self.tokens.prefix, self.side, given.ids.shape[1])
        start = len(self.tokens.prefix)
        language: Any = self.backbone.get_submodule(self.family.language)
        answer = language(
            inputs_embeds=language.get_input_embeddings()(given.ids),
            position_ids=_at(positions[..., start:], given.ids),
            past_key_values=cache,
            use_cache=True,
        )
        return _pick(answer.last_hidden_state, given.lengths, position)

    def _read(self, pixels: Tensor, ids: Tensor, cache: DynamicCache | None) -> Tensor:
        """Hidden states [B, T, width] of sequences that begin with the image."""
        backbone: Any = self.backbone
        squares = squash(pixels, self.side, pixels.device)
        seen = self.family.pixels(self.config, normalise(squares, *self.family.normal, dtype=backbone.dtype))
        after = ids.shape[1] - len(self.tokens.prefix)
        positions = self.family.positions(self.config, self.tokens.prefix, self.side, after)
        answer = backbone(
            input_ids=ids,
            position_ids=_at(positions, ids),
            past_key_values=cache,
            use_cache=cache is not None,
            **seen,
        )
        hidden: Tensor = answer.last_hidden_state
        return hidden


def _at(positions: Tensor, ids: Tensor) -> Tensor:
    """Positions [T] or [3, T], for a batch: [B, T] or [3, B, T]."""
    return positions.to(ids.device).unsqueeze(-2).expand(*positions.shape[:-1], len(ids), -1)


def _pick(hidden_QTD: Tensor, lengths: Tensor, position: int) -> Tensor:
    places = lengths.to(hidden_QTD.device) + position
    return hidden_QTD[torch.arange(len(places), device=hidden_QTD.device), places]
