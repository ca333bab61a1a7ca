"""The tables of the job `monitor`: sums of matured forecasts, the groups of series, and what a job remembers.

A row of `evaluations` is one series, one model, one UTC day of the target and one bucket of steps, by its first step.
Errors are median minus actual, in the series' units. `naive_n` counts the steps where the seasonal naive has an answer;
`absolute_error_beside_naive` is the model's error on those. `scaled_error` is in units of `scale`, the series' on that
day, over `scaled_n` steps: all of the cell's or, where the series has no scale, none.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Date, Double, Index, Integer, Table, Text

from pipeline.database.schema.tables import JSON_TYPE, metadata


def summed_columns() -> list[Column[Any]]:
    """Make the columns of sums and counts, new ones for each table."""
    return [
        Column("n", BigInteger, nullable=False),
        Column("error", Double, nullable=False),
        Column("absolute_error", Double, nullable=False),
        Column("squared_error", Double, nullable=False),
        Column("pinball", Double, nullable=False),
        Column("absolute_actual", Double, nullable=False),
        Column("inside_80", BigInteger, nullable=False),
        Column("inside_95", BigInteger, nullable=False),
        Column("naive_n", BigInteger, nullable=False),
        Column("naive_absolute_error", Double, nullable=False),
        Column("absolute_error_beside_naive", Double, nullable=False),
        Column("scaled_n", BigInteger, nullable=False),
        Column("scaled_error", Double, nullable=False),
    ]


evaluations = Table(
    "evaluations",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("day", Date, primary_key=True),  # of the target, UTC
    Column("horizon_from", Integer, primary_key=True, autoincrement=False),
    *summed_columns(),
    Column("scale", Double),
    Index("evaluations_day", "day"),
    sqlite_with_rowid=False,
)

daily_accuracy = Table(  # the sums of evaluations over the series of a group, as of the newest sweep of the monitor
    "daily_accuracy",
    metadata,
    Column("day", Date, primary_key=True),
    Column("model_version", Integer, primary_key=True, autoincrement=False),
    Column("horizon_from", Integer, primary_key=True, autoincrement=False),
    Column("series_group", Text, primary_key=True),
    *summed_columns(),
    sqlite_with_rowid=False,
)

series_groups = Table(
    "series_groups",
    metadata,
    Column("series_id", Integer, primary_key=True, autoincrement=False),
    Column("series_group", Text, nullable=False),
)

job_states = Table(
    "job_states",
    metadata,
    Column("name", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("state", JSON_TYPE, nullable=False),
)
