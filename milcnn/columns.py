"""The column names of a table of fields, as other profiling tools write them; see ``Screen``."""

import re

import pandas as pd

PLATE = "Metadata_Plate"
WELL = "Metadata_Well"
SITE = "Metadata_Site"
BATCH = "Metadata_Batch"
COMPOUND = "Metadata_Compound"
CONCENTRATION = "Metadata_Concentration"
LABEL = "Metadata_Label"
UNKNOWN = "Metadata_Unknown"  # classes of which it is not known whether a field has them; joined as labels are
REPLICATE = "Metadata_Replicate"
CONTROL = "Metadata_Control"
SOURCE = "Metadata_Source"  # the image or glyphs that a made field is cut from
SPLIT = "Metadata_Split"
Z, TIME = "Metadata_Z", "Metadata_Time"  # of a table with several planes or time points a field
PIXEL_SIZE = "Metadata_PixelSize"  # µm
FIELD_KEY = [PLATE, WELL, SITE]
METADATA = [*FIELD_KEY, BATCH, COMPOUND, CONCENTRATION, LABEL, UNKNOWN, REPLICATE, CONTROL, SOURCE, SPLIT]
SETS = ["train", "validation", "test"]  # the values of ``Metadata_Split`` that a study uses
FRESH = "fresh"  # that of a second test set: drawn once, after all else was fixed
UNLABELLED = "unlabelled"  # that of fields without a label: prepared and predicted, never trained on or judged
LABEL_MARK = "|"  # separates the labels of a field that has several


def path_column(channel: str) -> str:
    return f"Path_{channel}"


def page_column(channel: str) -> str:
    return f"Page_{channel}"


def path_columns(fields: pd.DataFrame, channels: list[str]) -> list[str]:
    """The path columns of ``channels`` that ``fields`` has. A simulated screen has none."""
    return [path_column(channel) for channel in channels if path_column(channel) in fields]


def join_labels(labels: list[str]) -> str:
    """One ``Metadata_Label`` for several labels: sorted, without repeats, joined by ``|``."""
    return LABEL_MARK.join(sorted(set(labels)))


def labels_of(label: str, multilabel: bool) -> list[str]:
    """The labels in one ``Metadata_Label``; an empty list where it is missing."""
    if pd.isna(label) or not str(label).strip():
        return []
    return str(label).split(LABEL_MARK) if multilabel else [str(label)]


def class_names(fields: pd.DataFrame, multilabel: bool = False) -> list[str]:
    """The labels in the table, sorted."""
    return sorted({name for label in fields[LABEL] for name in labels_of(label, multilabel)})


def parse_method(method: str) -> tuple[str, dict[str, float]]:
    """Name and settings of a method: ``noisy_and-a7.5`` → ``("noisy_and", {"a": 7.5})``.

    params.yaml, folders and tables name a pooling function and its settings in this way.
    """
    name, *settings = method.split("-")
    matches = [re.fullmatch(r"([a-z_]+)(\d+\.?\d*)", setting) for setting in settings]
    if not all(matches):
        raise ValueError(f"pooling: '{method}' is not a name with settings; write it as in noisy_and-a7.5.")
    return name, {m[1]: float(m[2]) for m in matches if m}


def of_channels(fields: pd.DataFrame, measure: str) -> pd.DataFrame:
    """One quality measure (Focus, Saturation, Foreground): a column for each channel, named after the channel."""
    prefix = f"Quality_{measure}_"
    names = [name for name in fields.columns if name.startswith(prefix)]
    return fields[names].rename(columns=lambda name: name.removeprefix(prefix))
