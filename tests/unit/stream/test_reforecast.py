"""After a swap of the champion the newest origins are forecast again, once, under crashes at every point."""

import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pytest
import torch

from models.artifact import pack
from models.network.forecasters import build
from pipeline.errors import ConfigError, Fenced, Unavailable
from pipeline.forecasting import scorer
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.kafka.marks import read_mark, write_mark
from pipeline.records import Committed, Forecasts, Turn
from pipeline.settings import ModelSettings, Policy, SeriesSettings, Settings
from pipeline.stream.claim import Accept
from pipeline.stream.worker import Worker
from tests.fakes import LOOKED_AT, Clock, MemoryCalibrations, MemorySource, MemoryStore, MemoryTopics, OneShadow
from tests.unit.stream.test_protocol import CrashAt, CrashError
from tests.unit.workers import HOUR, START, event, panel, run_dry, worker

SERIES = SeriesSettings(context=12, horizon=3, season=4)
LAST = 39
"""The newest step of every series."""
POINTS = (
    "before_sql",
    "after_sql",
    "in_publish",
    "after_publish",
    "in_claim_after_sql",
    "in_claim_before_publish",
    "in_claim_after_publish",
)
LEFT, RIGHT = ["a", "b", "c", "d"], ["e", "f", "g"]


def artifact(seed: int) -> bytes:
    """An untrained network that reads no covariate."""
    torch.manual_seed(seed)
    settings = Settings(series=SERIES, model=ModelSettings(hidden=8, layers=1))
    return pack(build(model_config(settings, Frequency("1h"), 0)), series=[], provenance={})


ARTIFACTS = {1: artifact(1), 2: artifact(2)}


class Champions:
    """`pipeline.forecasting.scorer.Champion` with one alias, which tests move."""

    def __init__(self) -> None:
        self.alias: int | None = None
        self.broken: set[int] = set()

    def champion(self) -> int | None:
        return self.alias

    def artifact(self, version: int) -> bytes:
        return b"half" if version in self.broken else ARTIFACTS[version]


class World:
    """Two partitions of a history that was forecast by seasonal naive; after it, no event comes."""

    def __init__(self, series: SeriesSettings = SERIES) -> None:
        self.store = MemoryStore(policy=series.duplicates)
        self.topics = MemoryTopics(inputs={0: panel(LEFT, LAST + 1), 1: panel(RIGHT, LAST + 1)})
        self.champions, self.calibrations, self.series = Champions(), MemoryCalibrations(), series
        run_dry(self.worker())

    def worker(self, **more: object) -> Worker:
        given = {"series": self.series, "registry": self.champions, "calibrations": self.calibrations} | more
        return worker(self.store, self.topics, **given)  # type: ignore[arg-type]

    def settle(self, one: Worker, steps: int = 12) -> None:
        """Let a worker take what there is to do."""
        assert isinstance(one.parts.clock, Clock)
        for _ in range(steps):
            one.parts.clock.advance(60)
            one.step()

    def newest(self) -> Counter[tuple[str, int]]:
        """Count the forecasts of the newest origin by series and version."""
        at = (START + LAST * HOUR) * 1_000_000
        return Counter(
            (name, int(part.model_version[i]))
            for part in self.store.forecasts
            for i, name in enumerate(part.series)
            if part.origin[i] == at
        )

    def check(self, versions: Sequence[int]) -> None:
        """The newest origin of every series once by each version; SQL and the topics agree."""
        assert self.newest() == Counter(itertools.product(LEFT + RIGHT, versions))
        self.check_agreement()

    def check_agreement(self) -> None:
        """Rows and messages are the same; K = S."""
        rows = [
            (int(part.partition[i]), int(part.offset[i]), name, int(part.calibration[i]), part.quantiles[i].tobytes())
            for part in self.store.forecasts
            for i, name in enumerate(part.series)
        ]
        assert sorted(rows) == sorted(self.topics.output)
        assert {at: offset for at, (_, offset) in self.store.state.items()} == self.topics.offsets
        counts = {at: self.store.reforecasts.get(at, 0) for at in self.topics.offsets}
        assert counts == {at: self.topics.reforecasts.get(at, 0) for at in self.topics.offsets}

    def without_events(self) -> list[Forecasts]:
        """The forecasts that no event made due."""
        return [part.take(part.offset < 0) for part in self.store.forecasts if (part.offset < 0).any()]


def test_a_swap_forecasts_every_newest_origin_once_without_any_event() -> None:
    world = World()
    one = world.worker()
    world.settle(one)
    world.check([0])
    assert not world.without_events(), "nothing was swapped yet"
    world.champions.alias = 1
    world.settle(one)
    world.check([0, 1])
    before = len(world.topics.output)
    world.settle(one)
    world.settle(world.worker())
    assert len(world.topics.output) == before, "once, and a start does not repeat it"
    world.champions.alias = 2
    world.settle(one)
    world.check([0, 1, 2])


def test_a_worker_that_starts_after_the_swap_sees_it_too() -> None:
    world = World()
    world.champions.alias = 1
    world.settle(world.worker())
    world.check([0, 1])


def test_a_swap_back_to_a_version_that_has_forecast_the_newest_origin_does_nothing() -> None:
    world = World()
    world.champions.alias = 1
    one = world.worker()
    world.settle(one)
    before = len(world.topics.output)
    world.champions.alias = 0
    world.settle(one)
    assert one.parts.scorer.version == 0
    assert len(world.topics.output) == before
    world.topics.inputs[0].append(event("a", LAST + 1, 40.0))
    world.champions.alias = 1
    world.settle(one)
    world.champions.alias = 0
    world.settle(one)
    assert len(world.topics.output) == before + 2, "the new origin, by the model of then, and by seasonal naive"


def test_the_forecast_is_what_an_event_would_have_made_due() -> None:
    """Both models see the same window; the rows of the swap name no event."""
    swapped, served = World(), MemoryStore()
    swapped.champions.alias = 1
    swapped.settle(swapped.worker())
    topics = MemoryTopics(inputs={0: panel(LEFT, LAST + 1), 1: panel(RIGHT, LAST + 1)})
    run_dry(worker(served, topics, series=SERIES, registry=swapped.champions))
    at = (START + LAST * HOUR) * 1_000_000
    wanted = {
        name: part.quantiles[i]
        for part in served.forecasts
        for i, name in enumerate(part.series)
        if part.origin[i] == at
    }
    found = {name: part.quantiles[i] for part in swapped.without_events() for i, name in enumerate(part.series)}
    assert found.keys() == wanted.keys()
    for name, quantiles in found.items():  # the last bits depend on how many windows are scored at once
        np.testing.assert_allclose(quantiles, wanted[name], rtol=1e-6)
    made = [
        (int(at), int(offset))
        for part in swapped.without_events()
        for at, offset in zip(part.partition, part.offset, strict=True)
    ]
    assert sorted(set(made)) == [(0, -2), (0, -1), (1, -2), (1, -1)], "the n-th turn of a partition has the offset -n"


@pytest.mark.parametrize("policy", ["last", "first", "mean", "sum", "max"])
def test_under_every_policy_the_origin_is_that_of_the_newest_forecast(policy: Policy) -> None:
    """Where events of a step are gathered, the newest step is not complete, and the origin is the one before it."""
    world = World(SERIES.model_copy(update={"duplicates": policy}))
    before = {(own, origin) for own, origin, _ in world.store.keys}
    newest = {own: max(origin for one, origin in before if one == own) for own, _ in before}
    world.champions.alias = 1
    world.settle(world.worker())
    made = {(own, origin) for own, origin, version in world.store.keys if version == 1}
    assert made == set(newest.items())


def test_it_comes_in_turns_between_which_events_are_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.reforecast.MOST_SERIES", 2)
    world = World()
    one = world.worker()
    world.settle(one)
    world.champions.alias = 1
    assert isinstance(one.parts.clock, Clock)
    made = []
    for step in range(1, 6):
        world.topics.inputs[1].append(event("g", LAST + step, float(step)))
        one.parts.clock.advance(60)
        one.step()
        made.append(sum(len(part) for part in world.without_events()))
        assert world.topics.offsets[1] == len(world.topics.inputs[1]), "the event of the step is in"
    assert made == [2, 4, 6, 6, 6], "g has a newer origin, which its event made due"


def test_what_waits_in_the_topic_goes_first() -> None:
    """Its series get newer origins, so the old ones need no forecast by the champion."""
    world = World()
    world.champions.alias = 1
    world.topics.inputs[0] += [event(name, LAST + 1, 40.0) for name in LEFT]
    one = world.worker()
    world.settle(one, 30)
    made = {name for part in world.without_events() for name in part.series}
    assert made == set(RIGHT)
    one.parts.source.most = one._most = 8  # type: ignore[attr-defined]
    world.champions.alias = 2
    world.topics.inputs[0] += [event(name, LAST + step, 40.0) for step in (2, 3, 4) for name in LEFT]
    world.settle(one, 30)
    again = [
        name for part in world.without_events() for i, name in enumerate(part.series) if part.model_version[i] == 2
    ]
    assert sorted(again) == RIGHT
    world.check_agreement()


@pytest.mark.parametrize(("point", "turn"), list(itertools.product(POINTS, (1, 2, 3))))
def test_a_crash_at_any_point_loses_and_doubles_nothing(point: str, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.reforecast.MOST_SERIES", 2)
    world = World()
    world.champions.alias = 1
    crash = CrashAt(point, turn)
    with pytest.raises(CrashError):
        for _ in range(4):  # points of the claim come with restarts
            world.settle(world.worker(passed=crash))
    world.settle(world.worker())
    world.check([0, 1])


@pytest.mark.parametrize(("first", "second"), list(itertools.product(POINTS, POINTS)))
def test_two_crashes_in_a_row_lose_and_double_nothing(first: str, second: str) -> None:
    world = World()
    world.champions.alias = 1
    for point in (first, second):
        with suppress(CrashError):
            world.settle(world.worker(passed=CrashAt(point, 1)))
    world.settle(world.worker())
    world.check([0, 1])


def test_after_a_crash_the_same_bytes_are_published_though_the_champion_changed_meanwhile() -> None:
    world = World()
    world.champions.alias = 1
    with pytest.raises(CrashError):
        world.settle(world.worker(passed=CrashAt("after_sql", 1)))
    world.champions.alias = 2
    world.settle(world.worker())
    first = Counter((name, 1) for name in sorted(LEFT + RIGHT)[:LOOKED_AT])  # the others never met version 1
    assert world.newest() == Counter(itertools.product(LEFT + RIGHT, [0, 2])) + first
    world.check_agreement()


@pytest.mark.parametrize("error", [Unavailable("away"), Fenced("stale")])
@pytest.mark.parametrize("point", POINTS[:4])
def test_a_failure_at_any_point_heals_without_a_restart(point: str, error: Exception) -> None:
    world = World()
    left = Counter({point: 1})

    def fail(passed: str) -> None:
        left[passed] -= 1
        if left[passed] == 0:
            raise error

    world.champions.alias = 1
    world.settle(world.worker(passed=fail))
    world.check([0, 1])


def test_an_owner_that_wakes_between_the_commits_publishes_nothing() -> None:
    world = World()
    world.champions.alias = 1
    new: list[Worker] = []

    def sleep(point: str) -> None:
        if point == "after_sql" and not new:
            world.topics.generation += 1  # it slept through a rebalance; the new owner does everything
            new.append(world.worker(owner="new"))
            world.settle(new[0])

    world.settle(world.worker(passed=sleep))
    assert new
    world.check([0, 1])


def test_two_workers_forecast_the_series_of_their_own_partitions_and_take_over_what_is_left() -> None:
    world = World()
    world.champions.alias = 1
    one, other = world.worker(owner="one"), world.worker(owner="other")
    for each, at in ((one, 0), (other, 1)):
        assert isinstance(each.parts.source, MemorySource)
        each.parts.source.waiting = [(at, True)]
    world.settle(one)
    assert {name for name, version in world.newest() if version == 1} == set(LEFT)
    assert isinstance(one.parts.source, MemorySource)
    one.parts.source.waiting = [(1, True)]  # before the other has begun
    world.settle(one)
    world.settle(other)
    world.check([0, 1])


def test_shadow_and_calibrations_are_not_touched_and_are_no_swaps() -> None:
    world = World()
    one = world.worker(shadow=OneShadow(ARTIFACTS, alias=2))
    world.settle(one)
    world.calibrations.store(0, [[1.0 if place == 6 else 2.0 for place in range(13)]] * 3)
    world.settle(one)
    assert (one.parts.scorer.calibration, world.without_events()) == (1, [])
    world.champions.alias = 1
    world.settle(one)
    world.check([0, 1])
    assert world.store.shadow == {}


def test_a_champion_that_is_refused_is_no_swap_until_it_can_be_used() -> None:
    world = World()
    world.champions.alias, world.champions.broken = 1, {1}
    one = world.worker()
    world.settle(one)
    world.check([0])
    world.champions.broken.clear()
    world.settle(one)
    world.check([0, 1])


def test_after_a_champion_that_failed_is_back_it_forecasts_what_it_could_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.champions.alias = 1
    one = world.worker()
    whole, failed = scorer.run, iter([None])

    def failing(*arguments: object) -> object:
        if next(failed, 1) is None:
            raise RuntimeError("out of memory")
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scorer, "run", failing)
    world.settle(one)
    assert one.parts.scorer.failures == 1
    world.check([0, 1])


def test_what_a_champion_cannot_forecast_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.champions.alias = 1
    one = world.worker()
    whole = one.parts.scorer.score

    def failing(*arguments: object) -> Forecasts:
        made = whole(*arguments)  # type: ignore[arg-type]
        made.model_version[np.array(made.series) == "b"] = 0  # as for numbers that are not finite
        return made

    monkeypatch.setattr(one.parts.scorer, "score", failing)
    world.settle(one)
    assert world.newest() == Counter(itertools.product(LEFT + RIGHT, [0, 1])) - Counter({("b", 1): 1})


def test_a_turn_that_fails_is_tried_again_with_fewer_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stream.reforecast.FEWEST_SERIES", 1)
    world = World()
    world.champions.alias = 1
    sizes: list[int] = []

    def too_large(turn: Turn) -> Forecasts:
        sizes.append(len(turn.forecasts))
        if sizes[-1] > 2:
            raise Unavailable("statement timeout")
        return MemoryStore.commit(world.store, turn)

    world.store.commit = too_large  # type: ignore[method-assign]
    world.settle(world.worker(), 40)
    assert max(sizes) > 2 >= min(sizes)
    world.check([0, 1])


def test_a_database_older_than_the_published_reforecasts_is_refused_and_counts_on_once_accepted() -> None:
    world = World()
    world.champions.alias = 1
    kept = {at: list(own) for at, own in (("forecasts", world.store.forecasts), ("keys", list(world.store.keys)))}
    world.settle(world.worker())
    world.store.forecasts, world.store.keys = kept["forecasts"], set(kept["keys"])
    world.store.reforecasts.clear()
    with pytest.raises(ConfigError, match=r"published re-forecasts.*--accept-database-rewind"):
        world.worker().step()
    again = world.worker()
    again._accept = Accept.DATABASE_REWIND
    world.settle(again)
    assert world.newest() == Counter(itertools.product(LEFT + RIGHT, [0, 1]))
    assert world.store.reforecasts == world.topics.reforecasts == {0: 4, 1: 4}, "each time two turns of each"


def test_an_offset_without_a_count_takes_the_reforecasts_as_published() -> None:
    """So did a release before this one leave it, or a tool that set the offset to where it was."""
    world = World()
    world.champions.alias = 1
    world.settle(world.worker())
    before = len(world.topics.output)
    world.topics.reset |= {0, 1}
    world.settle(world.worker())
    assert len(world.topics.output) == before


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ("tidecast 12", Committed(7, reforecasts=12)),
        ("tidecast 0", Committed(7, reforecasts=0)),
        ("tidecast", Committed(7)),
        ("", Committed(7, marked=False)),
        (None, Committed(7, marked=False)),
        ("tidecast x", Committed(7, marked=False)),
        ("tidecaster 3", Committed(7, marked=False)),
    ],
)
def test_the_count_beside_the_groups_offset_is_read_as_it_was_written(metadata: str | None, found: Committed) -> None:
    assert read_mark(7, metadata) == found
    assert not found.marked or write_mark(found) == metadata


def test_a_series_that_was_met_in_another_partition_meanwhile_starts_the_turn_over() -> None:
    world = World()
    world.champions.alias = 1
    met = iter([None])

    def meet(point: str) -> None:
        if point == "before_sql" and next(met, 1) is None:
            world.store.place(["a"], 1)

    one = world.worker(passed=meet)
    world.settle(one)
    assert one.parts.worker_state.setbacks == {"fenced": 1}
    world.check([0, 1])
