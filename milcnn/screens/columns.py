"""The columns of a table of fields, named as profiling tools name them; see ``Screen``."""

import pandas as pd

PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
BATCH = "Metadata_Batch"
COMPOUND = "Metadata_Compound"
CONCENTRATION = "Metadata_Concentration"
LABEL = "Metadata_Label"
REPLICATE = "Metadata_Replicate"
CONTROL = "Metadata_Control"
SPLIT = "Metadata_Split"
FIELD_KEY = [PLATE, WELL, SITE]
METADATA = [*FIELD_KEY, BATCH, COMPOUND, CONCENTRATION, LABEL, REPLICATE, CONTROL, SPLIT]
LABEL_MARK = "|"  # between the labels of a field that has several


def path_column(channel: str) -> str:
    return f"Path_{channel}"


def page_column(channel: str) -> str:
    return f"Page_{channel}"


def path_columns(fields: pd.DataFrame, channels: list[str]) -> list[str]:
    """The path columns of ``channels`` that ``fields`` has; none where fields are made, not read."""
    return [path_column(channel) for channel in channels if path_column(channel) in fields]


def join_labels(labels: list[str]) -> str:
    """Several labels as one ``Metadata_Label``: sorted, each once, joined by ``|``."""
    return LABEL_MARK.join(sorted(set(labels)))


def labels_of(label: str, multilabel: bool) -> list[str]:
    """The labels in one ``Metadata_Label``; none where it is missing."""
    if pd.isna(label) or not str(label).strip():
        return []
    return str(label).split(LABEL_MARK) if multilabel else [str(label)]


def class_names(fields: pd.DataFrame, multilabel: bool = False, with_controls: bool = True) -> list[str]:
    """The labels that occur, sorted; those of controls only where controls are a class."""
    rows = fields if with_controls or CONTROL not in fields else fields[~fields[CONTROL].astype(bool)]
    return sorted({name for label in rows[LABEL] for name in labels_of(label, multilabel)})


def reported(fields: pd.DataFrame) -> pd.DataFrame:
    """The rows that a run tells of: fields it did not learn from, and all negative controls.

    Controls are alike on every plate, so what tells those of two plates apart is the plate.
    """
    controls = fields[CONTROL].astype(bool) if CONTROL in fields else False
    return fields[(fields[SPLIT] != "train") | controls]
