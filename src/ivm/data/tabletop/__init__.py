"""Tabletop scenes drawn off screen: objects built here, exact masks, physical relations.

`meshes` makes surfaces, `kitchen`, `food` and `toys` the objects, `catalogue` their nouns, `paint` colours
and textures; `arranging` puts them on the table, `arm` and `setting` add a robot and a room, `stage` draws,
`spatial` and `scenes` tell what is to be seen. `world` builds the same as a simulation that can be stepped.
"""

from __future__ import annotations

from ivm.data.tabletop.scenes import Studio, tabletop_scene, tabletop_scenes
from ivm.data.tabletop.spec import TabletopSpec

__all__ = ["Studio", "TabletopSpec", "tabletop_scene", "tabletop_scenes"]
