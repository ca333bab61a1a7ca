"""A job in a process of its own: started, listened to, ended. A crash or a full memory there stays there.

The settings travel through the child's standard input, never on its command line or in a file, because they hold
passwords. That pipe stays open, so a child whose parent is gone reads its end and stops too (jobs/__main__.py).
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pydantic import SecretStr

from jobs.clock.outcome import Outcome, Stage, read_line
from pipeline.settings import Settings
from pipeline.settings.secrets import mask
from pipeline.visible import visible_lines

LENGTH = 32_768
"""Characters that are kept."""
CHUNK = 4_096
"""Characters of a line that are read at once."""


class Tail:
    """Keeps the newest LENGTH characters; `secrets` are masked in what it shows."""

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._secrets = tuple(secrets)
        self._chunks: deque[str] = deque()
        self._kept = 0
        self._cut = False

    def add(self, chunk: str) -> None:
        """Append a line, or a part of one."""
        chunk = chunk.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL has no place for it
        self._chunks.append(chunk)
        self._kept += len(chunk)
        while self._kept > LENGTH and len(self._chunks) > 1:
            dropped = self._chunks.popleft()
            self._kept -= len(dropped)
            self._cut = not dropped.endswith("\n")

    def text(self) -> str:
        """Return what was kept, from the beginning of a line if there is one."""
        text = "".join(list(self._chunks))
        if self._cut and "\n" in text[:-1]:
            text = text[text.index("\n") + 1 :]  # half a line might hold half a secret
        return mask(text, self._secrets)

    def last_line(self) -> str | None:
        """Return the last line that says something."""
        return next((line.strip() for line in reversed(self.text().splitlines()) if line.strip()), None)


GRACE = 10.0
"""Seconds between the request to end and the kill."""
REASON = 500
ROOT = Path(__file__).resolve().parents[2]


def write_settings(settings: Settings) -> str:
    """Encode settings in one line, secrets included."""
    return json.dumps(settings.model_dump(), default=_plain)


def read_settings(line: str) -> Settings:
    """Decode `write_settings`; it wins over the environment, which the parent has read already."""
    return Settings(**json.loads(line))


def job_command(job: str) -> list[str]:
    """Build the command line that runs a job as a child; the working folder is not importable (-P)."""
    return [sys.executable, "-P", "-m", "jobs", job]


class Child:
    """One child process, the leader of its own process group; `secrets` never show in its log."""

    def __init__(self, command: Sequence[str], given: str, secrets: Sequence[str] = ()) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        self.stage: Stage | None = None
        self._outcome: Outcome | None = None
        self._said = Tail(secrets)
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._readers = [
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._overhear, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        try:
            self._process.stdin.write(given + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead already; wait() and outcome() will tell

    @property
    def pid(self) -> int:
        """The process id, which is also that of the group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the number of the signal that ended it; None while it runs."""
        return self._process.returncode

    @property
    def log(self) -> str:
        """The end of what it wrote to stderr."""
        return self._said.text()

    def wait(self, seconds: float) -> bool:
        """Wait for the child to end, at most so long; tell whether it has."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, grace: float = GRACE) -> None:
        """Ask the whole group to end, kill what is left of it after `grace` seconds, and close the pipes."""
        if not self.wait(0):
            self._signal(signal.SIGTERM)
            self.wait(grace)
        self._signal(signal.SIGKILL)
        self._process.wait()
        for reader in self._readers:
            reader.join(grace)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                _close(pipe)

    def outcome(self) -> Outcome:
        """Say how an ended child ended: in its own words, else by its exit code and the last line of its stderr."""
        if self._outcome is not None:
            return self._outcome
        code = self._process.returncode
        last = (self._said.last_line() or "it said nothing")[:REASON]
        if code < 0:
            out_of_memory = " (often the system, out of memory)" if code == -signal.SIGKILL else ""
            return Outcome("failed", f"killed by {signal.Signals(-code).name}{out_of_memory}; last words: {last}")
        return Outcome("failed", f"ended with exit code {code} and no outcome; last words: {last}")

    def _listen(self, pipe: IO[str]) -> None:
        for line in pipe:
            match read_line(line):
                case Stage() as stage:
                    self.stage = stage
                case Outcome() as outcome:
                    self._outcome = outcome

    def _overhear(self, pipe: IO[str]) -> None:
        while chunk := pipe.readline(CHUNK):
            self._said.add(chunk)
            sys.stderr.write(visible_lines(chunk))

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # nobody is left


def _close(pipe: IO[str]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what was buffered for a dead child is of no use


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
