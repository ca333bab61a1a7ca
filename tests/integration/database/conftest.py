"""An empty tidecast database per test, copied from one that was upgraded once per run."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from pipeline.database import Database, open_database, upgrade

PATIENCE = 20.0


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "template.db"
    upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgresql_template(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgresql").fresh_database()
    upgrade(url)
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
    """The address of an upgraded and empty database, on each kind in turn."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "tidecast.db")
        return f"sqlite:///{tmp_path / 'tidecast.db'}"
    template = make_url(request.getfixturevalue("postgresql_template"))
    name = f"test_{uuid4().hex[:12]}"
    address = {"host": template.host, "port": template.port, "user": template.username, "dbname": "postgres"}
    with psycopg.connect(**address, autocommit=True) as connection:  # type: ignore[arg-type]
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.database}".encode())
    return template.set(database=name).render_as_string(hide_password=False)


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
