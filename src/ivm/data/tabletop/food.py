"""Fruit, vegetables and other food; see `kitchen` for the form of a part."""

from __future__ import annotations

import numpy as np

from ivm.data.tabletop.kitchen import Part
from ivm.data.tabletop.meshes import Mesh, extrude, join, lathe, sphere, tube

__all__ = [
    "apple",
    "aubergine",
    "banana",
    "bread",
    "carrot",
    "cucumber",
    "doughnut",
    "egg",
    "lemon",
    "mushroom",
    "orange",
    "pear",
    "pepper",
    "strawberry",
    "tomato",
]

STEM = (0.33, 0.22, 0.11)
LEAF = (0.20, 0.50, 0.16)
RNG = np.random.Generator


def _stem(z: float, length: float, thick: float = 0.0022) -> Mesh:
    return tube([(0, 0, z - 0.006), (0.001, 0, z + length * 0.5), (0.004, 0, z + length)], thick, 6)


def _leaf(z: float, length: float, degrees: float) -> Mesh:
    outline = [(0, 0), (length * 0.35, -length * 0.2), (length, 0), (length * 0.35, length * 0.2)]
    leaf = extrude(outline, 0.0012)
    return (
        leaf.bent(lambda v: v + np.outer(v[:, 0] ** 2 / length * 0.5, [0, 0, 1]))
        .turned("z", degrees)
        .moved(z=z)
    )


def _crown(z: float, length: float, count: int, drop: float) -> Mesh:
    """A star of sepals, as on a tomato or strawberry."""
    angle = np.arange(2 * count) * np.pi / count
    reach = np.where(np.arange(2 * count) % 2 == 0, length, length * 0.35)
    outline = np.column_stack([reach * np.cos(angle), reach * np.sin(angle)])
    star = extrude([tuple(p) for p in outline], 0.0012)
    return star.bent(lambda v: v - np.outer(np.hypot(v[:, 0], v[:, 1]) ** 2 * drop, [0, 0, 1])).moved(z=z)


def apple(rng: RNG) -> list[Part]:
    r = rng.uniform(0.034, 0.042)
    profile = [(0, 0.006), (0.25, 0.0), (0.62, 0.12), (0.9, 0.5), (1.0, 0.95), (0.93, 1.35), (0.7, 1.66)]
    profile += [(0.42, 1.76), (0.2, 1.70), (0, 1.52)]
    body = lathe([(x * r, z * r) for x, z in profile], 24)
    parts: list[Part] = [(body, "main"), (_stem(1.55 * r, 0.018), STEM)]
    if rng.random() < 0.6:
        parts.append((_leaf(1.7 * r, 0.026, rng.uniform(0, 360)), LEAF))
    return parts


def banana(rng: RNG) -> list[Part]:
    bend, radius = rng.uniform(1.3, 1.8), rng.uniform(0.015, 0.018)
    length = rng.uniform(0.16, 0.19)
    curve = length / bend
    angle = np.linspace(-bend / 2, bend / 2, 15)
    path = np.column_stack([curve * np.sin(angle), curve * (1 - np.cos(angle)), 0 * angle + radius * 0.95])
    t = np.linspace(-1, 1, 15)
    radii = radius * np.clip(1 - np.abs(t) ** 4 * 0.72, 0.2, 1)
    body = tube(path, radii, 8)  # few sides: a banana has edges
    tip = tube(path[:2] - (path[1] - path[0]) * [[0.6], [0.75]], radius * 0.3, 7)
    stalk = tube(path[-2:] + (path[-1] - path[-2]) * [[0.9], [1.5]], radius * 0.3, 7)
    return [(body, "main"), (join(tip, stalk), (0.28, 0.20, 0.08))]


def lemon(rng: RNG) -> list[Part]:
    r, long = rng.uniform(0.025, 0.030), rng.uniform(1.35, 1.5)
    t = np.linspace(-1, 1, 13)
    profile = [(float(np.sqrt(max(1 - s * s, 0)) * r), float(s * r * long)) for s in t]
    profile[1] = (r * 0.28, -r * long * 1.02)
    profile[-2] = (r * 0.28, r * long * 1.02)
    profile = [(0, -r * long * 1.17), *profile[1:-1], (0, r * long * 1.2)]
    return [(lathe(profile, 20).turned("y", 90).moved(z=r), "main")]


def orange(rng: RNG) -> list[Part]:
    r = rng.uniform(0.034, 0.042)
    body = sphere(r, 24, 14).scaled(1, 1, 0.95).moved(z=0.95 * r)
    button = lathe([(0, 0), (0.004, 0), (0.003, 0.002), (0, 0.0025)], 8).moved(z=1.885 * r)
    return [(body, "main"), (button, LEAF)]


def pear(rng: RNG) -> list[Part]:
    r = rng.uniform(0.031, 0.036)
    profile = [
        (0, 0.05),
        (0.35, 0),
        (0.8, 0.3),
        (1.0, 0.85),
        (0.93, 1.35),
        (0.66, 1.95),
        (0.47, 2.45),
        (0.33, 2.75),
        (0, 2.85),
    ]
    return [(lathe([(x * r, z * r) for x, z in profile], 22), "main"), (_stem(2.8 * r, 0.02), STEM)]


def carrot(rng: RNG) -> list[Part]:
    length, r = rng.uniform(0.13, 0.17), rng.uniform(0.014, 0.018)
    t = np.linspace(0, 1, 10)
    radii = r * (1 - t) ** 0.6 * 0.9 + 0.0015
    radii[0] = r * 0.75
    path = np.column_stack([length * (t - 0.5), 0.004 * np.sin(3 * t), np.full(10, r)])
    leaves = []
    for angle, lift in ((-25, 0.2), (-8, 0.9), (10, 0.5), (27, 0.1)):
        a = np.deg2rad(180 + angle)
        s = np.linspace(0, 0.055, 5)
        xyz = np.column_stack([s * np.cos(a) - length / 2 + 0.004, s * np.sin(a), r + lift * s * 0.5])
        leaves.append(tube(xyz, [0.002, 0.004, 0.006, 0.005, 0.001], 6))
    return [(tube(path, radii, 12), "main"), (join(*leaves), LEAF)]


def tomato(rng: RNG) -> list[Part]:
    r = rng.uniform(0.028, 0.036)
    profile = [(0, 0.02), (0.3, 0), (0.75, 0.2), (1, 0.75), (0.9, 1.3), (0.55, 1.55), (0.2, 1.54), (0, 1.48)]
    body = lathe([(x * r, z * r) for x, z in profile], 24)
    return [(body, "main"), (join(_crown(1.56 * r, 0.7 * r, 5, 6.0), _stem(1.5 * r, 0.01)), LEAF)]


def strawberry(rng: RNG) -> list[Part]:
    r = rng.uniform(0.018, 0.022)
    profile = [(0, -1.45), (0.3, -1.25), (0.75, -0.45), (1, 0.3), (0.9, 0.75), (0.5, 1.0), (0, 1.0)]
    body = lathe([(x * r, z * r) for x, z in profile], 18)
    whole: list[Part] = [(body, "main"), (_crown(1.02 * r, 1.0 * r, 6, 14.0), LEAF)]
    return [(mesh.turned("y", 105).moved(z=0.95 * r), paint) for mesh, paint in whole]


def aubergine(rng: RNG) -> list[Part]:
    length, r = rng.uniform(0.14, 0.18), rng.uniform(0.026, 0.032)
    t = np.linspace(0, 1, 14)
    radii = r * np.sqrt(np.clip(1 - ((t - 0.62) / np.where(t < 0.62, 0.72, 0.39)) ** 2, 0.01, 1))
    path = np.column_stack([length * (t - 0.5), 0.03 * (t - 0.5) ** 2, np.full(14, r)])
    cap = tube(path[:4] - [[0.004, 0, 0]], radii[:4] * 1.08 + 0.001, 12)
    stalk = tube([path[0] - [0.026, 0.004, -0.004], path[0] - [0.01, 0, 0], path[0]], 0.005, 8)
    return [(tube(path, radii, 16), "main"), (join(cap, stalk), LEAF)]


def cucumber(rng: RNG) -> list[Part]:
    length, r = rng.uniform(0.16, 0.20), rng.uniform(0.016, 0.020)
    t = np.linspace(0, 1, 14)
    radii = r * np.clip(1 - np.abs(2 * t - 1) ** 6 * 0.75, 0.2, 1)
    path = np.column_stack([length * (t - 0.5), 0.07 * length * (2 * t - 1) ** 2, np.full(14, r)])
    return [(tube(path, radii, 14), "main")]


def pepper(rng: RNG) -> list[Part]:
    r = rng.uniform(0.034, 0.04)
    profile = [
        (0, 0.25),
        (0.35, 0.05),
        (0.62, 0.1),
        (0.85, 0.7),
        (1, 1.6),
        (0.85, 2.05),
        (0.45, 2.12),
        (0, 1.9),
    ]
    body = lathe([(x * r, z * r) for x, z in profile], 32)

    def lobes(v: np.ndarray) -> np.ndarray:
        ridge = 1 + 0.09 * np.cos(4 * np.arctan2(v[:, 1], v[:, 0]))
        return v * np.column_stack([ridge, ridge, np.ones(len(v))])

    stem = tube([(0, 0, 1.8 * r), (0.001, 0, 2.2 * r), (0.006, 0, 2.6 * r)], [0.007, 0.004, 0.005], 8)
    return [(body.bent(lobes), "main"), (stem, LEAF)]


def mushroom(rng: RNG) -> list[Part]:
    r = rng.uniform(0.026, 0.034)
    cap = lathe(
        [
            (0, 0.7 * r),
            (0.55 * r, 0.62 * r),
            (r, 0.75 * r),
            (0.95 * r, 1.1 * r),
            (0.6 * r, 1.5 * r),
            (0, 1.65 * r),
        ]
    )
    foot = lathe([(0, 0), (0.38 * r, 0), (0.33 * r, 0.75 * r), (0, 0.75 * r)], 16)
    return [(cap, "main"), (foot, (0.93, 0.90, 0.83))]


def egg(rng: RNG) -> list[Part]:
    r = rng.uniform(0.021, 0.024)
    t = np.linspace(-np.pi / 2, np.pi / 2, 14)
    profile = [(float(r * np.cos(a) * (1 - 0.12 * np.sin(a))), float(r * 1.3 * np.sin(a))) for a in t]
    profile[0], profile[-1] = (0, profile[0][1]), (0, profile[-1][1])
    return [(lathe(profile, 20).turned("y", 90).moved(z=r), "main")]


def doughnut(rng: RNG) -> list[Part]:
    radius, thick = rng.uniform(0.030, 0.035), rng.uniform(0.017, 0.020)
    angle = np.linspace(0, 2 * np.pi, 15)
    dough = lathe([(radius + thick * np.cos(a), 0.85 * thick * np.sin(a)) for a in angle], 26).moved(
        z=0.85 * thick
    )
    half = np.linspace(0.05, np.pi - 0.05, 9)
    arch = [(radius + 1.06 * thick * np.cos(a), 0.95 * thick * np.sin(a)) for a in half]
    icing = lathe([*arch, arch[0]], 26)

    def drip(v: np.ndarray) -> np.ndarray:
        around = np.arctan2(v[:, 1], v[:, 0])
        edge = np.clip(1 - v[:, 2] / (0.5 * thick), 0, 1)
        v[:, 2] -= edge * 0.22 * thick * (1 + np.sin(5 * around))
        return v

    return [(icing.bent(drip).moved(z=0.85 * thick), "main"), (dough, (0.80, 0.58, 0.33))]


def bread(rng: RNG) -> list[Part]:
    length, wide = rng.uniform(0.13, 0.17), rng.uniform(0.034, 0.042)
    t = np.linspace(0, 1, 12)
    radii = wide * np.clip(1 - np.abs(2 * t - 1) ** 5 * 0.7, 0.2, 1)
    path = np.column_stack([length * (t - 0.5), 0 * t, np.full(12, wide * 0.72)])
    loaf = tube(path, radii, 16).bent(
        lambda v: np.column_stack([v[:, 0], v[:, 1], np.maximum(v[:, 2] * 0.9, 0)])
    )
    cuts = []
    for x in (-0.28, 0.0, 0.28):
        across = np.linspace(-0.55, 0.55, 5)
        xyz = np.column_stack(
            [x * length + across * 0.02, across * wide, wide * (0.72 + np.sqrt(1 - across**2)) * 0.9]
        )
        cuts.append(tube(xyz, 0.0028, 6))
    return [(loaf, "main"), (join(*cuts), (0.93, 0.80, 0.58))]
