"""Figures: a tidy table or an array in, a Figure out; nothing here reads or writes a data file."""
