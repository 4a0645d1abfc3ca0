"""Judgement: tables of predictions in, tables of scores out; nothing here knows a network."""

from milcnn.evaluate.calibration import calibration_rows, reliability, risk_coverage, temperature
from milcnn.evaluate.comparisons import best_on_validation, best_rival_row, differences, error_by_fraction
from milcnn.evaluate.intervals import interval, mean_with_interval
from milcnn.evaluate.levels import at_level, level_rows
from milcnn.evaluate.realness import inflation, probe_rows, shared_groups
from milcnn.evaluate.runs import (
    SUMMARY,
    class_names,
    label_matrix,
    merged_summary,
    metrics,
    of_split,
    read_profiles,
    read_runs,
    with_errors,
)
from milcnn.evaluate.scores import METRICS, score_rows, summary_rows
from milcnn.evaluate.treatments import neighbour_rows, neighbours, nsc, treatment_profiles

__all__ = [
    "METRICS",
    "SUMMARY",
    "at_level",
    "best_on_validation",
    "best_rival_row",
    "calibration_rows",
    "class_names",
    "differences",
    "error_by_fraction",
    "inflation",
    "interval",
    "label_matrix",
    "level_rows",
    "mean_with_interval",
    "merged_summary",
    "metrics",
    "neighbour_rows",
    "neighbours",
    "nsc",
    "of_split",
    "probe_rows",
    "read_profiles",
    "read_runs",
    "reliability",
    "risk_coverage",
    "score_rows",
    "shared_groups",
    "summary_rows",
    "temperature",
    "treatment_profiles",
    "with_errors",
]
