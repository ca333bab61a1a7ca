"""A slow network to the database or to the broker: the lag rises and falls again, and memory stays bounded."""

import time

import pytest

from tests.faults.conftest import OwnPlace
from tests.faults.fleet import Fleet, until
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.proxy import Proxy
from tests.faults.scale import scaled
from tests.faults.verify import ends
from tests.faults.vitals import Vitals

PANEL = Panel(series=30, steps=scaled(400), padding=4_000)  # 12,000 events, some 50 MB
MORE_MEMORY = 120.0  # MB
LATENCY = 0.1  # seconds, each way
RATE = 150_000.0  # bytes/s for each connection
SLOW_SECONDS = 45.0
RISE = 1_000  # messages


def slow_down(place: OwnPlace, network: Proxy, fault: str, seed: int) -> None:
    messages = list(PANEL.messages(twice=0.02, seed=seed))
    deployment = place.deploy_far(*PANEL.settings, "kafka.max_messages=200")
    lags: list[int] = []
    memory: list[float] = []

    def lag() -> int:
        stored = deployment.stored()
        return sum(end - stored.get(partition, 0) for partition, end in ends(deployment).items())

    def strike(fleet: Fleet) -> int:
        with Vitals(lambda: fleet.pid(WORKERS[0])) as vitals:
            time.sleep(5.0)
        memory.append(vitals.highest_memory())
        network.latency, network.rate = LATENCY, RATE
        with Vitals(lambda: fleet.pid(WORKERS[0])) as vitals:
            until_then = time.monotonic() + SLOW_SECONDS
            while time.monotonic() < until_then:
                lags.append(lag())
                time.sleep(1.0)
        memory.append(vitals.highest_memory())
        network.latency = network.rate = 0.0
        highest = max(lags)
        until(lambda: lag() < highest / 2, 60.0, lambda: f"the lag falls from {highest}; it is {lag()}")
        return 1

    Ordeal(fault, place, deployment, PANEL, messages, 25.0).endure(strike)
    assert max(lags) > RISE, lags
    assert memory[1] < memory[0] + MORE_MEMORY


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
