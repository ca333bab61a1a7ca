"""The rights that deploy/kafka/acls.sh grants on Apache Kafka: enough for every command, and not one too many."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql

from pipeline.database import open_database, upgrade
from pipeline.database.schema.grants import grant_work
from pipeline.kafka.ends import end_offsets
from pipeline.settings import Settings
from pipeline.settings.sources import load
from tests import processes
from tests.guarded import PASSWORD, GuardedKafka, Right, list_rights
from tests.integration.conftest import PostgreSQLAddress, require
from tests.integration.test_jobs import ROOT, wait_until
from tests.servers import ApacheKafka, create_topic

pytestmark = [pytest.mark.apache, pytest.mark.slow]
LINES = "series_id,timestamp,value\n" + "".join(f"a,2024-01-{1 + n // 24:02d}T{n % 24:02d}:00,1\n" for n in range(48))
OWN = [right for right in list_rights({}) if right.user in ("tidecast-worker", "tidecast-producer")]
WORK = {"tidecast-worker": "stream", "tidecast-producer": "produce"}


@pytest.fixture(scope="module")
def kafka() -> Iterator[GuardedKafka]:
    require(ApacheKafka.missing())
    with GuardedKafka() as kafka:
        yield kafka


class Deployed:
    """Topics that an administrator made, and a database; `rights` are what acls.sh grants for them."""

    def __init__(self, kafka: GuardedKafka, url: str, folder: Path) -> None:
        name = f"acl-{uuid4().hex[:8]}"
        self.kafka, self.url, self.folder = kafka, url, folder
        self.names = {"INPUT_TOPIC": name, "OUTPUT_TOPIC": f"{name}.out", "DEAD_LETTER_TOPIC": f"{name}.dead"}
        for topic in self.names.values():
            create_topic(kafka.bootstrap_servers, topic, 2)
        self.group = f"{name}.group"
        self.rights = list_rights(self.names | {"GROUP": self.group})
        self.file = folder / "history.csv"
        self.file.write_text(LINES)

    def command(self, user: str, *words: str) -> list[str]:
        sets = [
            f"kafka.bootstrap_servers={self.kafka.guarded}",
            "kafka.security_protocol=SASL_PLAINTEXT",
            "kafka.sasl_mechanism=PLAIN",
            f"kafka.sasl_username={user}",
            f"kafka.input_topic={self.names['INPUT_TOPIC']}",
            f"kafka.output_topic={self.names['OUTPUT_TOPIC']}",
            f"kafka.dead_letter_topic={self.names['DEAD_LETTER_TOPIC']}",
            f"kafka.group={self.group}",
            "kafka.create_topics=false",
            "kafka.session_timeout=6",
            "kafka.call_timeout=10",
            "kafka.compression=none",
            f"database.url={self.url}",
            "series.context=24",
            "series.horizon=4",
        ]
        options = [part for text in sets for part in ("--set", text)]
        return [sys.executable, "-m", "pipeline.cli", *options, *words]

    def run(self, user: str, *words: str, seconds: float = 90) -> "subprocess.CompletedProcess[str]":
        return processes.run(
            self.command(user, *words),
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def stream(self) -> "subprocess.Popen[str]":
        return processes.Popen(
            self.command("tidecast-worker", "stream"), cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
        )

    def published(self) -> int:
        ends = Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, "group.id": "looks", "log_level": 0})
        try:
            parts = [TopicPartition(self.names["OUTPUT_TOPIC"], each) for each in range(2)]
            return sum(ends.get_watermark_offsets(part, timeout=30)[1] for part in parts)
        finally:
            ends.close()


def environment() -> dict[str, str]:
    return os.environ | {"TIDECAST_KAFKA__SASL_PASSWORD": PASSWORD}


def said(errors: str) -> list[str]:
    """What a command says; the rest is a worker's log."""
    return [line for line in errors.splitlines() if not line.startswith("{")]


@pytest.fixture
def deployed(kafka: GuardedKafka, tmp_path: Path) -> Deployed:
    url = f"sqlite:///{tmp_path / 'tidecast.db'}"
    upgrade(url)
    return Deployed(kafka, url, tmp_path)


def test_the_list_names_the_topics_and_the_group_that_the_settings_have_by_default() -> None:
    own = Settings().kafka
    names = {right.name for right in list_rights({})}
    assert {own.input_topic, own.output_topic, own.dead_letter_topic, own.group} <= names
    assert len(set(list_rights({}))) == len(list_rights({}))
    assert not {"All", "Create", "Delete", "Alter"} & {right.operation for right in list_rights({})}


def test_with_the_list_and_a_role_that_owns_nothing_everything_works_from_end_to_end(
    kafka: GuardedKafka, postgresql: PostgreSQLAddress, tmp_path: Path
) -> None:
    url = postgresql.fresh_database()
    upgrade(url)
    role = f"worker_{uuid4().hex[:8]}"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    grant_work(url, role)
    deployed = Deployed(kafka, url.replace("://postgres@", f"://{role}@"), tmp_path)
    kafka.grant(*deployed.rights)
    produced = deployed.run("tidecast-producer", "produce", str(deployed.file))
    assert (produced.returncode, produced.stdout.split(" to ")[0]) == (0, "sent 48 observations of 1 series"), (
        produced.stderr
    )
    bad = tmp_path / "bad.csv"
    bad.write_text("series_id,timestamp,value\n" + "x" * 600 + ",2024-01-01T00:00,1\n")
    assert deployed.run("tidecast-producer", "produce", str(bad)).returncode == 0
    with deployed.stream() as worker:
        try:
            wait_until(lambda: worker.poll() is not None or deployed.published() > 0)
            database = open_database(deployed.url, timeout=20.0)
            try:
                counts = database.reader.counts
                wait_until(lambda: worker.poll() is not None or counts()["dead_letters"] == 1)
                wait_until(lambda: worker.poll() is not None or counts()["observations"] == 48)
                assert worker.poll() is None
            finally:
                database.close()
        finally:
            worker.terminate()
            errors = worker.communicate(timeout=60)[1]
    assert (worker.returncode, said(errors)) == (0, []), errors
    listed = deployed.run("tidecast-requeue", "dead-letters", "requeue", "--all")
    assert (listed.returncode, listed.stdout.split(" to ")[0]) == (0, "sent 1 message"), listed.stderr
    examined = deployed.run("tidecast-worker", "doctor", "--json")
    assert all(finding["ok"] for finding in json.loads(examined.stdout)), examined.stdout
    for job in ("monitor", "retention"):
        assert deployed.run("nobody", "job", "run", job).returncode == 0, "jobs need no Kafka"


@pytest.mark.parametrize("number", range(len(OWN)), ids=lambda number: str(OWN[number]).replace(" ", "_"))
def test_without_one_right_the_command_says_in_one_line_which_it_lacks(deployed: Deployed, number: int) -> None:
    own = [right for right in deployed.rights if right.user in WORK]
    taken = own[number]
    deployed.kafka.grant(*deployed.rights)
    assert deployed.run("tidecast-producer", "produce", str(deployed.file)).returncode == 0
    deployed.kafka.take(taken)
    words: Sequence[str] = ("produce", str(deployed.file)) if taken.user == "tidecast-producer" else ("stream",)
    ended = deployed.run(taken.user, *words)
    lines = said(ended.stderr)
    assert (ended.returncode, len(lines)) == (2, 1), (taken, ended.stderr[-3000:])
    assert "Traceback" not in ended.stderr
    assert_names(lines[0], taken)


def assert_names(line: str, right: Right) -> None:
    """The line says which right lacks, of what, and where the list is."""
    assert right.name.removesuffix("-") in line, line
    assert right.operation in line or right.resource == "topic", line
    assert "deploy/kafka/acls.sh" in line, line


def test_without_the_right_to_look_the_page_says_nothing_of_the_lag(deployed: Deployed) -> None:
    sets = [text for text in deployed.command("tidecast-page") if "=" in text]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIDECAST_KAFKA__SASL_PASSWORD", PASSWORD)
        kafka = load(None, sets).kafka
    topic = deployed.names["INPUT_TOPIC"]
    assert end_offsets(kafka, topic, 10.0) == {}
    deployed.kafka.grant(*(right for right in deployed.rights if right.user == "tidecast-page"))
    wait_until(lambda: end_offsets(kafka, topic, 10.0) == {0: 0, 1: 0})
