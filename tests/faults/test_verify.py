"""The verifier itself: it is silent about an honest run, and finds each fault that is planted in one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from sqlalchemy import text

from pipeline.app import built_worker
from tests.faults.deployment import Deployment, Sender, deploy
from tests.faults.fleet import until
from tests.faults.panel import Panel
from tests.faults.verify import CLIENTS, Evidence, Findings, Record, gather, judge, published_confluent

PANEL = Panel(series=3, steps=40, partitions=2, season=4, horizon=6, context=10)
Run = tuple[Deployment, Sender]
Plant = Callable[[Evidence], Evidence]


@pytest.fixture(scope="module")
def run(development_broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A small deployment whose input was handled without any fault."""
    url = f"sqlite:///{tmp_path_factory.mktemp('verify')}/tidecast.db"
    settings = (*PANEL.settings, "model.pretrained=false")  # whose forecasts have no closed form
    deployment = deploy(development_broker.bootstrap_servers, url, settings, PANEL.partitions)
    sender = Sender(deployment)
    sender.send(PANEL.messages(twice=0.1, poison=8))
    with built_worker(deployment.loaded("kafka.instance=verified")) as worker:

        def done() -> bool:
            worker.step()
            return sum(deployment.stored().values()) == sum(sender.sent.values())

        until(done, 60.0, "everything is stored", pause=0)
    return deployment, sender


@pytest.fixture(scope="module")
def honest(run: Run) -> Evidence:
    return gather(*run)


def test_an_honest_run_has_no_findings(run: Run, honest: Evidence) -> None:
    findings = judge(honest, run[0], PANEL)
    assert not findings, str(findings)
    assert len(honest.forecasts) == PANEL.series * PANEL.steps
    assert len(honest.letters) == 8


def _drop(records: Sequence[Any], at: int = 5) -> list[Any]:
    return [*records[:at], *records[at + 1 :]]


def _twice(records: Sequence[Any], at: int = 5) -> list[Any]:
    return [*records, records[at]]


def _change(records: Sequence[Any], change: Callable[[Any], Any], at: int = 5) -> list[Any]:
    return [*records[:at], change(records[at]), *records[at + 1 :]]


def _output(change: Callable[[Sequence[Record]], Sequence[Record]], *clients: str) -> Plant:
    def plant(evidence: Evidence) -> Evidence:
        return replace(
            evidence,
            output={client: change(read) if client in clients else read for client, read in evidence.output.items()},
        )

    return plant


def _other_number(record: Record) -> Record:
    assert record.value is not None
    return replace(record, value=record.value.replace(b'"quantiles":[[', b'"quantiles":[[9'))


def _other_calibration(record: Record) -> Record:
    assert record.value is not None
    return replace(record, value=record.value.replace(b'"calibration":1', b'"calibration":2'))


def _other_median(entry: Any) -> Any:
    key, forecast = entry
    rows = [list(row) for row in forecast.quantiles]
    rows[2][6] += 1e-3
    return key, replace(forecast, quantiles=tuple(map(tuple, rows)))


def _one_step_less(entry: Any) -> Any:
    key, forecast = entry
    return key, replace(forecast, steps=forecast.steps[:-1])


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        pytest.param("lost", lambda e: replace(e, input=_drop(e.input)), id="an input message is gone"),
        pytest.param("doubled", lambda e: replace(e, input=_twice(e.input)), id="an input message came twice"),
        pytest.param("lost", lambda e: replace(e, observations=_drop(e.observations)), id="an observation is gone"),
        pytest.param(
            "doubled",
            lambda e: replace(e, observations=_change(e.observations, lambda row: (*row[:3], row[3] + 1))),
            id="an event was counted twice",
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(e, observations=_change(e.observations, lambda row: (*row[:2], row[2] + 1.0, row[3]))),
            id="an observation holds another value",
        ),
        pytest.param("lost", lambda e: replace(e, forecasts=_drop(e.forecasts)), id="a forecast is gone from SQL"),
        pytest.param("doubled", lambda e: replace(e, forecasts=_twice(e.forecasts)), id="a forecast is twice in SQL"),
        pytest.param(
            "lost",
            lambda e: replace(e, forecasts=_change(e.forecasts, _one_step_less)),
            id="a step of a forecast is gone",
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(e, forecasts=_change(e.forecasts, _other_median)),
            id="a median is wrong by a thousandth",
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(
                e, forecasts=_change(e.forecasts, lambda entry: (entry[0], replace(entry[1], source=(0, 0))))
            ),
            id="a forecast names another source",
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(
                e, forecasts=_change(e.forecasts, lambda entry: (entry[0], replace(entry[1], calibration=0)))
            ),
            id="a forecast names another calibration",
        ),
        pytest.param(
            "mismatched",
            _output(lambda records: _change(records, _other_calibration), *CLIENTS),
            id="a message names another calibration",
        ),
        pytest.param("lost", _output(_drop, *CLIENTS), id="a message is gone"),
        pytest.param("lost", _output(_drop, CLIENTS[0]), id="kafka-python does not see a message"),
        pytest.param("mismatched", _output(_drop, CLIENTS[1]), id="librdkafka does not see a message"),
        pytest.param("doubled", _output(_twice, *CLIENTS), id="a message is there twice"),
        pytest.param(
            "mismatched",
            _output(lambda records: _change(records, _other_number), *CLIENTS),
            id="a message holds another number",
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(e, stored_again={at: range(end) for at, end in e.ends.items()}),
            id="a row that was stored again is as old as its message",
        ),
        pytest.param("lost", lambda e: replace(e, letters=_drop(e.letters)), id="a dead letter is gone from SQL"),
        pytest.param(
            "doubled",
            lambda e: replace(e, dead={client: _twice(read) for client, read in e.dead.items()}),
            id="a dead letter is twice on its topic",
        ),
        pytest.param(
            "mismatched", lambda e: replace(e, stored={at: end - 1 for at, end in e.stored.items()}), id="S lags behind"
        ),
        pytest.param(
            "mismatched",
            lambda e: replace(e, published=e.published | {CLIENTS[1]: {0: 1}}),
            id="K is elsewhere for one client",
        ),
    ],
)
def test_a_fault_in_the_evidence_is_found(run: Run, honest: Evidence, kind: str, plant: Plant) -> None:
    assert getattr(judge(plant(honest), run[0], PANEL), kind)


@pytest.fixture
def repaired(run: Run) -> Iterator[Callable[[str], None]]:
    """Execute SQL in the run's database, on a copy that is put back afterwards."""
    path = Path(run[0].database.removeprefix("sqlite:///"))
    engine = run[0].engine()
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    copy = path.read_bytes()

    def execute(statement: str) -> None:
        with engine.begin() as connection:
            assert connection.execute(text(statement)).rowcount > 0

    yield execute
    with engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    engine.dispose()
    path.write_bytes(copy)


@pytest.mark.parametrize(
    ("kind", "statement"),
    [
        ("lost", "DELETE FROM observations WHERE series_id = 1 AND observed_at = '2024-01-01 05:00:00'"),
        ("lost", "DELETE FROM packed_forecasts WHERE series_id = 2 AND origin = '2024-01-01 05:00:00'"),
        ("lost", "DELETE FROM dead_letters WHERE source_offset = (SELECT max(source_offset) FROM dead_letters)"),
        ("doubled", "UPDATE observations SET events = events + 1 WHERE observed_at = '2024-01-01 07:00:00'"),
        ("mismatched", "UPDATE packed_forecasts SET calibration = 2 WHERE series_id = 1"),
        ("mismatched", "UPDATE packed_forecasts SET base = base + 1 WHERE series_id = 1"),
    ],
)
def test_a_fault_in_the_database_is_found(run: Run, repaired: Callable[[str], None], kind: str, statement: str) -> None:
    repaired(statement)
    assert getattr(judge(gather(*run), run[0], PANEL), kind)


def test_faults_on_the_output_topic_are_found(run: Run, honest: Evidence) -> None:
    deployment, _ = run
    record = honest.output[CLIENTS[0]][3]
    assert record.value is not None and record.key is not None
    producer = Producer({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    for value in (record.value, record.value.replace(b'"steps":6', b'"steps":7')):
        producer.produce(deployment.output, value, record.key, record.partition, headers=list(record.headers))
    assert producer.flush(30) == 0
    found: Findings = judge(gather(*run), deployment, PANEL)
    assert len(found.doubled) == len(CLIENTS) and len(found.mismatched) >= len(CLIENTS) and not found.lost


def test_the_groups_offset_is_read_the_same_by_both_clients(run: Run, honest: Evidence) -> None:
    assert honest.published[CLIENTS[0]] == honest.published[CLIENTS[1]] == published_confluent(run[0]) == honest.stored
