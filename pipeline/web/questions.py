"""What may be asked: one model of query parameters per document; a parameter that is not here is refused."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from pipeline.grid.times import FIRST_TIME, LAST_TIME, OUTSIDE, number_in, read_written
from pipeline.messages.untimely import explain_written
from pipeline.web.answers import write_time

LARGEST = 2**31 - 1  # of versions, run numbers and partitions in SQL
LATEST = f"from {write_time(FIRST_TIME)} to {write_time(LAST_TIME)}"


def read_time(text: object) -> int:
    """Turn ISO 8601 with an offset, or a number since 1970, into microseconds UTC, within the years of a grid."""
    written = str(text)
    instant = read_written(written)
    if instant != OUTSIDE:
        return instant
    if number_in(written) is not None:
        raise ValueError(f"{explain_written(written)}; write a time as 2026-01-01T00:00:00Z")
    try:
        moment = datetime.fromisoformat(written)
    except ValueError as error:
        raise ValueError("write a time as 2026-01-01T00:00:00Z") from error
    if moment.tzinfo is None:
        raise ValueError("a time needs its offset: write 2026-01-01T00:00:00Z")
    raise ValueError(f"a time must lie {LATEST}")


def check_text(text: str) -> str:
    """No name holds a NUL, and PostgreSQL would refuse it."""
    if "\0" in text:
        raise ValueError("a text cannot hold a NUL character")
    return text


def read_cursor(text: object) -> tuple[int, int | None]:
    """Turn ORIGIN or ORIGIN/MODEL_VERSION into microseconds and version."""
    origin, slash, version = str(text).partition("/")
    if slash and not (version.isascii() and version.isdecimal() and int(version) <= LARGEST):
        raise ValueError("write a time, or the `next` of an earlier page")
    return read_time(origin), int(version) if slash else None


def read_place(text: object) -> tuple[int, str, int, int]:
    """Turn TIME/PARTITION/OFFSET/TOPIC into the key of a dead letter's page."""
    parts = check_text(str(text)).split("/", 3)
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() for part in parts[1:3]):
        raise ValueError("write the `next` of an earlier page")
    partition, offset = int(parts[1]), int(parts[2])
    if partition > LARGEST or offset > 2**63 - 1:
        raise ValueError("write the `next` of an earlier page")
    return read_time(parts[0]), parts[3], partition, offset


Moment = Annotated[int, BeforeValidator(read_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(check_text)]
Search = Annotated[str, Field(max_length=256), AfterValidator(check_text)]
Version = Annotated[int, Field(ge=0, le=LARGEST)]
_TEXT = WithJsonSchema({"type": "string"})


class Question(BaseModel):
    """The query parameters of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OfNothing(Question):
    """A document without parameters."""


class OfSeriesList(Question):
    """A page of series by name."""

    search: Search = ""
    after: Name | None = None
    limit: int = Field(100, ge=1, le=1000)


class OfHistory(Question):
    """Observations of a series, the newest `limit`."""

    series: Name
    since: Moment | None = Field(None, alias="from")
    until: Moment | None = Field(None, alias="to")
    limit: int = Field(1000, ge=1, le=10_000)


class OfOrigins(Question):
    """A page of a series' forecasts."""

    series: Name
    before: Annotated[Any, BeforeValidator(read_cursor), _TEXT] = None
    limit: int = Field(200, ge=1, le=1000)


class OfForecast(Question):
    """One forecast: the newest that fits all that is said."""

    series: Name
    origin: Moment | None = None
    as_of: Moment | None = None
    model_version: Version | None = None


class OfAccuracy(Question):
    """Live accuracy of so many UTC days, of all series or of one."""

    days: int = Field(7, ge=1, le=366)
    series: Name | None = None


class OfReliability(Question):
    """Reliability over so many days, of every model or of one."""

    days: int = Field(7, ge=1, le=366)
    model_version: Version | None = None
    series: Name | None = None


class OfModels(Question):
    """A page of models."""

    after: Version | None = None
    limit: int = Field(50, ge=1, le=500)


class OfPromotions(Question):
    """The newest moves of aliases."""

    limit: int = Field(100, ge=1, le=1000)


class OfRuns(Question):
    """A page of runs, of all jobs or of one."""

    job: Search | None = None
    before: Version | None = None
    limit: int = Field(50, ge=1, le=500)


class OfDeadLetters(Question):
    """A page of dead letters; `waiting`: only those not requeued yet."""

    after: Annotated[Any, BeforeValidator(read_place), _TEXT] = None
    limit: int = Field(50, ge=1, le=500)
    waiting: bool = False


class OfEvents(Question):
    """Which series to follow, besides the status."""

    series: Name | None = None
