"""Messages per second from a Kafka topic to columns: the batch hook, the library as it comes, and librdkafka."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.end_to_end import PARTITIONS, measure_ingest
from tests.bench.feed import Feed
from tests.bench.results import Figure, Report, median, medians, ratios, say
from tests.bench.stage import Stage, measure, staged

HOOK, STOCK = "tidecast, batch hook", "tidecast, kafka-python as it comes"
PEER, BARE = "confluent-kafka, msgspec per message", "confluent-kafka, nothing decoded"
PROTOCOL = (
    "a filled topic of {partitions} partitions is read to its end in a process of its own, about 90 bytes of JSON a "
    "message in record batches of 1,000, from the first poll that returned any; Kafka on the same machine; median of "
    "{rounds} rounds in turn"
)


def run(events: int, rounds: int) -> Path:
    """Measure, and return the file of figures."""
    report = Report("ingest")
    feed = Feed("same-hour", 10_000, max(1, events // 10_000), PARTITIONS, 0)
    with staged(postgresql=False) as stage:
        measures = {
            HOOK: partial(measure_ingest, stage, feed, batch_hook=True),
            STOCK: partial(measure_ingest, stage, feed, batch_hook=False),
            PEER: partial(_confluent, stage, feed, decode=True),
            BARE: partial(_confluent, stage, feed, decode=False),
        }
        found: dict[str, list[dict[str, Any]]] = {impl: [] for impl in measures}
        for number in range(rounds):
            for impl, measured in measures.items():
                found[impl].append(measured())
                say(f"round {number + 1}/{rounds} ingest: {impl}: {found[impl][-1]['rate']:,.0f} messages/s")
    rates = {impl: median([once["rate"] for once in runs]) for impl, runs in found.items()}
    for impl, runs in found.items():
        ratio, each = ratios(rates[impl], {name: rates[name] for name in (PEER, BARE)} if impl in (HOOK, STOCK) else {})
        report.write(
            Figure(
                bench="ingest",
                impl=impl,
                value=rates[impl],
                unit="messages/s",
                protocol=PROTOCOL.format(partitions=PARTITIONS, rounds=rounds),
                runs=[once["rate"] for once in runs],
                ratio=ratio,
                ratios=each,
                more={"cpu_us": medians([once["cpu_us"] for once in runs])},
            )
        )
    return report.path


def _confluent(stage: Stage, feed: Feed, *, decode: bool) -> dict[str, Any]:
    job = {"measure": "confluent", "settings": stage.settings(feed), "decode": decode}
    job |= {"partitions": feed.partitions, "events": feed.events}
    return measure(stage, [sys.executable, "-m", "tests.bench.measured"], job)
