import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from ivm.errors import ModelError  # noqa: E402
from ivm.models import image_encoder  # noqa: E402
from ivm.models.image_encoder import ImageEncoder, normalise, squash  # noqa: E402
from reference_inference import sam_features, square_of  # noqa: E402

CPU = torch.device("cpu")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([8, 33, 64]), st.integers(0, 99))
def test_matrix_products_squash_exactly_as_pillow_does(height, width, side, seed):
    image = noise(height, width, seed)
    by_products = image_encoder._in_groups([image], side, CPU)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(by_products, square_of(image, side))


def test_pictures_of_many_sizes_keep_their_places():
    images = [noise(20, 30, 1), noise(40, 10, 2), noise(20, 30, 3)]
    for way in (squash, image_encoder._in_groups):
        squares = way(images, 16, CPU)
        assert squares.shape == (3, 3, 16, 16)
        for square, image in zip(squares, images, strict=True):
            assert np.array_equal(square.permute(1, 2, 0).numpy(), square_of(image, 16))


def test_a_square_is_squashed_further_or_left_alone():
    squares = squash([noise(50, 40)], 64, CPU)
    assert torch.equal(squash(squares, 64, CPU), squares)
    smaller = np.asarray(Image.fromarray(squares[0].permute(1, 2, 0).numpy()).resize((24, 24)))
    assert np.array_equal(squash(squares, 24, CPU)[0].permute(1, 2, 0).numpy(), smaller)


def test_pixels_are_normalised_per_channel():
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = normalise(pixels, (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))
    torch.testing.assert_close(out.flatten(), torch.tensor([-1.0, (128 / 255 - 0.25) / 0.5, 0.5]))


def test_features_are_those_of_sam(tiny_bases):
    base = tiny_bases().image_base
    encoder = ImageEncoder(transformers.SamModel.from_pretrained(base).vision_encoder.eval())
    image = noise(48, 80)
    features = encoder(squash([image], encoder.side, CPU))
    exact = transformers.SamModel.from_pretrained(base).vision_encoder.double().eval()
    expected = sam_features(exact, square_of(image, 64))
    assert features.shape == (1, encoder.channels, 4, 4)
    assert not features.requires_grad  # frozen: nothing is kept for a backward pass
    np.testing.assert_allclose(features[0].numpy(), expected, atol=1e-4)


def test_sam2_gives_its_grid_of_stride_16(tiny_bases, squares):
    base = tiny_bases("llava", "sam2").image_base
    encoder = ImageEncoder(transformers.Sam2Model.from_pretrained(base).vision_encoder.eval())
    assert (encoder.side, encoder.channels) == (64, 32)
    features = encoder(squares(2))
    assert features.shape == (2, 32, 4, 4)
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_another_backbone_is_refused():
    backbone = torch.nn.Linear(1, 1)
    backbone.config = transformers.BertConfig()
    with pytest.raises(ModelError, match="must be one of sam_vision_model, sam2_vision_model, but is bert"):
        ImageEncoder(backbone)
