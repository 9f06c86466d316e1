"""Kitchen things: each function takes a random generator and returns the parts of one specimen.

A part is (mesh, paint): paint "main" is the thing's own colour, "accent" a second one, a tuple a fixed sRGB
colour in [0, 1]. Metres; the thing stands on z = 0 around the z axis.
"""

from __future__ import annotations

import numpy as np

from ivm.data.tabletop.meshes import Mesh, box, extrude, join, lathe, tube

__all__ = [
    "Part",
    "basket",
    "board",
    "bottle",
    "bowl",
    "box_carton",
    "can",
    "candle",
    "cup",
    "fork",
    "jar",
    "jug",
    "knife",
    "mug",
    "pan",
    "plate",
    "pot",
    "spatula",
    "sponge",
    "spoon",
    "teapot",
    "tray",
    "vase",
    "wine_glass",
]

Part = tuple[Mesh, str | tuple[float, float, float]]

STEEL = (0.72, 0.73, 0.75)
BLACK = (0.09, 0.09, 0.10)
WOOD = (0.62, 0.42, 0.24)
RNG = np.random.Generator


def _vessel(
    outer: list[tuple[float, float]], wall: float, base: float | None = None
) -> list[tuple[float, float]]:
    """A closed wall of thickness `wall` from an outer profile that starts at the axis and ends at the rim."""
    points = np.array(outer)
    inner = points[1:][::-1].copy()
    inner[:, 0] = np.maximum(inner[:, 0] - wall, 0.001)
    floor = base if base is not None else wall
    inner[:, 1] = np.maximum(inner[:, 1], points[0, 1] + floor)
    inner[0, 1] = points[-1, 1] + 0.3 * wall
    return [*outer, *map(tuple, inner), (0.0, float(inner[-1, 1]))]


def _handle(radius: float, low: float, high: float, reach: float, thick: float) -> Mesh:
    """A C-shaped handle at x = radius from height `low` to `high`."""
    angle = np.linspace(np.pi / 2, -np.pi / 2, 11)
    path = np.column_stack(
        [
            radius - 0.002 + reach * np.cos(angle) ** 0.8,
            0 * angle,
            (low + high) / 2 + (high - low) / 2 * np.sin(angle),
        ]
    )
    return tube(path, thick, 8)


def cup(rng: RNG) -> list[Part]:
    height, top = rng.uniform(0.075, 0.10), rng.uniform(0.036, 0.043)
    bottom = top * rng.uniform(0.68, 0.85)
    return [(lathe(_vessel([(0, 0), (bottom, 0), (bottom * 1.02, 0.004), (top, height)], 0.0035)), "main")]


def mug(rng: RNG) -> list[Part]:
    height, radius = rng.uniform(0.085, 0.105), rng.uniform(0.037, 0.044)
    belly = rng.uniform(0.97, 1.08)
    body = lathe(
        _vessel(
            [(0, 0), (radius * 0.92, 0), (radius, 0.006), (radius * belly, height / 2), (radius, height)],
            0.004,
        )
    )
    low, high = height * rng.uniform(0.15, 0.25), height * rng.uniform(0.75, 0.88)
    return [(join(body, _handle(radius, low, high, rng.uniform(0.026, 0.034), 0.0055)), "main")]


def wine_glass(rng: RNG) -> list[Part]:
    bowl_, foot, stem = rng.uniform(0.034, 0.04), rng.uniform(0.03, 0.035), rng.uniform(0.06, 0.08)
    outer = [(0, 0), (foot, 0), (foot, 0.003), (0.006, 0.010), (0.0045, stem), (0.012, stem + 0.006)]
    outer += [(bowl_ * 0.85, stem + 0.025), (bowl_, stem + 0.045), (bowl_ * 0.85, stem + 0.085)]
    inner = [(bowl_ * 0.85 - 0.002, stem + 0.085), (bowl_ - 0.002, stem + 0.045), (bowl_ * 0.8, stem + 0.027)]
    return [(lathe([*outer, *inner, (0, stem + 0.012)]), "main")]


def plate(rng: RNG) -> list[Part]:
    radius, height, flat = rng.uniform(0.095, 0.13), rng.uniform(0.018, 0.028), rng.uniform(0.55, 0.68)
    outer = [(0, 0), (radius * flat * 0.95, 0), (radius * flat, 0.003), (radius, height)]
    inner = [(radius - 0.002, height + 0.002), (radius * flat, 0.007), (0, 0.006)]
    dish = lathe([*outer, *inner], 36)
    if rng.random() < 0.5:
        return [(dish, "main")]
    edge = lathe(
        [(radius * 0.975, height - 0.001), (radius * 1.005, height), (radius * 0.99, height + 0.0035)], 36
    )
    return [(dish, "main"), (edge, "accent")]


def bowl(rng: RNG) -> list[Part]:
    radius, height = rng.uniform(0.065, 0.095), rng.uniform(0.045, 0.065)
    angle = np.linspace(0.35, np.pi / 2, 8)
    wall = [(radius * np.sin(a), 0.004 + (height - 0.004) * (1 - np.cos(a)) ** 0.9) for a in angle]
    return [
        (lathe(_vessel([(0, 0), (radius * 0.38, 0), (radius * 0.4, 0.004), *wall[1:]], 0.004), 32), "main")
    ]


def pan(rng: RNG) -> list[Part]:
    radius, height = rng.uniform(0.085, 0.11), rng.uniform(0.032, 0.045)
    body = lathe(_vessel([(0, 0), (radius * 0.82, 0), (radius * 0.86, 0.004), (radius, height)], 0.004), 32)
    length = rng.uniform(0.11, 0.15)
    start = radius - 0.004
    path = [(start + t * length, 0, height - 0.008 + 0.02 * t) for t in np.linspace(0, 1, 7)]
    grip = tube(path, [0.007, 0.007, 0.009, 0.011, 0.012, 0.012, 0.009], 8, 0.6)
    return [(body, "main"), (grip, BLACK if rng.random() < 0.6 else WOOD)]


def pot(rng: RNG) -> list[Part]:
    radius, height = rng.uniform(0.075, 0.095), rng.uniform(0.075, 0.10)
    body = lathe(
        _vessel(
            [(0, 0), (radius * 0.96, 0), (radius, 0.006), (radius, height), (radius * 1.03, height)], 0.004
        )
    )
    grip = _handle(0, -0.02, 0.02, 0.024, 0.005).turned("x", 90).moved(radius, 0, height * 0.82)
    return [(body, "main"), (join(grip, grip.turned("z", 180)), BLACK)]


def bottle(rng: RNG) -> list[Part]:
    height, radius, neck = rng.uniform(0.16, 0.22), rng.uniform(0.028, 0.036), rng.uniform(0.010, 0.014)
    shoulder = height * rng.uniform(0.55, 0.68)
    waist = rng.uniform(0.86, 1.0)
    profile = [
        (0, 0),
        (radius * 0.93, 0),
        (radius, 0.006),
        (radius * waist, shoulder / 2),
        (radius, shoulder),
    ]
    profile += [
        (radius * 0.8, shoulder + 0.018),
        (neck * 1.15, shoulder + 0.045),
        (neck, height - 0.02),
        (neck, height),
    ]
    cap = lathe([(0, 0), (neck * 1.25, 0), (neck * 1.25, 0.018), (neck * 1.1, 0.02), (0, 0.02)], 18)
    return [(lathe([*profile, (0, height)], 24), "main"), (cap.moved(z=height - 0.012), "accent")]


def can(rng: RNG) -> list[Part]:
    height, radius = rng.uniform(0.085, 0.125), rng.uniform(0.030, 0.036)
    body = lathe([(0, 0.004), (radius, 0.004), (radius, height - 0.004), (0, height - 0.004)])
    end = [(radius * 0.9, 0), (radius * 1.01, 0.0025), (radius * 0.97, 0.006)]
    low = lathe([(0, 0.001), *end, (0, 0.006)])
    high = lathe(
        [(0, -0.006), (radius * 0.97, -0.006), (radius * 1.01, -0.002), (radius * 0.9, 0), (0, -0.002)]
    )
    return [(body, "main"), (join(low, high.moved(z=height)), STEEL)]


def jar(rng: RNG) -> list[Part]:
    height, radius = rng.uniform(0.07, 0.11), rng.uniform(0.032, 0.042)
    profile = [
        (0, 0),
        (radius * 0.95, 0),
        (radius, 0.005),
        (radius, height * 0.8),
        (radius * 0.78, height),
        (0, height),
    ]
    top = radius * 0.86
    lid = lathe([(0, 0), (top, 0), (top, 0.016), (top * 0.94, 0.018), (0, 0.018)])
    return [(lathe(profile), "main"), (lid.moved(z=height - 0.003), "accent")]


def jug(rng: RNG) -> list[Part]:
    height, radius = rng.uniform(0.13, 0.17), rng.uniform(0.042, 0.052)
    outer = [
        (0, 0),
        (radius * 0.8, 0),
        (radius * 0.85, 0.006),
        (radius, height * 0.35),
        (radius * 0.72, height * 0.75),
    ]
    body = lathe(_vessel([*outer, (radius * 0.8, height)], 0.004))

    def lip(v: np.ndarray) -> np.ndarray:
        pull = np.clip((v[:, 2] / height - 0.8) / 0.2, 0, 1) * np.clip(-v[:, 0] / radius, 0, 1) ** 2
        v[:, 0] -= 0.022 * pull
        v[:, 2] += 0.01 * pull
        return v

    return [(join(body.bent(lip), _handle(radius * 0.8, height * 0.3, height * 0.9, 0.036, 0.006)), "main")]


def teapot(rng: RNG) -> list[Part]:
    radius = rng.uniform(0.055, 0.066)
    height = radius * rng.uniform(1.4, 1.65)
    angle = np.linspace(-1.2, 1.2, 12)
    wall = [(radius * np.cos(a), height * (0.5 + 0.5 * np.sin(a) / np.sin(1.2))) for a in angle]
    body = lathe([(0, 0), *wall, (0, height + 0.004)])
    spout = tube(
        [
            (-radius * 0.8, 0, height * 0.35),
            (-radius * 1.25, 0, height * 0.5),
            (-radius * 1.65, 0, height * 1.02),
        ],
        [0.016, 0.011, 0.0075],
        10,
    )
    grip = _handle(radius * 0.85, height * 0.22, height * 0.88, 0.036, 0.006)
    lid = lathe(
        [(0, 0), (radius * 0.45, 0), (radius * 0.3, 0.009), (0.004, 0.013), (0.009, 0.022), (0, 0.028)]
    )
    return [
        (join(body, spout, grip), "main"),
        (lid.moved(z=height), "accent" if rng.random() < 0.4 else "main"),
    ]


def vase(rng: RNG) -> list[Part]:
    height, belly, neck = rng.uniform(0.14, 0.2), rng.uniform(0.04, 0.055), rng.uniform(0.016, 0.024)
    outer = [
        (0, 0),
        (belly * 0.6, 0),
        (belly * 0.9, height * 0.2),
        (belly, height * 0.4),
        (belly * 0.75, height * 0.62),
    ]
    outer += [(neck, height * 0.82), (neck * 1.5, height)]
    return [(lathe(_vessel(outer, 0.004)), "main")]


def candle(rng: RNG) -> list[Part]:
    radius, height = rng.uniform(0.022, 0.034), rng.uniform(0.06, 0.11)
    body = lathe(
        [(0, 0), (radius, 0), (radius, height), (radius * 0.85, height + 0.002), (0, height - 0.003)], 22
    )
    wick = tube([(0, 0, height - 0.004), (0.001, 0, height + 0.008), (0.004, 0, height + 0.016)], 0.0018, 6)
    return [(body, "main"), (wick, BLACK)]


def tray(rng: RNG) -> list[Part]:
    x, y, z = rng.uniform(0.22, 0.28), rng.uniform(0.15, 0.19), rng.uniform(0.022, 0.032)
    wall = 0.007
    sides = [box(x, wall, z).moved(y=s * (y - wall) / 2) for s in (-1, 1)]
    sides += [box(wall, y, z).moved(x=s * (x - wall) / 2) for s in (-1, 1)]
    return [(join(box(x, y, 0.006), *sides), "main")]


def basket(rng: RNG) -> list[Part]:
    top, height = rng.uniform(0.085, 0.105), rng.uniform(0.07, 0.09)
    body = lathe(_vessel([(0, 0), (top * 0.78, 0), (top * 0.8, 0.004), (top, height)], 0.006), 24)
    rim = lathe(_ring_profile(top - 0.003, 0.007, 8), 28).moved(z=height)
    grip = _handle(0, -0.024, 0.024, 0.026, 0.005).turned("x", 90).moved(top, 0, height)
    return [(body, "main"), (join(rim, grip, grip.turned("z", 180)), "main")]


def _ring_profile(radius: float, thick: float, count: int) -> list[tuple[float, float]]:
    angle = np.linspace(0, 2 * np.pi, count + 1)
    return [(radius + thick * np.cos(a), thick * np.sin(a)) for a in angle]


def board(rng: RNG) -> list[Part]:
    x, y, z = rng.uniform(0.22, 0.28), rng.uniform(0.14, 0.18), 0.016
    return [(join(box(x, y, z, 0.004), box(0.07, 0.035, z, 0.004).moved(x=x / 2 + 0.03)), "main")]


def box_carton(rng: RNG) -> list[Part]:
    x, y, z = rng.uniform(0.06, 0.10), rng.uniform(0.04, 0.06), rng.uniform(0.07, 0.14)
    return [(box(x, y, z, 0.0015), "main")]


def sponge(rng: RNG) -> list[Part]:
    x, y, z = rng.uniform(0.085, 0.10), rng.uniform(0.055, 0.065), rng.uniform(0.024, 0.03)
    pad = box(x * 0.99, y * 0.99, 0.007, 0.002)
    return [(box(x, y, z, 0.004).moved(z=0.005), "main"), (pad, "accent")]


def _cutlery_curve(v: np.ndarray, length: float) -> np.ndarray:
    """Lifts the head's end and the neck of a flat piece that runs along x from -length/2."""
    t = v[:, 0] / length + 0.5
    v[:, 2] += 0.010 * np.exp(-(((t - 0.68) / 0.13) ** 2)) + 0.006 * np.clip(t - 0.85, 0, 1) / 0.15
    return v


def _grip(rng: RNG, length: float) -> list[tuple[float, float]]:
    """Upper half of a handle's outline, from its end to the neck."""
    wide, neck = rng.uniform(0.0085, 0.011), rng.uniform(0.004, 0.005)
    end = -length / 2
    return [
        (end, wide * 0.6),
        (end + 0.004, wide * 0.95),
        (end + 0.03, wide),
        (0.0, neck),
        (0.17 * length, neck),
    ]


def fork(rng: RNG) -> list[Part]:
    length = rng.uniform(0.175, 0.205)
    grip = _grip(rng, length)
    root, tip, wide = 0.31 * length, 0.5 * length, 0.0135
    upper = [*grip, (0.24 * length, 0.010), (root - 0.012, wide)]
    tines = []
    for k in range(4):  # from the upper tine down
        high = wide - k * (2 * wide - 0.0042) / 3
        tines += [(tip, high - 0.0006), (tip, high - 0.0034), (root, high - 0.0042)]
        if k < 3:
            tines.append((root, wide - (k + 1) * (2 * wide - 0.0042) / 3))
    outline = (
        [(x, -y) for x, y in upper]
        + [(x, y) for x, y in reversed(tines)]
        + [(x, y) for x, y in reversed(upper)]
    )
    outline = [p for p in outline if p not in ((root, -wide),)]
    flat = extrude(outline, 0.0035)
    return [(flat.bent(lambda v: _cutlery_curve(v, length)), "main")]


def spoon(rng: RNG) -> list[Part]:
    length = rng.uniform(0.16, 0.20)
    grip = _grip(rng, length)
    outline = [(x, -y) for x, y in grip] + [(x, y) for x, y in reversed(grip)]
    handle = extrude(outline, 0.0035).bent(lambda v: _cutlery_curve(v, length))
    angle = np.linspace(0.05, np.pi / 2, 6)
    outer = [(np.sin(a), 1 - np.cos(a)) for a in angle]
    inner = [(0.94 * np.sin(a), 1.07 - 0.92 * np.cos(a)) for a in reversed(angle)]
    head = lathe([(0, 0), *outer, (0.97, 1.05), *inner, (0, 0.15)], 22)
    head = head.scaled(0.2 * length, rng.uniform(0.019, 0.023), 0.010).moved(x=0.32 * length)
    return [(join(handle, head), "main")]


def knife(rng: RNG) -> list[Part]:
    length = rng.uniform(0.19, 0.23)
    neck = -0.02
    blade = extrude(
        [
            (neck, -0.0095),
            (length / 2 - 0.035, -0.0095),
            (length / 2 - 0.012, -0.004),
            (length / 2, 0.008),
            (neck, 0.0095),
        ],
        0.0028,
    ).moved(z=0.003)
    grip = tube(
        [
            (-length / 2, 0, 0.005),
            (-length / 2 + 0.02, 0, 0.005),
            (-0.05, 0, 0.005),
            (neck + 0.006, 0, 0.005),
        ],
        [0.009, 0.0105, 0.0085, 0.0095],
        10,
        0.5,
    )
    if rng.random() < 0.4:
        return [(join(blade, grip), "main")]
    return [(grip, "main"), (blade, STEEL)]


def spatula(rng: RNG) -> list[Part]:
    length = rng.uniform(0.24, 0.29)
    path = [(x, 0, 0.008) for x in np.linspace(-length / 2, length * 0.2, 5)]
    grip = tube(path, [0.009, 0.010, 0.008, 0.006, 0.006], 10)
    x0, x1, w0, w1 = length * 0.19, length / 2, 0.022, rng.uniform(0.033, 0.04)
    head = extrude([(x0, -w0), (x1, -w1), (x1 + 0.004, 0), (x1, w1), (x0, w0)], 0.005).moved(z=0.005)
    return [(head, "main"), (grip, "main" if rng.random() < 0.5 else WOOD)]
