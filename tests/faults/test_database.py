"""The database crashes, goes away, ends sessions, freezes, or its reply to COMMIT is lost: all is there once."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest
from sqlalchemy import make_url

from tests.faults.conftest import OwnPlace
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.proxy import LostReplies, PostgresCommits
from tests.faults.scale import scaled
from tests.faults.vitals import Vitals

PANEL = Panel(series=30, steps=scaled(400))  # 12,000 events
LARGE = Panel(series=30, steps=scaled(400), padding=8_000)  # some 100 MB of messages
MORE_MEMORY = 120.0  # MB that a worker may use more while a backlog of any size waits: what is fetched at once
MOST_CPU = 0.3  # of a core, while there is nothing to do but to try again
AWAY_SECONDS = 60.0
on_postgresql = pytest.mark.parametrize("own_place", ["Apache Kafka, PostgreSQL"], indirect=True)


@pytest.mark.fault("database-killed")
@pytest.mark.heavy
@on_postgresql
def test_nothing_is_lost_or_doubled_when_the_database_crashes_again_and_again(own_place: OwnPlace) -> None:
    assert own_place.postgresql is not None
    server = own_place.postgresql
    crashes = scaled(5, by=2)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=31))
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100")

    def strike(_: Fleet) -> int:
        for _ in range(crashes):
            time.sleep(4.0)
            server.crash()
            server.recover()
        return crashes

    Ordeal("database: kill -9", own_place, deployment, PANEL, messages, 6.0 * crashes).endure(strike)


@contextmanager
def away(place: OwnPlace) -> Iterator[None]:
    """Stop the server; SQLite has none, so another process keeps the one lock that a writer needs."""
    if place.postgresql is not None:
        place.postgresql.kill()
        yield
        place.postgresql.start()
        return
    with closing(sqlite3.connect(str(make_url(place.database).database), isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.mark.fault("database-away")
@pytest.mark.heavy
def test_a_worker_outwaits_a_database_that_is_away_with_little_memory_and_cpu(own_place: OwnPlace) -> None:
    messages = list(LARGE.messages(twice=0.02, seed=32))
    deployment = own_place.deploy(*LARGE.settings, "kafka.max_messages=500")
    measured: dict[str, float] = {}

    def strike(fleet: Fleet) -> int:
        with Vitals(lambda: fleet.pid(WORKERS[0])) as before:
            time.sleep(6.0)
        with away(own_place), Vitals(lambda: fleet.pid(WORKERS[0])) as during:
            time.sleep(AWAY_SECONDS)
        measured["memory_before_mb"] = before.highest_memory()
        measured["memory_mb"] = during.highest_memory()
        measured["cpu_share"] = during.cpu_share()
        return 1

    fault = "database: away 60 s" if own_place.postgresql else "database: locked 60 s"
    ended = Ordeal(fault, own_place, deployment, LARGE, messages, 40.0, measured).endure(strike)
    assert ended == []
    assert measured["memory_mb"] < measured["memory_before_mb"] + MORE_MEMORY
    assert measured["cpu_share"] < MOST_CPU


@pytest.mark.fault("database-terminated")
@pytest.mark.heavy
@on_postgresql
def test_nothing_is_lost_or_doubled_when_sessions_are_terminated(own_place: OwnPlace) -> None:
    terminations = scaled(20)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=33))
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=50")

    def strike(_: Fleet) -> int:
        count = 0
        with operator(own_place) as connection:
            for _ in range(terminations):
                time.sleep(1.5)
                query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidecast'"
                count += len(connection.execute(query).fetchall())
        return count

    ended = Ordeal("database: sessions ended", own_place, deployment, PANEL, messages, 1.5 * terminations).endure(
        strike
    )
    assert ended == []


@pytest.mark.fault("database-frozen")
@pytest.mark.heavy
@on_postgresql
def test_a_worker_whose_database_session_freezes_ends_with_a_reason_and_its_restart_recovers(
    own_place: OwnPlace,
) -> None:
    """A frozen server still acknowledges, so nothing times out; the watchdog of 4 x timeout ends the worker."""
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=34))
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100", "database.timeout=4")

    def strike(fleet: Fleet) -> int:
        time.sleep(3.0)
        lives = [fleet.pid(worker) for worker in WORKERS]
        with operator(own_place) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'tidecast'"
            sessions = [pid for (pid,) in connection.execute(query).fetchall()]
        for pid in sessions:
            os.kill(pid, signal.SIGSTOP)
        try:
            ended = lambda: all(fleet.pid(worker) not in lives for worker in WORKERS)  # noqa: E731
            until(ended, 60.0, "every worker with a frozen session ends and is started again")
        finally:
            for pid in sessions:
                os.kill(pid, signal.SIGCONT)
        return len(sessions)

    ended = Ordeal("database: sessions frozen", own_place, deployment, PANEL, messages, 20.0).endure(strike)
    assert all(
        any(end.name == worker and "did not return within 16 s" in end.said for end in ended) for worker in WORKERS
    )


@pytest.mark.fault("database-reply-lost")
@pytest.mark.heavy
@on_postgresql
def test_nothing_is_lost_or_doubled_when_the_reply_to_a_commit_is_lost(own_place: OwnPlace) -> None:
    """Claims and turns alike: the server has committed, and the worker is told that its connection is gone."""
    assert own_place.database_network is not None
    replies = LostReplies(7, PostgresCommits)
    own_place.database_network.conversation = replies.conversation
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=35))
    deployment = own_place.deploy_far(*PANEL.settings, "kafka.max_messages=50")

    def strike(_: Fleet) -> int:
        time.sleep(30.0)
        replies.every = 0
        return replies.lost

    ended = Ordeal("database: reply to COMMIT lost", own_place, deployment, PANEL, messages, 30.0).endure(strike)
    assert replies.lost >= 3
    assert ended == []


@contextmanager
def operator(place: OwnPlace) -> Iterator[psycopg.Connection]:
    """A session of an operator, on the same server."""
    assert place.postgresql is not None
    address = {"host": "127.0.0.1", "port": place.postgresql.port, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**address, autocommit=True) as connection:
        yield connection
