"""Where fields and labels come from: the contract of a screen, readers of files, checks."""
