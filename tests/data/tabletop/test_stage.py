from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
import pytest

from ivm.data.tabletop.library import make_library
from ivm.data.tabletop.setting import look_at
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.stage import SLOTS, Camera, Drawing, Light, Stage, load_mujoco
from ivm.errors import IVMError

CAMERA = Camera(np.array([0, -1.0, 1.0]), look_at(np.array([0, -1.0, 1.0]), np.zeros(3)), 40.0)
LIGHT = Light(np.array([0, -1.2, 1.6]), np.array([0, 0.6, -0.8]), np.full(3, 0.6), 0.0, True)
AMBIENT = np.full(3, 0.5)


@pytest.fixture(scope="module")
def library():
    return make_library(TabletopSpec(shapes=("block", "ball")), 0, 0)


@pytest.fixture(scope="module")
def stage(opengl, library):
    with Stage(library, 128, shadows=False, smooth=True) as stage:
        yield stage


def ball_at(library, drawing: Drawing, owner: int, position, rgb, scale: float = 1.0) -> None:
    mesh, _ = library.specimens[library.by_name["ball"][0]].parts[0]
    drawing.mesh(owner, mesh, np.array(position), np.eye(3) * scale, rgb, "rough")


def test_a_part_is_drawn_where_it_is_with_its_colour_and_its_number(stage, library) -> None:
    drawing = Drawing()
    drawing.mesh(5, library.furniture["sheet"], np.zeros(3), np.eye(3), (0.5, 0.5, 0.5), "rough")
    ball_at(library, drawing, 9, [0.2, 0, 0], (0.9, 0.05, 0.05))
    image, parts = stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)
    assert image.shape == (128, 128, 3)
    assert set(np.unique(parts)) == {-1, 0, 1}
    red = (image[..., 0] > 120) & (image[..., 1] < 90)
    ball = parts == 1
    assert (red & ball).sum() > 0.9 * ball.sum()
    assert (red & ~ball).sum() < 0.1 * ball.sum()
    rows, columns = np.nonzero(ball)
    local = (np.array([0.2, 0, 0.03]) - CAMERA.position) @ CAMERA.rotation
    focal = 64 / np.tan(np.deg2rad(20))
    assert columns.mean() == pytest.approx(64 + focal * local[0] / -local[2], abs=2)
    assert rows.mean() == pytest.approx(64 - focal * local[1] / -local[2], abs=2)


def test_matrices_stretch_and_near_parts_hide_far_ones(stage, library) -> None:
    areas = []
    for scale in (1.0, 2.0):
        drawing = Drawing()
        ball_at(library, drawing, 0, [0, 0, 0], (1, 0, 0), scale)
        areas.append((stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)[1] == 0).sum())
    assert areas[1] == pytest.approx(4 * areas[0], rel=0.12)
    drawing = Drawing()
    ball_at(library, drawing, 0, [0, 0, 0], (1, 0, 0))
    drawing.primitive(1, "box", (0.3, 0.01, 0.3), np.array([0, -0.3, 0.3]), np.eye(3), (0, 1, 0), "rough")
    parts = stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)[1]
    assert (parts == 0).sum() == 0
    assert (parts == 1).sum() > 500


def test_nothing_of_one_picture_is_left_in_the_next(stage, library) -> None:
    drawing = Drawing()
    ball_at(library, drawing, 0, [0.1, 0, 0], (1, 0, 0))
    first = stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)
    crowd = Drawing()
    for x in np.linspace(-0.3, 0.3, 7):
        ball_at(library, crowd, 1, [x, 0, 0], (0, 1, 0))
    stage.draw(crowd, CAMERA, [LIGHT, LIGHT], AMBIENT * 0.5)
    again = stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])


def test_shadows_darken_the_table(opengl, library) -> None:
    drawing = Drawing()
    drawing.mesh(0, library.furniture["sheet"], np.zeros(3), np.eye(3), (0.8, 0.8, 0.8), "rough")
    ball_at(library, drawing, 1, [0, 0, 0.1], (0.9, 0.1, 0.1), 2.0)
    dark = []
    for shadows in (False, True):
        with Stage(library, 128, shadows, smooth=False) as stage:
            image, parts = stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)
            dark.append((image[parts == 0] < 150).all(axis=1).sum())
    assert dark[0] == 0
    assert dark[1] > 20


def test_too_many_parts_are_refused(stage, library) -> None:
    drawing = Drawing()
    for _ in range(SLOTS + 1):
        ball_at(library, drawing, 0, [0, 0, 0], (1, 0, 0))
    with pytest.raises(IVMError, match=f"{SLOTS + 1}"):
        stage.draw(drawing, CAMERA, [LIGHT], AMBIENT)


def test_opening_and_closing_leaks_nothing(opengl, library) -> None:
    def used() -> tuple[float, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is read from /proc")
    for _ in range(3):
        Stage(library, 64, False, False).close()
    before = used()
    for _ in range(12):
        Stage(library, 64, False, False).close()
    after = used()
    assert after[0] - before[0] < 25
    assert after[1] <= before[1]


def test_without_opengl_one_sentence_says_what_to_install(monkeypatch) -> None:
    pytest.importorskip("mujoco")

    def absent(name: str, *_: object) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(ctypes, "CDLL", absent)
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(IVMError, match=r"apt-get install libegl1 .*MUJOCO_GL=osmesa"):
        load_mujoco()
    assert "MUJOCO_GL" not in os.environ


def test_a_broken_setting_is_named(opengl, monkeypatch, library) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")  # needs a screen, and none is here
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.warns(), pytest.raises(IVMError, match="MUJOCO_GL=glfw"):
        Stage(library, 64, False, False)
