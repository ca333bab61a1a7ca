"""A frozen worker loses its partitions to another one; when it wakes in the middle of a turn, it changes nothing."""

import time

import pytest
from confluent_kafka.admin import AdminClient

from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel, split
from tests.faults.summary import report
from tests.faults.telemetry import ANY_PORT, telemetry_of
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=24, steps=160)

FREEZES = ("STOP@before_sql:4", "STOP@after_sql:3", "STOP@in_publish:3")


@pytest.mark.fault("frozen-worker")
@pytest.mark.slow
def test_a_worker_that_wakes_after_its_partitions_were_taken_is_fenced_and_recovers(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=20", ANY_PORT)
    sender = Sender(deployment, batch=10)
    parts = iter(split(list(PANEL.messages(twice=0.02, poison=12, seed=3)), 80))
    with place.fleet(deployment) as fleet:

        def freezes() -> bool:
            sender.send(next(parts, ()))
            return fleet.is_frozen("sleeper")

        fleet.start("sleeper", faults=",".join(FREEZES))
        until(lambda: len(deployment.owners()) == PANEL.partitions, 60.0, "the sleeper owns every partition")
        fleet.start("heir")
        until(lambda: set(deployment.owners().values()) == {"sleeper", "heir"}, 60.0, "both own partitions")
        for freeze in FREEZES:
            before = len(fleet.events("sleeper", "claiming again"))
            until(freezes, 60.0, f"the sleeper reaches {freeze}", pause=0.3)
            until(lambda: set(deployment.owners().values()) == {"heir"}, 60.0, "the heir takes every partition")
            sender.send(next(parts, ()))
            wait_for_lag_0(deployment)
            fleet.thaw("sleeper")
            until(
                lambda before=before: len(fleet.events("sleeper", "claiming again")) > before,
                60.0,
                "the sleeper notices that it was fenced",
            )
        told = telemetry_of(fleet, "sleeper").samples()
        assert told["claims_dropped_total", "fenced"] >= 1.0
        dropped = sum(told["claims_dropped_total", why] for why in ("fenced", "broker", "database"))
        assert dropped >= len(FREEZES), "every time that it woke, it noticed"
        for part in parts:
            sender.send(part)
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        until(lambda: "sleeper" in deployment.owners().values(), 60.0, "the sleeper is back in the group")
        codes = [fleet.stop("sleeper"), fleet.stop("heir")]
        findings = verify(deployment, PANEL, sender)
        report(
            "SIGSTOP, takeover, SIGCONT",
            place.name,
            events=sum(sender.sent.values()),
            faults=len(FREEZES),
            findings=findings,
            seconds=seconds,
        )
        assert not findings, str(findings)
        assert codes == [0, 0]


@pytest.mark.fault("frozen-worker-alone")
@pytest.mark.slow
def test_a_worker_that_the_group_has_forgotten_publishes_nothing_even_when_the_group_is_empty(place: Place) -> None:
    """Its library notices before it does, and then commits as generation -1, which an empty group accepts."""
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=20")
    sender = Sender(deployment, batch=10)
    parts = iter(split(list(PANEL.messages(seed=4)), 20))
    with place.fleet(deployment) as fleet:

        def freezes() -> bool:
            sender.send(next(parts, ()))
            return fleet.is_frozen("sleeper")

        fleet.start("sleeper", faults="DOZE@after_sql:3")
        until(freezes, 60.0, "the sleeper falls asleep", pause=0.3)
        fleet.start("heir")
        until(lambda: set(deployment.owners().values()) == {"heir"}, 60.0, "the heir takes every partition")
        wait_for_lag_0(deployment)
        assert fleet.stop("heir") == 0
        until(lambda: is_empty(deployment), 60.0, "the session of the heir ends")
        fleet.thaw("sleeper")
        for part in parts:
            sender.send(part)
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        assert fleet.stop("sleeper") == 0
        findings = verify(deployment, PANEL, sender)
        events = sum(sender.sent.values())
        report("SIGSTOP, empty group", place.name, events=events, faults=1, findings=findings, seconds=seconds)
        assert not findings, str(findings)


def is_empty(deployment: Deployment) -> bool:
    """Tell whether the group has no members."""
    admin = AdminClient({"bootstrap.servers": deployment.bootstrap_servers, "log_level": 0})
    described = admin.describe_consumer_groups([deployment.group])[deployment.group].result(10)
    return not described.members
