"""What a child of `python -m tests.bench forecasters` does around its library: read the job, count, answer.

The peers' scripts import it from their own folder and in their own environment, so it imports nothing of ours.
"""

import csv
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Job:
    """What to train and where to write. `steps` replaces the documented number of steps; None keeps it.

    `seconds` caps the training of a peer, by the library's own means. `sets` are settings, for tidecast only.
    """

    data: str
    model: str
    horizon: int
    levels: Sequence[float]
    threads: int
    seed: int
    out: str
    steps: int | None
    seconds: float
    sets: Sequence[str]

    @property
    def max_time(self) -> timedelta:
        """The cap as Lightning's Trainer takes it."""
        return timedelta(seconds=self.seconds)


def read_job() -> Job:
    """Read the job from the command line, and give torch its threads."""
    job = Job(**json.loads(sys.argv[1]))
    torch.set_num_threads(job.threads)
    return job


def read_histories(job: Job) -> list[np.ndarray]:
    """Read the train file, and never the test file: one array of values a series."""
    with (Path(job.data) / "Hourly-train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return [np.array([float(cell) for cell in row[1:] if cell]) for row in rows]


@dataclass
class Watched:
    """How far a training went: optimiser steps, windows in them, steps of an epoch, and whether the cap ended it."""

    steps: int = 0
    windows: int = 0
    epoch_steps: int = 0
    parameters: int = 0
    capped: bool = False


def watch(callback: type, count_windows: Callable[[Any], int]) -> tuple[Any, Watched]:
    """Make a Lightning callback, and what it counts. The count lives outside, since a library may copy the callback."""
    watched = Watched()

    class Watch(callback):  # type: ignore[misc]
        def on_train_batch_end(self, _trainer: Any, _module: Any, _outputs: Any, batch: Any, _index: int) -> None:
            watched.steps += 1
            watched.windows += count_windows(batch)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            watched.parameters = sum(weights.numel() for weights in module.parameters() if weights.requires_grad)
            watched.epoch_steps = trainer.num_training_batches
            timers = [each for each in trainer.callbacks if type(each).__name__ == "Timer"]  # added by max_time
            watched.capped = any(timer.time_remaining("train") <= 0 for timer in timers)

    return Watch(), watched


def describe(job: Job, watched: Watched, documented: str) -> dict[str, Any]:
    """Say how far a training that was watched went, `documented` being how far the library's documents go."""
    stopped = f"all of {documented}"
    if job.steps is not None:
        stopped = f"after {watched.steps} steps, as asked, instead of {documented}"
    if watched.capped:
        stopped = f"at the cap of {job.seconds:g} s, after {watched.steps} steps of {documented}"
    return {
        "steps": watched.steps,
        "windows": watched.windows,
        "parameters": watched.parameters,
        "stopped": stopped,
    }


def answer(job: Job, quantiles: np.ndarray, packages: Sequence[str], facts: dict[str, Any]) -> None:
    """Write quantiles (S, H, Q), and the facts as the last line of stdout."""
    np.save(job.out, quantiles, allow_pickle=False)
    line = facts | {
        "threads": torch.get_num_threads(),
        "peak_mib": peak_memory(),
        "versions": {package: version(package) for package in packages},
    }
    sys.stdout.write("\n" + json.dumps(line) + "\n")


def measure_speed(
    forecast: Callable[[Sequence[np.ndarray]], Any], windows: Sequence[np.ndarray], rounds: int
) -> dict[str, float]:
    """Series a second of all windows at once, and milliseconds of one alone; medians over rounds.

    By the clock, and by the CPU time of this process, which other work on the machine changes less.
    """
    batch, single = [], []
    for number in range(rounds):
        batch.append(_time(forecast, windows))
        single.append(_time(forecast, [windows[number]]))
    (wall, cpu), (single_wall, single_cpu) = (
        map(statistics.median, zip(*each, strict=True)) for each in (batch, single)
    )
    return {
        "series_per_second": len(windows) / wall,
        "series_per_cpu_second": len(windows) / cpu,
        "single_ms": 1e3 * single_wall,
        "single_cpu_ms": 1e3 * single_cpu,
    }


def _time(forecast: Callable[[Sequence[np.ndarray]], Any], windows: Sequence[np.ndarray]) -> tuple[float, float]:
    """Seconds of a forecast: by the clock, and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    forecast(windows)
    return time.perf_counter() - wall, time.process_time() - cpu


def peak_memory() -> float:
    """Peak resident memory of this process in MiB.

    Linux' VmHWM starts at exec; ru_maxrss, elsewhere, may begin at the size of the parent that forked.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
