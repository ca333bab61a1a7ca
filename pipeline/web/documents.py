"""What every document of the API shares: times, parameters, refusals, and how an answer is written.

An answer is a frozen model: times are ISO 8601 in UTC with Z, None is not known. The parameters of a document are a
model, too, and one that is not in it is refused. Routes, parameters and answers of a subject are in its own file.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from pipeline.grid.times import EPOCH, FIRST_TIME, LAST_TIME, OUTSIDE, number_in, read_written
from pipeline.grid.untimely import explain_written

LARGEST = 2**31 - 1  # of versions, run numbers and partitions in SQL


def write_time(instant: object) -> object:
    """Turn microseconds UTC into 'YYYY-MM-DDTHH:MM:SS[.ffffff]Z'."""
    if not isinstance(instant, int):
        return instant
    return (EPOCH + timedelta(microseconds=instant)).replace(tzinfo=None).isoformat() + "Z"


At = Annotated[str, BeforeValidator(write_time), Field(json_schema_extra={"format": "date-time"})]
LATEST = f"from {write_time(FIRST_TIME)} to {write_time(LAST_TIME)}"


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


REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"model": Refusal, "description": "a token or a proxy's header is missing"},
    404: {"model": Refusal, "description": "there is no such series, or nothing that fits"},
    421: {"model": Refusal, "description": "the server does not go by that name"},
    422: {"model": Refusal, "description": "a parameter that is unknown, or out of its limits"},
    503: {"model": Refusal, "description": "the database is away, too slow, or too busy: see Retry-After"},
}


def reply(request: Request, answer: Answer, *, seconds: int = 0) -> Response:
    """Write an answer; a client may use its copy for `seconds`, and must ask after that whether it still holds."""
    body = answer.model_dump_json().encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:24]}"'
    headers = {"ETag": etag, "Cache-Control": f"private, max-age={seconds}" if seconds else "private, no-cache"}
    held = {each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")}
    if etag in held:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


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


Moment = Annotated[int, BeforeValidator(read_time), WithJsonSchema({"type": "string", "format": "date-time"})]
Name = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(check_text)]
Search = Annotated[str, Field(max_length=256), AfterValidator(check_text)]
Version = Annotated[int, Field(ge=0, le=LARGEST)]
TEXT = WithJsonSchema({"type": "string"})


class Question(BaseModel):
    """The query parameters of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)
