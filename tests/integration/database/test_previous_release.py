"""State that an earlier release wrote is upgraded and gone on from.

tests/golden/state-0001.json holds every row that the worker of the commit it names had stored with the first schema
when it was killed between its two commits: S = 20, K = 15, a dead letter, and a champion's artifact.
"""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic import command
from click.testing import CliRunner
from sqlalchemy import JSON, Connection, DateTime, MetaData, Table, insert, text

from pipeline.cli import root
from pipeline.database import Database, open_database
from pipeline.database.engine import connect, writing
from pipeline.database.schema.migrate import VIEWS, configured
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import SeriesSettings, Settings
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.workers import panel, run_dry, worker

OLD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "golden" / "state-0001.json").read_text(encoding="utf-8"))
SERIES = SeriesSettings(context=12, horizon=2, season=4, on="every_step")
NOW = 1_700_100_000_000_000
POISON_AT, STORED, PUBLISHED = 7, 20, 15
KEYS = {"series": "series_id", "topics": "topic_id", "models": "version", "alias_history": "id"}


@pytest.fixture
def old_url(empty_url: str) -> str:
    """A database as the earlier release left it, on each kind in turn."""
    engine = connect(empty_url, timeout=20)
    with writing(engine) as connection:
        command.upgrade(configured(connection), OLD["schema"])
        connection.execute(text("DELETE FROM models"))
        for name, table in OLD["tables"].items():
            restore(connection, name, table["columns"], table["rows"])
    engine.dispose()
    return empty_url


def restore(connection: Connection, name: str, columns: list[str], rows: list[list[Any]]) -> None:
    """Insert rows as they were: text on SQLite, the same values with their types on PostgreSQL."""
    table = Table(name, MetaData(), autoload_with=connection)
    for row in rows:
        plain = [base64.b64decode(value["base64"]) if isinstance(value, dict) else value for value in row]
        if connection.dialect.name == "sqlite":
            marks = ", ".join("?" * len(columns))
            connection.exec_driver_sql(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})", tuple(plain))
        else:
            typed = {key: typed_as(table.c[key].type, value) for key, value in zip(columns, plain, strict=True)}
            connection.execute(insert(table).values(typed))
    if connection.dialect.name == "postgresql" and name in KEYS:  # as if the server had given the numbers
        last = f"SELECT setval(pg_get_serial_sequence('{name}', '{KEYS[name]}'), max({KEYS[name]})) FROM {name}"
        connection.execute(text(last))


def typed_as(kind: object, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    return json.loads(value) if isinstance(kind, JSON) else value


def full_topic() -> MemoryTopics:
    """The topic as the old worker left it: 21 messages, of which 15 are published, and 20 that came since."""
    messages = panel(["a", "b"], 20)
    messages.insert(POISON_AT, (b"x", b"{not json"))
    return MemoryTopics(inputs={0: messages}, offsets={0: PUBLISHED})


def old_numbers() -> dict[int, bytes]:
    """The quantiles of the golden forecasts, by the offset that made them due."""
    table = OLD["tables"]["forecasts"]
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    names = [name for name in table["columns"] if name.startswith("q") and name[1:].isdigit()]
    found: dict[int, list[list[float]]] = {}
    for row in sorted(rows, key=lambda row: (row["source_offset"], row["step"])):
        found.setdefault(row["source_offset"], []).append([row[name] for name in names])
    return {offset: np.array(numbers).tobytes() for offset, numbers in found.items()}


def go_on(database: Database, topics: MemoryTopics) -> None:
    """Let a worker of this release, with the old champion, take the topic to its end."""
    one = worker(MemoryStore(), topics, series=SERIES, most=6, owner="new:1")
    shape = model_config(Settings(series=SERIES, model={"hidden": 4}), Frequency("1h"), 0)
    scorer = Scorer(database.registry, database.calibrations, one.parts.grid, shape)
    object.__setattr__(one.parts, "store", database.store(OLD["topic"], "last", lambda: NOW))
    object.__setattr__(one.parts, "scorer", scorer)
    run_dry(one)


def test_a_worker_goes_on_from_what_an_earlier_release_had_stored(old_url: str) -> None:
    upgraded = CliRunner().invoke(root, ["--set", f"database.url={old_url}", "db", "upgrade"])
    assert upgraded.exit_code == 0, upgraded.output
    database, topics, old = open_database(old_url, timeout=20), full_topic(), old_numbers()
    assert len(old) == STORED - 1
    try:
        go_on(database, topics)
        published = {offset: numbers for _, offset, _, _, numbers in topics.output}
        end = len(topics.inputs[0])
        assert [offset for _, offset, *_ in topics.output] == list(range(PUBLISHED, end)), "the rest, each once"
        for offset in range(PUBLISHED, STORED):
            assert published[offset] == old[offset], "what was stored and not published, with the same numbers"
        query = database.reader.query
        (state,) = query("SELECT next_offset, epoch, owner FROM ingest_state")
        assert (state["next_offset"], state["epoch"], state["owner"]) == (end, 2, "new:1")
        assert topics.offsets == {0: end}
        (counted,) = query("SELECT count(*) AS n, sum(events) AS events FROM observations")
        assert (counted["n"], counted["events"]) == (40, 40)
        made = query("SELECT source_offset, count(*) AS n FROM forecasts GROUP BY source_offset ORDER BY 1")
        assert [(row["source_offset"], row["n"]) for row in made] == [(at, 2) for at in range(end) if at != POISON_AT]
        assert [row["source_offset"] for row in query("SELECT source_offset FROM dead_letters")] == [POISON_AT]
        served = query("SELECT DISTINCT model_version, quality FROM forecasts WHERE source_offset >= 30")
        assert [(row["model_version"], row["quality"]) for row in served] == [(1, "ok")], "the old champion serves"
        for view in VIEWS:
            query(f"SELECT * FROM {view}")
    finally:
        database.close()


def test_new_rows_get_numbers_after_the_old_ones(old_url: str) -> None:
    assert CliRunner().invoke(root, ["--set", f"database.url={old_url}", "db", "upgrade"]).exit_code == 0
    database = open_database(old_url, timeout=20)
    try:
        known = database.store(OLD["topic"], "last", lambda: NOW).recent(["b", "a", "c"], 4)
        assert known.series_id.tolist() == [2, 1, 3]
        assert np.diff(known.bounds).tolist() == [4, 4, 0], "a ring fills from what the old release stored"
        names = {"name": "gru", "config": {}, "metrics": {}, "train_from": None, "train_to": None}
        assert database.registry.register(**names, seed=0, code="", artifact=b"x", now=NOW) == 2
        assert database.registry.champion() == 1
    finally:
        database.close()
