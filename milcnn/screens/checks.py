"""What can be wrong with a table of fields and with the files it names, found before any work starts."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from milcnn.columns import (
    CONTROL,
    FIELD_KEY,
    LABEL,
    PLATE,
    SETS,
    SPLIT,
    labels_of,
    page_column,
    path_column,
    path_columns,
)
from milcnn.screens.images import Header, ImageError, read_header


def table_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool = False) -> list[str]:
    """One sentence for each problem of the table itself; see ``Screen`` for its columns."""
    missing = [column for column in [*FIELD_KEY, LABEL] if column not in fields]
    if missing:
        return [f"table: has no column {', '.join(missing)}."]
    if fields.empty:
        return ["table: has no fields."]
    problems = [*repeated_fields(fields), *repeated_files(fields), *plate_names(fields), *split_names(fields)]
    return [*problems, *unlabelled_wells(fields, multilabel), *class_problems(fields, classes, multilabel)]


def repeated_fields(fields: pd.DataFrame) -> Iterator[str]:
    counts = fields.groupby(FIELD_KEY, sort=False, dropna=False).size()
    for (plate, well, site), count in counts[counts > 1].items():
        yield f"{field_name(plate, well, site)}: has {count} rows; keep one."


def repeated_files(fields: pd.DataFrame) -> Iterator[str]:
    """A plane that two fields share would be learnt from under one name and tested under another."""
    for column in [column for column in fields if column.startswith("Path_")]:
        page = page_column(column.removeprefix("Path_"))
        plane = [column, page] if page in fields else [column]
        shared = fields[fields[column].notna() & fields.duplicated(plane, keep=False)]
        for _, rows in shared.groupby(plane, sort=False):
            keys = rows[FIELD_KEY].drop_duplicates()
            if len(keys) > 1:
                names = "; ".join(field_name(*key) for key in keys.itertuples(index=False))
                yield f"{rows[column].iloc[0]}: is {column} of more than one field: {names}."


def plate_names(fields: pd.DataFrame) -> Iterator[str]:
    for plate in fields[PLATE].unique():
        if pd.isna(plate) or str(plate) in {"", ".", ".."} or set(str(plate)) & set('/\\:*?"<>|'):
            yield f"plate '{plate}': names a file once prepared; give it a name without / \\ : * ? \" < > |."


def split_names(fields: pd.DataFrame) -> Iterator[str]:
    """Other names are for fields of none of the sets, but "Training" is hardly meant as one."""
    for split in sorted(set(fields.get(SPLIT, pd.Series(dtype=str)).dropna().astype(str)) - {*SETS, ""}):
        if split.strip().casefold().startswith(("train", "val", "test")):
            yield f"{SPLIT} '{split}': write {', '.join(SETS[:2])} or {SETS[2]}."


def unlabelled_wells(fields: pd.DataFrame, multilabel: bool) -> Iterator[str]:
    bare = fields[[not labels_of(label, multilabel) for label in fields[LABEL]]]
    for (plate, well), rows in bare.groupby(FIELD_KEY[:2], sort=False, dropna=False):
        yield f"plate {plate}, well {well}: {len(rows)} fields without a label; add it, or leave the rows out."


def class_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool) -> Iterator[str]:
    counts = Counter(name for label in fields[LABEL] for name in labels_of(label, multilabel))
    alike = defaultdict(list)
    for name in sorted(counts):
        alike["".join(name.split()).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            yield f"labels {', '.join(map(repr, names))}: differ only in case or spaces; write them alike."
    if len(classes) < 2:
        yield f"table: has {len(classes)} class {classes}; nothing can be told apart with fewer than two."
    for name in classes:
        if counts[name] < 2:
            yield f"class '{name}': has {counts[name]} field; two at least, to learn from one and test on the other."
    controls = fields[fields[CONTROL].astype(bool)] if CONTROL in fields else fields[:0]
    strange = set(counts) - set(classes) - {name for label in controls[LABEL] for name in labels_of(label, multilabel)}
    for name in sorted(strange):
        yield f"label '{name}': is none of the classes {classes}."


def file_problems(fields: pd.DataFrame, channels: list[str], planes: int | None = None) -> list[str]:
    """One sentence for each problem of the files' headers; see ``Screen`` for ``planes``.

    Every file is opened once, eight at a time. All planes of a screen must have one dtype and one size.
    """
    columns = path_columns(fields, channels)
    if not columns:
        return []
    lacking = [path_column(channel) for channel in channels if path_column(channel) not in columns]
    if lacking:
        return [f"table: has no column {', '.join(lacking)}."]
    paths = pd.unique(fields[columns].to_numpy().ravel())
    paths = [path for path in paths if isinstance(path, str)]
    found = thread_map(header_or_problem, paths, max_workers=8, desc="check", unit="file", leave=False)
    headers = {path: header for path, header in zip(paths, found, strict=True) if isinstance(header, Header)}
    problems = [problem for problem in found if isinstance(problem, str)]
    problems += [*plane_counts(fields, channels, headers, planes)]
    return [*problems, *odd_planes(fields, channels, headers)]


def header_or_problem(path: str) -> Header | str:
    try:
        return read_header(path)
    except ImageError as error:
        return str(error)


def plane_counts(
    fields: pd.DataFrame, channels: list[str], headers: dict[str, Header], planes: int | None
) -> Iterator[str]:
    """Files that hold fewer planes than the table asks of them, or not exactly ``planes``."""
    asked: dict[str, int] = defaultdict(int)
    for path, page in planes_of(fields, channels):
        asked[path] = max(asked[path], page + 1)
    for path, header in headers.items():
        has, wanted = len(header.planes), planes or asked[path]
        if has < asked[path] or (planes and has != planes):
            yield f"{path}: wrong number of pages, {has} where {max(wanted, asked[path])} are expected."


def odd_planes(fields: pd.DataFrame, channels: list[str], headers: dict[str, Header]) -> Iterator[str]:
    """Planes whose dtype or size is not the screen's most frequent one, and sizes that differ within a field."""
    facts = {
        (path, page): headers[path].planes[page]
        for path, page in planes_of(fields, channels)
        if path in headers and page < len(headers[path].planes)
    }
    if not facts:
        return
    dtype = Counter(dtype for _, _, dtype in facts.values()).most_common(1)[0][0]
    size = Counter((height, width) for height, width, _ in facts.values()).most_common(1)[0][0]
    for path, odd in unique_by_file(facts, lambda plane: plane[2], dtype):
        yield f"{path}: is {odd} where most files are {dtype}; convert it, or leave its field out."
    for path, odd in unique_by_file(facts, lambda plane: plane[:2], size):
        yield (
            f"{path}: is {odd[0]} × {odd[1]} px where most files are {size[0]} × {size[1]}; all channels and "
            "fields of a screen must have one size."
        )


def unique_by_file(facts: dict, part, usual: object) -> Iterator[tuple[str, object]]:
    """Each file with that part of a plane that is not ``usual``, once."""
    yield from dict.fromkeys((path, part(plane)) for (path, _), plane in facts.items() if part(plane) != usual)


def planes_of(fields: pd.DataFrame, channels: list[str]) -> Iterator[tuple[str, int]]:
    """Path and page of every plane that the table names."""
    for channel in channels:
        pages = fields.get(page_column(channel), pd.Series(0, index=fields.index))
        for path, page in zip(fields[path_column(channel)], pages, strict=True):
            if isinstance(path, str):
                yield path, int(page)


def field_name(plate: object, well: object, site: object) -> str:
    return f"plate {plate}, well {well}, site {site}"
