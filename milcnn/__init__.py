"""milcnn: from a label on a whole microscope field to what its cells do, and which cells do it."""

import importlib
from importlib.util import find_spec
from types import ModuleType

__version__ = "0.1.0"


def __getattr__(name: str) -> ModuleType:
    """``milcnn.evaluate`` after ``import milcnn`` alone: a module is imported when it is first asked for."""
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return importlib.import_module(f"{__name__}.{name}")
