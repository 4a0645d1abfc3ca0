"""Settings: typed, bounded, and strict about their keys."""

from pydantic import BaseModel, ConfigDict, ValidationError


class SettingsError(ValueError):
    """One sentence about every setting that is unknown or out of its type or range."""


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys refused, errors in one sentence.

    Raises SettingsError, which names each key, its value and what was expected.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values: object):
        try:
            super().__init__(**values)
        except ValidationError as error:
            problems = [
                f"'{'.'.join(map(str, problem['loc']))}' = {problem['input']!r}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise SettingsError(f"{type(self).__name__}: {'; '.join(problems)}.") from None
