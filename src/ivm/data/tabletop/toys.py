"""Toys, blocks and tools; see `kitchen` for the form of a part."""

from __future__ import annotations

import numpy as np

from ivm.data.tabletop.kitchen import BLACK, STEEL, WOOD, Part
from ivm.data.tabletop.meshes import Mesh, box, extrude, join, lathe, sphere, tube

__all__ = [
    "ball",
    "bell",
    "block",
    "book",
    "bus",
    "cap",
    "car",
    "cone",
    "cylinder",
    "duck",
    "hammer",
    "heart",
    "marker",
    "ring",
    "screwdriver",
    "star",
    "triangle",
]

WINDOW = (0.66, 0.82, 0.90)
BEAK = (0.95, 0.50, 0.08)
RNG = np.random.Generator


def ball(rng: RNG) -> list[Part]:
    r = rng.uniform(0.026, 0.038)
    return [(sphere(r, 24, 16).turned("y", rng.uniform(0, 90)).moved(z=r), "main")]


def block(rng: RNG) -> list[Part]:
    side = rng.uniform(0.042, 0.058)
    return [(box(side, side, side, 0.0025), "main")]


def cylinder(rng: RNG) -> list[Part]:
    r, h = rng.uniform(0.022, 0.03), rng.uniform(0.05, 0.08)
    return [(lathe([(0, 0), (r - 0.002, 0), (r, 0.002), (r, h - 0.002), (r - 0.002, h), (0, h)]), "main")]


def cone(rng: RNG) -> list[Part]:
    r, h = rng.uniform(0.03, 0.038), rng.uniform(0.07, 0.095)
    return [(lathe([(0, 0), (r, 0), (r * 0.97, 0.004), (0.003, h), (0, h + 0.001)]), "main")]


def ring(rng: RNG) -> list[Part]:
    radius, thick = rng.uniform(0.032, 0.042), rng.uniform(0.008, 0.012)
    angle = np.linspace(0, 2 * np.pi, 13)
    return [
        (lathe([(radius + thick * np.cos(a), thick * np.sin(a)) for a in angle], 32).moved(z=thick), "main")
    ]


def star(rng: RNG) -> list[Part]:
    angle = np.arange(10) * np.pi / 5 + np.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.42, 0.5)) * rng.uniform(0.044, 0.054)
    outline = [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(reach, angle, strict=True)]
    return [(extrude(outline, rng.uniform(0.018, 0.026), 0.003), "main")]


def heart(rng: RNG) -> list[Part]:
    t = np.linspace(0, 2 * np.pi, 36, endpoint=False)[::-1]
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    scale = rng.uniform(0.0026, 0.0032)
    outline = [(float(a * scale), float(b * scale)) for a, b in zip(x, y, strict=True)]
    return [(extrude(outline, rng.uniform(0.018, 0.026), 0.003), "main")]


def triangle(rng: RNG) -> list[Part]:
    side = rng.uniform(0.06, 0.08)
    outline = [(-side / 2, 0.0), (side / 2, 0.0), (0.0, side * 0.85)]
    prism = extrude(outline, rng.uniform(0.03, 0.04), 0.002)
    return [(prism.moved(y=-side * 0.28) if rng.random() < 0.4 else _stood(prism), "main")]


def _stood(mesh: Mesh) -> Mesh:
    depth = float(mesh.vertices[:, 2].max())
    return mesh.turned("x", 90).moved(y=depth / 2)


def duck(rng: RNG) -> list[Part]:
    r = rng.uniform(0.026, 0.032)

    def tail(v: np.ndarray) -> np.ndarray:
        back = np.clip(-v[:, 0] / (1.3 * r) - 0.3, 0, 1)
        v[:, 2] += back**2 * 1.4 * r
        v[:, 1] *= 1 - 0.45 * back
        return v

    body = sphere(r, 20, 12).scaled(1.3, 1.0, 0.82).bent(tail).moved(z=0.8 * r)
    head = sphere(0.66 * r, 18, 10).moved(0.72 * r, 0, 1.95 * r)
    wings = [
        sphere(0.55 * r, 12, 8).scaled(1.2, 0.35, 0.7).moved(-0.2 * r, s * 0.92 * r, 0.95 * r)
        for s in (-1, 1)
    ]
    beak = sphere(0.3 * r, 12, 8).scaled(1.2, 1.0, 0.5).moved(1.42 * r, 0, 1.88 * r)
    eyes = [sphere(0.11 * r, 8, 6).moved(1.22 * r, s * 0.34 * r, 2.18 * r) for s in (-1, 1)]
    return [(join(body, head, *wings), "main"), (beak, BEAK), (join(*eyes), BLACK)]


def _wheels(x: float, y: float, r: float, thick: float) -> tuple[Mesh, Mesh]:
    wheel = lathe(
        [(0, 0), (r * 0.9, 0), (r, thick * 0.2), (r, thick * 0.8), (r * 0.9, thick), (0, thick)], 18
    )
    wheel = wheel.moved(z=-thick / 2).turned("x", 90).moved(z=r)
    hub = lathe([(0, 0), (r * 0.45, 0), (r * 0.35, 0.0015), (0, 0.0015)], 12)
    left = hub.turned("x", 90).moved(y=-thick / 2, z=r)
    right = hub.turned("x", -90).moved(y=thick / 2, z=r)
    corners = [(sx * x, sy * y) for sx in (-1, 1) for sy in (-1, 1)]
    tyres = join(*[wheel.moved(a, b) for a, b in corners])
    return tyres, join(*[(left if b < 0 else right).moved(a, b) for a, b in corners])


def car(rng: RNG) -> list[Part]:
    length, wide = rng.uniform(0.10, 0.125), rng.uniform(0.044, 0.05)
    r = length * 0.1
    nose = length / 2
    side = [
        (-nose, 0.0),
        (nose, 0.0),
        (nose, 0.014),
        (nose * 0.95, 0.02),
        (nose * 0.45, 0.023),
        (-nose, 0.024),
    ]
    body = extrude(side, wide).moved(z=-wide / 2).turned("x", 90).moved(z=r * 0.75)
    roof = [(-nose * 0.75, 0.0), (nose * 0.5, 0.0), (nose * 0.2, 0.02), (-nose * 0.5, 0.02)]
    glass = extrude(roof, wide * 0.86).moved(z=-wide * 0.43).turned("x", 90).moved(z=r * 0.75 + 0.022)
    top = box(length * 0.37, wide * 0.9, 0.004, 0.001).moved(-nose * 0.15, 0, r * 0.75 + 0.041)
    tyres, hubs = _wheels(length * 0.3, wide / 2 - 0.001, r, 0.01)
    lamps = [sphere(0.005, 10, 6).moved(nose - 0.001, s * wide * 0.33, r * 0.75 + 0.012) for s in (-1, 1)]
    parts: list[Part] = [(join(body, top), "main"), (glass, WINDOW), (tyres, BLACK)]
    return [*parts, (join(hubs, *lamps), (0.9, 0.9, 0.85))]


def bus(rng: RNG) -> list[Part]:
    length, wide, high = rng.uniform(0.12, 0.145), rng.uniform(0.044, 0.05), rng.uniform(0.045, 0.055)
    r = 0.011
    body = box(length, wide, high, 0.004).moved(z=r * 0.8)
    band = box(length * 1.004, wide * 1.01, high * 0.3).moved(z=r * 0.8 + high * 0.52)
    posts = [
        box(0.006, wide * 1.02, high * 0.31).moved(x=x * length, z=r * 0.8 + high * 0.515)
        for x in (-0.3, -0.1, 0.1, 0.3)
    ]
    tyres, hubs = _wheels(length * 0.3, wide / 2 - 0.001, r, 0.01)
    return [(join(body, *posts), "main"), (band, WINDOW), (tyres, BLACK), (hubs, (0.9, 0.9, 0.85))]


def book(rng: RNG) -> list[Part]:
    x, y, z = rng.uniform(0.10, 0.13), rng.uniform(0.14, 0.18), rng.uniform(0.015, 0.032)
    covers = [box(x, y, 0.002), box(x, y, 0.002).moved(z=z - 0.002)]
    spine = box(0.003, y, z).moved(x=-x / 2 + 0.0015)
    pages = box(x - 0.006, y - 0.006, z - 0.003).moved(x=0.0, z=0.0015)
    return [(join(*covers, spine), "main"), (pages, (0.95, 0.94, 0.89))]


def bell(rng: RNG) -> list[Part]:
    r = rng.uniform(0.028, 0.034)
    outer = [(0.93, 0.0), (1.0, 0.05), (0.78, 0.35), (0.62, 0.8), (0.52, 1.15), (0.3, 1.38), (0, 1.42)]
    body = lathe([(0, 0.1 * r), (0.85 * r, 0.0), *[(a * r, b * r) for a, b in outer]])
    grip = lathe([(0, 0), (0.007, 0), (0.006, 0.02), (0.009, 0.042), (0, 0.046)], 16).moved(z=1.38 * r)
    return [(body, "main"), (grip, WOOD if rng.random() < 0.5 else BLACK)]


def cap(rng: RNG) -> list[Part]:
    r = rng.uniform(0.06, 0.068)
    angle = np.linspace(0, np.pi / 2, 9)
    dome = lathe([(0, 0), *[(r * np.cos(a), 0.8 * r * np.sin(a)) for a in angle[:-1]], (0, 0.8 * r)], 28)
    button = sphere(0.007, 10, 6).moved(z=0.8 * r)
    span = np.linspace(-1.15, 1.15, 13)
    outer = [(float(0.55 * r + 1.2 * r * np.cos(a)), float(0.92 * r * np.sin(a))) for a in span]
    inner = [(float(0.9 * r * np.cos(a)), float(0.9 * r * np.sin(a))) for a in span[::-1]]
    brim = (
        extrude(outer + inner, 0.003)
        .bent(lambda v: v - np.outer(v[:, 1] ** 2 * 2.0, [0, 0, 1]))
        .moved(z=0.008)
    )
    return [(join(dome, brim), "main"), (button, "accent")]


def hammer(rng: RNG) -> list[Part]:
    length = rng.uniform(0.19, 0.24)
    z = 0.014
    grip = tube(
        [(x, 0, z) for x in np.linspace(-length / 2, length / 2, 6)],
        [0.012, 0.013, 0.011, 0.009, 0.009, 0.009],
        10,
    )
    face = tube(
        [(length / 2 - 0.008, y, z) for y in (-0.045, -0.035, -0.034, 0.012)],
        [0.014, 0.014, 0.010, 0.010],
        12,
    )
    claw = extrude([(0.009, 0.01), (0.007, 0.035), (-0.006, 0.055), (-0.009, 0.01)], 0.018)
    claw = claw.moved(length / 2 - 0.008, 0, z - 0.009)
    return [(grip, "main"), (join(face, claw), (0.38, 0.39, 0.41))]


def screwdriver(rng: RNG) -> list[Part]:
    length = rng.uniform(0.16, 0.2)
    grip_end = -length / 2 + 0.085
    z = 0.014
    xs = np.linspace(-length / 2, grip_end, 8)
    grip = tube([(x, 0, z) for x in xs], [0.010, 0.014, 0.0135, 0.0135, 0.0135, 0.013, 0.009, 0.010], 8)
    shaft = tube(
        [(grip_end - 0.004, 0, z), (length / 2 - 0.012, 0, z), (length / 2, 0, z)],
        [0.0035, 0.0035, 0.0025],
        8,
    )
    return [(grip, "main"), (shaft, STEEL)]


def marker(rng: RNG) -> list[Part]:
    length, r = rng.uniform(0.12, 0.14), rng.uniform(0.0075, 0.009)
    body = tube([(-length / 2, 0, r), (length * 0.15, 0, r)], r, 14)
    lid = tube(
        [(length * 0.15, 0, r), (length * 0.45, 0, r), (length / 2, 0, r)], [r * 1.1, r * 1.1, r * 0.8], 14
    )
    clip = box(length * 0.25, 0.003, 0.002).moved(length * 0.3, 0, 2.15 * r)
    if rng.random() < 0.5:
        return [(join(lid, clip), "main"), (body, (0.93, 0.93, 0.92))]
    return [(join(body, lid, clip), "main")]
