"""The broker is killed, frozen, or its reply to a commit is lost; everything is there once, without a human."""

import time

import pytest

from tests.faults.conftest import OwnPlace
from tests.faults.fleet import Fleet
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.proxy import KafkaCommits, LostReplies
from tests.faults.scale import scaled
from tests.faults.vitals import Vitals

PANEL = Panel(series=30, steps=scaled(400))  # 12,000 events
AWAY_SECONDS = 60.0
MOST_CPU = 0.3  # of a core, while there is nothing to do but to try again


@pytest.mark.fault("broker-killed")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_the_broker_is_killed_again_and_again(own_place: OwnPlace) -> None:
    kills = scaled(5, by=2)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=21))
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100")

    def strike(_: Fleet) -> int:
        for _ in range(kills):
            time.sleep(4.0)
            own_place.kafka.restart()
        return kills

    Ordeal("broker: kill -9", own_place, deployment, PANEL, messages, 8.0 * kills).endure(strike)


@pytest.mark.fault("broker-frozen")
@pytest.mark.heavy
def test_a_worker_waits_for_a_broker_that_is_frozen_or_ends_with_a_reason_and_its_restart_recovers(
    own_place: OwnPlace,
) -> None:
    """8 s are within every limit, 40 s beyond the watchdog's, which is 15 s here."""
    freezes = (8.0, 40.0)
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=22))
    deployment = own_place.deploy(*PANEL.settings, "kafka.max_messages=100")

    def strike(_: Fleet) -> int:
        for seconds in freezes:
            time.sleep(5.0)
            own_place.kafka.pause()
            time.sleep(seconds)
            own_place.kafka.resume()
        return len(freezes)

    Ordeal("broker: frozen 8 s, 40 s", own_place, deployment, PANEL, messages, 30.0).endure(strike)


@pytest.mark.fault("broker-reply-lost")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_the_reply_to_the_end_of_a_transaction_is_lost(own_place: OwnPlace) -> None:
    replies = LostReplies(7, KafkaCommits)
    own_place.kafka_network.conversation = replies.conversation
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=23))
    deployment = own_place.deploy_far(*PANEL.settings, "kafka.max_messages=50")

    def strike(_: Fleet) -> int:
        time.sleep(30.0)
        replies.every = 0
        return replies.lost

    Ordeal("broker: reply to EndTxn lost", own_place, deployment, PANEL, messages, 30.0).endure(strike)
    assert replies.lost >= 3


@pytest.mark.fault("broker-away")
@pytest.mark.heavy
def test_a_worker_outwaits_a_broker_that_is_away_with_little_cpu(own_place: OwnPlace) -> None:
    messages = list(PANEL.messages(twice=0.02, poison=40, seed=24))
    deployment = own_place.deploy_far(*PANEL.settings, "kafka.max_messages=100")
    measured: dict[str, float] = {}

    def strike(fleet: Fleet) -> int:
        time.sleep(5.0)
        own_place.kafka_network.refuse()
        with Vitals(lambda: fleet.pid(WORKERS[0])) as vitals:
            time.sleep(AWAY_SECONDS)
        own_place.kafka_network.accept()
        measured["memory_mb"] = vitals.highest_memory()
        measured["cpu_share"] = vitals.cpu_share()
        return 1

    Ordeal("broker: away 60 s", own_place, deployment, PANEL, messages, 30.0, measured).endure(strike)
    assert measured["cpu_share"] < MOST_CPU, measured
