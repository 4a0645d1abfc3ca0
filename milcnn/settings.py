"""Settings with types and ranges; unknown keys are errors."""

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class SettingsError(ValueError):
    """One message about all settings that are unknown, of a wrong type or out of range."""


class Settings(BaseModel):
    """The base class of all settings. They cannot be changed later.

    Raises SettingsError, which names each wrong key, its value and what is expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values: object):
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [problem_of(entry, list(type(self).model_fields)) for entry in error.errors()]
            raise SettingsError(f"{type(self).__name__}: {'; '.join(problems)}.") from None


def problem_of(entry: Any, keys: list[str]) -> str:
    """One sentence about ``entry``, an error of pydantic; ``keys`` are those that there are."""
    key = ".".join(map(str, entry["loc"]))
    if entry["type"] == "extra_forbidden":
        near = get_close_matches(key, keys, 1)
        return f"'{key}' is unknown; " + (f"perhaps '{near[0]}' is meant" if near else f"there are {', '.join(keys)}")
    if entry["type"] == "missing":
        return f"'{key}' is missing; add it"
    message = entry["msg"].removeprefix("Value error, ")
    return f"'{key}' = {repr(entry['input'])[:200]}: {message}" if key else message
