"""Requeueing on real brokers and both databases, killed with -9 at every point: each letter once, as it came."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.database import open_database, upgrade
from pipeline.kafka.topics import read_topic
from pipeline.messages.letters import REQUEUED
from pipeline.records import DeadLetter
from pipeline.settings import Settings
from pipeline.settings.sources import load
from pipeline.stream import requeue
from tests import processes
from tests.contracts.rows import NOW, turn_of
from tests.integration.conftest import KafkaAddress

ROOT = Path(__file__).parents[2]
POINTS = ("begun", "assigned", "in_transaction", "sent", "marked")
COUNT = 1_200  # more than two batches
PARTITIONS = 3


@pytest.fixture
def address(request: pytest.FixtureRequest, broker: KafkaAddress, tmp_path: Path) -> str:
    """The address of an upgraded database: PostgreSQL beside Apache Kafka, SQLite beside the development broker."""
    url: str = f"sqlite:///{tmp_path}/tidecast.db"
    if broker.kind == "apache":
        url = request.getfixturevalue("postgresql").upgraded_database()
    upgrade(url)
    return url


@pytest.fixture
def sets(broker: KafkaAddress, topic: Callable[..., str], address: str) -> list[str]:
    name = topic(PARTITIONS, max_message_bytes="100000", retention_ms="-1")
    return [
        f"kafka.bootstrap_servers={broker.bootstrap_servers}",
        f"kafka.input_topic={name}",
        f"kafka.output_topic={topic()}",
        f"kafka.dead_letter_topic={topic()}",
        f"kafka.group={name}",
        f"database.url={address}",
    ]


def letter(i: int) -> DeadLetter:
    headers = (("trace", b"%d" % i), (REQUEUED, b"from/0/before"))
    return DeadLetter(
        i % PARTITIONS, i, "bad", b"key-%d" % (i % 7), b"value-%d" % i, headers=headers, written_at=NOW + i * 1_000
    )


def store(settings: Settings, letters: list[DeadLetter]) -> None:
    """Store letters as turns of 100 would, so that they arrive in this order."""
    database = open_database(settings.database.url.get_secret_value(), timeout=30)
    for start in range(0, len(letters), 100):
        own = database.store(settings.kafka.input_topic, "last", lambda at=NOW + start: at)
        claim = own.claim(0, "me")
        own.commit(turn_of(claim, claim.next_offset + 1, dead_letters=letters[start : start + 100]))
    database.close()


def run(sets: list[str], point: str = "", turn: int = 1) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.integration.requeue_once", point, str(turn), *sets]
    return processes.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("broker", "point"),
    [
        *(pytest.param("apache", point, marks=pytest.mark.apache) for point in POINTS),
        *(("development", point) for point in ("assigned", "sent")),
    ],
    indirect=["broker"],
)
def test_letters_come_once_as_they_were_however_often_it_is_killed(sets: list[str], point: str) -> None:
    settings = load(None, sets)
    letters = [letter(i) for i in range(COUNT)]
    store(settings, letters)
    for turn in (1, 2):
        killed = run(sets, point, turn)
        assert killed.returncode == -9 or (point, turn) == ("begun", 2), killed.stderr
    done = run(sets)
    assert done.returncode == 0, done.stderr
    assert run(sets).stdout == "0\n"
    found = list(read_topic(settings.kafka, settings.kafka.input_topic))
    assert Counter(record.value for record in found) == Counter(each.value for each in letters)
    for partition in range(PARTITIONS):
        own = [record for record in found if record.partition == partition]
        assert [record.value for record in own] == [each.value for each in letters if each.partition == partition]
    for record in found:
        i = int(record.value.removeprefix(b"value-"))
        assert record.key == b"key-%d" % (i % 7)
        source = f"{settings.kafka.input_topic}/{i % PARTITIONS}/{i}".encode()
        assert record.headers == [("trace", b"%d" % i), (REQUEUED, source)]
        assert record.timestamp == NOW // 1_000 + i


def test_a_letter_whose_time_the_topic_no_longer_keeps_is_sent_with_the_present_one(
    sets: list[str], topic: Callable[..., str]
) -> None:
    name = topic(PARTITIONS, retention_ms="86400000")
    short = [f"kafka.input_topic={name}" if each.startswith("kafka.input_topic=") else each for each in sets]
    settings = load(None, short)
    recent = time.time_ns() // 1_000 - 3_600_000_000
    store(settings, [letter(0), replace(letter(1), written_at=recent)])
    assert run(short).stdout == "2\n"
    found = {record.value: record.timestamp for record in read_topic(settings.kafka, name)}
    assert found[b"value-0"] > recent // 1_000
    assert found[b"value-1"] == recent // 1_000


def test_what_must_not_or_cannot_be_sent_is_named_and_the_rest_goes(sets: list[str]) -> None:
    settings = load(None, sets)
    bad = {
        1: DeadLetter(0, 1, "null", b"key-1", None),
        2: DeadLetter(0, 2, "the record batch failed its CRC check", None, b"raw"),
        3: DeadLetter(0, 3, "bad", b"key", b"x" * 200_000),
    }
    far = DeadLetter(99, 4, "bad", b"key", b"of a partition that is gone")
    store(settings, [letter(0), *bad.values(), far, letter(5)])
    done = run(sets)
    assert done.stdout == "3\n"
    assert [
        line.partition(" was left: ")[0].rpartition("/")[2] for line in done.stderr.splitlines() if "was left" in line
    ] == ["1", "2", "3"]
    values = {record.value for record in read_topic(settings.kafka, settings.kafka.input_topic)}
    assert values == {b"value-0", far.value, b"value-5"}
    assert run(sets).stdout == "0\n"


def test_a_batch_is_bounded_in_bytes_too(sets: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(None, sets)
    store(settings, [DeadLetter(0, i, "bad", None, b"%d" % i + b"x" * 90_000) for i in range(200)])
    assert 2 * requeue.MOST_BYTES < 200 * 90_000
    assert run(sets).stdout == "200\n"
    database = open_database(settings.database.url.get_secret_value(), timeout=30)
    [row] = database.reader.query("SELECT COUNT(DISTINCT requeue_batch) AS batches FROM dead_letters")
    database.close()
    assert row["batches"] == 3
