"""Forecasts of a shadow: a challenger that scores beside the champion and is never published."""

from alembic import op
from sqlalchemy import Column, Double, Integer, PrimaryKeyConstraint, Text

from pipeline.database.schema.instants import Instant

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

QUANTILES = ("q025", "q05", "q10", "q20", "q30", "q40", "q50", "q60", "q70", "q80", "q90", "q95", "q975")


def upgrade() -> None:
    """Create the table; it stays empty until there is a shadow."""
    op.create_table(
        "shadow_forecasts",
        Column("series_id", Integer, nullable=False),
        Column("origin", Instant, nullable=False),
        Column("step", Integer, nullable=False),
        Column("target_time", Instant, nullable=False),
        Column("model_version", Integer, nullable=False),
        Column("issued_at", Instant, nullable=False),
        *(Column(name, Double, nullable=False) for name in QUANTILES),
        Column("quality", Text, nullable=False),
        PrimaryKeyConstraint("series_id", "target_time", "origin", "model_version"),
        sqlite_with_rowid=False,
    )
