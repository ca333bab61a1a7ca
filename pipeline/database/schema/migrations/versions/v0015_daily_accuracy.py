"""Sums of live accuracy over days and groups of series are kept, not worked out from millions of cells each time."""

from alembic import op
from sqlalchemy import BigInteger, Column, Date, Double, Integer, Text

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_COUNTS = ("n", "inside_80", "inside_95", "naive_n", "scaled_n")
_SUMS = (
    *(
        "n",
        "error",
        "absolute_error",
        "squared_error",
        "pinball",
        "absolute_actual",
        "inside_80",
        "inside_95",
        "naive_n",
    ),
    *("naive_absolute_error", "absolute_error_beside_naive", "scaled_n", "scaled_error"),
)


def upgrade() -> None:
    """Create the table, and fill it from the cells that there are."""
    op.create_table(
        "daily_accuracy",
        Column("day", Date, primary_key=True),
        Column("model_version", Integer, primary_key=True, autoincrement=False),
        Column("horizon_from", Integer, primary_key=True, autoincrement=False),
        Column("series_group", Text, primary_key=True),
        *(Column(name, BigInteger if name in _COUNTS else Double, nullable=False) for name in _SUMS),
        sqlite_with_rowid=False,
    )
    sums = ", ".join(f"SUM(e.{name})" for name in _SUMS)
    op.execute(
        f"INSERT INTO daily_accuracy (day, model_version, horizon_from, series_group, {', '.join(_SUMS)})"
        f" SELECT e.day, e.model_version, e.horizon_from, COALESCE(g.series_group, 'all'), {sums}"
        " FROM evaluations e LEFT JOIN series_groups g ON g.series_id = e.series_id"
        " GROUP BY e.day, e.model_version, e.horizon_from, COALESCE(g.series_group, 'all')"
    )
