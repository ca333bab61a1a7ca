"""Series, their history, and their forecasts."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from models.config import QUANTILE_LEVELS
from pipeline.database.pages import series as series_pages
from pipeline.database.pages.series import Wanted
from pipeline.database.schema.tables import QUANTILES
from pipeline.web.answers import ForecastAnswer, History, OriginPage, SeriesPage, write_time
from pipeline.web.context import Context
from pipeline.web.problems import Refused
from pipeline.web.questions import OfForecast, OfHistory, OfOrigins, OfSeriesList
from pipeline.web.replies import REFUSALS, reply

MATURED_SECONDS = 60
"""How long a browser may show a forecast whose actuals are all there without asking; one may still be corrected."""


def series_routes(context: Context) -> APIRouter:
    """Make the routes of series."""
    router = APIRouter(prefix="/api", tags=["series"], responses=REFUSALS)
    ask = context.desk.ask
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

    @router.get("/history", response_model=History)
    async def show_history(request: Request, asked: Annotated[OfHistory, Query()]) -> Response:
        """Show the newest observations of a series, ascending, with from <= at < to."""
        require_order(asked.since, asked.until)

        def read() -> History:
            found = pages.of_series(asked.series, series_pages.read_history, asked.since, asked.until, asked.limit)
            return History.model_validate({"series": asked.series, "points": found})

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
        """Show the newest forecast that fits, with what came: by origin, by model, or as of a past moment."""
        wanted = Wanted(asked.origin, asked.as_of, asked.model_version)

        def read() -> ForecastAnswer:
            found = pages.forecast(asked.series, wanted, context.grid.targets())
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
                frequency=context.grid.of_settings.text,
                quantile_levels=list(QUANTILE_LEVELS),
                steps=[
                    {
                        "step": row["step"],
                        "target_time": row["target_time"],
                        "quantiles": [row[name] for name in QUANTILES],
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
