"""An empty tidecast database per test; its schema was made once per run."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg.errors import DuplicateObject, UniqueViolation
from sqlalchemy import text

from pipeline.database import Database, open_database
from pipeline.database.engine import connect, writing
from pipeline.database.schema.grants import grant_work
from pipeline.database.schema.tables import metadata, series, topics
from pipeline.database.turns.dialects import rows_of
from pipeline.database.turns.rows import enter_steps
from pipeline.records import Forecasts
from tests.contracts.rows import HOUR, NOW, START, observations
from tests.servers import upgraded_file

PATIENCE = 60.0
ROLE = "Worker 100%"
THERE = (DuplicateObject, UniqueViolation)  # another test process has made it, or makes it right now


@pytest.fixture(scope="session")
def used_postgresql(request: pytest.FixtureRequest) -> str:
    """The address, for the role that owns it, of an upgraded database in which another role may work."""
    url: str = request.getfixturevalue("postgresql").upgraded_database()
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner, suppress(*THERE):
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
    grant_work(url, ROLE)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without tables, on each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("postgresql").fresh_database()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an upgraded and empty database, on each kind in turn, for a role that owns nothing."""
    if request.param == "sqlite":
        (tmp_path / "tidecast.db").write_bytes(upgraded_file())
        return f"sqlite:///{tmp_path / 'tidecast.db'}"
    used: str = request.getfixturevalue("used_postgresql")
    empty(used)
    return used.replace("://postgres@", f"://{quote(ROLE)}@")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def lasting_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of an upgraded database, on each kind in turn, which a module fills once and then only reads."""
    if request.param == "sqlite":
        file = tmp_path_factory.mktemp("lasting") / "tidecast.db"
        file.write_bytes(upgraded_file())
        return f"sqlite:///{file}"
    url: str = request.getfixturevalue("postgresql").upgraded_database()
    return url


@pytest.fixture
def owner_url(url: str, request: pytest.FixtureRequest) -> str:
    """The address of the same database for the role that owns it."""
    used: str = url if url.startswith("sqlite") else request.getfixturevalue("used_postgresql")
    return used


def empty(url: str) -> None:
    """Take a PostgreSQL database back to what the migrations made; a new one costs 300 files and a second to remove."""
    tables = [table.name for table in metadata.sorted_tables if table.name != "models"]
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY".encode())
        connection.execute("DELETE FROM models WHERE version > 0")
        connection.execute("UPDATE models SET config = '{}', season = NULL, step_seconds = NULL")
        connection.execute("ALTER SEQUENCE models_version_seq RESTART")
        forget_months(connection)


def forget_months(connection: psycopg.Connection[Any]) -> None:
    """Take the partitions away that a test has made: each costs the next ones five files to empty."""
    for parent in ("packed_forecasts", "packed_shadow_forecasts"):
        listed = "SELECT name, upper_end::text FROM tidecast_periods() WHERE parent = %s ORDER BY lower_end"
        (past, bound), *made, (rest, _) = connection.execute(listed, [parent]).fetchall()
        if made:
            connection.execute(f"DROP TABLE {', '.join(name for name, _ in made)}".encode())
            connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {rest}".encode())
            attach = f"ALTER TABLE {parent} ATTACH PARTITION {rest} FOR VALUES FROM ('{bound}') TO (MAXVALUE)"
            connection.execute(attach.encode())
        assert past.endswith("_past") and rest.endswith("_open")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = open_database(url, timeout=PATIENCE)
    yield opened
    opened.close()


@pytest.fixture
def open_more() -> Iterator[Callable[..., Database]]:
    """Open databases that are closed at the end of the test."""
    opened: list[Database] = []

    def more(url: str, timeout: float = PATIENCE) -> Database:
        opened.append(open_database(url, timeout=timeout))
        return opened[-1]

    yield more
    for database in opened:
        database.close()


@pytest.fixture
def many(database: Database, owner_url: str) -> Database:
    """Sixty hourly forecasts of each of 200 series, and ten times as many observations."""
    rows = rows_of(database.engine)
    count, own = 60, np.arange(1, 201)
    with writing(database.engine) as connection:
        connection.execute(series.insert(), [{"name": f"s{one}", "first_seen": NOW, "metadata": {}} for one in own])
        connection.execute(topics.insert(), [{"topic": "meters"}])
        enter_steps(connection, 48)
        of_all = np.repeat(own, count)
        origin = START + HOUR * np.tile(np.arange(count), len(own))
        ones = np.ones(len(of_all), np.int64)
        whole = Forecasts(
            series=[""] * len(of_all),
            series_id=of_all,
            origin=origin,
            target_times=origin[:, None] + HOUR * np.arange(1, 49),
            quantiles=np.tile(np.linspace(90.0, 110.0, 13), (len(of_all), 48, 1)),
            model_version=ones,
            calibration=0 * ones,
            quality=["ok"] * len(of_all),
            issued_at=NOW * ones,
            partition=0 * ones,
            offset=np.arange(len(of_all)),
        )
        rows.insert_forecasts(connection, whole, 1)
        cells = [(int(each), START + HOUR * at, 100.0, 1, 0, True) for each in own for at in range(-540, count)]
        rows.insert_observations(connection, observations(cells), 1, NOW)
    owner = connect(owner_url, timeout=20)
    with writing(owner) as connection:
        connection.execute(text("ANALYZE"))
    owner.dispose()
    return database
