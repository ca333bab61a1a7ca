"""Opening, upgrading, and what a person is told when that cannot work."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from pipeline.database import Database, current, open_database, upgrade
from pipeline.database.engine import connect, writing
from pipeline.database.schema.migrate import VIEWS, configured, head
from pipeline.database.schema.tables import metadata
from pipeline.errors import ConfigError, Unavailable
from tests import processes
from tests.contracts.rows import HOUR, NOW, START, at_once, turn_of, wide_observations


def test_an_upgrade_from_nothing_and_a_second_one_end_at_the_head(empty_url: str) -> None:
    assert current(empty_url) == "empty"
    upgrade(empty_url)
    assert current(empty_url) == head()
    upgrade(empty_url)
    assert current(empty_url) == head()
    database = open_database(empty_url, timeout=5)
    assert [model.name for model in database.registry.models()] == ["seasonal-naive"]
    database.close()


def test_upgrades_at_once_from_several_threads_all_succeed(empty_url: str) -> None:
    # Alembic keeps its proxies in module globals, so hosts are processes here, as they are in life.
    code = f"from pipeline.database import upgrade; upgrade({empty_url!r})"
    starts = [lambda: processes.run([sys.executable, "-c", code], capture_output=True, check=False)] * 3
    assert [done.stderr.decode()[-300:] for done in at_once(*starts)] == [""] * 3
    assert current(empty_url) == head()


def test_the_migrations_make_exactly_the_tables_in_code(database: Database) -> None:
    with database.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"

        def belongs(thing: Any, name: str | None, *_: object) -> bool:
            if sqlite:
                return name != "observations_recorded"  # BRIN, which SQLite does not have
            table = str(getattr(thing, "table", thing).name)
            return re.fullmatch(r"packed_(shadow_)?forecasts_\w+", table) is None  # partitions

        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": belongs})
        assert compare_metadata(context, metadata) == []


def test_a_database_of_the_first_release_keeps_its_rows_and_takes_covariates(empty_url: str) -> None:
    engine = connect(empty_url, timeout=5)
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0001")
        connection.execute(text("INSERT INTO topics VALUES (1, 'meters')"))
        connection.execute(text("INSERT INTO series VALUES (7, 'a', '2026-01-01 00:00:00', '{}')"))
        connection.execute(
            text("INSERT INTO observations VALUES (7, '2026-01-01 00:00:00', 1.5, 1, 1, 0, 0, '2026-01-01 00:00:00')")
        )
    engine.dispose()
    with pytest.raises(ConfigError, match=f"is 0001, this release needs {head()}: run tidecast db upgrade"):
        open_database(empty_url, timeout=5)
    upgrade(empty_url)
    database = open_database(empty_url, timeout=5)
    store = database.store("meters", "last", lambda: NOW, ("x",))
    claim = store.claim(0, "me")
    rows = wide_observations([(7, START, 2.5, (8.0,), 1, False), (7, START + HOUR, 3.5, (9.0,), 2, True)])
    before = store.recent(["a"], 5)
    assert (before.value.tolist(), np.isnan(before.covariates).tolist()) == ([1.5], [[True]])
    store.commit(turn_of(claim, 3, observations=rows))
    after = store.recent(["a"], 5)
    assert (after.value.tolist(), after.covariates.tolist()) == ([2.5, 3.5], [[8.0], [9.0]])
    database.close()


def test_forecasts_from_before_calibrations_keep_their_rows_and_carry_none(empty_url: str) -> None:
    engine = connect(empty_url, timeout=5)
    numbers = ", ".join(str(place / 8) for place in range(13))
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0002")
        connection.execute(text("INSERT INTO topics VALUES (1, 'meters')"))
        connection.execute(text("INSERT INTO series VALUES (7, 'a', '2026-01-01 00:00:00', '{}')"))
        connection.execute(
            text(
                "INSERT INTO forecasts VALUES (7, '2026-01-01 00:00:00', 1, '2026-01-01 01:00:00', 0,"
                f" '2026-01-01 00:00:01', {numbers}, 'ok', 1, 0, 5)"
            )
        )
    engine.dispose()
    upgrade(empty_url)
    database = open_database(empty_url, timeout=5)
    store = database.store("meters", "last", lambda: NOW)
    store.claim(0, "me")
    old = store.unpublished(0, 0, 10)[0]
    assert (old.calibration.tolist(), old.quantiles.ravel().tolist()) == ([0], [place / 8 for place in range(13)])
    assert [row["calibration"] for row in database.reader.forecasts_latest("a")] == [0]
    database.close()


def test_accuracy_from_before_its_sums_by_day_is_that_of_its_cells(empty_url: str) -> None:
    engine = connect(empty_url, timeout=5)
    cell = "INSERT INTO evaluations VALUES ({}, 0, '2026-01-0{}', 1, 2, 1, 3, 9, 2, 8, 1, 2, 2, 4, 3, 2, 1.5, 1)"
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0014")
        for own, day in ((7, 1), (8, 1), (8, 2), (9, 2)):
            connection.execute(text(cell.format(own, day)))
        connection.execute(text("INSERT INTO series_groups VALUES (7, 'a'), (8, 'b')"))
    engine.dispose()
    upgrade(empty_url)
    database = open_database(empty_url, timeout=5)
    rows = database.reader.query("SELECT day, series_group, n, mae, mase FROM forecast_accuracy ORDER BY 1, 2")
    assert [(row["day"][-1:], row["series_group"], row["n"]) for row in rows] == [
        ("1", "a", 2),
        ("1", "b", 2),
        ("2", "all", 2),
        ("2", "b", 2),
    ]
    assert {(row["mae"], row["mase"]) for row in rows} == {(1.5, 0.75)}
    assert [row["n"] for row in database.reader.query("SELECT n FROM model_leaderboard")] == [8]
    database.close()


def test_every_view_can_be_read_when_everything_is_empty(database: Database) -> None:
    for view in VIEWS:
        rows = database.reader.query(f"SELECT * FROM {view}")
        assert len(rows) == (view == "model_leaderboard")


def test_an_old_schema_is_refused_with_the_command_that_helps(empty_url: str) -> None:
    with pytest.raises(ConfigError, match="run tidecast db upgrade"):
        open_database(empty_url, timeout=5)


def test_opening_does_not_create_an_sqlite_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist: run tidecast db upgrade"):
        open_database(f"sqlite:///{tmp_path / 'none.db'}", timeout=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "is not an address"),
        ("mysql://localhost/x", "mysql is not supported"),
        ("sqlite://", "needs a file"),
        ("sqlite:////no/such/folder/x.db", "create it"),
    ],
)
def test_a_url_that_cannot_work_is_the_operators_to_change(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_database(url, timeout=5)


def test_a_file_that_is_no_database_is_the_operators_to_change(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("This is not a database. " * 100)
    with pytest.raises(ConfigError, match="not a database"):
        open_database(f"sqlite:///{tmp_path / 'x.db'}", timeout=5)


def test_a_server_that_is_away_is_unavailable_and_the_password_is_not_told() -> None:
    with pytest.raises(Unavailable) as caught:
        open_database("postgresql://joe:sekret@127.0.0.1:1/x", timeout=2)
    assert "sekret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_that_is_not_there_is_the_operators_to_create(postgresql: Any) -> None:
    with pytest.raises(ConfigError, match="does not exist; create it"):
        open_database(postgresql.url("nowhere"), timeout=5)


def test_a_missing_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'tidecast\[postgres\]'"):
        connect("postgresql://127.0.0.1/x", timeout=1)


def test_a_writer_that_waits_longer_than_the_timeout_gives_up(
    database: Database, url: str, open_more: Callable[..., Database]
) -> None:
    impatient = open_more(url, timeout=0.3)
    store = impatient.store("t", "last", lambda: NOW)
    store.claim(0, "me")
    with writing(database.engine) as connection:
        connection.execute(text("UPDATE ingest_state SET owner = 'other'"))
        with pytest.raises(Unavailable, match=r"^database (sqlite|postgresql):"):
            store.claim(0, "me")
        assert impatient.reader.partitions()[0]["owner"] == "me"  # readers do not wait for writers
    assert store.claim(0, "me").epoch == 2


def test_a_statement_that_runs_too_long_is_unavailable(postgresql: Any, open_more: Callable[..., Database]) -> None:
    url = postgresql.fresh_database()
    upgrade(url)
    with pytest.raises(Unavailable, match="timeout"):
        open_more(url, timeout=0.3).reader.query("SELECT pg_sleep(5)")


def test_no_query_of_ours_is_compiled(postgresql: Any, open_more: Callable[..., Database]) -> None:
    with psycopg.connect(postgresql.upgraded_database().replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {owner.info.dbname} SET jit = on".encode())
        database = open_more(f"postgresql+psycopg://postgres@127.0.0.1:{owner.info.port}/{owner.info.dbname}")
    assert database.reader.query("SHOW jit") == [{"jit": "off"}]


def test_a_session_that_the_server_ended_is_replaced(postgresql: Any, open_more: Callable[..., Database]) -> None:
    url = postgresql.fresh_database()
    upgrade(url)
    database, other = open_more(url), open_more(url)
    others = "pid <> pg_backend_pid() AND datname = current_database()"  # other tests use this server, too
    end = text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    with pytest.raises(Unavailable), writing(database.engine) as connection:
        with other.engine.begin() as killer:
            killer.execute(end)
        connection.execute(text("SELECT 1"))
    assert database.store("t", "last", lambda: NOW).claim(0, "me").epoch == 1


def test_a_query_for_people_cannot_write(database: Database) -> None:
    with pytest.raises(ConfigError):
        database.reader.query("DELETE FROM models")
    with pytest.raises(ConfigError):
        database.reader.query("SELEC 1")
    assert database.store("t", "last", lambda: NOW).claim(0, "me").epoch == 1  # writing still works


def test_sqlite_survives_a_killed_writer(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    upgrade(url)
    code = (
        "import os; from pipeline.database import open_database; from pipeline.database.engine import writing;"
        f"from sqlalchemy import text; d = open_database({url!r}, timeout=5);"
        "d.store('t', 'last', lambda: 0).claim(0, 'a')\n"
        "with writing(d.engine) as c: c.execute(text('UPDATE ingest_state SET epoch = 99')); os.kill(os.getpid(), 9)"
    )
    done = processes.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
    assert done.returncode == -9
    database = open_database(url, timeout=5)
    assert database.store("t", "last", lambda: 0).claim(0, "b").epoch == 2
    database.close()
