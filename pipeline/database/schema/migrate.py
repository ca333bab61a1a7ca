"""Bring a database's schema to this release, and say where it stands."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from pipeline.database.engine import UPGRADE, connect, driver, reading, writing
from pipeline.errors import ConfigError

HERE = Path(__file__).parent
PATIENCE = 60.0  # seconds that an upgrade waits for other users of the tables
LOCK = 0x7464_6361  # one upgrade at a time per PostgreSQL database; any constant does

VIEWS = (
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

OF_THE_SHADOW = {
    "matured_shadow_forecasts": ("matured_forecasts", "FROM forecasts f", "FROM shadow_forecasts f"),
    "shadow_vs_actual": ("forecast_vs_actual", "FROM matured_forecasts", "FROM matured_shadow_forecasts"),
}
"""Views that are made from another one's text, which reads the shadow's forecasts instead."""


def upgrade(url: str) -> None:
    """Create or upgrade tables and views in one transaction; safe to call twice and from several hosts at once.

    Raises ConfigError for a bad URL or rights that lack, Unavailable when the database is away or busy.
    """
    engine = connect(url, timeout=PATIENCE)
    try:
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            command.upgrade(_config(connection), "head")
            _create_views(connection)
    finally:
        engine.dispose()


def current(url: str) -> str:
    """Return the revision of the schema, or 'empty'."""
    engine = connect(url, timeout=PATIENCE)
    try:
        if _lacks_file(engine):
            return "empty"
        with reading(engine) as connection:
            return _revision(connection) or "empty"
    finally:
        engine.dispose()


def head() -> str:
    """Return the revision that this release needs."""
    return str(ScriptDirectory.from_config(_config(None)).get_current_head())


def check(connection: Connection) -> None:
    """Raise ConfigError unless the schema is the one of this release."""
    found, needed = _revision(connection), head()
    if found != needed:
        raise ConfigError(f"the database schema is {found or 'empty'}, this release needs {needed}: {UPGRADE}")


def require_file(engine: Engine) -> None:
    """Raise ConfigError for an SQLite file that is not there, which connecting would create empty."""
    if _lacks_file(engine):
        raise ConfigError(f"the database {engine.url.database} does not exist: {UPGRADE}")


def _lacks_file(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite" and not Path(engine.url.database or "").exists()


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(HERE / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _create_views(connection: Connection) -> None:
    dialect = connection.dialect.name
    if dialect == "sqlite":
        for name in reversed(VIEWS):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {name}")
    for name in VIEWS:
        source, published, shadowed = OF_THE_SHADOW.get(name, (name, "", ""))
        file = HERE / "views" / f"{source}.{dialect}.sql"
        body = (file if file.exists() else HERE / "views" / f"{source}.sql").read_text(encoding="utf-8")
        if published:
            body = body.replace(published, shadowed).replace("f.calibration", "0 AS calibration")  # a shadow has none
        # PostgreSQL keeps the views that analysts built on ours, as long as we only add columns at the end.
        create = "CREATE VIEW" if dialect == "sqlite" else "CREATE OR REPLACE VIEW"
        driver(connection).execute(
            f"{create} {name} AS\n{body}"
        )  # not through SQLAlchemy, which reads % as a parameter
