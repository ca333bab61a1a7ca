"""Child processes that are kept running: started again when they end, ended together, also when this one is killed."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from pipeline.errors import ConfigError
from pipeline.health.lifeline import Lifeline

log = structlog.get_logger()
GRACE = 20.0  # seconds that a child has to end after SIGTERM
SETTLED = 60.0  # seconds after which a child counts as having run well
WRONG_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Role:
    """A child to keep running: its name in the log, and its command line."""

    name: str
    command: Sequence[str]


class Supervisor:
    """Runs roles; one that ends is started again after a pause that doubles from one second to half a minute."""

    def __init__(self, roles: Sequence[Role]) -> None:
        self._roles = roles
        self._lifeline = Lifeline()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._failures = dict.fromkeys((role.name for role in roles), 0)
        self._started_at = dict.fromkeys((role.name for role in roles), 0.0)
        self._start_at = dict.fromkeys((role.name for role in roles), 0.0)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Keep the roles running until `stopping()`, then end them all.

        Raises ConfigError when a role says that its settings cannot work, because starting it again would not help.
        """
        try:
            while not stopping():
                for role in self._roles:
                    self._keep(role)
                time.sleep(0.2)
        finally:
            self.stop()
            self._lifeline.close()

    def stop(self) -> None:
        """Ask every child to end, and kill those that do not."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + GRACE
        for name, process in self._running.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("killing a child that does not end", role=name, pid=process.pid)
                process.kill()
                process.wait()
        self._running.clear()

    def _keep(self, role: Role) -> None:
        process = self._running.get(role.name)
        if process is None:
            if time.monotonic() >= self._start_at[role.name]:
                self._running[role.name] = subprocess.Popen(role.command, **self._lifeline.options())
                self._started_at[role.name] = time.monotonic()
                log.info("started", role=role.name, pid=self._running[role.name].pid)
            return
        code = process.poll()
        if code is None:
            return
        del self._running[role.name]
        if code == WRONG_SETTINGS:
            raise ConfigError(f"{role.name} cannot run with these settings; its line above says why")
        if time.monotonic() - self._started_at[role.name] > SETTLED:
            self._failures[role.name] = 0
        pause = min(30.0, 2.0 ** min(self._failures[role.name], 5))
        self._failures[role.name] += 1
        self._start_at[role.name] = time.monotonic() + pause
        log.warning("child ended; starting it again", role=role.name, code=code, seconds=pause)
