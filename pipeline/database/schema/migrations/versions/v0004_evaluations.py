"""Accuracy as sums, kept by the job `monitor`, with the groups of series and the state of jobs between runs."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, Date, Double, Integer, Text
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON_TYPE = JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create the tables; the first run of the job fills them from everything that is stored."""
    op.create_table(
        "evaluations",
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("model_version", Integer, primary_key=True, autoincrement=False),
        Column("day", Date, primary_key=True),
        Column("horizon_from", Integer, primary_key=True, autoincrement=False),
        Column("n", BigInteger, nullable=False),
        Column("error", Double, nullable=False),
        Column("absolute_error", Double, nullable=False),
        Column("squared_error", Double, nullable=False),
        Column("pinball", Double, nullable=False),
        Column("absolute_actual", Double, nullable=False),
        Column("inside_80", BigInteger, nullable=False),
        Column("inside_95", BigInteger, nullable=False),
        Column("naive_n", BigInteger, nullable=False),
        Column("naive_absolute_error", Double, nullable=False),
        Column("absolute_error_beside_naive", Double, nullable=False),
        Column("scaled_n", BigInteger, nullable=False),
        Column("scaled_error", Double, nullable=False),
        Column("scale", Double),
        sqlite_with_rowid=False,
    )
    op.create_index("evaluations_day", "evaluations", ["day"])
    op.create_table(
        "series_groups",
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("series_group", Text, nullable=False),
    )
    op.create_table(
        "job_states",
        Column("name", Text, primary_key=True),
        Column("epoch", BigInteger, nullable=False),
        Column("state", JSON_TYPE, nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.create_index(
            "observations_recorded",
            "observations",
            ["recorded_at"],
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        )
