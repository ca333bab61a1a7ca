"""The process that is measured: `python -m tests.bench.measured JOB` runs one worker and prints one JSON object.

It starts as `tidecast stream` does: logging on stderr, CPU switches, one torch thread, then the worker of the
composition root. The clock starts once the state is steady (claims, the rings' loading and first forecasts are past)
and stops when the last message is committed.
"""

import cProfile
import json
import pstats
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Consumer, TopicPartition

from models.fitting.cpu import tune_cpu
from pipeline import start
from pipeline.app import built_worker
from pipeline.grid.frequency import Frequency
from pipeline.health.logs import start_logging
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.source import KafkaSource
from pipeline.messages.codec import Reader
from pipeline.settings import Settings
from pipeline.stream.worker import Worker

PHASES = ("poll", "decode", "observe", "score", "store", "publish")
LONGEST = 600.0  # seconds; a run that takes longer is a bug


class Event(msgspec.Struct, gc=False):
    """An input message as a careful reader of our topic would type it."""

    series_id: str
    timestamp: str
    value: float | None


@dataclass(slots=True)
class Clock:
    """Wall and CPU time since `start`. CPU is of the whole process, so the Kafka library's I/O thread counts."""

    wall: float = 0.0
    cpu: float = 0.0

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self.wall, time.process_time() - self.cpu


def main() -> None:
    job = json.loads(sys.argv[1])
    start_logging()
    tune_cpu(1)
    settings = Settings.model_validate(job["settings"])
    measure = {"worker": measure_worker, "ingest": measure_ingest, "confluent": measure_confluent}[job["measure"]]
    sys.stdout.write(json.dumps(measure(settings, job)) + "\n")


def measure_worker(settings: Settings, job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a worker over the whole topic: `partitions`, `warm_offset`, `events` say when to start and to stop."""
    with built_worker(settings) as worker:
        empty = psutil.Process().memory_info().rss
        began = time.perf_counter()
        warm_up(worker, job["partitions"], job["warm_offset"])
        warm = time.perf_counter() - began
        before, turns = handled(worker), worker.turns
        phases = worker.parts.phases
        phases.wall.clear()
        phases.cpu.clear()
        profile = cProfile.Profile() if job.get("profile") else None
        clock = Clock()
        clock.start()
        if profile:
            profile.enable()
        step_until(worker, lambda: handled(worker) >= job["events"])
        if profile:
            profile.disable()
        wall, cpu = clock.read()
        events = handled(worker) - before
        assert all(owned.claim.epoch == 1 for owned in worker.owned.values()), "a claim was lost: see the log"
        per_event = {phase: 1e6 * phases.cpu.get(phase, 0.0) / events for phase in PHASES}
        rings = [owned.ring for owned in worker.owned.values()]
        series = sum(len(ring) for ring in rings)
        found = {
            "events": events,
            "turns": worker.turns - turns,
            "warm_s": warm,
            "wall_s": wall,
            "rate": events / wall,
            "cpu_us": {**per_event, "other": 1e6 * cpu / events - sum(per_event.values()), "all": 1e6 * cpu / events},
            "wall_us": {phase: 1e6 * phases.wall.get(phase, 0.0) / events for phase in PHASES},
            "series": series,
            "memory": {
                "ring_bytes_per_series": sum(ring.nbytes for ring in rings) / series,
                "rss_growth_bytes_per_series": (psutil.Process().memory_info().rss - empty) / series,
                "rss_mib": psutil.Process().memory_info().rss / 2**20,
                "rss_peak_mib": peak_mib(),
            },
            "model_version": worker.parts.scorer.version,
        }
    if profile:
        write_profile(profile, Path(job["profile"]))
    return found


def peak_mib() -> float:
    """The most memory that was resident; getrusage would include the process that started this one."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def step_until(worker: Worker, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST
    while not done():
        worker.step()
        assert time.monotonic() < deadline, f"only {handled(worker)} events after {LONGEST:.0f} s"


def handled(worker: Worker) -> int:
    return sum(owned.claim.next_offset for owned in worker.owned.values())


def warm_up(worker: Worker, partitions: int, offset: int) -> None:
    """Claim every partition and take it to `offset`, and not much farther: a batch at a time, then held."""
    source = worker.parts.source
    assert isinstance(source, KafkaSource)
    limit = worker._limit
    worker._limit = worker._most = 1
    warm: set[int] = set()

    def done() -> bool:
        new = [at for at, owned in worker.owned.items() if at not in warm and owned.claim.next_offset >= offset]
        source.hold(new)
        warm.update(new)
        return len(warm) == partitions

    step_until(worker, done)
    worker._limit = worker._most = limit
    # kafka-python 3.0.12 gives back only one of several partitions that were paused with records in hand, so drop them.
    source._consumer._fetcher._paused_partition_records.clear()
    for partition, owned in worker.owned.items():
        source.start(partition, owned.claim.next_offset)


def measure_ingest(settings: Settings, job: Mapping[str, Any]) -> dict[str, Any]:
    """Read and decode the whole topic, and nothing else: what bounds a worker from above."""
    source = KafkaSource(settings.kafka, Watchdog(60))
    reader = Reader(settings.input, Frequency(settings.series.frequency))
    clock, count, first = Clock(), 0, 0
    deadline = time.monotonic() + LONGEST
    now = start.clock()
    while count < job["events"]:
        runs = source.poll(settings.kafka.max_messages)
        for partition, ours in source.changes():
            assert ours
            source.start(partition, 0)
        for run in runs:
            events, letters = reader.read(run, now)
            assert not letters
            count += len(events)
        if count and not first:
            first = count
            clock.start()
        assert time.monotonic() < deadline
    wall, cpu = clock.read()
    events = count - first
    source.close()
    return {"events": events, "wall_s": wall, "rate": events / wall, "cpu_us": {"all": 1e6 * cpu / events}}


def measure_confluent(settings: Settings, job: Mapping[str, Any]) -> dict[str, Any]:
    """Read the whole topic with librdkafka, and decode each message if `decode`: the peer, and what bounds it."""
    decode = msgspec.json.Decoder(Event).decode
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka.bootstrap_servers,
            "group.id": settings.kafka.group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(settings.kafka.input_topic, at, 0) for at in range(job["partitions"])])
    clock, count, first = Clock(), 0, 0
    deadline = time.monotonic() + LONGEST
    while count < job["events"]:
        most = min(10_000, job["events"] - count)  # more would be waited for at the end
        values = [message.value() for message in consumer.consume(most, timeout=0.5) if not message.error()]
        if job["decode"]:
            decoded = [decode(value) for value in values]
            assert len(decoded) == len(values)
        count += len(values)
        if count and not first:
            first = count
            clock.start()
        assert time.monotonic() < deadline
    wall, cpu = clock.read()
    consumer.close()
    return {"events": count - first, "rate": (count - first) / wall, "cpu_us": {"all": 1e6 * cpu / (count - first)}}


def write_profile(profile: cProfile.Profile, path: Path) -> None:
    """Write the lines that dominate, by own time and by cumulative time."""
    with path.open("w") as file:
        stats = pstats.Stats(profile, stream=file)
        stats.sort_stats("tottime").print_stats(45)
        stats.sort_stats("cumulative").print_stats(70)


if __name__ == "__main__":
    main()
