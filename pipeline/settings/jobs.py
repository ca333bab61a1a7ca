"""The table [jobs]: what runs when, and what a challenger must show."""

import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from pipeline.settings.values import KEEPING, TIMING, Seconds, Section, Timing

TIMEOUT = 6 * 3600.0
"""Seconds after which a scheduled job is stopped."""
HELD_OUT = 4
"""At most one part in so many of the history is held out for the backtest."""


def count_needed(horizon: int, origins: int) -> int:
    """Count the steps that a history must reach over for a backtest of so many rolling origins."""
    return HELD_OUT * (horizon + origins - 1)


class JobSettings(Section):
    """The timetable (cron expressions or intervals, in UTC) and the gate that a challenger must pass."""

    retrain: Timing = "17 3 * * *"
    """When to retrain: a cron expression in UTC, an interval as `every 6h`, or `off`."""
    monitor: Timing = "*/5 * * * *"
    """When to sum up matured forecasts and look for drift: as `jobs.retrain`."""
    calibrate: Timing = "47 * * * *"
    """When to calibrate the model in use: as `jobs.retrain`."""
    retention: Timing = "47 4 * * *"
    """When to delete what `[retention]` no longer keeps: as `jobs.retrain`."""
    promote: Timing = "32 * * * *"
    """When to look whether a shadow period is over: as `jobs.retrain`."""
    timeouts: dict[str, Seconds] = Field(default_factory=dict)
    """Longest time of scheduled jobs, by name, as `{retrain = "2h"}`; six hours for the others."""
    gate_origins: int = Field(4, ge=1)
    """Rolling origins of the backtest."""
    gate_gain: float = Field(0.0, ge=0, lt=1)
    """Gain over the champion that a challenger must exceed. It must never lose against seasonal naive."""
    gate_confidence: float = Field(0.9, ge=0, le=1)
    """Share of resamples of the backtest's series in which a challenger must beat the champion; 0 for none."""
    gate_coverage: tuple[float, float] = (0.6, 0.95)
    """Lowest and highest share of actuals that the 80 % interval may hold."""
    shadow: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, KEEPING] = None
    """How long a challenger that passed the gate scores beside the champion before it may replace it. `off`: it is
    promoted at once."""
    group: str | None = None
    r"""Regular expression with one group that finds a series' group in its name, as `^(\w+)/`. Without it: all series
    are one group."""
    drift: bool = True
    """Look for drift after each run of `monitor`."""
    drift_threshold: float = Field(50.0, gt=0)
    """Expert: Sum of standard deviations at which drift is found."""
    calibration_window: int = Field(336, ge=28, le=10_000)
    """Expert: Newest steps whose forecasts the calibration learns from."""

    @field_validator("group")
    @classmethod
    def check_group(cls, pattern: str | None) -> str | None:
        """A pattern of groups finds one thing in a name."""
        try:
            if pattern is None or re.compile(pattern).groups == 1:
                return pattern
        except re.error as error:
            raise ValueError(f"group is not a regular expression: {error}") from error
        raise ValueError(r"group must have exactly one group in parentheses, as in '^(\w+)/'")

    @field_validator("timeouts")
    @classmethod
    def check_timeouts(cls, timeouts: dict[str, float]) -> dict[str, float]:
        """A timeout that names no job would never stop one."""
        jobs = [name for name, field in cls.model_fields.items() if TIMING in field.metadata]
        for job in timeouts:
            if job not in jobs:
                raise ValueError(f"{job!r} is not a job; write one of {', '.join(jobs)}")
        return timeouts

    def timeout_of(self, job: str) -> float:
        """Return the seconds after which a job is stopped."""
        return self.timeouts.get(job, TIMEOUT)

    @model_validator(mode="after")
    def check_coverage(self) -> "JobSettings":
        """Limits in the wrong order, or written as percentages, would refuse every challenger without a word why."""
        low, high = self.gate_coverage
        if not 0.0 <= low < high <= 1.0:
            raise ValueError("gate_coverage must be two shares, the lower one first, such as [0.6, 0.95]")
        return self
