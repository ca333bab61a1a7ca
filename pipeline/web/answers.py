"""What the API answers: one frozen model per document. Times are ISO 8601 in UTC with Z; None is not known."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_time(instant: object) -> object:
    """Turn microseconds UTC into 'YYYY-MM-DDTHH:MM:SS[.ffffff]Z'."""
    if not isinstance(instant, int):
        return instant
    return (EPOCH + timedelta(microseconds=instant)).replace(tzinfo=None).isoformat() + "Z"


At = Annotated[str, BeforeValidator(write_time), Field(json_schema_extra={"format": "date-time"})]


class Answer(BaseModel):
    """A document or a part of one."""

    model_config = ConfigDict(frozen=True)


class Problem(Answer):
    """What went wrong: `code` for programs, `message` for people, `hint` what to do; `since` when the outage began."""

    code: str
    message: str
    hint: str | None = None
    since: At | None = None


class Refusal(Answer):
    """The body of every error."""

    error: Problem


class Champion(Answer):
    """The model in use, and since when."""

    version: int
    name: str
    promoted_at: At | None


class Status(Answer):
    """The whole service at a glance; `since` says when the database went away, if it is."""

    version: str
    topic: str
    frequency: str
    season: int
    horizon: int
    quantile_levels: list[float]
    database: Literal["ok", "away"]
    since: At | None = None
    champion: Champion | None
    series: int
    observations_newest_at: At | None
    forecasts_newest_issued_at: At | None
    stored_at: At | None


class SeriesFacts(Answer):
    """A series; quality is that of its newest forecast."""

    name: str
    first_seen: At
    last_observed_at: At | None
    latest_origin: At | None
    quality: str | None


class SeriesPage(Answer):
    """Series by name; `next` is what to ask for `after`, `total` counts all that match."""

    items: list[SeriesFacts]
    next: str | None
    total: int


class Point(Answer):
    """An observation in the series' units; None is an explicit null."""

    at: At
    value: float | None


class History(Answer):
    """Observations of a series, ascending."""

    series: str
    points: list[Point]


class Origin(Answer):
    """A forecast without its numbers; key (origin, model_version)."""

    origin: At
    issued_at: At
    model_version: int
    quality: str


class OriginPage(Answer):
    """Forecasts of a series, newest origin first; `next` is what to ask for `before`."""

    series: str
    items: list[Origin]
    next: str | None


class Step(Answer):
    """One step ahead: 13 quantiles in the series' units, and what came."""

    step: int
    target_time: At
    quantiles: list[float]
    actual: float | None


class ForecastAnswer(Answer):
    """A whole forecast; `calibration` is the version of the correction in it, 0 for none."""

    series: str
    origin: At
    issued_at: At
    model_version: int
    model: str
    quality: str
    calibration: int
    frequency: str
    quantile_levels: list[float]
    steps: list[Step]


class AccuracyRow(Answer):
    """Live accuracy of a model from step `horizon_from` to `horizon_to`, None for the end; None is no evidence."""

    model_version: int
    model: str
    horizon_from: int
    horizon_to: int | None
    n: int
    mase: float | None
    wql: float | None
    skill: float | None
    coverage_80: float | None
    coverage_95: float | None


class Accuracy(Answer):
    """Matured forecasts of the newest UTC days that the job `monitor` has summed up, of their targets."""

    days: int
    first_day: date | None
    last_day: date | None
    items: list[AccuracyRow]


class ReliabilityRow(Answer):
    """Of `n` forecast steps the share whose actual lies at or below the quantile of `level`."""

    model_version: int
    level: float
    observed: float
    n: int


class ReliabilityAnswer(Answer):
    """Counted over `series` series, spread over all, and targets in (after, last]: back from the newest observation."""

    days: int
    after: At | None
    last: At | None
    series: int
    items: list[ReliabilityRow]


class Model(Answer):
    """A registered model; figures and verdict are those of the backtest in its retraining."""

    version: int
    name: str
    created_at: At
    train_from: At | None
    train_to: At | None
    aliases: list[str]
    mase: float | None
    wql: float | None
    coverage_80: float | None
    verdict: str | None
    code: str
    seed: int


class ModelPage(Answer):
    """Models, newest first; `next` is what to ask for `after`."""

    items: list[Model]
    next: int | None


class Promotion(Answer):
    """One move of an alias."""

    alias: str
    action: str
    version: int
    previous: int | None
    reason: str
    changed_at: At


class Promotions(Answer):
    """Moves of every alias, newest first."""

    items: list[Promotion]


class Health(Answer):
    """`ok`, or why not."""

    status: str
