"""What the database says of the jobs at one moment; all times are microseconds UTC, None for never."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.records import Floats, Ints

Ending = Literal["ok", "failed", "timeout"]
"""How a job says that it ended."""
ENDINGS = (*get_args(Ending), "lost")
"""How a run is kept to have ended; a lost one could not say."""
CHANGES = ("promote", "rollback")
DELETED = ("forecasts", "observations", "dead_letters", "job_runs", "artifacts")
"""What the job `retention` deletes, by table; of `artifacts` the bytes, the model's row stays."""

HORIZON_BUCKETS: Mapping[int, int | None] = {1: 1, 2: 6, 7: 24, 25: 48, 49: None}
"""Steps that live accuracy sums up together: the first one -> the last one, None for the end of the horizon. The view
forecast_accuracy writes the same."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The runs of one job: `endings` counts all that ever ended, also those that retention has deleted since.

    `failures` are the newest runs in a row that did not end well, a hundred at most; `seconds` is how long the newest
    good run took.
    """

    endings: Mapping[str, int]
    running: int
    failures: int
    succeeded_at: int | None
    seconds: float | None
    paused: bool
    requested: bool


@dataclass(frozen=True, slots=True)
class LeaseFacts:
    """The scheduler's lease; `epoch` counts how often it was taken."""

    epoch: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class ChampionFacts:
    """The model in use, since when, when it was made, and its newest calibration if it has one."""

    version: int
    promoted_at: int
    created_at: int
    calibration: "CalibrationFacts | None"


@dataclass(frozen=True, slots=True)
class CalibrationFacts:
    """A calibration, found from `n` matured forecast steps."""

    version: int
    created_at: int
    n: int


@dataclass(frozen=True, slots=True)
class AccuracyFacts:
    """Live accuracy of a model in recent days, from step `horizon_from` on; None is no evidence."""

    model_version: int
    horizon_from: int
    n: int
    mase: float | None
    wql: float | None
    skill: float | None
    coverage_80: float
    coverage_95: float


@dataclass(frozen=True, slots=True)
class DriftFacts:
    """How often drift requested a retraining, when last, and whether an alarm waits for the cool-down to end."""

    requests: int
    asked_at: int | None
    waiting: bool


@dataclass(frozen=True, slots=True)
class JobFacts:
    """All of it as of `read_at`; `changes` counts promotions and rollbacks, `deleted` rows by table."""

    read_at: int
    runs: Mapping[str, RunFacts]
    lease: LeaseFacts | None
    champion: ChampionFacts | None
    changes: Mapping[str, int]
    accuracy: Sequence[AccuracyFacts]
    drift: DriftFacts
    deleted: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LivePairs:
    """Sums over the matured targets of (series, origin) pairs that shadow, champion and seasonal naive all forecast.

    A row (N,) is one pair. pinball: mean over the levels; errors are of the median; all in the series' units.
    left_out: matured targets of the champion, since the shadow was to score, that the shadow has no forecast for.
    """

    series: Ints  # (N,)
    origin: Ints  # (N,) microseconds
    last_step: Ints  # (N,) the largest step that has matured
    n: Ints  # (N,) targets
    size: Floats  # (N,) sum of |actual|
    naive_error: Floats  # (N,) sum of |error| of the seasonal naive
    shadow_error: Floats  # (N,) sum of |error|
    shadow_pinball: Floats  # (N,)
    champion_pinball: Floats  # (N,)
    shadow_inside: Ints  # (N,) targets within the 80 % interval
    champion_inside: Ints  # (N,)
    left_out: int
