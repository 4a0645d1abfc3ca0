"""A screen to click through in JupyterLab: plate, well, field, what the network sees in it, its cells.

``explore`` opens it. ``shown`` has the fields and what is computed of them, ``view`` and ``drawn`` make pictures,
``plate``, ``picture`` and ``strip`` are the widgets with clicks, ``controls`` the others, and ``marks`` keeps what the
user finds wrong.
"""

from milcnn.explore.start import explore as explore
