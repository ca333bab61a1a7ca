"""An hour of small troubles: what a worker uses is as much at the end as it was in the middle."""

import statistics
import time
from collections.abc import Callable, Sequence

import pytest

from tests.faults.conftest import OwnPlace
from tests.faults.fleet import Fleet
from tests.faults.ordeal import WORKERS, Ordeal
from tests.faults.panel import Panel
from tests.faults.scale import scale
from tests.faults.vitals import MEGABYTE, Sample, Vitals

SECONDS = 3600.0 * scale()  # SCALE=0.05 is three minutes
EVERY = 10.0  # seconds between two troubles
PANEL = Panel(series=20, steps=max(100, round(SECONDS)))
MORE_MEMORY, MORE_DESCRIPTORS, MORE_THREADS = 16.0, 4, 2  # MB and counts, from the middle of the run to its end


def growth(samples: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """The median of the last third minus the median of the third before it."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    return statistics.median(map(of, last)) - statistics.median(map(of, middle))


@pytest.mark.fault("soak", on_demand=True)
@pytest.mark.heavy
@pytest.mark.timeout(SECONDS + 900.0)
def test_memory_descriptors_and_threads_stay_flat_over_many_recoveries(own_place: OwnPlace) -> None:
    """Every recovery builds a new producer and new sessions; what they leave behind would add up."""
    messages = list(PANEL.messages(twice=0.02, poison=20, seed=51))
    deployment = own_place.deploy_far(*PANEL.settings, "kafka.max_messages=100")
    measured: dict[str, float] = {}

    def strike(fleet: Fleet) -> int:
        cuts = 0
        end = time.monotonic() + SECONDS
        with Vitals(lambda: fleet.pid(WORKERS[0]), pause=1.0) as vitals:
            while time.monotonic() < end:
                time.sleep(EVERY)
                networks = [own_place.kafka_network, own_place.database_network]
                network = networks[cuts % 2] or own_place.kafka_network
                network.cut()
                cuts += 1
        measured["memory_mb"] = vitals.highest_memory()
        measured["more_memory_mb"] = growth(vitals.samples, lambda sample: sample.memory / MEGABYTE)
        measured["more_descriptors"] = growth(vitals.samples, lambda sample: sample.descriptors)
        measured["more_threads"] = growth(vitals.samples, lambda sample: sample.threads)
        return cuts

    ended = Ordeal("soak: connections cut", own_place, deployment, PANEL, messages, SECONDS, measured).endure(strike)
    assert ended == []
    assert measured["more_memory_mb"] < MORE_MEMORY, measured
    assert measured["more_descriptors"] <= MORE_DESCRIPTORS, measured
    assert measured["more_threads"] <= MORE_THREADS, measured
