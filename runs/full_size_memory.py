"""How much memory the weights of full-size models take, and what is kept of an image: counted, not measured.

    python runs/full_size_memory.py        the tables of docs/full-size.md

Counted from the sizes in `ivm.models.full_presets`, without a network and without weights. What a call takes
besides, for what lies between the layers, is not in it.
"""

from __future__ import annotations

from torch import nn

from ivm.models.full_presets import FULL_PRESETS, full_preset, lay_out
from ivm.models.lmm_families import FAMILIES

HALF, SINGLE = 2, 4  # bytes of a bfloat16 and of a float32
NF4_BLOCK = 64  # values that share one float32 scale in 4 bits


def memory(config):
    """Bytes of one model: of its weights by precision, and of what is kept of one image in bfloat16."""
    model = lay_out(config)
    backbone = model.instruction_encoder.backbone
    base = {name: value for name, value in backbone.named_parameters() if ".lora_" not in name}
    lmm = sum(value.numel() for value in base.values())
    image = sum(value.numel() for value in model.image_encoder.parameters())
    state = model.state_dict()
    trained = sum(state[name].numel() for name in model.trained_names())
    products = [
        module.weight
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    ]
    inside = sum(weight.numel() for weight in products)
    rows = sum(weight.shape[0] for weight in products)
    rest = HALF * (image + trained + lmm - inside)
    text = backbone.config.get_text_config()
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    family = FAMILIES[backbone.config.model_type]
    tokens = family.image_tokens(backbone.config, model.instruction_encoder.side)
    grid = model.pixel_side // 16
    return {
        "image encoder": image,
        "LMM": lmm,
        "trained": trained,
        "float32": SINGLE * (image + trained + lmm),
        "bfloat16": HALF * (image + trained + lmm),
        "8bit": rest + inside + SINGLE * rows,
        "4bit": rest + inside / 2 + SINGLE * inside / NF4_BLOCK,
        "offload": HALF * (image + trained),
        "tokens": tokens,
        "features": HALF * model.image_encoder.channels * grid**2,
        "prefix": HALF * 2 * text.num_hidden_layers * text.num_key_value_heads * head * tokens,
    }


def tables():
    """Three tables, in Markdown: parameters, weights by precision, and what is kept of an image."""
    found = {name: memory(full_preset(name)) for name in FULL_PRESETS}

    def table(columns, cells):
        head = [f"| preset | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
        return "\n".join(head + [f"| `{name}` | {' | '.join(cells(one))} |" for name, one in found.items()])

    weights = ("float32", "bfloat16", "8bit", "4bit", "offload")
    return "\n\n".join(
        (
            table(
                ("image encoder", "LMM", "trained"),
                lambda one: (
                    f"{one['image encoder'] / 1e6:,.1f} M",
                    f"{one['LMM'] / 1e6:,.1f} M",
                    f"{one['trained']:,}",
                ),
            ),
            table(weights, lambda one: (f"{one[name] / 1e9:.1f} GB" for name in weights)),
            table(
                ("features", "prefix", "image tokens in it"),
                lambda one: (
                    f"{one['features'] / 1e6:.1f} MB",
                    f"{one['prefix'] / 1e6:.1f} MB",
                    f"{one['tokens']}",
                ),
            ),
        )
    )


if __name__ == "__main__":
    print(tables())
