"""The channels of a screen: their names, and which plane of which file holds each."""

import pandas as pd

from milcnn.columns import page_column, path_column
from milcnn.screens.images import Header, ImageError, read_header
from milcnn.screens.screen import ScreenError


def image_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table if column == "Path" or column.startswith("Path_")]


def with_channels(
    table: pd.DataFrame, wanted: list[str], name: str
) -> tuple[pd.DataFrame, list[str], int | None, float | None]:
    """``table`` with a path (and page) for each channel, the channels, the planes of a file, the pixel size in µm."""
    files = [path for column in image_columns(table) for path in table[column] if isinstance(path, str)]
    header = first_header(files)
    pixel_size = header.pixel_size if header else None
    if "Path" in table:
        channels = wanted or (header.channels if header else [])
        if not channels:
            raise ScreenError([f"{name}: its images have no channel names; set 'channels', as in [DAPI, Actin]."])
        pages = {page_column(channel): page for page, channel in enumerate(channels)}
        paged = table.assign(**{path_column(channel): table["Path"] for channel in channels}, **pages)
        return paged.drop(columns="Path"), channels, len(channels), pixel_size
    named = [column.removeprefix("Path_") for column in table if column.startswith("Path_")]
    unknown = [channel for channel in wanted if channel not in named]
    if unknown:
        missing = f"{name}: has no images of channel {', '.join(unknown)}, only of {', '.join(named)}"
        raise ScreenError([f"{missing}; correct 'channels'."])
    channels = wanted or named
    others = [column(channel) for channel in named if channel not in channels for column in (path_column, page_column)]
    table = table.drop(columns=[column for column in others if column in table])
    paged = any(page_column(channel) in table for channel in channels)
    return table, channels, None if paged else 1, pixel_size


def first_header(paths: list[str]) -> Header | None:
    """The header of the first readable file among ten; ``Screen.check`` reports those that cannot be read."""
    for path in paths[:10]:
        try:
            return read_header(path)
        except ImageError:
            continue
    return None
