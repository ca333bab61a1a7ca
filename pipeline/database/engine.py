"""Connections: how they are opened, how long they may wait, and what their errors mean to a person."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pipeline.errors import ConfigError, Corrupt, Service, TidecastError, Unavailable

GUARD = "guard"
Guard = Callable[[str], AbstractContextManager[None]]
"""Watches what is done in its context, as pipeline.health.watchdog does; called with what that is."""
UPGRADE = "run tidecast db upgrade"
OLDEST_SQLITE = (3, 35, 0)  # the first with RETURNING

# SQLSTATE classes after which trying again can help: connection, transaction rollback, resources, operator, system.
_PASSING = ("08", "25", "40", "53", "55", "57", "58")
_OPERATOR_STATES = {"42P01": UPGRADE, "42703": UPGRADE, "42501": "grant the role the rights it lacks"}
# libpq gives no SQLSTATE when connecting fails, and SQLite never does, so the words must do.
_OPERATOR_WORDS = {
    "no such table": UPGRADE,
    "no such column": UPGRADE,
    "authentication failed": "check user and password in database.url",
    "no password supplied": "put a password into database.url",
    "does not exist": "create it, or correct database.url",
    "not a database": "point database.url at an SQLite file",
    "unable to open database file": "check that the folder in database.url exists and can be written",
    "syntax error": "correct the query",
    "readonly database": "make the file and its folder writable",
}


def unguarded(_doing: str) -> AbstractContextManager[None]:
    """Watch nothing."""
    return nullcontext()


def connect(url: str, *, timeout: float, guard: Guard = unguarded) -> Engine:
    """Make the engine of a database URL; no call on it waits longer than `timeout` seconds for a lock or an answer.

    Every transaction runs under `guard`: a server that is frozen still acknowledges, so no timeout ends its calls.
    Raises ConfigError for a URL that cannot work and for a missing driver. Nothing is opened yet.
    """
    try:
        address = make_url(url)
    except ArgumentError as error:
        raise ConfigError("database.url is not an address; write sqlite:///tidecast.db or postgresql://...") from error
    if address.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(address, timeout, {GUARD: guard})
    if address.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(address.set(drivername="postgresql+psycopg"), timeout, {GUARD: guard})
    raise ConfigError(f"database.url: {address.drivername} is not supported; use sqlite:/// or postgresql://")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads; on SQLite it never waits for a writer."""
    with explained(engine), engine.begin() as connection:
        yield connection


@contextmanager
def inspecting(engine: Engine) -> Iterator[Connection]:
    """Open a transaction in which the database itself refuses to write."""
    sqlite = engine.dialect.name == "sqlite"
    with reading(engine) as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON" if sqlite else "SET TRANSACTION READ ONLY")
        try:
            yield connection
        finally:
            if sqlite:
                connection.exec_driver_sql("PRAGMA query_only = OFF")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that writes: committed at the end of the block, rolled back by any exception."""
    with explained(engine), engine.connect() as connection:
        connection.execution_options(immediate=True)
        with connection.begin():
            yield connection


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into ours, under the engine's guard: a line, no password, the right person to act."""
    driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
    guard: Guard = engine.get_execution_options().get(GUARD, unguarded)
    try:
        with guard("a transaction with the database"):
            yield
    except DBAPIError as error:
        raise _explain(engine, error.orig or error) from error
    except PoolTimeout as error:
        raise Unavailable(f"database {_shown(engine)}: all connections are busy", Service.DATABASE) from error
    except driver_error as error:
        raise _explain(engine, error) from error
    except JSONDecodeError as error:
        raise Corrupt(f"database {_shown(engine)}: a column of JSON holds something else: {error}") from error
    except SQLAlchemyError as error:
        raise Corrupt(f"database {_shown(engine)}: {_line(engine, error)}") from error


def driver(connection: Connection) -> Any:
    """Return the driver's own connection, inside the same transaction, for the bulk paths."""
    return connection.connection.driver_connection


def _sqlite(address: URL, timeout: float, options: dict[str, Any]) -> Engine:
    if not address.database or address.database == ":memory:":
        raise ConfigError("database.url: SQLite needs a file, for example sqlite:///tidecast.db")
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    if not Path(address.database).absolute().parent.is_dir():
        raise ConfigError(f"database.url: the folder of {address.database} does not exist; create it")
    engine = create_engine(address, connect_args={"timeout": timeout}, pool_timeout=timeout, execution_options=options)

    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # a power cut must not take S behind what Kafka committed
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA wal_autocheckpoint = 32768")  # pages, 128 MB: not the same pages after every turn

    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", begin)
    return engine


def _postgresql(address: URL, timeout: float, options: dict[str, Any]) -> Engine:
    wait = max(1, round(timeout * 1000))  # ms
    connect_args: dict[str, Any] = {
        "connect_timeout": max(2, round(timeout)),
        "application_name": "tidecast",
        "keepalives": 1,
        "keepalives_idle": max(1, round(timeout / 3)),
        "keepalives_interval": max(1, round(timeout / 6)),
        "keepalives_count": 3,
        "tcp_user_timeout": wait,
    }
    connect_args = {key: value for key, value in connect_args.items() if key not in address.query}
    try:
        engine = create_engine(
            address,
            connect_args=connect_args,
            pool_pre_ping=True,
            pool_timeout=timeout,
            execution_options=options,
        )
    except ModuleNotFoundError as error:
        raise ConfigError("PostgreSQL needs a driver: pip install 'tidecast[postgres]'") from error

    def prepare(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:  # one round trip; not startup options, which poolers refuse
            cursor.execute(
                "SELECT set_config('TimeZone', 'UTC', false), set_config('statement_timeout', %(ms)s, false),"
                " set_config('lock_timeout', %(ms)s, false),"
                " set_config('idle_in_transaction_session_timeout', %(idle)s, false),"
                # compiling a view takes a second or more, whatever few rows it is asked for
                " set_config('jit', 'off', false)",
                {"ms": str(wait), "idle": str(10 * wait)},
            )
        connection.commit()

    event.listen(engine, "connect", prepare)
    return engine


def _explain(engine: Engine, error: BaseException) -> TidecastError:
    line = f"database {_shown(engine)}: {_line(engine, error)}"
    state = getattr(error, "sqlstate", None)
    if state in _OPERATOR_STATES:
        return ConfigError(f"{line}; {_OPERATOR_STATES[state]}")
    if state is None:
        for words, advice in _OPERATOR_WORDS.items():
            if words in str(error):
                return ConfigError(f"{line}; {advice}")
    passing = isinstance(
        error, (engine.dialect.loaded_dbapi.OperationalError, engine.dialect.loaded_dbapi.InterfaceError)
    )
    if (state is not None and state[:2] in _PASSING) or (state is None and passing):
        return Unavailable(line, Service.DATABASE)
    return Corrupt(line)


def _shown(engine: Engine) -> str:
    return engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=True)


def _line(engine: Engine, error: BaseException) -> str:
    line = " ".join(str(error).split()) or type(error).__name__
    password = engine.url.password
    return line.replace(str(password), "***") if password else line
