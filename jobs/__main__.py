"""The child's side of jobs/clock/child.py: `python -m jobs NAME`, settings on standard input, the report on standard
output.

Exit code 0 and an `outcome` line when the job ended, well or not; the exit code of the error otherwise.
"""

import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from jobs.catalog import CATALOG, find_work, training_threads
from jobs.clock.child import read_settings
from jobs.clock.outcome import Outcome, Stage, write_line
from pipeline.commands.opened import now, opened
from pipeline.errors import TidecastError
from pipeline.health.logs import start_logging
from pipeline.settings.secrets import list_secrets


def main(job: str) -> int:
    """Run a job and report."""
    report = _take_stdout()
    _die_first()
    settings = read_settings(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start_logging(list_secrets(settings))
    if CATALOG[job].torch:  # torch takes seconds to import, and most jobs, every five minutes, need none
        from models.fitting.cpu import tune_cpu

        tune_cpu(training_threads(settings))
    try:
        with opened(settings) as database:
            report(find_work(job, settings, database, now)(report))
    except TidecastError as error:
        report(Outcome("failed", str(error)))
        return error.exit_code
    return 0


def _take_stdout() -> Callable[[Stage | Outcome], None]:
    """Keep standard output for the report alone; whatever else is written there goes to standard error."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def report(what: Stage | Outcome) -> None:
        pipe.write(write_line(what) + "\n")
        pipe.flush()

    return report


def _die_first() -> None:
    """Offer this process to the system when memory runs out, before scheduler, scorer and database. Linux only."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _end_with_parent() -> None:
    # The parent never writes after the settings, so a read returns only when it is gone. Not through sys.stdin, whose
    # lock a daemon thread would hold when the interpreter ends.
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
