"""Past covariates: numbers beside the value, in a table of their own."""

from alembic import op
from sqlalchemy import Column, Double, Integer, Text

from pipeline.database.schema.instants import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables; what is stored already has no covariates."""
    op.create_table(
        "covariate_names",
        Column("name_id", Integer, primary_key=True),
        Column("name", Text, nullable=False, unique=True),
    )
    op.create_table(
        "covariates",
        Column("series_id", Integer, primary_key=True, autoincrement=False),
        Column("observed_at", Instant, primary_key=True),
        Column("name_id", Integer, primary_key=True, autoincrement=False),
        Column("value", Double),
        Column("events", Integer, nullable=False),
        sqlite_with_rowid=False,
    )
