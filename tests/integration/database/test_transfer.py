"""A database copied into another: every row of every table, or nothing."""

from collections.abc import Callable
from datetime import date
from itertools import count, product
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Date, Double, Integer, LargeBinary, Table, Text, insert, select, text, update

from pipeline.database import open_database, transfer, upgrade
from pipeline.database.engine import connect, reading, writing
from pipeline.database.schema.instants import Instant
from pipeline.database.schema.tables import ingest_state, leases, metadata, models, series
from pipeline.database.transfer import copy_database
from pipeline.errors import ConfigError, Corrupt
from tests.unit.commands.test_cli import run_process

NOW = 1_750_000_000_000_000
ROWS = 7
Fresh = Callable[[str], str]


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Any) -> Fresh:
    """Make the address of an empty database of a kind."""
    numbers = count()

    def make(kind: str) -> str:
        if kind == "postgresql":
            url: str = request.getfixturevalue("postgresql").fresh_database()
            return url
        return f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"

    return make


def invent(column: Column[Any], row: int) -> Any:
    """Make a value that a careless copy would change."""
    if column.nullable and row % 3 == 0:
        return None
    if column.foreign_keys or (column.primary_key and isinstance(column.type, Integer)):
        return row + 1
    if isinstance(column.type, Instant):
        return 1_700_000_000_000_001 + 3_600_000_000 * row
    if isinstance(column.type, BigInteger):
        return 2**40 + row
    if isinstance(column.type, Integer):
        return row
    if isinstance(column.type, Double):
        return (row + 1) / 3 * 10.0 ** (row * 5 - 15)
    if isinstance(column.type, LargeBinary):
        return bytes([0, 255, row])
    if isinstance(column.type, Date):
        return date(2026, 2, 27 + row % 2)
    if isinstance(column.type, Text):
        return f"{column.name} {row}: '%s' ; -- \u00e4\u2028\U0001f600"
    return {"z": [row, None, 0.1, "\u00fc"], "a": {"nested": True}}


def fill(url: str) -> None:
    upgrade(url)
    engine = connect(url, timeout=30)
    with writing(engine) as connection:
        for table in metadata.sorted_tables:
            rows = [{column.name: invent(column, row) for column in table.columns} for row in range(ROWS)]
            if table is leases:
                rows = [row | {"expires_at": NOW - 1} for row in rows]
            connection.execute(insert(table), rows)
    engine.dispose()


def contents(url: str, table: Table) -> set[str]:
    engine = connect(url, timeout=30)
    with reading(engine) as connection:
        found = {repr(tuple(sorted_json(value) for value in row)) for row in connection.execute(select(table))}
    engine.dispose()
    return found


def sorted_json(value: Any) -> Any:
    return sorted(value.items(), key=str) if isinstance(value, dict) else value


@pytest.mark.parametrize(("old", "new"), [*product(("sqlite", "postgresql"), repeat=2)])
def test_every_row_of_every_table_arrives_as_it_was(fresh: Fresh, old: str, new: str) -> None:
    source, target = fresh(old), fresh(new)
    fill(source)
    heard: list[tuple[str, int, int]] = []
    done = copy_database(source, target, now=NOW, on_table=lambda *told: heard.append(told))
    assert set(done.rows) == {table.name for table in metadata.sorted_tables}
    assert all(count == ROWS + (name == "models") for name, count in done.rows.items())
    for table in metadata.sorted_tables:
        assert contents(target, table) == contents(source, table), table.name
        assert (table.name, done.rows[table.name], done.rows[table.name]) in heard


@pytest.mark.parametrize("new", ["sqlite", "postgresql"])
def test_numbers_go_on_after_the_highest_that_came(fresh: Fresh, new: str) -> None:
    source, target = fresh("sqlite"), fresh(new)
    fill(source)
    copy_database(source, target, now=NOW, on_table=lambda *_: None)
    database = open_database(target, timeout=30)
    version = database.registry.register(
        name="next", config={}, metrics={}, train_from=None, train_to=None, seed=0, code="", artifact=b"", now=NOW
    )
    assert version == ROWS + 1
    assert database.store("another", "last", lambda: NOW).recent(["a new one"], 1).series_id.tolist() == [ROWS + 1]
    database.close()


@pytest.mark.parametrize("new", ["sqlite", "postgresql"])
def test_a_target_that_holds_anything_is_refused_and_stays_as_it_is(fresh: Fresh, new: str) -> None:
    source, target = fresh("sqlite"), fresh(new)
    fill(source)
    fill(target)
    before = contents(target, series)
    with pytest.raises(ConfigError, match=r"holds rows already, in \w+: copy into an empty database"):
        copy_database(source, target, now=NOW, on_table=lambda *_: None)
    assert contents(target, series) == before


def test_a_source_with_a_scheduler_on_duty_is_refused(fresh: Fresh) -> None:
    source, target = fresh("sqlite"), fresh("sqlite")
    fill(source)
    change(source, update(leases).where(leases.c.name.is_not(None)).values(expires_at=NOW + 1))
    with pytest.raises(ConfigError, match="is on duty on the source: stop it and every worker"):
        copy_database(source, target, now=NOW, on_table=lambda *_: None)


def change(url: str, statement: Any) -> None:
    engine = connect(url, timeout=30)
    with writing(engine) as connection:
        connection.execute(statement)
    engine.dispose()


@pytest.mark.parametrize("old", ["sqlite", "postgresql"])
def test_what_a_worker_stores_meanwhile_undoes_the_copy(fresh: Fresh, old: str) -> None:
    source, target = fresh(old), fresh("sqlite")
    fill(source)
    stored: list[str] = []

    def store_once(table: str, done: int, total: int) -> None:
        if table == "series" and not stored:
            stored.append(table)
            change(source, update(ingest_state).values(next_offset=ingest_state.c.next_offset + 1))

    with pytest.raises(ConfigError, match="a worker stored something in the source meanwhile"):
        copy_database(source, target, now=NOW, on_table=store_once)
    assert contents(target, series) == set()
    copy_database(source, target, now=NOW, on_table=lambda *_: None)


def test_a_row_that_arrives_changed_undoes_the_copy(fresh: Fresh) -> None:
    source, target = fresh("sqlite"), fresh("sqlite")
    fill(source)
    upgrade(target)
    change(target, text("CREATE TRIGGER t AFTER INSERT ON series BEGIN UPDATE series SET name = name || 'x'; END"))
    with pytest.raises(Corrupt, match="series: 7 rows were sent and 7 arrived, or differ"):
        copy_database(source, target, now=NOW, on_table=lambda *_: None)
    assert contents(target, series) == set()
    assert len(contents(target, models)) == 1


def test_batches_put_together_are_the_table(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "BATCH", 2)
    source, target = fresh("sqlite"), fresh("postgresql")
    fill(source)
    assert copy_database(source, target, now=NOW, on_table=lambda *_: None).rows["observations"] == ROWS


def test_the_same_database_and_one_that_is_not_there_are_refused(fresh: Fresh, tmp_path: Any) -> None:
    url = fresh("sqlite")
    with pytest.raises(ConfigError, match="source and target are the same"):
        copy_database(url, url, now=NOW, on_table=lambda *_: None)
    with pytest.raises(ConfigError, match="does not exist"):
        copy_database(f"sqlite:///{tmp_path / 'none.db'}", url, now=NOW, on_table=lambda *_: None)


def test_the_command_copies_and_says_what(fresh: Fresh) -> None:
    source, target = fresh("sqlite"), fresh("postgresql")
    fill(source)
    code, out, err = run_process("--set", f"database.url={target}", "db", "copy", "--from", source)
    assert code == 0, err
    tables = len(metadata.sorted_tables)
    assert out == f"copied {ROWS * tables + 1:,} rows of {tables} tables, and compared them\n"
    code, _, err = run_process("--set", f"database.url={target}", "db", "copy", "--from", "postgresql://u:p@h/d")
    assert (code, "p@h" in err) == (2, False)
