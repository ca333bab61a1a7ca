"""Messages without keys: a series in several partitions, through real brokers and databases, with several workers."""

import json
from collections.abc import Sequence

import pytest

from pipeline.app import built_worker
from pipeline.stream.worker import Worker
from tests.e2e.test_topic_to_sql import rows
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Message, time_of
from tests.faults.verify import ends, wait_for_lag_0

SETTINGS = ("series.context=16", "series.horizon=4", "series.season=4", "series.on=every_step")


def reading(step: int, partition: int, value: float | None = None) -> Message:
    """The value of a wave that repeats every four steps, or another one; without a key."""
    fields = {
        "series_id": "wave",
        "timestamp": time_of(step).isoformat(),
        "value": step % 4 if value is None else value,
    }
    return Message(partition, None, json.dumps(fields).encode())


def settle(workers: Sequence[Worker], deployment: Deployment) -> None:
    end = ends(deployment)

    def settled() -> bool:
        for worker in workers:
            worker.step()
        return deployment.stored() == end

    until(settled, 120.0, lambda: f"the workers reach {end}: {deployment.stored()}", pause=0)


@pytest.mark.parametrize("policy", ["last", "sum"])
def test_a_series_and_step_from_two_partitions_in_one_turn_is_one_row(place: Place, policy: str) -> None:
    deployment = place.deploy(*SETTINGS, f"series.duplicates={policy}", partitions=2)
    sender = Sender(deployment)
    sender.send([reading(step, at, 10.0 * at + step) for step in range(3) for at in (1, 0)])
    with built_worker(deployment.loaded("kafka.instance=one")) as worker:
        settle([worker], deployment)
    found = rows(deployment, "SELECT value, events FROM observations ORDER BY observed_at")
    assert [tuple(row) for row in found] == {
        "last": [(10.0, 2), (11.0, 2), (12.0, 2)],
        "sum": [(10.0, 2), (12.0, 2), (14.0, 2)],
    }[policy]
    assert rows(deployment, "SELECT count(*) FROM series WHERE spread IS NOT NULL")[0][0] == 1


@pytest.mark.parametrize("members", [1, 2])
def test_forecasts_of_a_topic_without_keys_are_of_the_series(place: Place, members: int) -> None:
    deployment = place.deploy(*SETTINGS, partitions=4)
    sender = Sender(deployment)
    with place.fleet(deployment) as fleet:
        for member in range(members):
            fleet.start(f"member-{member}")
        sender.send([reading(step, step % 4) for step in range(32)])
        until(lambda: len(set(deployment.owners().values())) == members, 120.0, "each member owns some partitions")
        wait_for_lag_0(deployment)
        for step in range(32, 40):
            sender.send([reading(step, (step * 3) % 4)])
            wait_for_lag_0(deployment)
        warned = [fleet.events(f"member-{member}", "series in several partitions") for member in range(members)]
    assert all(warned)
    found = rows(
        deployment,
        "SELECT f.origin, f.step, f.q50, o.value FROM forecasts f JOIN observations o"
        " ON o.series_id = f.series_id AND o.observed_at = f.target_time ORDER BY f.origin, f.step",
    )
    late = [row for row in found if str(row.origin)[:19] >= time_of(32).isoformat(sep=" ")[:19]]
    assert len(late) == 4 + 4 + 4 + 4 + 3 + 2 + 1, "origins 32 to 39, as far as the last target that came"
    assert all(row.q50 == row.value for row in late), late
