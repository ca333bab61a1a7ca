"""docs/reference/views.md: every SQL view with its columns, from two migrated databases, and the head of its file."""

import re
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from pipeline.database import upgrade
from pipeline.database.engine import connect
from pipeline.database.schema.migrate import HERE, OF_THE_SHADOW, VIEWS
from tests.reference.tables import code, page, table

QUANTILE = re.compile(r"q\d+")
INTRODUCTION = """\
The views are the contract with analysts: columns are only ever added, at the end. Times are UTC. Names are the same on
SQLite and PostgreSQL; the types below are PostgreSQL's. On SQLite a time is text such as `2026-01-01 00:00:00`,
which sorts as time does.

`q025` to `q975` are the quantiles of the levels 0.025 to 0.975; `q50` is the point forecast.
"""
Columns = Mapping[str, list[tuple[str, str]]]


def write(columns: Columns) -> str:
    """Write the page from the columns of every view."""
    parts = [INTRODUCTION]
    for name in VIEWS:
        parts += [f"## {name}", *head(name), table(("column", "type"), _rows(columns[name]))]
    return page("Views", *parts)


def read_columns(url: str) -> Columns:
    """Migrate a database and return the columns of every view, in order, with their types."""
    upgrade(url)
    engine = connect(url, timeout=60.0)
    try:
        found = sa.inspect(engine)
        return {
            name: [(each["name"], _spell(each["type"], engine.dialect)) for each in found.get_columns(name)]
            for name in VIEWS
        }
    finally:
        engine.dispose()


def _spell(kind: sa.types.TypeEngine[object], dialect: sa.Dialect) -> str:
    """Spell a type as the database does; SQLite has none for a column that is computed."""
    return "" if isinstance(kind, sa.types.NullType) else kind.compile(dialect).lower()


def head(name: str) -> list[str]:
    """Return the comment at the head of a view's file as paragraphs."""
    source = OF_THE_SHADOW.get(name, (name,))[0]
    folder = Path(HERE) / "views"
    file = next(path for path in (folder / f"{source}.sql", folder / f"{source}.postgresql.sql") if path.exists())
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("-- "):
            break
        lines.append(line.removeprefix("-- "))
    text = "\n".join(lines)
    if source != name:
        return [f"The same as [`{source}`](#{source}), of a shadow's forecasts, which are never published."]
    return [text]


def _rows(columns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """One row per column; the quantiles, which stand together, are one."""
    rows: list[tuple[str, str]] = []
    quantiles = [name for name, _ in columns if QUANTILE.fullmatch(name)]
    for name, kind in columns:
        if name not in quantiles:
            rows.append((code(name), kind))
        elif name == quantiles[0]:
            rows.append((", ".join(code(each) for each in quantiles), kind))
    return rows
