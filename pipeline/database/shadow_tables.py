"""The shadow's forecasts: the columns of `forecasts` without what only publishing needs, for nothing is published.

The shadow is the model under the alias `shadow`, which scores beside the champion. A row is written only beside a row
of the same series, origin and step in `forecasts`, in the same transaction.
"""

from sqlalchemy import Column, Double, Integer, PrimaryKeyConstraint, Table, Text

from pipeline.database.instants import Instant
from pipeline.database.tables import QUANTILES, metadata

shadow_forecasts = Table(
    "shadow_forecasts",
    metadata,
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
