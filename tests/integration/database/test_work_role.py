"""A role that was granted work does all of it, over the contracts and the jobs' own tests, and owns nothing."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors, sql

from pipeline.database import Database, SqlStore
from pipeline.database.schema.grants import KEPT, grant_read, grant_work
from pipeline.database.schema.tables import metadata
from pipeline.errors import ConfigError
from pipeline.settings import Policy
from tests.contracts.covariates import CovariateContract
from tests.contracts.ledger import LedgerContract
from tests.contracts.registry import RegistryContract
from tests.contracts.rows import NOW, OpenStore
from tests.contracts.store import StoreContract
from tests.integration.database.conftest import empty
from tests.integration.database.test_calibrations import *  # noqa: F403  once more, as this role
from tests.integration.database.test_evaluations import *  # noqa: F403
from tests.integration.database.test_retention import *  # noqa: F403
from tests.integration.database.test_shadow import *  # noqa: F403
from tests.integration.test_shadow_period import *  # noqa: F403

ROLE = "Worker 100%"


@pytest.fixture(scope="module")
def owned(used_postgresql: str) -> str:
    with psycopg.connect(used_postgresql.replace("+psycopg", ""), autocommit=True) as owner:
        if not owner.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
            owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
    grant_work(used_postgresql, ROLE)
    return used_postgresql


@pytest.fixture
def url(owned: str) -> str:
    """The address of an upgraded and empty database, for the role."""
    empty(owned)
    return owned.replace("://postgres@", "://Worker%20100%25@")


@pytest.fixture
def worker(owned: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(owned.replace("+psycopg", ""), user=ROLE, autocommit=True) as connection:
        yield connection


class TestSqlStore(StoreContract):
    """As the role."""


class TestCovariates(CovariateContract):
    """As the role."""

    @pytest.fixture
    def open_store(self, database: Database) -> OpenStore:
        def opened(policy: Policy, covariates: Sequence[str]) -> SqlStore:
            return database.store("meters", policy, lambda: NOW, covariates)

        return opened


class TestRegistry(RegistryContract):
    """As the role."""


class TestLedger(LedgerContract):
    """As the role."""


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


def test_granting_again_narrows_what_a_later_release_made(owned: str, worker: psycopg.Connection[Any]) -> None:
    with psycopg.connect(owned.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("CREATE TABLE later (id serial PRIMARY KEY)")
        try:
            worker.execute("INSERT INTO later DEFAULT VALUES")
            assert worker.execute("DELETE FROM later RETURNING id").fetchall() == [(1,)]
        finally:
            owner.execute("DROP TABLE later")
        owner.execute(sql.SQL("GRANT ALL ON backtests TO {}").format(sql.Identifier(ROLE)))
    grant_work(owned, ROLE)
    with pytest.raises(errors.InsufficientPrivilege):
        worker.execute("DELETE FROM backtests")


def test_who_owns_the_tables_is_refused_and_who_works_does_not_only_read(owned: str) -> None:
    with pytest.raises(ConfigError, match=r"role postgres owns .*: grant a role that is neither"):
        grant_work(owned, "postgres")
    with pytest.raises(ConfigError, match="does not exist; create it first: CREATE ROLE"):
        grant_work(owned, f"nobody {uuid4().hex}")
    with pytest.raises(ConfigError, match=r"may write to .* already"):
        grant_read(owned, ROLE)


def test_sqlite_has_no_roles(tmp_path: Any, sqlite_template: Any) -> None:
    with pytest.raises(ConfigError, match="SQLite has no roles"):
        grant_work(f"sqlite:///{sqlite_template}", "worker")
