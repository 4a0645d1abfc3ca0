"""Settings with types and ranges; unknown keys are errors."""

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
            problems = [f"'{'.'.join(map(str, e['loc']))}' = {e['input']!r}: {e['msg']}" for e in error.errors()]
            raise SettingsError(f"{type(self).__name__}: {'; '.join(problems)}.") from None
