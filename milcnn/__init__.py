"""milcnn: from a label on a whole microscope field to what its cells do, and which cells do it."""

__version__ = "0.1.0"
