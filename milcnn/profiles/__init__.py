"""The rivals that segment first: from a table of cells to the class of a field."""

from milcnn.profiles.sphering import sphering

__all__ = ["sphering"]
