import importlib.util
import sys
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

import ivm  # noqa: E402
from ivm.errors import InstructionError, MissingExtraError, ModelError, OptionError  # noqa: E402
from ivm.masker import Backend, Masker  # noqa: E402
from ivm.models import full  # noqa: E402
from ivm.models.full import FullModel  # noqa: E402

EIGHT = ["one", "the second cup", "three", "a fourth thing", "5", "six of them", "seven", "an eighth"]


def picture(seed=0, height=60, width=90):
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 256, (4, 4, 3)), np.ones((30, 30, 1)))
    return blocks[:height, :width].astype(np.uint8)


def values(masker, *args, **kwargs):
    return np.stack([heatmap.values for heatmap in masker.batch(*args, **kwargs)])


@pytest.fixture
def counted(tiny_folder):
    """(masker, calls): what went through the image encoder and the first layer of the language model."""
    calls = {"image encoder": [], "language model": []}

    def make(**options):
        backend = FullModel(tiny_folder, device="cpu", **options)
        backend.model.image_encoder.backbone.register_forward_pre_hook(
            lambda module, args: calls["image encoder"].append(len(args[0]))
        )
        layer = backend.model.instruction_encoder.backbone.language_model.layers[0]
        layer.register_forward_pre_hook(
            lambda module, args: calls["language model"].append(tuple(args[0].shape[:2]))
        )
        return Masker(backend), calls

    return make


def test_load_takes_the_folder_that_training_exports(tiny_folder):
    masker = ivm.load(tiny_folder, device="cpu", threads=1)
    assert isinstance(masker.backend, Backend)
    assert masker.name == "tiny"
    heatmap = masker(picture(), "the red cup")
    assert heatmap.values.shape == (60, 90)
    assert heatmap.values.std() > 1e-3
    assert heatmap.score >= heatmap.values.max() - 1e-6
    assert masker.batch([], []) == []
    with pytest.raises(OptionError, match="has no option colour: it has attention, cache_images, checkpoint"):
        ivm.load(tiny_folder, colour="red")


def test_eight_instructions_on_one_image_encode_it_once(counted):
    masker, calls = counted()
    together = values(masker, [picture()], EIGHT)
    image = len(masker.backend.model.instruction_encoder.tokens.prefix)
    assert calls["image encoder"] == [1]
    longest = max(len(text) for text in EIGHT) + len("\n \n ASSISTANT:")  # a token is a letter
    assert calls["language model"] == [(1, image), (8, longest)]  # the image, and the words
    # And they are the answers of eight separate questions to a model that knows nothing of the image.
    fresh, _ = counted(cache_images=0, prefix_cache=False)
    alone = np.stack([fresh(picture(), text).values for text in EIGHT])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_a_picture_that_comes_again_is_not_encoded_again(counted):
    masker, calls = counted(cache_images=2)
    for seed in (0, 1, 0, 1):
        masker(picture(seed), "a cup")
    assert calls["image encoder"] == [1, 1]
    masker(picture(2), "a cup")  # the oldest, 0, gives way
    masker(picture(1), "a cup")
    assert calls["image encoder"] == [1, 1, 1]
    masker(picture(0), "a cup")
    assert calls["image encoder"] == [1, 1, 1, 1]
    assert len(masker.backend._kept) == 2
    none, calls = counted(cache_images=0)
    none(picture(), "a cup")
    none(picture(), "a cup")
    assert calls["image encoder"][-2:] == [1, 1]
    assert len(none.backend._kept) == 0


def test_equal_pictures_of_a_batch_are_encoded_once_and_keep_their_places(counted):
    masker, calls = counted()
    pictures = [picture(0), picture(1), picture(0).copy(), picture(1, 40, 40)]
    texts = EIGHT[:4]
    together = masker.batch(pictures, texts)
    assert calls["image encoder"] == [3]
    for one, text, heatmap in zip(pictures, texts, together, strict=True):
        np.testing.assert_allclose(masker(one, text).values, heatmap.values, atol=1e-5)


def test_features_in_hand_serve_any_mix(counted):
    masker, calls = counted(cache_images=0)
    a, b = masker.encode_image(picture(0)), masker.encode_image(picture(1))
    mixed = values(masker, [a, b, a], EIGHT[:3])
    assert calls["image encoder"] == [1, 1]
    for k, seed in enumerate((0, 1, 0)):
        np.testing.assert_allclose(mixed[k], masker(picture(seed), EIGHT[k]).values, atol=1e-5)


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_conditions_are_what_the_mask_decoder_takes(tiny_folder, prefix_cache):
    backend = FullModel(tiny_folder, device="cpu", prefix_cache=prefix_cache)
    features = backend.encode_images([picture(0), picture(1)])
    condition = backend.conditions(features, EIGHT[:2])
    assert condition.dtype == np.float32
    expected, _ = backend.decode(features, EIGHT[:2])
    with torch.no_grad():
        seen = torch.stack([one.features for one in features])
        logits = backend.model.mask_decoder(seen, torch.from_numpy(condition))
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-6)
    assert backend.conditions([], []).shape == (0, 16)


@pytest.mark.parametrize("option", [{"prefix_cache": False}, {"offload": True}, {"attention": "eager"}])
def test_options_that_save_memory_change_no_answer(tiny_folder, option):
    expected = values(Masker(FullModel(tiny_folder, device="cpu")), [picture(0), picture(1)], EIGHT[:2])
    masker = Masker(FullModel(tiny_folder, device="cpu", **option))
    np.testing.assert_allclose(values(masker, [picture(0), picture(1)], EIGHT[:2]), expected, atol=1e-5)


def test_offload_keeps_the_lmm_off_the_device(tiny_folder):
    backend = FullModel(tiny_folder, device="cpu", offload=True)
    layer = backend.model.instruction_encoder.backbone.language_model.layers[0]
    assert {value.device.type for value in layer.parameters()} == {"meta"}  # hooks bring them
    assert {value.device.type for value in backend.model.mask_decoder.parameters()} == {"cpu"}


def test_a_model_in_memory_serves_as_it_is(tiny_model, tiny_folder):
    masker = Masker(FullModel.of(tiny_model().train(), cache_images=0))
    expected = Masker(FullModel(tiny_folder, device="cpu"))(picture(), "a cup")
    np.testing.assert_allclose(masker(picture(), "a cup").values, expected.values, atol=1e-5)
    assert not masker.backend.model.training


def test_tiles_go_through_it(counted):
    masker, calls = counted()
    large = np.tile(picture(), (3, 3, 1))
    assert masker(large, "a cup", tiles=2).values.shape == (180, 270)
    assert sum(calls["image encoder"]) == 1 + 2  # two columns of one row suffice


def test_compile_compiles_image_encoder_and_mask_decoder(tiny_folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    FullModel(tiny_folder, device="cpu", compile=True)
    assert compiled == ["SamVisionEncoder", "MaskDecoder"]


def test_quantised_weights_reach_the_lmm_as_asked(tiny_folder, monkeypatch):
    """There is no GPU here: what transformers is asked for is what can be seen."""
    asked = {}

    def load(model_class, folder, **options):
        asked.update(options)
        raise ModelError("far enough")

    monkeypatch.setattr(full, "load_model", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(full, "require", lambda module, extra: types.ModuleType(module))
    for wish, flag in (("8bit", "load_in_8bit"), ("4bit", "load_in_4bit")):
        with pytest.raises(ModelError, match="far enough"):
            FullModel(tiny_folder, device="cuda", quantise=wish)
        config = asked["quantization_config"]
        assert getattr(config, flag)
        assert asked["device_map"] == {"": "cuda"}
        assert asked["dtype"] == torch.bfloat16
    assert config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "fast"}, "attention must be one of auto, eager, sdpa, .*, but got 'fast'"),
        ({"attention": "flash_attention_2"}, "attention='flash_attention_2' needs a CUDA GPU: leave it out"),
        ({"quantise": "2bit"}, "quantise must be one of none, 8bit, 4bit, but got '2bit'"),
        ({"quantise": "4bit"}, "quantise='4bit' needs a CUDA GPU without offload, but the model runs on cpu"),
        ({"cache_images": -1}, "cache_images must be an integer of at least 0, but got -1"),
        ({"checkpoint": "IVM-V1.0.bin"}, "checkpoint and revision are options of ivm-v1, but .*tiny holds"),
        ({"revision": "main"}, "checkpoint and revision are options of ivm-v1, but .*tiny holds"),
        ({"dtype": "int8"}, "dtype must be one of auto, float32, bfloat16, float16, but got 'int8'"),
    ],
)
def test_options_that_cannot_be_are_refused(tiny_folder, options, message):
    with pytest.raises(OptionError, match=message):
        FullModel(tiny_folder, device="cpu", **options)


def test_without_bitsandbytes_the_command_is_named(tiny_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'ivm\[quantise\]'"):
        FullModel(tiny_folder, device="cuda", quantise="8bit")


def test_a_package_for_attention_that_is_absent_is_named(tiny_folder, monkeypatch):
    if importlib.util.find_spec("flash_attn"):
        pytest.skip("flash attention is installed")
    monkeypatch.setattr(full, "_options", lambda *_: {"attn_implementation": "flash_attention_2"})
    with pytest.raises(ModelError, match="cannot be loaded with these options: FlashAttention2"):
        FullModel(tiny_folder, device="cpu")


def test_full_memory_says_which_options_lower_it(tiny_folder, monkeypatch):
    def fills(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    masker = Masker(FullModel(tiny_folder, device="cpu"))
    monkeypatch.setattr(masker.backend.model.mask_decoder, "forward", fills)
    with pytest.raises(
        ModelError, match="memory is full: give a smaller batch_size, quantise='4bit', prefix_"
    ):
        masker(picture(), "a cup")
    monkeypatch.setattr("ivm.models.pretrained.quiet", fills)
    with pytest.raises(ModelError, match=r"memory is full: .*offload=True"):
        FullModel(tiny_folder, device="cpu")


def test_instructions_that_do_not_fit_are_refused(tiny_folder):
    masker = Masker(FullModel(tiny_folder, device="cpu"))
    with pytest.raises(InstructionError, match="must fit into the LMM's context of 512 tokens"):
        masker(picture(), "cup " * 300)
    with pytest.raises(InstructionError, match="must not contain <image>"):
        masker(picture(), "find <image>")


@pytest.mark.parametrize("name", ["ivm-qwen3-vl-2b-sam2", "ivm-smolvlm-256m-sam2"])
def test_untrained_presets_say_that_they_are(name):
    with pytest.raises(ModelError, match=f"{name} is an architecture without trained weights.*ivm train"):
        ivm.load(name)


def test_damaged_weights_are_told_and_not_shown(tiny_folder):
    masker = Masker(FullModel(tiny_folder, device="cpu"))
    with torch.no_grad():
        masker.backend.model.mask_decoder.mask_tokens.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="NaN or infinity"):
        masker(picture(), "a cup")
