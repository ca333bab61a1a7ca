"""The sums of the job `monitor`, against pandas that knows nothing of them, through everything that can change."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event, text

from jobs.upkeep.retention import clear_out
from models.config import QUANTILE_LEVELS, QUANTILE_NAMES
from pipeline.columns import concat
from pipeline.database import Database
from pipeline.database.jobs.evaluations import EvaluatedRanges, find_group
from pipeline.errors import Unavailable
from pipeline.records import Advance, Claim, Forecasts, Turn, no_observations
from pipeline.settings import Settings
from tests.contracts.rows import HOUR, START, at_once, observations, turn_of

SEASON = 6
SCALE_HOURS = 28 * SEASON
HORIZON = 55
DAY_HOURS = 24
MARGIN = 60.0
SERIES = ("north/a", "north/b", "south/a", "odd")
PATTERN = r"^(\w+)/"
SECOND = 1_000_000
FIGURES = ("mae", "rmse", "bias", "mase", "pinball", "wql", "coverage_80", "coverage_95", "skill")


@dataclass
class World:
    """Four hourly series with gaps, nulls and forecasts of two models, fed bit by bit; `now` is what rows bear."""

    database: Database
    rng: np.random.Generator
    now: int = START + 365 * 24 * HOUR
    offset: int = 0

    def __post_init__(self) -> None:
        self.database.registry.describe_baseline({}, season=SEASON, step_seconds=3600.0)
        self.store = self.database.store("meters", "last", lambda: self.now)
        self.claim = self.store.claim(0, "me")
        self.ids = dict(zip(SERIES, self.store.recent(SERIES, 1).series_id.tolist(), strict=True))

    def commit(self, **parts: Any) -> None:
        place = Claim(0, self.claim.epoch, self.offset)
        self.offset += 10
        self.store.commit(turn_of(place, self.offset, **parts))

    def observe(self, name: str, hours: range, *, fresh: bool = True, every: int = 1) -> None:
        cells = []
        for hour in hours[::every]:
            value = None if self.rng.random() < 0.05 else float(self.rng.normal(20 + 5 * (hour % SEASON), 3))
            cells.append((self.ids[name], START + HOUR * hour, value, 1, self.offset, fresh))
        self.commit(observations=observations(cells))

    def issue(self, name: str, origin: int, version: int, again: int | None = None) -> None:
        """Store a forecast that an event made due, or the partition's re-forecast of this number."""
        one = self.forecast(name, origin, version, again)
        if again is None:
            self.commit(forecasts=one)
        else:
            advance = Advance(0, self.claim.epoch, self.offset, self.offset, reforecasts=again)
            self.store.commit(Turn((advance,), no_observations(), one, ()))

    def forecast(self, name: str, origin: int, version: int, again: int | None = None) -> Forecasts:
        middle = self.rng.normal(20, 8, HORIZON)
        spread = np.sort(self.rng.normal(0, 9, (HORIZON, len(QUANTILE_LEVELS))), axis=1)
        return Forecasts(
            series=[name],
            series_id=np.array([self.ids[name]]),
            origin=np.array([START + HOUR * origin]),
            target_times=(START + HOUR * (origin + np.arange(1, HORIZON + 1)))[None],
            quantiles=(middle[:, None] + spread)[None],
            model_version=np.array([version]),
            calibration=np.array([0]),
            quality=["ok"],
            issued_at=np.array([self.now]),
            partition=np.array([0]),
            offset=np.array([self.offset if again is None else -again]),
        )

    def live(self, hours: range) -> None:
        """Let hours pass on every series, with a forecast now and then."""
        for name in SERIES:
            self.observe(name, hours)
            origins = hours[:: int(self.rng.integers(5, 9))]
            self.commit(forecasts=concat([self.forecast(name, at, int(self.rng.integers(1, 3))) for at in origins]))
        self.later(600)

    def later(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def refresh(self, group: str | None = PATTERN) -> list[EvaluatedRanges]:
        return list(self.database.evaluations.refresh(self.now, margin=MARGIN, group=group))

    def cells(self) -> list[dict[str, Any]]:
        return self.database.reader.query(
            "SELECT * FROM evaluations ORDER BY series_id, model_version, day, horizon_from"
        )


@pytest.fixture
def world(database: Database) -> World:
    return World(database, np.random.default_rng(7))


def matured(database: Database) -> pd.DataFrame:
    """One row per matured forecast step, by pandas from the raw tables alone."""
    seen = pd.DataFrame(database.reader.query("SELECT series_id, observed_at, value FROM observations"))
    seen["observed_at"] = pd.to_datetime(seen["observed_at"], format="ISO8601")
    issued = pd.DataFrame(database.reader.query("SELECT * FROM forecasts"))
    issued["target_time"] = pd.to_datetime(issued["target_time"], format="ISO8601")
    known = seen.dropna(subset=["value"])
    actual = known.rename(columns={"observed_at": "target_time", "value": "actual"})
    rows = issued.merge(actual, on=["series_id", "target_time"])
    back = np.ceil(rows["step"] / SEASON) * SEASON
    rows["back"] = rows["target_time"] - pd.to_timedelta(back, unit="h")
    naive = known.rename(columns={"observed_at": "back", "value": "naive"})
    rows = rows.merge(naive, on=["series_id", "back"], how="left")
    rows["day"] = rows["target_time"].dt.floor("D")
    scales = pd.concat([scale_of(part, series_id) for series_id, part in known.groupby("series_id")])
    return rows.merge(scales, on=["series_id", "day"], how="left")


def scale_of(known: pd.DataFrame, series_id: Any) -> pd.DataFrame:
    values = known.set_index("observed_at")["value"].asfreq("h")
    change = values.diff(SEASON).abs()
    days = pd.date_range(values.index[0].floor("D"), values.index[-1].floor("D"), freq="D")
    scale = [
        change[(change.index < day) & (change.index >= day - pd.Timedelta(hours=SCALE_HOURS))].mean() for day in days
    ]
    return pd.DataFrame({"series_id": series_id, "day": days, "scale": scale})


def bucket(step: int) -> int:
    return max(first for first in (1, 2, 7, 25, 49) if first <= step)


def accuracy(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The figures of the views, each by its definition on the steps themselves."""
    error, actual = rows["q50"] - rows["actual"], rows["actual"]
    pinball = [
        np.maximum(level * (actual - rows[name]), (level - 1) * (actual - rows[name]))
        for level, name in zip(QUANTILE_LEVELS, QUANTILE_NAMES, strict=True)
    ]
    rows = rows.assign(
        horizon_from=rows["step"].map(bucket),
        error=error,
        size=error.abs(),
        square=error**2,
        scaled=error.abs() / rows["scale"],
        pinball=np.mean(pinball, axis=0),
        level=actual.abs(),
        in_80=actual.between(rows["q10"], rows["q90"]),
        in_95=actual.between(rows["q025"], rows["q975"]),
        size_beside_naive=error.abs().where(rows["naive"].notna()),
        size_of_naive=(rows["naive"] - actual).abs(),
    )
    parts = rows.groupby(by)
    mean, total = parts.mean(numeric_only=True), parts.sum(numeric_only=True)
    naive = total["size_of_naive"].where(total["size_of_naive"] > 0)
    found = {
        "n": parts.size(),
        "mae": mean["size"],
        "rmse": np.sqrt(mean["square"]),
        "bias": mean["error"],
        "mase": mean["scaled"],
        "pinball": mean["pinball"],
        "wql": 2 * total["pinball"] / total["level"],
        "coverage_80": mean["in_80"],
        "coverage_95": mean["in_95"],
        "skill": 1 - total["size_beside_naive"] / naive,
    }
    return pd.DataFrame(found).sort_index()


def check(database: Database, pattern: str | None = PATTERN) -> int:
    """Compare both views with pandas; return how many rows of accuracy there were."""
    rows = matured(database)
    names = {row["series_id"]: row["name"] for row in database.reader.query("SELECT series_id, name FROM series")}
    rows["series_group"] = rows["series_id"].map(lambda own: find_group(names[own], pattern))
    rows["horizon_from"] = rows["step"].map(bucket)
    by = ["model_version", "horizon_from", "day", "series_group"]
    found = pd.DataFrame(database.reader.query("SELECT * FROM forecast_accuracy"))
    found["day"] = pd.to_datetime(found["day"])
    found = found.set_index(by).sort_index()
    wanted = accuracy(rows, by)
    assert found.index.equals(wanted.index)
    for figure in ("n", *FIGURES):
        np.testing.assert_allclose(found[figure].astype(float), wanted[figure], rtol=1e-9, atol=1e-12, err_msg=figure)
    ends = {1: 1, 2: 6, 7: 24, 25: 48}
    reached = [ends.get(start) for start in found.index.get_level_values("horizon_from")]
    assert [None if pd.isna(end) else int(end) for end in found["horizon_to"]] == reached
    for row in database.reader.query("SELECT * FROM model_leaderboard WHERE n > 0"):
        whole = accuracy(rows, ["model_version"]).loc[row["model_version"]]
        np.testing.assert_allclose([row[name] for name in FIGURES], whole[list(FIGURES)].astype(float), rtol=1e-9)
    return len(found)


def test_accuracy_is_what_pandas_computes_with_models_buckets_groups_and_gaps(world: World) -> None:
    world.live(range(96))
    world.refresh()
    assert check(world.database) > 50
    found = world.database.reader.query("SELECT DISTINCT series_group FROM forecast_accuracy ORDER BY series_group")
    assert [row["series_group"] for row in found] == ["north", "other", "south"]


def test_the_leaderboard_has_the_figures_of_registered_models(world: World) -> None:
    register(world.database, world.now)
    world.live(range(72))
    world.refresh()
    check(world.database)
    (row,) = world.database.reader.query("SELECT n FROM model_leaderboard WHERE model_version = 1")
    assert row["n"] > 0


def register(database: Database, now: int) -> int:
    return database.registry.register(
        name="gru", config={}, metrics={}, train_from=None, train_to=None, seed=0, code="", artifact=b"x", now=now
    )


def test_accuracy_follows_as_actuals_arrive_late_are_corrected_or_taken_back(world: World) -> None:
    world.live(range(48))
    world.refresh()
    world.live(range(48, 120))
    world.refresh()
    check(world.database)
    world.observe("odd", range(200, 210))  # a gap of days
    world.issue("odd", 205, 1)
    world.later(600)
    world.refresh()
    check(world.database)
    world.observe("odd", range(120, 200), fresh=False)  # which is filled later
    world.later(600)
    world.refresh()
    check(world.database)
    world.observe("north/a", range(20, 90), fresh=False, every=7)  # corrections, some of them to null
    world.later(600)
    world.refresh()
    check(world.database)


def test_a_cell_whose_actuals_are_all_taken_back_is_gone(world: World) -> None:
    world.live(range(30))
    world.refresh()
    cells = [(world.ids["odd"], START + HOUR * hour, None, 0, 0, False) for hour in range(30)]
    world.commit(observations=observations(cells))
    world.refresh()
    assert {cell["series_id"] for cell in world.cells()} == set(world.ids.values()) - {world.ids["odd"]}
    check(world.database)


def test_forecasts_that_come_after_their_actuals_are_found_without_a_change_of_observations(world: World) -> None:
    world.live(range(72))
    world.refresh()
    world.later(3600)
    world.refresh()
    before = sum(cell["n"] for cell in world.cells())
    world.issue("odd", 11, 2)
    assert [batch.total for batch in world.refresh()] == [1]
    assert sum(cell["n"] for cell in world.cells()) > before
    check(world.database)


def test_forecasts_that_no_event_made_due_are_found_without_a_change_of_observations(world: World) -> None:
    world.live(range(72))
    world.refresh()
    world.later(3600)
    world.refresh()
    for again in (1, 2):
        before = sum(cell["n"] for cell in world.cells())
        world.issue("odd", 10 + again, 3, again=again)
        assert [batch.total for batch in world.refresh()] == [1]
        assert sum(cell["n"] for cell in world.cells()) > before
        check(world.database)
    assert [batch.total for batch in world.refresh()] == []


def test_forecasts_of_a_replay_after_a_rewind_are_found(world: World) -> None:
    world.live(range(60))
    world.refresh()
    world.later(3600)
    back = world.store.rewind(Claim(0, world.claim.epoch, world.offset), 5, "restored")
    world.offset = back.next_offset
    world.issue("odd", 11, 2)  # its offset is below the mark
    world.refresh()
    check(world.database)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # SQLite lets nobody write between the two
def test_a_rewind_while_the_marks_are_read_is_not_overlooked(
    world: World, url: str, open_more: Callable[..., Database]
) -> None:
    world.live(range(60))
    world.refresh()
    world.later(3600)
    other = open_more(url).store("meters", "last", lambda: world.now)
    seen: list[str] = []

    def rewind(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not seen and ("FROM ingest_jumps" in statement or "ingest_state.next_offset" in statement):
            seen.append(statement)
            world.offset = other.rewind(Claim(0, world.claim.epoch, world.offset), 5, "restored").next_offset

    event.listen(world.database.engine, "after_cursor_execute", rewind)
    world.refresh()
    event.remove(world.database.engine, "after_cursor_execute", rewind)
    assert seen
    world.issue("odd", 11, 2)
    world.refresh()
    check(world.database)


def test_a_second_run_and_a_later_one_with_nothing_new_change_nothing(world: World) -> None:
    world.live(range(80))
    world.now -= 599 * SECOND
    world.refresh()
    before = world.cells()
    assert world.refresh() != []  # within the margin everything is worked out again
    assert world.cells() == before
    world.later(2 * MARGIN)
    world.refresh()
    world.later(2 * MARGIN)
    assert world.refresh() == []
    assert world.cells() == before


def test_the_sums_do_not_depend_on_when_the_job_ran(world: World, database: Database) -> None:
    for hour in range(0, 120, 12):
        world.live(range(hour, hour + 12))
        world.refresh()
    world.observe("odd", range(20, 60), fresh=False, every=3)
    world.refresh()
    step_by_step = world.cells()
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM evaluations"))
        connection.execute(text("DELETE FROM job_states"))
    world.refresh()
    # not bit by bit: PostgreSQL adds in the order of its plan
    pd.testing.assert_frame_equal(pd.DataFrame(world.cells()), pd.DataFrame(step_by_step), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_in_whatever_order_the_sums_are_those_of_pandas(database: Database, seed: int) -> None:
    world = World(database, np.random.default_rng(seed))
    world.live(range(24))
    for _ in range(24):
        name = SERIES[int(world.rng.integers(len(SERIES)))]
        hour = int(world.rng.integers(0, 150))
        match int(world.rng.integers(4)):
            case 0:
                world.observe(name, range(hour, hour + int(world.rng.integers(1, 30))), fresh=False)
            case 1:
                world.issue(name, hour, int(world.rng.integers(1, 4)))
            case 2:
                world.later(float(world.rng.integers(1, 200)))
            case 3:
                world.refresh()
    world.refresh()
    check(database)


def test_a_row_that_became_visible_late_is_found_within_the_margin(world: World) -> None:
    world.live(range(60))
    world.refresh()
    stamp = world.now
    world.later(MARGIN - 1)
    world.refresh()
    now, world.now = world.now, stamp  # a worker read its clock then, and commits only now
    world.observe("odd", range(60, 70))
    world.now = now + SECOND
    world.refresh()
    check(world.database)


@pytest.mark.parametrize("statement", range(1, 14))
def test_a_crash_at_any_statement_leaves_what_the_next_run_completes(world: World, statement: int) -> None:
    world.live(range(60))
    world.refresh()
    world.live(range(60, 72))
    writes = 0

    def crash(*_: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == statement:
            raise Unavailable("the machine was lost")

    event.listen(world.database.engine, "before_cursor_execute", crash)
    try:
        world.refresh()
    except Unavailable:
        pass
    finally:
        event.remove(world.database.engine, "before_cursor_execute", crash)
    world.refresh()
    check(world.database)


def test_a_sweep_that_was_cut_short_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.database.jobs.evaluations._DAYS_OF_A_BATCH", 1)
    world.live(range(60))
    sweep = world.database.evaluations.refresh(world.now, margin=MARGIN, group=None)
    first = next(sweep)
    assert first.done < first.total
    sweep.close()
    world.live(range(60, 70))  # what changes meanwhile belongs to the next sweep
    rest = world.refresh(None)
    assert rest[-1].total == first.total - first.done
    world.refresh(None)
    check(world.database, None)


def test_two_monitors_at_once_leave_the_sums_of_one(
    world: World, url: str, open_more: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.database.jobs.evaluations._DAYS_OF_A_BATCH", 2)
    world.live(range(60))
    others = [open_more(url), open_more(url)]

    def run(database: Database) -> int:
        return len(list(database.evaluations.refresh(world.now, margin=MARGIN, group=None)))

    counts = at_once(*(lambda other=other: run(other) for other in others))
    assert all(isinstance(count, int) for count in counts), counts
    world.refresh(None)
    check(world.database, None)


def test_another_season_makes_everything_stale(world: World) -> None:
    world.live(range(60))
    world.refresh()
    world.later(3600)
    world.refresh()
    before = world.cells()
    world.database.registry.describe_baseline({}, season=SEASON - 1, step_seconds=3600.0)
    world.refresh()
    assert [cell["n"] for cell in world.cells()] == [cell["n"] for cell in before]
    assert [cell["scale"] for cell in world.cells()] != [cell["scale"] for cell in before]


def test_another_pattern_regroups_every_series_and_keeps_the_sums(world: World) -> None:
    world.live(range(40))
    world.refresh()
    before = world.cells()
    world.later(3600)
    sweep = world.database.evaluations.refresh(world.now, margin=MARGIN, group=r"/(\w)$")
    for _ in sweep:  # cut short, after the groups have changed
        break
    sweep.close()
    world.refresh(r"/(\w)$")
    found = world.database.reader.query("SELECT DISTINCT series_group FROM forecast_accuracy ORDER BY series_group")
    assert [row["series_group"] for row in found] == ["a", "b", "other"]
    assert world.cells() == before
    check(world.database, r"/(\w)$")


def test_what_was_summed_stays_when_its_forecasts_are_deleted(world: World, database: Database) -> None:
    world.live(range(96))
    world.refresh()
    kept = [cell for cell in world.cells() if cell["day"] < "2026-01-03"]
    assert kept
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM packed_forecasts WHERE origin < '2026-01-03 00:00:00'"))
    world.observe("odd", range(10, 60), fresh=False)
    world.refresh()
    assert [cell for cell in world.cells() if cell["day"] < "2026-01-03"] == kept


def test_nothing_stored_is_nothing_to_do(database: Database) -> None:
    assert list(database.evaluations.refresh(START, margin=MARGIN, group=None)) == []
    assert database.reader.query("SELECT * FROM evaluations") == []


def test_the_scale_of_months_finds_the_same_month_of_the_year_before(database: Database) -> None:
    database.registry.describe_baseline({}, season=12, step_seconds=365.2425 * 86400 / 12)
    times = np.arange("2022-01", "2026-01", dtype="datetime64[M]").astype("datetime64[us]").astype(np.int64)
    store = database.store("shops", "last", lambda: START)
    claim = store.claim(0, "me")
    own = int(store.recent(["a"], 1).series_id[0])
    cells = [(own, int(time), float(month), 1, month, True) for month, time in enumerate(times)]
    one = Forecasts(
        series=["a"],
        series_id=np.array([own]),
        origin=times[-2:-1],
        target_times=times[None, -1:],
        quantiles=np.full((1, 1, 13), 41.0),
        model_version=np.array([1]),
        calibration=np.array([0]),
        quality=["ok"],
        issued_at=np.array([START]),
        partition=np.array([0]),
        offset=np.array([47]),
    )
    store.commit(turn_of(claim, 48, observations=observations(cells), forecasts=one))
    list(database.evaluations.refresh(START, margin=MARGIN, group=None))
    (row,) = database.reader.query("SELECT mase, skill, n FROM forecast_accuracy")
    assert row == {"mase": pytest.approx(6 / 12), "skill": pytest.approx(1 - 6 / 12), "n": 1}


@pytest.mark.parametrize(
    ("name", "pattern", "group"),
    [
        ("north/a", None, "all"),
        ("north/a", r"^(\w+)/", "north"),
        ("a", r"^(\w+)/", "other"),
        ("/a", r"^(\w*)/", "other"),
        ("a", r"(x)?", "other"),
    ],
)
def test_a_group_is_what_the_pattern_finds_in_the_name(name: str, pattern: str | None, group: str) -> None:
    assert find_group(name, pattern) == group


def thin(world: World, **keep: Any) -> dict[str, int]:
    settings = Settings(series={"context": 6, "horizon": HORIZON}, retention=keep)  # type: ignore[arg-type]
    outcome = clear_out(
        world.database.retention, settings, clock=lambda: world.now, on_stage=lambda _: None, pause=lambda _: None
    )
    deleted: dict[str, int] = outcome.facts["deleted"]
    return deleted


def settle(world: World) -> list[dict[str, Any]]:
    """Two hundred hours, summed up, long ago and published, and a forecast that is the newest of its series."""
    world.live(range(200))
    world.commit()
    world.refresh()
    world.later(40 * 86_400)
    world.refresh()
    return world.cells()


@pytest.mark.parametrize("keep", [{}, {"thin_forecasts": "1 day", "forecasts": "370 days"}, {"observations": "1 day"}])
def test_a_correction_of_a_day_whose_rows_were_thinned_takes_no_forecast_out_of_the_sums(
    world: World, keep: dict[str, str]
) -> None:
    before = settle(world)
    assert sum(thin(world, **keep).values()) > 0
    world.observe("odd", range(30, 31), fresh=False)
    world.observe("north/a", range(100, 101), fresh=False)
    world.later(600)
    assert world.refresh() != []
    after = world.cells()
    key = ("series_id", "model_version", "day", "horizon_from")
    assert [[cell[name] for name in key] for cell in after] == [[cell[name] for name in key] for cell in before]
    for name in ("n", "naive_n", "scaled_n"):
        assert all(new[name] >= old[name] for new, old in zip(after, before, strict=True)), name


def test_days_after_those_that_were_thinned_are_corrected_as_ever(world: World) -> None:
    settle(world)
    keep = f"{(world.now - START - 60 * HOUR) // HOUR} h"
    assert thin(world, thin_forecasts=keep, forecasts="off")["forecasts"] > 0
    first = "2026-01-07"  # its forecasts are of after hour 60
    cells = [(world.ids["odd"], START + HOUR * hour, None, 0, 0, False) for hour in range(150, 200)]
    world.commit(observations=observations(cells))
    world.later(600)
    world.refresh()
    rows = matured(world.database)
    counted = sum(cell["n"] for cell in world.cells() if str(cell["day"]) >= first)
    assert 0 < counted == (rows["day"].dt.strftime("%Y-%m-%d") >= first).sum()
