"""The shadow's forecasts: the columns of `forecasts` without what only publishing needs, for nothing is published.

The shadow is the model under the alias `shadow`, which scores beside the champion. A row is written only beside a row
of the same series, origin and step in `forecasts`, in the same transaction.
"""

from sqlalchemy import PrimaryKeyConstraint, Table

from pipeline.database.schema.tables import forecast_columns, metadata

shadow_forecasts = Table(
    "shadow_forecasts",
    metadata,
    *forecast_columns(),
    PrimaryKeyConstraint("series_id", "target_time", "origin", "model_version"),
    sqlite_with_rowid=False,
)
