import json
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

from safetensors.torch import load_file, save_file  # noqa: E402

from ivm.errors import CheckpointError, ModelError, OptionError  # noqa: E402
from ivm.models.checkpoint import assemble, runner_of  # noqa: E402
from ivm.models.ivm import IVMConfig, IVMModel  # noqa: E402

TEXTS = ["a", "the long red cup on the table"]


def logits_of(model, pixels):
    with torch.no_grad():
        return model(pixels, *model.instruction_encoder.tokens(TEXTS))[0]


@pytest.mark.parametrize(("lmm", "image"), [("llava", "sam"), ("qwen3_vl", "sam2"), ("smolvlm", "sam2")])
@pytest.mark.parametrize("whole", [False, True])
def test_saved_and_loaded_it_answers_the_same(tiny_model, squares, tmp_path, lmm, image, whole):
    model, pixels = tiny_model(lmm, image), squares(2)
    expected = logits_of(model, pixels)
    assert expected.shape == (2, 16, 16)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "m", whole=whole)
    written = load_file(tmp_path / "m" / "model.safetensors")
    assert any("embed_tokens" in name for name in written) == whole
    loaded = IVMModel.from_pretrained(tmp_path / "m", device="cpu")
    assert not loaded.training
    torch.testing.assert_close(logits_of(loaded, pixels), expected, atol=0, rtol=0)


def test_pushed_to_a_hub_are_the_trained_parts(tiny_model, monkeypatch):
    """push_to_hub is transformers' own; what it uploads is what save_pretrained wrote."""
    hub = "transformers.utils.hub"
    seen = {}

    def upload(self, folder, repo_id, **kwargs):
        seen.update({path.name: path.stat().st_size for path in Path(folder).iterdir()})

    monkeypatch.setattr(IVMModel, "_upload_modified_files", upload)
    monkeypatch.setattr(
        f"{hub}.hf_api", lambda: SimpleNamespace(create_repo=lambda name, **_: SimpleNamespace(repo_id=name))
    )
    monkeypatch.setattr(
        f"{hub}.create_and_tag_model_card", lambda *_, **__: SimpleNamespace(save=lambda path: None)
    )
    tiny_model().push_to_hub("somebody/tiny")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(seen)
    assert seen["model.safetensors"] < 100_000


def test_the_found_logit_is_the_largest_of_the_heatmap(tiny_model, squares):
    model = tiny_model()
    with torch.no_grad():
        logits, found = model(squares(2), *model.instruction_encoder.tokens(TEXTS))
    assert torch.equal(found, logits.flatten(1).max(dim=1).values)


def test_a_gradient_reaches_all_that_is_trained_and_nothing_else(tiny_model, squares):
    model = tiny_model().train()
    for name, value in model.named_parameters():
        value.requires_grad_(name in set(model.trained_names()))
    logits, found = model(squares(2), *model.instruction_encoder.tokens(TEXTS))
    (logits.square().mean() + found.mean()).backward()
    with_gradient = {name for name, value in model.named_parameters() if value.grad is not None}
    positions = "mask_decoder.pe_layer.positional_encoding_gaussian_matrix"  # kept, but not learned
    assert with_gradient == set(model.trained_names()) - {positions}


def test_gradient_checkpointing_changes_no_gradient(tiny_model, squares):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(lora_dropout=0.0).train()
        if checkpointing:
            model.activation_checkpointing_enable()
            assert model.instruction_encoder.backbone.language_model.gradient_checkpointing
        model(squares(1), *model.instruction_encoder.tokens(["a cup"]))[0].square().mean().backward()
        gradients.append({n: v.grad for n, v in model.named_parameters() if v.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, atol=1e-6, rtol=1e-4, msg=name)


def test_attention_can_be_chosen_and_computes_the_same(tiny_bases, tiny_model, squares):
    model = tiny_model()
    eager = assemble(tiny_bases(), runner_of("cpu", None), attn_implementation="eager")
    assert eager.instruction_encoder.backbone.language_model.config._attn_implementation == "eager"
    assert model.instruction_encoder.backbone.language_model.config._attn_implementation == "sdpa"
    eager.load_state_dict(model.state_dict())
    torch.testing.assert_close(
        logits_of(eager.eval(), squares(2)), logits_of(model, squares(2)), atol=1e-4, rtol=1e-4
    )


def test_precision_can_be_chosen(tiny_model, squares, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "m")
    rough = IVMModel.from_pretrained(tmp_path / "m", device="cpu", dtype=torch.bfloat16)
    dtypes = {value.dtype for value in rough.parameters()}
    assert dtypes == {torch.bfloat16}
    logits = logits_of(rough, squares(2))
    assert logits.dtype == torch.float32
    exact = logits_of(model, squares(2))
    assert (logits - exact).abs().max() < 0.2 * exact.abs().max()


def test_options_of_transformers_reach_the_lmm_alone(tiny_model, squares, tmp_path, monkeypatch):
    model = tiny_model()
    model.save_pretrained(tmp_path / "m")
    given = {}
    for name in ("LlavaModel", "SamModel"):
        kind = getattr(transformers, name)

        def note(*args, kept=kind.from_pretrained, label=name, **kwargs):
            given[label] = kwargs
            return kept(*args, **kwargs)

        monkeypatch.setattr(kind, "from_pretrained", note)
    placed = IVMModel.from_pretrained(tmp_path / "m", device="cpu", device_map={"": "cpu"})
    assert given["LlavaModel"]["device_map"] == {"": "cpu"}
    assert "device_map" not in given["SamModel"]
    torch.testing.assert_close(logits_of(placed, squares(2)), logits_of(model, squares(2)))


def test_without_a_network_the_cache_alone_is_asked(tiny_model, squares, tmp_path, monkeypatch):
    model = tiny_model()
    model.save_pretrained(tmp_path / "m")
    asked = []
    monkeypatch.setattr("ivm.models.checkpoint.fetch", lambda *given: asked.append(given) or tmp_path / "m")
    loaded = IVMModel.from_pretrained("some/model", device="cpu", local_files_only=True)
    assert asked == [("some/model", "", True)]
    torch.testing.assert_close(logits_of(loaded, squares(2)), logits_of(model, squares(2)))


def test_two_steps_of_the_reference_go_by_way_of_its_square(tiny_model):
    model = tiny_model(upsampled=64)
    logits = torch.randn(2, 16, 16)
    assert model.upsample(logits).shape == (2, 64, 64)
    assert torch.equal(tiny_model().upsample(logits), logits)


def test_without_named_bases_only_the_whole_can_be_saved(tiny_model, tmp_path):
    model = tiny_model()
    model.config.lmm_base = ""
    with pytest.raises(OptionError, match="save with whole=True"):
        model.save_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "m", whole=True)
    assert IVMModel.from_pretrained(tmp_path / "m", device="cpu").config.whole


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.pop("mask_decoder.mask_tokens.weight"),
            "lacks mask_decoder.mask_tokens.weight",
        ),
        (lambda tensors: tensors.update(more=torch.zeros(1)), "has more besides"),
        (
            lambda tensors: tensors.update({"mask_decoder.mask_tokens.weight": torch.zeros(2, 16)}),
            "has mask_decoder.mask_tokens.weight",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(tiny_model, tmp_path, change, message, whole):
    tiny_model().save_pretrained(tmp_path / "m", whole=whole)
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=message):
        IVMModel.from_pretrained(tmp_path / "m", device="cpu")


def test_a_configuration_that_does_not_fit_its_weights_is_refused(tiny_model, tmp_path):
    tiny_model().save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "projection_dim": 20}))
    with pytest.raises(CheckpointError, match=r"text_proj.fc1.bias as \[24\] instead of \[20\]"):
        IVMModel.from_pretrained(tmp_path / "m", device="cpu")


def test_configurations_say_what_is_wrong(tiny_bases):
    with pytest.raises(ModelError, match="must have image_encoder and lmm"):
        IVMConfig().parts()
    with pytest.raises(ModelError, match="knows no model of this configuration"):
        IVMConfig(image_encoder={"model_type": "no-such"}, lmm={"model_type": "llava"}).parts()
    config = tiny_bases()
    config.lmm = {"model_type": "llama", "hidden_size": 32}
    with pytest.raises(ModelError, match="must be one of llava, qwen3_vl, smolvlm, but is llama: it cannot"):
        IVMModel(config)


def test_a_configuration_survives_its_file(tiny_bases, tmp_path):
    config = tiny_bases()
    config.save_pretrained(tmp_path)
    again = IVMConfig.from_pretrained(tmp_path)
    plain = set(vars(IVMConfig())) - {"image_encoder", "lmm", "transformers_version"}
    assert {name: getattr(again, name, None) for name in plain} == {
        name: getattr(config, name, None) for name in plain
    }
    assert [part.hidden_size for part in again.parts()[:1]] == [16]
    assert again.lora_targets == ["q_proj", "v_proj"]
