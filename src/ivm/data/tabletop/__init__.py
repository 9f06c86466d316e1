"""Tabletop scenes drawn off screen: objects built here, exact masks, physical relations.

`meshes` makes surfaces, `kitchen`, `food` and `toys` the objects, `catalogue` their nouns, `paint` colours
and textures; `layout` puts them on the table, `robot` adds an arm, `stage` draws, `relations` and `scenes`
tell what is to be seen.
"""

from __future__ import annotations

from ivm.data.tabletop.scenes import Studio, tabletop_scene, tabletop_scenes
from ivm.data.tabletop.spec import TabletopSpec

__all__ = ["Studio", "TabletopSpec", "tabletop_scene", "tabletop_scenes"]
