"""Calibrations of models, and on every forecast which of them is in its quantiles."""

from alembic import op
from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer
from sqlalchemy.dialects.postgresql import JSONB

from pipeline.database.schema.instants import Instant

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON_TYPE = JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Create the table and add the column, without rewriting a row: what is stored already has none, 0."""
    op.create_table(
        "calibrations",
        Column("version", Integer, primary_key=True),
        Column("model_version", Integer, ForeignKey("models.version"), nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("from", Instant, nullable=False),
        Column("to", Instant, nullable=False),
        Column("n", BigInteger, nullable=False),
        Column("factors", JSON_TYPE, nullable=False),
        Column("metrics", JSON_TYPE, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("calibrations_newest", "calibrations", ["model_version", "version"])
    op.add_column("forecasts", Column("calibration", Integer, nullable=False, server_default="0"))
