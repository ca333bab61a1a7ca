"""What the read API shows of the service itself: how far it is, jobs and their runs, partitions, dead letters."""

from typing import Any

from sqlalchemy import Connection, func, literal, select, tuple_

from pipeline.database.jobs.ledger import RUN
from pipeline.database.pages.series import newest_observed
from pipeline.database.schema.instants import Instant
from pipeline.database.schema.pipelines import MAIN
from pipeline.database.schema.tables import (
    dead_letters,
    ingest_state,
    job_pauses,
    job_requests,
    job_runs,
    packed_forecasts,
    pipelines,
    series,
    topics,
)

Row = dict[str, Any]
LETTER_BYTES = 4_000
"""Of the key and of the value of a dead letter; the command `tidecast dead-letters show` writes all."""
LOOKED_AT = 256
"""Newest forecasts of each partition among whose series the newest observation is looked for."""
_F, _D = packed_forecasts.c, dead_letters.c
_PLACE = (_D.recorded_at, _D.topic, _D.source_partition, _D.source_offset)


def read_partitions(connection: Connection) -> list[Row]:
    """Return every partition's next offset, owner and epoch."""
    query = select(ingest_state).order_by(ingest_state.c.topic, ingest_state.c.partition)
    return [dict(row) for row in connection.execute(query).mappings()]


def read_phase(connection: Connection) -> int | None:
    """Return the phase of the grid in seconds; None while it is not known."""
    phase: int | None = connection.execute(select(pipelines.c.phase).where(pipelines.c.name == MAIN)).scalar()
    return phase


def read_newest(connection: Connection, topic: str) -> tuple[int | None, int | None]:
    """Return the newest time observed and when the newest forecast was issued.

    They are looked for among the series whose messages arrived last in each partition, or without a forecast among the
    newest series: a look at each of a million series would take seconds.
    """
    where = select(ingest_state.c.partition).where(ingest_state.c.topic == topic)
    topic_id = connection.execute(select(topics.c.topic_id).where(topics.c.topic == topic)).scalar()
    chosen: set[int] = set()
    issued: list[int] = []
    for partition in connection.execute(where).scalars().all():
        newest = select(_F.series_id, _F.issued_at).where(_F.source_topic == topic_id, _F.source_partition == partition)
        for row in connection.execute(newest.order_by(_F.source_offset.desc()).limit(LOOKED_AT)):
            chosen.add(row.series_id)
            issued.append(row.issued_at)
    if not chosen:
        found = select(series.c.series_id).order_by(series.c.series_id.desc()).limit(LOOKED_AT)
        chosen.update(connection.execute(found).scalars())
    return newest_observed(connection, sorted(chosen)), max(issued, default=None)


def read_jobs(connection: Connection, jobs: tuple[str, ...]) -> list[Row]:
    """Return each job's latest run, and whether it is paused, requested or running."""
    paused = set(connection.execute(select(job_pauses.c.job).where(job_pauses.c.resumed_at.is_(None))).scalars())
    requested = set(connection.execute(select(job_requests.c.job)).scalars())
    rows = []
    for job in jobs:
        own = select(*RUN).where(job_runs.c.job == job).order_by(job_runs.c.scheduled_for.desc()).limit(1)
        last = connection.execute(own).mappings().first()
        rows.append(
            {
                "job": job,
                "paused": job in paused,
                "requested": job in requested,
                "running": last is not None and last["outcome"] == "running",
                "last": None if last is None else dict(last),
            }
        )
    return rows


def page_of_runs(connection: Connection, job: str | None, before: int | None, limit: int) -> list[Row]:
    """Return the next older runs, the last begun first."""
    query = select(*RUN).order_by(job_runs.c.id.desc()).limit(limit)
    if job is not None:
        query = query.where(job_runs.c.job == job)
    if before is not None:
        query = query.where(job_runs.c.id < before)
    return [dict(row) for row in connection.execute(query).mappings()]


def page_of_dead_letters(
    connection: Connection, after: tuple[int, str, int, int] | None, limit: int, *, waiting: bool
) -> list[Row]:
    """Return the next older dead letters after (recorded_at, topic, partition, offset), newest first."""
    kept = tuple(func.substr(column, 1, LETTER_BYTES).label(column.name) for column in (_D.key, _D.value))
    sizes = tuple(func.length(column).label(f"{column.name}_bytes") for column in (_D.key, _D.value))
    query = select(*_PLACE, _D.reason, _D.requeued_at, *kept, *sizes)
    if waiting:
        query = query.where(_D.requeued_at.is_(None))
    if after is not None:
        at, topic, partition, offset = after
        query = query.where(
            tuple_(*_PLACE) < tuple_(literal(at, Instant), literal(topic), literal(partition), literal(offset))
        )
    rows = connection.execute(query.order_by(*(column.desc() for column in _PLACE)).limit(limit))
    return [dict(row) for row in rows.mappings()]
