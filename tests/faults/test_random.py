"""Everything at once, drawn from a seed: keys, shapes, codecs, kills, members, topics, requeues and promotions.

`python -m tests.faults --only random --seconds 600 --seed 7` runs rounds of the seeds 7, 8, ... for ten minutes. A
difference is printed with its seed and the steps that led to it; `--seed THAT --seconds 1` does them again.
"""

import os
import sys
import time

import pytest

from tests.faults.conftest import OwnPlace, Place
from tests.faults.plan import SITUATIONS, Plan, outline
from tests.faults.rounds import Round, run_round
from tests.faults.scale import scaled
from tests.faults.summary import report
from tests.faults.verify import Findings

SECONDS = float(os.environ.get("TIDECAST_RANDOM_SECONDS") or scaled(60))
SEED = int(os.environ.get("TIDECAST_RANDOM_SEED") or 1)
STEPS = int(os.environ.get("TIDECAST_RANDOM_STEPS") or 25)
WITHOUT = frozenset(filter(None, os.environ.get("TIDECAST_RANDOM_WITHOUT", "").split(",")))
SHARED = frozenset({"broker"})  # what a server that other tests use must not be done


def tell_of(rounds: list[Round], place: str, fault: str) -> None:
    report(
        fault,
        place,
        events=sum(each.messages for each in rounds),
        faults=sum(each.faults for each in rounds),
        findings=Findings(),
        seconds=rounds[-1].seconds if rounds else None,
        more={
            "rounds": len(rounds),
            "forecasts": sum(each.forecasts for each in rounds),
            "degraded": sum(each.degraded for each in rounds),
        },
    )


@pytest.mark.fault("random")
@pytest.mark.heavy
@pytest.mark.timeout(SECONDS + 900.0)
def test_whatever_happens_at_once_leaves_what_a_clean_run_of_the_same_readings_leaves(own_place: OwnPlace) -> None:
    until_then = time.monotonic() + SECONDS
    rounds: list[Round] = []
    try:
        while not rounds or time.monotonic() < until_then:
            seed = SEED + len(rounds)
            sys.stderr.write(f"\n{own_place.name}: seed {seed}\n")
            rounds.append(run_round(own_place, seed, STEPS, WITHOUT))
    finally:
        tell_of(rounds, own_place.name, "everything at once")


@pytest.mark.fault("short-random")
@pytest.mark.slow
def test_a_short_round_of_a_fixed_seed(place: Place) -> None:
    tell_of([run_round(place, 5, 6, SHARED)], place.name, "everything at once, briefly")


def test_a_seed_is_a_plan() -> None:
    everything = frozenset(SITUATIONS)
    one, other = ([str(step) for step in Plan(outline(7, everything), everything, 60)] for _ in range(2))
    assert one == other
    drawn = {step.what for seed in range(20) for step in Plan(outline(seed, everything), everything, 60)}
    assert drawn >= {"renew topic", "mend", "requeue, killed", "promote", "kill broker", "add partitions"}


def test_what_a_plan_is_without_does_not_happen() -> None:
    few = frozenset({"kills"})
    steps = list(Plan(outline(7, few), few, 60))
    assert {step.what for step in steps} <= {"send", "settle", "kill -9"}
