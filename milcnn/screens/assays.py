"""Tables with a column of labels for each assay, in which cells may be empty: not known."""

import pandas as pd

from milcnn.columns import LABEL, LABEL_MARK, UNKNOWN, join_labels
from milcnn.screens.problems import Problem, ScreenError

YES, NO = {"yes", "true", "1", "1.0"}, {"no", "false", "0", "0.0"}  # in any case


def with_assays(table: pd.DataFrame, columns: list[str], name: str) -> pd.DataFrame:
    """``table`` (text) with ``columns`` as ``Metadata_Label`` and ``Metadata_Unknown``.

    A column of yes and no is the class of its name; one of other texts has a class ``column=text`` for each. Where a
    cell is empty, the classes of its column are unknown. Raises ScreenError for a column that is not there, that mixes
    both or has a ``|``, or of which no field has a class.
    """
    if absent := sorted(set(columns) - set(table)):
        raise ScreenError([f"{name}: has no column {', '.join(absent)}; correct 'label_columns'."])
    problems: list[Problem] = []
    labels: list[list[str]] = [[] for _ in table.index]
    unknown: list[list[str]] = [[] for _ in table.index]
    for column in columns:
        texts = table[column].str.strip()
        answers = texts.str.casefold()
        others = sorted(set(texts[~answers.isin({"", *YES, *NO})]))
        place = f"{name}: column '{column}'"
        if others and answers.isin(YES | NO).any():
            advice = "write yes, no or nothing in all rows, or names in all rows"
            problems.append(Problem("mixes yes and no with other texts", advice, place, f"'{others[0]}'"))
        elif not others and not answers.isin(YES).any():
            problems.append(Problem("says yes of no field", "fill it in, or take it out of 'label_columns'", place))
        elif LABEL_MARK in "".join([column, *others]):
            problems.append(Problem(f"a '{LABEL_MARK}' separates classes", "write another character", place))
        classes = [f"{column}={text}" for text in others] or [column]
        own = [f"{column}={text}" for text in texts] if others else [column] * len(texts)
        for row, (text, answer) in enumerate(zip(own, answers, strict=True)):
            if not answer:
                unknown[row] += classes
            elif answer not in NO:
                labels[row].append(text)
    if problems:
        raise ScreenError(problems)
    lists = {LABEL: labels, UNKNOWN: unknown}
    return table.drop(columns=columns).assign(
        **{key: [join_labels(row) for row in rows] for key, rows in lists.items()}
    )
