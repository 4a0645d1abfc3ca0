"""Where fields and labels come from: the class ``Screen``, readers of image files and tables, checks."""
