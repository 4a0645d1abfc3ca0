"""From raw fields to prepared ones: corrected, checked for quality, split, and stored a plate at a time."""
