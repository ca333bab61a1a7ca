"""Messages of many readings, some with a bad one: workers are killed, and each is stored whole once, or refused."""

import json
from collections.abc import Iterator
from random import Random

import pytest

from tests.faults.conftest import Place
from tests.faults.panel import POISON, Message, Panel, time_of
from tests.faults.scale import scaled
from tests.faults.test_kill9 import Kills, survive

KILLS = scaled(6, by=10)
PANEL = Panel(series=40, steps=scaled(200, quick=100))
MAPPING = (
    "input.each=readings",
    "input.series_id={$name}",
    "input.timestamp=^timestamp",
    "input.value=$value",
)
BAD = ("1.0", [], True, 1e300, {})


def wide(panel: Panel, partition: int, t: int, key: bytes, **more: object) -> Message:
    """All readings of a step that a partition has, in one message."""
    names = [name for name in panel.names if panel.partition(name) == partition]
    readings = {name: panel.value(name, t) for name in names} | more
    return Message(partition, key, json.dumps({"timestamp": time_of(t).isoformat(), "readings": readings}).encode())


def messages(panel: Panel, seed: int) -> Iterator[Message]:
    """Every step in the order of time; some again later, and some with one bad reading behind many good ones."""
    random = Random(seed)
    for t in range(panel.steps):
        for partition in range(panel.partitions):
            yield wide(panel, partition, t, b"gateway-%d" % partition)
            if random.random() < 0.03:
                again = random.randint(max(0, t - panel.context // 2), t)
                yield wide(panel, partition, again, b"gateway-%d" % partition)
            if random.random() < 0.05:
                key = b"%s-%d-%d" % (POISON, partition, t)
                yield wide(panel, partition, t, key, bad=BAD[t % len(BAD)])


@pytest.mark.fault("many-readings")
@pytest.mark.slow
def test_a_message_of_many_readings_is_stored_whole_once_or_refused_when_workers_are_killed(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, *MAPPING, "kafka.max_messages=50", "kafka.session_timeout=20")
    sent = list(messages(PANEL, seed=3))
    survive(place, deployment, PANEL, sent, Kills("kill -9, many readings", KILLS, seed=3))
