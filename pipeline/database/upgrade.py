"""Bring a database's schema to this release."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from alembic import command
from sqlalchemy import Connection, Engine, text

from pipeline.database.engine import connect, reading, writing
from pipeline.database.packing import forget, pack_former
from pipeline.database.schema.migrate import (
    OF_FORECASTS,
    PATIENCE,
    VIEWS,
    configured,
    create_functions,
    create_views,
    revision_of,
)
from pipeline.errors import ConfigError

LOCK = 0x7464_6361  # one upgrade at a time per PostgreSQL database; any constant does
BEFORE_PACKING, PACKING = "0011", "0012"
_DEPENDENTS = """
SELECT DISTINCT c.relname FROM pg_depend d
JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
JOIN pg_class c ON c.oid = r.ev_class
WHERE d.refobjid IN (to_regclass('forecasts'), to_regclass('shadow_forecasts')) AND c.relname <> ALL (:ours)
ORDER BY c.relname
"""

OnPacked = Callable[[int, int], None]


def upgrade(url: str, on_packed: OnPacked = lambda done, total: None) -> int:
    """Create or upgrade tables and views; safe to call twice, from several hosts at once, and after it was cut short.

    Forecasts of a release before 0012 are packed a batch at a time, each one transaction: `on_packed` gets (series
    done, series in all). Everything else is one transaction before and one after it. Returns how many forecasts were
    left out because somebody had deleted steps of them.

    Raises ConfigError for a bad URL, rights that lack or a view of somebody's that reads a table which goes,
    Unavailable when the database is away or busy.
    """
    left_out = 0
    engine = connect(url, timeout=PATIENCE)
    try:
        with _locked(engine) as connection:
            if _before_packing(connection):
                command.upgrade(configured(connection), BEFORE_PACKING)
                _refuse_dependents(connection)
                command.upgrade(configured(connection), PACKING)
        with reading(engine) as connection:
            packing = revision_of(connection) == PACKING
        if packing:
            for packed in pack_former(engine, partial(_locked, engine)):
                on_packed(packed.done, packed.total)
                left_out = packed.left_out
        with _locked(engine) as connection:
            if packing:
                forget(connection)
                if connection.dialect.name == "postgresql":
                    create_views(connection, OF_FORECASTS)  # those there are keep the former tables from being dropped
            command.upgrade(configured(connection), "head")
            create_functions(connection)
            create_views(connection)
    finally:
        engine.dispose()
    return left_out


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that keeps other upgrades waiting."""
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


def _before_packing(connection: Connection) -> bool:
    revision = revision_of(connection)
    return revision is None or revision < PACKING


def _refuse_dependents(connection: Connection) -> None:
    """Raise ConfigError where a view that is not ours reads a table that becomes a view."""
    if connection.dialect.name != "postgresql":
        return
    found = connection.execute(text(_DEPENDENTS), {"ours": list(VIEWS)}).scalars().all()
    if found:
        raise ConfigError(
            f"{', '.join(found)}: made from the table forecasts or shadow_forecasts, which is a view from now on."
            " Note how it was made (\\d+ in psql), drop it, upgrade, and make it again as it was"
        )
