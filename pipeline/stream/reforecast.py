"""A swap of the model in use is seen: the newest origin of every series is forecast again, by turns without events.

    1 find          series of the worker's partitions whose newest origin the model in use has not forecast: SQL knows
    2 score         windows as SQL has them up to that origin; a shadow scores events alone
    3 store         one SQL transaction, fenced as any turn: S stays, and the partition's count of re-forecasts goes up
    4 publish       a Kafka transaction with the group's offset, which stays, and that count beside it

Here, too, K <= S: the count beside the group's offset never exceeds the one in SQL, and is one less after a crash
between 3 and 4. Then the next claim publishes the rows of that re-forecast from SQL, the same bytes. The rows of a
partition's n-th one have the offset -n, because no event made them due. No line may move up.

What is left to do is never remembered, only how far one has looked: after a swap, a claim or a crash it begins anew,
and finds what is not forecast yet. Between two turns events are read, so a large deployment does not stand still.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import structlog

from pipeline.records import Advance, Due, Forecasts, Outdated, Standing, Turn, no_observations
from pipeline.stream.observe import load
from pipeline.stream.ring import RingStore
from pipeline.stream.turn import MOST_STEPS, Owned, Parts, doubt, publish

log = structlog.get_logger()
MOST_SERIES = 500
"""Series of one turn: some 0.5 s of reading, scoring and storing, and a partition's are one Kafka transaction."""
FEWEST_SERIES = 10
LOOKS = 10
"""Stretches of series looked at in one step of the worker, while nothing is found in them."""


class Reforecasting:
    """How far a worker has looked for series that the model in use has not forecast.

    A turn that fails is tried again with half as many series, because it may have been too large for some time limit.
    """

    def __init__(self, horizon: int) -> None:
        self._limit = self._most = max(1, min(MOST_SERIES, MOST_STEPS // horizon))
        self._version: int | None = None
        self._claims: frozenset[tuple[int, int]] = frozenset()
        self._after: int | None = 0

    def take_turn(self, owned: Mapping[int, Owned], parts: Parts) -> int:
        """Take one turn over outdated series, if there are any, and return how many forecasts it stored.

        After any exception the claims in `owned` must be dropped. A champion that was refused, or has failed, is no
        swap: what stands in for it forecasts events only.
        """
        if parts.scorer.refused:
            self._version = None  # what it could not forecast is looked for again once it is back
            return 0
        held = {at: one for at, one in owned.items() if one.claim.next_offset > one.floor}
        self._follow(parts.scorer.version, frozenset((at, one.claim.epoch) for at, one in held.items()))
        if self._after is None or not held:
            return 0
        most = self._most
        self._most = max(most // 2, min(FEWEST_SERIES, self._limit))  # until this turn has ended well
        standing, found = self._find(held, parts, most)
        made = _reforecast(found, standing, held, parts) if len(found) else 0
        self._most = min(most * 4, self._limit)
        return made

    def _follow(self, version: int, claims: frozenset[tuple[int, int]]) -> None:
        """Begin anew after a swap, and for partitions that were claimed since."""
        if version != self._version or not claims <= self._claims:
            self._after = 0
        self._version, self._claims = version, claims

    def _find(self, held: Mapping[int, Owned], parts: Parts, most: int) -> tuple[Standing, Outdated]:  # 1 find
        """Look on from where the last look ended; the standing is read before, so what happens since is noticed."""
        standing = parts.store.standing()
        for _ in range(LOOKS):
            assert self._after is not None
            found = parts.store.outdated(sorted(held), parts.scorer.version, self._after, most)
            self._after = found.reached
            if len(found) or self._after is None:
                break
        return standing, found


def _reforecast(found: Outdated, standing: Standing, owned: Mapping[int, Owned], parts: Parts) -> int:
    """Forecast the newest origin of these series, store and publish; return how many forecasts were stored."""
    now, version = parts.clock(), parts.scorer.version
    parts.incarnations.ask()
    with parts.phases.measure("score"):  # 2 score
        due = _cut(found, owned, parts)
        made = parts.scorer.score(doubt([due], standing, [], parts), now)
        made = made.take(made.model_version == version)  # what the model could not forecast stays as it is
    if not len(made):
        return 0
    parts.incarnations.check()
    parts.passed("before_sql")
    with parts.phases.measure("store"):  # 3 store in one SQL transaction
        stored = parts.store.commit(_turn(made, found, standing, owned, parts.grid.covariates))
    parts.passed("after_sql")
    partitions = sorted(set(made.partition.tolist()))
    for at in partitions:
        owned[at].claim = replace(owned[at].claim, reforecasts=owned[at].claim.reforecasts + 1)
    parts.worker_state.reforecast(stored)
    with parts.phases.measure("publish"):  # 4 publish in a Kafka transaction
        publish(stored, (), {at: owned[at].claim.next_offset for at in partitions}, owned, parts)
    parts.passed("after_publish")
    log.info("re-forecast", series=len(stored), model_version=version, partitions=partitions)
    return len(stored)


def _turn(made: Forecasts, found: Outdated, standing: Standing, owned: Mapping[int, Owned], covariates: int) -> Turn:
    claims = [owned[at].claim for at in sorted(set(made.partition.tolist()))]
    advances = tuple(
        Advance(held.partition, held.epoch, held.next_offset, held.next_offset, reforecasts=held.reforecasts + 1)
        for held in claims
    )
    own = found.series_id[~found.spread]
    return Turn(advances, no_observations(covariates), made, (), standing=standing, own=own)


def _cut(found: Outdated, owned: Mapping[int, Owned], parts: Parts) -> Due:
    """Cut the windows that end at the origins, as they are in SQL now; a series whose origin is gone is left out."""
    grid = parts.grid
    ring = RingStore.of(grid)
    for origin in np.unique(found.origin).tolist():  # one or a few, where series come in step
        names = [found.series[place] for place in np.flatnonzero(found.origin == origin).tolist()]
        load(ring, names, parts.store.recent(names, grid.capacity, origin), grid)
    steps = grid.frequency.step_of(found.origin)
    rows = np.fromiter((ring.rows[name] for name in found.series), np.int64, len(found))
    kept = np.flatnonzero(ring.newest[rows] == steps)
    row, step, partition = rows[kept], steps[kept], found.partition[kept]
    target, observed = ring.windows(row, step, grid.series.context)
    past, past_observed = ring.past_windows(row, step, grid.series.context)
    return Due(
        partition=partition,
        series=[ring.names[i] for i in row],
        series_id=ring.series_id[row],
        origin=step,
        offset=np.array([-1 - owned[at].claim.reforecasts for at in partition.tolist()], np.int64),
        target=target,
        observed=observed,
        past=past,
        past_observed=past_observed,
        partial=found.spread[kept] & ~observed.all(axis=1),
    )
