"""The tables, the same on SQLite and PostgreSQL; times are Instant columns (see instants.py).

Every fact is keyed by what it says, not by a row number: an observation by (series, time), a forecast by (series,
origin, model). A forecast is one row; the views `forecasts` and `shadow_forecasts` show its steps. The large tables
carry no foreign keys: a check per row would cost as much as the row, and the only writer takes the ids from `series`
itself. `source_topic` is topics.topic_id. A covariate that is missing has no row, or NULL where an event took it back.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.database.schema.instants import Instant

BASELINE = 0
"""The model version of the seasonal naive, which is always there and has no artifact."""

JSON_TYPE = JSON().with_variant(JSONB(), "postgresql")

SPREAD = text("spread IS NOT NULL")

metadata = MetaData()

series = Table(
    "series",
    metadata,
    Column("series_id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("first_seen", Instant, nullable=False),
    Column("metadata", JSON_TYPE, nullable=False),
    Column("home_topic", Integer),  # where it was first met; NULL until its first event under schema 0009
    Column("home_partition", Integer),
    Column("spread", BigInteger),  # NULL: of one partition; else a number that grows as series are found in several
    Index("series_spread", "spread", sqlite_where=SPREAD, postgresql_where=SPREAD),
)

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", Text, primary_key=True),
    Column("consumer_group", Text, nullable=False),
    Column("input_topic", Text, nullable=False),
    Column("output_topic", Text, nullable=False),
    Column("dead_letter_topic", Text, nullable=False),
    Column("frequency", Text, nullable=False),
    Column("phase", BigInteger),  # seconds after the frequency's steps; NULL: the first events will tell
    Column("output_incarnation", Text),  # Kafka's id of the topic; NULL: not known yet
    Column("dead_letter_incarnation", Text),
    Column("created_at", Instant, nullable=False),
)

topics = Table(
    "topics",
    metadata,
    Column("topic_id", Integer, primary_key=True),
    Column("topic", Text, nullable=False, unique=True),
    Column("spreads", BigInteger, nullable=False, server_default="0"),  # the newest series.spread
    Column("repairs", BigInteger, nullable=False, server_default="0"),  # counts changes of readings by hand
)

observations = Table(
    "observations",
    metadata,
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
Index(  # finds what changed; a few pages however large the table, and SQLite, which has no such index, is scanned
    "observations_recorded",
    observations.c.recorded_at,
    postgresql_using="brin",
    postgresql_with={"autosummarize": "on"},
).ddl_if(dialect="postgresql")

covariate_names = Table(
    "covariate_names",
    metadata,
    Column("name_id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

covariates = Table(
    "covariates",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("observed_at", Instant, primary_key=True),
    Column("name_id", Integer, primary_key=True, autoincrement=False),
    Column("value", Double),
    Column("events", Integer, nullable=False),
    sqlite_with_rowid=False,
)


def packed_columns() -> list[Column[Any]]:
    """Make the columns of a forecast that any model may have issued, new ones for each table.

    Number j of step h, both from 0, takes `width` bytes of `quantiles` from (13 h + j) * width on; pipeline.quantiles
    says how. Step h, from 1, ends h * step_seconds after the origin, or where steps differ in length, as months do, the
    seconds after it that `step_ends` holds, END_BYTES bytes for each.
    """
    return [
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("origin", Instant, primary_key=True),
        Column("model_version", Integer, primary_key=True, autoincrement=False),
        Column("issued_at", Instant, nullable=False),
        Column("quality", Text, nullable=False),
        Column("steps", Integer, nullable=False),
        Column("step_seconds", BigInteger),
        Column("step_ends", LargeBinary),
        Column("base", BigInteger, nullable=False),
        Column("scale", Double, nullable=False),
        Column("width", Integer, nullable=False),
        Column("quantiles", LargeBinary, nullable=False),
    ]


END_BYTES = 6
"""Of a number in `step_ends`: twelve digits."""

packed_forecasts = Table(
    "packed_forecasts",
    metadata,
    *packed_columns(),
    Column("source_topic", Integer, nullable=False),
    Column("source_partition", Integer, nullable=False),
    Column("source_offset", BigInteger, nullable=False),  # -n: of the partition's n-th re-forecast, without an event
    Column("calibration", Integer, nullable=False, server_default="0"),
    Index("forecasts_outbox", "source_topic", "source_partition", "source_offset"),
    postgresql_partition_by="RANGE (origin)",  # by periods, see partitions.sql
)

horizon_steps = Table(  # the numbers of steps, which views join: 1 to the longest horizon
    "horizon_steps",
    metadata,
    Column("step", Integer, primary_key=True, autoincrement=False),
)

models = Table(
    "models",
    metadata,
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

aliases = Table(
    "aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("version", Integer, ForeignKey("models.version"), nullable=False),
)

alias_history = Table(
    "alias_history",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("alias", Text, nullable=False),
    Column("action", Text, nullable=False),  # promote | rollback | drop
    Column("version", Integer, ForeignKey("models.version"), nullable=False),
    Column("previous", Integer),
    Column("reason", Text, nullable=False),
    Column("changed_at", Instant, nullable=False),
)

backtests = Table(
    "backtests",
    metadata,
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

calibrations = Table(
    "calibrations",
    metadata,
    Column("version", Integer, primary_key=True),
    Column("model_version", Integer, ForeignKey("models.version"), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("from", Instant, nullable=False),  # targets of the evidence: first and last
    Column("to", Instant, nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("factors", JSON_TYPE, nullable=False),
    Column("metrics", JSON_TYPE, nullable=False),
    Index("calibrations_newest", "model_version", "version"),
    sqlite_autoincrement=True,
)

job_runs = Table(
    "job_runs",
    metadata,
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
    Column("cause", Text),  # who requested it, and why; NULL: the timetable
    Column("exit_code", Integer),  # of the child process; minus the signal that ended it
    Column("log", Text),  # the end of what the child wrote to stderr
    UniqueConstraint("job", "scheduled_for"),
)

job_requests = Table(
    "job_requests",
    metadata,
    Column("job", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("requested_at", Instant, nullable=False),
)

job_pauses = Table(
    "job_pauses",
    metadata,
    Column("job", Text, primary_key=True),
    Column("paused_by", Text, nullable=False),
    Column("reason", Text),
    Column("paused_at", Instant, nullable=False),
    Column("resumed_at", Instant),  # NULL: it is paused now
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

ingest_state = Table(
    "ingest_state",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("turn_start", BigInteger, nullable=False, server_default="0"),  # below it everything is published
    Column("claimed_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("incarnation", Text),  # Kafka's id of the topic that the offsets are of; NULL: not known yet
    Column("off_grid", BigInteger, nullable=False, server_default="0"),  # events between two steps of the grid
    Column("reforecasts", BigInteger, nullable=False, server_default="0"),  # turns of it that no event made due
)

ingest_jumps = Table(
    "ingest_jumps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("from_offset", BigInteger, nullable=False),
    Column("to_offset", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("jumped_at", Instant, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("topic", Text, primary_key=True),
    Column("source_partition", Integer, primary_key=True, autoincrement=False),
    Column("source_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", Text, nullable=False),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("recorded_at", Instant, nullable=False),
    Column("requeued_at", Instant),
    Column("headers", JSON_TYPE),  # [[name, base64 or null], ...]; NULL: not known
    Column("written_at", Instant),  # the record's own time; NULL: not known
    Column("requeue_batch", BigInteger),  # the transaction that sends it again, or sent it
    Index("dead_letters_newest", "recorded_at", "topic", "source_partition", "source_offset", "requeued_at"),
    Index("dead_letters_waiting", "requeued_at", "recorded_at", "topic", "source_partition", "source_offset"),
)

left_in_sql = Table(  # messages that their topic or the client library refused: they are in SQL alone
    "left_in_sql",
    metadata,
    Column("source_topic", Text, primary_key=True),
    Column("source_partition", Integer, primary_key=True, autoincrement=False),
    Column("source_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("message", Text, primary_key=True),  # "dead letter", or a forecast_id
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noted_at", Instant, nullable=False),
)

repairs = Table(  # readings that a person changed
    "repairs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("series_id", Integer, nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("action", Text, nullable=False),  # remove | set
    Column("value", Double),
    Column("readings", Integer, nullable=False),
    Column("before", JSON_TYPE, nullable=False),  # [[observed_at, value], ...] of what was there
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("repaired_at", Instant, nullable=False),
    Index("repairs_of_series", "series_id", "repaired_at"),
)


def inserting(connection: Connection, table: Table) -> Any:
    """Start an INSERT that can say ON CONFLICT, which both dialects spell alike but SQLAlchemy keeps apart."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
