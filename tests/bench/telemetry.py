"""What it costs a turn that a worker tells of itself: CPU seconds of the counting, and of a scrape."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.fitting.cpu import tune_cpu
from pipeline import database as databases
from pipeline.health.logs import Durations
from pipeline.health.probes import Checks, Probes
from pipeline.settings import SeriesSettings
from pipeline.start import clock
from pipeline.stream.worker import Worker
from pipeline.stream.worker_metrics import WorkerCollector
from pipeline.stream.worker_state import WorkerState
from tests.bench.results import Figure, Report, median, say
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.workers import event, worker

COUNTED = ("see", "see_ends", "claim", "store", "commit", "assign", "uncommitted")
MEASURES = 7  # calls of Phases.measure in a turn
SCRAPE_EVERY = 15.0  # seconds, Prometheus' usual
PROTOCOL = (
    "{turns} turns of {messages} messages of {series} series and {partitions} partitions, in memory but for SQLite, "
    "each message one forecast of 48 steps by the fallback; CPU of the worker's thread within the counting (the timing "
    "of it included) / its CPU in those steps; a scrape is the CPU of writing /metrics once; median of {rounds} rounds"
)


class Timed(WorkerState):
    """Counts as WorkerState does, and how much CPU that takes."""

    __slots__ = ("spent",)

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0.0


def _timed(name: str) -> Callable[..., Any]:
    plain = getattr(WorkerState, name)

    def call(self: Timed, *args: Any, **named: Any) -> Any:
        began = time.thread_time()
        result = plain(self, *args, **named)
        self.spent += time.thread_time() - began
        return result

    return call


for _name in COUNTED:
    setattr(Timed, _name, _timed(_name))


def run(series: int, turns: int, rounds: int) -> Path:
    """Measure, and return the file of figures."""
    tune_cpu(1)
    torch.set_num_threads(1)
    report = Report("telemetry")
    shares, scrapes, counting, whole = [], [], [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            one, worker_state = build(Path(folder), series, turns)
            one.step()  # it claims
            worker_state.spent = 0.0
            began, before = time.thread_time(), one.turns
            while one.turns < before + turns - 1:
                one.step()
            steps, spent = time.thread_time() - began, worker_state.spent + histograms(turns - 1)
        shares.append(100 * spent / steps)
        counting.append(1e6 * spent / (turns - 1))
        whole.append(1e3 * steps / (turns - 1))
        scrapes.append(1e3 * scrape(one))
        say(f"round {number + 1}/{rounds}: {shares[-1]:.3f} % of {whole[-1]:.0f} ms, a scrape {scrapes[-1]:.1f} ms")
    protocol = PROTOCOL.format(turns=turns, messages=4 * series, series=series, partitions=4, rounds=rounds)
    report.write(
        Figure(
            bench="telemetry/turn",
            impl="tidecast",
            value=median(shares),
            unit="% of a turn's CPU",
            protocol=protocol,
            runs=shares,
            wanted=1.0,
            more={"counting_us": median(counting), "turn_ms": median(whole)},
        )
    )
    report.write(
        Figure(
            bench="telemetry/scrape",
            impl="tidecast",
            value=median(scrapes),
            unit="ms of CPU",
            protocol=protocol,
            runs=scrapes,
            more={"percent_of_a_core": 100 * median(scrapes) / 1e3 / SCRAPE_EVERY, "every_s": SCRAPE_EVERY},
        )
    )
    return report.path


def build(folder: Path, series: int, turns: int) -> tuple[Worker, Timed]:
    """Build a worker over a topic in memory and SQLite, a new hour of every series in each turn."""
    url = f"sqlite:///{folder / 'bench.db'}"
    databases.upgrade(url)
    store = databases.open_database(url, timeout=60).store("bench", "last", clock)
    inputs = {
        partition: [
            event(f"series-{partition}-{i}", turn, float(i + turn)) for turn in range(turns) for i in range(series)
        ]
        for partition in range(4)
    }
    one = worker(MemoryStore(), MemoryTopics(inputs=inputs), series=SeriesSettings(on="every_step"), most=series)
    worker_state = Timed()
    one.parts = replace(one.parts, store=store, clock=clock, worker_state=worker_state)
    return one, worker_state


def histograms(turns: int) -> float:
    """Return the CPU seconds of counting the durations of so many turns."""
    durations = {str(i): Durations() for i in range(MEASURES)}
    began = time.thread_time()
    for i in range(turns * MEASURES):
        durations.setdefault(str(i % MEASURES), Durations()).add(0.02)
    return time.thread_time() - began


def scrape(one: Worker) -> float:
    """Return the CPU seconds of writing the metrics once."""
    probes = Probes("worker")
    probes.watch(Checks(list, list), WorkerCollector(one))
    began = time.thread_time()
    for _ in range(20):
        probes.answer("/metrics")
    return (time.thread_time() - began) / 20
