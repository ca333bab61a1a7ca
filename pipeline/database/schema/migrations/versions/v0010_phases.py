"""Where the steps of a deployment's grid begin, and how many events came between two of them."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a phase, which is 0 for the rows that are there, and a count that begins at 0."""
    op.add_column("pipelines", Column("phase", BigInteger))
    op.execute("UPDATE pipelines SET phase = 0")
    op.add_column("ingest_state", Column("off_grid", BigInteger, nullable=False, server_default="0"))
