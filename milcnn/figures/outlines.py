"""Outlines of masks and objects on images that are already drawn."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection
from skimage.measure import find_contours, regionprops


def outline(ax: plt.Axes, mask: np.ndarray, colour: str) -> None:
    """Draw the contour of ``mask`` (H, W) bool; an empty mask has none."""
    if mask.any():
        ax.contour(mask, levels=[0.5], colors=colour, linewidths=0.7)


def outline_objects(fig: plt.Figure, labels: np.ndarray, colour: str) -> None:
    """Draw the outline of every object of the label images ``labels`` (B, H, W) on the first B axes of ``fig``."""
    for ax, image in zip(fig.axes, labels, strict=False):
        ax.add_collection(LineCollection(outline_paths(image), colors=colour, linewidths=0.7))


def outline_paths(labels: np.ndarray) -> list[np.ndarray]:
    """Closed lines (K, 2) of (x, y) in px around the objects of ``labels`` (H, W); touching objects have one each."""
    lines = []
    for region in regionprops(labels):
        corner = np.array([region.bbox[1], region.bbox[0]]) - 1  # of the padded image
        mask = np.pad(region.image, 1).astype(float)
        lines += [line[:, ::-1] + corner for line in find_contours(mask, 0.5)]
    return lines
