"""PostgreSQL keeps forecasts in partitions by the period of their origin; those that there are become one, the past.

schema/partitions.sql makes the periods, when the job `retention` asks for them.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND tablename = '{}'"


def upgrade() -> None:
    """Put a partitioned table in the place of each; SQLite has no partitions."""
    if op.get_context().dialect.name == "sqlite":
        return
    op.execute("SET LOCAL timezone = 'UTC'")
    for name in ("packed_forecasts", "packed_shadow_forecasts"):
        past = f"{name}_past"
        for index in op.get_bind().exec_driver_sql(_INDEXES.format(name)).scalars().all():
            op.execute(f'ALTER INDEX "{index}" RENAME TO "past_{index}"')
        op.execute(f"ALTER TABLE {name} RENAME TO {past}")
        op.execute(
            f"CREATE TABLE {name} (LIKE {past} INCLUDING DEFAULTS INCLUDING STORAGE,"
            " PRIMARY KEY (series_id, origin, model_version)) PARTITION BY RANGE (origin)"
        )
        if name == "packed_forecasts":
            op.create_index("forecasts_outbox", name, ["source_topic", "source_partition", "source_offset"])
        op.execute(f"CREATE TABLE {name}_open (LIKE {name} INCLUDING ALL)")
        op.execute(
            f"DO $$ DECLARE bound timestamptz; BEGIN"
            f" SELECT date_trunc('month', COALESCE(max(origin) + interval '1 month', now())) INTO bound FROM {past};"
            f" EXECUTE format('ALTER TABLE {name} ATTACH PARTITION {past} FOR VALUES FROM (MINVALUE) TO (%L)', bound);"
            f" EXECUTE format('ALTER TABLE {name} ATTACH PARTITION {name}_open FOR VALUES FROM (%L) TO (MAXVALUE)',"
            " bound); END $$"
        )
