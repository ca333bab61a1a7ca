"""Series, their history, and their forecasts."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.database.pages import series as series_pages
from pipeline.database.pages.series import Wanted
from pipeline.web.context import Context
from pipeline.web.documents import (
    LARGEST,
    REFUSALS,
    TEXT,
    Answer,
    At,
    Moment,
    Name,
    Question,
    Search,
    Version,
    read_time,
    reply,
    write_time,
)
from pipeline.web.problems import Refused

MATURED_SECONDS = 60
"""How long a browser may show a forecast whose actuals are all there without asking; one may still be corrected."""


def read_cursor(text: object) -> tuple[int, int | None]:
    """Turn ORIGIN or ORIGIN/MODEL_VERSION into microseconds and version."""
    origin, slash, version = str(text).partition("/")
    if slash and not (version.isascii() and version.isdecimal() and int(version) <= LARGEST):
        raise ValueError("write a time, or the `next` of an earlier page")
    return read_time(origin), int(version) if slash else None


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
    before: Annotated[Any, BeforeValidator(read_cursor), TEXT] = None
    limit: int = Field(200, ge=1, le=1000)


class OfForecast(Question):
    """One forecast: the newest that fits all that is said."""

    series: Name
    origin: Moment | None = None
    as_of: Moment | None = None
    model_version: Version | None = None


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


class SeriesHistory(Answer):
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
    """One step ahead: 13 quantiles in the series' units, and the actual."""

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


def series_routes(context: Context) -> APIRouter:
    """Make the routes of series."""
    router = APIRouter(prefix="/api", tags=["series"], responses=REFUSALS)
    ask = context.queries.ask
    pages = context.pages

    @router.get("/series", response_model=SeriesPage)
    async def list_series(request: Request, asked: Annotated[OfSeriesList, Query()]) -> Response:
        """List series by name, each with its newest observation and forecast."""

        def read() -> SeriesPage:
            rows = pages.ask(series_pages.page_of_series, asked.search, asked.after, asked.limit + 1)
            total = pages.ask(series_pages.count_series, asked.search)
            some, more = rows[: asked.limit], len(rows) > asked.limit
            return SeriesPage.model_validate(
                {"items": some, "next": some[-1]["name"] if more else None, "total": total}
            )

        return reply(request, await ask(read))

    @router.get("/history", response_model=SeriesHistory)
    async def show_history(request: Request, asked: Annotated[OfHistory, Query()]) -> Response:
        """Show the newest observations of a series, ascending, with from <= at < to."""
        require_order(asked.since, asked.until)

        def read() -> SeriesHistory:
            found = pages.of_series(asked.series, series_pages.read_history, asked.since, asked.until, asked.limit)
            return SeriesHistory.model_validate({"series": asked.series, "points": found})

        return reply(request, await ask(read))

    @router.get("/origins", response_model=OriginPage)
    async def list_origins(request: Request, asked: Annotated[OfOrigins, Query()]) -> Response:
        """List the forecasts of a series, newest origin first."""

        def read() -> OriginPage:
            rows = pages.of_series(asked.series, series_pages.page_of_origins, asked.before, asked.limit + 1)
            some, more = rows[: asked.limit], len(rows) > asked.limit
            following = f"{write_time(some[-1]['origin'])}/{some[-1]['model_version']}" if more else None
            return OriginPage.model_validate({"series": asked.series, "items": some, "next": following})

        return reply(request, await ask(read))

    @router.get("/forecast", response_model=ForecastAnswer)
    async def show_forecast(request: Request, asked: Annotated[OfForecast, Query()]) -> Response:
        """Show the newest forecast that fits, with its actuals: by origin, by model, or as of a past moment."""
        wanted = Wanted(asked.origin, asked.as_of, asked.model_version)

        def read() -> ForecastAnswer:
            found = pages.forecast(asked.series, wanted)
            if found is None:
                raise Refused(404, "no_forecast", "this series has no such forecast", "look at /api/origins")
            head = found.head
            return ForecastAnswer(
                series=asked.series,
                origin=head.origin,
                issued_at=head.issued_at,
                model_version=head.model_version,
                model=found.model,
                quality=head.quality,
                calibration=head.calibration,
                frequency=context.frequency.text,
                quantile_levels=list(QUANTILE_LEVELS),
                steps=[
                    {
                        "step": row["step"],
                        "target_time": row["target_time"],
                        "quantiles": [row[name] for name in QUANTILE_NAMES],
                        "actual": found.actuals.get(row["target_time"]),
                    }
                    for row in found.steps
                ],
            )

        answer = await ask(read)
        matured = asked.origin is not None and all(step.actual is not None for step in answer.steps)
        return reply(request, answer, seconds=MATURED_SECONDS if matured else 0)

    return router


def require_order(since: int | None, until: int | None) -> None:
    """Refuse a range that holds nothing."""
    if since is not None and until is not None and since >= until:
        raise Refused(422, "impossible_range", f"from ({write_time(since)}) must lie before to ({write_time(until)})")
