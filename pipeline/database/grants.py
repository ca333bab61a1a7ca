"""A role that reads: what `tidecast db grant-read` grants on PostgreSQL. It creates no role and takes no right away.

CONNECT on the database, USAGE of the schema, SELECT on every table and view and on those that this user makes later, so
that a later release's are included. Of models only the columns beside the artifact, which may be large and is no SQL.
"""

from sqlalchemy import Connection, text

from pipeline.database.engine import connect, driver, writing
from pipeline.database.migrate import PATIENCE, VIEWS, check
from pipeline.database.tables import metadata, models
from pipeline.errors import ConfigError

REVISION = "alembic_version"
WRITES = "INSERT, UPDATE, DELETE, TRUNCATE"


def grant_read(url: str, role: str) -> None:
    """Let a role that exists read everything, in one transaction; safe to repeat, and needed for new columns of models.

    Raises ConfigError on SQLite, for a schema that is not this release's, a role that does not exist, and one that may
    write already.
    """
    engine = connect(url, timeout=PATIENCE)
    try:
        if engine.dialect.name != "postgresql":
            raise ConfigError("SQLite has no roles: who may read the file may read everything; see chmod")
        with writing(engine) as connection:
            check(connection)
            _refuse(connection, role)
            _grant(connection, role)
    finally:
        engine.dispose()


def _refuse(connection: Connection, role: str) -> None:
    if "\0" in role:
        raise ConfigError(f"role {role!r} has a NUL, which no role of PostgreSQL has; name one that exists")
    known = connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :role"), {"role": role}).scalar()
    if not known:
        raise ConfigError(f"role {role} does not exist; create it first: CREATE ROLE {_quoted(role)} LOGIN")
    may_write = text("SELECT has_table_privilege(:role, :table, :writes)")
    for table in metadata.sorted_tables:
        if connection.execute(may_write, {"role": role, "table": table.name, "writes": WRITES}).scalar():
            raise ConfigError(f"role {role} may write to {table.name} already: is it the owner? Grant another role")


def _grant(connection: Connection, role: str) -> None:
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
