"""The kinds of screens: where fields and labels come from, by name."""

from collections.abc import Callable

from milcnn.screens.bbbc021 import Bbbc021Settings, bbbc021_screen
from milcnn.screens.composite import CompositeSettings, composite_screen
from milcnn.screens.digits import DigitsSettings, digits_screen
from milcnn.screens.manifest import ManifestSettings, manifest_screen
from milcnn.screens.micronuclei import MicronucleiSettings, micronuclei_screen
from milcnn.screens.screen import Screen
from milcnn.screens.simulated import SimulatedSettings, simulated_screen
from milcnn.screens.yeast import YeastSettings, yeast_screen
from milcnn.screens.yeast_cells import YeastCellsSettings, yeast_cells_screen
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


def open_screen(kind: str, **settings: object) -> Screen:
    """The screen of this ``kind`` (a key of ``SCREENS``) with its own ``settings``."""
    if kind not in SCREENS:
        raise ValueError(f"screen: '{kind}' is not one of {', '.join(SCREENS)}.")
    settings_of, screen_of = SCREENS[kind]
    return screen_of(settings_of(**settings))
