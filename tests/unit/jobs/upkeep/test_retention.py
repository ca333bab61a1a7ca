"""What retention chooses, how it shares its time, and that it says what it did."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.clock.outcome import Stage
from jobs.upkeep.retention import (
    MICROSECONDS_A_DAY,
    MOST_ROWS,
    MOST_STEPS,
    Origins,
    choose_doomed,
    choose_period,
    clear_out,
)
from pipeline.errors import ConfigError
from pipeline.records import Ints
from pipeline.settings import RetentionSettings, Settings
from pipeline.settings.sources import load
from tests.unit.jobs.fakes import HOUR, START, Clock

DAY = MICROSECONDS_A_DAY
KEYS = st.sets(st.tuples(st.integers(1, 3), st.integers(0, 200), st.integers(0, 2)), min_size=1, max_size=80)
CUTS = st.none() | st.integers(0, 210)


def origins_of(keys: set[tuple[int, int, int]]) -> Origins:
    """Forecasts by (series, hours after START, model version)."""
    rows = np.array(sorted(keys), np.int64)
    newest = {one: max(hour for own, hour, _ in keys if own == one) for one, _, _ in keys}
    return Origins(
        rows[:, 0],
        START + HOUR * rows[:, 1],
        rows[:, 2],
        START + HOUR * np.array([newest[one] for one in rows[:, 0].tolist()], np.int64),
    )


def moment(hours: int | None) -> int | None:
    return None if hours is None else START + HOUR * hours


def apply(keys: set[tuple[int, int, int]], delete: int | None, thin: int | None) -> set[tuple[int, int, int]]:
    """What is left, as the job would do it: it looks at what is old, and deletes what is chosen."""
    bounds = [cut for cut in (delete, thin) if cut is not None]
    old = {key for key in keys if bounds and key[1] < max(bounds)}
    if not old:
        return keys
    seen = origins_of(keys)
    chosen = seen.take(seen.origin < START + HOUR * max(bounds))
    doomed = choose_doomed(chosen, delete_before=moment(delete), thin_before=moment(thin))
    gone = {key for key, bad in zip(sorted(old), doomed.tolist(), strict=True) if bad}
    return keys - gone


@given(KEYS, CUTS, CUTS)
def test_the_newest_origin_of_a_series_and_all_that_is_young_stay(
    keys: set[tuple[int, int, int]], delete: int | None, thin: int | None
) -> None:
    left = apply(keys, delete, thin)
    for series, hour, version in keys:
        newest = max(at for own, at, _ in keys if own == series)
        if hour == newest or hour >= max(delete or 0, thin or 0):
            assert (series, hour, version) in left


@given(KEYS, CUTS, CUTS)
def test_what_is_left_is_one_origin_a_day_and_nothing_too_old(
    keys: set[tuple[int, int, int]], delete: int | None, thin: int | None
) -> None:
    left = apply(keys, delete, thin)
    newest = {series: max(at for own, at, _ in keys if own == series) for series, _, _ in keys}
    old = {key for key in left if key[1] != newest[key[0]]}
    assert not [key for key in old if delete is not None and key[1] < delete]
    thinned = [(series, hour // 24, version) for series, hour, version in old if thin is not None and hour < thin]
    assert len(thinned) == len(set(thinned))
    for series, hour, version in keys:  # every day of a model that may stay is still there, by its first origin
        if hour == min(at for own, at, its in keys if (own, its, at // 24) == (series, version, hour // 24)):
            assert (series, hour, version) in left or (delete is not None and hour < delete)


@given(KEYS, CUTS, CUTS)
def test_choosing_again_from_what_is_left_chooses_nothing(
    keys: set[tuple[int, int, int]], delete: int | None, thin: int | None
) -> None:
    left = apply(keys, delete, thin)
    assert apply(left, delete, thin) == left


@given(KEYS, st.integers(0, 210), st.integers(0, 210), CUTS)
def test_a_run_day_by_day_ends_where_one_late_run_does(
    keys: set[tuple[int, int, int]], earlier: int, later: int, delete: int | None
) -> None:
    earlier, later = sorted((earlier, later))
    assert apply(apply(keys, None, earlier), delete, later) == apply(keys, delete, later)


@pytest.mark.parametrize(
    ("days", "period"), [(1, "day"), (30, "day"), (40, "week"), (200, "week"), (400, "month"), (4000, "month")]
)
def test_periods_are_short_where_little_is_kept_and_few_where_much_is(days: int, period: str) -> None:
    assert choose_period(days * 86_400.0) == period
    assert choose_period(None) == "month"


@dataclass
class MemoryStock:
    """`jobs.upkeep.retention.Stock` over counts: so many rows of each kind may go; every deletion takes `seconds`."""

    clock: Clock
    seconds: float = 0.0
    rows: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    forecasts: Origins = field(default_factory=lambda: origins_of({(1, hour, 0) for hour in range(240)}))
    shadow: Origins = field(default_factory=lambda: origins_of({(1, hour, 5) for hour in range(24, 72)}))

    def series(self) -> Ints:
        return np.arange(1, 4)

    def add_periods(self, since: int, until: int, length: str) -> bool:
        self.asked.append(("periods", (since, until, length)))
        return True

    def whole_periods(self, *, shadow: bool, delete_before: int | None, thin_before: int | None) -> list[str]:
        return []

    def thin_period(self, name: str, **_: Any) -> int:
        raise AssertionError(f"{name} was not named")

    def waited_for(self, before: int, longest: int, *, shadow: bool) -> int:
        return before

    def origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        self.asked.append(("origins", series_ids.tolist()))
        old = self.forecasts.take(self.forecasts.origin < before)
        return old.series_id, old.origin, old.model_version, old.newest

    def delete_forecasts(self, series_id: Ints, origin: Ints, model_version: Ints, *, issued_before: int) -> int:
        self.asked.append(("forecasts", (len(series_id), issued_before)))
        self.forecasts = self.forecasts.take(~np.isin(self.forecasts.origin, origin))
        self.clock.advance(self.seconds)
        return len(series_id)

    def shadow_origins(self, series_ids: Ints, before: int) -> tuple[Ints, Ints, Ints, Ints]:
        old = self.shadow.take(self.shadow.origin < before)
        return old.series_id, old.origin, old.model_version, np.full(len(old), 2**62)

    def delete_shadow(self, series_id: Ints, origin: Ints, model_version: Ints) -> int:
        self.asked.append(("shadow", len(series_id)))
        self.shadow = self.shadow.take(~np.isin(self.shadow.origin, origin))
        self.clock.advance(self.seconds)
        return len(series_id)

    def delete_observations(self, series_ids: Ints, before: int, *, kept: int, most: int) -> int:
        return self._take("observations", (series_ids.tolist(), before, kept, most), most)

    def delete_dead_letters(self, requeued_before: int | None, waiting_since: int | None, most: int) -> int:
        return self._take("dead letters", (requeued_before, waiting_since, most), most)

    def delete_runs(self, before: int, most: int) -> int:
        return self._take("job runs", (before, most), most)

    def drop_artifacts(self, before: int, most: int) -> int:
        return self._take("artifacts", (before, most), most)

    def _take(self, kind: str, given: Any, most: int) -> int:
        self.asked.append((kind, given))
        count = min(most, self.rows.get(kind, 0))
        self.rows[kind] = self.rows.get(kind, 0) - count
        self.clock.advance(self.seconds)
        return count


Clear = Callable[..., tuple[Any, MemoryStock, list[Stage], list[float]]]


@pytest.fixture
def clear(tiny: Callable[..., Settings]) -> Clear:
    """Run retention 60 days after START."""

    def run(stock: MemoryStock | None = None, seconds: float = 0.0, rows: dict[str, int] | None = None, **keep: Any):  # type: ignore[no-untyped-def]
        clock = stock.clock if stock else Clock(START + 60 * DAY)
        stock = stock or MemoryStock(clock, seconds, dict(rows or {}))
        stages: list[Stage] = []
        pauses: list[float] = []
        outcome = clear_out(stock, tiny(retention=keep), clock=clock, on_stage=stages.append, pause=pauses.append)
        return outcome, stock, stages, pauses

    return run


def test_by_default_observations_and_waiting_dead_letters_stay_for_ever(clear: Clear) -> None:
    outcome, stock, _, _ = clear()
    kinds = dict(stock.asked)
    assert "observations" not in kinds
    assert kinds["dead letters"][1] is None
    assert outcome.ending == "ok"
    assert set(outcome.facts["deleted"]) == {"dead letters", "job runs", "artifacts", "forecasts", "shadow forecasts"}


def test_everything_off_deletes_nothing_and_asks_for_nothing(clear: Clear) -> None:
    off = dict.fromkeys(set(RetentionSettings.model_fields) - {"budget"}, "off")
    outcome, stock, _, _ = clear(**off)
    assert stock.asked == []
    assert outcome.reason == "deleted nothing"


def test_the_outcome_says_how_many_rows_of_what(clear: Clear) -> None:
    rows = {"dead letters": 3, "job runs": 12_000, "observations": MOST_ROWS + 7}
    outcome, stock, stages, _ = clear(rows=rows, observations="30 days")
    # 10 days of hours are thinned to 10 origins; the newest one stays too
    assert outcome.reason == (
        f"deleted 3 dead letters, 12,000 job runs, 229 forecasts, 46 shadow forecasts, {MOST_ROWS + 7:,} observations"
    )
    assert outcome.facts["deleted"]["artifacts"] == 0
    assert Stage("observations", MOST_ROWS + 7, words=f"{MOST_ROWS + 7:,} deleted") in stages
    again, *_ = clear(stock, observations="30 days")
    assert again.reason == "deleted nothing"


def test_batches_are_bounded_and_what_is_needed_is_named(clear: Clear) -> None:
    _, stock, _, pauses = clear(rows={"observations": 2 * MOST_ROWS}, seconds=0.5, observations="30 days")
    asked = dict(stock.asked)
    assert asked["observations"] == ([1, 2, 3], START + 30 * DAY, 12 + 4, MOST_ROWS)  # context + horizon rows stay
    assert asked["forecasts"][1] == START + 59 * DAY
    assert pauses
    assert min(pauses) == 0.5, "as long a pause as the batch took, so that a worker gets its turn"


def test_forecasts_are_deleted_in_batches_of_whole_forecasts(tiny: Callable[..., Settings]) -> None:
    clock = Clock(START + 60 * DAY)
    stock = MemoryStock(clock)
    settings = tiny(series={"horizon": 1000})
    clear_out(stock, settings, clock=clock, on_stage=lambda _: None, pause=lambda _: None)
    sizes = [given[0] for kind, given in stock.asked if kind == "forecasts"]
    assert max(sizes) == MOST_STEPS // 1000
    assert sum(sizes) == 229


@pytest.mark.parametrize(("frequency", "read"), [("1h", [[1, 2, 3]]), ("1min", [[1, 2], [3]]), ("1s", [[1], [2], [3]])])
def test_fewer_series_are_read_at_once_where_each_has_more_forecasts(
    tiny: Callable[..., Settings], frequency: str, read: list[list[int]]
) -> None:
    clock = Clock(START + 60 * DAY)
    stock = MemoryStock(clock)
    settings = tiny(series={"frequency": frequency})
    clear_out(stock, settings, clock=clock, on_stage=lambda _: None, pause=lambda _: None)
    assert [ids for kind, ids in stock.asked if kind == "origins"] == read


@pytest.mark.parametrize("keep", [{"thin_forecasts": "1 day"}, {"forecasts": "1 day"}])
def test_forecasts_stay_until_a_day_after_their_last_target_however_soon_the_settings_would_have_them_go(
    tiny: Callable[..., Settings], keep: dict[str, str]
) -> None:
    clock = Clock(START + 240 * HOUR)
    stock = MemoryStock(clock)
    settings = tiny(series={"horizon": 100}, retention=keep)
    clear_out(stock, settings, clock=clock, on_stage=lambda _: None, pause=lambda _: None)
    left = ((stock.forecasts.origin - START) // HOUR).tolist()
    assert 0 < len(left) < 240
    assert [hour for hour in left if hour > 0][-125:] == list(range(115, 240))


def test_a_run_stops_when_its_time_is_up_and_the_next_ones_finish(clear: Clear) -> None:
    rows = {"dead letters": 100 * MOST_ROWS, "observations": 3}
    outcome, stock, _, _ = clear(rows=rows, seconds=10, budget="100s", observations="30 days")
    assert outcome.ending == "ok"
    assert "the time was up before all dead letters were seen, the next run goes on" in outcome.reason
    assert outcome.facts["unfinished"] == ["dead letters"]
    assert outcome.facts["deleted"]["observations"] == 3, "the others had their part of the time"
    runs = 1
    while outcome.facts["unfinished"]:
        outcome, *_ = clear(stock, budget="100s", observations="30 days")
        runs += 1
    assert runs < 100
    assert stock.rows["dead letters"] == 0


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ("retention.forecasts=1h", r"retention\.forecasts: .*greater than or equal to 86400"),
        ("retention.job_runs=100 days", r"retention\.job_runs: .*greater than or equal to 31968000"),
        ("retention.artifacts=soon", r"retention\.artifacts: 'soon' is not a duration"),
        ("retention.budget=off", r"retention\.budget: 'off' is not a duration"),
    ],
)
def test_wrong_durations_are_refused_in_one_line(sets: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load(sets=[sets], environ={})


def test_durations_and_off_are_read() -> None:
    keep = load(sets=["retention.observations=400 days", "retention.forecasts='off'"], environ={}).retention
    assert (keep.observations, keep.forecasts) == (400 * 86_400, None)
