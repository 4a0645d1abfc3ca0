"""milcnn: deep multiple instance learning on microscope fields, from field labels to the cells that cause them."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``milcnn.load`` is ``score.trained.open_trained``; imported only when asked for, since torch takes seconds."""
    if name == "load":
        from milcnn.score.trained import open_trained

        return open_trained
    raise AttributeError(f"module 'milcnn' has no attribute '{name}'")
