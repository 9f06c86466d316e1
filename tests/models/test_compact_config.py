import json

import pytest

from ivm.errors import OptionError
from ivm.models.compact_config import CompactConfig


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        ({"image_size": 100}, "image_size must be a multiple of 16, but is 100"),
        ({"image_size": 0}, "image_size must be a whole number of at least 1, but is 0"),
        ({"dim": 100, "heads": 8}, "dim must be a multiple of heads, but they are 100 and 8"),
        ({"heads": 0}, "heads must be a whole number of at least 1, but is 0"),
        ({"dim": 32.0}, "dim must be a whole number of at least 1, but is 32.0"),
        ({"dim": "big"}, "dim must be a whole number of at least 1, but is 'big'"),
        ({"dim": True}, "dim must be a whole number of at least 1, but is True"),
        ({"stem": [8, 16]}, "stem must be three whole numbers of at least 1, but is (8, 16)"),
        ({"stem": [8, 16, 0]}, "stem must be three whole numbers of at least 1, but is (8, 16, 0)"),
        ({"stem": 8}, "stem must be three whole numbers of at least 1, but is 8"),
        ({"image_blocks": -1}, "image_blocks must be a whole number of at least 0, but is -1"),
        ({"image_blocks": "x"}, "image_blocks must be a whole number of at least 0, but is 'x'"),
        ({"text_layers": 99}, "text_layers must be a whole number of at least 1 and at most 6, but is 99"),
        ({"vocabulary": 0}, "vocabulary must be a whole number of at least 1, but is 0"),
        (
            {"max_tokens": 1000},
            "max_tokens must be a whole number of at least 3 and at most 512, but is 1000",
        ),
        ({"backbone": "resnet"}, "backbone must be efficientnet-lite0, or empty, but is 'resnet'"),
        ({"threshold": 7}, "threshold must be a number in [0, 1], but is 7"),
        ({"found_threshold": float("nan")}, "found_threshold must be a number in [0, 1], but is nan"),
    ],
)
def test_wrong_sizes_are_refused(sizes, fault):
    with pytest.raises(OptionError) as caught:
        CompactConfig(**sizes)
    assert str(caught.value) == fault


def test_all_wrong_sizes_are_told_at_once():
    with pytest.raises(OptionError, match=r"dim must .*; heads must .*; threshold must"):
        CompactConfig(dim=0, heads=0, threshold=-1)


def test_the_least_and_the_most_are_sizes():
    CompactConfig(image_blocks=0, fusion_blocks=0, text_blocks=0, text_layers=6, max_tokens=512, threshold=1)


def test_it_survives_json():
    config = CompactConfig(image_size=256, stem=(16, 32, 64))
    assert CompactConfig(**json.loads(json.dumps(config.to_dict()))) == config
