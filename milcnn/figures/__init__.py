"""Figures: a tidy table or an array in, a Figure out; nothing here reads or writes a data file."""

from milcnn.figures.compare import confidence, confusion, error_by_fraction, levels
from milcnn.figures.dose import degradation, dose_response, estimated_against_true, learned_thresholds
from milcnn.figures.fields import example_fields, quality, show_field
from milcnn.figures.gallery import cell_sheet, class_map_sheet, composite, display_range, ranked_sheet
from milcnn.figures.labels import label
from milcnn.figures.localise import (
    floors_and_ceiling,
    localisation_gallery,
    localisation_panel,
    localisation_scores,
    sanity_curves,
)
from milcnn.figures.outlines import outline_objects
from milcnn.figures.style import OVERLAY, TRUTH, use_style
from milcnn.figures.training import pooling_curves, training_curves

__all__ = [
    "OVERLAY",
    "TRUTH",
    "cell_sheet",
    "class_map_sheet",
    "composite",
    "confidence",
    "confusion",
    "degradation",
    "display_range",
    "dose_response",
    "error_by_fraction",
    "estimated_against_true",
    "example_fields",
    "floors_and_ceiling",
    "label",
    "learned_thresholds",
    "levels",
    "localisation_gallery",
    "localisation_panel",
    "localisation_scores",
    "outline_objects",
    "pooling_curves",
    "quality",
    "ranked_sheet",
    "sanity_curves",
    "show_field",
    "training_curves",
    "use_style",
]
