import pytest

torch = pytest.importorskip("torch")

from ivm.errors import OptionError  # noqa: E402
from ivm.models.compact_discriminator import (  # noqa: E402
    CompactDiscriminator,
    CompactDiscriminatorConfig,
)


@pytest.fixture
def pair():
    ids = torch.randint(4, 12, (2, 5))
    mask = torch.ones(2, 5, dtype=torch.bool)
    whole = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    return whole, ids, mask


@pytest.mark.parametrize("context", [True, False])
def test_the_score_changes_with_the_mask_and_with_the_instruction(tiny_discriminator, pair, context):
    judge = tiny_discriminator(context).eval()
    whole, ids, mask = pair
    masked = whole.clone()
    masked[:, :, :, 32:] = 255
    with torch.no_grad():
        scores = judge(masked, whole, ids, mask)
        other_mask = judge(torch.flip(masked, dims=[3]), whole, ids, mask)
        other_words = judge(masked, whole, torch.flip(ids, dims=[0]) + 1, mask)
        other_whole = judge(masked, torch.flip(whole, dims=[2]), ids, mask)
    assert scores.shape == (2,)
    assert not torch.allclose(scores, other_mask, atol=1e-6)
    assert not torch.allclose(scores, other_words, atol=1e-6)
    assert torch.allclose(scores, other_whole) != context  # looked at only with context


@torch.no_grad()
def test_padding_changes_nothing(tiny_discriminator, pair):
    judge = tiny_discriminator(True).eval()
    whole, ids, mask = pair
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    longer = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(judge(whole, whole, ids, mask), judge(whole, whole, padded, longer))


def test_config_survives_json_and_refuses_wrong_sizes():
    config = CompactDiscriminatorConfig(dim=64, heads=4, context=False)
    assert CompactDiscriminatorConfig(**config.to_dict()) == config
    with pytest.raises(OptionError, match="multiple of heads"):
        CompactDiscriminatorConfig(dim=50, heads=4)


def test_the_frozen_text_encoder_is_not_among_the_weights(tiny_discriminator):
    judge = tiny_discriminator(True)
    assert isinstance(judge, CompactDiscriminator)
    assert not any("words" in key for key in judge.state_dict())
    assert not any(p.requires_grad for p in judge.text_encoder.parameters())
