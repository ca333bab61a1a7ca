"""How often the newest origins of a partition were forecast again, after a swap of the champion."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a count that begins at 0."""
    op.add_column("ingest_state", Column("reforecasts", BigInteger, nullable=False, server_default="0"))
