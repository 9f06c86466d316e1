"""What tests of tabletop scenes share."""

from __future__ import annotations

import pytest

from ivm.data.tabletop import Studio, TabletopSpec
from ivm.errors import IVMError


@pytest.fixture(scope="session")
def opengl():
    """Skips where nothing can be rendered."""
    pytest.importorskip("mujoco", reason="needs the extra 'synthesis'")
    try:
        with Studio(TabletopSpec(size=64, shapes=("ball",), objects=(1, 1), robot=0.0), 0) as studio:
            studio.scene(0)
    except IVMError as error:
        pytest.skip(f"nothing can be rendered here: {error}")


@pytest.fixture(scope="session")
def scenes(opengl):
    """Sixty scenes of the default kind, without shadows."""
    with Studio(TabletopSpec(shadows=False), 7) as studio:
        return [studio.scene(i) for i in range(60)]
