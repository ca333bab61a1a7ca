"""A training that asks for more memory than there is, under the system's own limit: a control group of this test's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from pipeline.commands.opened import now
from pipeline.database import Database, open_database, upgrade
from tests.integration.test_jobs import LEASED, ROOT, TINY, observe, ran, wait_until
from tests.integration.test_scheduler import holder

MIB = 1 << 20
ROOM = 800 * MIB
"""What the training may take beside the scheduler, enough for a small one, of which torch is the most."""


class Group:
    """A control group for memory, of either version."""

    def __init__(self) -> None:
        first = Path("/sys/fs/cgroup/memory")
        self._old = first.is_dir()
        self.path = (first if self._old else Path("/sys/fs/cgroup")) / f"tidecast-{uuid4().hex[:8]}"
        try:
            self.path.mkdir()
        except OSError as error:
            pytest.skip(f"no control group of our own can be made here ({error}); it needs root and a writable cgroup")
        if not self._old and not (self.path / "memory.max").exists():
            self.path.rmdir()
            pytest.skip("control groups here have no memory controller")

    def used(self) -> int:
        return int((self.path / ("memory.usage_in_bytes" if self._old else "memory.current")).read_text())

    def limit(self, size: int) -> None:
        (self.path / ("memory.limit_in_bytes" if self._old else "memory.max")).write_text(str(size))
        if not self._old and (self.path / "memory.swap.max").exists():
            (self.path / "memory.swap.max").write_text("0")

    def kills(self) -> int:
        """Processes that the system has ended in it for want of memory."""
        lines = (self.path / ("memory.oom_control" if self._old else "memory.events")).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def remove(self) -> None:
        for process in (self.path / "cgroup.procs").read_text().split():
            os.kill(int(process), signal.SIGKILL)
        wait_until(lambda: not (self.path / "cgroup.procs").read_text())
        self.path.rmdir()


@pytest.fixture
def group() -> Iterator[Group]:
    made = Group()
    yield made
    made.remove()


@contextmanager
def inside(group: Group, tmp_path: Path, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run tidecast in a control group from its first instruction on."""
    join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    options = ["--config", str(tmp_path / "tidecast.toml")]
    command = ["sh", "-c", join, str(group.path), sys.executable, "-c", LEASED.format(1.0), *options, *arguments]
    with (
        (tmp_path / f"{arguments[0]}.log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_out_of_memory_in_training_ends_the_training_alone(group: Group, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    upgrade(url)
    with closing(open_database(url, timeout=30)) as database:
        run_out(database, url, group, tmp_path)


def run_out(database: Database, url: str, group: Group, tmp_path: Path) -> None:
    def write(batch: int) -> None:
        text = TINY.format(url=url, steps=60).replace("batch = 32", f"batch = {batch}")
        (tmp_path / "tidecast.toml").write_text(text.replace('retrain = "0 0 1 1 *"', 'retrain = "off"'))

    write(batch=32)
    observe(database)
    assert ran(tmp_path, "job", "run", "retrain")[0] == 0
    champion, artifact = database.registry.champion(), database.registry.artifact(1)

    write(batch=2_000_000)
    with inside(group, tmp_path, "schedule") as scheduler:
        wait_until(lambda: holder(database))
        group.limit(group.used() + ROOM)
        database.ledger.request("retrain", "to run out of memory", now())
        wait_until(lambda: len(database.ledger.runs()) == 2 and database.ledger.runs()[0].finished_at)
        assert group.kills() >= 1, database.ledger.runs()[0]
        assert scheduler.poll() is None, (tmp_path / "schedule.log").read_text()[-2000:]
    ended = database.ledger.runs()[0]
    assert (ended.outcome, ended.exit_code) == ("failed", -signal.SIGKILL)
    assert "out of memory" in (ended.reason or "")
    assert (database.registry.champion(), database.registry.artifact(1)) == (champion, artifact)
    assert [model.version for model in database.registry.models()] == [1, 0]

    write(batch=32)
    with inside(group, tmp_path, "schedule"):
        database.ledger.request("retrain", "with what there is", now())
        wait_until(lambda: len(database.ledger.runs()) == 3 and database.ledger.runs()[0].finished_at)
    assert (database.ledger.runs()[0].reason or "").startswith("version 2 ")
