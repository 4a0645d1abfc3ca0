"""The kinds of screens: where fields and labels come from, by name."""

from collections.abc import Callable
from typing import Any

from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.screen import Screen
from milcnn.screens.sets import (
    bbbc021,
    composite,
    digits,
    micronuclei,
    simulated,
    simulated_yeast,
    yeast,
    yeast_cells,
    yeast_sample,
)
from milcnn.settings import Settings

SCREENS: dict[str, tuple[type[Settings], Callable[..., Screen]]] = {
    "digits": (digits.DigitsSettings, digits.digits_screen),
    "manifest": (ManifestSettings, manifest_screen),
    "bbbc021": (bbbc021.Bbbc021Settings, bbbc021.bbbc021_screen),
    "yeast": (yeast.YeastSettings, yeast.yeast_screen),
    "yeast_cells": (yeast_cells.YeastCellsSettings, yeast_cells.yeast_cells_screen),
    "yeast_sample": (yeast_sample.YeastSampleSettings, yeast_sample.yeast_sample_screen),
    "simulated": (simulated.SimulatedSettings, simulated.simulated_screen),
    "simulated_yeast": (simulated_yeast.SimulatedYeastSettings, simulated_yeast.simulated_yeast_screen),
    "micronuclei": (micronuclei.MicronucleiSettings, micronuclei.micronuclei_screen),
    "composite": (composite.CompositeSettings, composite.composite_screen),
}


def parse_settings(kind: str, settings: dict[str, Any]) -> Settings:
    """The settings of a ``kind`` of screen, a key of ``SCREENS``. Raises ValueError for an unknown kind."""
    if kind not in SCREENS:
        raise ValueError(f"screen: '{kind}' is not one of {', '.join(SCREENS)}.")
    return SCREENS[kind][0](**settings)


def open_screen(kind: str, **settings: Any) -> Screen:
    """The screen of a ``kind`` with its own ``settings``. A composite also gets the screen that its cells come from."""
    parsed = parse_settings(kind, settings)
    if isinstance(parsed, composite.CompositeSettings):
        return composite.composite_screen(parsed, open_screen(parsed.screen, **parsed.screen_settings))
    return SCREENS[kind][1](parsed)
