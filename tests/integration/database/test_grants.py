"""A role that was granted reading reads everything that it should, and writes nothing."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql

from pipeline.database import Database, upgrade
from pipeline.database.schema.grants import grant_read
from pipeline.database.schema.migrate import VIEWS
from pipeline.database.schema.tables import metadata, models
from pipeline.errors import ConfigError
from tests.contracts.rows import HOUR, NOW, START, observations, turn_of

READABLE = [*VIEWS, "alembic_version", *(table.name for table in metadata.sorted_tables if table is not models)]


def plain(url: str, role: str = "postgres") -> str:
    return url.replace("+psycopg", "").replace("://postgres@", f"://{role}@")


@pytest.fixture(scope="module")
def url(postgresql: Any) -> str:
    address: str = postgresql.fresh_database()
    upgrade(address)
    return address


@pytest.fixture(scope="module")
def owner(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(plain(url), autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def new_role(owner: psycopg.Connection[Any]) -> Callable[[str], str]:
    def create(options: str) -> str:
        role = f"Reader {uuid4().hex[:8]} 100%"
        owner.execute(sql.SQL("CREATE ROLE {} " + options).format(sql.Identifier(role)))  # type: ignore[arg-type]
        return role

    return create


@pytest.fixture(scope="module")
def role(url: str, new_role: Callable[[str], str]) -> str:
    name = new_role("LOGIN")
    grant_read(url, name)
    return name


@pytest.fixture
def analyst(url: str, role: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(plain(url), user=role, autocommit=True) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (role,)
        yield connection


@pytest.mark.parametrize("name", READABLE)
def test_the_role_reads_every_view_and_table(analyst: psycopg.Connection[Any], name: str) -> None:
    analyst.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name)))


def test_the_role_reads_of_models_all_but_the_artifacts(analyst: psycopg.Connection[Any]) -> None:
    rows = analyst.execute("SELECT version, name, config, metrics, sha256, train_to FROM models").fetchall()
    assert [row[:2] for row in rows] == [(0, "seasonal-naive")]
    for query in ("SELECT artifact FROM models", "SELECT * FROM models"):
        with pytest.raises(errors.InsufficientPrivilege):
            analyst.execute(query)  # type: ignore[call-overload]


@pytest.mark.parametrize("table", [*(table.name for table in metadata.sorted_tables), "alembic_version"])
def test_the_role_writes_to_no_table(analyst: psycopg.Connection[Any], table: str) -> None:
    for statement in ("INSERT INTO {} DEFAULT VALUES", "DELETE FROM {}", "TRUNCATE {}", "DROP TABLE {}"):
        with pytest.raises(errors.InsufficientPrivilege):
            analyst.execute(sql.SQL(statement).format(sql.Identifier(table)))  # type: ignore[arg-type]
    with pytest.raises(errors.InsufficientPrivilege):
        analyst.execute("UPDATE ingest_state SET next_offset = 0")
    with pytest.raises(errors.InsufficientPrivilege):
        analyst.execute("CREATE TABLE mine (x int)")  # PostgreSQL 15 or newer


def test_views_that_a_later_release_makes_can_be_read_too(
    owner: psycopg.Connection[Any], analyst: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE VIEW later AS SELECT name FROM series")
    assert analyst.execute("SELECT * FROM later").fetchall() == []


def test_the_read_commands_work_for_the_role(url: str, role: str, open_more: Callable[..., Database]) -> None:
    store = open_more(url).store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    own = int(store.recent(["a"], 1).series_id[0])
    store.commit(turn_of(claim, 5, observations=observations([(own, START + HOUR, 1.0, 1, 0, True)])))
    reading = open_more(url.replace("://postgres@", f"://{role.replace(' ', '%20').replace('100%', '100%25')}@"))
    assert [row["value"] for row in reading.reader.observations()] == [1.0]
    assert reading.reader.forecasts_as_of(NOW) == []
    assert [model.name for model in reading.registry.models()] == ["seasonal-naive"]
    assert reading.reader.counts()["observations"] == 1
    with pytest.raises(ConfigError, match="permission denied"):
        reading.store("meters", "last", lambda: NOW).claim(0, "me")


def test_granting_again_changes_nothing_and_fails_nothing(url: str, role: str) -> None:
    grant_read(url, role)


def test_who_may_write_already_and_who_is_unknown_is_refused(url: str, new_role: Callable[[str], str]) -> None:
    with pytest.raises(ConfigError, match=r"may write to .* already"):
        grant_read(url, new_role("SUPERUSER"))
    with pytest.raises(ConfigError, match='does not exist; create it first: CREATE ROLE "no""body" LOGIN'):
        grant_read(url, 'no"body')


@pytest.mark.parametrize(
    "role", ['a"b', "a'b", 'x"; DROP TABLE series; --', "two\nlines", "semi;colon", "<b>%s :role {role}</b>", "naïve ☃"]
)
def test_any_name_of_a_role_is_one_name_and_nothing_else(url: str, owner: psycopg.Connection[Any], role: str) -> None:
    owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    grant_read(url, role)
    with psycopg.connect(plain(url), user=role, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM series").fetchone() is not None
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM series")


def test_a_role_with_a_nul_is_refused_in_words(url: str) -> None:
    with pytest.raises(ConfigError, match="NUL"):
        grant_read(url, "a\0b")


def test_sqlite_has_no_roles(tmp_path: Any) -> None:
    upgrade(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(ConfigError, match="SQLite has no roles"):
        grant_read(f"sqlite:///{tmp_path / 'x.db'}", "analyst")
