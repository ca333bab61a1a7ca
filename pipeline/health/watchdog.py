"""A watchdog for calls that may never return: it ends the process, and the next start claims again."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)


def end_process(doing: str, seconds: float) -> None:
    """End this process at once, as a crash would; everything it had begun is undone or finished by the next claim."""
    log.critical(
        "ending this process: %s did not return within %.0f s; a restart goes on where it stopped", doing, seconds
    )
    os._exit(1)


class Watchdog:
    """Watches one call at a time, from a daemon thread.

    `seconds` is how long a guarded call may take; `expire(doing, seconds)` is called once it took longer.
    """

    def __init__(self, seconds: float, expire: Callable[[str, float], None] = end_process) -> None:
        self._seconds = seconds
        self._expire = expire
        self._guarded: tuple[str, float] | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def guard(self, doing: str) -> Iterator[None]:
        """Run the body under the watchdog; guards may nest, the outer one's deadline then counts again."""
        outer, self._guarded = self._guarded, (doing, time.monotonic() + self._seconds)
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        try:
            yield
        finally:
            self._guarded = outer

    def _watch(self) -> None:
        pause = min(1.0, self._seconds / 10)
        while True:
            time.sleep(pause)
            guarded = self._guarded
            if guarded is not None and time.monotonic() > guarded[1]:
                self._expire(guarded[0], self._seconds)
                return
