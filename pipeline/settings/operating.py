"""Tables of tidecast.toml for what runs on a clock: jobs, retention, metrics."""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline.settings.address import parse_address
from pipeline.settings.values import DAY, KEEPING, TIMING, Keeping, LookedBack, Seconds, Section, Timing


class RetentionSettings(Section):
    """How long the job `retention` leaves what is in the database; None for ever."""

    observations: Keeping = None
    thin_forecasts: Keeping = 35 * DAY
    forecasts: Keeping = 400 * DAY
    requeued_dead_letters: Keeping = 35 * DAY
    waiting_dead_letters: Keeping = None
    job_runs: Annotated[LookedBack | None, KEEPING] = 400 * DAY
    artifacts: Keeping = 90 * DAY
    budget: Seconds = 1800.0


class JobSettings(Section):
    """The timetable (cron expressions or intervals, in UTC) and the gate that a challenger must pass."""

    retrain: Timing = "17 3 * * *"
    monitor: Timing = "*/5 * * * *"
    calibrate: Timing = "47 * * * *"
    retention: Timing = "47 4 * * *"
    promote: Timing = "32 * * * *"
    timeout: Seconds = 6 * 3600.0
    timeouts: dict[str, Seconds] = Field(default_factory=dict)
    lease: Seconds = 30.0
    gate_origins: int = Field(4, ge=1)
    gate_stride: int | None = Field(None, ge=1)
    gate_gain: float = Field(0.0, ge=0, lt=1)
    gate_confidence: float = Field(0.9, ge=0, le=1)
    gate_coverage: tuple[float, float] = (0.6, 0.95)
    shadow: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, KEEPING] = None
    group: str | None = None
    drift: bool = True
    drift_delta: float = Field(0.5, ge=0, le=4)
    drift_threshold: float = Field(50.0, gt=0)
    drift_cooldown: Seconds = 86_400.0
    calibration_window: int = Field(336, ge=28, le=10_000)
    calibration_minimum: int = Field(100, ge=20)

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
        return self.timeouts.get(job, self.timeout)

    @model_validator(mode="after")
    def check_coverage(self) -> "JobSettings":
        """Limits in the wrong order, or written as percentages, would refuse every challenger without a word why."""
        low, high = self.gate_coverage
        if not 0.0 <= low < high <= 1.0:
            raise ValueError("gate_coverage must be two shares, the lower one first, such as [0.6, 0.95]")
        return self


class MetricsSettings(Section):
    """Where a long-running process tells how it is: metrics, health and readiness."""

    listen: Annotated[str | None, BeforeValidator(parse_address)] = None
    hosts: tuple[str, ...] = ()
