"""Poison of every kind: each is one dead letter, its neighbours are processed, and the worker never spins."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import crc32c
import pytest
from sqlalchemy import text

from tests.faults.conftest import QUICK, Place
from tests.faults.deployment import Deployment, Sender, deploy
from tests.faults.fleet import Fleet, holds_within
from tests.faults.panel import POISON, POISONS, Message, Panel, split
from tests.faults.summary import report
from tests.faults.verify import Findings, read_confluent, verify, wait_for_lag_0
from tests.servers import ApacheKafka

PANEL = Panel(series=6, steps=40)
SMALL = Panel(series=1, steps=6, partitions=1)
IDLE_SECONDS = 3.0
REST_SECONDS = 60.0
GOOD = b'{"series_id": "poisoned", "timestamp": "2024-01-01T00:00:00Z", "value": 1.0'
LARGE: tuple[bytes, ...] = (
    GOOD + b', "note": "' + b"x" * 900_000 + b'"}',
    GOOD + b', "deep": ' + b"[" * 200_000,
    GOOD + b', "deep": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    GOOD.replace(b"1.0", b"9" * 400) + b"}",
    GOOD.replace(b"1.0", b"-Infinity") + b"}",
    GOOD.replace(b"2024-01-01T00:00:00Z", b"0001-01-01T00:00:00+23:59") + b"}",
    b"{" + b",".join(b'"field-%d": 1' % i for i in range(50_000)) + b"}",
)


def cpu_seconds(pid: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def comes_to_rest(fleet: Fleet, name: str) -> bool:
    """Tell whether a worker with nothing to do uses less than 0.7 of a core before long.

    On a busy machine it may still be ending what it has to do when the first share is measured; one that spins never
    rests.
    """
    pid = fleet.pid(name)

    def rests() -> bool:
        before, began = cpu_seconds(pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        return (cpu_seconds(pid) - before) / (time.monotonic() - began) < 0.7

    return holds_within(rests, REST_SECONDS)


def poison() -> Iterator[Message]:
    """Each kind twice, some with a key as large as a message may have."""
    for i, value in enumerate([*POISONS, *LARGE] * 2):
        yield Message(i % PANEL.partitions, b"%s-%d" % (POISON, i) + b"k" * (100_000 if i % 9 == 0 else 0), value)


@pytest.mark.fault("poison")
def test_each_kind_of_poison_is_one_dead_letter_and_its_neighbours_are_processed(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings)
    sender = Sender(deployment)
    bad, good = list(poison()), list(PANEL.messages())
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        for messages, letter in zip(split(good, len(bad)), bad, strict=True):
            sender.send([*messages, letter])
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        rests = comes_to_rest(fleet, "one")
        assert fleet.stop("one") == 0
    findings = verify(deployment, PANEL, sender)
    report("poison", place.name, events=len(good), faults=len(bad), findings=findings, seconds=seconds)
    assert not findings, str(findings)
    assert rests, "the worker spins"


def batches(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Where each record batch of a log segment begins and ends, and its first offset."""
    at = 0
    while at < len(raw):
        end = at + 12 + int.from_bytes(raw[at + 8 : at + 12], "big")
        yield at, end, int.from_bytes(raw[at : at + 8], "big")
        at = end


def spoil(segment: Path, corrupt: int, unknown: int) -> None:
    """Change a byte in the batch at offset `corrupt`, and give the one at `unknown` a codec that nobody has."""
    raw = bytearray(segment.read_bytes())
    for at, end, offset in list(batches(bytes(raw))):
        if offset == corrupt:
            raw[end - 3] ^= 0x55
        elif offset == unknown:
            raw[at + 22] |= 0x07  # the codec, in the low bits of the attributes
            raw[at + 17 : at + 21] = crc32c.crc32c(bytes(raw[at + 21 : end])).to_bytes(4, "big")
    segment.write_bytes(bytes(raw))


def rows(deployment: Deployment, query: str) -> list[tuple[object, ...]]:
    engine = deployment.engine()
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


@pytest.mark.apache
@pytest.mark.fault("poison-batch")
def test_a_corrupt_batch_and_one_in_an_unknown_codec_are_one_dead_letter_each(tmp_path: Path) -> None:
    if missing := ApacheKafka.missing():
        pytest.skip(missing)
    events = list(SMALL.messages())
    with ApacheKafka() as kafka:
        deployment = deploy(kafka.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db", (*QUICK, *SMALL.settings), 1)
        sender = Sender(deployment)
        for event in events:  # a batch of its own each
            sender.send([event])
        kafka.shut_down()
        [segment] = (kafka.folder / "data").rglob(f"{deployment.topic}-0/*.log")
        spoil(segment, corrupt=1, unknown=3)
        kafka.start()
        with Fleet(deployment.sets, tmp_path) as fleet:
            fleet.start("one")
            wait_for_lag_0(deployment)
            rests = comes_to_rest(fleet, "one")
            assert fleet.stop("one") == 0
        dead = read_confluent(deployment, deployment.dead_letters)
    letters = rows(deployment, "SELECT source_offset, reason FROM dead_letters ORDER BY source_offset")
    values = rows(deployment, "SELECT value FROM observations ORDER BY observed_at")
    findings = Findings()
    findings.count("dead letters", len(letters), 2)
    findings.count("messages of dead letters", len(dead), 2)
    findings.count("observations", len(values), len(events) - 2)
    report("corrupt batch, unknown codec", "Apache Kafka, SQLite", events=len(events), faults=2, findings=findings)
    assert [offset for offset, _ in letters] == [1, 3]
    assert "failed its CRC check" in str(letters[0][1])
    assert "cannot be read" in str(letters[1][1])
    assert Counter(dict(record.headers)["source"] for record in dead) == Counter(
        f"{deployment.topic}/0/{offset}".encode() for offset in (1, 3)
    )
    assert [value for (value,) in values] == [json.loads(events[t].value or b"")["value"] for t in (0, 2, 4, 5)]
    assert rests, "the worker spins"
