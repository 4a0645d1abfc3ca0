"""Checks of a table of fields and of its image files, before any work starts."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from milcnn.columns import (
    FIELD_KEY,
    LABEL,
    PLATE,
    SETS,
    SPLIT,
    class_names,
    labels_of,
    page_column,
    path_column,
    path_columns,
)
from milcnn.roles import is_control
from milcnn.screens.images import Header, ImageError, read_header


def table_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool = False) -> list[str]:
    """The problems of the table, one sentence each; see ``Screen`` for its columns."""
    missing = [column for column in [*FIELD_KEY, LABEL] if column not in fields]
    if missing:
        return [f"table: has no column {', '.join(missing)}; add it."]
    if fields.empty:
        return ["table: has no rows; add one row for each field."]
    problems = [*repeated_fields(fields), *repeated_files(fields), *plate_names(fields), *split_names(fields)]
    return [*problems, *unlabelled_wells(fields, multilabel), *class_problems(fields, classes, multilabel)]


def repeated_fields(fields: pd.DataFrame) -> Iterator[str]:
    counts = fields.groupby(FIELD_KEY, sort=False, dropna=False).size()
    for (plate, well, site), count in counts[counts > 1].items():
        yield f"{field_name(plate, well, site)}: has {count} rows in the table; keep one."


def repeated_files(fields: pd.DataFrame) -> Iterator[str]:
    """Two fields must not share a plane: one may be in the training set and the other in the test set."""
    for column in [column for column in fields if column.startswith("Path_")]:
        page = page_column(column.removeprefix("Path_"))
        plane = [column, page] if page in fields else [column]
        shared = fields[fields[column].notna() & fields.duplicated(plane, keep=False)]
        for _, rows in shared.groupby(plane, sort=False):
            keys = rows[FIELD_KEY].drop_duplicates()
            if len(keys) > 1:
                names = "; ".join(field_name(*key) for key in keys.itertuples(index=False))
                yield f"{rows[column].iloc[0]}: is in {column} of more than one field; correct the table: {names}."


def plate_names(fields: pd.DataFrame) -> Iterator[str]:
    for plate in fields[PLATE].unique():
        if pd.isna(plate) or str(plate) in {"", ".", ".."} or set(str(plate)) & set('/\\:*?"<>|'):
            yield f"plate '{plate}': its name becomes a file name; do not leave it empty or use / \\ : * ? \" < > |."


def split_names(fields: pd.DataFrame) -> Iterator[str]:
    """Fields outside the three sets may have any other name, but "Training" is probably a mistake."""
    for split in sorted(set(fields.get(SPLIT, pd.Series(dtype=str)).dropna().astype(str)) - {*SETS, ""}):
        if split.strip().casefold().startswith(("train", "val", "test")):
            yield f"{SPLIT} '{split}': write {', '.join(SETS[:2])} or {SETS[2]}."


def unlabelled_wells(fields: pd.DataFrame, multilabel: bool) -> Iterator[str]:
    unlabelled = fields[[not labels_of(label, multilabel) for label in fields[LABEL]]]
    for (plate, well), rows in unlabelled.groupby(FIELD_KEY[:2], sort=False, dropna=False):
        yield f"plate {plate}, well {well}: no label in {len(rows)} of its fields; add the label or delete these rows."


def class_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool) -> Iterator[str]:
    counts = Counter(name for label in fields[LABEL] for name in labels_of(label, multilabel))
    alike = defaultdict(list)
    for name in sorted(counts):
        alike["".join(name.split()).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"labels {', '.join(map(repr, names))}: differ only in case or spaces; write them the same way."
    if len(classes) < 2:
        yield f"table: at least two classes are needed, but it has {classes}; check the labels."
    for name in classes:
        if counts[name] < 2:
            yield f"class '{name}': at least two fields are needed, to train and to test, but it has {counts[name]}."
    controls = class_names(fields[is_control(fields)], multilabel)
    for name in sorted(set(counts) - {*classes, *controls}):
        yield f"label '{name}': is not one of the classes {classes}; correct the label or add the class."


def file_problems(fields: pd.DataFrame, channels: list[str], planes: int | None = None) -> list[str]:
    """The problems of the image files, one sentence each; see ``Screen`` for ``planes``.

    Reads the header of every file once, eight files at a time. All planes of a screen must have the same dtype
    and the same size.
    """
    columns = path_columns(fields, channels)
    if not columns:
        return []
    lacking = [path_column(channel) for channel in channels if path_column(channel) not in columns]
    if lacking:
        return [f"table: has no column {', '.join(lacking)}; add it, or remove the channel."]
    paths = [path for path in pd.unique(fields[columns].to_numpy().ravel()) if isinstance(path, str)]
    results = thread_map(header_or_problem, paths, max_workers=8, desc="check", unit="file", leave=False)
    headers = {path: header for path, header in zip(paths, results, strict=True) if isinstance(header, Header)}
    problems = [problem for problem in results if isinstance(problem, str)]
    return [*problems, *plane_counts(fields, channels, headers, planes), *odd_planes(fields, channels, headers)]


def header_or_problem(path: str) -> Header | str:
    try:
        return read_header(path)
    except ImageError as error:
        return str(error)


def plane_counts(
    fields: pd.DataFrame, channels: list[str], headers: dict[str, Header], planes: int | None
) -> Iterator[str]:
    """Files with fewer planes than the table needs, or with another number than ``planes``."""
    needed: dict[str, int] = defaultdict(int)
    for path, page in planes_of(fields, channels):
        needed[path] = max(needed[path], page + 1)
    for path, header in headers.items():
        has, expected = len(header.planes), max(planes or 0, needed[path])
        if has < needed[path] or (planes and has != planes):
            yield f"{path}: wrong number of pages, {has} where {expected} are expected; correct the table or the file."


def odd_planes(fields: pd.DataFrame, channels: list[str], headers: dict[str, Header]) -> Iterator[str]:
    """Files with planes of another dtype or size than most planes of the screen."""
    facts = {
        (path, page): headers[path].planes[page]
        for path, page in planes_of(fields, channels)
        if path in headers and page < len(headers[path].planes)
    }
    if not facts:
        return
    dtype = Counter(dtype for _, _, dtype in facts.values()).most_common(1)[0][0]
    size = Counter((height, width) for height, width, _ in facts.values()).most_common(1)[0][0]
    planes = [(path, plane) for (path, _), plane in facts.items()]
    for path, odd in dict.fromkeys((path, odd) for path, (_, _, odd) in planes if odd != dtype):
        yield f"{path}: is {odd}, but most files are {dtype}; convert it or delete the rows of its field."
    for path, height, width in dict.fromkeys((path, *plane[:2]) for path, plane in planes if plane[:2] != size):
        yield (
            f"{path}: is {height} × {width} px, but most files are {size[0]} × {size[1]} px; "
            "all fields and channels need the same size."
        )


def planes_of(fields: pd.DataFrame, channels: list[str]) -> Iterator[tuple[str, int]]:
    """Path and page number of every plane in the table."""
    for channel in channels:
        pages = fields.get(page_column(channel), pd.Series(0, index=fields.index))
        for path, page in zip(fields[path_column(channel)], pages, strict=True):
            if isinstance(path, str):
                yield path, int(page)


def field_name(plate: object, well: object, site: object) -> str:
    return f"plate {plate}, well {well}, site {site}"
