"""The heartbeat of a long-running role: when its loop last turned, and when what it depends on last answered.

The role's own threads write single values and a telemetry thread reads them: no lock, so neither can hold the other up.
"""

import time
from collections.abc import Callable, Sequence

LATELY = 30.0
"""Seconds within which a loop turns and a service answers in a role that is ready, unless its settings are slower."""


class Heartbeat:
    """Monotonic seconds, read by `seconds`; `services` are what the role needs to be ready."""

    def __init__(self, services: Sequence[str], seconds: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self.turned_at = self._began_at = seconds()
        self._answered_at: dict[str, float | None] = dict.fromkeys(services)

    def beat(self) -> None:
        """Note that the loop turns, or has ended a part of its turn."""
        self.turned_at = self.seconds()

    def answered(self, service: str, at: float | None = None) -> None:
        """Note that a service answered, now or `at` a second before."""
        self._answered_at[service] = self.seconds() if at is None else at

    def find_silences(self, lately: float) -> list[str]:
        """Say what has been silent for longer than `lately`: the loop, and each service."""
        now = self.seconds()
        silent = []
        if now - self.turned_at > lately:
            silent.append(f"the loop has not turned for {now - self.turned_at:.0f} s")
        for service, answered_at in self._answered_at.items():
            if answered_at is None:
                silent.append(f"the {service} has not answered yet, for {now - self._began_at:.0f} s")
            elif now - answered_at > lately:
                silent.append(f"the {service} has not answered for {now - answered_at:.0f} s")
        return silent

    def find_stop(self, patience: float) -> list[str]:
        """Say that the loop has stood still for longer than `patience`, which no call in it may take."""
        still = self.seconds() - self.turned_at
        return [f"the loop has not turned for {still:.0f} s"] if still > patience else []
