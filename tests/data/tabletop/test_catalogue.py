from __future__ import annotations

import pytest

from ivm.data.scene import AFFORDANCES
from ivm.data.tabletop import toys
from ivm.data.tabletop.catalogue import KINDS, Kind
from ivm.data.tabletop.paint import COLOUR_NAMES
from ivm.data.tabletop.stage import FINISHES


@pytest.mark.parametrize("name", KINDS)
def test_kinds_use_known_words(name: str) -> None:
    kind = KINDS[name]
    assert set(kind.colours) <= set(COLOUR_NAMES)
    assert set(kind.shades) <= set(kind.colours)
    assert set(kind.affordances) <= set(AFFORDANCES)
    assert set(kind.finish) <= set(FINISHES)
    assert name not in kind.synonyms
    assert 0 <= kind.lying <= 1
    assert kind.weight > 0


def test_no_two_kinds_share_a_shape_in_all_their_colours() -> None:
    for a in KINDS:
        for b in KINDS:
            if a != b and KINDS[a].build is KINDS[b].build:  # lemon and lime
                assert not set(KINDS[a].colours) & set(KINDS[b].colours)


def test_an_unknown_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="mauve"):
        Kind(toys.ball, ("mauve",))
