"""Known data sets: one file each, and the table of all kinds of screens."""
