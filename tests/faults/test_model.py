"""The commit protocol, checked in every state that some faults reach; see tests/faults/model.py.

TIDECAST_MODEL_FAULTS=3 looks at all that three faults do, and takes minutes.
"""

import os
import sys
from random import Random

import pytest

from tests.faults.lockstep import Swap, World, walk
from tests.faults.model import Bounds, Model, Mutant, explore
from tests.faults.summary import report
from tests.faults.verify import Findings

MORE = int(os.environ.get("TIDECAST_MODEL_FAULTS", "0"))
ONE = Bounds(messages=1, turn=1)
TWO = Bounds(messages=2, turn=2)


@pytest.mark.fault("model")
@pytest.mark.parametrize(
    ("bounds", "faults"),
    [
        (ONE, 2),
        (TWO, 1),
        (Bounds(messages=2, turn=2, transaction=2), 1),
        (Bounds(messages=1, turn=1, twins=True), 1),
    ],
    ids=lambda value: str(value).removeprefix("Bounds"),
)
def test_every_promise_holds_and_lag_0_stays_in_reach_whatever_goes_wrong(bounds: Bounds, faults: int) -> None:
    found = explore(Model(bounds), max(faults, MORE))
    sys.stdout.write(f"\n{bounds}, {max(faults, MORE)} faults: {found}\n")
    broken = Findings(mismatched=[str(each) for each in (found.broken, found.stuck) if each is not None])
    states = f"{sum(found.by_faults):,} states"
    report("model check", states, events=bounds.messages, faults=max(faults, MORE), findings=broken)
    assert found.broken is None, str(found)
    assert found.stuck is None, str(found)
    assert min(found.by_faults) > 30, "the model goes somewhere"


BROKEN = {
    Mutant.PUBLISH_FIRST: (0, "K > S"),
    Mutant.NO_FENCE: (1, "not exactly once in SQL"),
    Mutant.NO_GENERATION: (1, "doubled on the output topic"),
    Mutant.UNSETTLED: (2, "doubled on the output topic"),
    Mutant.RECOMPUTED: (1, "SQL and the topic disagree"),
    Mutant.NO_OFFSETS: (0, "the output topic and K disagree"),
    Mutant.READ_UNCOMMITTED: (1, "doubled on the output topic"),
    Mutant.SAME_PRODUCER: (0, "doubled on the output topic"),
    Mutant.KEPT_CLAIM: (0, "the output topic and K disagree"),
}
REDUNDANT = (Mutant.NO_EPOCH, Mutant.NO_START)


def test_every_mutant_is_looked_at() -> None:
    assert {*BROKEN, *REDUNDANT} == set(Mutant)


@pytest.mark.parametrize("mutant", BROKEN, ids=lambda mutant: mutant.name.lower())
def test_a_moved_line_is_found_with_the_fewest_faults_that_show_it(mutant: Mutant) -> None:
    faults, words = BROKEN[mutant]
    found = explore(Model(TWO if mutant is Mutant.KEPT_CLAIM else ONE, mutant), faults)
    sys.stdout.write(f"\n{mutant.value}: {found}\n")
    assert found.broken is not None, str(found)
    promise, trace = found.broken
    assert words in promise
    assert sum(event.fault for event in trace) == faults


@pytest.mark.parametrize("mutant", REDUNDANT, ids=lambda mutant: mutant.name.lower())
def test_in_sql_either_half_of_the_compare_and_set_fences_by_itself(mutant: Mutant) -> None:
    """S only grows, so an old start never comes back; an epoch does not either. NO_FENCE has neither, and is found."""
    found = explore(Model(ONE, mutant), 1)
    assert (found.broken, found.stuck) == (None, None), str(found)


@pytest.mark.parametrize("bounds", [TWO, Bounds(messages=3, turn=3), Bounds(messages=3, turn=2, twins=True)], ids=str)
def test_the_real_worker_takes_the_lines_of_the_model(bounds: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.turn.MOST_MESSAGES", bounds.transaction)
    deaths = done = 0
    lines: set[str] = set()
    for seed in range(15):
        world = World(Model(bounds), Random(seed), chance=0.05)
        deaths += walk(world, steps=30, calm=60)
        done += world.model.done(world.state)
        lines |= world.lines
    assert lines == {"prepare", "raise", "read", "begin", "send", "offsets", "commit", "store"}
    assert deaths > 5
    assert done > 7


def test_the_real_worker_takes_a_swap_as_one_more_turn_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = Bounds(messages=3, turn=2, transaction=2)
    monkeypatch.setattr("pipeline.stream.turn.MOST_MESSAGES", bounds.transaction)
    deaths = done = 0
    for seed in range(24):
        world = World(Model(bounds), Random(seed), chance=0.05, swap=Swap(at=1 + seed % 2))
        deaths += walk(world, steps=30, calm=60)
        done += world.model.done(world.state)
    assert deaths > 5
    assert done > 10


def test_a_worker_that_skips_a_line_is_out_of_step_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(Model(TWO), Random(1), chance=0.0)
    monkeypatch.setattr("pipeline.stream.turn.publish", lambda *_: None)
    with pytest.raises(AssertionError, match="has ended its step, the model is at begin"):
        walk(world, steps=30, calm=0)
