"""One row a forecast: its table, and the tables of steps under a name that no worker writes to any more.

pipeline.database.packing moves the rows, a batch a transaction; then 0013 drops the tables of steps.
"""

from typing import Any

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, Text

from pipeline.database.schema.instants import Instant

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, rename the former ones, whose views on PostgreSQL go on reading them."""
    sqlite = op.get_context().dialect.name == "sqlite"
    if sqlite:  # views keep the name, which is a view's from 0013 on
        op.execute("PRAGMA legacy_alter_table = ON")
    for name in ("forecasts", "shadow_forecasts"):
        op.rename_table(name, f"former_{name}")
    if sqlite:
        op.execute("PRAGMA legacy_alter_table = OFF")
    op.drop_index("forecasts_outbox")
    op.create_table(
        "packed_forecasts",
        *_columns(),
        Column("source_topic", Integer, nullable=False),
        Column("source_partition", Integer, nullable=False),
        Column("source_offset", BigInteger, nullable=False),
        Column("calibration", Integer, nullable=False, server_default="0"),
    )
    op.create_index("forecasts_outbox", "packed_forecasts", ["source_topic", "source_partition", "source_offset"])
    op.create_table("packed_shadow_forecasts", *_columns())
    op.create_table("horizon_steps", Column("step", Integer, primary_key=True, autoincrement=False))
    if not sqlite:  # digits do not compress, and a step's are cut out of bytes that are stored as they are
        for name in ("packed_forecasts", "packed_shadow_forecasts"):
            op.execute(f"ALTER TABLE {name} ALTER COLUMN quantiles SET STORAGE EXTERNAL")


def _columns() -> list[Column[Any]]:
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
