"""A member dies between the two rounds of a rebalance: no partition is left without a reader."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests import processes
from tests.faults.conftest import Place
from tests.faults.deployment import Deployment, Sender
from tests.faults.panel import Panel
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=12, steps=30)


@contextmanager
def member(deployment: Deployment, instance: str) -> Iterator["subprocess.Popen[str]"]:
    """A member of the group under an instance's name, killed on the way out."""
    place = [deployment.bootstrap_servers, deployment.group, instance, deployment.topic]
    command = [sys.executable, "-m", "tests.e2e.member", *place]
    with processes.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_line(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout
    told = []
    for each in process.stdout:
        told.append(each.strip())
        if each.startswith(line):
            return
    raise AssertionError(f"the member ended after {told}")


def test_partitions_that_nobody_has_after_a_death_in_a_rebalance_are_read(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings)
    sender = Sender(deployment)
    sender.send(list(PANEL.messages(seed=8)))
    with member(deployment, "one") as one:
        wait_for_line(one, f"has {PANEL.partitions}")
        with member(deployment, "two"):
            wait_for_line(one, "gives")
            one.kill()
    with place.fleet(deployment) as fleet:
        fleet.start("one")
        fleet.start("two")
        wait_for_lag_0(deployment)
    findings = verify(deployment, PANEL, sender)
    assert not findings, str(findings)
