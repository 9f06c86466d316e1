from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from ivm.errors import ModelError  # noqa: E402
from ivm.models.full_presets import FULL_PRESETS, full_preset  # noqa: E402
from ivm.models.image_encoder import normalise  # noqa: E402
from ivm.models.lmm_families import FAMILIES  # noqa: E402


def filled(family, instruction, asks=False):
    text = instruction + (family.question if asks else "")
    return family.template.format(image="<image>", instruction=text)


def test_prompts_of_llava_are_the_published_ones():
    llava = FAMILIES["llava"]
    assert filled(llava, "Find it") == "USER: <image>\nFind it \n ASSISTANT:"
    assert filled(llava, "Find it", asks=True) == (
        "USER: <image>\nFind it \n Can you follow instruction above based on the given image? \n ASSISTANT:"
    )
    assert llava.position == -2


@pytest.mark.parametrize(
    ("preset", "side", "tokens"),
    [("ivm-v1", 336, 576), ("ivm-qwen3-vl-2b-sam2", 512, 256), ("ivm-smolvlm-256m-sam2", 512, 64)],
)
def test_pictures_have_as_many_tokens_as_the_publishers_say(preset, side, tokens):
    assert preset in FULL_PRESETS
    config = full_preset(preset).parts()[1]
    family = FAMILIES[config.model_type]
    assert family.side(config) == side
    assert family.image_tokens(config, side) == tokens
    assert family.image_text(config, side).count(family.image_token) == tokens


def test_llavas_class_token_counts_where_it_is_kept():
    config = SimpleNamespace(
        vision_config=SimpleNamespace(patch_size=14), vision_feature_select_strategy="full"
    )
    assert FAMILIES["llava"].image_tokens(config, 28) == 5


def test_qwens_patches_are_those_of_its_processor(squares):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    family, pixels = FAMILIES["qwen3_vl"], squares(2, 64)
    vision = SimpleNamespace(patch_size=8, spatial_merge_size=2, temporal_patch_size=2)
    made = family.pixels(SimpleNamespace(vision_config=vision), normalise(pixels, *family.normal))
    processor = Qwen2VLImageProcessorPil(
        patch_size=8, merge_size=2, temporal_patch_size=2, do_resize=False,
        image_mean=list(family.normal[0]), image_std=list(family.normal[1]),
    )  # fmt: skip
    theirs = processor([one.permute(1, 2, 0).numpy() for one in pixels], return_tensors="np")
    assert made["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
    np.testing.assert_allclose(made["pixel_values"].numpy(), theirs["pixel_values"], atol=1e-6)


def test_qwens_positions_are_those_of_its_model(tiny_model):
    encoder = tiny_model("qwen3_vl").instruction_encoder
    given = encoder.tokens(["find the cup"])
    ids = torch.cat([encoder.tokens.prefix[None], given.ids], dim=1)
    kinds = (ids == encoder.config.image_token_id).int()
    theirs, _ = encoder.backbone.get_rope_index(ids, kinds, image_grid_thw=torch.tensor([[1, 8, 8]]))
    ours = encoder.family.positions(encoder.config, encoder.tokens.prefix, 64, given.ids.shape[1])
    assert torch.equal(theirs[:, 0], ours)


def test_a_side_that_the_patches_do_not_fill_is_refused():
    config = SimpleNamespace(vision_config=SimpleNamespace(patch_size=16, spatial_merge_size=2))
    with pytest.raises(ModelError, match="multiple of 32, but has 500"):
        FAMILIES["qwen3_vl"].image_tokens(config, 500)
