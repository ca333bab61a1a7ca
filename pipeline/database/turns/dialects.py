"""Which of the two databases an engine is of, for what each does in its own way."""

from sqlalchemy import Engine

from pipeline.database.turns.postgresql import PostgresRows
from pipeline.database.turns.rows import Rows
from pipeline.database.turns.sqlite import SqliteRows


def rows_of(engine: Engine) -> Rows:
    """Choose the implementation for an engine."""
    return PostgresRows() if engine.dialect.name == "postgresql" else SqliteRows()
