"""The tables of forecast steps of earlier releases go, once their rows have become one row a forecast."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give PostgreSQL's views, which read the tables, the names' new meaning first: see migrate.upgrade."""
    for name in ("forecasts", "shadow_forecasts"):
        op.drop_table(f"former_{name}")
