"""Models: accuracy, reliability, versions, promotions."""

from datetime import date
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from models.config import QUANTILE_LEVELS
from pipeline.database.pages import models as model_pages
from pipeline.job_facts import HORIZON_BUCKETS
from pipeline.web.context import Context
from pipeline.web.documents import REFUSALS, Answer, At, Name, Question, Version, reply

SUMS_SECONDS = 60.0
"""The job `monitor` sums up every five minutes; what it wrote is not summed up again at each look."""


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


def model_routes(context: Context) -> APIRouter:
    """Make the routes of models."""
    router = APIRouter(prefix="/api", tags=["models"], responses=REFUSALS)
    queries, pages = context.queries, context.pages

    @router.get("/accuracy", response_model=Accuracy)
    async def show_accuracy(request: Request, asked: Annotated[OfAccuracy, Query()]) -> Response:
        """Show live accuracy by model and horizon."""
        read = partial(pages.accuracy, asked.series, asked.days)
        if asked.series is None:
            found = await queries.remembered(("accuracy", asked.days), SUMS_SECONDS, read)
        else:
            found = await queries.ask(read)
        items = [
            {
                "model": found.names.get(cell.model_version, "unknown"),
                "horizon_to": HORIZON_BUCKETS[cell.horizon_from],
                **{field: getattr(cell, field) for field in cell.__slots__},
            }
            for cell in found.cells
        ]
        return reply(request, Accuracy(days=asked.days, first_day=found.first, last_day=found.last, items=items))

    @router.get("/reliability", response_model=ReliabilityAnswer)
    async def show_reliability(request: Request, asked: Annotated[OfReliability, Query()]) -> Response:
        """Show how often actuals lay at or below each quantile: on the diagonal the model is calibrated."""
        read = partial(pages.reliability, asked.series, asked.days, asked.model_version)
        if asked.series is None and asked.model_version is None:
            found = await queries.remembered(("reliability", asked.days), SUMS_SECONDS, read)
        else:
            found = await queries.ask(read)
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
        rows = await queries.ask(pages.ask, model_pages.page_of_models, asked.after, asked.limit + 1)
        some, more = rows[: asked.limit], len(rows) > asked.limit
        return reply(request, ModelPage.model_validate({"items": some, "next": some[-1]["version"] if more else None}))

    @router.get("/promotions", response_model=Promotions)
    async def list_promotions(request: Request, asked: Annotated[OfPromotions, Query()]) -> Response:
        """List the newest moves of champion and shadow."""
        rows = await queries.ask(pages.ask, model_pages.read_changes, asked.limit)
        return reply(request, Promotions.model_validate({"items": rows}))

    return router
