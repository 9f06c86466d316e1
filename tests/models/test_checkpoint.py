import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

import ivm  # noqa: E402
import reference_inference as reference  # noqa: E402
from ivm.errors import CheckpointError, ModelError, OptionError  # noqa: E402
from ivm.masker import Masker  # noqa: E402
from ivm.models import full as full_module  # noqa: E402
from ivm.models.checkpoint import (  # noqa: E402
    assemble,
    cache_folder,
    fill,
    import_reference,
    load_model,
    read_reference,
    read_weights,
    rename_reference,
    resolve,
    runner_of,
)
from ivm.models.full import FullModel  # noqa: E402
from ivm.models.ivm import IVMModel  # noqa: E402

LMM = "prompt_encoder.model.base_model.model."


def reference_state(model, bases=False):
    """The weights of a model by the names of the reference code, written down by hand from its modules."""
    ours = model.state_dict()
    state = {}
    for name in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"):
        state[f"prompt_encoder.text_proj.{name}"] = ours[f"instruction_encoder.text_proj.{name}"]
    layers = "instruction_encoder.backbone.language_model.layers"
    for i in range(2):
        for part in ("q_proj", "v_proj"):
            for side in "AB":
                state[reference.LORA.format(i, part, side)] = ours[
                    f"{layers}.{i}.self_attn.{part}.lora_{side}.generator.weight"
                ]
    decoder = "mask_decoder"
    for i in range(2):
        block = f"{decoder}.transformer.layers.{i}"
        for kind in ("weight", "bias"):
            for attention in ("self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"):
                for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    name = f"{block}.{attention}.{part}.{kind}"
                    state[name] = ours[name]
            for k in range(1, 5):
                state[f"{block}.norm{k}.{kind}"] = ours[f"{block}.layer_norm{k}.{kind}"]
            for part in ("lin1", "lin2"):
                state[f"{block}.mlp.{part}.{kind}"] = ours[f"{block}.mlp.{part}.{kind}"]
    for kind in ("weight", "bias"):
        last = f"{decoder}.transformer"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            name = f"{last}.final_attn_token_to_image.{part}.{kind}"
            state[name] = ours[name]
        state[f"{last}.norm_final_attn.{kind}"] = ours[f"{last}.layer_norm_final_attn.{kind}"]
        for k in (0, 1, 3):
            state[f"{decoder}.output_upscaling.{k}.{kind}"] = ours[f"{decoder}.output_upscaling.{k}.{kind}"]
        for k in range(3):
            name = f"{decoder}.output_hypernetworks_mlps.layers.{k}.{kind}"
            state[name] = ours[name]
    for name in ("mask_tokens.weight", "pe_layer.positional_encoding_gaussian_matrix"):
        state[f"{decoder}.{name}"] = ours[f"{decoder}.{name}"]
    return state | (base_state(ours) if bases else {})


def base_state(ours):
    """SAM's own names, and those of LlavaForConditionalGeneration in early 2024 under peft."""
    state = {}
    for name, value in ours.items():
        if name.startswith("image_encoder.backbone."):
            plain = name.removeprefix("image_encoder.backbone.")
            plain = plain.replace("patch_embed.projection", "patch_embed.proj")
            plain = re.sub(r"^layers\.(\d+)\.layer_norm", r"blocks.\1.norm", plain)
            plain = re.sub(r"^layers\.", "blocks.", plain)
            for ours_, theirs in (("conv1", "0"), ("layer_norm1", "1"), ("conv2", "2"), ("layer_norm2", "3")):
                plain = plain.replace(f"neck.{ours_}.", f"neck.{theirs}.")
            state[f"image_encoder.{plain}"] = value
        elif name.startswith("instruction_encoder.backbone.") and "lora_" not in name:
            plain = name.removeprefix("instruction_encoder.backbone.")
            plain = re.sub(r"^language_model\.", "language_model.model.", plain)
            plain = re.sub(r"^vision_tower\.", "vision_tower.vision_model.", plain)
            state[LMM + plain] = value
    state[f"{LMM}language_model.lm_head.weight"] = torch.zeros(300, 32)
    return state


@pytest.fixture
def fresh(tiny_bases):
    """fresh() -> a model over the same bases with other trained weights."""

    def make(**changes):
        config = tiny_bases()
        for name, value in changes.items():
            setattr(config, name, value)
        torch.manual_seed(99)
        return assemble(config, runner_of("cpu", None)).eval()

    return make


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_published_names_load_every_one(tiny_model, fresh):
    model, other = tiny_model(), fresh()
    assert not same(model, other)
    state = reference_state(model)
    assert len(state) == len(model.trained_names())
    assert import_reference(other, state, "the file")  # the trained parts alone
    assert same(model, other)
    again = fresh()
    import_reference(again, {f"module.{name}": value for name, value in state.items()}, "of a DDP run")
    assert same(model, again)


def test_a_full_state_brings_its_base_models(tiny_model, fresh):
    model, other = tiny_model(), fresh()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.01)
    state = reference_state(model, bases=True)
    assert not import_reference(other, state, "the file")
    assert same(model, other)
    # peft before 0.7 had no base_layer between a layer and its weight.
    older = {name.replace(".base_layer", ""): value for name, value in state.items()}
    another = fresh()
    import_reference(another, older, "an older file")
    assert same(model, another)


def test_names_that_are_unknown_missing_or_of_another_shape_are_listed(tiny_model, fresh):
    state = reference_state(tiny_model())
    for extra in (
        "mask_decoder.iou_token.weight",
        "image_encoder.blocks.0.what",
        f"{LMM}language_model.what",
    ):
        with pytest.raises(CheckpointError, match=r"names that the reference code does not.*" + extra):
            rename_reference({**state, extra: torch.zeros(1)})
    gone = "prompt_encoder.text_proj.fc1.bias"
    with pytest.raises(
        CheckpointError, match=r"the file does not fit .* lacks instruction_encoder.text_proj"
    ):
        import_reference(fresh(), {name: value for name, value in state.items() if name != gone}, "the file")
    with pytest.raises(CheckpointError, match=r"text_proj.fc1.bias as \[3\] instead of \[24\]"):
        import_reference(fresh(), {**state, gone: torch.zeros(3)}, "the file")
    with pytest.raises(CheckpointError, match=r"pos_embed is \[1\] instead of \[1, 4, 4, 16\]"):
        import_reference(fresh(), {**state, "image_encoder.pos_embed": torch.zeros(1)}, "the file")
    with pytest.raises(CheckpointError, match=r"image_encoder.backbone.layers.9.attn.qkv.bias has no place"):
        import_reference(
            fresh(), {**state, "image_encoder.blocks.9.attn.qkv.bias": torch.zeros(1)}, "the file"
        )


class Malicious:
    def __reduce__(self):
        return (print, ("this must not run",))


def test_nothing_but_tensors_is_unpickled(tmp_path, capsys):
    torch.save({"a": Malicious()}, tmp_path / "bad.bin")
    with pytest.raises(
        CheckpointError, match=r"of tensors: it is damaged, or holds other objects, which are"
    ):
        read_reference(tmp_path / "bad.bin")
    assert capsys.readouterr().out == ""
    for content in ([1, 2], {"epoch": 3}):
        torch.save(content, tmp_path / "other.bin")
        with pytest.raises(CheckpointError, match="must hold tensors by their names"):
            read_reference(tmp_path / "other.bin")
    (tmp_path / "torn.bin").write_bytes(b"PK\x03\x04 torn")
    for name in ("torn.bin", "none.bin"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read"):
            read_reference(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as safetensors"):
            read_weights(tmp_path / name)


# -- the whole reference inference


@pytest.fixture
def published(tiny_model, tmp_path, monkeypatch):
    """(file with the published names, options that bring it and its bases, its model); a cache of its own."""
    monkeypatch.setenv("IVM_CACHE", str(tmp_path / "cache"))
    model = tiny_model()
    torch.save(reference_state(model), tmp_path / "IVM-V1.0.bin")
    config = model.config

    def preset(name):
        """ivm-v1 itself but for its sizes."""
        tiny = type(config).from_dict(config.to_dict())
        tiny.upsampled, tiny.threshold = 64, 0.1
        return tiny

    monkeypatch.setattr(full_module, "full_preset", preset)
    options = {
        "checkpoint": tmp_path / "IVM-V1.0.bin", "lmm": config.lmm_base, "image": config.image_base,
        "device": "cpu",
    }  # fmt: skip
    return tmp_path / "IVM-V1.0.bin", options, model


SIZES = [(48, 80), (100, 37), (64, 64), (30, 130)]
TEXTS = ["a", "pick up the long red cup that stands on the table", "what time is it?", "the cat"]


def pictures():
    rng = np.random.default_rng(8)
    return [
        np.kron(rng.integers(0, 256, (5, 5, 3)), np.ones((40, 40, 1)))[:height, :width].astype(np.uint8)
        for height, width in SIZES
    ]


def test_the_whole_inference_agrees_with_the_reference_in_float64(published):
    """Squash, two encoders, decoder, both interpolations, sigmoid; non-square pictures, a mixed batch."""
    file, options, _ = published
    masker = Masker(FullModel("ivm-v1", **options))
    heatmaps = masker.batch(pictures(), TEXTS)

    state = torch.load(file, weights_only=True)
    lmm = transformers.LlavaForConditionalGeneration.from_pretrained(options["lmm"]).double().eval()
    sam = transformers.SamModel.from_pretrained(options["image"]).vision_encoder.double().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(options["lmm"])
    rest = dict(state)
    decoder = reference.Decoder({k: v for k, v in state.items() if k.startswith("mask_decoder")}, heads=2)
    for heatmap, picture, text in zip(heatmaps, pictures(), TEXTS, strict=True):
        square = reference.square_of(picture, 64)
        condition = reference.condition(rest, lmm, tokenizer, square, text, rank=2, alpha=4.0)
        logits = decoder(reference.sam_features(sam, square), condition)
        expected = reference.heatmap(logits, 64, *picture.shape[:2])
        assert heatmap.values.shape == picture.shape[:2]
        assert expected.std() > 0.05
        np.testing.assert_allclose(heatmap.values, expected, atol=1e-4)
        # The reference keeps the whole image where no pixel reaches the threshold.
        assert heatmap.score == pytest.approx(1 / (1 + np.exp(-logits.max())), abs=1e-4)
        assert heatmap.threshold == 0.1
        assert heatmap.found == (heatmap.score >= 0.1)


def test_the_steps_of_the_interpolation_matter():
    """Else the parity above would not see whether there is one or two."""
    logits = np.random.default_rng(0).normal(size=(16, 16)) * 4
    one = 1 / (1 + np.exp(-reference.bilinear(logits, 30, 130)))
    assert np.abs(reference.heatmap(logits, 64, 30, 130) - one).max() > 0.01


def test_the_converted_form_is_kept_and_found_again(published, monkeypatch):
    file, options, _ = published
    first = FullModel("ivm-v1", **options)
    kept = cache_folder(file)
    assert sorted(path.name for path in kept.parent.iterdir()) == [kept.name]
    assert (kept / "model.safetensors").is_file()
    monkeypatch.setattr(full_module, "read_reference", lambda file: pytest.fail("converted again"))
    second = FullModel("ivm-v1", **options)
    assert same(first.model, second.model)
    assert second.model.config.upsampled == 64
    file.write_bytes(file.read_bytes() + b"\0")  # another file is another model
    with pytest.raises(pytest.fail.Exception, match="converted again"):
        FullModel("ivm-v1", **options)


def test_the_cache_holds_what_was_published_whatever_precision_came_first(published):
    file, options, model = published
    FullModel("ivm-v1", **{**options, "dtype": "bfloat16"})
    from safetensors.torch import load_file

    tensors = load_file(cache_folder(file) / "model.safetensors")
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert same(FullModel("ivm-v1", **{**options, "dtype": "float32"}).model, model)


def test_a_cache_that_cannot_be_written_is_done_without(published, monkeypatch, tmp_path):
    _, options, model = published
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("IVM_CACHE", str(tmp_path / "file"))
    assert same(FullModel("ivm-v1", **options).model, model)


def test_without_network_it_says_what_to_download_and_where_to_put_it(published, monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route to host")

    hub = types.SimpleNamespace(hf_hub_download=unreachable, snapshot_download=unreachable)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    _, options, _ = published
    with pytest.raises(
        ModelError, match=r"hf download 2toINF/IVM IVM-V1.0.bin .*give that folder instead of"
    ):
        FullModel("ivm-v1", **{**options, "checkpoint": ""})
    with pytest.raises(
        ModelError, match=r"hf download some/llava --local-dir FOLDER.*give it as lmm='FOLDER'"
    ):
        FullModel("ivm-v1", **{**options, "lmm": "some/llava"})
    with pytest.raises(ModelError, match="no file"):
        FullModel("ivm-v1", **{**options, "checkpoint": "nowhere.bin"})


def test_the_commit_that_was_fetched_is_written_down(tiny_bases, tmp_path):
    """So that the same one is fetched on another day."""
    config = tiny_bases()
    commit = tmp_path / "models--some--llava" / "snapshots" / "0123abcd"
    shutil.copytree(config.lmm_base, commit)
    config.lmm_base = str(commit)
    assemble(config, runner_of("cpu", None))
    assert config.lmm_revision == "0123abcd"
    assert config.image_revision == "main"


def test_base_models_are_found_from_any_folder(tiny_bases, tmp_path, monkeypatch):
    config = tiny_bases()
    for name in ("lmm", "image"):
        shutil.copytree(getattr(config, f"{name}_base"), tmp_path / "bases" / name)
    monkeypatch.chdir(tmp_path)
    config.image_base = "bases/image"
    assemble(config, runner_of("cpu", None), lmm="bases/lmm").save_pretrained("model")
    assert (config.lmm_base, config.image_base) == (
        str(tmp_path / "bases/lmm"),
        str(tmp_path / "bases/image"),
    )
    monkeypatch.chdir("/")
    load_model(IVMModel, tmp_path / "model", device="cpu")


def test_a_base_model_that_is_given_has_a_commit_of_its_own(tiny_bases, monkeypatch):
    asked = []

    def fetched(base, revision, local_files_only):
        asked.append((base, revision))
        return Path(tiny_bases().lmm_base if "llava" in base else tiny_bases().image_base)

    monkeypatch.setattr("ivm.models.checkpoint.fetch", fetched)
    config = tiny_bases()
    config.lmm_revision = config.image_revision = "of the old ones"
    assemble(config, runner_of("cpu", None), lmm="my/llava@0123abc", image="my/sam")
    assert sorted(asked) == [("my/llava", "0123abc"), ("my/sam", "main")]
    assert (config.lmm_base, config.lmm_revision) == ("my/llava", "0123abc")
    assert (config.image_base, config.image_revision) == ("my/sam", "main")


def test_a_base_model_that_does_not_fit_is_named(tiny_folder, tiny_bases):
    other = tiny_bases("llava", "sam2").image_base
    with pytest.raises(
        CheckpointError, match=rf"tiny with image='{other}' does not fit .* instead of \[32, 24\]"
    ):
        FullModel(tiny_folder, device="cpu", image=other)


def test_a_folder_with_the_published_file_and_its_base_models_is_a_model(published, tmp_path):
    file, options, model = published
    folder = tmp_path / "brought"
    folder.mkdir()
    file.rename(folder / file.name)
    for name in ("lmm", "image"):
        shutil.copytree(options[name], folder / name)
    masker = ivm.load(folder, device="cpu")
    assert same(masker.backend.model, model)
    assert masker.name == "brought"
    assert masker.backend.model.config.lmm_base == str(folder / "lmm")
    # The cache is for every later call, also one without these folders.
    kept = json.loads((cache_folder(folder / file.name) / "config.json").read_text())
    assert (kept["lmm_base"], kept["image_base"]) == (options["lmm"], options["image"])
    with pytest.raises(
        OptionError, match=r"checkpoint and revision are options of ivm-v1, but .* holds its own"
    ):
        ivm.load(folder, device="cpu", revision="main")
    other = tmp_path / "other"
    shutil.copytree(options["lmm"], other)
    (other / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=f"{other} must hold the weights"):  # what is given comes first
        ivm.load(folder, device="cpu", lmm=other)


def test_a_commit_of_the_published_checkpoint_can_be_asked_for(published, monkeypatch):
    file, options, _ = published
    asked = []

    def fetched(hub, name, revision):
        asked.append((hub, name, revision))
        return file

    monkeypatch.setattr(full_module, "fetch_file", fetched)
    options = {**options, "checkpoint": ""}
    FullModel("ivm-v1", **options)
    FullModel("ivm-v1", **options, revision="0123abc")
    assert asked == [("2toINF/IVM", "IVM-V1.0.bin", "main"), ("2toINF/IVM", "IVM-V1.0.bin", "0123abc")]
    with pytest.raises(OptionError, match=r"revision says what to fetch, but checkpoint='here\.bin'"):
        FullModel("ivm-v1", **{**options, "checkpoint": "here.bin"}, revision="0123abc")


def test_base_models_of_another_kind_are_refused(tiny_bases, tmp_path):
    config = tiny_bases()
    config.image_base, config.lmm_base = config.lmm_base, config.image_base
    with pytest.raises(ModelError, match="must hold a SAM or SAM 2, but holds llava"):
        assemble(config, runner_of("cpu", None))
    config = tiny_bases()
    config.lmm_base = config.image_base
    with pytest.raises(
        ModelError, match="must hold an LMM of llava, qwen3_vl, smolvlm, but holds sam: it cannot"
    ):
        assemble(config, runner_of("cpu", None))
    with pytest.raises(ModelError, match="must be a folder that exists or a hub id"):
        resolve("not a hub id")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model of transformers"):
        assemble(tiny_bases(), runner_of("cpu", None), lmm=tmp_path / "empty")


def test_a_folder_of_another_model_is_refused(tiny_bases, tmp_path):
    with pytest.raises(ModelError, match=r"must be that of a full-size model \(model_type ivm\)"):
        load_model(IVMModel, tiny_bases().lmm_base, device="cpu")
    with pytest.raises(ModelError, match=r"holds no full-size model: it has no config\.json"):
        load_model(IVMModel, tmp_path, device="cpu")


def test_a_whole_folder_takes_no_other_base(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "m", whole=True)
    with pytest.raises(ModelError, match="leave lmm and image out"):
        load_model(IVMModel, tmp_path / "m", device="cpu", lmm="some/llava")


def test_fill_leaves_a_model_alone_that_does_not_fit(tiny_model):
    model = tiny_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="and 103 more"):
        fill(model, {}, "nothing")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
