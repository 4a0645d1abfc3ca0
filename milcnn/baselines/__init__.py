"""Baselines: find the cells, measure them, and classify the field from its cells."""
