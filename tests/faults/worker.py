"""A worker with faults built in: `python -m tests.faults.worker KILL@after_sql:3,STOP@before_sql:5 --set ...`.

It is `tidecast stream`, but at the third pass of the point after_sql it sends itself SIGKILL; a fault counts passes
from the one before it. The points are those of pipeline.turn and pipeline.claim. DOZE is STOP, but its main thread
sleeps on for some seconds after the process was woken, so that the library's own thread is always first.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

import pipeline.stream.reforecast
from models.fitting.cpu import tune_cpu
from pipeline.app import visible_worker
from pipeline.health.logs import start_logging
from pipeline.settings.sources import load
from pipeline.start import stop_signal

log = structlog.get_logger()
KINDS = ("KILL", "STOP", "DOZE")
DOZE_SECONDS = 4.0
POINTS = (
    "after_poll",
    "before_sql",
    "after_sql",
    "in_publish",
    "after_publish",
    "in_claim_after_sql",
    "in_claim_before_publish",
    "in_claim_after_publish",
)


@dataclass
class Fault:
    """What happens at the `left`-th pass of a point from now on."""

    kind: str
    point: str
    left: int

    def happen(self) -> None:
        number = signal.SIGKILL if self.kind == "KILL" else signal.SIGSTOP
        os.kill(os.getpid(), number)
        if self.kind == "DOZE":
            time.sleep(DOZE_SECONDS)


def read(text: str) -> list[Fault]:
    """Read 'STOP@before_sql:5,KILL@after_sql:3'."""
    faults = []
    for word in text.split(","):
        name, _, place = word.partition("@")
        point, _, count = place.partition(":")
        assert point in POINTS, f"{point} is no point; use one of {POINTS}"
        assert name in KINDS, f"{name} is no fault; use one of {KINDS}"
        faults.append(Fault(name, point, int(count)))
    return faults


def run(faults: Sequence[Fault], sets: Sequence[str]) -> None:
    """Run a worker until SIGTERM or a fault ends it."""
    waiting = list(faults)

    def passed(point: str) -> None:
        if waiting and waiting[0].point == point:
            waiting[0].left -= 1
            if not waiting[0].left:
                fault = waiting.pop(0)
                log.info("fault", point=point, kind=fault.kind)
                fault.happen()

    start_logging()
    tune_cpu(1)
    pipeline.stream.reforecast.MOST_SERIES = 5  # of a turn after a swap: few, so that there are several turns
    stopping = stop_signal()
    with visible_worker(load(None, sets), passed=passed) as worker:
        log.info("worker ready")
        worker.run(stopping)
    log.info("worker stopped", turns=worker.turns)


if __name__ == "__main__":
    run(read(sys.argv[1]), sys.argv[3::2])
