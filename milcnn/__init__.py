"""milcnn: deep multiple instance learning on microscope fields, from field labels to the cells that cause them."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``milcnn.load`` is ``score.trained.open_trained``; imported only when asked for, since torch takes seconds."""
    if name == "load":
        return import_module("milcnn.score.trained").open_trained
    raise AttributeError(f"module 'milcnn' has no attribute '{name}'")
