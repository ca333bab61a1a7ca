"""Workers come and go while events flow: a rolling restart of three, and a group that is never at rest."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import Place
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel, split
from tests.faults.scale import scaled
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=24, steps=100)
WORKERS = ("one", "two", "three")


@pytest.mark.fault("members-rolling-restart")
@pytest.mark.heavy
def test_a_rolling_restart_of_three_workers_loses_and_doubles_nothing(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=50", "kafka.session_timeout=20")
    sender = Sender(deployment)
    messages = list(PANEL.messages(twice=0.02, poison=20, seed=41))
    codes = []
    with place.fleet(deployment) as fleet, ThreadPoolExecutor(1) as pool:
        for worker in WORKERS:
            fleet.start(worker)
        until(lambda: len(deployment.owners()) == PANEL.partitions, 120.0, "the workers own every partition")

        def send_slowly() -> None:
            for part in split(messages, 100):
                sender.send(part)
                time.sleep(0.2)

        sending = pool.submit(send_slowly)
        for worker in WORKERS * scaled(1, by=10):
            codes.append(fleet.stop(worker))
            fleet.start(worker)
            until(lambda worker=worker: bool(fleet.events(worker, "worker ready")), 60.0, f"{worker} is back")
        sending.result()
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        codes += [fleet.stop(worker) for worker in WORKERS]
    findings = verify(deployment, PANEL, sender)
    restarts = len(codes) - len(WORKERS)
    report("rolling restart", place.name, events=len(messages), faults=restarts, findings=findings, seconds=seconds)
    assert not findings, str(findings)
    assert set(codes) == {0}


@pytest.mark.fault("members-storm")
@pytest.mark.heavy
def test_a_group_that_rebalances_all_the_time_loses_and_doubles_nothing(place: Place) -> None:
    deployment = place.deploy(*PANEL.settings, "kafka.max_messages=50")
    sender = Sender(deployment)
    messages = list(PANEL.messages(twice=0.02, poison=20, seed=42))
    guests = 6 * scaled(1, by=10)
    with place.fleet(deployment) as fleet:
        fleet.start("host")
        until(lambda: len(deployment.owners()) == PANEL.partitions, 120.0, "the host owns every partition")
        for number, part in enumerate(split(messages, guests)):
            sender.send(part)
            guest = f"guest-{number % 2}"
            if number % 4 < 2:
                fleet.start(guest)
            else:
                fleet.kill(guest)
            time.sleep(3.0)
        began = time.monotonic()
        wait_for_lag_0(deployment)
        seconds = time.monotonic() - began
        assert fleet.stop("host") == 0
    findings = verify(deployment, PANEL, sender)
    report("rebalance storm", place.name, events=len(messages), faults=guests, findings=findings, seconds=seconds)
    assert not findings, str(findings)
