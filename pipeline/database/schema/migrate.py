"""What the schema of this release is, where a database stands, and the views."""

from collections.abc import Sequence
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from pipeline.database.engine import UPGRADE, connect, driver, reading
from pipeline.database.schema.packed_sql import fill
from pipeline.errors import ConfigError

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds that an upgrade waits for other users of the tables
THINNING = 0x7464_6362  # one at a time thins a PostgreSQL database's partitions; any constant does

VIEWS = (
    "forecasts",
    "shadow_forecasts",
    "latest_forecasts",
    "current_forecast",
    "matured_forecasts",
    "forecast_vs_actual",
    "matured_shadow_forecasts",
    "shadow_vs_actual",
    "seasonal_scale",
    "forecast_accuracy",
    "model_leaderboard",
    "series_health",
    "covariate_values",
    "job_status",
)
"""In the order of their making: a view may read the ones before it."""

WORKED = (
    "tidecast_add_periods(timestamptz, timestamptz, text)",
    "tidecast_thin_period(text, timestamptz, timestamptz, timestamptz, bigint)",
)
"""Functions that run with the owner's rights: they make the partitions of forecasts and delete what is old of them."""
_WORKING = text(  # roles that `grant-work` was told of by an earlier release
    "SELECT DISTINCT quote_ident(grantee) FROM information_schema.role_table_grants"
    " WHERE table_schema = current_schema() AND table_name = 'ingest_state' AND privilege_type = 'INSERT'"
    " AND grantee <> current_user"
)

OF_FORECASTS = (*VIEWS[:8], "series_health")
"""Those that read a forecast; before 0012, the table of steps."""

OF_THE_SHADOW = {
    "shadow_forecasts": ("forecasts", "FROM packed_forecasts p", "FROM packed_shadow_forecasts p"),
    "matured_shadow_forecasts": ("matured_forecasts", " forecasts f", " shadow_forecasts f"),
    "shadow_vs_actual": ("forecast_vs_actual", "FROM matured_forecasts", "FROM matured_shadow_forecasts"),
}
"""Views that are made from another one's text, which reads the shadow's forecasts instead."""


def current(url: str) -> str:
    """Return the revision of the schema, or 'empty'."""
    engine = connect(url, timeout=PATIENCE)
    try:
        if _lacks_file(engine):
            return "empty"
        with reading(engine) as connection:
            return revision_of(connection) or "empty"
    finally:
        engine.dispose()


def head() -> str:
    """Return the revision that this release needs."""
    return str(ScriptDirectory.from_config(configured(None)).get_current_head())


def check(connection: Connection) -> None:
    """Raise ConfigError unless the schema is the one of this release."""
    found, needed = revision_of(connection), head()
    if found != needed:
        raise ConfigError(f"the database schema is {found or 'empty'}, this release needs {needed}: {UPGRADE}")


def require_file(engine: Engine) -> None:
    """Raise ConfigError for an SQLite file that is not there, which connecting would create empty."""
    if _lacks_file(engine):
        raise ConfigError(f"the database {engine.url.database} does not exist: {UPGRADE}")


def _lacks_file(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists()


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the schema, None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def configured(connection: Connection | None) -> Config:
    """Return what Alembic needs to find the migrations."""
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def create_views(connection: Connection, names: Sequence[str] = VIEWS) -> None:
    """Make views as this release has them; `names` in the order of VIEWS."""
    dialect = connection.dialect.name
    if dialect == "sqlite":
        for name in reversed(names):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
    for name in names:
        source, published, shadowed = OF_THE_SHADOW.get(name, (name, "", ""))
        file = HERE / "views" / f"{source}.{dialect}.sql"
        body = (file if file.exists() else HERE / "views" / f"{source}.sql").read_text(encoding="utf-8")
        if published:  # a shadow has no calibration, and is of no event
            body = body.replace(published, shadowed).replace("f.calibration", "0 AS calibration")
            body = body.replace(", p.source_topic, p.source_partition, p.source_offset, p.calibration", "")
        body = fill(body, dialect)
        # PostgreSQL keeps the views that analysts built on ours, as long as we only add columns at the end.
        create = "CREATE VIEW" if dialect == "sqlite" else "CREATE OR REPLACE VIEW"
        driver(connection).execute(
            f"{create} {name} AS\n{body}"
        )  # not through SQLAlchemy, which reads % as a parameter


def create_functions(connection: Connection) -> None:
    """Make what cares for PostgreSQL's partitions as this release has it; SQLite has none."""
    if connection.dialect.name == "sqlite":
        return
    schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    body = (HERE / "partitions.sql").read_text(encoding="utf-8")
    driver(connection).execute(body.replace("{schema}", schema).replace("{lock}", str(THINNING)))
    for role in connection.execute(_WORKING).scalars().all():
        for function in WORKED:
            driver(connection).execute(f"GRANT EXECUTE ON FUNCTION {function} TO {role}")
