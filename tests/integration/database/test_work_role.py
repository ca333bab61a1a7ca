"""A role that was granted work owns nothing; all other tests of this folder work in PostgreSQL as it."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from psycopg import errors, sql

from jobs.upkeep.retention import clear_out
from pipeline.database import open_database, upgrade
from pipeline.database.engine import connect, writing
from pipeline.database.schema.grants import KEPT, grant_read, grant_work
from pipeline.database.schema.migrate import configured
from pipeline.database.schema.tables import metadata
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from tests.contracts.rows import NOW, START, forecasts, turn_of
from tests.integration.database.conftest import ROLE
from tests.servers import upgraded_file


@pytest.fixture
def worker(used_postgresql: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(used_postgresql.replace("+psycopg", ""), user=ROLE, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("table", [*(table.name for table in metadata.sorted_tables), "alembic_version"])
def test_the_role_changes_no_table_and_no_revision(worker: psycopg.Connection[Any], table: str) -> None:
    statements = ["TRUNCATE {}", "DROP TABLE {}", "ALTER TABLE {} ADD COLUMN mine int", "CREATE INDEX mine ON {} ((1))"]
    statements += ["CREATE TRIGGER mine BEFORE INSERT ON {} EXECUTE FUNCTION suppress_redundant_updates_trigger()"]
    if table == "alembic_version":
        statements += ["DELETE FROM {}", "UPDATE {} SET version_num = '0'", "INSERT INTO {} VALUES ('0')"]
    for statement in statements:
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(sql.SQL(statement).format(sql.Identifier(table)))  # type: ignore[arg-type]
    for statement in ("CREATE TABLE mine (x int)", "CREATE VIEW mine AS SELECT 1", "CREATE ROLE mine"):
        with pytest.raises(errors.InsufficientPrivilege):  # PostgreSQL 15 or newer
            worker.execute(statement)  # type: ignore[call-overload]


@pytest.mark.parametrize("table", KEPT)
def test_of_a_record_no_row_is_taken_away(worker: psycopg.Connection[Any], table: str) -> None:
    assert table in metadata.tables, "a table that is"
    forbidden = ["DELETE FROM {}"] + ["UPDATE {} SET {} = NULL"] * ("UPDATE" not in KEPT[table])
    column = next(iter(metadata.tables[table].c)).name
    for statement in forbidden:
        with pytest.raises(errors.InsufficientPrivilege):
            worker.execute(sql.SQL(statement).format(sql.Identifier(table), sql.Identifier(column)))  # type: ignore[arg-type]


def test_granting_again_narrows_what_a_later_release_made(
    used_postgresql: str, worker: psycopg.Connection[Any]
) -> None:
    with psycopg.connect(used_postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("CREATE TABLE later (id serial PRIMARY KEY)")
        try:
            worker.execute("INSERT INTO later DEFAULT VALUES")
            assert worker.execute("DELETE FROM later RETURNING id").fetchall() == [(1,)]
        finally:
            owner.execute("DROP TABLE later")
        owner.execute(sql.SQL("GRANT ALL ON backtests TO {}").format(sql.Identifier(ROLE)))
    grant_work(used_postgresql, ROLE)
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute("DELETE FROM backtests")


def test_who_owns_the_tables_is_refused_and_who_works_does_not_only_read(used_postgresql: str) -> None:
    with pytest.raises(ConfigError, match=r"role postgres owns .*: grant a role that is neither"):
        grant_work(used_postgresql, "postgres")
    with pytest.raises(ConfigError, match="does not exist; create it first: CREATE ROLE"):
        grant_work(used_postgresql, f"nobody {uuid4().hex}")
    with pytest.raises(ConfigError, match=r"may write to .* already"):
        grant_read(used_postgresql, ROLE)


def test_a_role_that_an_earlier_release_granted_work_goes_on_after_an_upgrade(postgresql: Any) -> None:
    url: str = postgresql.fresh_database()
    role = f'An "earlier" role {uuid4().hex[:8]}'
    engine = connect(url, timeout=20)
    with writing(engine) as connection:
        command.upgrade(configured(connection), "0011")
    engine.dispose()
    rights = ("SELECT, INSERT, UPDATE, DELETE ON {} TABLES", "USAGE ON {} SEQUENCES")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner:
        name = sql.Identifier(role)
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        owner.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(name))
        for right in rights:
            every = sql.SQL(right.format("ALL") + " IN SCHEMA public TO {}").format(name)  # type: ignore[arg-type]
            owner.execute(sql.SQL("GRANT ") + every)
            later = sql.SQL(right.format("") + " TO {}").format(name)  # type: ignore[arg-type]
            owner.execute(sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ") + later)
    upgrade(url)
    database = open_database(url.replace("://postgres@", f"://{quote(role)}@"), timeout=20)
    store = database.store("meters", "last", lambda: NOW)
    claim = store.claim(0, "me")
    own = int(store.recent(["a"], 1).series_id[0])
    store.commit(turn_of(claim, 3, forecasts=forecasts({"a": own}, START, 2)))
    assert [row["step"] for row in database.reader.query("SELECT step FROM forecasts ORDER BY 1")] == [1, 2, 3]
    assert database.reader.query("SELECT * FROM forecast_accuracy") == []
    settings = Settings(series={"context": 4, "horizon": 3})  # type: ignore[arg-type]
    assert (
        clear_out(database.retention, settings, clock=lambda: NOW, on_stage=lambda _: None).reason == "deleted nothing"
    )
    database.close()


def test_sqlite_has_no_roles(tmp_path: Any) -> None:
    file = tmp_path / "tidecast.db"
    file.write_bytes(upgraded_file())
    with pytest.raises(ConfigError, match="SQLite has no roles"):
        grant_work(f"sqlite:///{file}", "worker")
