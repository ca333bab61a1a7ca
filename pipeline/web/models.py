"""Models: accuracy, reliability, versions, promotions."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from models.config import QUANTILE_LEVELS
from pipeline.database.pages import models as model_pages
from pipeline.web.answers import Accuracy, ModelPage, Promotions, ReliabilityAnswer
from pipeline.web.context import Context
from pipeline.web.questions import OfAccuracy, OfModels, OfPromotions, OfReliability
from pipeline.web.replies import REFUSALS, reply

HORIZON_TO = {1: 1, 2: 6, 7: 24, 25: 48}
"""First step of a bucket -> its last one, as in the view forecast_accuracy."""
SUMS_SECONDS = 60.0
"""The job `monitor` sums up every five minutes; what it wrote is not summed up again at each look."""


def model_routes(context: Context) -> APIRouter:
    """Make the routes of models."""
    router = APIRouter(prefix="/api", tags=["models"], responses=REFUSALS)
    desk, pages = context.desk, context.pages

    @router.get("/accuracy", response_model=Accuracy)
    async def show_accuracy(request: Request, asked: Annotated[OfAccuracy, Query()]) -> Response:
        """Show live accuracy by model and horizon."""
        read = partial(pages.accuracy, asked.series, asked.days)
        if asked.series is None:
            found = await desk.remembered(("accuracy", asked.days), SUMS_SECONDS, read)
        else:
            found = await desk.ask(read)
        items = [
            {
                "model": found.names.get(cell.model_version, "unknown"),
                "horizon_to": HORIZON_TO.get(cell.horizon_from),
                **{field: getattr(cell, field) for field in cell.__slots__},
            }
            for cell in found.cells
        ]
        return reply(request, Accuracy(days=asked.days, first_day=found.first, last_day=found.last, items=items))

    @router.get("/reliability", response_model=ReliabilityAnswer)
    async def show_reliability(request: Request, asked: Annotated[OfReliability, Query()]) -> Response:
        """Show how often actuals came to lie at or below each quantile: on the diagonal the model is calibrated."""
        read = partial(pages.reliability, asked.series, asked.days, asked.model_version)
        if asked.series is None and asked.model_version is None:
            found = await desk.remembered(("reliability", asked.days), SUMS_SECONDS, read)
        else:
            found = await desk.ask(read)
        items: list[dict[str, Any]] = [
            {"model_version": own.model_version, "level": level, "observed": below / own.n, "n": own.n}
            for own in found.models
            for level, below in zip(QUANTILE_LEVELS, own.below, strict=True)
        ]
        answer = {"days": asked.days, "after": found.first, "last": found.last, "series": found.series, "items": items}
        return reply(request, ReliabilityAnswer.model_validate(answer))

    @router.get("/models", response_model=ModelPage)
    async def list_models(request: Request, asked: Annotated[OfModels, Query()]) -> Response:
        """List models, newest first, with what the backtest found and the verdict in words."""
        rows = await desk.ask(pages.ask, model_pages.page_of_models, asked.after, asked.limit + 1)
        some, more = rows[: asked.limit], len(rows) > asked.limit
        return reply(request, ModelPage.model_validate({"items": some, "next": some[-1]["version"] if more else None}))

    @router.get("/promotions", response_model=Promotions)
    async def list_promotions(request: Request, asked: Annotated[OfPromotions, Query()]) -> Response:
        """List the newest moves of champion and shadow."""
        rows = await desk.ask(pages.ask, model_pages.read_changes, asked.limit)
        return reply(request, Promotions.model_validate({"items": rows}))

    return router
