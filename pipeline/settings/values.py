"""What several tables of tidecast.toml share: their base, durations, timetables, and limits that can be off."""

import math
import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from pipeline.grid.times import FIRST_TIME, LAST_TIME, midnight
from pipeline.settings.durations import parse_seconds
from pipeline.settings.texts import VERBATIM, read

Policy = Literal["last", "first", "mean", "sum", "max"]
DAY = 86_400.0


def parse_off(text: object) -> object:
    """Read 'off' as None, which TOML cannot say."""
    return None if isinstance(text, str) and text.strip().lower() == "off" else text


def parse_keeping(text: object) -> float | None:
    """Turn '400 days' into seconds, and 'off' into None, which keeps for ever."""
    kept = parse_off(text)
    return None if kept is None else parse_seconds(kept)


TIMING = BeforeValidator(parse_off)
Timing = Annotated[str | None, TIMING]
"""When a job runs: a cron expression, `every 6h`, or None. Keys of this type are the jobs."""
Share = Annotated[Annotated[float, Field(gt=0, lt=1)] | None, BeforeValidator(parse_off)]
"""A limit between 0 and 1, or None for no limit."""
Limit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(parse_off)]
"""At most so many; None for any number."""
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]
KEEPING = BeforeValidator(parse_keeping)
Keeping = Annotated[Annotated[float, Field(ge=DAY, allow_inf_nan=False)] | None, KEEPING]
"""How long something is kept, in seconds; None for ever."""
LookedBack = Annotated[float, Field(ge=370 * DAY, allow_inf_nan=False)]
"""The scheduler looks back so far for a run that it missed."""


def parse_day(text: object) -> date | None:
    """Read a date such as 2000-01-01 that a grid covers; 'off' and None are None."""
    if parse_off(text) is None:
        return None
    try:
        day = text if isinstance(text, date) else date.fromisoformat(str(text).strip())
    except ValueError as error:
        raise ValueError("must be a date such as 2000-01-01, or off") from error
    if not FIRST_TIME <= midnight(day) < LAST_TIME:
        raise ValueError("must be a date from 1900 to 2189, or off")
    return day


Day = Annotated[date | None, BeforeValidator(parse_day)]
"""A day in UTC, or None."""
Password = Annotated[SecretStr, VERBATIM]
"""A secret of which every character counts."""


def parse_phase(text: object) -> int | None:
    """Turn '6h' into whole seconds, and 'auto' into None."""
    if text is None or (isinstance(text, str) and text.strip().lower() == "auto"):
        return None
    seconds = parse_seconds(text)
    if not (0 <= seconds < math.inf and seconds == int(seconds)):
        raise ValueError("must be 'auto', or a duration of whole seconds such as '6h'")
    return int(seconds)


Phase = Annotated[
    int | None, BeforeValidator(parse_phase), PlainSerializer(lambda phase: "auto" if phase is None else phase)
]
"""Seconds from the steps of a frequency to those of the grid; None to find them from the first events."""


class Steps(int):
    """A number of steps of the grid."""

    def __str__(self) -> str:
        return f"{int(self)} {'step' if self == 1 else 'steps'}"


def parse_skew(text: object) -> float | Steps:
    """Turn '2 steps' into steps of the grid, and a duration into seconds."""
    if isinstance(text, Steps):
        return text
    found = re.fullmatch(r"\s*(\d{1,9})\s+steps?\s*", text) if isinstance(text, str) else None
    if found is None:
        return parse_seconds(text)
    if not int(found[1]):
        raise ValueError("0 steps would refuse every event of the present; write '1 step' or more")
    return Steps(found[1])


def _check_skew(skew: object) -> object:
    if not (isinstance(skew, Steps) or (isinstance(skew, float) and 0 < skew < math.inf)):
        raise ValueError("must be a positive duration such as '1h', or a number of steps such as '2 steps'")
    return skew


Skew = Annotated[
    Any,
    BeforeValidator(_check_skew),
    BeforeValidator(parse_skew),
    PlainSerializer(lambda skew: str(skew) if isinstance(skew, Steps) else skew),
]
"""How far a clock may be ahead: seconds, or `Steps`."""


class Section(BaseModel):
    """A table of tidecast.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def read_written(cls, value: Any, about: ValidationInfo) -> object:
        """Read each value by the type of its key, whatever source it came from."""
        assert about.field_name is not None
        return read(cls.model_fields[about.field_name].annotation, value)
