"""From the input topic to SQL and the output topics, over the whole path and nothing replaced."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from sqlalchemy import text

from models.artifact import pack
from models.batch import Batch
from models.config import QUANTILE_LEVELS
from models.network.forecasters import build
from pipeline.app import built_worker
from pipeline.database import upgrade
from pipeline.errors import ConfigError
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.start import clock, open_database
from pipeline.stream.claim import Accept
from pipeline.stream.worker import Worker
from tests import servers
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import Fleet, until
from tests.faults.panel import Message, Panel, split
from tests.faults.verify import agreement, ends, gather, published_confluent, verify, wait_for_lag_0

PANEL = Panel(series=12, steps=60)
SMALL = Panel(series=1, steps=40, partitions=1)


@contextmanager
def working(deployment: Deployment, accept: Accept = Accept.NOTHING, **options: Any) -> Iterator[Worker]:
    """A worker in this process."""
    with built_worker(deployment.loaded("kafka.instance=worker"), accept=accept, **options) as worker:
        yield worker


def catch_up(worker: Worker, deployment: Deployment) -> None:
    """Step until everything in the input is stored and published."""
    end = ends(deployment)

    def caught_up() -> bool:
        worker.step()
        return deployment.stored() == end

    until(caught_up, 60.0, lambda: f"the worker reaches {end}: {deployment.stored()}", pause=0)
    assert published_confluent(deployment) == end


def rows(deployment: Deployment, query: str) -> list[Any]:
    engine = deployment.engine()
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()


def event(series: str, at: str, value: float | None, partition: int = 0) -> Message:
    fields = {"series_id": series, "timestamp": at, "value": value}
    return Message(partition, series.encode(), json.dumps(fields).encode())


def test_everything_in_the_topic_comes_out_once_also_over_a_restart(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings)
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages(twice=0.05, poison=21, seed=1)), 2)
    for part in (first, second):
        sender.send(part)
        with working(deployment) as worker:
            catch_up(worker, deployment)
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)
    assert rows(deployment, "SELECT count(*) FROM forecasts")[0][0] == PANEL.series * PANEL.steps * PANEL.horizon
    assert rows(deployment, "SELECT count(*) FROM dead_letters")[0][0] == 21
    assert rows(deployment, "SELECT count(*) FROM current_forecast")[0][0] == PANEL.series * PANEL.horizon


class Oracle(torch.nn.Module):
    """Knows that y(t) = t: reads t off the end of the window, and so knows every step after it."""

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = horizon

    def forward(self, batch: Batch) -> torch.Tensor:
        steps = torch.arange(1, self.horizon + 1)  # (H,)
        answer = batch.target[:, -1:] + steps  # (B, H)
        return answer[:, :, None].expand(-1, -1, len(QUANTILE_LEVELS))

    def find_floor(self, batch: Batch) -> None:
        return None


def events_of_step(policy: str, t: int) -> list[tuple[float, float]]:
    """Values that the policy merges to t, and where in the step they lie."""
    return {
        "last": [(float(t), 0.3)],
        "mean": [(t - 2.0, 0.0), (t + 2.0, 0.4)],
        "sum": [(t - 3.0, 0.1), (3.0, 0.9)],
    }[policy]


@pytest.mark.parametrize("policy", ["last", "mean", "sum"])
@pytest.mark.parametrize(
    ("context", "horizon", "frequency"), [(2, 1, "1h"), (24, 7, "15min"), (10, 3, "D"), (13, 12, "MS"), (8, 5, "B")]
)
def test_an_oracle_makes_no_error_over_the_whole_path(
    development_broker: Any, tmp_path: Path, context: int, horizon: int, frequency: str, policy: str
) -> None:
    place = Place("", development_broker.bootstrap_servers, f"sqlite:///{tmp_path}/tidecast.db", tmp_path)
    shape = [f"series.{key}={value}" for key, value in {"context": context, "horizon": horizon}.items()]
    deployment = place.deploy(
        *(*shape, f"series.frequency={frequency}", "series.phase=0 s"),
        *(f"series.duplicates={policy}", "series.on=every_step"),
        partitions=1,
    )
    times = pd.date_range("2015-01-01", periods=45, freq=frequency, tz="UTC")
    length = (times[1:] - times[:-1]).min()
    messages = []
    for t, at in enumerate(times):
        for value, share in events_of_step(policy, t):
            messages.append(event("line", (at + share * length).isoformat(), value))
    Sender(deployment, batch=7).send(messages)
    with working(deployment) as worker:
        worker.parts.scorer._naive = Oracle(horizon)  # type: ignore[assignment]
        catch_up(worker, deployment)
    found = rows(
        deployment,
        "SELECT f.q025, f.q50, f.q975, o.value FROM forecasts f JOIN observations o"
        " ON o.series_id = f.series_id AND o.observed_at = f.target_time",
    )
    assert rows(deployment, "SELECT count(*), min(value), max(value) FROM observations")[0] == (45, 0.0, 44.0)
    origins = 45 if policy == "last" else 44  # a sum is complete once the next step begins
    assert rows(deployment, "SELECT count(*) FROM forecasts")[0][0] == origins * horizon
    assert len(found) == sum(min(horizon, 44 - t) for t in range(45))
    assert all(row.q025 == row.q50 == row.q975 == row.value for row in found)


def test_a_promoted_model_serves_from_the_next_turn_on(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "model.hidden=8", "model.layers=1")
    settings = deployment.loaded()
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages()), 2)
    ahead = 0

    def now() -> int:
        return clock() + ahead

    with working(deployment, now=now, timer=now) as worker:
        sender.send(first)
        catch_up(worker, deployment)
        database = open_database(settings)
        config = model_config(settings, Frequency("1h"), PANEL.series)
        version = database.registry.register(
            name="untrained",
            config=config.to_dict(),
            metrics={},
            train_from=None,
            train_to=None,
            seed=0,
            code="test",
            artifact=pack(build(config), series=PANEL.names, provenance={}),
            now=now(),
        )
        assert database.registry.promote(version, expected=None, reason="test", now=now())
        database.close()
        ahead += 10_000_000  # the scorer looks for a champion every few seconds
        sender.send(second)
        catch_up(worker, deployment)
    served = rows(
        deployment,
        "SELECT model_version, quality, count(*), min(origin), max(origin) FROM forecasts WHERE step = 1 GROUP BY 1, 2"
        " ORDER BY 1",
    )
    half = PANEL.series * PANEL.steps // 2
    assert [tuple(row[:3]) for row in served] == [(0, "fallback", half), (version, "ok", half)]
    assert served[0][4] < served[1][3]
    findings = agreement(gather(deployment, sender), deployment)
    assert not findings, str(findings)


def test_a_late_event_corrects_the_window_of_the_next_forecast(place: Place) -> None:
    deployment = place.deploy(*SMALL.settings, partitions=1)
    sender = Sender(deployment)
    messages = list(SMALL.messages())
    late = "2024-01-02T03:00:00Z"  # step 27
    older_than_the_ring = "2024-01-01T01:00:00Z"  # step 1
    with working(deployment) as worker:
        sender.send(messages[:31])
        catch_up(worker, deployment)
        sender.send([event("series-000", late, 500.0), event("series-000", older_than_the_ring, 700.0)])
        catch_up(worker, deployment)
        sender.send(messages[31:32])
        catch_up(worker, deployment)
    medians = {(row.origin, row.step): row.q50 for row in rows(deployment, "SELECT step, q50, origin FROM forecasts")}
    before, after = (sorted({origin for origin, _ in medians})[i] for i in (30, 31))
    assert len(medians) == 32 * SMALL.horizon  # a late event makes no forecast of its own
    assert [medians[before, h] for h in (1, 2, 3)] == [25.0, 26.0, 27.0]
    assert [medians[after, h] for h in (1, 2, 3)] == [26.0, 500.0, 28.0]
    corrected = rows(deployment, "SELECT value, events FROM observations WHERE events > 1 ORDER BY observed_at")
    assert [tuple(row) for row in corrected] == [(700.0, 2), (500.0, 2)]


@pytest.mark.parametrize(
    ("policy", "value"), [("last", 5.0), ("first", 3.0), ("max", 7.0), ("sum", 15.0), ("mean", 5.0)]
)
def test_events_of_the_same_step_are_merged_by_the_policy(place: Place, policy: str, value: float) -> None:
    deployment = place.deploy(*SMALL.settings, f"series.duplicates={policy}", partitions=1)
    sender = Sender(deployment)
    times = ("2024-01-01T00:00:00Z", "2024-01-01T00:20:00Z", "2024-01-01T00:40:00Z")
    one, two, three = (event("a", at, number) for at, number in zip(times, (3.0, 7.0, 5.0), strict=True))
    for turn in ([one, two], [three]):
        sender.send(turn)
        with working(deployment) as worker:
            catch_up(worker, deployment)
    assert [tuple(row) for row in rows(deployment, "SELECT value, events FROM observations")] == [(value, 3)]


def test_two_workers_share_the_topic_and_sigterm_leaves_nothing_in_flight(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=10")
    sender = Sender(deployment, batch=5)
    messages = iter(split(list(PANEL.messages(poison=5)), 40))
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        fleet.start("two")

        def both_work() -> bool:
            sender.send(next(messages, ()))
            return all(fleet.events(name, "turn") for name in ("one", "two"))

        until(both_work, 60.0, "both workers take turns", pause=0.2)
        for part in messages:
            sender.send(part)
        assert set(deployment.owners().values()) == {"one", "two"}
        assert fleet.stop("one") == 0
        assert fleet.stop("two") == 0
        for name in ("one", "two"):
            assert fleet.events(name)[-1]["event"] == "worker stopped"
    assert published_confluent(deployment) == deployment.stored()
    with working(deployment) as worker:
        catch_up(worker, deployment)
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)


def ended(fleet: Fleet, *options: str) -> tuple[int, str]:
    """Run `tidecast stream` until it ends by itself: its exit code and what it wrote beside log events."""
    fleet.start("worker", *options)
    code = fleet.ended("worker", 60.0)
    return code, "\n".join(line for line in fleet.text("worker").splitlines() if not line.startswith("{"))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("kafka.bootstrap_servers=127.0.0.1:{closed}", 1, "check kafka.bootstrap_servers"),
        ("database.url=postgresql+psycopg://nobody@127.0.0.1:{closed}/nothing", 1, "database postgresql://"),
        ("database.url=sqlite:///{folder}/empty.db", 2, "run tidecast db upgrade"),
        ("series.frequency=often", 2, "is not a pandas frequency"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_said_in_one_line(
    development_broker: Any, tmp_path: Path, change: str, code: int, words: str
) -> None:
    url = f"sqlite:///{tmp_path}/tidecast.db"
    upgrade(url)
    sets = [f"kafka.bootstrap_servers={development_broker.bootstrap_servers}", f"database.url={url}"]
    sets += ["kafka.call_timeout=3", "database.timeout=3", change.format(closed=servers.free_port(), folder=tmp_path)]
    with Fleet(sets, tmp_path) as fleet:
        found, said = ended(fleet)
    assert found == code, said
    assert said.startswith("tidecast: ") and words in said and len(said.splitlines()) == 1, said


def test_a_database_older_than_the_topic_is_refused_until_the_rewind_is_accepted(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings)
    sender = Sender(deployment)
    messages = list(PANEL.messages(poison=4))
    before = len(messages) // 2
    sender.send(messages[:before])
    with working(deployment) as worker:
        catch_up(worker, deployment)
    engine = deployment.engine()
    with engine.begin() as connection:  # an older backup: half of every partition's offsets was never stored
        behind = {partition: offset // 2 for partition, offset in deployment.stored().items()}
        for partition, offset in behind.items():
            for table in ("observations", "packed_forecasts", "dead_letters"):
                where = "source_partition = :partition AND source_offset >= :offset"
                connection.execute(
                    text(f"DELETE FROM {table} WHERE {where}"), {"partition": partition, "offset": offset}
                )
            update = "UPDATE ingest_state SET next_offset = :offset WHERE partition = :partition"
            connection.execute(text(update), {"partition": partition, "offset": offset})
    engine.dispose()
    with place.fleet(deployment) as fleet:
        code, said = ended(fleet)
        assert code == 2, said
        assert "--accept-database-rewind" in said and len(said.splitlines()) == 1, said
    assert deployment.stored() == behind
    with pytest.raises(ConfigError, match="--accept-database-rewind"), working(deployment) as worker:
        catch_up(worker, deployment)
    sender.send(messages[before:])
    with place.fleet(deployment) as fleet:
        fleet.start("worker", "--accept-database-rewind")
        wait_for_lag_0(deployment)
        assert fleet.stop("worker") == 0
    findings = verify(deployment, PANEL, sender)
    assert not findings.lost and not findings.doubled, str(findings)
    # What was published before keeps its issued_at; the row that was stored again has a later one.
    assert all("differs from its rows" in line for line in findings.mismatched), str(findings)


def test_retention_that_passes_what_was_stored_is_recorded_and_the_worker_goes_on(place: Place) -> None:
    deployment = place.deploy(*SMALL.settings, partitions=1)
    sender = Sender(deployment, batch=1)
    messages: Sequence[Message] = list(SMALL.messages())
    sender.send(messages[:10])
    with working(deployment) as worker:
        catch_up(worker, deployment)
    sender.send(messages[10:30])
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    for deleted in admin.delete_records([TopicPartition(deployment.topic, 0, 25)]).values():
        assert deleted.result(30).low_watermark == 25
    with working(deployment) as worker:
        catch_up(worker, deployment)
        sender.send(messages[30:])
        catch_up(worker, deployment)
    jumps = rows(deployment, "SELECT partition, from_offset, to_offset, reason FROM ingest_jumps")
    assert [tuple(row[:3]) for row in jumps] == [(0, 10, 25)]
    assert "retention" in jumps[0].reason
    stored = rows(deployment, "SELECT value FROM observations ORDER BY observed_at")
    assert [row.value for row in stored] == [SMALL.value("series-000", t) for t in [*range(10), *range(25, 40)]]
    assert rows(deployment, "SELECT count(*) FROM forecasts WHERE step = 1")[0][0] == 25
