"""Errors -> JSON: one shape for all, with what to do."""

from collections.abc import Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.database.pages.pages import UnknownSeries
from pipeline.errors import TidecastError, TooSlow, Unavailable
from pipeline.web.documents import Problem, Refusal
from pipeline.web.query_queue import Away, Busy

log = structlog.get_logger()
AWAY_SECONDS = 5
SHOWN = 200  # characters of a value that are said back


class Refused(Exception):
    """A question that has no answer: an HTTP status, a code for programs, and words for people."""

    def __init__(self, status: int, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint


def refuse(status: int, problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Write an error."""
    body = Refusal(error=problem).model_dump(mode="json")
    return JSONResponse(body, status, headers={"Cache-Control": "no-store", **(headers or {})})


def explain_errors(app: FastAPI) -> None:
    """Teach an application every error that its routes may raise."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return refuse(422, Problem(code="bad_parameter", message=_words(error.errors())))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return refuse(error.status, Problem(code=error.code, message=error.message, hint=error.hint))

    @app.exception_handler(UnknownSeries)
    async def unknown(request: Request, error: UnknownSeries) -> Response:
        near = ", ".join(repr(name) for name in error.near)
        hint = f"did you mean {near}?" if near else "look at /api/series?search=..."
        message = f"there is no series {error.name[:SHOWN]!r}"
        return refuse(404, Problem(code="unknown_series", message=message, hint=hint))

    @app.exception_handler(Away)
    async def away(request: Request, error: Away) -> Response:
        problem = Problem(
            code="database_away",
            message="the database does not answer",
            hint="it is asked again at each request; its log, and this server's, say more",
            since=error.since,
        )
        return refuse(503, problem, {"Retry-After": str(AWAY_SECONDS)})

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        message = "too many questions wait for the database; ask again in a moment"
        return refuse(503, Problem(code="busy", message=message), {"Retry-After": "1"})

    @app.exception_handler(TooSlow)
    async def slow(request: Request, error: TooSlow) -> Response:
        hint = "ask for fewer days or a shorter range, or raise serve.query_timeout"
        return refuse(503, Problem(code="too_slow", message=str(error), hint=hint), {"Retry-After": "30"})

    @app.exception_handler(TidecastError)
    async def broken(request: Request, error: TidecastError) -> Response:
        log.error("the database cannot be read as it is", error=str(error))
        message = "the database cannot be read as it is; the server's log says why"
        return refuse(500, Problem(code="database_unfit", message=message))

    @app.exception_handler(HTTPException)
    async def by_status(request: Request, error: HTTPException) -> Response:
        words = {404: ("not_found", "there is nothing here"), 405: ("read_only", "this API only reads: use GET")}
        code, message = words.get(error.status_code, ("refused", str(error.detail)))
        return refuse(error.status_code, Problem(code=code, message=message), dict(error.headers or {}))


def _words(problems: Sequence[Any]) -> str:
    said = []
    for problem in problems:
        name = ".".join(str(part) for part in problem["loc"][1:])
        if problem["type"] == "extra_forbidden":
            said.append(f"unknown parameter {name[:SHOWN]!r}")
        else:
            said.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}")
    return "; ".join(said[:5])


__all__ = ["Refused", "Unavailable", "explain_errors", "refuse"]
