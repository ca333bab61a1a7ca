"""A slow network to the database or to the broker: the lag rises and falls again, and memory stays bounded."""

import time

import pytest

from tests.faults.conftest import OwnPlace
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.proxy import Proxy
from tests.faults.scale import scaled
from tests.faults.verify import LAG_SECONDS, ends
from tests.faults.vitals import Vitals

PANEL = Panel(series=30, steps=scaled(400), padding=4_000)  # 12,000 events, some 50 MB
MORE_MEMORY = 120.0  # MB
LATENCY = 0.1  # seconds, each way
RATE = 150_000.0  # bytes/s for each connection
SLOW_SECONDS = 45.0
RISE = 1_000  # messages
PARTED_SECONDS = 20.0


def slow_down(place: OwnPlace, network: Proxy, fault: str, seed: int) -> None:
    messages = list(PANEL.messages(twice=0.02, seed=seed))
    deployment = place.deploy_far(*PANEL.settings, "kafka.max_messages=200")
    lags: list[int] = []
    measured: dict[str, float] = {}

    def lag() -> int:
        stored = deployment.stored()
        return sum(end - stored.get(partition, 0) for partition, end in ends(deployment).items())

    def strike(fleet: Fleet) -> int:
        with Vitals(lambda: fleet.pid(WORKERS[0])) as before:
            time.sleep(5.0)
        network.latency, network.rate = LATENCY, RATE
        with Vitals(lambda: fleet.pid(WORKERS[0])) as during:
            until_then = time.monotonic() + SLOW_SECONDS
            while time.monotonic() < until_then:
                lags.append(lag())
                time.sleep(1.0)
        network.latency = network.rate = 0.0
        measured["memory_before_mb"] = before.highest_memory()
        measured["memory_mb"] = during.highest_memory()
        measured["highest_lag"] = highest = max(lags)
        until(lambda: lag() < highest / 2, LAG_SECONDS, lambda: f"the lag falls from {highest}; it is {lag()}")
        return 1

    Ordeal(fault, place, deployment, PANEL, messages, 25.0, measured).endure(strike)
    assert max(lags) > RISE, lags
    assert measured["memory_mb"] < measured["memory_before_mb"] + MORE_MEMORY


@pytest.mark.fault("slow-database")
@pytest.mark.heavy
@pytest.mark.parametrize("own_place", ["Apache Kafka, PostgreSQL"], indirect=True)
def test_a_slow_database_makes_the_lag_rise_and_fall_and_memory_stays_bounded(own_place: OwnPlace) -> None:
    assert own_place.database_network is not None
    slow_down(own_place, own_place.database_network, "database: 0.1 s, 150 kB/s", seed=41)


@pytest.mark.fault("slow-broker")
@pytest.mark.heavy
def test_a_slow_broker_makes_the_lag_rise_and_fall_and_memory_stays_bounded(own_place: OwnPlace) -> None:
    slow_down(own_place, own_place.kafka_network, "broker: 0.1 s, 150 kB/s", seed=42)


@pytest.mark.fault("network-parted")
@pytest.mark.heavy
def test_nothing_is_lost_or_doubled_when_workers_are_parted_from_everything_and_connections_stay_open(
    own_place: OwnPlace,
) -> None:
    """Longer than a session, so that both are thought dead, and what was under way arrives afterwards."""
    panel = Panel(series=30, steps=scaled(400))
    messages = list(panel.messages(twice=0.02, poison=40, seed=43))
    deployment = own_place.deploy_far(*panel.settings, "kafka.max_messages=50")
    networks = [each for each in (own_place.kafka_network, own_place.database_network) if each is not None]

    def strike(_: Fleet) -> int:
        for _ in range(2):
            time.sleep(4.0)
            for network in networks:
                network.hold()
            time.sleep(PARTED_SECONDS)
            for network in networks:
                network.release()
        return 2

    Ordeal("network: parted 20 s", own_place, deployment, panel, messages, 25.0).endure(strike)
