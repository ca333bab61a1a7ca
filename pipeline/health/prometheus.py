"""Prometheus' metrics: families made from rows, and their text. The only importer of prometheus_client.

Every name begins with `tidecast_` but for those of the process, which every exporter calls alike (`process_...`).
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.health.logs import BOUNDS, Durations

__all__ = ["CONTENT_TYPE", "Collector", "Exposition", "Metric", "Row", "counter", "gauge", "histogram", "in_seconds"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "tidecast"
Row = tuple[Sequence[str], float | None]
"""Values of the labels, and the sample; no evidence is None, and no sample."""


def gauge(name: str, text: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    """Make a gauge."""
    return _fill(GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=labels), rows)


def counter(name: str, text: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Metric:
    """Make a counter; the exposition adds `_total` to the name."""
    return _fill(CounterMetricFamily(f"{PREFIX}_{name}", text, labels=labels), rows)


def histogram(name: str, text: str, rows: Mapping[str, Durations], label: str | None = None) -> Metric:
    """Make a histogram of durations: by the values of a label, or of one without."""
    family = HistogramMetricFamily(f"{PREFIX}_{name}", text, labels=[label] if label else [])
    for value, durations in rows.items():
        counts = list(accumulate(list(durations.counts)))
        bounds = [*(f"{bound:g}" for bound in BOUNDS), "+Inf"]
        buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
        family.add_metric([value] if label else [], buckets, durations.sum)
    return family


def in_seconds(instant: int | None) -> float | None:
    """Turn microseconds into seconds."""
    return None if instant is None else instant / 1e6


class Exposition:
    """The metrics of one process as text: those of its collectors, and `process_...` if it is a long-running role."""

    def __init__(self, *collectors: Collector, process: bool = False) -> None:
        self._registry = CollectorRegistry(auto_describe=False)  # or registering would read the database
        if process:
            ProcessCollector(registry=self._registry)
            self._registry.register(MemoryAndThreads())
        for collector in collectors:
            self._registry.register(collector)

    def add(self, collector: Collector) -> None:
        """Expose one more."""
        self._registry.register(collector)

    def write(self) -> str:
        """Write the metrics of this moment."""
        return generate_latest(self._registry).decode("utf-8")


class MemoryAndThreads(Collector):
    """What prometheus_client leaves out of a process: its threads, also those of libraries, and its memory's limit."""

    def __init__(self) -> None:
        self._limit = find_memory_limit()

    def collect(self) -> Iterable[Metric]:
        """Yield both."""
        tasks = Path("/proc/self/task")
        count = len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()
        yield gauge("process_threads", "Threads of the process.", [((), count)])
        yield gauge(
            "process_memory_limit_bytes",
            "Memory that the process may use: its control group's limit, or the machine's memory.",
            [((), self._limit)],
        )


def find_memory_limit(root: Path = Path("/")) -> float | None:
    """Find the bytes of memory that this process may use: the least of its control group's limit and the machine's."""
    limits = []
    with suppress(OSError, ValueError, IndexError):
        own = (root / "proc/self/cgroup").read_text(encoding="ascii").strip().rpartition("::")[2].lstrip("/")
        groups = root / "sys/fs/cgroup"
        for file in (groups / own / "memory.max", groups / "memory.max", groups / "memory/memory.limit_in_bytes"):
            if file.is_file() and (text := file.read_text(encoding="ascii").strip()) != "max":
                limits.append(float(text))
    with suppress(OSError, ValueError, IndexError):
        total = (root / "proc/meminfo").read_text(encoding="ascii").split("MemTotal:")[1].split()[0]
        limits.append(float(total) * 1024)
    return min(limits, default=None)


def _fill(family: GaugeMetricFamily | CounterMetricFamily, rows: Iterable[Row]) -> Metric:
    for labels, value in rows:
        if value is not None:
            family.add_metric(list(labels), float(value))
    return family
