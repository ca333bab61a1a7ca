"""The disk of the database is full: workers say so and wait, store nothing by halves, and go on when there is room."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.scale import scaled
from tests.servers import PostgreSQL

PANEL = Panel(series=12, steps=scaled(200, quick=120))
SIZE = 200 << 20  # bytes of the disk, in memory as they are written
SECONDS = 16.0
LONG = 120.0
FULL = ("database or disk is full", "No space left on device", "disk I/O error")


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a small disk in memory; skip where that is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="tidecast-disk-"))
    folder.chmod(0o755)
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tidecast", str(folder)]
        try:
            done = subprocess.run(mount, capture_output=True, text=True, timeout=30, check=False)
        except FileNotFoundError:
            pytest.skip("there is no mount")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], timeout=30, check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database_on(disk: Path, place: Place) -> Iterator[str]:
    """Yield the address of an empty database whose rows are on that disk.

    Its PostgreSQL is its own: what a server could not write before the disk went away, it tries to write for ever.
    """
    if place.database.startswith("sqlite"):
        yield f"sqlite:///{disk}/tidecast.db"
        return
    folder = disk / "data"
    folder.mkdir()
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    with PostgreSQL() as server:
        here = {"host": "127.0.0.1", "port": server.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**here, autocommit=True) as operator:  # type: ignore[arg-type]
            operator.execute(f"CREATE TABLESPACE small LOCATION '{folder}'".encode())
            operator.execute(b"CREATE DATABASE small TABLESPACE small")
        yield server.url("small")


def fill(disk: Path) -> Path:
    """Write until nothing more fits."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for block in (1 << 20, 1 << 12):
            try:
                while file.write(b"\0" * block) == block:
                    pass
            except OSError:
                continue
    assert os.statvfs(disk).f_bavail == 0
    return ballast


def refused(fleet: Fleet, worker: str) -> int:
    """How often a worker has dropped its claims because of the disk."""
    reasons = [event["reason"] for event in fleet.events(worker, "claiming again")]
    return sum(any(words in reason for words in FULL) for reason in reasons)


@contextmanager
def opened(deployment: Deployment) -> Iterator[Connection]:
    engine = deployment.engine()
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM observations"))
        connection.rollback()  # or it would see nothing of what comes
        yield connection
    engine.dispose()


def judge_halves(connection: Connection) -> None:
    """Every offset below S is an event of an observation or a dead letter, and nothing above S is anything."""
    query = (
        "SELECT (SELECT coalesce(sum(next_offset), 0) FROM ingest_state),"
        " (SELECT coalesce(sum(events), 0) FROM observations) + (SELECT count(*) FROM dead_letters),"
        " (SELECT count(*) FROM forecasts), (SELECT count(*) FROM observations)"
    )
    offsets, stored, forecasts, observations = connection.execute(text(query)).one()
    assert offsets == stored
    assert forecasts == observations * PANEL.horizon


@pytest.mark.fault("disk-full")
@pytest.mark.slow
def test_workers_wait_loudly_for_room_on_the_disk_and_nothing_is_lost_or_doubled(place: Place) -> None:
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=71))
    fills = scaled(2, quick=1)
    with small_disk() as disk, database_on(disk, place) as database:
        here = replace(place, database=database)
        deployment = here.deploy(*PANEL.settings, "kafka.max_messages=100")

        def strike(fleet: Fleet) -> int:
            for number in range(1, fills + 1):
                time.sleep(2.0)
                before = {worker: refused(fleet, worker) for worker in WORKERS}
                with opened(deployment) as connection:  # with a full disk PostgreSQL may refuse a new one
                    ballast = fill(disk)
                    said = lambda: all(refused(fleet, worker) > before[worker] + 1 for worker in WORKERS)  # noqa: B023, E731
                    until(said, LONG, f"every worker says twice that the disk is full, for the {number}. time")
                    judge_halves(connection)
                ballast.unlink()
                stored = deployment.stored()
                until(lambda: deployment.stored() != stored, LONG, "the workers go on")  # noqa: B023
            return fills

        ended = Ordeal("database: disk full", here, deployment, PANEL, messages, SECONDS * fills).endure(strike)
        assert ended == []
