"""Logs and measurements of a long-running role."""

import logging
import sys
import time
import traceback
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType

import structlog
from structlog.typing import Processor

from pipeline.settings.secrets import Masking, mask
from pipeline.visible import Escaping, visible_lines

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds, in seconds, of the classes in which durations are counted; the last class has none."""


@dataclass(slots=True)
class Durations:
    """How often something took how long: `counts` by the classes of BOUNDS, and the sum of all in seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    sum: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


@dataclass(slots=True)
class Phases:
    """Seconds spent in each phase of the turns so far: wall time, CPU time of this thread, and how often how long."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    durations: dict[str, Durations] = field(default_factory=dict)

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the body's time to a phase."""
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            seconds = time.perf_counter() - wall
            self.wall[phase] = self.wall.get(phase, 0.0) + seconds
            self.cpu[phase] = self.cpu.get(phase, 0.0) + time.thread_time() - cpu
            self.durations.setdefault(phase, Durations()).add(seconds)


def start_logging(secrets: Sequence[str] = (), *, verbose: bool = False) -> None:
    """Send log events to stderr: lines for a person on a terminal, JSON elsewhere; libraries only when they warn.

    `secrets` are masked in every event, in what libraries log, and in the traceback of an error that nobody caught.
    """
    terminal = sys.stderr.isatty()
    last: list[Processor] = console() if terminal else [structlog.processors.JSONRenderer()]
    events: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    masking = Masking(secrets)
    structlog.configure(
        processors=[*events, masking, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *events],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, masking, *last],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("kafka").setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    sys.excepthook = _mask_traceback(secrets)


def console() -> list[Processor]:
    """Return the last processors of a log on a terminal, where texts from outside must not act."""
    return [Escaping(), structlog.dev.ConsoleRenderer()]


def _mask_traceback(
    secrets: Sequence[str],
) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    def write(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.stderr.write(visible_lines(mask("".join(traceback.format_exception(kind, error, trace)), secrets)))

    return write
