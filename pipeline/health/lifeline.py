"""A child that ends when its parent is gone, however that ended: also by kill -9, and on every system.

The parent keeps the writing end of a pipe that nobody writes to, and its children read: the end of the file is the
parent's. The kernel's own signal for it (PR_SET_PDEATHSIG) is Linux', comes when the *thread* that started the child
ends, and is missed by a child whose parent is gone before it asks.
"""

import os
import signal
import stat
import threading
import time
from contextlib import suppress
from typing import Any

VARIABLE = "TIDECAST_LIFELINE"
"""The environment variable that tells a child the number of its end of the pipe."""
GRACE = 15.0
"""Seconds that a child has to end as by SIGTERM once its parent is gone."""


class Lifeline:
    """The parent's end, for any number of children; it is cut when the parent is gone, or by `close`."""

    def __init__(self) -> None:
        self._reading, self._held = os.pipe()

    def options(self) -> dict[str, Any]:
        """Return the options of subprocess.Popen that give a child its end."""
        return {"pass_fds": (self._reading,), "env": {**os.environ, VARIABLE: str(self._reading)}}

    def close(self) -> None:
        """Close the pipe; a child that still runs ends."""
        for end in (self._reading, self._held):
            os.close(end)


def hold() -> None:
    """Watch the lifeline from a thread if this process was given one: 1 end as by SIGTERM, 2 after GRACE at once."""
    number = os.environ.pop(VARIABLE, None)  # not for the children of this process
    with suppress(ValueError, OverflowError, OSError):
        if number is not None and stat.S_ISFIFO(os.fstat(int(number)).st_mode):
            os.set_inheritable(int(number), False)
            threading.Thread(target=_end_with_parent, args=(int(number),), name="lifeline", daemon=True).start()


def _end_with_parent(reading: int) -> None:
    while os.read(reading, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
