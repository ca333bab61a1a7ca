"""Every value in SQL is bound, and every identifier written into it is a constant of ours or quoted.

What is put into a piece of SQL text (an f-string, `format`, `%`, `+`, `replace`, `join`) must be a constant by its name
or be listed here with the reason why no input can reach it.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_imports import MODULES, name

SQL = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE|CREATE|DROP|ALTER|GRANT|COPY|PRAGMA|WHERE|ORDER BY|LIMIT|JOIN|FROM|AND"
    r"|TO)\s"
)
SINKS = {"text", "execute", "exec_driver_sql", "executemany", "executescript", "copy", "literal_column"}
SPELLING = {"format", "format_map", "replace", "join"}
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
REASONS = {
    "pipeline/database/schema/grants.py": {
        "_quoted(database)": "quoted",
        "_quoted(role)": "quoted",
        "to": "a role, quoted",
        "within": "a schema, quoted",
        "whole": "names of our tables and views",
        "columns": "names of our columns, quoted",
        "models.name": "the name of our table",
        "_quoted(table.name)": "the name of a table of ours, quoted",
        "KEPT.get(table.name, ROWS)": "a constant of the module",
        "', '.join([every, *VIEWS, REVISION])": "names of our tables and views",
        "every": "names of our tables, quoted",
        "counters": "names of our sequences, quoted",
        "function": "a constant of the module",
        "role": "in the words of an error",
    },
    "pipeline/database/jobs/matured.py": {
        "targets": "expressions of packed_sql, spelled out",
    },
    "pipeline/database/jobs/retention.py": {"state": "a join of SQLAlchemy", "ingest_state": "a table of SQLAlchemy"},
    "pipeline/database/schema/migrate.py": {
        "name": "the name of a view of ours",
        "create": "one of two literals",
        "body": "a file of the package",
        "published": "a constant of the module",
        "shadowed": "a constant of the module",
        "schema": "a schema, quoted by the server",
        "function": "a constant of the module",
        "role": "a role, quoted by the server",
        "str(THINNING)": "a constant of the module",
    },
    "pipeline/database/pages/steps.py": {"', '.join((f'f.{name}' for name in QUANTILE_NAMES))": "names of our columns"},
    "pipeline/database/schema/migrations/versions/v0015_daily_accuracy.py": {"sums": "names of our columns"},
    "pipeline/database/schema/packed_sql.py": {
        "index": "a place among the quantiles",
        "until": "the name of a parameter, from our code",
        "_issued('h', until)": "a condition, spelled by the module",
        "_issued('v', until)": "a condition, spelled by the module",
        "last": "a condition, spelled by the module",
        "origin.format('')": "a subquery, spelled by the module",
        "origin.format(' AS origin')": "a subquery, spelled by the module",
        "name": "a name of a part, a constant of the module",
        "text": "an expression, spelled by the module",
        "row": "an alias in a view",
        "place": "an expression, spelled by the module",
    },
    "pipeline/database/schema/migrations/versions/v0012_packed_forecasts.py": {"name": "one of two literals"},
    "pipeline/database/schema/migrations/versions/v0014_periods.py": {
        "name": "one of two literals",
        "past": "one of two literals",
        "index": "the name of an index of ours",
    },
    "pipeline/database/turns/outbox.py": {
        "series": "a table of SQLAlchemy",
        "series.c.series_id == made.series_id": "an expression of SQLAlchemy, which binds it",
    },
    "pipeline/database/turns/postgresql.py": {
        "_TIME.format('observed_at')": "a constant, spelled out",
        "_TIME.format('origin')": "a constant, spelled out",
        "_TIME.format('since')": "a constant, spelled out",
        "merge_clause(policy)": "one of five policies, else KeyError",
        "merge_covariate_clause(policy)": "one of five policies, else KeyError",
        "table": "one of two names of our tables",
    },
    "pipeline/database/turns/rows.py": {
        "_MERGED[policy].format('covariates')": "one of five policies, else KeyError",
        "_MERGED[policy].format('observations')": "one of five policies, else KeyError",
    },
    "pipeline/database/pages/reader.py": {"only": "one of two literals"},
    "pipeline/database/turns/sqlite.py": {
        "merge_clause(policy)": "one of five policies, else KeyError",
        "merge_covariate_clause(policy)": "one of five policies, else KeyError",
        "table": "one of two names of our tables",
    },
    "pipeline/database/pages/models.py": {
        "highest * place // most": "an expression of numbers, which SQLAlchemy binds",
    },
    "pipeline/database/pages/repairs.py": {"topics.c.repairs": "an expression of SQLAlchemy, which binds it"},
    "pipeline/database/turns/store.py": {
        "state.off_grid": "an expression of SQLAlchemy, which binds it",
        "advance.off_grid": "a number, bound by SQLAlchemy",
    },
    "pipeline/database/jobs/states.py": {"epoch": "an expression of SQLAlchemy, which binds it"},
}


def fixed(part: ast.expr) -> bool:
    """Tell whether nothing but literals and constants of a module can come out of an expression."""
    if isinstance(part, ast.IfExp):
        return fixed(part.body) and fixed(part.orelse)
    if isinstance(part, ast.BinOp) and isinstance(part.op, ast.Mult):
        return fixed(part.left) and fixed(part.right)
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "join":
        return fixed(part.func.value) and all(fixed(word) for word in part.args)
    return isinstance(part, ast.Constant) or bool(CONSTANT.fullmatch(ast.unparse(part)))


def pieces(tree: ast.AST) -> Iterator[tuple[bool, list[ast.expr]]]:
    """Each text that is put together: whether it looks like SQL, and what is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            constant = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            yield looks_like_sql(constant), [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
            sides = [node.left, node.right]
            constant = "".join(str(side.value) for side in sides if isinstance(side, ast.Constant))
            yield looks_like_sql(constant), sides
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SPELLING:
            told = node.func.value
            sql = told.value if isinstance(told, ast.Constant) else ast.unparse(told)
            words = [*node.args, *(word.value for word in node.keywords)]
            yield looks_like_sql(str(sql)) or bool(re.search(r"sql|query|body|[A-Z]{4}", str(sql))), words


def looks_like_sql(text: str) -> bool:
    return bool(SQL.search(f"{text} "))


def loose(code: str) -> set[str]:
    """What is put into SQL, or into the argument of a call that runs it, and is not fixed."""
    tree = ast.parse(code)
    found = [part for sql, parts in pieces(tree) if sql for part in parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in SINKS:
                found += [part for _, parts in pieces(node.args[0]) for part in parts]
    return {ast.unparse(part) for part in found if not fixed(part)}


def holds_sql(path: Path) -> bool:
    return name(path).startswith("pipeline/database/") or "sqlalchemy" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [path for path in MODULES if holds_sql(path)], ids=name)
def test_nothing_is_written_into_sql_but_constants_and_what_is_listed_with_its_reason(path: Path) -> None:
    assert loose(path.read_text(encoding="utf-8")) == set(REASONS.get(name(path), {}))


@pytest.mark.parametrize(
    "code",
    [
        "connection.execute(text(f'SELECT * FROM {table}'))",
        "text(f'{anything}')",
        "query = f\"SELECT 1 WHERE name = '{series}'\"",
        "query = 'SELECT 1 WHERE name = %s' % series",
        "query = 'SELECT 1 WHERE name = ' + series",
        "query = 'DELETE FROM x WHERE name = {}'.format(series)",
        "sql = sql.replace(':role', role)",
        "cursor.execute('SELECT ' + columns)",
        "connection.exec_driver_sql('x {}'.format(series))",
        "query = 'SELECT ' + ' AND '.join(conditions)",
    ],
)
def test_a_value_that_is_written_into_sql_is_found(code: str) -> None:
    assert loose(code)


@pytest.mark.parametrize(
    "code",
    [
        "connection.execute(text('SELECT 1 WHERE name = :name'), {'name': series})",
        "connection.execute(select(series.c.name).where(series.c.name == name))",
        "Q = f'SELECT {COLUMNS} FROM x'",
        "Q = f\"INSERT INTO x VALUES ({', '.join('?' * 8)})\"",
    ],
)
def test_bound_values_and_constants_are_fine(code: str) -> None:
    assert not loose(code)
