"""A flood of new series against a real worker that is killed in the middle of it."""

from collections import Counter

from tests.e2e.test_topic_to_sql import event, rows
from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import time_of
from tests.faults.verify import gather, wait_for_lag_0

FLOOD = 120  # far more than two a minute lets through while the test runs


def test_a_flood_of_new_series_is_dead_letters_and_known_series_go_on_through_a_kill(place: Place) -> None:
    deployment = place.deploy("input.max_new_series=2", "series.on=every_step", "kafka.max_messages=100", partitions=1)
    sender = Sender(deployment)
    with place.fleet(deployment) as fleet:
        sender.send([event(name, time_of(0).isoformat(), 1.0) for name in ("known-1", "known-2")])
        fleet.start("one")
        wait_for_lag_0(deployment)
        for part in range(2):
            steps = range(1 + part * FLOOD // 2, 1 + (part + 1) * FLOOD // 2)
            sender.send(
                [
                    event(name, time_of(t).isoformat(), 1.0)
                    for t in steps
                    for name in ("known-1", f"flood-{t}", "known-2")
                ]
            )
            if part == 0:
                until(lambda: bool(fleet.events("one", "new series refused")), 60.0, "the flood is refused")
                fleet.kill("one")
                fleet.start("one")
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    evidence = gather(deployment, sender)
    stored = {
        row.name: row.events
        for row in rows(
            deployment,
            "SELECT name, sum(events) AS events FROM observations JOIN series USING (series_id) GROUP BY name",
        )
    }
    refused = [letter[3].decode() for letter in evidence.letters if letter[3]]
    assert stored.pop("known-1") == stored.pop("known-2") == 1 + FLOOD
    assert refused, "the flood was more than the limit"
    assert Counter(refused) + Counter(stored) == Counter(f"flood-{t}" for t in range(1, 1 + FLOOD))
    assert all("input.max_new_series" in letter[2] for letter in evidence.letters)
    for client, dead in evidence.dead.items():
        assert sorted(record.key.decode() for record in dead if record.key) == sorted(refused), client
