"""What a database is bound to, series of several partitions, letters as they came, what no topic took, and repairs."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.database.schema.instants import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON_TYPE = JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Add columns that are NULL for what is there, and tables that stay empty until they are needed."""
    op.create_table(
        "pipelines",
        Column("name", Text, primary_key=True),
        Column("consumer_group", Text, nullable=False),
        Column("input_topic", Text, nullable=False),
        Column("output_topic", Text, nullable=False),
        Column("dead_letter_topic", Text, nullable=False),
        Column("frequency", Text, nullable=False),
        Column("output_incarnation", Text),
        Column("dead_letter_incarnation", Text),
        Column("created_at", Instant, nullable=False),
    )
    op.add_column("topics", Column("spreads", BigInteger, nullable=False, server_default="0"))
    op.add_column("topics", Column("repairs", BigInteger, nullable=False, server_default="0"))
    op.add_column("ingest_state", Column("incarnation", Text))
    op.add_column("series", Column("home_topic", Integer))
    op.add_column("series", Column("home_partition", Integer))
    op.add_column("series", Column("spread", BigInteger))
    spread = text("spread IS NOT NULL")
    op.create_index("series_spread", "series", ["spread"], sqlite_where=spread, postgresql_where=spread)
    op.add_column("dead_letters", Column("headers", JSON_TYPE))
    op.add_column("dead_letters", Column("written_at", Instant))
    op.add_column("dead_letters", Column("requeue_batch", BigInteger))
    op.create_index(
        "dead_letters_waiting",
        "dead_letters",
        ["requeued_at", "recorded_at", "topic", "source_partition", "source_offset"],
    )
    op.create_table(
        "left_in_sql",
        Column("source_topic", Text, primary_key=True),
        Column("source_partition", Integer, primary_key=True, autoincrement=False),
        Column("source_offset", BigInteger, primary_key=True, autoincrement=False),
        Column("message", Text, primary_key=True),
        Column("topic", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("noted_at", Instant, nullable=False),
    )
    op.create_table(
        "repairs",
        Column("id", Integer, primary_key=True),
        Column("series_id", Integer, nullable=False),
        Column("since", Instant, nullable=False),
        Column("until", Instant, nullable=False),
        Column("action", Text, nullable=False),
        Column("value", Double),
        Column("readings", Integer, nullable=False),
        Column("before", JSON_TYPE, nullable=False),
        Column("actor", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("repaired_at", Instant, nullable=False),
        Index("repairs_of_series", "series_id", "repaired_at"),
    )
