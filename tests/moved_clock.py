"""The wall clock of a process, set by an hour while it runs; see moved_clock.c."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests import servers

SOURCE = Path(__file__).with_suffix(".c")


class MovedClock:
    """The clock of every process that is started with `environment`; `move(3600)` sets it an hour ahead of ours."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            reason = "a clock is moved by a few lines of C, and there is no compiler (apt-get install gcc libc6-dev)"
            pytest.fail(reason) if servers.required() else pytest.skip(reason)
        library = folder / "moved_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", library, SOURCE], check=True)
        self._shift = folder / "moved_clock.shift"
        self._shift.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self._shift)}

    def move(self, seconds: int) -> None:
        """Set the clock to ours and so many seconds, while processes read it."""
        with self._shift.open("r+b", buffering=0) as file:
            file.write(struct.pack("=q", seconds))  # eight aligned bytes in one write: nobody reads a half of them
