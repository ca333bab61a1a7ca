"""The commands that meet Kafka, on the development broker: replay, dead letters, and the forecasts that follow."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.app import built_worker
from pipeline.cli import main
from pipeline.database import open_database, upgrade
from pipeline.errors import ConfigError
from pipeline.kafka.topics import check_topics, read_topic, send
from pipeline.quickstart.broker import DevelopmentBroker
from pipeline.settings import Settings
from pipeline.settings.sources import load
from tests.servers import create_topic

HOURS = 30
Run = Callable[..., str]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[tuple[Settings, list[str]]]:
    """A broker, a database, a CSV file of two series, and the root options that name them."""
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    upgrade(url)
    rows = [
        f"{name},2026-01-{1 + hour // 24:02d}T{hour % 24:02d}:00:00Z,{hour}" for name in "ab" for hour in range(HOURS)
    ]
    (tmp_path / "values.csv").write_text("\n".join(["series_id,timestamp,value", *rows, ""]))
    with DevelopmentBroker() as broker:
        sets = [
            f"kafka.bootstrap_servers={broker.bootstrap_servers}",
            f"database.url={url}",
            "kafka.partitions=1",
            "series.context=24",
            "series.horizon=3",
        ]
        yield load(None, sets), [part for text in sets for part in ("--set", text)]


@pytest.fixture
def run(deployment: tuple[Settings, list[str]], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must succeed, and return its stdout."""

    def run(*arguments: str) -> str:
        capsys.readouterr()  # the worker's log
        with pytest.raises(SystemExit) as ended:
            main([*deployment[1], *arguments])
        captured = capsys.readouterr()
        assert ended.value.code == 0, captured.err
        return captured.out

    return run


def read_input(settings: Settings) -> list[Any]:
    return list(read_topic(settings.kafka, settings.kafka.input_topic))


def work_until(settings: Settings, done: Callable[[dict[str, int]], bool]) -> None:
    """Take the worker's steps until the database's counts are as wished."""
    database = open_database(settings.database.url.get_secret_value(), timeout=10)
    deadline = time.monotonic() + 60
    try:
        with built_worker(settings) as worker:
            while not done(database.reader.counts()):
                assert time.monotonic() < deadline, database.reader.counts()
                worker.step()
    finally:
        database.close()


def test_produce_sends_every_row_and_forecasts_follow(
    deployment: tuple[Settings, list[str]], run: Run, tmp_path: Path
) -> None:
    settings, _ = deployment
    said = run("produce", str(tmp_path / "values.csv"), "--until", "2026-01-02T05:00:00Z")
    assert said == "sent 58 observations of 2 series to observations\n"
    assert run("produce", str(tmp_path / "values.csv"), "--since", "2026-01-02T05:00:00Z").startswith("sent 2 ")
    assert [record.key for record in read_input(settings)] == [b"a", b"b"] * HOURS

    work_until(settings, lambda counts: counts["observations"] == 2 * HOURS)
    latest = json.loads(run("forecast", "latest", "--json", "--series", "a"))
    assert [row["target_time"] for row in latest] == [f"2026-01-02 0{hour}:00:00" for hour in (6, 7, 8)]
    assert json.loads(run("forecast", "as-of", "2026-01-01", "--json")) == []
    assert json.loads(run("forecast", "as-of", "2100-01-01", "--json", "--series", "a")) == latest
    header, *exported = run("forecast", "export", "--series", "b").splitlines()
    assert header.startswith("series,target_time,origin,step,")
    assert exported and all(line.startswith("b,2026-01-0") for line in exported)
    chart = tmp_path / "a.png"
    assert "●" in run("forecast", "plot", "a") or "─" in run("forecast", "plot", "a")
    run("forecast", "plot", "a", "--output", str(chart))
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_produced_covariates_arrive_in_sql_beside_their_values(
    deployment: tuple[Settings, list[str]], run: Run, tmp_path: Path
) -> None:
    _, sets = deployment
    rows = "".join(
        f"a,2026-01-01T{hour:02d}:00:00Z,{hour},{-hour},{hour / 4 if hour % 2 else ''}\n" for hour in range(9)
    )
    (tmp_path / "wide.csv").write_text("series_id,timestamp,value,temperature,wind\n" + rows)
    run("produce", str(tmp_path / "wide.csv"), "--covariate", "temperature", "--covariate", "wind")
    settings = load(None, [*sets[1::2], 'input.covariates=["wind", "temperature"]'])
    work_until(settings, lambda counts: counts["observations"] == 9)
    database = open_database(settings.database.url.get_secret_value(), timeout=10)
    _, history = database.reader.training_history(None, 99, ("temperature", "wind"))
    named = database.reader.query("SELECT name, COUNT(*) AS n FROM covariate_values GROUP BY name ORDER BY name")
    database.close()
    expected = [[-hour, hour / 4 if hour % 2 else np.nan] for hour in range(9)]
    np.testing.assert_array_equal(history.covariates, expected)
    assert [(row["name"], row["n"]) for row in named] == [("temperature", 9), ("wind", 4)]


def test_a_dead_letter_is_shown_sent_again_with_its_origin_and_marked(
    deployment: tuple[Settings, list[str]], run: Run, tmp_path: Path
) -> None:
    settings, _ = deployment
    run("produce", str(tmp_path / "values.csv"))
    poison = b'{"series_id": "a", "timestamp": "soon", "value": 1}'
    send(settings.kafka, settings.kafka.input_topic, [(b"a", poison, []), (None, b"\xff\x00", [])])
    work_until(settings, lambda counts: counts["dead_letters"] == 2)

    place = f"observations/0/{2 * HOURS}"
    assert place in run("dead-letters", "list")
    shown = json.loads(run("dead-letters", "show", place, "--json"))
    assert (shown["value"], shown["key"]) == (poison.decode(), "a")
    assert "\\xff" in json.loads(run("dead-letters", "show", f"observations/0/{2 * HOURS + 1}", "--json"))["value"]

    assert run("dead-letters", "requeue", place) == "sent 1 message to observations again\n"
    again = read_input(settings)[-1]
    assert (again.key, again.value) == (b"a", poison)
    assert again.headers == [("tidecast-requeued-from", place.encode())]
    waiting = json.loads(run("dead-letters", "list", "--waiting", "--json"))
    assert [row["source_offset"] for row in waiting] == [2 * HOURS + 1]

    assert run("dead-letters", "requeue", "--all").startswith("sent 1 message ")
    assert run("dead-letters", "list", "--waiting") == "no dead letters\n"
    assert run("dead-letters", "requeue", "--all").startswith("sent 0 messages ")


def test_doctor_finds_nothing_bad_on_a_healthy_deployment(deployment: tuple[Settings, list[str]], run: Run) -> None:
    before = {finding["check"]: finding for finding in json.loads(run("doctor", "--json"))}
    assert before["topics"]["found"] == "not all there yet"
    work_until(deployment[0], lambda counts: True)
    after = {finding["check"]: finding for finding in json.loads(run("doctor", "--json"))}
    assert after["topics"]["found"] == "observations (1), forecasts (1), observations.dead-letters (1)"
    assert list(after) == [
        *("settings", "codecs", "batch hook", "database", "keys", "grid", "model"),
        *("left in SQL", "broker", "topics", "device"),
    ]


def test_an_output_topic_too_small_for_the_horizon_is_refused_at_the_start(
    deployment: tuple[Settings, list[str]],
) -> None:
    settings, _ = deployment
    create_topic(settings.kafka.bootstrap_servers, settings.kafka.output_topic, max_message_bytes="2800")
    with (
        pytest.raises(ConfigError, match="horizon 3 does not fit into one message; at most 1 steps do; or give"),
        built_worker(settings),
    ):
        pass


def test_a_letter_that_its_topic_takes_in_no_form_stays_in_sql_and_the_worker_goes_on(
    deployment: tuple[Settings, list[str]], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, sets = deployment
    create_topic(settings.kafka.bootstrap_servers, settings.kafka.dead_letter_topic, max_message_bytes="100")
    check_topics(settings.kafka)
    send(settings.kafka, settings.kafka.input_topic, [(b"a", b"not an event", [])])
    run("produce", str(tmp_path / "values.csv"))
    work_until(settings, lambda counts: counts["observations"] == 2 * HOURS)
    work_until(settings, lambda counts: True)  # a claim finds nothing left to publish
    [row] = json.loads(run("dead-letters", "list", "--json"))
    assert "MessageSizeTooLarge" in row["left_in_sql"]
    assert list(read_topic(settings.kafka, settings.kafka.dead_letter_topic)) == []
    with pytest.raises(SystemExit):
        main([*sets, "doctor", "--json"])
    [finding] = [each for each in json.loads(capsys.readouterr().out) if each["check"] == "left in SQL"]
    assert not finding["ok"]
    assert finding["found"] == f"1 refused by {settings.kafka.dead_letter_topic} within a day"


def test_doctor_reads_a_sample_and_proposes_a_mapping_that_reads_it(
    deployment: tuple[Settings, list[str]], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, options = deployment
    check_topics(settings.kafka)
    metrics = [
        {"name": "cpu", "tags": {"host": f"h{i % 2}"}, "timestamp": 1_767_225_600 + i, "fields": {"idle": i, "user": 1}}
        for i in range(30)
    ]
    send(settings.kafka, settings.kafka.input_topic, ((b"k", json.dumps(each).encode(), []) for each in metrics))
    with pytest.raises(SystemExit) as ended:
        main([*options, "doctor", "--sample", "20", "--json"])
    assert ended.value.code == 1, "these settings read none"
    said = json.loads(capsys.readouterr().out)
    assert (said["messages"], said["read"], said["refused"]) == (20, 0, 20)
    assert "no field series_id" in said["reasons"][0]
    proposal = said["proposal"]
    assert proposal["input"] == {
        "timestamp": "timestamp",
        "values": ["fields.*"],
        "series_id": "{tags.host}/{name}/{$field}",
    }
    assert (proposal["read"], proposal["readings"], proposal["series"]) == (20, 40, 4)
    with pytest.raises(SystemExit):
        main([*options, "doctor", "--sample", "20"])
    lines = capsys.readouterr().out.splitlines()
    mapping = [part for line in lines if " = " in line for part in ("--set", f"input.{line}")]
    assert json.loads(run(*mapping, "doctor", "--sample", "1000", "--json"))["read"] == 30
    assert "30 of them read, 0 skipped, 0 refused" in run(*mapping, "doctor", "--sample", "1000")
    skip = ("--set", "input.skip=[\"tags.host == 'h0'\"]")
    assert "15 of them read, 15 skipped, 0 refused" in run(*mapping, *skip, "doctor", "--sample", "1000")
