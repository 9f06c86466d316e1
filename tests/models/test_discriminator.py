import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.blending import blend  # noqa: E402
from ivm.errors import InputError  # noqa: E402
from ivm.models.discriminator import IVMDiscriminator  # noqa: E402
from ivm.types import Heatmap  # noqa: E402


@pytest.fixture
def pair(tiny_model):
    """(generator, discriminator) on one LMM; the discriminator's adapter does something."""
    model = tiny_model()
    torch.manual_seed(4)
    made = IVMDiscriminator(model.instruction_encoder, side=64, hidden=16).eval()
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "lora_B" in name or "head" in name:
                value.normal_(0.0, 0.3)
    return model, made


def picture(seed=0):
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 200, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def half(left=True):
    values = np.zeros((64, 64), np.float32)
    values[:, :32] = 1.0
    return Heatmap(values if left else values[:, ::-1].copy())


def test_its_score_changes_with_the_mask_and_with_the_instruction(pair):
    _, discriminator = pair
    image = picture()
    scores = discriminator.score(
        [image] * 4, ["a cup", "a cup", "a cup", "the long table"],
        [half(), half(left=False), Heatmap(np.ones((64, 64), np.float32)), half()],
    )  # fmt: skip
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    assert len({round(float(score), 5) for score in scores}) == 4


def test_it_sees_the_image_masked_in_white_and_the_question(pair, monkeypatch):
    _, discriminator = pair
    seen = {}
    monkeypatch.setattr(
        discriminator,
        "forward",
        lambda masked, ids, lengths: seen.update(m=masked, i=ids, n=lengths) or ids[:, 0].float(),
    )
    discriminator.score([picture()], ["find it"], [half()])
    expected = blend(picture(), half().values)
    assert np.array_equal(seen["m"][0].permute(1, 2, 0).numpy(), expected)
    assert (expected[:, 33:] == 255).all()
    tokens = discriminator.encoder.tokens
    text = tokens.tokenizer.decode(torch.cat([tokens.prefix, seen["i"][0, : seen["n"][0]]]))
    assert text.endswith(
        "\nfind it \n Can you follow instruction above based on the given image? \n ASSISTANT:"
    )


def test_a_batch_scores_as_its_samples_do(pair):
    _, discriminator = pair
    images, texts = [picture(0), picture(1)], ["a", "the long red cup on the table"]
    together = discriminator.score(images, texts, [half(), half()])
    alone = [discriminator.score([i], [t], [half()])[0] for i, t in zip(images, texts, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_it_shares_the_generators_lmm_and_does_not_disturb_it(pair, squares):
    model, discriminator = pair
    given = model.instruction_encoder.tokens(["a cup"])
    with torch.no_grad():
        before = model(squares(1), *given)[0]
        discriminator.score([picture()], ["a cup"], [half()])
        assert torch.equal(model(squares(1), *given)[0], before)
    own = {value.data_ptr() for value in discriminator.parameters()}
    theirs = {name for name, value in model.named_parameters() if value.data_ptr() in own}
    assert theirs
    assert all(".discriminator." in name for name in theirs)
    size = sum(value.numel() for value in discriminator.parameters())
    assert size < 0.1 * sum(value.numel() for value in model.parameters())


def test_one_step_of_it_leaves_the_generator_as_it_was(pair, squares):
    model, discriminator = pair
    given = model.instruction_encoder.tokens(["a cup", "b"], asks=True)
    before = {
        name: value.clone() for name, value in model.named_parameters() if ".discriminator." not in name
    }
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=0.01)
    discriminator.train()(squares(2), *given).mean().backward()
    assert all(value.grad is not None for value in discriminator.parameters())
    optimizer.step()
    assert all(torch.equal(dict(model.named_parameters())[name], value) for name, value in before.items())


def test_training_modes_do_not_reach_over(pair):
    model, discriminator = pair
    model.train()
    discriminator.eval()
    dropouts = {
        name: part.training for name, part in model.named_modules() if isinstance(part, torch.nn.Dropout)
    }
    lora = {name: on for name, on in dropouts.items() if "lora_dropout" in name}
    assert {on for name, on in lora.items() if name.endswith("discriminator")} == {False}
    assert {on for name, on in lora.items() if name.endswith("generator")} == {True}


def test_gradient_checkpointing_serves_it_too(pair, squares):
    model, discriminator = pair
    given = model.instruction_encoder.tokens(["a cup"], asks=True)
    for part in discriminator.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        discriminator.train().zero_grad()
        layer = model.instruction_encoder.backbone.language_model.layers[0]
        assert layer.training == checkpointing
        discriminator(squares(1), *given).mean().backward()
        gradients.append([value.grad.clone() for value in discriminator.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    discriminator.eval()
    assert not layer.training


def test_unequal_numbers_are_refused(pair):
    _, discriminator = pair
    with pytest.raises(InputError, match="must be as many, but are 1, 2 and 1"):
        discriminator.score([picture()], ["a", "b"], [half()])
    with pytest.raises(InputError, match="weights must be"):
        discriminator.score([picture()], ["a"], [Heatmap(np.zeros((3, 3), np.float32))])
    assert discriminator.score([], [], []).shape == (0,)
