"""What is wrong with a user's input: one sentence for each kind of problem, with its number and a few examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SHOWN = 3  # examples of one kind
KINDS = 8  # kinds in one message
LONGEST = 400  # characters of a line


@dataclass(frozen=True)
class Problem:
    """One problem. Problems with the same ``what`` and ``advice`` are of one kind and become one sentence.

    ``what`` is wrong, a noun with no name or number that differs from place to place; ``advice`` says what to do.
    ``place`` is where it is: the file, plate, well, site, column or row of the table. ``detail`` is what differs. So
    ``Problem("wrong number of pages", "correct the table or the file", "a.tif (plate P1, well A01)", "6, not 2")``
    reads "a.tif (plate P1, well A01): wrong number of pages (6, not 2); correct the table or the file."
    """

    what: str
    advice: str
    place: str
    detail: str = ""


class ScreenError(ValueError):
    """All problems of a screen. ``problems`` has one text for each kind; a problem given as a sentence is a kind."""

    def __init__(self, problems: Iterable[Problem | str]):
        self.problems = by_kind(problems)
        more = [f"{len(self.problems) - KINDS} more kinds of problems"] if len(self.problems) > KINDS else []
        texts = ["\n".join(map(shortened, text.splitlines())) for text in self.problems[:KINDS]]
        head = [f"The screen has {len(self.problems)} problems:"] if len(self.problems) > 1 else []
        super().__init__("\n- ".join([*head, *texts, *more]))


def shortened(line: str) -> str:
    """A line without its middle where it is too long; its end says what to do."""
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 103]} … {line[-100:]}"


def by_kind(problems: Iterable[Problem | str]) -> list[str]:
    """One text for each kind of problem: the sentence with its count, then up to three places, one a line."""
    kinds: dict[str | tuple[str, str], list[Problem]] = {}
    for problem in problems:
        if isinstance(problem, str):
            kinds.setdefault(problem, [])
        else:
            kinds.setdefault((problem.what, problem.advice), []).append(problem)
    return [kind if isinstance(kind, str) else kind_text(found) for kind, found in kinds.items()]


def kind_text(problems: list[Problem]) -> str:
    """The text of problems of one kind."""
    first = problems[0]
    if len(problems) == 1:
        detail = f" ({first.detail})" if first.detail else ""
        return f"{first.place}: {first.what}{detail}; {first.advice}."
    places = [f"{problem.place}: {problem.detail}" if problem.detail else problem.place for problem in problems[:SHOWN]]
    more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    return "\n    ".join([f"{len(problems)} times: {first.what}; {first.advice}:", *places, *more])


def first_few(names: Sequence[object], mark: str = ", ") -> str:
    """The first three names and how many more there are: 'a, b and c', 'a, b, c and 4 more'."""
    shown = [*map(str, names[:SHOWN]), *([f"{len(names) - SHOWN} more"] if len(names) > SHOWN else [])]
    return " and ".join([mark.join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def field_name(plate: object, well: object, site: object) -> str:
    return f"plate {plate}, well {well}, site {site}"
