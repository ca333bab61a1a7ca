"""Jobs that are asked for or paused; what a run was for, how its process ended and what it wrote."""

from alembic import op
from sqlalchemy import Column, Integer, Text

from pipeline.database.schema.instants import Instant

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables and add the columns; runs so far have none of them."""
    op.create_table(
        "job_requests",
        Column("job", Text, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("requested_at", Instant, nullable=False),
    )
    op.create_table(
        "job_pauses",
        Column("job", Text, primary_key=True),
        Column("paused_by", Text, nullable=False),
        Column("reason", Text),
        Column("paused_at", Instant, nullable=False),
        Column("resumed_at", Instant),
    )
    op.add_column("job_runs", Column("cause", Text))
    op.add_column("job_runs", Column("exit_code", Integer))
    op.add_column("job_runs", Column("log", Text))
