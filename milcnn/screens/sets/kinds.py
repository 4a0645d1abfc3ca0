"""The kinds of screens: where fields and labels come from, by name."""

from collections.abc import Callable
from typing import Any

from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.screen import Screen
from milcnn.screens.sets.bbbc021 import Bbbc021Settings, bbbc021_screen
from milcnn.screens.sets.composite import CompositeSettings, composite_screen
from milcnn.screens.sets.digits import DigitsSettings, digits_screen
from milcnn.screens.sets.micronuclei import MicronucleiSettings, micronuclei_screen
from milcnn.screens.sets.simulated import SimulatedSettings, simulated_screen
from milcnn.screens.sets.yeast import YeastSettings, yeast_screen
from milcnn.screens.sets.yeast_cells import YeastCellsSettings, yeast_cells_screen
from milcnn.settings import Settings

SCREENS: dict[str, tuple[type[Settings], Callable[..., Screen]]] = {
    "digits": (DigitsSettings, digits_screen),
    "manifest": (ManifestSettings, manifest_screen),
    "bbbc021": (Bbbc021Settings, bbbc021_screen),
    "yeast": (YeastSettings, yeast_screen),
    "yeast_cells": (YeastCellsSettings, yeast_cells_screen),
    "simulated": (SimulatedSettings, simulated_screen),
    "micronuclei": (MicronucleiSettings, micronuclei_screen),
    "composite": (CompositeSettings, composite_screen),
}


def parse_settings(kind: str, settings: dict[str, Any]) -> Settings:
    """The settings of this ``kind`` of screen, a key of ``SCREENS``. Raises ValueError for another kind."""
    if kind not in SCREENS:
        raise ValueError(f"screen: '{kind}' is not one of {', '.join(SCREENS)}.")
    return SCREENS[kind][0](**settings)


def open_screen(kind: str, **settings: Any) -> Screen:
    """The screen of this ``kind`` with its own ``settings``; a composite gets the screen whose cells it is made of."""
    parsed = parse_settings(kind, settings)
    sources = [open_screen(parsed.screen, **parsed.screen_settings)] if isinstance(parsed, CompositeSettings) else []
    return SCREENS[kind][1](parsed, *sources)
