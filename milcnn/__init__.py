"""milcnn: deep multiple instance learning on microscope fields, from field labels to the cells that cause them."""

__version__ = "0.1.0"
