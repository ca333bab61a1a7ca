"""What the fault tests say about memory, CPU and growth is computed as one would by hand."""

import os
import time

import pytest

from tests.faults.test_soak import growth
from tests.faults.vitals import MEGABYTE, Sample, Vitals


def test_the_share_of_cpu_counts_every_life_of_a_worker() -> None:
    vitals = Vitals(os.getpid)
    cpu = [10.0, 11.0, 0.5, 1.5]  # started again after the second sample
    vitals.samples = [Sample(at=2.0 * i, memory=i, cpu=used, descriptors=0, threads=0) for i, used in enumerate(cpu)]
    assert vitals.cpu_share() == pytest.approx((1.0 + 0.5 + 1.0) / 6.0)
    assert vitals.highest_memory() == 3 / MEGABYTE


def test_growth_is_from_the_middle_third_to_the_last_and_an_outlier_does_not_count() -> None:
    memory = [900, 1, 1, 5, 5, 900, 7, 7, 7]
    samples = [Sample(float(i), each, 0.0, 0, 0) for i, each in enumerate(memory)]
    assert growth(samples, lambda sample: sample.memory) == 2


def test_a_running_process_is_sampled() -> None:
    with Vitals(os.getpid, pause=0.01) as vitals:
        deadline = time.monotonic() + 60
        while not vitals.samples and time.monotonic() < deadline:
            time.sleep(0.01)
    assert vitals.highest_memory() > 10
    assert vitals.samples[0].threads >= 2
    assert vitals.samples[0].descriptors >= 3
