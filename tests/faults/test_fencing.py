"""A frozen worker loses its partitions to another one; when it wakes in the middle of a turn, it must change nothing."""

import time

import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel, split
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=24, steps=160)

FREEZES = ("STOP@before_sql:4", "STOP@after_sql:3", "STOP@in_publish:3")


@pytest.mark.slow
def test_a_worker_that_wakes_after_its_partitions_were_taken_is_fenced_and_recovers(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=20")
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
