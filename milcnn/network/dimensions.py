"""Lengths of the trunk, known without loading torch."""

STRIDE = 32  # px of the field between neighbouring instances
RECEPTIVE_FIELD = 135  # px, of the paper's trunk; the residual one sees 435 px
