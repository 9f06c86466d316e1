import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from ivm.errors import OptionError  # noqa: E402
from ivm.models.mask_decoder import Layers, MaskDecoder, RandomFourier  # noqa: E402
from reference_inference import Decoder  # noqa: E402


def reference_names(decoder):
    return {
        f"mask_decoder.{name}".replace("layer_norm_final_attn", "norm_final_attn").replace(
            "layer_norm", "norm"
        ): value
        for name, value in decoder.state_dict().items()
    }


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    made = MaskDecoder(dim=32, heads=2, mlp_dim=48).eval()
    with torch.no_grad():
        for value in made.parameters():
            value.normal_(0.0, 0.3)
    return made


@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_logits_agree_with_the_decoder_written_out_in_float64(decoder, grid):
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(3, 32, *grid, generator=generator)
    condition = torch.randn(3, 32, generator=generator)
    with torch.no_grad():
        logits = decoder(features, condition)
    written_out = Decoder(reference_names(decoder), heads=2)
    expected = np.stack(
        [
            written_out(f, c)
            for f, c in zip(features.double().numpy(), condition.double().numpy(), strict=True)
        ]
    )
    assert logits.shape == (3, 4 * grid[0], 4 * grid[1])
    assert expected.std() > 0.1  # the comparison has something to compare
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4)


def test_the_norms_have_the_epsilon_of_the_reference(decoder):
    """1e-5 between the tokens, where transformers' own default is 1e-6; 1e-6 in the upscaling."""
    norms = [part for part in decoder.transformer.modules() if isinstance(part, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}
    assert decoder.output_upscaling[1].eps == 1e-6


def test_it_has_as_many_values_as_the_published_one():
    with torch.device("meta"):
        state = MaskDecoder().state_dict()
    # 16,615,040 less LoRA (2 x 32 x 65,536) and projection (8,915,200).
    assert sum(value.numel() for value in state.values()) == 16_615_040 - 4_194_304 - 8_915_200


def test_the_condition_decides(decoder):
    features = torch.randn(1, 32, 4, 4).expand(2, -1, -1, -1)
    with torch.no_grad():
        a, b = decoder(features, torch.randn(2, 32))
    assert (a - b).abs().max() > 0.01


def test_positions_stay_in_float32_in_any_precision():
    positions = RandomFourier(16)
    before = positions(4, 4).clone()
    positions.bfloat16()
    assert positions.positional_encoding_gaussian_matrix.dtype == torch.float32
    torch.testing.assert_close(positions(4, 4), before)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(positions(4, 4), before)


def test_half_precision_computes(decoder):
    features, condition = torch.randn(1, 32, 4, 4), torch.randn(1, 32)
    with torch.no_grad():
        exact = decoder(features, condition)
        rough = decoder.bfloat16()(features, condition)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(OptionError, match="multiple of 8 and of twice the heads"):
        MaskDecoder(dim=36, heads=8)


def test_layers_have_relu_between_and_not_after():
    layers = Layers(3, 5, 2)
    x = torch.randn(4, 3)
    expected = layers.layers[1](layers.layers[0](x).clamp(min=0))
    torch.testing.assert_close(layers(x), expected)
