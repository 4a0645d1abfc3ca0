"""Drawn cells: nuclei and cytoplasm in three channels, with the mask of every cell.

A cell is a row of numbers (``normal_cells``); a phenotype multiplies some of them (``EFFECTS``). The light of a cell in
each channel is set independently of its shape, so the mean intensity of a field says little about the phenotype.
"""

from functools import cache

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

CHANNELS = ["DNA", "Reporter", "Actin"]
PATCH = 76  # px, side of the square a cell is drawn in
BODY = 42  # px, side of the square a nucleus is drawn in
BANK = 256  # px, side of the periodic textures
NORMAL = "DMSO"  # the class of a cell that does not respond
MITOTIC = "mitotic"  # an outlier, never a label

# factors for the numbers of a responding cell, at strength 1
EFFECTS: dict[str, dict[str, float]] = {
    "enlarged": {"nucleus_radius": 1.5, "radius": 1.15, "dna": 1.5},
    "elongated": {"aspect": 2.3, "nucleus_aspect": 1.6},
    "clumped": {"clumping": 5.0},
    "fragmented": {"body_distance": 7.0, "radius": 0.9},
    "translocated": {"nuclear_share": 4.0},
    "binucleate": {"body_distance": 6.5, "radius": 1.05, "dna": 1.3},
    MITOTIC: {"nucleus_radius": 0.75, "nucleus_aspect": 2.2, "dna": 1.7, "radius": 0.8, "clumping": 0.3},
}
PHENOTYPES = [name for name in EFFECTS if name != MITOTIC]
BODIES = {"binucleate": (2, 0.82), "fragmented": (5, 0.45)}  # nuclear bodies, and the radius of each in nuclear radii
DrawnCells = dict[str, np.ndarray]  # the numbers of the cells, see ``normal_cells``


def normal_cells(n: int, rng: Generator) -> DrawnCells:
    """Numbers of ``n`` unaffected cells, each (n,) float64; lengths in px, light in arbitrary units."""
    return {
        "radius": rng.normal(15.0, 1.5, n).clip(11, 19),
        "aspect": rng.lognormal(0.18, 0.12, n).clip(1, 1.8),
        "nucleus_radius": rng.normal(7.0, 0.6, n).clip(5, 9),
        "nucleus_aspect": rng.lognormal(0.15, 0.08, n).clip(1, 1.6),
        "angle": rng.uniform(0, np.pi, n),  # of cell and nucleus, radians
        "dna": rng.lognormal(0, 0.2, n),  # light of the whole cell, with a mean of about 1
        "reporter": rng.lognormal(0, 0.3, n),
        "actin": rng.lognormal(0, 0.25, n),
        "nuclear_share": rng.normal(0.18, 0.03, n).clip(0.08, 0.3),  # of the reporter
        "clumping": rng.lognormal(np.log(0.18), 0.2, n),  # contrast of the chromatin
        "body_distance": np.ones(n),  # of each nuclear body from the middle of the nucleus, if there are several
        "shift": rng.uniform(0, 2.5, n),  # of the nucleus from the middle of the cell
        "wobble": rng.uniform(0.02, 0.1, n),  # of the outline
    }


def with_effects(cells: DrawnCells, classes: np.ndarray, strength: np.ndarray) -> DrawnCells:
    """``cells`` with their numbers multiplied by factor ** strength (n,), the factors of their class in ``EFFECTS``."""
    out = {name: values.copy() for name, values in cells.items()}
    for phenotype, factors in EFFECTS.items():
        members = classes == phenotype
        for name, factor in factors.items():
            out[name][members] *= factor ** strength[members]
    out["nuclear_share"] = out["nuclear_share"].clip(max=0.85)
    out["radius"] = out["radius"].clip(max=22)
    return out


@cache
def texture(kind: str) -> np.ndarray:
    """A periodic texture (256, 256) float32, mean 0 and SD 1: ``chromatin``, ``granules`` or ``blobs``."""
    sigma = {"chromatin": 1.4, "granules": 1.0, "blobs": 2.2}[kind]
    rng = np.random.default_rng([7, len(kind)])
    noise = gaussian_filter(rng.standard_normal((BANK, BANK)), sigma, mode="wrap")
    noise /= noise.std()
    if kind == "granules":
        noise = noise.clip(min=0.8) ** 2  # a few bright vesicles
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def patch_windows(kind: str, n: int, rng: Generator) -> np.ndarray:
    """``n`` random windows (n, PATCH, PATCH) of a texture."""
    y, x = (rng.integers(0, BANK, (n, 1)) + np.arange(PATCH) for _ in range(2))
    return texture(kind)[(y % BANK)[:, :, None], (x % BANK)[:, None, :]]


def polar(side: int, offset: np.ndarray, angle: np.ndarray, aspect: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radius (n, side, side) in px and direction exp(iθ) of each pixel, seen from ``offset`` (n, 2) off the middle.

    The axes are turned by ``angle`` and stretched: an ellipse of ``aspect`` has a constant radius and its area is kept.
    """
    steps = (np.arange(side) - (side - 1) / 2).astype(np.float32)
    offset, angle, aspect = (np.asarray(a, np.float32) for a in (offset, angle, aspect))
    y = steps[:, None] - offset[:, 0, None, None]
    x = steps[None, :] - offset[:, 1, None, None]
    cosine, sine, root = (per_cell(values) for values in (np.cos(angle), np.sin(angle), np.sqrt(aspect)))
    plane = (cosine * x + sine * y) / root + 1j * ((cosine * y - sine * x) * root)
    radius = np.abs(plane)
    return radius, plane / np.maximum(radius, 1e-3)


def nuclear_masks(cells: DrawnCells, classes: np.ndarray, offset: np.ndarray, rng: Generator) -> np.ndarray:
    """Soft masks (n, PATCH, PATCH) in [0, 1] of the nuclei: one, two or five bodies, depending on the class."""
    number, scale = np.array([BODIES.get(name, (1, 1.0)) for name in classes]).T
    owner = np.repeat(np.arange(len(classes)), number.astype(int))
    rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
    several = number[owner] > 1
    around = cells["angle"][owner] + 2 * np.pi * rank / number[owner] + rng.normal(0, 0.2, len(owner)) * several
    distance = (several * cells["body_distance"][owner]).clip(max=10)
    middle = offset[owner] + distance[:, None] * np.stack([np.sin(around), np.cos(around)], 1)
    radius = cells["nucleus_radius"][owner] * scale[owner] * np.where(several, rng.uniform(0.85, 1.15, len(owner)), 1)
    corner = np.rint(middle).astype(int)
    turned = np.where(several, rng.uniform(0, np.pi, len(owner)), cells["angle"][owner])
    distances, _ = polar(BODY, middle - corner, turned, cells["nucleus_aspect"][owner])
    bodies = (per_cell(radius) - distances + 0.5).clip(0, 1)
    masks = np.zeros((len(classes), PATCH, PATCH), np.float32)
    for body, cell, (y, x) in zip(bodies, owner, corner + (PATCH - BODY) // 2, strict=True):
        here = masks[cell, y : y + BODY, x : x + BODY]
        np.maximum(here, body, out=here)
    return masks


def cell_outlines(cells: DrawnCells, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Depth (n, PATCH, PATCH) float32 of each cell, and the offset (n, 2) of its middle from that of the patch.

    Depth is 1 in the middle of a cell, 0 at its outline and negative outside.
    """
    n = len(cells["radius"])
    middle = rng.uniform(-0.5, 0.5, (n, 2))
    radius, direction = polar(PATCH, middle, cells["angle"], cells["aspect"])
    outline, power = np.ones_like(radius), direction
    for _ in range(2, 5):  # three harmonics make the outline irregular
        power = power * direction
        phase = np.exp(1j * rng.uniform(0, 2 * np.pi, n)).astype(np.complex64)
        outline += per_cell(cells["wobble"]) * (power * phase[:, None, None]).real
    return 1 - radius / (per_cell(cells["radius"]) * outline.clip(min=0.5)), middle


def lights(cells: DrawnCells, classes: np.ndarray, depth: np.ndarray, middle: np.ndarray, rng: Generator) -> np.ndarray:
    """Light (n, 3, PATCH, PATCH) float32 of each cell; the channels sum to ``dna``, ``reporter`` and ``actin``."""
    n = len(classes)
    turn = rng.uniform(0, 2 * np.pi, n)
    shift = cells["shift"][:, None] * np.stack([np.sin(turn), np.cos(turn)], 1)
    nucleus = nuclear_masks(cells, classes, middle + shift, rng)
    chromatin = (1 + per_cell(cells["clumping"]) * patch_windows("blobs", n, rng)).clip(min=0.15)
    thickness = np.sqrt((1 - (1 - depth) ** 2).clip(min=0))
    vesicles = (1 + 0.25 * patch_windows("granules", n, rng)).clip(min=0.2)
    share = per_cell(cells["nuclear_share"])
    reporter = (1 - share) * normalised(thickness * vesicles * (1 - nucleus)) + share * normalised(nucleus)
    cortex = np.exp(-(((depth - 0.06) / 0.09) ** 2))
    meshwork = thickness * (1 + 0.3 * patch_windows("chromatin", n, rng)).clip(min=0)
    channels = [normalised(nucleus * chromatin), reporter, normalised(cortex + 0.35 * meshwork)]
    amounts = [per_cell(cells[name]) for name in ("dna", "reporter", "actin")]
    return np.stack([amount * light for amount, light in zip(amounts, channels, strict=True)], 1)


def per_cell(values: np.ndarray) -> np.ndarray:
    """One number per cell (n,) as (n, 1, 1) float32, for arithmetic with patches."""
    return values.astype(np.float32)[:, None, None]


def normalised(patches: np.ndarray) -> np.ndarray:
    """``patches`` (n, h, w), each divided by its sum."""
    return patches / patches.sum(axis=(1, 2), keepdims=True).clip(min=1e-6)


def add_up(light: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """The sum (C, size, size) float32 of the patches (n, C, PATCH, PATCH), each at its centre (n, 2) in whole px."""
    canvas = np.zeros((light.shape[1], size + 2 * PATCH, size + 2 * PATCH), np.float32)
    for patch, (y, x) in zip(light, centres + PATCH // 2, strict=True):
        canvas[:, y : y + PATCH, x : x + PATCH] += patch
    return canvas[:, PATCH : PATCH + size, PATCH : PATCH + size]


def number_cells(depth: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Truth (size, size) uint16: a pixel belongs to the cell in which it lies deepest; 0 is outside all cells."""
    truth = np.zeros((size + 2 * PATCH, size + 2 * PATCH), np.uint16)
    deepest = np.zeros(truth.shape, np.float32)
    for number, (patch, (y, x)) in enumerate(zip(depth, centres + PATCH // 2, strict=True), start=1):
        here = np.s_[y : y + PATCH, x : x + PATCH]
        mine = patch > deepest[here]
        truth[here][mine] = number
        deepest[here][mine] = patch[mine]
    return truth[PATCH : PATCH + size, PATCH : PATCH + size]


def spaced(n: int, size: int, apart: float, rng: Generator) -> np.ndarray:
    """Centres (n, 2) in whole px, in loose clusters, pushed ``apart`` px from each other if there is room."""
    islands = rng.uniform(0, size, (max(1, n // 6), 2))
    clustered = islands[rng.integers(len(islands), size=n)] + rng.normal(0, 1.2 * apart, (n, 2))
    points = np.where(rng.random((n, 1)) < 0.6, clustered, rng.uniform(0, size, (n, 2)))
    for _ in range(8):
        gap = points[:, None] - points[None]
        distance = np.linalg.norm(gap, axis=2) + np.eye(n) * 1e9
        push = (apart - distance).clip(min=0) / 2 / distance.clip(min=1e-6)
        points = (points + 0.8 * (gap * push[:, :, None]).sum(1)).clip(3, size - 4)
    return np.rint(points).astype(int)
