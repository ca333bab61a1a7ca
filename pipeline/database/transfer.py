"""One database into another: every table, in one transaction of the target, checked row by row before it is committed.

The source is read in one snapshot. Nothing may write to it meanwhile: what a worker stored after the snapshot would be
missing in the target and published already, so its state is read again at the end, and any change undoes the copy.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import Connection, Engine, Row, Table, func, select, text

from pipeline.database.engine import connect, reading, writing
from pipeline.database.schema.migrate import PATIENCE, check, require_file
from pipeline.database.schema.tables import BASELINE, ingest_state, leases, metadata, models
from pipeline.database.upgrade import upgrade
from pipeline.errors import ConfigError, Corrupt

BATCH = 5_000
"""Rows read and written at a time."""
OnTable = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Copied:
    """What went over: rows by table."""

    rows: Mapping[str, int]


def copy_database(source_url: str, target_url: str, *, now: int, on_table: OnTable) -> Copied:
    """Copy all tables from one database into an empty one, which gets its schema first; `now` in microseconds.

    `on_table` gets (table, rows done, rows in all). Raises ConfigError when the source is in use, when the target
    holds anything, or when both are the same; Corrupt when what arrived is not what was sent. Then the target is left
    empty.
    """
    source, target = (connect(url, timeout=PATIENCE) for url in (source_url, target_url))
    try:
        if str(source.url) == str(target.url):
            raise ConfigError("source and target are the same database; name the old one with --from")
        require_file(source)
        with _snapshot(source) as old:
            check(old)
            _refuse_in_use(old, now)
            upgrade(target_url)
            with writing(target) as new:
                _refuse_filled(new)
                new.execute(models.delete())  # the seasonal naive comes from the source, like everything else
                rows = {table.name: _copy(old, new, table, on_table) for table in metadata.sorted_tables}
                _go_on_counting(new)
                _refuse_changed(source, _state(old))
        return Copied(rows)
    finally:
        source.dispose()
        target.dispose()


@contextmanager
def _snapshot(engine: Engine) -> Iterator[Connection]:
    with reading(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            # before the snapshot: retention may not put another table into the place of one that the snapshot sees
            connection.execute(text("LOCK TABLE packed_forecasts, packed_shadow_forecasts IN ACCESS SHARE MODE"))
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


def _refuse_in_use(old: Connection, now: int) -> None:
    held = old.execute(select(leases.c.owner).where(leases.c.expires_at > now)).scalar()
    if held is not None:
        raise ConfigError(f"the scheduler {held} is on duty on the source: stop it and every worker, then copy")


def _refuse_filled(new: Connection) -> None:
    for table in metadata.sorted_tables:
        rows = select(func.count()).select_from(table)
        if new.execute(rows.where(models.c.version > BASELINE) if table is models else rows).scalar_one():
            raise ConfigError(f"the target holds rows already, in {table.name}: copy into an empty database")


def _state(connection: Connection) -> list[tuple[Any, ...]]:
    query = select(ingest_state).order_by(ingest_state.c.topic, ingest_state.c.partition)
    return [tuple(row) for row in connection.execute(query)]


def _refuse_changed(source: Engine, before: list[tuple[Any, ...]]) -> None:
    with reading(source) as later:
        if _state(later) != before:
            raise ConfigError("a worker stored something in the source meanwhile: stop every worker, then copy again")


def _copy(old: Connection, new: Connection, table: Table, on_table: OnTable) -> int:
    total = old.execute(select(func.count()).select_from(table)).scalar_one()
    done, sent = 0, 0
    on_table(table.name, 0, total)
    for rows in _batches(old, table):
        new.execute(table.insert(), [dict(row._mapping) for row in rows])
        sent = (sent + sum(map(_digest, rows))) % 2**64
        done += len(rows)
        on_table(table.name, done, total)
    arrived = [(len(rows), sum(map(_digest, rows))) for rows in _batches(new, table)]
    count, found = sum(n for n, _ in arrived), sum(digest for _, digest in arrived) % 2**64
    if (count, found) != (done, sent):
        raise Corrupt(f"{table.name}: {done} rows were sent and {count} arrived, or differ; nothing was copied")
    return done


def _batches(connection: Connection, table: Table) -> Iterator[list[Row[Any]]]:
    for rows in connection.execute(select(table).execution_options(yield_per=BATCH)).partitions():
        yield list(rows)


def _digest(row: Row[Any]) -> int:
    """Hash a row to 64 bits; their sum does not depend on an order, which text has its own in each database."""
    said = json.dumps(list(row), sort_keys=True, default=_spell)
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest())


def _spell(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else bytes(value).hex()


def _go_on_counting(new: Connection) -> None:
    """Let PostgreSQL number the next row after the highest one that was copied; SQLite does so by itself."""
    if new.dialect.name != "postgresql":
        return
    for table in metadata.sorted_tables:
        for column in table.primary_key.columns:
            named = {"table": table.name, "column": column.name}
            counter = new.execute(text("SELECT pg_get_serial_sequence(:table, :column)"), named).scalar()
            if counter is not None:
                highest = new.execute(select(func.max(column))).scalar()
                values = {"counter": counter, "value": max(highest or 0, 1), "used": bool(highest)}
                new.execute(text("SELECT setval(CAST(:counter AS regclass), :value, :used)"), values)
