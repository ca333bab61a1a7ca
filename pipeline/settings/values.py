"""What several tables of tidecast.toml share: their base, durations, and timetables."""

from typing import Annotated, Literal

import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

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
DAY = 86_400.0
KEEPING = BeforeValidator(parse_keeping)
Keeping = Annotated[Annotated[float, Field(ge=DAY, allow_inf_nan=False)] | None, KEEPING]
"""How long something is kept, in seconds; None for ever."""
LookedBack = Annotated[float, Field(ge=370 * DAY, allow_inf_nan=False)]
"""The scheduler looks back so far for a run that it missed."""


class Section(BaseModel):
    """A table of tidecast.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)
