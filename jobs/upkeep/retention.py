"""Retention: what is old is thinned or deleted, in bounded batches, each a short transaction of its own.

    kind                    goes when                                     but never
    dead letters            requeued, or waiting if so set, long ago   one that is not published
    job runs                long ago                                      a job's newest run, its newest good one
    artifacts               made long ago (the bytes; the row stays)      of a model that ever was champion
    forecasts               origin long ago; before that, all but the     a series' newest origin; one issued, or with a
                            first origin of each UTC day are thinned      target, within a day; one not published
    forecasts of shadows    like forecasts                                one of the shadow of the moment
    observations            long ago, with their covariates               a series' newest context + horizon rows

Published is what lies below the start of its partition's newest turn (ingest_state.turn_start). A turn begins only
when everything before it has reached the topic, K = S; so K never lags behind that start, and what a claim publishes
again, [K, S), is never touched; nor is a partition's newest re-forecast (ingest_state.reforecasts), which may not be
published either. A forecast goes with all its steps in one transaction. PostgreSQL keeps forecasts by periods of
origin; of a large period nothing goes until all of it is old, and then all at once. Nothing depends on where the
last run ended: what is left is found again, so a run may stop, or be killed, between any two batches.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Protocol

import numpy as np

from jobs.clock.outcome import OnStage, Outcome, Stage
from pipeline.grid.frequency import Frequency
from pipeline.records import Ints, Mask
from pipeline.settings import DAY, Settings

SECOND = 1_000_000
MICROSECONDS_A_DAY = round(DAY) * SECOND
MOST_ROWS = 5000
"""Rows deleted in one transaction; a longer one would keep a worker on SQLite waiting."""
MOST_STEPS = 50_000
"""Steps of the forecasts deleted in one transaction; 48 of them are a row of 2 kB."""
SERIES_AT_ONCE = 100
FINE = 3600.0
"""Seconds; where steps are shorter, so many fewer series are read at once: a year's origins are held then."""
PERIODS = {"day": DAY, "week": 7 * DAY, "month": 31 * DAY}
"""Lengths in seconds of what a database keeps, and deletes, as a whole, where it is large."""
MOST_PERIODS = 32
"""Of what is kept: a query looks at each of them."""
AHEAD = 7 * DAY
"""Seconds that are made ahead at least, and two periods."""
LEAST_PAUSE = 0.01
"""Seconds between two transactions; after a longer one, as long as it took, so that a worker gets its turn."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Stored forecasts by their keys, series by series in time order; `newest` is the newest origin of the series."""

    series_id: Ints  # (N,)
    origin: Ints  # (N,)
    model_version: Ints  # (N,)
    newest: Ints  # (N,)

    def __len__(self) -> int:
        """Count the forecasts."""
        return len(self.series_id)

    def take(self, chosen: Ints | Mask | slice) -> "Origins":
        """Select forecasts, in the order given."""
        return Origins(self.series_id[chosen], self.origin[chosen], self.model_version[chosen], self.newest[chosen])


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Origins before these times are deleted, or thinned; `kept` microseconds is the shorter time that they stay."""

    delete_before: int | None
    thin_before: int | None
    kept: int


class Stock(Protocol):
    """What the database holds, as far as it may be deleted; every call that deletes is one transaction."""

    def series(self) -> Ints:
        """Return the ids of all series, ascending."""
        ...

    def add_periods(self, since: int, until: int, length: str) -> bool:
        """Have a partition for every period of origins between two times, where the database has them; see PERIODS.

        Returns whether it has: somebody may be in the way for long.
        """
        ...

    def whole_periods(self, *, shadow: bool, delete_before: int | None, thin_before: int | None) -> list[str]:
        """Name the large partitions of forecasts, or of the shadows', that lie before either time; oldest first."""
        ...

    def thin_period(
        self, name: str, *, shadow: bool, delete_before: int | None, thin_before: int | None, issued_before: int
    ) -> int | None:
        """Delete what `choose_doomed` marks of such a partition, if published and issued before then; return how many.

        None where somebody was in the way for long; nothing has changed then.

        None of a shadow's goes that is the shadow of the moment.
        """
        ...

    def waited_for(self, before: int, longest: int, *, shadow: bool) -> int:
        """Return the begin of the oldest large partition that has yet to be thinned, or `before` if that is earlier.

        One that is longer than `longest` (microseconds) is not waited for.
        """
        ...

    def origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the columns of Origins of these series' forecasts with an origin before `before`."""
        ...

    def delete_forecasts(self, series_id: Ints, origin: Ints, model_version: Ints, *, issued_before: int) -> int:
        """Delete these forecasts, if published and issued before then; return how many."""
        ...

    def shadow_origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the columns of Origins of the shadows' forecasts with an origin before `before`."""
        ...

    def delete_shadow(self, series_id: Ints, origin: Ints, model_version: Ints) -> int:
        """Delete these forecasts of shadows; return how many."""
        ...

    def delete_observations(self, series_ids: Ints, before: int, *, kept: int, most: int) -> int:
        """Delete at most `most` observations of before `before`, with their covariates, oldest first; return how many.

        The newest `kept` rows of every series stay, however old. Fewer than `most` means that none is left.
        """
        ...

    def delete_dead_letters(self, requeued_before: int | None, waiting_since: int | None, most: int) -> int:
        """Delete at most `most` published dead letters: requeued before, or recorded before and still waiting."""
        ...

    def delete_runs(self, before: int, most: int) -> int:
        """Delete at most `most` ended runs of before `before`, but no job's newest run, nor its newest good one."""
        ...

    def drop_artifacts(self, before: int, most: int) -> int:
        """Forget the bytes of at most `most` models made before `before` that no alias names or ever named."""
        ...


def choose_doomed(origins: Origins, *, delete_before: int | None, thin_before: int | None) -> Mask:
    """Mark the forecasts to delete (N,).

    Those with an origin before `delete_before`; and of those before `thin_before` all but the first origin of each
    series, model and UTC day. A series' newest origin stays. `origins` must hold all of a day, up to `thin_before`.
    """
    doomed = np.zeros(len(origins), np.bool_)
    if delete_before is not None:
        doomed |= origins.origin < delete_before
    if thin_before is not None:
        day = origins.origin // MICROSECONDS_A_DAY
        order = np.lexsort((origins.origin, day, origins.model_version, origins.series_id))
        group = np.stack([origins.series_id, origins.model_version, day], axis=1)[order]  # (N, 3)
        repeated = np.zeros(len(origins), np.bool_)
        repeated[order[1:]] = (group[1:] == group[:-1]).all(axis=1)
        doomed |= repeated & (origins.origin < thin_before)
    return doomed & (origins.origin < origins.newest)


def clear_out(
    stock: Stock,
    settings: Settings,
    *,
    clock: Callable[[], int],
    on_stage: OnStage,
    pause: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Delete what `settings.retention` no longer keeps, kind by kind, until its budget is spent.

    Each kind may use an equal part of the time that is left, so none keeps the others from their turn for ever.
    """
    now = clock()
    end = now + round(settings.retention.budget * SECOND)
    left: list[str] = []
    kinds = _kinds(stock, settings, now, left)
    deleted: dict[str, int] = {}
    unfinished = []
    for place, (kind, batches) in enumerate(kinds.items()):
        deadline = clock() + (end - clock()) // (len(kinds) - place)
        deleted[kind], done = _run(batches, deadline, clock, pause, partial(_tell, on_stage, kind))
        if not done:
            unfinished.append(kind)
    reason = ", ".join(f"{count:,} {kind}" for kind, count in deleted.items() if count) or "nothing"
    if unfinished:
        reason += f"; the time was up before all {' and '.join(unfinished)} were seen, the next run goes on"
    if left:
        reason += f"; left for the next run, since somebody used the table for long: {', '.join(left)}"
    return Outcome("ok", f"deleted {reason}", {"deleted": deleted, "unfinished": unfinished, "left": left})


def _run(
    batches: Iterator[int],
    deadline: int,
    clock: Callable[[], int],
    pause: Callable[[float], None],
    tell: Callable[[int], None],
) -> tuple[int, bool]:
    total = 0
    while clock() < deadline:
        began = clock()
        count = next(batches, None)
        if count is None:
            return total, True
        total += count
        tell(total)
        if count:
            pause(max(LEAST_PAUSE, (clock() - began) / SECOND))
    return total, False


def _tell(on_stage: OnStage, kind: str, count: int) -> None:
    on_stage(Stage(kind, count, words=f"{count:,} deleted"))


def _kinds(stock: Stock, settings: Settings, now: int, left: list[str]) -> dict[str, Iterator[int]]:
    """Return what deletes each kind, batch by batch; it adds to `left` the partitions that it had to leave."""
    keep = settings.retention
    letters = _before(now, keep.requeued_dead_letters), _before(now, keep.waiting_dead_letters)
    runs, artifacts = _before(now, keep.job_runs), _before(now, keep.artifacts)
    kinds: dict[str, Iterator[int]] = {}
    if letters != (None, None):
        kinds["dead letters"] = _until_none(lambda: stock.delete_dead_letters(*letters, MOST_ROWS))
    if runs is not None:
        kinds["job runs"] = _until_none(lambda: stock.delete_runs(runs, MOST_ROWS))
    if artifacts is not None:
        kinds["artifacts"] = _until_none(lambda: stock.drop_artifacts(artifacts, 10))
    if keep.forecasts is not None or keep.thin_forecasts is not None:
        issued_before = now - MICROSECONDS_A_DAY
        delete = partial(stock.delete_forecasts, issued_before=issued_before)
        cuts = _cuts(settings, now)
        period = choose_period(keep.forecasts)
        if not stock.add_periods(now, now + round(max(AHEAD, 2 * PERIODS[period]) * SECOND), period):
            left.append("new periods")
        kinds["forecasts"] = chain(
            _periods(stock, cuts, issued_before, left, shadow=False),
            _forecasts(stock, stock.origins, delete, cuts, settings, shadow=False),
        )
        kinds["shadow forecasts"] = chain(
            _periods(stock, cuts, issued_before, left, shadow=True),
            _forecasts(stock, stock.shadow_origins, stock.delete_shadow, cuts, settings, shadow=True),
        )
    if keep.observations is not None:
        kinds["observations"] = _observations(stock, settings, now - round(keep.observations * SECOND))
    return kinds


def _cuts(settings: Settings, now: int) -> _Cuts:
    keep = settings.retention
    reach = round((settings.series.horizon + 1) * Frequency.of(settings.series).seconds * SECOND)
    matured = now - MICROSECONDS_A_DAY - reach  # what has yet to be judged stays, however soon the settings thin
    delete, thin = (
        min(before, matured) if before is not None else None
        for before in (_before(now, keep.forecasts), _before(now, keep.thin_forecasts))
    )
    kept = min(seconds for seconds in (keep.forecasts, keep.thin_forecasts) if seconds is not None)
    return _Cuts(delete, thin, round(kept * SECOND))


def choose_period(kept: float | None) -> str:
    """Choose the shortest period that makes few of what is kept for so many seconds; None: for ever."""
    few = (name for name, seconds in PERIODS.items() if kept is not None and kept <= MOST_PERIODS * seconds)
    return next(few, "month")


def _periods(stock: Stock, cuts: _Cuts, issued_before: int, left: list[str], *, shadow: bool) -> Iterator[int]:
    """Thin as a whole what a database keeps in partitions."""
    before = {"delete_before": cuts.delete_before, "thin_before": cuts.thin_before}
    for name in stock.whole_periods(shadow=shadow, **before):
        deleted = stock.thin_period(name, shadow=shadow, issued_before=issued_before, **before)
        if deleted is None:
            left.append(name)
        yield deleted or 0


def _forecasts(
    stock: Stock,
    list_origins: Callable[[Ints, int], tuple[Ints, Ints, Ints, Ints]],
    delete: Callable[..., int],
    cuts: _Cuts,
    settings: Settings,
    *,
    shadow: bool,
) -> Iterator[int]:
    """Delete one by one; not what goes with its partition, as long after as it was kept at most."""
    before = max(b for b in (cuts.delete_before, cuts.thin_before) if b is not None)
    before = stock.waited_for(before, cuts.kept, shadow=shadow)
    at_once = max(1, min(MOST_ROWS, MOST_STEPS // settings.series.horizon))
    step = Frequency.of(settings.series).seconds
    for ids in _chunks(stock.series(), max(1, round(SERIES_AT_ONCE * min(1.0, step / FINE)))):
        origins = Origins(*list_origins(ids, before))
        chosen = choose_doomed(origins, delete_before=cuts.delete_before, thin_before=cuts.thin_before)
        doomed = origins.take(chosen)
        yield 0
        for start in range(0, len(doomed), at_once):
            part = doomed.take(slice(start, start + at_once))
            yield delete(part.series_id, part.origin, part.model_version)


def _observations(stock: Stock, settings: Settings, before: int) -> Iterator[int]:
    kept = settings.series.context + settings.series.horizon
    most = MOST_ROWS // (1 + len(settings.input.covariates))
    for ids in _chunks(stock.series(), SERIES_AT_ONCE):
        count = most
        while count == most:
            count = stock.delete_observations(ids, before, kept=kept, most=most)
            yield count


def _until_none(delete: Callable[[], int]) -> Iterator[int]:
    while count := delete():
        yield count


def _chunks(ids: Ints, size: int) -> Iterator[Ints]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


def _before(now: int, keep: float | None) -> int | None:
    return None if keep is None else now - round(keep * SECOND)


class Stored(Protocol):
    """The parts of the database that the job works on."""

    @property
    def retention(self) -> Stock:
        """What may be deleted."""
        ...


def run(database: Stored, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run the job on a database."""
    return clear_out(database.retention, settings, clock=clock, on_stage=on_stage)
