"""Checks of a table of fields and of its image files, before any work starts."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial

import pandas as pd
from tqdm.contrib.concurrent import thread_map

from milcnn.columns import (
    FIELD_KEY,
    FRESH,
    LABEL,
    PLATE,
    SETS,
    SPLIT,
    UNKNOWN,
    class_names,
    labels_of,
    page_column,
    path_column,
    path_columns,
)
from milcnn.roles import is_control
from milcnn.screens.channels import as_problem, odd_pixel_sizes, plane_problems
from milcnn.screens.images import Header, read_header
from milcnn.screens.missing import missing_images
from milcnn.screens.opening import ImageError, split_zip
from milcnn.screens.problems import Problem, field_name, first_few


def table_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool = False) -> list[Problem | str]:
    """The problems of the table; see ``Screen`` for its columns."""
    missing = [column for column in [*FIELD_KEY, LABEL] if column not in fields]
    if missing:
        return [f"table: has no column {', '.join(missing)}; add it."]
    if fields.empty:
        return ["table: has no rows; add one row for each field."]
    return [*row_problems(fields), *split_names(fields), *class_problems(fields, classes, multilabel)]


def row_problems(fields: pd.DataFrame) -> list[Problem | str]:
    """The problems of the rows of a table, whatever their labels."""
    return [*empty_names(fields), *repeated_fields(fields), *repeated_files(fields), *plate_names(fields)]


def empty_names(fields: pd.DataFrame) -> Iterator[Problem]:
    for column in FIELD_KEY:
        for key in fields.loc[no_name(fields[column]), FIELD_KEY].drop_duplicates().itertuples(index=False):
            yield Problem(f"{column} is empty", "fill it in, or delete the row", field_name(*key))


def no_name(names: pd.Series) -> pd.Series:
    return names.isna() | (names.astype(str).str.strip() == "")


def repeated_fields(fields: pd.DataFrame) -> Iterator[Problem]:
    named = ~fields[FIELD_KEY].apply(no_name).any(axis=1)
    counts = fields[named].groupby(FIELD_KEY, sort=False).size()
    for key, count in counts[counts > 1].items():
        yield Problem("more than one row in the table", "keep one", field_name(*key), f"{count} rows")


def repeated_files(fields: pd.DataFrame) -> Iterator[Problem]:
    """Two fields must not share a plane: one may be in the training set and the other in the test set."""
    for column in [column for column in fields if column.startswith("Path_")]:
        page = page_column(column.removeprefix("Path_"))
        plane = [column, page] if page in fields else [column]
        shared = fields[fields[column].fillna("").ne("") & fields.duplicated(plane, keep=False)]
        for _, rows in shared.groupby(plane, sort=False):
            keys = rows[FIELD_KEY].drop_duplicates()
            if len(keys) > 1:
                names = first_few([field_name(*key) for key in keys.itertuples(index=False)], "; ")
                what = f"one image in {column} of more than one field"
                yield Problem(what, "correct the table", rows[column].iloc[0], names)


def plate_names(fields: pd.DataFrame) -> Iterator[Problem]:
    advice = 'it becomes the name of a file: use none of / \\ : * ? " < > |'
    for plate in fields.loc[~no_name(fields[PLATE]), PLATE].unique():
        if str(plate) in {".", ".."} or set(str(plate)) & set('/\\:*?"<>|'):
            yield Problem("a name that cannot be used", advice, f"plate '{plate}'")


def split_names(fields: pd.DataFrame) -> Iterator[Problem]:
    """Fields outside the sets may have any other name, but "Training" is probably a mistake."""
    for split in sorted(set(fields.get(SPLIT, pd.Series(dtype=str)).dropna().astype(str)) - {*SETS, ""}):
        if split != FRESH and split.strip().casefold().startswith(("train", "val", "test", FRESH)):
            yield Problem("unknown set", f"write {', '.join(SETS)} or {FRESH}", f"{SPLIT} '{split}'")


def class_problems(fields: pd.DataFrame, classes: list[str], multilabel: bool) -> Iterator[Problem | str]:
    counts = Counter(name for label in fields[LABEL] for name in labels_of(label, multilabel))
    if not counts:
        yield f"table: no field has a label; fill in {LABEL}, in the table or in a platemap."
        return
    alike = defaultdict(list)
    for name in sorted(counts):
        alike["".join(name.split()).casefold()].append(name)
    for names in alike.values():
        if len(names) > 1:
            labels = f"labels {', '.join(map(repr, names))}"
            yield Problem("differ only in case or spaces", "write them the same way", labels)
    if len(classes) < 2:
        yield f"table: at least two classes are needed, but it has {classes}; check the labels."
    for name in classes:
        if counts[name] < 2:
            advice = "at least two are needed, to train and to test: add fields, or correct the label"
            yield Problem("too few fields", advice, f"class '{name}'", f"{counts[name]}")
    controls = class_names(fields[is_control(fields)], multilabel)
    for name in sorted(set(counts) - {*classes, *controls}):
        advice = f"correct the label, or add it to the classes: {first_few(classes)}"
        yield Problem("not one of the classes", advice, f"label '{name}'")
    if UNKNOWN in fields and not multilabel:
        yield f"table: {UNKNOWN} is for studies of several labels; set 'multilabel', or delete the column."
    elif UNKNOWN in fields:
        known, unknown = ([{*labels_of(cell, True)} for cell in fields[column]] for column in (LABEL, UNKNOWN))
        for name in sorted(set().union(*unknown) - {*classes}):
            advice = f"correct it; the classes are {first_few(classes)}"
            yield Problem("not one of the classes", advice, f"{UNKNOWN} '{name}'")
        for name in sorted(set().union(*(own & hidden for own, hidden in zip(known, unknown, strict=True)))):
            yield Problem(f"in {LABEL} and in {UNKNOWN} of a field", "delete it in one", f"class '{name}'")


def file_problems(
    fields: pd.DataFrame, channels: list[str], planes: int | None = None, one_pixel_size: bool = True
) -> list[Problem | str]:
    """The problems of the image files; see ``Screen`` for ``planes``.

    Reads the header of every file once, eight files at a time. All planes of a screen must have the same dtype
    and the same size, and with ``one_pixel_size`` that of their pixels must be the same.
    """
    columns = path_columns(fields, channels)
    if not columns:
        return []
    lacking = [path_column(channel) for channel in channels if path_column(channel) not in columns]
    if lacking:
        return [f"table: has no column {', '.join(lacking)}; add it, or remove the channel."]
    missing, absent = missing_images(fields, columns)
    places = {path: place for path, place in file_places(fields, columns).items() if path not in absent}
    read = partial(header_or_problem, places)
    results = thread_map(read, places, max_workers=8, desc="check", unit="file", leave=False)
    headers = {path: header for path, header in zip(places, results, strict=True) if isinstance(header, Header)}
    problems = [problem for problem in results if isinstance(problem, Problem)]
    of_planes = plane_problems(fields, channels, headers, planes, places)
    problems += {(problem.what, problem.place): problem for problem in of_planes}.values()  # each file once
    return [*missing, *problems, *(odd_pixel_sizes(headers, places) if one_pixel_size else [])]


def file_places(fields: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """Each file with the first field that it belongs to, as in 'a.tif (plate P1, well A01, site 1)'."""
    places: dict[str, str] = {}
    for column in columns:
        for path, *key in fields.reindex(columns=[column, *FIELD_KEY]).itertuples(index=False):
            if isinstance(path, str) and path not in places:
                places[path] = f"{path} ({field_name(*key)})"
    return places


def header_or_problem(places: dict[str, str], path: str) -> Header | Problem:
    try:
        return read_header(path)
    except ImageError as error:
        sentence = str(error).removeprefix(f"{path}: ").removeprefix(f"{split_zip(path)[0]}: ")
        return as_problem(sentence, places[path])
