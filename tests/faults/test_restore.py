"""The database is restored from an older backup: workers refuse, and once they may go on nothing is published twice."""

import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import WORKERS
from tests.faults.panel import Panel, split
from tests.faults.scale import scaled
from tests.faults.summary import report
from tests.faults.verify import CLIENTS, published_confluent, read_confluent, read_python, verify, wait_for_lag_0
from tests.servers import PostgreSQL

PANEL = Panel(series=12, steps=scaled(160, quick=100))
LONG = 120.0
ACCEPT = "--accept-database-rewind"


class Backup:
    """A copy of a database made while workers use it: SQLite's backup API, or pg_dump and psql."""

    def __init__(self, url: str, folder: Path) -> None:
        self._address = make_url(url)
        self._file = folder / "backup"
        if self._address.drivername.startswith("sqlite"):
            with closing(self._open()) as source, closing(sqlite3.connect(self._file)) as copy:
                source.backup(copy)
        else:
            self._postgresql("pg_dump", "-f", str(self._file), self._name)

    def restore(self) -> None:
        """Put the copy in the place of the database; nobody may have it open."""
        if self._address.drivername.startswith("sqlite"):
            with closing(sqlite3.connect(self._file)) as copy, closing(self._open()) as target:
                copy.backup(target)
            return
        server = {"host": self._address.host, "port": self._address.port, "user": self._address.username}
        with psycopg.connect(**server, dbname="postgres", autocommit=True) as operator:  # type: ignore[arg-type]
            operator.execute(f'DROP DATABASE "{self._name}" WITH (FORCE)'.encode())
            operator.execute(f'CREATE DATABASE "{self._name}"'.encode())
        self._postgresql("psql", "-q", "-v", "ON_ERROR_STOP=1", "-d", self._name, "-f", str(self._file))

    @property
    def _name(self) -> str:
        return str(self._address.database)

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._name, timeout=60)

    def _postgresql(self, program: str, *words: str) -> None:
        binaries = PostgreSQL._binaries()
        assert binaries is not None
        server = ["-h", str(self._address.host), "-p", str(self._address.port), "-U", str(self._address.username)]
        subprocess.run([str(binaries / program), *server, *words], check=True, timeout=LONG, capture_output=True)


def refuse(fleet: Fleet, deployment: Deployment) -> None:
    """Start every worker without leave and see it end with 2 and one line, and nothing stored."""
    before = +Counter(deployment.stored())  # a claim of a partition that had none yet stores a 0
    for worker in WORKERS:
        fleet.start(worker)
    for worker in WORKERS:
        assert fleet.ended(worker, LONG) == 2
        said = [line for line in fleet.text(worker).splitlines() if not line.startswith("{")]
        assert len(said) == 1, said
        assert "was it restored from an older backup?" in said[0]
        assert ACCEPT in said[0]
    assert +Counter(deployment.stored()) == before


@pytest.mark.fault("restore")
@pytest.mark.slow
def test_a_restored_database_is_refused_and_then_filled_again_and_nothing_is_published_twice(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=100")
    sender = Sender(deployment)
    first, second, third, fourth = split(list(PANEL.messages(twice=0.02, poison=40, seed=61)), 4)
    with place.fleet(deployment) as fleet:
        for worker in WORKERS:
            fleet.start(worker)
        sender.send(first)
        taken = lambda: sum(deployment.stored().values())  # noqa: E731
        until(lambda: taken() > len(first) // 2, LONG, lambda: f"half of the first part is stored; {taken()} are")
        backup = Backup(deployment.database, place.folder)
        sender.send(second)
        wait_for_lag_0(deployment)
        assert [fleet.stop(worker) for worker in WORKERS] == [0, 0]
        published = published_confluent(deployment)
        messages = dict(zip(CLIENTS, (read_python, read_confluent), strict=True))
        before = {client: set(read(deployment, deployment.output)) for client, read in messages.items()}

        backup.restore()
        restored = deployment.stored()
        assert all(restored.get(partition, 0) < offset for partition, offset in published.items())
        refuse(fleet, deployment)
        began = time.monotonic()
        for worker in WORKERS:
            fleet.start(worker, ACCEPT)
        until(lambda: taken() > sum(restored.values()), LONG, "the workers store again")
        fleet.kill(WORKERS[0])
        fleet.start(WORKERS[0], ACCEPT)
        sender.send(third)
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        assert [fleet.stop(worker) for worker in WORKERS] == [0, 0]

        for worker in WORKERS:
            fleet.start(worker)
        sender.send(fourth)
        wait_for_lag_0(deployment)
        assert [fleet.stop(worker) for worker in WORKERS] == [0, 0], "once is enough"
    stored_again = {at: range(restored.get(at, 0), offset) for at, offset in published.items()}
    findings = verify(deployment, PANEL, sender, stored_again)
    events = sum(sender.sent.values())
    report("database: restored", place.name, events=events, faults=1, findings=findings, seconds=seconds)
    assert not findings, str(findings)
    for client, read in messages.items():
        assert before[client] <= set(read(deployment, deployment.output)), f"{client}: what was published has changed"
