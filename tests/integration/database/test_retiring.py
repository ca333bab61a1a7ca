"""Two workers that retire one topic at once, on PostgreSQL; on SQLite one writes at a time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from pipeline.database import Database
from pipeline.database.engine import reading, writing
from pipeline.database.turns.retired import retire_topic
from pipeline.database.turns.store import enter_topic
from tests.contracts.rows import NOW

WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_worker_that_retires_a_topic_second_finds_it_done(database: Database) -> None:
    store = database.store("meters", "last", lambda: NOW)
    for partition in range(2):
        store.claim(partition, "one")
        store.identify(partition, "former")
    with ThreadPoolExecutor(1) as thread:
        with writing(database.engine) as connection:
            retire_topic(connection, "meters", "former", "made anew", NOW)
            enter_topic(connection, "meters")
            second = thread.submit(store.retire, "former", "made anew")
            waits = False
            while not waits and not second.done():
                with reading(database.engine) as other:
                    waits = bool(other.execute(WAITING).scalar())
        assert second.result() == "meters@former"
    jumps = database.reader.query("SELECT topic, partition FROM ingest_jumps ORDER BY partition")
    assert [tuple(row.values()) for row in jumps] == [("meters", 0), ("meters", 1)]
