"""Roles that do not own the schema, on PostgreSQL: one that reads, and one that works. Neither is created here.

`tidecast db grant-read`: CONNECT on the database, USAGE of the schema, SELECT on every table and view and on those that
this user makes later, so that a later release's are included. Of models only the columns beside the artifact, which may
be large and is no SQL. It takes no right away.

`tidecast db grant-work`: what workers, schedulers and the commands need. They read everything and change rows, those of
KEPT only as it says. No DDL, no TRUNCATE, no change of the schema's revision; what is old of forecasts goes with its
partition by functions of the owner's.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from pipeline.database.engine import connect, driver, writing
from pipeline.database.schema.migrate import PATIENCE, VIEWS, WORKED, check
from pipeline.database.schema.tables import metadata, models
from pipeline.errors import ConfigError

REVISION = "alembic_version"
WRITES = "INSERT, UPDATE, DELETE, TRUNCATE"
ROWS = "INSERT, UPDATE, DELETE"
KEPT = {
    "alias_history": "INSERT",
    "backtests": "INSERT",
    "calibrations": "INSERT",
    "ingest_jumps": "INSERT, UPDATE",
    "ingest_state": "INSERT, UPDATE",
    "models": "INSERT, UPDATE",
    "pipelines": "INSERT, UPDATE",
    "repairs": "INSERT",
}
"""Tables whose rows are a record, or where one that is gone would be counted anew, and how they may be changed."""


def grant_read(url: str, role: str) -> None:
    """Let a role that exists read everything, in one transaction; safe to repeat, and needed for new columns of models.

    Raises ConfigError on SQLite, for a schema that is not this release's, a role that does not exist, and one that may
    write already.
    """
    with _granting(url, role) as connection:
        _refuse_writer(connection, role)
        _grant_read(connection, role)


def grant_work(url: str, role: str) -> None:
    """Let a role that exists do the work, in one transaction; safe to repeat, and needed after an upgrade.

    Of the tables it has these rights afterwards, and no more. Raises ConfigError on SQLite, for a schema that is not
    this release's, a role that does not exist, and one that owns the tables.
    """
    with _granting(url, role) as connection:
        _refuse_owner(connection, role)
        _grant_work(connection, role)


@contextmanager
def _granting(url: str, role: str) -> Iterator[Connection]:
    engine = connect(url, timeout=PATIENCE)
    try:
        if engine.dialect.name != "postgresql":
            raise ConfigError("SQLite has no roles: who may read the file may read everything; see chmod")
        with writing(engine) as connection:
            check(connection)
            _refuse_unknown(connection, role)
            yield connection
    finally:
        engine.dispose()


def _refuse_unknown(connection: Connection, role: str) -> None:
    if "\0" in role:
        raise ConfigError(f"role {role!r} has a NUL, which no role of PostgreSQL has; name one that exists")
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar()
    if not known:
        raise ConfigError(f"role {role} does not exist; create it first: CREATE ROLE {_quoted(role)} LOGIN")


def _refuse_writer(connection: Connection, role: str) -> None:
    may_write = text("SELECT has_table_privilege(:role, :table, :writes)")
    for table in metadata.sorted_tables:
        if connection.execute(may_write, {"role": role, "table": table.name, "writes": WRITES}).scalar():
            raise ConfigError(f"role {role} may write to {table.name} already: is it the owner? Grant another role")


def _refuse_owner(connection: Connection, role: str) -> None:
    owns = text("SELECT pg_has_role(:role, relowner, 'MEMBER') FROM pg_class WHERE oid = to_regclass(:table)")
    for table in metadata.sorted_tables:
        if connection.execute(owns, {"role": role, "table": table.name}).scalar():
            raise ConfigError(f"role {role} owns {table.name}, or is a superuser: grant a role that is neither")


def _grant_work(connection: Connection, role: str) -> None:
    to = f"TO {_quoted(role)}"
    database, schema = connection.execute(text("SELECT current_database(), current_schema()")).one()
    within = _quoted(schema)
    tables = metadata.sorted_tables
    every = ", ".join(_quoted(table.name) for table in tables)
    serial = text("SELECT pg_get_serial_sequence(:table, :column)")
    keys = [{"table": table.name, "column": column.name} for table in tables for column in table.primary_key.columns]
    counters = ", ".join(filter(None, (connection.execute(serial, key).scalar() for key in keys)))
    for grant in (
        f"GRANT CONNECT ON DATABASE {_quoted(database)} {to}",
        f"GRANT USAGE ON SCHEMA {within} {to}",
        f"REVOKE ALL ON {every}, {REVISION} FROM {_quoted(role)}",
        f"GRANT SELECT ON {', '.join([every, *VIEWS, REVISION])} {to}",
        *(f"GRANT {KEPT.get(table.name, ROWS)} ON {_quoted(table.name)} {to}" for table in tables),
        f"GRANT USAGE ON SEQUENCE {counters} {to}",
        *(f"GRANT EXECUTE ON FUNCTION {function} {to}" for function in WORKED),
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {within} GRANT SELECT, {ROWS} ON TABLES {to}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {within} GRANT USAGE ON SEQUENCES {to}",
    ):
        driver(connection).execute(grant)  # not through SQLAlchemy, which reads % as a parameter


def _grant_read(connection: Connection, role: str) -> None:
    to = f"TO {_quoted(role)}"
    database, schema = connection.execute(text("SELECT current_database(), current_schema()")).one()
    within = _quoted(schema)
    whole = ", ".join([*(table.name for table in metadata.sorted_tables if table is not models), *VIEWS, REVISION])
    columns = ", ".join(_quoted(column.name) for column in models.c if column is not models.c.artifact)
    for grant in (
        f"GRANT CONNECT ON DATABASE {_quoted(database)} {to}",
        f"GRANT USAGE ON SCHEMA {within} {to}",
        f"GRANT SELECT ON {whole} {to}",
        f"GRANT SELECT ({columns}) ON {models.name} {to}",
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {within} GRANT SELECT ON TABLES {to}",
    ):
        driver(connection).execute(grant)  # not through SQLAlchemy, which reads % as a parameter


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
