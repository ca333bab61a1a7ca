"""docs/reference/views.md lists the columns that both databases have, with the types of PostgreSQL."""

from pathlib import Path

import pytest

from tests.integration.conftest import PostgreSQLAddress
from tests.reference import pages, views


@pytest.fixture
def columns(postgresql: PostgreSQLAddress) -> views.Columns:
    return views.read_columns(postgresql.fresh_database())


def test_the_page_says_what_a_migrated_database_has(columns: views.Columns) -> None:
    found = pages.difference(pages.VIEWS, views.write(columns))
    assert not found, found


def test_sqlite_has_the_same_columns_in_the_same_order(columns: views.Columns, tmp_path: Path) -> None:
    sqlite = views.read_columns(f"sqlite:///{tmp_path / 'tidecast.db'}")
    assert {name: [column for column, _ in each] for name, each in sqlite.items()} == {
        name: [column for column, _ in each] for name, each in columns.items()
    }
