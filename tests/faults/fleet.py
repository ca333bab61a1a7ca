"""A fleet of real worker processes that can be killed, frozen and started again.

Only processes that the fleet started are ever signalled, through their Popen, which cannot mistake a reused pid.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import processes

START_SECONDS = 120.0
END_SECONDS = 60.0
ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], bool], seconds: float, doing: Callable[[], str] | str, pause: float = 0.1) -> None:
    """Wait until the condition holds; after `seconds` fail with what was being waited for."""
    if not holds_within(condition, seconds, pause):
        raise AssertionError(f"not within {seconds:.0f} s: {doing if isinstance(doing, str) else doing()}")


def holds_within(condition: Callable[[], bool], seconds: float, pause: float = 0.1) -> bool:
    """Wait for a condition for at most `seconds` and tell whether it came to hold."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def tell(settings: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split 'section.key=value' into options of a command line, and passwords for the environment."""
    options, secrets = [], {}
    for text in settings:
        key, _, value = text.partition("=")
        if key.endswith("password"):
            secrets[f"TIDECAST_{key.replace('.', '__').upper()}"] = value
        else:
            options += ["--set", text]
    return options, secrets


@dataclass
class Member:
    """One life of one worker: its process, and where it writes its log."""

    process: subprocess.Popen[bytes]
    log: Path
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class End:
    """A worker that ended by itself: its exit code, the last line of its log, and when, on the monotonic clock."""

    name: str
    code: int
    said: str
    at: float


class Fleet:
    """Workers by instance name, all with the same settings; use it as a context, which ends every one of them."""

    def __init__(self, sets: Sequence[str], folder: Path) -> None:
        self._sets = sets
        self._folder = folder
        self._members: dict[str, Member] = {}
        self._lives = 0
        self.environment: dict[str, str] = {}
        """What workers that start from now on find in their environment besides our own."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self._members:
            self.kill(name)
        if error is not None:
            error.add_note(self.describe())

    def start(self, name: str, *options: str, faults: str = "") -> None:
        """Start a worker (again) under an instance name; `options` follow `stream` on its command line.

        With `faults` it is tests.faults.worker, which sends itself signals at named points.
        """
        assert name not in self._members or self._members[name].process.poll() is not None, f"{name} still runs"
        self._lives += 1
        log = self._folder / f"{self._lives:03d}-{name}.log"
        sets, secrets = tell([*self._sets, f"kafka.instance={name}"])
        module = ["tests.faults.worker", faults, *sets] if faults else ["pipeline.cli", *sets, "stream", *options]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TIDECAST_")}
        with log.open("wb") as output:
            process = processes.Popen(
                [sys.executable, "-m", *module],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._folder,
                env=environment | secrets | self.environment | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
            )
        self._members[name] = Member(process, log, options)

    @contextmanager
    def supervised(self) -> Iterator[list[End]]:
        """Start workers that end by themselves again, as an init system would, and yield the list of these ends."""
        ends: list[End] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(1.0):
                for name, member in list(self._members.items()):
                    code = member.process.poll()
                    if code is not None:
                        lines = self.text(name).splitlines()
                        ends.append(End(name, code, lines[-1] if lines else "", time.monotonic()))
                        self.start(name, *member.options)

        thread = threading.Thread(target=look, name="supervisor", daemon=True)
        thread.start()
        try:
            yield ends
        finally:
            over.set()
            thread.join()

    def pid(self, name: str) -> int:
        return self._members[name].process.pid

    def kill(self, name: str) -> None:
        """kill -9, frozen or not, and wait for the end."""
        process = self._members[name].process
        process.kill()
        process.wait(END_SECONDS)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it keeps its connections and its state, and does nothing."""
        self._members[name].process.send_signal(signal.SIGSTOP)

    def is_frozen(self, name: str) -> bool:
        stat = Path(f"/proc/{self._members[name].process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def thaw(self, name: str) -> None:
        """SIGCONT."""
        self._members[name].process.send_signal(signal.SIGCONT)

    def stop(self, name: str) -> int:
        """SIGTERM once it has said a word, before which Python has not come to catch it; return the exit code."""
        until(lambda: bool(self.text(name)) or not self.runs(name), START_SECONDS, f"{name} says a word")
        self._members[name].process.terminate()
        return self.ended(name)

    def ended(self, name: str, seconds: float = END_SECONDS) -> int:
        """Wait for a worker to end by itself and return its exit code."""
        return self._members[name].process.wait(seconds)

    def runs(self, name: str) -> bool:
        return self._members[name].process.poll() is None

    def text(self, name: str) -> str:
        """What a worker has written in its present life."""
        return self._members[name].log.read_text(errors="replace")

    def events(self, name: str, event: str | None = None) -> list[dict[str, Any]]:
        """The log events of a worker's present life, all or those of one name."""
        found = []
        for line in self.text(name).splitlines():
            if line.startswith("{") and line.endswith("}"):
                fields: dict[str, Any] = json.loads(line)
                if event in (None, fields["event"]):
                    found.append(fields)
        return found

    def describe(self) -> str:
        """The last lines of everybody's log, for a failure."""
        parts = []
        for name, member in self._members.items():
            lines = self.text(name).splitlines()[-15:]
            parts.append("\n".join([f"--- {name}, code {member.process.poll()}, {member.log}", *lines]))
        return "\n".join(parts)
