"""Figures: a tidy table or an array in, a Figure out. Nothing here reads or writes a data file."""
