"""The demo's directory: its settings, its files, and the services that run in it."""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ConfigError, Unavailable
from pipeline.health.lifeline import Lifeline

MARKER = ".tidecast-demo"
SETTINGS, DATABASE, LOG, CHART = "tidecast.toml", "tidecast.db", "worker.log", "forecasts.png"
PAGE_LOG = "page.log"
OURS = frozenset({MARKER, SETTINGS, DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", LOG, PAGE_LOG, CHART})
END_SECONDS = 15.0

# Everything in which the demo differs from the defaults: its own group and database, and a training of two networks
# that takes one laptop core about a minute, chosen on origins before the last 49 hours, never on the hours shown.
OVERRIDES = """\
[kafka]
bootstrap_servers = "{bootstrap_servers}"
group = "tidecast-demo"
partitions = 2
session_timeout = "10s"

[database]
url = "sqlite:///{database}"

[series]
frequency = "1h"
context = 336
horizon = 48

[training]
steps = 1200
warm_steps = 60
patience = 8
refit = 0
batch = 64
learning_rate = 0.004
threads = 1
budget = "60s"
"""


@contextmanager
def prepared(directory: Path) -> Iterator[None]:
    """Make the directory, or empty the one that an earlier demo made; hold it until the end of the block.

    Raises ConfigError rather than delete anything that a demo did not create.
    """
    marker = directory / MARKER
    found = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory} is a file; choose another place with --directory")
    if found and MARKER not in found:
        raise ConfigError(f"{directory} was not made by tidecast demo; choose another place with --directory")
    if foreign := [name for name in found if name not in OURS]:
        raise ConfigError(f"{directory} holds {foreign[0]}, which the demo did not create; move it or use --directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = marker.open("a")
    except OSError as error:
        raise ConfigError(f"{directory} cannot be written ({error.strerror}); use --directory") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another demo runs in {directory}; end it or use --directory") from error
        for name in OURS - {MARKER}:
            (directory / name).unlink(missing_ok=True)
        yield


def write_settings(directory: Path, bootstrap_servers: str) -> Path:
    """Write the demo's tidecast.toml, for its worker and for the user's own commands."""
    file = directory / SETTINGS
    database = (directory / DATABASE).absolute()
    file.write_text(OVERRIDES.format(bootstrap_servers=bootstrap_servers, database=database), encoding="utf-8")
    return file


class Service:
    """A command as a child process with its own session, so that Ctrl-C reaches only the demo; it ends with that."""

    def __init__(self, directory: Path, arguments: Sequence[str], command: str = "stream", log_name: str = LOG) -> None:
        self._name = "worker" if command == "stream" else command
        self._log = directory / log_name
        self._lifeline = Lifeline()
        given = self._lifeline.options()
        given["env"]["PYTHONUNBUFFERED"] = "1"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.cli", *arguments, command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **given,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise Unavailable, with the last line that it logged, when it has ended."""
        code = self._process.poll()
        if code is not None:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = lines[-1] if lines else "it logged nothing"
            raise Unavailable(f"the {self._name} ended with exit code {code}: {last} (all of it is in {self._log})")

    def said(self, *words: str) -> bool:
        """Tell whether it has logged a line that has all of some words."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return any(all(each in line for each in words) for line in lines)

    def end(self) -> None:
        """Ask it to end, and end it after END_SECONDS."""
        deadline = time.monotonic() + END_SECONDS
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._lifeline.close()
