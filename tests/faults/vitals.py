"""What a worker uses, sampled from outside: memory, CPU, file descriptors, threads."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import psutil

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Sample:
    """One look at a process: seconds since the first, bytes resident, CPU seconds so far, counts."""

    at: float
    memory: int
    cpu: float
    descriptors: int
    threads: int


class Vitals:
    """Samples a process every `pause` seconds until the context ends or the process does.

    `process` is asked at every sample, because a worker that was started again has another one.
    """

    def __init__(self, process: Callable[[], int], pause: float = 0.5) -> None:
        self.samples: list[Sample] = []
        self._process = process
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def highest_memory(self) -> float:
        """MB."""
        return max(sample.memory for sample in self.samples) / MEGABYTE

    def cpu_share(self) -> float:
        """CPU seconds per second over all samples; a process that was started again begins at 0."""
        used = sum(
            after.cpu - before.cpu if after.cpu >= before.cpu else after.cpu for before, after in pairwise(self.samples)
        )
        return used / (self.samples[-1].at - self.samples[0].at)

    def _run(self) -> None:
        began = time.monotonic()
        while not self._end.wait(self._pause):
            try:
                process = psutil.Process(self._process())
                with process.oneshot():
                    times = process.cpu_times()
                    sample = Sample(
                        time.monotonic() - began,
                        process.memory_info().rss,
                        times.user + times.system,
                        process.num_fds(),
                        process.num_threads(),
                    )
            except psutil.NoSuchProcess:
                continue
            self.samples.append(sample)
