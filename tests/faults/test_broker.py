"""The broker is killed, frozen, or its reply to a commit is lost; everything is there once, without a human."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.conftest import OwnPlace
from tests.faults.deployment import Sender
from tests.faults.fleet import until
from tests.faults.panel import Panel
from tests.faults.proxy import KafkaCommits, LostReplies
from tests.faults.scale import scaled
from tests.faults.summary import report
from tests.faults.verify import verify, wait_for_lag_0

PANEL = Panel(series=30, steps=scaled(400))  # 12,000 events
WORKERS = ("one", "two")


@pytest.mark.fault("broker-killed")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_the_broker_is_killed_again_and_again(own_place: OwnPlace) -> None:
    kills = scaled(5, by=2)
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100")
    sender = Sender(deployment)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=21))
    with own_place.fleet(deployment) as fleet, ThreadPoolExecutor(1) as pool:
        for worker in WORKERS:
            fleet.start(worker)
        until(lambda: len(deployment.owners()) == PANEL.partitions, 120.0, "the workers own every partition")
        with fleet.supervised() as ended:
            sending = pool.submit(sender.send_over, messages, 8.0 * kills)
            for _ in range(kills):
                time.sleep(4.0)
                own_place.kafka.restart()
            sending.result()
            began = time.monotonic()
            wait_for_lag_0(deployment)
            seconds = time.monotonic() - began
        codes = [fleet.stop(worker) for worker in WORKERS]
    findings = verify(deployment, PANEL, sender)
    report(
        "kill -9 of the broker", own_place.name, events=len(messages), faults=kills, findings=findings, seconds=seconds
    )
    assert not findings, str(findings)
    assert codes == [0, 0]
    assert {end.code for end in ended} <= {1}, ended


@pytest.mark.fault("broker-frozen")
@pytest.mark.heavy
def test_a_worker_waits_for_a_broker_that_is_frozen_or_ends_with_a_reason_and_its_restart_recovers(
    own_place: OwnPlace,
) -> None:
    """8 s are within every limit, 40 s beyond the watchdog's, which is 15 s here."""
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100")
    sender = Sender(deployment)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=22))
    freezes = (8.0, 40.0)
    with own_place.fleet(deployment) as fleet, ThreadPoolExecutor(1) as pool:
        for worker in WORKERS:
            fleet.start(worker)
        until(lambda: len(deployment.owners()) == PANEL.partitions, 120.0, "the workers own every partition")
        with fleet.supervised() as ended:
            sending = pool.submit(sender.send_over, messages, 30.0)
            for seconds in freezes:
                time.sleep(5.0)
                own_place.kafka.pause()
                time.sleep(seconds)
                own_place.kafka.resume()
            sending.result()
            began = time.monotonic()
            wait_for_lag_0(deployment)
            seconds = time.monotonic() - began
        codes = [fleet.stop(worker) for worker in WORKERS]
    findings = verify(deployment, PANEL, sender)
    events = len(messages)
    report("the broker frozen", own_place.name, events=events, faults=len(freezes), findings=findings, seconds=seconds)
    assert not findings, str(findings)
    assert codes == [0, 0]
    assert {end.code for end in ended} <= {1}, ended
    assert all("did not return within" in end.said or "Kafka at" in end.said for end in ended), ended


@pytest.mark.fault("broker-reply-lost")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_the_reply_to_the_end_of_a_transaction_is_lost(own_place: OwnPlace) -> None:
    replies = LostReplies(7, KafkaCommits)
    own_place.kafka_network.conversation = replies.conversation
    deployment = own_place.deploy_far(*PANEL.settings, "kafka.max_messages=50")
    sender = Sender(deployment)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=23))
    with own_place.fleet(deployment) as fleet:
        for worker in WORKERS:
            fleet.start(worker)
        until(lambda: len(deployment.owners()) == PANEL.partitions, 120.0, "the workers own every partition")
        with fleet.supervised() as ended:
            sender.send_over(messages, 30.0)
            replies.every = 0
            began = time.monotonic()
            wait_for_lag_0(deployment)
            seconds = time.monotonic() - began
        codes = [fleet.stop(worker) for worker in WORKERS]
    findings = verify(deployment, PANEL, sender)
    report(
        "reply to EndTxn lost",
        own_place.name,
        events=len(messages),
        faults=replies.lost,
        findings=findings,
        seconds=seconds,
    )
    assert not findings, str(findings)
    assert replies.lost >= 5
    assert codes == [0, 0]
    assert {end.code for end in ended} <= {1}, ended
