"""The ring store: appends and windows per second, beside a deque per series and the copying of as many bytes."""

import gc
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import torch

from pipeline.records import Ints
from pipeline.stream.ring import RingStore
from tests.bench.results import Figure, Report, median, ratios, say

CONTEXT = 336
STEPS = 60  # appended to every series
PEER = "a deque per series"
PROTOCOL = (
    "{series} series of {context} steps; append: {steps} hourly ticks, each one value for every series; window: the "
    "newest {context} values of every series as one float64 matrix; both checked against each other; one thread, "
    "median of {rounds} rounds in turn"
)

MEMORY = (
    "{series} series of {context} steps with names of {name} bytes, a thousand more a turn; resident memory that this "
    "process grew by, over the series; median of {rounds} rounds"
)
NAME = 32


def run(series: int, rounds: int) -> Path:
    """Measure, and return the file of figures."""
    torch.set_num_threads(1)
    report = Report("ring")
    random = np.random.default_rng(0)
    rows = np.arange(series)
    history = random.normal(size=(CONTEXT, series))
    ticks = random.normal(size=(STEPS, series))
    appended: dict[str, list[float]] = {"tidecast": [], PEER: [], "memcpy": []}
    cut: dict[str, list[float]] = {"tidecast": [], PEER: [], "memcpy": []}
    for number in range(rounds):
        ring, deques = _ring(rows, history), [deque(column, CONTEXT) for column in history.T.tolist()]
        lists = ticks.tolist()
        appended["tidecast"].append(STEPS * series / _timed(lambda ring=ring: _append(ring, rows, ticks)))  # type: ignore[misc]
        appended[PEER].append(STEPS * series / _timed(lambda d=deques, x=lists: _append_deques(d, x)))  # type: ignore[misc]
        appended["memcpy"].append(STEPS * series / _timed(ticks.copy))
        origins = np.full(series, CONTEXT + STEPS - 1)
        ours, theirs = ring.windows(rows, origins, CONTEXT)[0], np.array(deques)
        assert np.array_equal(ours, theirs), "the ring and the deques hold different windows"
        cut["tidecast"].append(series / _timed(lambda ring=ring, at=origins: ring.windows(rows, at, CONTEXT)))  # type: ignore[misc]
        cut[PEER].append(series / _timed(lambda d=deques: np.array(d)))  # type: ignore[misc]
        cut["memcpy"].append(series / _timed(ours.copy))
        say(f"round {number + 1}/{rounds} ring: {appended['tidecast'][-1]:,.0f} appends/s")
    for bench, unit, found in (("ring/append", "values/s", appended), ("ring/window", "windows/s", cut)):
        for impl in ("tidecast", PEER):
            ratio, each = ratios(median(found[impl]), {PEER: median(found[PEER])} if impl != PEER else {})
            report.write(
                Figure(
                    bench=bench,
                    impl=impl,
                    value=median(found[impl]),
                    unit=unit,
                    protocol=PROTOCOL.format(series=series, context=CONTEXT, steps=STEPS, rounds=rounds),
                    runs=found[impl],
                    limit=median(found["memcpy"]),
                    limit_is="copying as many values once",
                    ratio=ratio,
                    ratios=each,
                )
            )
    grown = [_grown(series) for _ in range(rounds)]
    report.write(
        Figure(
            bench="ring/memory",
            impl="tidecast",
            value=median([resident for resident, _ in grown]),
            unit="bytes/series",
            protocol=MEMORY.format(series=series, context=CONTEXT, name=NAME, rounds=rounds),
            runs=[resident for resident, _ in grown],
            limit=median([arrays for _, arrays in grown]),
            limit_is="the ring's arrays alone",
        )
    )
    return report.path


def _grown(series: int) -> tuple[float, float]:
    """Add series a thousand at a time, as turns do; resident memory and bytes of the arrays, a series."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    ring = RingStore(CONTEXT, "last")
    for first in range(0, series, 1000):
        numbers = np.arange(first, min(first + 1000, series))
        rows = ring.add([f"{number:0{NAME}d}" for number in numbers.tolist()], numbers)
        ones = np.ones(len(rows))
        ring.put(rows, 0 * rows, ones, ones > 0.0, ones.astype(np.int64))
    return (process.memory_info().rss - before) / series, ring.nbytes / series


def _ring(rows: Ints, history: np.ndarray) -> RingStore:
    ring = RingStore(CONTEXT, "last")
    ring.add([str(row) for row in rows], rows)
    _append(ring, rows, history, first=0)
    return ring


def _append(ring: RingStore, rows: Ints, ticks: np.ndarray, first: int = CONTEXT) -> None:
    observed, events = np.ones(len(rows), np.bool_), np.ones(len(rows), np.int64)
    for number, values in enumerate(ticks):
        ring.put(rows, np.full(len(rows), first + number), values, observed, events)


def _append_deques(deques: list[deque[float]], ticks: list[list[float]]) -> None:
    for values in ticks:
        for held, value in zip(deques, values, strict=True):
            held.append(value)


def _timed(measured: Callable[[], object]) -> float:
    started = time.perf_counter()
    measured()
    return time.perf_counter() - started
