"""Where observations, forecasts and models live: SQLite or PostgreSQL behind the same names.

The only importer of sqlalchemy, alembic and psycopg. Every method may raise Unavailable when the database is away,
busy beyond the timeout, or broke off; ConfigError when an operator must act; Corrupt when an invariant broke.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from pipeline.database.engine import Guard, connect, reading, unguarded
from pipeline.database.jobs.evaluations import Evaluations
from pipeline.database.jobs.job_facts import JobFactsReader
from pipeline.database.jobs.ledger import Ledger
from pipeline.database.jobs.live_errors import LiveErrors
from pipeline.database.jobs.retention import Retention
from pipeline.database.jobs.states import JobStates
from pipeline.database.models.calibrations import Calibrations
from pipeline.database.models.registry import Registry
from pipeline.database.models.shadows import Shadows
from pipeline.database.pages.awaited import FirstHistory
from pipeline.database.pages.reader import SqlReader
from pipeline.database.pages.repairs import Repair, Repairs
from pipeline.database.schema.migrate import check, current, require_file
from pipeline.database.schema.pipelines import Binding, Pipelines
from pipeline.database.turns.store import SqlStore
from pipeline.database.upgrade import upgrade
from pipeline.settings import Policy, Settings


@dataclass(frozen=True, slots=True)
class Database:
    """An open database: one pool of connections, and everything that works on it."""

    engine: Engine
    registry: Registry
    ledger: Ledger
    reader: SqlReader
    evaluations: Evaluations
    live_errors: LiveErrors
    states: JobStates
    calibrations: Calibrations
    retention: Retention
    job_facts: JobFactsReader
    shadows: Shadows
    pipelines: Pipelines
    repairs: Repairs

    def store(self, topic: str, policy: Policy, clock: Callable[[], int], covariates: Sequence[str] = ()) -> SqlStore:
        """Make the worker's view of an input topic and of these covariates; `clock` returns microseconds UTC."""
        return SqlStore(self.engine, topic, policy, clock, covariates)

    def first_history(self, settings: Settings, clock: Callable[[], int]) -> FirstHistory:
        """Make what a scheduler sees of the history that the first model waits for."""
        return FirstHistory(self.engine, settings, clock)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(url: str, *, timeout: float, guard: Guard = unguarded) -> Database:
    """Open a database whose schema is this release's; `timeout` (seconds) bounds connecting, locks and statements.

    Every transaction runs under `guard`.
    Raises ConfigError for a bad URL, a missing driver, or a schema that `tidecast db upgrade` must first bring up.
    """
    engine = connect(url, timeout=timeout, guard=guard)
    try:
        require_file(engine)
        with reading(engine) as connection:
            check(connection)
    except BaseException:
        engine.dispose()
        raise
    return Database(
        engine,
        Registry(engine),
        Ledger(engine),
        SqlReader(engine),
        Evaluations(engine),
        LiveErrors(engine),
        JobStates(engine),
        Calibrations(engine),
        Retention(engine),
        JobFactsReader(engine),
        Shadows(engine),
        Pipelines(engine),
        Repairs(engine),
    )


__all__ = [
    "Binding",
    "Calibrations",
    "Database",
    "Evaluations",
    "JobFactsReader",
    "JobStates",
    "Ledger",
    "LiveErrors",
    "Pipelines",
    "Registry",
    "Repair",
    "Repairs",
    "Retention",
    "Shadows",
    "SqlReader",
    "SqlStore",
    "current",
    "open_database",
    "upgrade",
]
