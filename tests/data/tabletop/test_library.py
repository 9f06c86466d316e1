from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop.library import make_library
from ivm.data.tabletop.spec import TabletopSpec
from ivm.errors import DataError
from ivm.images import write_image

SMALL = TabletopSpec(shapes=("mug", "block", "can", "apple"))


def same(a, b) -> bool:
    return all(
        np.array_equal(x.vertices, y.vertices) for x, y in zip(a.meshes, b.meshes, strict=True)
    ) and all(np.array_equal(x.pixels, y.pixels) for x, y in zip(a.textures, b.textures, strict=True))


def test_a_block_is_a_function_of_spec_seed_and_number() -> None:
    first = make_library(SMALL, 3, 5)
    assert same(first, make_library(SMALL, 3, 5))
    assert not same(first, make_library(SMALL, 3, 6))
    assert not same(first, make_library(SMALL, 4, 5))


def test_specimens_stand_on_the_table_and_their_points_cover_them() -> None:
    library = make_library(SMALL, 0, 0)
    assert set(library.by_name) == set(SMALL.shapes)
    for specimen in library.specimens:
        vertices = np.concatenate([library.meshes[mesh].vertices for mesh, _ in specimen.parts])
        assert vertices[:, 2].min() == pytest.approx(0, abs=1e-6)
        np.testing.assert_allclose(specimen.points.min(axis=0), vertices.min(axis=0), atol=0.006)
        np.testing.assert_allclose(specimen.points.max(axis=0), vertices.max(axis=0), atol=0.006)


def test_textures_carry_allowed_colours_only() -> None:
    spec = TabletopSpec(colours=("red", "blue"))
    library = make_library(spec, 0, 0)
    assert {texture.colour for texture in library.textures} == {None, "red", "blue"}
    assert all(library.by_role.values())


def test_photos_become_surfaces(tmp_path) -> None:
    with pytest.raises(DataError, match="pictures"):
        make_library(TabletopSpec(shapes=("ball",), photos=str(tmp_path)), 0, 0)
    picture = np.full((40, 60, 3), (10, 200, 30), np.uint8)
    write_image(picture, tmp_path / "green.png")
    library = make_library(TabletopSpec(shapes=("ball",), photos=str(tmp_path)), 0, 0)
    plain = make_library(TabletopSpec(shapes=("ball",)), 0, 0)
    assert len(library.by_role["surface"]) > len(plain.by_role["surface"])
    patches = [library.textures[i].pixels for i in library.by_role["surface"]]
    assert any((patch == picture[0, 0]).all() for patch in patches)
