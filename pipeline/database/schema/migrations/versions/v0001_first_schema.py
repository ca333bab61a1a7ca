"""The first schema: every table, and the seasonal naive as model version 0."""

from alembic import op
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    UniqueConstraint,
    column,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.database.schema.instants import Instant

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON_TYPE = JSON().with_variant(JSONB(), "postgresql")
QUANTILES = ("q025", "q05", "q10", "q20", "q30", "q40", "q50", "q60", "q70", "q80", "q90", "q95", "q975")
FIRST_STEP = text("step = 1")


def upgrade() -> None:
    """Create everything."""
    _create_data()
    _create_models()
    _create_running()


def _create_data() -> None:
    op.create_table(
        "series",
        Column("series_id", Integer, primary_key=True),
        Column("name", Text, nullable=False, unique=True),
        Column("first_seen", Instant, nullable=False),
        Column("metadata", JSON_TYPE, nullable=False),
    )
    op.create_table(
        "topics",
        Column("topic_id", Integer, primary_key=True),
        Column("topic", Text, nullable=False, unique=True),
    )
    op.create_table(
        "observations",
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("observed_at", Instant, primary_key=True),
        Column("value", Double),
        Column("events", Integer, nullable=False),
        Column("source_topic", Integer, nullable=False),
        Column("source_partition", Integer, nullable=False),
        Column("source_offset", BigInteger, nullable=False),
        Column("recorded_at", Instant, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "forecasts",
        Column("series_id", Integer, nullable=False),
        Column("origin", Instant, nullable=False),
        Column("step", Integer, nullable=False),
        Column("target_time", Instant, nullable=False),
        Column("model_version", Integer, nullable=False),
        Column("issued_at", Instant, nullable=False),
        *(Column(name, Double, nullable=False) for name in QUANTILES),
        Column("quality", Text, nullable=False),
        Column("source_topic", Integer, nullable=False),
        Column("source_partition", Integer, nullable=False),
        Column("source_offset", BigInteger, nullable=False),
        PrimaryKeyConstraint("series_id", "target_time", "origin", "model_version"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "forecasts_outbox",
        "forecasts",
        ["source_topic", "source_partition", "source_offset"],
        sqlite_where=FIRST_STEP,
        postgresql_where=FIRST_STEP,
    )
    op.create_index(
        "forecasts_newest",
        "forecasts",
        ["series_id", "origin", "model_version"],
        sqlite_where=FIRST_STEP,
        postgresql_where=FIRST_STEP,
    )


def _create_models() -> None:
    op.create_table(
        "models",
        Column("version", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("config", JSON_TYPE, nullable=False),
        Column("metrics", JSON_TYPE, nullable=False),
        Column("season", Integer),
        Column("step_seconds", Double),
        Column("train_from", Instant),
        Column("train_to", Instant),
        Column("seed", BigInteger, nullable=False),
        Column("code", Text, nullable=False),
        Column("artifact", LargeBinary),
        Column("sha256", Text),
        Column("created_at", Instant, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "aliases",
        Column("alias", Text, primary_key=True),
        Column("version", Integer, ForeignKey("models.version"), nullable=False),
    )
    op.create_table(
        "alias_history",
        Column("id", Integer, primary_key=True),
        Column("alias", Text, nullable=False),
        Column("action", Text, nullable=False),  # promote | rollback
        Column("version", Integer, ForeignKey("models.version"), nullable=False),
        Column("previous", Integer),
        Column("reason", Text, nullable=False),
        Column("changed_at", Instant, nullable=False),
    )
    op.create_table(
        "backtests",
        Column("id", Integer, primary_key=True),
        Column("model_version", Integer, ForeignKey("models.version"), nullable=False),
        Column("compared_to", Integer),
        Column("origins", Integer, nullable=False),
        Column("mase", Double),
        Column("wql", Double),
        Column("coverage_80", Double),
        Column("n", BigInteger, nullable=False),
        Column("metrics", JSON_TYPE, nullable=False),
        Column("created_at", Instant, nullable=False),
    )
    models = table(
        "models",
        column("version", Integer),
        column("name", Text),
        column("config", JSON_TYPE),
        column("metrics", JSON_TYPE),
        column("seed", BigInteger),
        column("code", Text),
        column("created_at", Instant),
    )
    naive = {
        "version": 0,
        "name": "seasonal-naive",
        "config": {},
        "metrics": {},
        "seed": 0,
        "code": "",
        "created_at": 0,
    }
    op.bulk_insert(models, [naive])


def _create_running() -> None:
    op.create_table(
        "job_runs",
        Column("id", Integer, primary_key=True),
        Column("job", Text, nullable=False),
        Column("scheduled_for", Instant, nullable=False),
        Column("owner", Text, nullable=False),
        Column("started_at", Instant, nullable=False),
        Column("heartbeat_at", Instant, nullable=False),
        Column("finished_at", Instant),
        Column("outcome", Text, nullable=False),  # running | ok | failed | timeout | lost
        Column("reason", Text),
        Column("progress", JSON_TYPE),
        UniqueConstraint("job", "scheduled_for"),
    )
    op.create_table(
        "leases",
        Column("name", Text, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("epoch", BigInteger, nullable=False),
        Column("expires_at", Instant, nullable=False),
    )
    op.create_table(
        "ingest_state",
        Column("topic", Text, primary_key=True),
        Column("partition", Integer, primary_key=True, autoincrement=False),
        Column("epoch", BigInteger, nullable=False),
        Column("owner", Text, nullable=False),
        Column("next_offset", BigInteger, nullable=False),
        Column("claimed_at", Instant, nullable=False),
        Column("updated_at", Instant, nullable=False),
    )
    op.create_table(
        "ingest_jumps",
        Column("id", Integer, primary_key=True),
        Column("topic", Text, nullable=False),
        Column("partition", Integer, nullable=False),
        Column("from_offset", BigInteger, nullable=False),
        Column("to_offset", BigInteger, nullable=False),
        Column("reason", Text, nullable=False),
        Column("jumped_at", Instant, nullable=False),
    )
    op.create_table(
        "dead_letters",
        Column("topic", Text, primary_key=True),
        Column("source_partition", Integer, primary_key=True, autoincrement=False),
        Column("source_offset", BigInteger, primary_key=True, autoincrement=False),
        Column("reason", Text, nullable=False),
        Column("key", LargeBinary),
        Column("value", LargeBinary),
        Column("recorded_at", Instant, nullable=False),
        Column("requeued_at", Instant),
    )
