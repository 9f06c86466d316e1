import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.errors import OptionError  # noqa: E402
from ivm.models.config import PRESETS  # noqa: E402
from ivm.models.full_presets import FULL_PRESETS, full_preset, lay_out, parameter_counts  # noqa: E402


def test_ivm_v1_has_the_published_number_of_trained_values():
    """66.46 MB in float32 are exactly the published checkpoint."""
    counts = parameter_counts(full_preset("ivm-v1"))
    assert counts["trained"] == 16_615_040
    assert counts["image encoder"] == 637_026_048  # SAM ViT-H
    assert counts["LMM"] == 6_932_092_928  # LLaVA-1.5-7B less its language head


def test_of_ivm_v1_lora_is_on_queries_and_values_of_the_language_model_alone():
    model = lay_out(full_preset("ivm-v1"))
    lora = {n: v for n, v in model.named_parameters() if "lora_" in n}
    assert sum(value.numel() for value in lora.values()) == 4_194_304
    assert all("language_model" in name and ("q_proj" in name or "v_proj" in name) for name in lora)
    assert model.config.upsampled == 1024
    assert model.instruction_encoder.position == -2


@pytest.mark.parametrize("name", sorted(FULL_PRESETS))
def test_presets_name_the_base_models_that_the_list_of_models_names(name):
    config, preset = full_preset(name), PRESETS[name]
    assert preset.parts == (
        (config.lmm_base, config.lmm_revision),
        (config.image_base, config.image_revision),
    )
    if name != "ivm-v1":
        assert "untrained" in preset.summary
        counts = parameter_counts(config)
        assert counts["trained"] < 12e6
        # The LMM comes in bfloat16 (with a language head, which is not counted here), SAM 2 in float32.
        megabytes = (counts["LMM"] * 2 + counts["image encoder"] * 4) / 1e6
        assert megabytes < preset.megabytes < 1.25 * megabytes


def test_a_preset_is_a_name_or_a_folder(tiny_bases, tmp_path):
    config = tiny_bases()
    config.save_pretrained(tmp_path)
    assert full_preset(tmp_path).lmm_base == config.lmm_base
    with pytest.raises(OptionError, match=r"preset must be one of ivm-v1, .*, but is 'ivm-v2'"):
        full_preset("ivm-v2")
