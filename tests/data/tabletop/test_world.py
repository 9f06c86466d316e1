from __future__ import annotations

import numpy as np
import pytest

from ivm.data.tabletop.library import make_library
from ivm.data.tabletop.spec import TabletopSpec
from ivm.data.tabletop.world import build_scene, convex_pieces

pytest.importorskip("mujoco", reason="needs the extra 'synthesis'")


def test_arrangements_stand_still_when_simulated() -> None:
    """The exact placing is physical: hardly anything rolls or falls within 0.6 seconds."""
    moved = []
    for index in range(8):
        world = build_scene(TabletopSpec(stacked=0.4, objects=(6, 10)), 1, index)
        before = [world.position(k) for k in range(len(world.objects))]
        world.step(300)
        moved += [np.linalg.norm(world.position(k) - b) for k, b in enumerate(before)]
    assert len(moved) > 40
    assert np.mean(np.array(moved) < 0.03) > 0.9


def test_what_is_in_a_bowl_stays_in_it() -> None:
    spec = TabletopSpec(shapes=("bowl", "pot", "strawberry", "egg"), stacked=1.0, objects=(4, 8))
    stayed = []
    for index in range(12):
        world = build_scene(spec, 2, index)
        inside = [(k, item.support) for k, item in enumerate(world.arrangement.items) if item.inside]
        world.step(250)
        for k, bearer in inside:
            apart = world.position(k) - world.position(bearer)
            stayed.append(np.linalg.norm(apart[:2]) < 0.08 and apart[2] < 0.09)
    assert len(stayed) > 6
    assert np.mean(stayed) > 0.85


def test_a_vessel_is_hollow_to_what_falls_into_it() -> None:
    library = make_library(TabletopSpec(shapes=("mug", "ring", "block")), 0, 0)
    for name, limit in (("mug", 0.2), ("ring", 0.5)):
        specimen = library.specimens[library.by_name[name][0]]
        pieces = convex_pieces(specimen, library.meshes)
        assert len(pieces) > 10
        middle = np.array([0, 0, specimen.extent[2] * 0.6])
        for points in pieces:  # no piece's box reaches the middle of the hollow
            inside = (points.min(axis=0) < middle).all() and (points.max(axis=0) > middle).all()
            assert not inside
        floor = min(points[:, 2].min() for points in pieces)
        assert floor == pytest.approx(0, abs=1e-3)
        assert limit
    block = library.specimens[library.by_name["block"][0]]
    assert len(convex_pieces(block, library.meshes)) == 1


def test_a_robot_room_can_add_its_own(opengl) -> None:
    def add(spec) -> None:
        spec.worldbody.add_camera(name="mine", pos=[0, -1, 1])

    world = build_scene(TabletopSpec(objects=(3, 3)), 0, 0, extend=add)
    assert world.model.camera("mine").id == 0
    again = build_scene(TabletopSpec(objects=(3, 3)), 0, 0)
    assert [o.name for o in world.objects] == [o.name for o in again.objects]
    for one in world.objects:
        assert one.geoms
        np.testing.assert_allclose(world.data.qpos[one.joint : one.joint + 3], world.data.xpos[one.body])
    world.data.qvel[world.objects[0].speed + 2] = 1.0
    start = world.position(0)[2]
    world.step(10)
    assert world.position(0)[2] > start
