"""The full-size model, composed: image encoder, instruction encoder, mask decoder.

    pixels --SAM (frozen)--> features ------------------\
    pixels, instruction --LMM + LoRA--> condition --> mask decoder --> logits

A transformers model: `save_pretrained`, `from_pretrained` and `push_to_hub` are those of transformers, except
that the two base models are not written again (`save_pretrained(folder, whole=True)` does that) but named in
config.json with their revisions, and fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from ivm.errors import ModelError, OptionError
from ivm.models.image_encoder import ImageEncoder
from ivm.models.instruction_encoder import Adapter, InstructionEncoder, InstructionTokens, Prefix, Tokenized
from ivm.models.lmm_families import FAMILIES
from ivm.models.mask_decoder import MaskDecoder
from ivm.models.pretrained import quiet

__all__ = ["IVMConfig", "IVMModel"]


class IVMConfig(PretrainedConfig):
    """What a full-size model is made of.

    Args:
        image_encoder: configuration of a SAM vision encoder or a SAM 2 vision model, as a dict with its
            model_type.
        lmm: configuration of the LMM, as a dict with its model_type.
        image_base: hub id or folder that the image encoder comes from.
        image_revision: its commit or branch.
        lmm_base: hub id or folder that the LMM comes from.
        lmm_revision: its commit or branch.
        template: what the LMM reads; empty: as its family does (`ivm.models.lmm_families`).
        question: what the discriminator is asked; empty: as the family does.
        position: token whose hidden state is the condition, from the end; 0: as its family does.
        lmm_side: side of the square that the LMM sees; 0: as its family does.
        lora_rank: of every adapter.
        lora_alpha: its outputs are scaled by this over the rank.
        lora_dropout: before it, while it is trained.
        lora_targets: last names of the language model's layers that have it.
        projection_dim: width inside of the projection of the condition.
        decoder_depth: two-way blocks of the mask decoder, whose width is the features'.
        decoder_heads: its attention heads.
        decoder_mlp_dim: width inside of its MLPs.
        discriminator_dim: width inside of the discriminator's head.
        upsampled: side that logits are brought to before they go to the image's size; 0: their own. The
            reference goes by way of 1024.
        threshold: default of heatmaps, in [0, 1]; a target is found where the heatmap reaches it.
        whole: whether the base models' weights are in the same folder.
    """

    model_type = "ivm"

    def __init__(
        self,
        image_encoder: dict[str, Any] | None = None,
        lmm: dict[str, Any] | None = None,
        image_base: str = "",
        image_revision: str = "main",
        lmm_base: str = "",
        lmm_revision: str = "main",
        template: str = "",
        question: str = "",
        position: int = 0,
        lmm_side: int = 0,
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_dropout: float = 0.05,
        lora_targets: Sequence[str] = ("q_proj", "v_proj"),
        projection_dim: int = 2048,
        decoder_depth: int = 2,
        decoder_heads: int = 8,
        decoder_mlp_dim: int = 2048,
        discriminator_dim: int = 1024,
        upsampled: int = 0,
        threshold: float = 0.5,
        whole: bool = False,
        **kwargs: Any,
    ) -> None:
        self.image_encoder = image_encoder
        self.lmm = lmm
        self.image_base, self.image_revision = image_base, image_revision
        self.lmm_base, self.lmm_revision = lmm_base, lmm_revision
        self.template, self.question = template, question
        self.position, self.lmm_side = position, lmm_side
        self.lora_rank, self.lora_alpha, self.lora_dropout = lora_rank, lora_alpha, lora_dropout
        self.lora_targets = list(lora_targets)
        self.projection_dim = projection_dim
        self.decoder_depth, self.decoder_heads = decoder_depth, decoder_heads
        self.decoder_mlp_dim = decoder_mlp_dim
        self.discriminator_dim = discriminator_dim
        self.upsampled, self.threshold, self.whole = upsampled, threshold, whole
        super().__init__(**kwargs)

    def parts(self) -> tuple[Any, Any]:
        """Configurations of image encoder and LMM as transformers' own classes.

        Raises:
            ModelError: one is missing, or of a kind that is not known here.
        """
        if not self.image_encoder or not self.lmm:
            raise ModelError("an IVMConfig must have image_encoder and lmm to build a model, but lacks them")
        return _config_of(self.image_encoder), _config_of(self.lmm)


def _config_of(values: dict[str, Any]) -> Any:
    plain = dict(values)
    try:
        return AutoConfig.for_model(plain.pop("model_type"), **plain)
    except (KeyError, ValueError) as error:
        raise ModelError(f"transformers knows no model of this configuration: {error}") from error


class IVMModel(PreTrainedModel):
    """The generator: pictures and instructions to logits.

    Args:
        config: of all parts.
        tokenizer: of the LMM; None where no text is read, as on the meta device.
        image_backbone: loaded image encoder; None: a new one by the configuration.
        lmm_backbone: loaded LMM, likewise.

    Attributes:
        image_encoder: frozen.
        instruction_encoder: the LMM with its adapters, and the projection.
        mask_decoder: joins both.

    Raises:
        ModelError: the parts do not fit each other.
    """

    config_class = IVMConfig
    base_model_prefix = "ivm"
    main_input_name = "pixels"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SamVisionLayer", "Sam2MultiScaleBlock", "MaskDecoder"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(
        self,
        config: IVMConfig,
        tokenizer: Any = None,
        image_backbone: nn.Module | None = None,
        lmm_backbone: nn.Module | None = None,
    ) -> None:
        super().__init__(config)
        image_config, lmm_config = config.parts()
        if lmm_config.model_type not in FAMILIES:
            raise ModelError(
                f"the LMM must be one of {', '.join(FAMILIES)}, but is {lmm_config.model_type}: it cannot "
                "read pictures, or not in a way that is known here"
            )
        family = FAMILIES[lmm_config.model_type]
        if image_backbone is None:
            image_backbone = _new(image_config, _IMAGE_CLASSES[image_config.model_type], config)
        if lmm_backbone is None:
            lmm_backbone = _new(lmm_config, family.model, config)
        side = config.lmm_side or family.side(lmm_config)
        self.image_encoder = ImageEncoder(image_backbone)
        dim = self.image_encoder.channels
        tokens = tokenizer and InstructionTokens(
            tokenizer,
            lmm_config,
            config.template or family.template,
            config.question or family.question,
            side,
        )
        self.instruction_encoder = InstructionEncoder(
            lmm_backbone,
            tokens,
            side,
            dim=dim,
            hidden=config.projection_dim,
            rank=config.lora_rank,
            alpha=config.lora_alpha,
            dropout=config.lora_dropout,
            targets=config.lora_targets,
            position=config.position or family.position,
        )
        self.instruction_encoder.add_adapter("generator")
        self.mask_decoder = MaskDecoder(
            dim, config.decoder_depth, config.decoder_heads, config.decoder_mlp_dim
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """New weights stay as each part made them."""

    def train(self, mode: bool = True) -> IVMModel:
        """As of any module, but for other adapters in the LMM: a discriminator that is asked for weights
        while this model is trained answers without its dropout."""
        encoder = self.instruction_encoder
        others = [Adapter(encoder.backbone, name) for name in encoder.adapters() if name != "generator"]
        before = [(part, part.training) for other in others for part in other.modules()]
        super().train(mode)
        for part, was in before:
            part.training = was
        return self

    @property
    def pixel_side(self) -> int:
        """Side of the square that pictures are squashed to."""
        return self.image_encoder.side

    def trained_names(self) -> list[str]:
        """Names of what is trained, and of the one buffer that goes with it: 16,615,040 values for ivm-v1."""
        backbones = ("image_encoder.backbone.", "instruction_encoder.backbone.")
        return [
            name
            for name in self.state_dict()
            if not name.startswith(backbones) or (".lora_" in name and ".generator." in name)
        ]

    def forward(self, pixels: Tensor, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Logits float32 [Q, h, w] of heatmaps, and found logits float32 [Q].

        The found logit is the largest of the heatmap: the reference, too, takes a target for absent where no
        pixel reaches the threshold.

        Args:
            pixels: uint8 [Q, 3, S, S], squashed (`ivm.models.image_encoder.squash`), S = `pixel_side`.
            ids: of `InstructionTokens`, [Q, T].
            lengths: of the same, [Q].
        """
        encoder = self.instruction_encoder
        hidden = encoder(pixels, Tokenized(ids, lengths), "generator", encoder.position)
        return self.decode(self.image_encoder(pixels), encoder.text_proj(hidden))

    def decode(self, features: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, from features [Q, D, h, w] and conditions [Q, D]."""
        logits = self.mask_decoder(features, condition).float()
        return logits, logits.flatten(1).amax(dim=1)

    def conditions(self, prefix: Prefix, given: Tokenized) -> Tensor:
        """Conditions float [Q, D] of instructions, from the prefixes of their images: one each."""
        encoder = self.instruction_encoder
        projected: Tensor = encoder.text_proj(
            encoder.encode_instructions(prefix, given, "generator", encoder.position)
        )
        return projected

    def upsample(self, logits: Tensor) -> Tensor:
        """The first of the reference's two bilinear steps (align_corners false), where there are two."""
        if not self.config.upsampled:
            return logits
        size = (self.config.upsampled, self.config.upsampled)
        return nn.functional.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    def save_pretrained(self, save_directory: Any, *args: Any, whole: bool = False, **kwargs: Any) -> None:
        """As transformers' own, but for what is written: the trained parts alone, unless `whole`.

        Raises:
            OptionError: the base models are not named in the configuration, so they must be written, too.
        """
        if not whole and not (self.config.image_base and self.config.lmm_base):
            raise OptionError(
                "the configuration names no image_base and lmm_base that the rest could be fetched from: "
                "save with whole=True"
            )
        before, self.config.whole = self.config.whole, whole
        state = kwargs.pop("state_dict", None) or self.state_dict()
        kept = set(state) if whole else set(self.trained_names())
        kept = {name for name in kept if ".discriminator." not in name}
        # Copies: parameters of a base may share memory, which safetensors refuses.
        given = {name: value.detach().contiguous() for name, value in state.items() if name in kept}
        # In its original format, names of the bases' publishers would creep in.
        kwargs |= {"state_dict": given, "save_original_format": False}
        try:
            with quiet():
                super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.whole = before
        if self.instruction_encoder.tokens is not None:
            self.instruction_encoder.tokens.tokenizer.save_pretrained(save_directory)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As transformers' own; the base models that a folder only names are fetched, or read from its cache.

        Args:
            pretrained_model_name_or_path: folder, or hub id.
            kwargs: as transformers has them: revision, dtype, device_map, quantization_config,
                attn_implementation, local_files_only, ...; see `ivm.models.checkpoint.load_model`.

        Raises:
            CheckpointError: weights are missing, superfluous or of another shape.
            ModelError: a base model cannot be had.
        """
        from ivm.models.checkpoint import load_model

        return load_model(cls, pretrained_model_name_or_path, *args, **kwargs)


_IMAGE_CLASSES = {"sam_vision_model": "SamVisionEncoder", "sam2_vision_model": "Sam2VisionModel"}


def _new(part_config: Any, name: str, config: IVMConfig) -> nn.Module:
    """A base model with new weights, in float32 or the precision that torch is set to."""
    import transformers
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    made = {"SamVisionEncoder": SamVisionEncoder}.get(name) or getattr(transformers, name)
    wish = config._attn_implementation
    backbone: nn.Module = made._from_config(part_config, **({"attn_implementation": wish} if wish else {}))
    return backbone
