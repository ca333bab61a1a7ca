"""One row a forecast: its steps in the views, from the former tables of steps, and how they are looked for."""

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from alembic import command
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.config import QUANTILE_NAMES
from pipeline.cli import root
from pipeline.database import Database, SqlStore, open_database, packing, upgrade
from pipeline.database.engine import connect, reading, writing
from pipeline.database.packed import longest_reach
from pipeline.database.packing import AT_ONCE
from pipeline.database.pages import models as model_pages
from pipeline.database.schema.instants import to_text
from pipeline.database.schema.migrate import configured, current, head
from pipeline.database.schema.pipelines import MAIN
from pipeline.database.schema.tables import pipelines
from pipeline.database.turns.rows import enter_steps
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from pipeline.quantiles import shorten
from pipeline.records import Forecasts
from tests import processes
from tests.contracts.rows import HOUR, NOW, START, at_once, observations, turn_of
from tests.integration.database.plans import scanned

STEPS = ("series_id", "origin", "step", "target_time", "model_version", "issued_at", *QUANTILE_NAMES, "quality")
SOURCE = ("source_topic", "source_partition", "source_offset", "calibration")


@pytest.fixture
def store(database: Database) -> SqlStore:
    return database.store("meters", "last", lambda: NOW)


def made(own: int, origin: int, targets: Any, **changes: Any) -> Forecasts:
    """One forecast of series `own` with these target times, of random numbers."""
    rng = np.random.default_rng([own, abs(origin // HOUR), changes.get("version", 1)])
    quantiles = np.sort(rng.normal(100.0, 9.0, (1, len(targets), 13)), axis=-1)
    return Forecasts(
        series=[f"s{own}"],
        series_id=np.array([own]),
        origin=np.array([origin]),
        target_times=np.array([targets]),
        quantiles=shorten(quantiles),
        model_version=np.array([changes.get("version", 1)]),
        calibration=np.array([changes.get("calibration", 0)]),
        quality=[changes.get("quality", "ok")],
        issued_at=np.array([NOW + changes.get("issued", 0)]),
        partition=np.array([0]),
        offset=np.array([changes.get("offset", 0)]),
    )


def hourly(own: int, hour: int, count: int, **changes: Any) -> Forecasts:
    """One of `count` hours from an hour on."""
    return made(own, START + hour * HOUR, START + HOUR * np.arange(hour + 1, hour + 1 + count), **changes)


def keep(store: SqlStore, forecasts: list[Forecasts]) -> None:
    """Store forecasts, each by a turn of its own."""
    claim = store.claim(0, "me")
    for new in forecasts:
        at = claim.next_offset
        store.commit(turn_of(claim, at + 1, forecasts=replace(new, offset=np.array([at]))))
        claim = replace(claim, next_offset=at + 1)


@pytest.mark.parametrize("frequency", ["1h", "MS", "QS", "B", "7D"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_the_steps_of_a_view_are_those_that_were_stored(
    database: Database, store: SqlStore, frequency: str, zone: str
) -> None:
    grid = Frequency(frequency, zone)
    own = int(store.recent(["s1"], 1).series_id[0])
    first = int(grid.step_of(np.array([START + 80 * 24 * HOUR]))[0])  # clocks change within the horizon
    forecasts = [
        made(own, int(grid.time_of(np.array([at]))[0]), grid.time_of(np.arange(at + 1, at + 1 + 12)))
        for at in (first, first + 1)
    ]
    keep(store, forecasts)
    rows = database.reader.query("SELECT * FROM forecasts ORDER BY origin, step")
    wanted = [
        (step + 1, to_text(int(time)), tuple(numbers))
        for each in forecasts
        for step, (time, numbers) in enumerate(zip(each.target_times[0], each.quantiles[0].tolist(), strict=True))
    ]
    found = [(row["step"], row["target_time"], tuple(row[name] for name in QUANTILE_NAMES)) for row in rows]
    assert found == wanted
    assert set(rows[0]) == {*STEPS, *SOURCE}
    some, _ = store.unpublished(0, 0, 2)
    assert some.quantiles.tobytes() == np.concatenate([each.quantiles for each in forecasts]).tobytes()
    assert (some.target_times == np.concatenate([each.target_times for each in forecasts])).all()


def test_a_horizon_that_grows_is_shown_whole(database: Database, store: SqlStore) -> None:
    own = int(store.recent(["s1"], 1).series_id[0])
    lengths = [3, 700, 20]
    keep(
        store,
        [made(own, START + at * HOUR, START + HOUR * np.arange(at + 1, at + 1 + n)) for at, n in enumerate(lengths)],
    )
    found = database.reader.query(
        "SELECT origin, COUNT(*) AS n, MAX(step) AS last FROM forecasts GROUP BY origin ORDER BY 1"
    )
    assert [(row["n"], row["last"]) for row in found] == [(n, n) for n in lengths]


heads = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 6), st.integers(0, 3), st.integers(1, 2)),
    min_size=1,
    max_size=8,
    unique_by=lambda head: (head[0], head[3]),
)


def test_the_newest_of_each_target_is_what_the_definition_says(database: Database, store: SqlStore) -> None:
    """Forecasts of one series with any origins, horizons, moments of issue and versions."""

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(heads)
    def check(some: list[tuple[int, int, int, int]]) -> None:
        with writing(database.engine) as connection:
            connection.execute(text("DELETE FROM packed_forecasts"))
        own = int(store.recent(["s1"], 1).series_id[0])
        keep(store, [hourly(own, at, n, issued=issued, version=version) for at, n, issued, version in some])
        newest: dict[int, tuple[int, int, int]] = {}
        for at, n, issued, version in some:
            for target in range(at + 1, at + 1 + n):
                newest[target] = max(newest.get(target, (-1, -1, -1)), (at, issued, version))
        rows = database.reader.query("SELECT * FROM latest_forecasts ORDER BY target_time")
        found = [(row["target_time"], row["origin"], row["model_version"]) for row in rows]
        wanted = [
            (to_text(START + target * HOUR), to_text(START + at * HOUR), version)
            for target, (at, _, version) in sorted(newest.items())
        ]
        assert found == wanted

    check()


# The former tables


def former(url: str, rows: list[dict[str, Any]], shadows: list[dict[str, Any]] | None = None) -> None:
    """A database of the release before, with these rows of steps."""
    engine = connect(url, timeout=20)
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0011")
        connection.execute(text("INSERT INTO topics (topic_id, topic) VALUES (1, 'meters')"))
        for name, some in (("forecasts", rows), ("shadow_forecasts", shadows or [])):
            if some:
                columns = [*STEPS, *(SOURCE if name == "forecasts" else ())]
                marks = ", ".join(f":{column}" for column in columns)
                connection.execute(text(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({marks})"), some)
    engine.dispose()


def steps_of(own: int, hour: int, count: int = 3, **changes: Any) -> Iterator[dict[str, Any]]:
    """Rows of one forecast, as the release before rounded its numbers: eight digits of each step's width."""
    rng = np.random.default_rng([own, hour])
    for step in range(1, count + 1):
        numbers = np.sort(rng.normal(50.0, 3.0 * 10.0 ** (step % 3), 13)).round(7 - step % 3)
        yield {
            "series_id": own,
            "origin": to_text(START + hour * HOUR),
            "step": step,
            "target_time": to_text(START + (hour + step) * HOUR),
            "model_version": 0,
            "issued_at": to_text(NOW + hour),
            **dict(zip(QUANTILE_NAMES, numbers.tolist(), strict=True)),
            "quality": "ok",
            "source_topic": 1,
            "source_partition": own % 2,
            "source_offset": hour,
            "calibration": hour % 3,
        } | changes


def shown(url: str, view: str = "forecasts") -> list[dict[str, Any]]:
    database = open_database(url, timeout=20)
    try:
        return database.reader.query(f"SELECT * FROM {view} ORDER BY series_id, origin, model_version, step")
    finally:
        database.close()


def test_former_steps_become_one_row_each_with_the_same_numbers(empty_url: str) -> None:
    rows = [row for own in (1, 2, 7) for hour in range(5) for row in steps_of(own, hour, 3 + own)]
    shadows = [row | {"model_version": 4} for row in rows if row["series_id"] == 2]
    former(empty_url, rows, shadows)
    assert upgrade(empty_url) == 0
    assert current(empty_url) == head()
    assert shown(empty_url) == [{name: row[name] for name in shown(empty_url)[0]} for row in rows]
    found = shown(empty_url, "shadow_forecasts")
    assert [{name: row[name] for name in STEPS} for row in found] == [
        {name: row[name] for name in STEPS} for row in shadows
    ]
    assert upgrade(empty_url) == 0, "and again"


def test_a_forecast_that_lacks_steps_is_left_out_and_counted(empty_url: str) -> None:
    whole, torn = list(steps_of(1, 0)), list(steps_of(1, 1))
    del torn[1]
    former(empty_url, [*whole, *torn])
    done = CliRunner().invoke(root, ["--set", f"database.url={empty_url}", "db", "upgrade"])
    assert done.exit_code == 0, done.output
    assert "1 forecast of which somebody had deleted steps was left out" in done.output
    assert len(shown(empty_url)) == len(whole)


def test_a_long_series_is_packed_in_parts(empty_url: str) -> None:
    rows = [row for hour in range(2 * AT_ONCE + 5) for row in steps_of(1, hour, 2)]
    former(empty_url, rows)
    told: list[tuple[int, int]] = []
    assert upgrade(empty_url, lambda done, total: told.append((done, total))) == 0
    assert len(told) > 2
    assert [row["q50"] for row in shown(empty_url)] == [row["q50"] for row in rows]


def test_of_long_horizons_fewer_forecasts_are_packed_at_once(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "STEPS_AT_ONCE", 10)
    rows = [row for hour in range(7) for row in steps_of(1, hour, 4)] + list(steps_of(2, 0, 40))
    former(empty_url, rows)
    told: list[tuple[int, int]] = []
    assert upgrade(empty_url, lambda done, total: told.append((done, total))) == 0
    assert len(told) >= 5
    assert [row["q50"] for row in shown(empty_url)] == [row["q50"] for row in rows]


KILLED = """
import os, sys
from pipeline.database import upgrade
left = int(sys.argv[2])
def told(done, total):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
upgrade(sys.argv[1], told)
"""


@pytest.mark.parametrize("after", [1, 2, 3])
def test_killed_between_two_batches_the_next_upgrade_goes_on(empty_url: str, after: int) -> None:
    rows = [row for own in (1, 2) for hour in range(AT_ONCE + 3) for row in steps_of(own, hour, 2)]
    former(empty_url, rows)
    killed = processes.run([sys.executable, "-c", KILLED, empty_url, str(after)])
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ConfigError, match="tidecast db upgrade"):
        open_database(empty_url, timeout=20)
    assert upgrade(empty_url) == 0
    assert [row["q50"] for row in shown(empty_url)] == [row["q50"] for row in rows]


def test_two_upgrades_at_once_pack_each_forecast_once(empty_url: str) -> None:
    rows = [row for own in range(1, 40) for hour in range(30) for row in steps_of(own, hour, 2)]
    former(empty_url, rows)
    assert at_once(*[partial(upgrade, empty_url)] * 3) == [0, 0, 0]
    assert [row["q50"] for row in shown(empty_url)] == [row["q50"] for row in rows]


def test_a_view_of_somebodys_on_the_former_table_is_named_before_anything_is_done(
    postgresql: Any,
) -> None:
    url = postgresql.fresh_database()
    former(url, list(steps_of(1, 0)))
    engine = connect(url, timeout=20)
    with writing(engine) as connection:
        connection.execute(text("CREATE VIEW theirs AS SELECT q50 FROM forecasts"))
    with pytest.raises(ConfigError, match="theirs: made from the table forecasts"):
        upgrade(url)
    assert current(url) == "0011"
    with writing(engine) as connection:
        connection.execute(text("DROP VIEW theirs"))
    assert upgrade(url) == 0
    with writing(engine) as connection:
        connection.execute(text("CREATE VIEW theirs AS SELECT q50 FROM forecasts"))
    engine.dispose()


# Reliability


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_reliability_counts_the_newest_targets_however_many_forecasts_are_read_at_once(
    database: Database, store: SqlStore, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    own = int(store.recent(["s1"], 1).series_id[0])
    made_of_all = [hourly(own, hour, 3 + hour % 4, version=1 + hour % 2) for hour in range(30)]
    keep(store, made_of_all)
    claim = store.claim(0, "me")
    cells = [(own, START + HOUR * hour, 100.0 + hour % 7, 1, 0, True) for hour in range(28)]
    store.commit(turn_of(claim, claim.next_offset + 1, observations=observations(cells)))
    actual = {START + HOUR * hour: 100.0 + hour % 7 for hour in range(28)}
    steps = sorted(
        (-time, -int(each.origin[0]), int(each.model_version[0]), tuple(actual[time] <= numbers))
        for each in made_of_all
        for time, numbers in zip(each.target_times[0].tolist(), each.quantiles[0], strict=True)
        if time in actual
    )
    monkeypatch.setattr(model_pages, "FORECASTS_AT_ONCE", at_once)
    monkeypatch.setattr(model_pages, "STEPS_PER_SERIES", 40)
    with reading(database.engine) as connection:
        found = model_pages.count_below(connection, [own], START, START + HOUR * 40, None)
        of_one = model_pages.count_below(connection, [own], START, START + HOUR * 40, 2)
    newest = steps[:40]
    assert sum(each.n for each in found) == 40
    for each in found:
        mine = np.array([below for _, _, version, below in newest if version == each.model_version])
        assert (each.n, each.below) == (len(mine), tuple(mine.sum(axis=0).tolist()))
    assert [(each.model_version, each.n) for each in of_one] == [(2, min(40, sum(v == 2 for _, _, v, _ in steps)))]


# Plans

QUERIES = {
    "current of one": "SELECT target_time, q50 FROM current_forecast WHERE series = 's7' AND step <= 24",
    "latest of one": "SELECT target_time, q50 FROM latest_forecasts WHERE series = 's7'",
    "latest of one by id": "SELECT target_time, q50 FROM latest_forecasts WHERE series_id = 7",
    "steps of one": (
        "SELECT f.q50 FROM forecasts f JOIN series s ON s.series_id = f.series_id"
        " WHERE s.name = 's7' AND f.target_time = '2026-01-02 18:00:00'"
    ),
    "judged of one": "SELECT AVG(pinball) FROM forecast_vs_actual WHERE series = 's7'",
    "current of all": "SELECT series, target_time, q50 FROM current_forecast WHERE step <= 24",
}


LARGE = {"packed_forecasts", "packed_shadow_forecasts", "observations"}


def test_no_query_about_one_series_and_none_about_the_newest_reads_a_whole_table(many: Database) -> None:
    with reading(many.engine) as connection:
        for name, query in QUERIES.items():
            assert connection.execute(text(query)).first() is not None, name
            assert scanned(connection, query) == set(), name


@pytest.mark.parametrize(
    ("frequency", "hours"), [("3600s", 48), ("3600s in Europe/Berlin", 240 + 52), (None, 240 + 52)]
)
def test_how_far_a_forecast_reaches_is_exact_where_steps_are_of_one_length(
    database: Database, frequency: str | None, hours: int
) -> None:
    database.registry.describe_baseline({}, season=24, step_seconds=3600.0)
    with writing(database.engine) as connection:
        enter_steps(connection, 48)
        if frequency is not None:
            named = {"consumer_group": "g", "input_topic": "i", "output_topic": "o", "dead_letter_topic": "d"}
            row = {"name": MAIN, "frequency": frequency, "phase": 0, "created_at": NOW, **named}
            connection.execute(pipelines.insert().values(row))
        assert hours * HOUR <= longest_reach(connection) < (hours + 1) * HOUR


HORIZONS = [(0, 3), (1, 48), (2, 48), (7, 1), (30, 48), (31, 5)]


@pytest.mark.parametrize("most", [0, 1_000_000], ids=["by the view", "by series"])
def test_an_export_has_every_step_in_order_as_the_view_has_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr("pipeline.database.pages.steps.MOST", most)
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    ids = store.recent(["b", "a", "silent"], 1).series_id.tolist()
    months = Frequency("MS").time_of(Frequency("MS").step_of(np.array([START])) + np.arange(1, 6))
    old = START - 60 * 366 * 24 * HOUR  # before 1970
    stored = [
        *(hourly(own, hour, count, version=1 + hour % 2, offset=hour) for own in ids[:2] for hour, count in HORIZONS),
        made(ids[0], START - 100 * HOUR, months, version=3),
        made(ids[1], old, old + HOUR * np.arange(1, 4), version=3, quality="fallback", calibration=7),
    ]
    for stop, one in enumerate(stored, start=1):
        store.commit(turn_of(replace(claim, next_offset=stop - 1), stop, forecasts=one))
    view = (
        "SELECT s.name AS series, f.*, t.topic FROM forecasts f JOIN series s ON s.series_id = f.series_id"
        " JOIN topics t ON t.topic_id = f.source_topic ORDER BY f.series_id, target_time, origin, model_version"
    )
    expected = database.reader.query(view)
    found = list(database.reader.forecasts())
    assert len(found) == len(expected) == sum(one.horizon for one in stored)
    for own, theirs in zip(found, expected, strict=True):
        assert theirs["topic"] == "meters"
        assert own == {name: theirs["topic" if name == "source_topic" else name] for name in own}
    bounds = START + 5 * HOUR, START + 30 * HOUR
    texts = [to_text(time) for time in bounds]
    part = [row for row in found if texts[0] <= row["target_time"] < texts[1]]
    assert part
    assert list(database.reader.forecasts(None, *bounds)) == part
    assert list(database.reader.forecasts("a", *bounds)) == [row for row in part if row["series"] == "a"]
    assert list(database.reader.forecasts("silent")) == []
