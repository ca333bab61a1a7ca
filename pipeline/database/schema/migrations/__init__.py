"""Alembic's script folder; `pipeline.database.upgrade` runs it, no ini file is needed."""
