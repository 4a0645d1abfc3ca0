"""Localisation: from a label on the field to the pixels and cells that carry it.

The class map p_i is coarse, one value an instance. ``maps`` has what brings it to the pixels, the
Jacobian map of Kraus 2016 among them; ``dense`` what sharpens any map; ``geometry`` where instances lie.
``found`` makes cells of maps, ``scores`` holds them against the truth, ``sanity`` asks what the maps depend on.
"""

from milcnn.localise.dense import dense_map, evidence_map, multi_scale, sharp_map, shift_averaged
from milcnn.localise.found import FINDERS, Found, class_maps_of, cut_fields, evident_cells, floors, in_cells, maps_of
from milcnn.localise.geometry import instance_centres
from milcnn.localise.maps import all_class_maps, class_map, grad_cam, gradient_map, guided, jacobian_map, layer_cam
from milcnn.localise.rules import score_rules
from milcnn.localise.sanity import cascade, cascade_scores
from milcnn.localise.scores import (
    cell_average_precision,
    pixel_average_precision,
    score_maps,
    score_method,
    score_network,
    score_runs,
    scored_fields,
    summary,
)
from milcnn.masks import otsu_mask

__all__ = [
    "FINDERS",
    "Found",
    "all_class_maps",
    "cascade",
    "cascade_scores",
    "cell_average_precision",
    "class_map",
    "class_maps_of",
    "cut_fields",
    "dense_map",
    "evidence_map",
    "evident_cells",
    "floors",
    "grad_cam",
    "gradient_map",
    "guided",
    "in_cells",
    "instance_centres",
    "jacobian_map",
    "layer_cam",
    "maps_of",
    "multi_scale",
    "otsu_mask",
    "pixel_average_precision",
    "score_maps",
    "score_method",
    "score_network",
    "score_rules",
    "score_runs",
    "scored_fields",
    "sharp_map",
    "shift_averaged",
    "summary",
]
