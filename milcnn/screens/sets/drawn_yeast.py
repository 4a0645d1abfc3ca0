"""Drawn budding yeast: a mother, often with a bud; GFP in some compartments, RFP in the cytosol.

Lengths are in px. A pattern is the light of one compartment; its light is the same in cells of any size.
"""

import numpy as np
from numpy.random import Generator

from milcnn.screens.sets.drawn_cells import PATCH, DrawnCells, normalised, patch_windows, per_cell

CHANNELS = ["GFP", "RFP"]
# the light of a compartment, for a cytoplasmic protein of 1: small ones hold less, but are brighter
LIGHT = {
    "BUDNECK": 0.1,
    "CELLPERIPHERY": 0.6,
    "CYTOPLASM": 1.0,
    "ER": 0.6,
    "MITOCHONDRIA": 0.5,
    "NUCLEARPERIPHERY": 0.25,
    "NUCLEI": 0.4,
    "SPINDLEPOLE": 0.06,
    "VACUOLARMEMBRANE": 0.45,
    "VACUOLE": 0.6,
}
ORGANELLES = list(LIGHT)
MEMBRANE = 0.9  # standard deviation of a membrane across
PIXELS = (np.arange(PATCH) - (PATCH - 1) / 2).astype(np.float32)


def yeast_cells(n: int, rng: Generator) -> DrawnCells:
    """Numbers of ``n`` cells, each (n,) float64, places (n, 2) as y, x from the middle of the patch."""
    radius = rng.normal(10.5, 1.0, n).clip(8.5, 13)
    budded = rng.random(n) < 0.6
    bud = np.where(budded, radius * rng.uniform(0.3, 0.75, n), 0)
    angle = rng.uniform(0, 2 * np.pi, n)
    nucleus, vacuole = radius * rng.uniform(0.32, 0.38, n), radius * rng.uniform(0.3, 0.5, n)
    aside = angle + rng.normal(0, 0.5, n)
    return {
        "radius": radius,
        "bud": bud,
        "angle": angle,
        "bud_place": towards(angle, radius + 0.8 * bud),
        "nucleus": nucleus,
        "nucleus_place": towards(aside, radius * rng.uniform(0.2, 0.4, n)),
        "vacuole": vacuole,
        "vacuole_place": towards(aside + np.pi, (radius - vacuole) * rng.uniform(0.6, 0.85, n)),
        "poles": rng.uniform(0, 2 * np.pi, n),
    }


def towards(angle: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(n, 2) y, x of the places at ``distance`` (n,) in the direction ``angle`` (n,) of the middle."""
    return distance[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)


def inside(place: np.ndarray | float, radius: np.ndarray) -> np.ndarray:
    """How far each pixel lies inside a circle around ``place`` (n, 2), (n, PATCH, PATCH); outside it is negative."""
    y, x = np.broadcast_to(place, (len(radius), 2)).astype(np.float32).T
    return per_cell(radius) - np.hypot(PIXELS[:, None] - y[:, None, None], PIXELS - x[:, None, None])


def outlines(cells: DrawnCells) -> np.ndarray:
    """How far each pixel lies inside a cell, mother or bud, (n, PATCH, PATCH)."""
    bud = np.where(per_cell(cells["bud"]) > 0, inside(cells["bud_place"], cells["bud"]), -np.inf)
    return np.maximum(inside(0, cells["radius"]), bud)


def thick(depth: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Thickness of a ball of ``radius`` (n,) at ``depth`` inside its outline."""
    return np.sqrt((2 * per_cell(radius) * depth - depth**2).clip(min=0))


def rim(depth: np.ndarray, at: float = 0.0, width: float = MEMBRANE) -> np.ndarray:
    return np.exp(-(((depth - at) / width) ** 2))


def patterns(cells: DrawnCells, rng: Generator) -> dict[str, np.ndarray]:
    """The light of each compartment, (n, PATCH, PATCH), of sum 1 a cell; 0 for the neck where there is no bud."""
    n, edge = len(cells["radius"]), outlines(cells)
    nucleus, vacuole = (inside(cells[f"{name}_place"], cells[name]) for name in ("nucleus", "vacuole"))
    body = np.maximum(
        thick(inside(0, cells["radius"]), cells["radius"]),
        thick(inside(cells["bud_place"], cells["bud"]), cells["bud"]),
    )
    in_nucleus, in_vacuole = ((depth + 0.5).clip(0, 1) for depth in (nucleus, vacuole))
    cytosol = body * (1 - 0.85 * in_vacuole) * (1 - 0.3 * in_nucleus)
    pores, patches, threads = (patch_windows(kind, n, rng) for kind in ("chromatin", "blobs", "blobs"))
    envelope = rim(nucleus)
    tubes = np.exp(-((threads / 0.25) ** 2)) * (edge > 1.5) * (1 - in_vacuole) * (1 - in_nucleus)
    drawn = {
        "BUDNECK": neck(cells),
        "CELLPERIPHERY": rim(edge, 0.6),
        "CYTOPLASM": cytosol,
        "ER": envelope + 0.7 * rim(edge, 1.8) * (patches > -0.3),
        "MITOCHONDRIA": tubes,
        "NUCLEARPERIPHERY": envelope * (1 + 0.6 * pores).clip(min=0.1),
        "NUCLEI": thick(nucleus, cells["nucleus"]),
        "SPINDLEPOLE": poles(cells),
        "VACUOLARMEMBRANE": rim(vacuole),
        "VACUOLE": thick(vacuole, cells["vacuole"]),
    }
    return {name: normalised(pattern) for name, pattern in drawn.items()}


def neck(cells: DrawnCells) -> np.ndarray:
    """A short bar across the line from mother to bud, where they meet."""
    y, x = (PIXELS[:, None], PIXELS[None, :])
    sine, cosine = (per_cell(of(cells["angle"])) for of in (np.sin, np.cos))
    along = y * sine + x * cosine - per_cell(cells["radius"] - 0.1 * cells["bud"])
    across = y * cosine - x * sine
    return np.exp(-((along / 1.0) ** 2) - (across / (0.3 * per_cell(cells["bud"]) + 0.5)) ** 2) * (
        per_cell(cells["bud"]) > 0
    )


def poles(cells: DrawnCells) -> np.ndarray:
    """A dot on the rim of the nucleus, and one opposite if the bud is large."""
    dots = []
    for turn in (0, np.pi):
        place = cells["nucleus_place"] + towards(cells["poles"] + turn, cells["nucleus"])
        dots.append(rim(inside(place, np.zeros(len(place))), 0, 1.1))
    return dots[0] + dots[1] * (per_cell(cells["bud"] / cells["radius"]) > 0.55)
