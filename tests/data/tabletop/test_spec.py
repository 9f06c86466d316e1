from __future__ import annotations

import json

import pytest

from ivm.data.tabletop.catalogue import KINDS
from ivm.data.tabletop.spec import TabletopSpec
from ivm.errors import OptionError


def test_a_spec_travels_as_json() -> None:
    spec = TabletopSpec(
        size=128, shapes=("mug", "ball"), exclude_pairs=(("mug", "red"),), views=("top",), objects=(1, 3)
    )
    assert TabletopSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert TabletopSpec.from_json({}) == TabletopSpec()


def test_choices_hold_every_restriction() -> None:
    spec = TabletopSpec(colours=("red", "blue"), exclude_pairs=(("mug", "red"), ("ball", "blue")))
    assert spec.choices["mug"] == ("blue",)
    assert spec.choices["ball"] == ("red",)
    assert "banana" not in spec.choices
    assert set(TabletopSpec().choices) == set(KINDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 32}, "size"),
        ({"size": 256.0}, "size"),
        ({"shapes": ("mugg",)}, "mugg"),
        ({"colours": ("mauve",)}, "mauve"),
        ({"views": ()}, "at least one"),
        ({"views": ("front",)}, "front"),
        ({"objects": (3, 2)}, "fewest"),
        ({"objects": (0, 2)}, "fewest"),
        ({"objects": (2, 40)}, "fewest"),
        ({"robot": 1.5}, "robot"),
        ({"stacked": "often"}, "stacked"),
        ({"block": 0}, "block"),
        ({"min_pixels": 0}, "min_pixels"),
        ({"exclude_pairs": ("mug", "red")}, "pairs"),
        ({"exclude_pairs": (("mug", "mauve"),)}, "mauve"),
        ({"shapes": ("banana",), "colours": ("blue",)}, "nothing"),
        ({"shapes": ("ball",), "only_pairs": (("mug", "red"),)}, "red mug"),
        ({"only_pairs": (("mug", "red"),), "exclude_pairs": (("mug", "red"),)}, "red mug"),
    ],
)
def test_wrong_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TabletopSpec(**options)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(OptionError, match="'colors'"):
        TabletopSpec.from_json({"colors": ["red"]})
