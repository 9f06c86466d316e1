import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.errors import InstructionError, ModelError  # noqa: E402
from ivm.models.instruction_encoder import (  # noqa: E402
    Adapter,
    InstructionTokens,
    Prefix,
    Projection,
)
from ivm.models.lmm_families import FAMILIES  # noqa: E402

MIXED = ["a", "the long red cup on the table", "what time is it?"]


@pytest.fixture(scope="module", params=["llava", "qwen3_vl", "smolvlm"])
def encoder(request, tiny_model):
    return tiny_model(request.param).instruction_encoder


@torch.no_grad()
def test_prefixes_of_images_give_what_whole_sequences_give(encoder, squares):
    pixels, given = squares(3), encoder.tokens(MIXED)
    whole = encoder(pixels, given, "generator", encoder.position)
    prefix = encoder.encode_images(pixels, "generator")
    for _ in range(2):  # the prefix is not used up
        short = encoder.encode_instructions(prefix, given, "generator", encoder.position)
        torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-5)
    assert (whole[0] - whole[1]).abs().max() > 0.01


@torch.no_grad()
def test_padding_changes_nothing(encoder, squares):
    pixels = squares(3)
    together = encoder(pixels, encoder.tokens(MIXED), "generator", encoder.position)
    for k, text in enumerate(MIXED):
        alone = encoder(pixels[k : k + 1], encoder.tokens([text]), "generator", encoder.position)
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_language_model_reads_the_image_once_for_many_instructions(encoder, squares, monkeypatch):
    seen = []
    language = encoder.backbone.get_submodule(encoder.family.language)
    layer = language.layers[0]
    handle = layer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple((args[0] if args else kwargs["hidden_states"]).shape)),
        with_kwargs=True,
    )
    try:
        prefix = encoder.encode_images(squares(1), "generator")
        given = encoder.tokens(["one", "two", "three", "four", "five", "six", "seven", "eight"])
        encoder.encode_instructions(prefix.expand(8), given, "generator", encoder.position)
    finally:
        handle.remove()
    image = len(encoder.tokens.prefix)
    assert seen == [(1, image, 32), (8, given.ids.shape[1], 32)]


@torch.no_grad()
def test_adapters_switch_on_one_backbone_without_copies(tiny_model, squares):
    encoder = tiny_model().instruction_encoder
    pixels, given = squares(1), encoder.tokens(["a cup"])
    generator = encoder(pixels, given, "generator", -2)
    places = {name: value.data_ptr() for name, value in encoder.backbone.named_parameters()}
    adapter = encoder.add_adapter("discriminator")
    assert encoder.adapters() == ["generator", "discriminator"]
    fresh = encoder(pixels, given, "discriminator", -2)
    assert (fresh - generator).abs().max() > 1e-3  # a new adapter does nothing, the trained one does
    for name, value in adapter.named_parameters():
        if "lora_B" in name:
            value.normal_(0.0, 0.3)
    other = encoder(pixels, given, "discriminator", -2)
    assert (other - fresh).abs().max() > 1e-3
    torch.testing.assert_close(encoder(pixels, given, "generator", -2), generator, atol=0, rtol=0)
    assert all(
        value.data_ptr() == places[name]
        for name, value in encoder.backbone.named_parameters()
        if name in places
    )
    again = encoder.add_adapter("discriminator")  # the one that is there
    assert [v.data_ptr() for v in again.parameters()] == [v.data_ptr() for v in adapter.parameters()]
    with pytest.raises(ModelError, match="no adapter 'critic': it has generator, discriminator"):
        encoder.use("critic")


def test_switching_does_not_change_what_is_trained(tiny_model):
    encoder = tiny_model().instruction_encoder
    encoder.add_adapter("discriminator")
    for name in ("discriminator", "generator"):
        encoder.use(name)
        trained = {key for key, value in encoder.backbone.named_parameters() if value.requires_grad}
        assert {key.rpartition(".weight")[0].rpartition(".")[2] for key in trained} == {
            "generator",
            "discriminator",
        }
        assert all("lora_" in key for key in trained)


def test_an_adapter_is_a_view_of_the_layers_it_sits_in(tiny_model):
    encoder = tiny_model().instruction_encoder
    adapter = Adapter(encoder.backbone, "generator")
    inside = {
        value.data_ptr() for name, value in encoder.backbone.named_parameters() if ".generator." in name
    }
    assert {value.data_ptr() for value in adapter.parameters()} == inside
    assert len(inside) == 2 * 2 * 2  # two layers, q and v, A and B
    other = encoder.add_adapter("discriminator")
    other.eval()
    adapter.train()
    dropouts = [part for name, part in adapter.named_modules() if name.endswith("dropout")]
    assert dropouts
    assert all(part.training for part in dropouts)
    assert not any(part.training for name, part in other.named_modules() if name.endswith("dropout"))


@pytest.mark.parametrize("trained", [True, False])
def test_a_new_adapter_leaves_the_others_as_trained_or_frozen_as_they_are(tiny_model, trained):
    encoder = tiny_model().instruction_encoder
    generator = Adapter(encoder.backbone, "generator").requires_grad_(trained)
    other = encoder.add_adapter("discriminator")
    assert all(value.requires_grad is trained for value in generator.parameters())
    assert all(value.requires_grad for value in other.parameters())


def test_the_vision_tower_has_no_adapter(encoder):
    """Its layers have the same names in LLaVA."""
    tuned = [name for name, _ in encoder.backbone.named_parameters() if "lora_" in name]
    assert tuned
    assert all(name.startswith(f"{encoder.family.language}.") for name in tuned)


def test_targets_that_are_not_there_are_refused(tiny_model):
    with pytest.raises(ModelError, match="no layers called no_such_proj"):
        tiny_model("smolvlm", lora_targets=["no_such_proj"])


def test_prefixes_join_select_and_expand():
    def prefix(value, batch):
        return Prefix(((torch.full((batch, 1, 2, 1), value), torch.full((batch, 1, 2, 1), -value)),))

    joined = Prefix.join([prefix(1.0, 1), prefix(2.0, 2)])
    assert joined.layers[0][0][:, 0, 0, 0].tolist() == [1.0, 2.0, 2.0]
    assert joined.select(slice(1, 3)).layers[0][1][:, 0, 0, 0].tolist() == [-2.0, -2.0]
    wide = prefix(3.0, 1).expand(4)
    assert wide.layers[0][0].shape[0] == 4
    assert wide.layers[0][0].stride(0) == 0  # no copies
    assert wide.clone().layers[0][0].shape[0] == 4


def test_a_projection_computes_in_its_own_precision():
    projection = Projection(4, 8, 2)
    assert projection(torch.randn(3, 4).bfloat16()).dtype == torch.float32


# -- tokens


@pytest.fixture
def parts(tiny_model):
    encoder = tiny_model().instruction_encoder
    return encoder.tokens.tokenizer, encoder.config


def tokens(parts, template=None, side=28):
    tokenizer, config = parts
    family = FAMILIES["llava"]
    return InstructionTokens(tokenizer, config, template or family.template, family.question, side)


def test_ids_are_those_of_the_whole_prompt(parts):
    made = tokens(parts)
    ids, lengths = made(["find it", "a cup"], asks=True)
    for row, length, text in zip(ids, lengths, ["find it", "a cup"], strict=True):
        question = "Can you follow instruction above based on the given image?"
        prompt = f"USER: {'<image>' * 16}\n{text} \n {question} \n ASSISTANT:"
        assert made.prefix.tolist() + row[:length].tolist() == parts[0](prompt)["input_ids"]
    assert made.prefix[-1] == made.image_id
    again = pickle.loads(pickle.dumps(made))  # loaders' processes are given it
    assert torch.equal(again(["find it"]).ids, made(["find it"]).ids)
    assert made([]).ids.shape == (0, 0)


def test_an_instruction_longer_than_the_context_is_refused(parts):
    with pytest.raises(InstructionError, match="must fit into the LMM's context of 512 tokens"):
        tokens(parts)(["cup " * 200])
    fits = "a" * (512 - len(tokens(parts).prefix) - len("\n \n ASSISTANT:"))
    assert tokens(parts)([fits]).lengths.item() == 512 - len(tokens(parts).prefix)
    with pytest.raises(InstructionError, match="makes 513"):
        tokens(parts)([fits + "a"])


def test_control_signs_in_an_instruction_are_refused(parts):
    """They would be read as an image, or as the end of what the user says."""
    for sign in ("<image>", "</s>"):
        with pytest.raises(InstructionError, match=f"must not contain {sign}"):
            tokens(parts)([f"find {sign} it"])


def test_an_lmm_without_image_token_is_refused(parts):
    tokenizer, config = parts
    config = type(config).from_dict({**config.to_dict(), "image_token_index": 299})
    expected = "image token <image> with id 299, but its tokenizer gives it the id 3"
    with pytest.raises(ModelError, match=expected):
        tokens((tokenizer, config))


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{instruction}", "must have {image} and {instruction} once"),
        ("{instruction} {image}", "must have {image} before {instruction}"),
    ],
)
def test_templates_without_their_places_are_refused(parts, template, message):
    with pytest.raises(ModelError, match=message):
        tokens(parts, template)
