"""The service itself: status, jobs, partitions, dead letters, events, probes."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator, Field
from starlette.responses import JSONResponse, Response

from pipeline.database.pages import service as service_pages
from pipeline.settings import JobSettings
from pipeline.settings.values import TIMING
from pipeline.web.context import Context, Status
from pipeline.web.documents import (
    LARGEST,
    REFUSALS,
    TEXT,
    Answer,
    At,
    Name,
    Question,
    Search,
    Version,
    check_text,
    read_time,
    reply,
    write_time,
)
from pipeline.web.feed import EventStream, Feed
from pipeline.web.problems import Refused
from pipeline.web.query_queue import Away

JOBS = tuple(name for name, field in JobSettings.model_fields.items() if TIMING in field.metadata)


def read_place(text: object) -> tuple[int, str, int, int]:
    """Turn TIME/PARTITION/OFFSET/TOPIC into the key of a dead letter's page."""
    parts = check_text(str(text)).split("/", 3)
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() for part in parts[1:3]):
        raise ValueError("write the `next` of an earlier page")
    partition, offset = int(parts[1]), int(parts[2])
    if partition > LARGEST or offset > 2**63 - 1:
        raise ValueError("write the `next` of an earlier page")
    return read_time(parts[0]), parts[3], partition, offset


class OfNothing(Question):
    """A document without parameters."""


NOTHING = Annotated[OfNothing, Query()]


class OfRuns(Question):
    """A page of runs, of all jobs or of one."""

    job: Search | None = None
    before: Version | None = None
    limit: int = Field(50, ge=1, le=500)


class OfDeadLetters(Question):
    """A page of dead letters; `waiting`: only those not requeued yet."""

    after: Annotated[Any, BeforeValidator(read_place), TEXT] = None
    limit: int = Field(50, ge=1, le=500)
    waiting: bool = False


class OfEvents(Question):
    """Which series to follow, besides the status."""

    series: Name | None = None


class Health(Answer):
    """`ok`, or why not."""

    status: str


class Progress(Answer):
    """Where a running job is: `step` of `steps`, 0 of 0 when it cannot tell."""

    stage: str
    step: int
    steps: int
    words: str


class Run(Answer):
    """One run of a job; seconds up to now's heartbeat while it runs."""

    id: int
    job: str
    outcome: str
    reason: str | None
    cause: str
    scheduled_for: At
    started_at: At
    ended_at: At | None
    seconds: float
    progress: Progress | None


class Job(Answer):
    """A job: its timetable, None for never by itself, and its latest run."""

    job: str
    timetable: str | None
    enabled: bool
    paused: bool
    requested: bool
    running: bool
    last: Run | None
    progress: Progress | None


class Jobs(Answer):
    """All jobs."""

    items: list[Job]


class RunPage(Answer):
    """Runs, the last begun first; `next` is what to ask for `before`."""

    items: list[Run]
    next: int | None


class Partition(Answer):
    """How far a partition of the input topic is; lag counts offsets, None when it is unknown."""

    topic: str
    partition: int
    next_offset: int
    end_offset: int | None
    lag: int | None
    owner: str
    epoch: int
    updated_at: At


class Partitions(Answer):
    """Partitions; `lag_unknown_because` says why the lag of all or of some is unknown."""

    items: list[Partition]
    lag_unknown_because: str | None


class DeadLetterRow(Answer):
    """A message that could not be read; key and value are text, other bytes escaped, cut at 4,000 bytes."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str
    received_at: At
    key: str | None
    value: str | None
    cut: bool
    requeued_at: At | None


class DeadLetterPage(Answer):
    """Dead letters, newest first; `next` is what to ask for `after`."""

    items: list[DeadLetterRow]
    next: str | None


def service_routes(context: Context, feed: Feed) -> APIRouter:
    """Make the routes of the service."""
    router = APIRouter(prefix="/api", tags=["service"], responses=REFUSALS)
    queries, pages = context.queries, context.pages

    @router.get("/status", response_model=Status)
    async def show_status(request: Request, asked: NOTHING) -> Response:
        """Show the whole service at a glance."""
        status = await context.status()
        if queries.away_since is not None:
            raise Away(queries.away_since, "the database does not answer")
        return reply(request, status)

    @router.get("/jobs", response_model=Jobs)
    async def list_jobs(request: Request, asked: NOTHING) -> Response:
        """List the jobs, each with its latest run."""
        rows = await queries.ask(pages.ask, service_pages.read_jobs, JOBS)
        for row in rows:
            timetable = getattr(context.settings.jobs, row["job"])
            last = row["last"] and spell_run(row["last"])
            progress = last["progress"] if last and row["running"] else None
            row |= {"timetable": timetable, "enabled": timetable is not None, "last": last, "progress": progress}
        return reply(request, Jobs.model_validate({"items": rows}))

    @router.get("/jobs/runs", response_model=RunPage)
    async def list_runs(request: Request, asked: Annotated[OfRuns, Query()]) -> Response:
        """List runs, the last begun first."""
        if asked.job is not None and asked.job not in JOBS:
            raise Refused(404, "unknown_job", f"there is no job {asked.job!r}", f"the jobs are {', '.join(JOBS)}")
        rows = await queries.ask(pages.ask, service_pages.page_of_runs, asked.job, asked.before, asked.limit + 1)
        some, more = [spell_run(row) for row in rows[: asked.limit]], len(rows) > asked.limit
        return reply(request, RunPage.model_validate({"items": some, "next": some[-1]["id"] if more else None}))

    @router.get("/partitions", response_model=Partitions)
    async def list_partitions(request: Request, asked: NOTHING) -> Response:
        """List how far each partition is stored, and how much the broker holds beyond."""
        rows = await queries.ask(pages.ask, service_pages.read_partitions)
        ends, why = await context.ends.find()
        own = context.settings.kafka.input_topic
        for row in rows:
            end = ends.get(row["partition"]) if row["topic"] == own else None
            row["end_offset"] = end
            row["lag"] = None if end is None else max(0, end - row["next_offset"])
        unled = [str(row["partition"]) for row in rows if row["topic"] == own and row["end_offset"] is None]
        if why is None and unled:
            why = f"no broker leads {'partition' if len(unled) == 1 else 'partitions'} {', '.join(unled)} of {own}"
        return reply(request, Partitions.model_validate({"items": rows, "lag_unknown_because": why}))

    @router.get("/dead-letters", response_model=DeadLetterPage)
    async def list_dead_letters(request: Request, asked: Annotated[OfDeadLetters, Query()]) -> Response:
        """List messages that could not be read, newest first."""
        rows = await queries.ask(
            pages.ask, service_pages.page_of_dead_letters, asked.after, asked.limit + 1, waiting=asked.waiting
        )
        some, more = [spell_letter(row) for row in rows[: asked.limit]], len(rows) > asked.limit
        last = some[-1] if more else None
        following = last and f"{write_time(last['received_at'])}/{last['partition']}/{last['offset']}/{last['topic']}"
        return reply(request, DeadLetterPage.model_validate({"items": some, "next": following}))

    @router.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
    async def follow(request: Request, asked: Annotated[OfEvents, Query()]) -> Response:
        """Follow the status, and a series if one is named: events observation, forecast and status.

        The stream begins with the status and the newest observation and forecast.
        """
        if len(feed) >= context.settings.serve.clients:
            raise Refused(503, "too_many_clients", "too many event streams are open; close one, or raise serve.clients")
        own = None if asked.series is None else await queries.ask(pages.of_series, asked.series, lambda _, own: own)
        return EventStream(feed, own)

    return router


def probes(context: Context) -> APIRouter:
    """Make the probes: alive, and able to answer."""
    router = APIRouter(tags=["probes"])

    @router.get("/healthz", response_model=Health)
    async def live() -> Response:
        """Say that the process answers."""
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    @router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
    async def ready() -> Response:
        """Say whether the database answers."""
        try:
            await context.queries.ask(context.pages.answers)
        except Exception as error:  # noqa: BLE001  (a probe answers whatever the reason is)
            status = f"the database does not answer ({type(error).__name__})"
            return JSONResponse({"status": status}, 503, headers={"Cache-Control": "no-store"})
        return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})

    return router


def spell_run(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row of job_runs into a Run."""
    progress = row["progress"]
    return {
        **{name: row[name] for name in ("id", "job", "outcome", "reason", "scheduled_for", "started_at")},
        "cause": row["cause"] or "timetable",
        "ended_at": row["finished_at"],
        "seconds": round(((row["finished_at"] or row["heartbeat_at"]) - row["started_at"]) / 1e6, 3),
        "progress": progress
        and {
            "stage": str(progress.get("name", "")),
            "step": progress.get("done", 0),
            "steps": progress.get("total", 0),
            "words": str(progress.get("words", "")),
        },
    }


def spell_letter(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row of dead_letters into a DeadLetterRow."""
    texts = {
        name: None if row[name] is None else bytes(row[name]).decode("utf-8", "backslashreplace")
        for name in ("key", "value")
    }
    return {
        "id": f"{row['topic']}/{row['source_partition']}/{row['source_offset']}",
        "topic": row["topic"],
        "partition": row["source_partition"],
        "offset": row["source_offset"],
        "reason": row["reason"],
        "received_at": row["recorded_at"],
        "requeued_at": row["requeued_at"],
        "cut": any((row[f"{name}_bytes"] or 0) > service_pages.LETTER_BYTES for name in ("key", "value")),
        **texts,
    }
