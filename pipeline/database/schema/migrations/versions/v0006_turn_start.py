"""Where the newest turn of each partition began: below it everything is published, so retention may delete there."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; 0 until a partition's next turn, so nothing of it is taken for published before."""
    op.add_column("ingest_state", Column("turn_start", BigInteger, nullable=False, server_default="0"))
