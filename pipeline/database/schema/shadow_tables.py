"""The shadow's forecasts: the columns of a forecast without what only publishing needs, for nothing is published.

The shadow is the model under the alias `shadow`, which scores beside the champion. A row is written only beside a row
of the same series and origin in `packed_forecasts`, in the same transaction.
"""

from sqlalchemy import Table

from pipeline.database.schema.tables import metadata, packed_columns

packed_shadow_forecasts = Table(
    "packed_shadow_forecasts", metadata, *packed_columns(), postgresql_partition_by="RANGE (origin)"
)
