"""What several tables of tidecast.toml share: their base, durations, and timetables."""

import math
import re
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

Policy = Literal["last", "first", "mean", "sum", "max"]


def parse_seconds(text: object) -> float:
    """Turn '10 min', '2h' or a number of seconds into seconds."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return float(text)
    try:
        return float(pd.Timedelta(str(text)).total_seconds())
    except ValueError as error:
        raise ValueError(f"{text!r} is not a duration; write '90s', '10 min', '2h' or '1 day'") from error


def parse_cron(text: object) -> object:
    """Read 'off' as no timetable, which TOML cannot say."""
    return None if text in ("off", "") else text


TIMING = BeforeValidator(parse_cron)
Timing = Annotated[str | None, TIMING]
"""When a job runs: a cron expression, `every 6h`, or None. Keys of this type are the jobs."""


def parse_keeping(text: object) -> float | None:
    """Turn '400 days' into seconds, and 'off' into None, which keeps for ever."""
    return None if text in (None, "off", "") else parse_seconds(text)


def parse_share(text: object) -> object:
    """Read 'off' as no limit, which TOML cannot say."""
    return None if text in ("off", "") else text


Share = Annotated[Annotated[float, Field(gt=0, lt=1)] | None, BeforeValidator(parse_share)]
"""A limit between 0 and 1, or None for no limit."""
Seconds = Annotated[float, BeforeValidator(parse_seconds), Field(gt=0, allow_inf_nan=False)]


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


def parse_limit(text: object) -> object:
    """Read 'off' as no limit."""
    return None if text in ("off", "") else text


Limit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(parse_limit)]
"""At most so many; None for any number."""
DAY = 86_400.0
KEEPING = BeforeValidator(parse_keeping)
Keeping = Annotated[Annotated[float, Field(ge=DAY, allow_inf_nan=False)] | None, KEEPING]
"""How long something is kept, in seconds; None for ever."""
LookedBack = Annotated[float, Field(ge=370 * DAY, allow_inf_nan=False)]
"""The scheduler looks back so far for a run that it missed."""


class Section(BaseModel):
    """A table of tidecast.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
