"""Topics that are deleted and made anew under a worker, and databases that belong to another deployment."""

from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient

from tests import servers
from tests.e2e.test_topic_to_sql import rows
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel, split
from tests.faults.verify import gather, wait_for_lag_0

PANEL = Panel(series=4, steps=40, partitions=2)
ANEW = "--accept-new-topic"


def remake(deployment: Deployment, topic: str, *, empty: bool = False) -> None:
    """Delete a topic and make it anew, or leave it away."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    admin.delete_topics([topic], operation_timeout=20)[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=10).topics, 60.0, "the topic is gone")
    if not empty:
        servers.create_topic(deployment.bootstrap_servers, topic, deployment.partitions, retention_ms="-1")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_topic_that_was_made_anew_is_noticed_before_anything_of_it_is_stored(place: Place, frozen: bool) -> None:
    deployment = place.deploy(*PANEL.settings, partitions=2)
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages(seed=2)), 2)
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        sender.send(first)
        wait_for_lag_0(deployment)
        stored = deployment.stored()
        if frozen:
            fleet.freeze("one")
        else:
            assert fleet.stop("one") == 0
        remake(deployment, deployment.topic)
        fresh = Sender(deployment)
        fresh.send(first + second)  # longer than what was stored: no offset is out of range
        if frozen:
            fleet.thaw("one")
        else:
            fleet.start("one")
        assert fleet.ended("one", 90.0) == 2, "the worker refuses the new topic"
        assert ANEW in fleet.text("one"), fleet.text("one")
        assert deployment.stored() == stored, "nothing of it was stored under the old offsets"
        fleet.start("one", ANEW)
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    assert sum(deployment.stored().values()) == len(first) + len(second)
    kept = rows(deployment, "SELECT topic FROM topics ORDER BY topic_id")
    assert [row.topic.partition("@")[0] for row in kept] == [deployment.topic] * 2
    found = rows(deployment, "SELECT count(*) AS steps, sum(events) AS events FROM observations")[0]
    assert (found.steps, found.events) == (PANEL.series * PANEL.steps, 2 * len(first) + len(second))
    jumps = rows(deployment, "SELECT topic, partition, from_offset, reason FROM ingest_jumps ORDER BY partition")
    remembered = [jump for jump in jumps if "made anew" in jump.reason]
    assert [jump.from_offset for jump in remembered] == [stored[0], stored[1]]
    assert all(f"{deployment.topic}@" in jump.reason for jump in remembered)
    evidence = gather(deployment, fresh)
    assert {client: len(found) for client, found in evidence.output.items()} == dict.fromkeys(
        evidence.output, PANEL.series * PANEL.steps
    ), "each forecast once, those of the first half before the topic was made anew"


def test_an_input_topic_that_is_deleted_makes_a_worker_unready_and_is_not_made_anew(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, partitions=2)
    Sender(deployment).send(list(PANEL.messages(seed=3)))
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        wait_for_lag_0(deployment)
        remake(deployment, deployment.topic, empty=True)
        until(lambda: "does not exist any more" in fleet.text("one"), 60.0, "the worker notices")
        fleet.kill("one")
        fleet.start("one")
        assert fleet.ended("one") == 2, "a worker that starts refuses"
        assert "does not exist any more" in fleet.text("one")
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    assert deployment.topic not in admin.list_topics(timeout=10).topics


def test_an_output_topic_that_was_made_anew_is_refused_until_it_is_accepted(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, partitions=2)
    sender = Sender(deployment)
    first, second = split(list(PANEL.messages(seed=4)), 2)
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        sender.send(first)
        wait_for_lag_0(deployment)
        remake(deployment, deployment.output)
        sender.send(second)
        assert fleet.ended("one", 90.0) == 2
        assert ANEW in fleet.text("one") and deployment.output in fleet.text("one")
        fleet.start("one", ANEW)
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    jumps = rows(deployment, "SELECT topic, partition, reason FROM ingest_jumps")
    assert [(jump.topic, jump.partition) for jump in jumps if "made anew" in jump.reason] == [(deployment.output, -1)]


@pytest.mark.parametrize("changed", ["kafka.group=another", "series.frequency=15min", "kafka.input_topic=another"])
def test_a_database_of_another_deployment_is_refused_in_one_line(place: Place, changed: str) -> None:
    deployment = place.deploy(*PANEL.settings, partitions=2)
    Sender(deployment).send(list(PANEL.messages(seed=5))[:20])
    other = replace(deployment, settings=(*deployment.settings, changed))
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        wait_for_lag_0(deployment)
        assert fleet.stop("one") == 0
    with place.fleet(other) as fleet:
        fleet.start("two")
        assert fleet.ended("two") == 2
        assert changed.partition("=")[0] in fleet.text("two"), fleet.text("two")
