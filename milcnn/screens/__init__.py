"""Where fields and their labels come from."""
