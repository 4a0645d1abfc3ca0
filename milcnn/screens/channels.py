"""The channels of a screen: their names, and which plane of which file holds each."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from milcnn.columns import TIME, Z, page_column, path_column
from milcnn.screens.images import Header, as_page, plane_number, read_header
from milcnn.screens.metadata import Fault
from milcnn.screens.opening import ImageError
from milcnn.screens.problems import Problem, ScreenError, first_few

ALIKE = 0.01  # pixel sizes that differ by this share are those of one objective


def image_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in table if column == "Path" or column.startswith("Path_")]


def with_channels(
    table: pd.DataFrame, wanted: list[str], order: list[str], name: str
) -> tuple[pd.DataFrame, list[str], int | None, float | None]:
    """``table`` with a path (and page) for each channel, the channels, the planes of a file, the pixel size in µm.

    In a column ``Path``, the planes are found by the names in the metadata of each file; where the first file has
    none, ``wanted`` names them by their position. ``order`` has all channels of the table, also those not wanted.
    Raises ScreenError if the channels are not told.
    """
    if repeated := [channel for channel, count in Counter(wanted).items() if count > 1]:
        raise ScreenError([f"channels: has {first_few(repeated)} more than once; name each channel once."])
    files = [path for column in image_columns(table) for path in table[column] if isinstance(path, str)]
    header = first_header(files)
    pixel_size = header.pixel_size if header else None
    # the table may tell of its planes itself
    numbered = {column for column in table if column.startswith("Page_") or column in (Z, TIME)}
    if "Path" in table:
        table, channels, planes = paged(table, wanted, header, name)
        order, stacked = channels, header is not None and bool(header.stack)
    else:
        table, channels = wanted_channels(table, wanted, name)
        planes, stacked = None, header is not None and len({place[1:] for place in header.places}) > 1
    if header and stacked and not numbered:
        table, planes = by_plane(table, channels, order, header), len(header.places)
    return table, channels, planes, pixel_size


def wanted_channels(table: pd.DataFrame, wanted: list[str], name: str) -> tuple[pd.DataFrame, list[str]]:
    """``table`` without the paths of channels that are not ``wanted``, and the channels."""
    named = [column.removeprefix("Path_") for column in table if column.startswith("Path_")]
    if unknown := [channel for channel in wanted if channel not in named]:
        missing = f"{name}: has no images of channel {first_few(unknown)}, only of {', '.join(named)}"
        raise ScreenError([f"{missing}; correct 'channels'."])
    channels = wanted or named
    others = [column(channel) for channel in named if channel not in channels for column in (path_column, page_column)]
    return table.drop(columns=[column for column in others if column in table]), channels


def by_plane(table: pd.DataFrame, channels: list[str], order: list[str], header: Header) -> pd.DataFrame:
    """``table`` with a row for each z plane and time point that its files have, all in the order of ``header``.

    A channel is found in a file by its name, else by its position in ``order``; a file of one channel has it alone.
    """
    pages = {place: page for page, place in enumerate(header.places)}
    numbers = {name: header.places[page][0] for page, name in enumerate(header.channels)}
    alone = len({channel for channel, _, _ in pages}) == 1
    rows = []
    for z, time in dict.fromkeys(place[1:] for place in header.places):
        own = {name: (0 if alone else numbers.get(name, order.index(name)), z, time) for name in channels}
        new = {page_column(name): pages.get(place, len(pages)) for name, place in own.items()}
        rows.append(table.assign(**{Z: z, TIME: time}, **new))
    return pd.concat(rows).sort_index(kind="stable").reset_index(drop=True)


def paged(
    table: pd.DataFrame, wanted: list[str], header: Header | None, name: str
) -> tuple[pd.DataFrame, list[str], int | None]:
    """``table`` with a path and a page for each channel of the files in ``Path``; the channels; the planes of a file.

    ``Page_<channel>`` becomes the name of the channel, or its number where the files have no names.
    """
    names = list(dict.fromkeys(header.channels)) if header and all(header.channels) else []
    numbered = [column.removeprefix("Page_") for column in table if column.startswith("Page_")]
    channels = wanted or numbered or names
    if not channels:
        raise ScreenError([f"{name}: its images have no channel names; set 'channels', as in [DAPI, Actin]."])
    new: dict[str, object] = {path_column(channel): table["Path"] for channel in channels}
    for position, channel in enumerate(channels):
        if channel not in numbered and (names or len(channels) > 1):  # the only plane needs no page
            new[page_column(channel)] = channel if names else position
    planes = len(channels) if not numbered and len(channels) > 1 and not (names and wanted) else None
    others = [page_column(channel) for channel in numbered if channel not in channels]
    return table.assign(**new).drop(columns=["Path", *others]), channels, planes


def first_header(paths: list[str]) -> Header | None:
    """The header of the first readable file among ten; ``Screen.check`` reports those that cannot be read."""
    for path in paths[:10]:
        try:
            return read_header(path)
        except ImageError:
            continue
    return None


def plane_problems(
    fields: pd.DataFrame,
    channels: list[str],
    headers: dict[str, Header],
    count: int | None,
    places: dict[str, str],
) -> Iterator[Problem]:
    """What is wrong with the planes of the channels; ``count`` as in ``plane_number``, ``places`` names a file.

    A plane must not stand for two channels, nor have the name of another channel. All must have one dtype and size.
    """
    taken: dict[tuple[str, int | None], str] = {}
    for path, page, channel in planes_of(fields, channels):
        if path not in headers:
            continue
        header = headers[path]
        try:
            number = plane_number(header, page, channel, count)
        except Fault as fault:
            yield as_problem(str(fault), places[path])
            continue
        told = header.channels[number or 0] if header.channels else ""
        if taken.setdefault((path, number), channel) != channel:
            what = f"one image stands for two channels ({taken[path, number]} and {channel})"
            yield as_problem(f"{what}; correct the table.", places[path])
        elif told != channel and told in channels:
            what = f"a plane of another channel ({told} in the file, {channel} in the table)"
            yield as_problem(f"{what}; correct the table or 'channels'.", places[path])
    facts = [(path, headers[path].planes[number or 0]) for path, number in taken]
    yield from odd_planes(dict.fromkeys(facts), places)


def planes_of(fields: pd.DataFrame, channels: list[str]) -> dict[tuple[str, int | str | None, str], None]:
    """Path, page and channel of every plane in the table, each once; the page is None where the table has none."""
    planes: dict[tuple[str, int | str | None, str], None] = {}
    for channel in channels:
        pages = fields.get(page_column(channel), pd.Series(None, index=fields.index, dtype=object))
        for path, page in zip(fields[path_column(channel)], pages, strict=True):
            if isinstance(path, str):
                planes[path, as_page(page), channel] = None
    return planes


def odd_planes(facts: dict[tuple[str, tuple[int, int, str]], None], places: dict[str, str]) -> Iterator[Problem]:
    """Files with planes of another dtype or size than most planes of the screen."""
    if not facts:
        return
    dtype = Counter(plane[2] for _, plane in facts).most_common(1)[0][0]
    size = Counter(plane[:2] for _, plane in facts).most_common(1)[0][0]
    for path, (height, width, own) in facts:
        if own != dtype:
            advice = "convert it or delete the rows of its field"
            yield Problem(f"not {dtype} like most files", advice, places[path], own)
        if (height, width) != size:
            what, advice = f"not {size[0]} × {size[1]} px like most files", "all fields and channels need the same size"
            yield Problem(what, advice, places[path], f"{height} × {width} px")


def odd_pixel_sizes(headers: dict[str, Header], places: dict[str, str]) -> Iterator[Problem]:
    """Files with another pixel size than most files that have one."""
    sizes = {path: header.pixel_size for path, header in headers.items() if header.pixel_size}
    if not sizes:
        return
    usual = Counter(sizes.values()).most_common(1)[0][0]
    for path, size in sizes.items():
        if abs(size / usual - 1) > ALIKE:
            advice = "delete the rows of one of the two, or set 'pixel_size' if the files are wrong"
            yield Problem(f"not {usual:g} µm a pixel like most files", advice, places[path], f"{size:g} µm")


def as_problem(sentence: str, place: str) -> Problem:
    """The sentence of a fault, 'what (detail); advice.', as a Problem."""
    what, _, advice = sentence.rstrip(".").rpartition("; ")
    what, _, detail = what.partition(" (")
    return Problem(what, advice, place, detail.removesuffix(")"))
