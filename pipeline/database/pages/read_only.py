"""Connections that cannot write, for the read API: the database itself refuses, and stops a query that takes long."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event

from pipeline.database.engine import connect, driver, reading
from pipeline.errors import Service, TooSlow, Unavailable

RECYCLE = 60  # seconds; a file that was restored from a backup is another file, which only a new connection opens
CANCELED = "57014"  # SQLSTATE of a statement that was stopped at its time limit
_OPERATIONS = 20_000  # of SQLite's machine between two looks at the clock: a millisecond or so


def connect_reading(url: str, *, timeout: float, connections: int) -> Engine:
    """Make an engine whose transactions only read, with this many connections; nothing is opened yet.

    `timeout` (seconds) bounds connecting, locks and, on PostgreSQL, each statement; see `asking` for SQLite.
    """
    engine = connect(url, timeout=timeout)
    if engine.dialect.name == "sqlite":
        address = engine.url
        engine.dispose()
        return _sqlite(address, timeout, connections)

    def refuse_to_write(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('default_transaction_read_only', 'on', false)")
        connection.commit()

    event.listen(engine, "connect", refuse_to_write)
    return engine


@contextmanager
def asking(engine: Engine, seconds: float) -> Iterator[Connection]:
    """Open a transaction that only reads; TooSlow when a statement of it is stopped, on SQLite after `seconds`."""
    late = False
    deadline = time.monotonic() + seconds

    def stop() -> bool:
        nonlocal late
        late = time.monotonic() > deadline
        return late

    try:
        with reading(engine) as connection:
            if engine.dialect.name != "sqlite":
                yield connection
                return
            raw = driver(connection)
            raw.set_progress_handler(stop, _OPERATIONS)
            try:
                yield connection
            finally:
                raw.set_progress_handler(None, 0)
    except Unavailable as error:
        if late or getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) == CANCELED:
            raise TooSlow(f"the query was stopped after {seconds:g} s; ask for less", Service.DATABASE) from error
        raise


def _sqlite(address: Any, timeout: float, connections: int) -> Engine:
    file = f"file:{quote(str(Path(address.database).absolute()))}?mode=ro"

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(file, uri=True, timeout=timeout, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA cache_size = -16384")
        return connection

    engine = create_engine(
        address, creator=open_file, pool_size=connections, max_overflow=2, pool_timeout=timeout, pool_recycle=RECYCLE
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine
