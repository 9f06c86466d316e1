"""What can lie on the table: its nouns, its colours, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ivm.data.tabletop import food, kitchen, toys
from ivm.data.tabletop.kitchen import Part
from ivm.data.tabletop.paint import COLOUR_NAMES

__all__ = ["KINDS", "Kind"]

_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "turquoise")
_CERAMIC = (*_BRIGHT, "grey", "brown", "beige")
_METAL = ("silver", "silver", "black", "grey", "red", "blue")


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes:
        build: random generator -> parts of one specimen.
        colours: of COLOUR_NAMES; a repeated one comes more often.
        synonyms: other nouns for it; the last may be more general.
        affordances: of scene.AFFORDANCES.
        finish: "ceramic", "plastic", "metal", "wood", "wicker", "rough" or "fruit"; how it shines, and what
            it is made of. The first is usual.
        patterned: it may be striped, checked or dotted.
        label: it may carry a text.
        lying: share of specimens that lie on their side.
        weight: how often it comes, relative to others.
        shades: colour word -> sRGB of it for this kind, where that is narrower than the word (a banana).
    """

    build: Callable[[np.random.Generator], list[Part]]
    colours: tuple[str, ...] = COLOUR_NAMES
    synonyms: tuple[str, ...] = ()
    affordances: tuple[str, ...] = ("graspable",)
    finish: tuple[str, ...] = ("plastic",)
    patterned: bool = False
    label: bool = False
    lying: float = 0.0
    weight: float = 1.0
    shades: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = (set(self.colours) | set(self.shades)) - set(COLOUR_NAMES)
        if unknown:
            raise ValueError(f"unknown colours {sorted(unknown)}")


_G = "graspable"
_HOLDS = (_G, "container")
_POURS = (_G, "container", "pourable")
_FRUIT = (_G, "edible")

KINDS: dict[str, Kind] = {
    # Kitchen
    "cup": Kind(
        kitchen.cup,
        _CERAMIC,
        ("tumbler",),
        (*_POURS, "stackable"),
        ("plastic", "ceramic"),
        True,
        lying=0.1,
        weight=2,
    ),
    "mug": Kind(kitchen.mug, _CERAMIC, ("coffee mug", "cup"), _POURS, ("ceramic",), True, weight=2),
    "wine glass": Kind(
        kitchen.wine_glass,
        ("turquoise", "blue", "purple", "grey", "silver", "gold", "green"),
        ("goblet", "glass"),
        _POURS,
        ("metal",),
        weight=0.6,
    ),
    "plate": Kind(kitchen.plate, _CERAMIC, ("dish",), (_G, "surface", "stackable"), ("ceramic",), weight=2),
    "bowl": Kind(
        kitchen.bowl, _CERAMIC, ("dish",), (*_HOLDS, "stackable"), ("ceramic", "wood"), True, weight=2
    ),
    "pan": Kind(
        kitchen.pan,
        ("black", "grey", "silver", "red", "blue", "green"),
        ("frying pan", "skillet"),
        _HOLDS,
        ("metal",),
    ),
    "pot": Kind(
        kitchen.pot,
        ("silver", "black", "red", "blue", "orange", "grey", "green"),
        ("cooking pot", "saucepan"),
        _POURS,
        ("metal",),
    ),
    "bottle": Kind(
        kitchen.bottle,
        (*_BRIGHT, "brown", "grey"),
        ("flask",),
        (_G, "pourable"),
        ("plastic",),
        label=True,
        lying=0.2,
        weight=2,
    ),
    "can": Kind(
        kitchen.can,
        (*_BRIGHT, "silver", "grey"),
        ("tin", "soda can"),
        (_G, "stackable", "surface"),
        ("metal",),
        True,
        label=True,
        lying=0.15,
        weight=1.5,
    ),
    "jar": Kind(kitchen.jar, (*_BRIGHT, "brown"), (), (_G, "stackable"), ("plastic",), label=True),
    "jug": Kind(kitchen.jug, _CERAMIC, ("pitcher",), _POURS, ("ceramic",), True),
    "teapot": Kind(kitchen.teapot, _CERAMIC, ("tea pot", "kettle"), (_G, "pourable"), ("ceramic",), True),
    "vase": Kind(kitchen.vase, (*_CERAMIC, "gold"), (), (_G, "container"), ("ceramic",), True),
    "candle": Kind(
        kitchen.candle,
        ("red", "white", "yellow", "purple", "pink", "green", "blue", "orange", "beige"),
        (),
        (_G,),
        ("rough",),
        weight=0.7,
    ),
    "tray": Kind(
        kitchen.tray, (*_BRIGHT, "brown", "grey", "silver"), (), (*_HOLDS, "surface"), ("plastic", "wood")
    ),
    "basket": Kind(
        kitchen.basket, ("brown", "beige", "white", "grey", "black"), (), _HOLDS, ("wicker",), weight=0.7
    ),
    "cutting board": Kind(
        kitchen.board,
        ("brown", "beige", "green", "white", "grey", "red", "blue"),
        ("chopping board", "board"),
        (_G, "surface"),
        ("wood", "plastic"),
    ),
    "box": Kind(
        kitchen.box_carton,
        (*_BRIGHT, "brown", "beige", "grey"),
        ("carton", "package"),
        (_G, "stackable", "surface"),
        ("rough",),
        True,
        label=True,
        weight=1.5,
    ),
    "sponge": Kind(
        kitchen.sponge, ("yellow", "green", "blue", "pink", "orange", "purple"), (), (_G,), ("rough",)
    ),
    "fork": Kind(
        kitchen.fork,
        ("silver", "silver", "silver", "gold", "white", "red", "blue", "green"),
        (),
        (_G,),
        ("metal",),
    ),
    "spoon": Kind(
        kitchen.spoon,
        ("silver", "silver", "silver", "gold", "white", "red", "blue", "green"),
        (),
        (_G,),
        ("metal",),
    ),
    "knife": Kind(
        kitchen.knife,
        ("silver", "silver", "black", "brown", "red", "blue", "green", "white"),
        (),
        (_G,),
        ("metal",),
    ),
    "spatula": Kind(
        kitchen.spatula,
        ("red", "black", "green", "blue", "orange", "turquoise", "grey", "purple"),
        (),
        (_G,),
        ("plastic",),
    ),
    # Food
    "apple": Kind(
        food.apple,
        ("red", "red", "green", "yellow"),
        ("fruit",),
        _FRUIT,
        ("fruit",),
        weight=1.5,
        shades={"red": (190, 35, 40), "green": (140, 185, 60), "yellow": (225, 195, 80)},
    ),
    "banana": Kind(
        food.banana,
        ("yellow", "yellow", "yellow", "green"),
        ("fruit",),
        _FRUIT,
        ("fruit",),
        weight=1.5,
        shades={"yellow": (240, 205, 60), "green": (150, 190, 60)},
    ),
    "lemon": Kind(food.lemon, ("yellow",), ("fruit",), _FRUIT, ("fruit",), shades={"yellow": (245, 220, 60)}),
    "lime": Kind(
        food.lemon, ("green",), ("fruit",), _FRUIT, ("fruit",), weight=0.6, shades={"green": (110, 175, 45)}
    ),
    "orange": Kind(
        food.orange, ("orange",), ("fruit",), _FRUIT, ("fruit",), shades={"orange": (243, 140, 30)}
    ),
    "pear": Kind(
        food.pear,
        ("green", "yellow"),
        ("fruit",),
        _FRUIT,
        ("fruit",),
        shades={"green": (160, 185, 70), "yellow": (215, 195, 75)},
    ),
    "carrot": Kind(
        food.carrot, ("orange",), ("vegetable",), _FRUIT, ("fruit",), shades={"orange": (238, 125, 35)}
    ),
    "tomato": Kind(food.tomato, ("red",), ("vegetable",), _FRUIT, ("fruit",), shades={"red": (210, 45, 35)}),
    "strawberry": Kind(
        food.strawberry, ("red",), ("berry", "fruit"), _FRUIT, ("fruit",), shades={"red": (205, 30, 45)}
    ),
    "eggplant": Kind(
        food.aubergine,
        ("purple",),
        ("aubergine", "vegetable"),
        _FRUIT,
        ("fruit",),
        shades={"purple": (85, 35, 105)},
    ),
    "cucumber": Kind(
        food.cucumber, ("green",), ("vegetable",), _FRUIT, ("fruit",), shades={"green": (65, 125, 55)}
    ),
    "bell pepper": Kind(
        food.pepper,
        ("red", "green", "yellow", "orange"),
        ("pepper", "vegetable"),
        _FRUIT,
        ("fruit",),
        shades={
            "red": (200, 35, 30),
            "green": (50, 130, 50),
            "yellow": (240, 195, 40),
            "orange": (240, 130, 30),
        },
    ),
    "mushroom": Kind(
        food.mushroom,
        ("brown", "white", "red", "beige"),
        (),
        _FRUIT,
        ("fruit",),
        shades={"brown": (150, 105, 75), "white": (235, 228, 215)},
    ),
    "egg": Kind(
        food.egg,
        ("white", "beige", "brown"),
        (),
        _FRUIT,
        ("rough",),
        shades={"white": (240, 235, 228), "brown": (185, 130, 90)},
    ),
    "donut": Kind(
        food.doughnut,
        ("pink", "brown", "white", "yellow", "blue"),
        ("doughnut",),
        _FRUIT,
        ("fruit",),
        shades={"brown": (95, 55, 35), "pink": (240, 150, 185)},
    ),
    "bread": Kind(
        food.bread,
        ("brown",),
        ("loaf", "loaf of bread"),
        _FRUIT,
        ("rough",),
        shades={"brown": (165, 105, 55)},
    ),
    # Toys and tools
    "ball": Kind(toys.ball, _BRIGHT, ("sphere",), (_G,), ("plastic", "rough"), True, weight=2),
    "block": Kind(
        toys.block,
        (*_BRIGHT, "brown", "grey", "beige"),
        ("cube", "toy block"),
        (_G, "stackable", "surface"),
        ("plastic", "wood"),
        label=True,
        weight=2.5,
    ),
    "cylinder": Kind(
        toys.cylinder, (*_BRIGHT, "brown", "grey"), (), (_G, "stackable", "surface"), ("plastic", "wood")
    ),
    "cone": Kind(toys.cone, (*_BRIGHT, "grey"), (), (_G,), ("plastic",)),
    "triangle": Kind(toys.triangle, (*_BRIGHT, "brown"), ("wedge", "prism"), (_G,), ("plastic", "wood")),
    "ring": Kind(toys.ring, (*_BRIGHT, "gold", "silver"), ("hoop",), (_G,), ("plastic",)),
    "star": Kind(toys.star, (*_BRIGHT, "gold", "silver"), (), (_G,), ("plastic",)),
    "heart": Kind(toys.heart, _BRIGHT, (), (_G,), ("plastic",)),
    "duck": Kind(
        toys.duck,
        ("yellow", "yellow", "white", "pink", "blue", "green", "red", "purple"),
        ("rubber duck", "toy duck", "toy"),
        (_G,),
        ("plastic",),
    ),
    "car": Kind(toys.car, (*_BRIGHT, "grey"), ("toy car", "toy"), (_G,), ("plastic",), weight=1.5),
    "bus": Kind(toys.bus, _BRIGHT, ("toy bus", "toy"), (_G,), ("plastic",)),
    "book": Kind(
        toys.book,
        (*_BRIGHT, "brown", "grey", "beige"),
        (),
        (_G, "surface", "stackable", "readable"),
        ("rough",),
    ),
    "bell": Kind(toys.bell, ("gold", "gold", "silver", "red"), (), (_G,), ("metal",), weight=0.6),
    "cap": Kind(
        toys.cap, (*_BRIGHT, "grey", "beige"), ("hat", "baseball cap"), (_G,), ("rough",), weight=0.7
    ),
    "hammer": Kind(
        toys.hammer,
        ("brown", "red", "yellow", "black", "blue", "green", "orange"),
        ("tool",),
        (_G,),
        ("plastic", "wood"),
    ),
    "screwdriver": Kind(
        toys.screwdriver,
        ("red", "yellow", "blue", "green", "orange", "black"),
        ("tool",),
        (_G,),
        ("plastic",),
    ),
    "marker": Kind(toys.marker, _BRIGHT, ("pen", "felt pen"), (_G,), ("plastic",)),
}
"""Name -> kind; the name is the noun that instructions use."""
