import pytest

torch = pytest.importorskip("torch")

from ivm.errors import CheckpointError, OptionError  # noqa: E402
from ivm.models.compact_discriminator import (  # noqa: E402
    CompactDiscriminator,
    CompactDiscriminatorConfig,
    agreement,
)


@pytest.fixture
def pair():
    torch.manual_seed(3)
    ids = torch.randint(4, 12, (2, 5))
    mask = torch.ones(2, 5, dtype=torch.bool)
    image = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    kept = torch.zeros(2, 16, 16)
    kept[:, :, :8] = 1.0
    return image, kept, ids, mask


@pytest.mark.parametrize("context", [True, False])
@torch.no_grad()
def test_the_score_changes_with_mask_instruction_and_image(tiny_discriminator, pair, context):
    judge = tiny_discriminator(context).eval()
    for value in judge.parameters():  # what is new is so small that differences drown
        value.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    image, kept, ids, mask = pair
    scores = judge(image, kept, ids, mask)
    assert scores.shape == (2,)
    assert not torch.allclose(scores, judge(image, torch.flip(kept, dims=[2]), ids, mask), atol=1e-6)
    assert not torch.allclose(scores, judge(image, kept, torch.flip(ids, dims=[0]) + 1, mask), atol=1e-6)
    hidden = image.clone()
    hidden[:, :, :, 40:] = 0  # well outside of the mask
    assert torch.allclose(scores, judge(hidden, kept, ids, mask), atol=1e-6) != context


@pytest.mark.parametrize("context", [True, False])
@torch.no_grad()
def test_annotations_of_one_picture_are_judged_as_of_copies_of_it(tiny_discriminator, pair, context):
    judge = tiny_discriminator(context).eval()
    image, kept, ids, mask = pair
    which = torch.tensor([1, 1])
    torch.testing.assert_close(
        judge(image, kept, ids, mask, which), judge(image[which], kept, ids, mask), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_padding_changes_nothing(tiny_discriminator, pair):
    judge = tiny_discriminator(True).eval()
    image, kept, ids, mask = pair
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.int64)], dim=1)
    longer = torch.cat([mask, torch.zeros(2, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(judge(image, kept, ids, mask), judge(image, kept, padded, longer))


def test_agreement_is_what_its_figures_say():
    kept = torch.zeros(1, 8, 8)
    kept[0, :4, :4] = 1.0
    logits = torch.where(kept > 0, 10.0, -10.0)
    right = agreement(logits, kept, torch.tensor([2.5]))[0]
    want = torch.tensor([2.0, -2.0, 2.0, -2.0, 1.0, 1.0, 1.0, 0.25, 0.25, 0.5])
    torch.testing.assert_close(right, want, atol=0.02, rtol=0)
    wrong = agreement(torch.flip(logits, dims=[2]), kept, torch.tensor([2.5]))[0]
    assert wrong[:7].tolist() == pytest.approx([-2, -2 / 3, -2, 2, 0, 0, 0], abs=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_and_full_masks_give_finite_figures_and_gradients(value):
    logits = torch.randn(2, 8, 8, requires_grad=True)
    figures = agreement(logits * 40, torch.full((2, 8, 8), value), torch.zeros(2))
    figures.sum().backward()
    assert torch.isfinite(figures).all()
    assert figures.abs().max() <= 3.0
    assert torch.isfinite(logits.grad).all()


def test_config_survives_json_and_refuses_wrong_sizes():
    config = CompactDiscriminatorConfig(dim=64, heads=4, context=False)
    assert CompactDiscriminatorConfig(**config.to_dict()) == config
    with pytest.raises(OptionError, match="multiple of heads"):
        CompactDiscriminatorConfig(dim=50, heads=4)


def test_the_frozen_text_encoder_is_not_among_the_weights(tiny_discriminator):
    judge = tiny_discriminator(True)
    assert not any("words" in key for key in judge.state_dict())
    assert not any(p.requires_grad for p in judge.text_encoder.parameters())


def test_it_starts_from_a_generator_and_refuses_one_of_other_sizes(tiny_discriminator, tiny_compact):
    text = tiny_discriminator(True).text_encoder
    config = CompactDiscriminatorConfig(**{**tiny_compact.config.to_dict(), "context": True})
    judge = CompactDiscriminator(config, text, tiny_compact.text_project[0].normalized_shape[0])
    own = {key: value.clone() for key, value in judge.judge.state_dict().items()}
    generator = tiny_compact.state_dict()
    judge.start_from(generator)
    assert all(torch.equal(judge.state_dict()[key], value) for key, value in generator.items())
    assert all(torch.equal(judge.judge.state_dict()[key], value) for key, value in own.items())
    short = {key: value for key, value in generator.items() if key != "conv4.weight"}
    with pytest.raises(
        CheckpointError, match=r"cannot start .* conv4\.weight first; give both the same sizes"
    ):
        judge.start_from(short)
    with pytest.raises(CheckpointError, match=r"no place for 1 of its tensors, seen16\.weight first"):
        judge.start_from({**generator, "seen16.weight": torch.zeros(1)})  # it would lack what that one sees
