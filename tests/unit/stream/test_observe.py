"""Events -> stored rows and due windows: waves, oracle, and train/serve parity."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.batch import Batch
from pipeline.forecasting.windows import Grid, batch, lay_out
from pipeline.grid.frequency import Frequency
from pipeline.records import Due, Events, History, Ints, Mask
from pipeline.settings import Policy, SeriesSettings
from pipeline.stream.observe import observe, waves
from pipeline.stream.ring import NEVER, RingStore
from tests import strategies
from tests.fakes import MemoryStore
from tests.unit.stream.test_ring import POLICIES
from tests.unit.workers import turn_of

Stream = Sequence[tuple[str, int, float | None, *tuple[float | None, ...]]]  # the last are covariates
HOURS = Frequency("h")


def as_events(stream: Stream, frequency: Frequency, first_offset: int = 0) -> Events:
    steps = np.array([step for _, step, *_ in stream], np.int64)
    return Events(
        partition=np.zeros(len(stream), np.int64),
        series=[series for series, *_ in stream],
        event_time=frequency.time_of(steps) + 7_000_000 * (frequency.text == "h"),
        value=np.array([value or 0.0 for _, _, value, *_ in stream]),
        observed=np.array([value is not None for _, _, value, *_ in stream]),
        offset=np.arange(first_offset, first_offset + len(stream)),
        covariates=np.array([covariates for _, _, _, *covariates in stream], np.float64),
    )


def feed(
    stream: Stream, cuts: Sequence[int], series: SeriesSettings, store: MemoryStore | None = None
) -> tuple[MemoryStore, RingStore, list[Due]]:
    """Observe a stream in turns of the sizes `cuts`, storing each turn as the worker would."""
    names = ("temperature", "wind")[: len(stream[0]) - 3]
    grid = Grid(Frequency(series.frequency), series, len(names))
    memory = store or MemoryStore(policy=series.duplicates, covariates=names)
    claim = memory.claim(0, "test")
    ring, dues, at = RingStore.of(grid), [], 0
    sizes = itertools.chain(cuts, itertools.repeat(cuts[-1]))
    while at < len(stream):
        part = stream[at : at + next(sizes)]
        observations, due = observe(as_events(part, grid.frequency, at), ring, grid, memory.recent)
        memory.commit(turn_of(observations, claim.epoch, at, at + len(part)))
        dues.append(due)
        at += len(part)
    return memory, ring, dues


def by_key(dues: Sequence[Due]) -> dict[tuple[str, int], tuple[list[float], list[bool], int, list[Any], list[Any]]]:
    found = {}
    for due in dues:
        for i, name in enumerate(due.series):
            key = (name, int(due.origin[i]))
            assert key not in found, "a forecast is due once"
            window = due.target[i].tolist(), due.observed[i].tolist(), int(due.offset[i])
            found[key] = *window, due.past[i].tolist(), due.past_observed[i].tolist()
    return found


@given(strategies.streams)
def test_waves_number_the_steps_that_are_newer_than_everything_before(stream: Stream) -> None:
    rows = np.array(["abc".index(series) for series, *_ in stream])
    steps = np.array([step for _, step, *_ in stream])
    start = np.array([5, NEVER, 12])
    newest, count, expected = start.tolist(), [0, 0, 0], []
    for row, step in zip(rows.tolist(), steps.tolist(), strict=True):
        if step > newest[row]:
            newest[row] = step
            count[row] += 1
        expected.append(count[row])
    assert waves(rows, steps, start[rows]).tolist() == expected


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=strategies.streams, cuts=strategies.cuts)
def test_how_the_stream_is_cut_into_turns_changes_nothing(policy: Policy, stream: Stream, cuts: list[int]) -> None:
    series = SeriesSettings(context=8, horizon=1, duplicates=policy, on="every_step")
    whole, ring, _ = feed(stream, [len(stream)], series)
    turns, other, _ = feed(stream, cuts, series)
    singly, _, _ = feed(stream, [1], series)
    assert whole.observations == turns.observations == singly.observations
    assert whole.past == turns.past == singly.past
    names = list(ring.rows)
    rows = [np.array([one.rows[name] for name in names]) for one in (ring, other)]
    left = ring.windows(rows[0], ring.newest[rows[0]], 8)
    right = other.windows(rows[1], other.newest[rows[1]], 8)
    assert (left[0] == right[0]).all()
    assert (left[1] == right[1]).all()
    left, right = (
        ring.past_windows(rows[0], ring.newest[rows[0]], 8),
        other.past_windows(rows[1], other.newest[rows[1]], 8),
    )
    assert left[0].shape == (len(names), 8, ring.covariates)
    assert (left[0] == right[0]).all()
    assert (left[1] == right[1]).all()


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=strategies.streams, cuts=strategies.cuts)
def test_every_complete_step_is_due_exactly_once_however_turns_are_cut(
    policy: Policy, stream: Stream, cuts: list[int]
) -> None:
    series = SeriesSettings(context=8, horizon=1, duplicates=policy, on="every_step")
    _, _, dues = feed(stream, cuts, series)
    newest: dict[str, int] = {}
    expected: dict[tuple[str, int], int] = {}
    for offset, (name, step, *_) in enumerate(stream):
        if step > newest.get(name, NEVER):
            if policy in ("last", "first"):
                expected[name, step] = offset
            elif name in newest:
                expected[name, newest[name]] = offset
            newest[name] = step
    assert {key: offset for key, (_, _, offset, *_) in by_key(dues).items()} == expected


@pytest.mark.parametrize("policy", POLICIES)
def test_a_late_event_of_one_series_hides_no_forecast_of_the_next(policy: Policy) -> None:
    """Series b, in the row before a, is far ahead of everything in the second turn."""
    stream: Stream = [("b", 40, 1.0), ("a", 0, 1.0), ("a", 1, 1.0), ("a", 2, 1.0), ("b", 0, 1.0)]
    series = SeriesSettings(context=8, horizon=1, duplicates=policy, on="every_step")
    _, _, dues = feed(stream, [1, 4], series)
    complete = {("b", 40), ("a", 0), ("a", 1), ("a", 2)} if policy in ("last", "first") else {("a", 0), ("a", 1)}
    assert set(by_key(dues)) == complete


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=strategies.streams, cuts=strategies.cuts)
def test_latest_forecasts_the_newest_complete_step_of_each_series_and_turn(
    policy: Policy, stream: Stream, cuts: list[int]
) -> None:
    every = SeriesSettings(context=8, horizon=1, duplicates=policy, on="every_step")
    latest = SeriesSettings(context=8, horizon=1, duplicates=policy, on="latest")
    _, _, all_of_them = feed(stream, cuts, every)
    _, _, newest = feed(stream, cuts, latest)
    for whole, due in zip(all_of_them, newest, strict=True):
        expected: dict[str, int] = {}
        for name, origin in zip(whole.series, whole.origin.tolist(), strict=True):
            expected[name] = max(origin, expected.get(name, NEVER))
        assert dict(zip(due.series, due.origin.tolist(), strict=True)) == expected


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=strategies.streams, cuts=strategies.cuts)
def test_a_window_built_event_by_event_equals_the_one_cut_from_sql(
    policy: Policy, stream: Stream, cuts: list[int]
) -> None:
    series = SeriesSettings(context=8, horizon=3, duplicates=policy)
    memory, ring, _ = feed(stream, cuts, series)
    names = list(ring.rows)
    rows = np.arange(len(names))
    target, observed = ring.windows(rows, ring.newest[rows], 8)
    past = ring.past_windows(rows, ring.newest[rows], 8)
    none = np.zeros(len(names), np.int64)
    whole = none == 1
    due = Due(none, names, ring.series_id[rows], ring.newest[rows], rows, target, observed, *past, whole)
    embedding = rows + 1
    served = batch(due, embedding, HOURS, 3)
    history = memory.recent(names, 10_000)
    panel = lay_out(history, frequency=HOURS, rows=embedding, context=8, horizon=3)
    trained = panel.cut(torch.from_numpy(rows), panel.length, context_length=8, horizon=3)
    assert_same_bits(served, trained)
    values, seen = past_from_sql(history, ring.newest[rows], 8)
    assert due.past.tobytes() == values.tobytes()
    assert due.past_observed.tobytes() == seen.tobytes()


def past_from_sql(history: History, origins: Ints, length: int) -> tuple[NDArray[np.float64], Mask]:
    """Lay each series' covariates on the grid and cut the window that ends at its origin: (S, length, P)."""
    values = np.full((len(origins), length, history.covariates.shape[1]), np.nan)
    for row, origin in enumerate(origins.tolist()):
        own = slice(*history.bounds[row : row + 2])
        place = HOURS.step_of(history.observed_at[own]) - (origin - length + 1)
        values[row, place[place >= 0]] = history.covariates[own][place >= 0]
    return np.nan_to_num(values), ~np.isnan(values)


def assert_same_bits(left: Batch, right: Batch) -> None:
    for name in ("target", "observed", "series", "calendar", "past", "past_observed"):
        mine, theirs = getattr(left, name), getattr(right, name)
        assert mine.dtype == theirs.dtype
        assert mine.numpy().tobytes() == theirs.numpy().tobytes(), name


@pytest.mark.parametrize("policy", POLICIES)
@given(stream=strategies.streams, at=st.integers(0, 60))
def test_a_ring_loaded_from_sql_goes_on_as_the_one_that_saw_everything(policy: Policy, stream: Stream, at: int) -> None:
    series = SeriesSettings(context=8, horizon=1, duplicates=policy, on="every_step")
    _, _, uninterrupted = feed(stream, [1], series)
    names = ("temperature", "wind")[: len(stream[0]) - 3]
    memory, _, before = feed(stream[:at], [1], series) if stream[:at] else (MemoryStore(policy, names), None, [])
    memory.state.clear()
    after = feed(stream[at:], [1], series, memory)[2] if stream[at:] else []
    shifted = {key: (t, o, offset + at, *past) for key, (t, o, offset, *past) in by_key(after).items()}
    assert by_key(before) | shifted == by_key(uninterrupted)


def test_a_mean_that_was_loaded_from_sql_goes_on_with_all_of_its_events() -> None:
    stream: Stream = [("a", 1, 1.0, 2.0), ("a", 1, 3.0, 6.0), ("a", 1, 8.0, 16.0), ("a", 2, 0.0, 0.0)]
    series = SeriesSettings(context=2, horizon=1, duplicates="mean")
    memory, _, _ = feed(stream[:2], [1], series)
    memory.state.clear()
    _, _, dues = feed(stream[2:], [1], series, memory)
    ((target, _, _, past, _),) = by_key(dues).values()
    assert (target, past) == ([0.0, 4.0], [[0.0], [8.0]])


@pytest.mark.parametrize(
    ("text", "context", "stride"),
    list(itertools.product(["s", "15min", "h", "D", "W-SUN", "MS", "B"], [2, 5, 24], [1, 3])),
)
def test_on_y_equal_t_every_window_ends_at_its_origin(text: str, context: int, stride: int) -> None:
    frequency = Frequency(text)
    start = int(frequency.step_of(np.array([pd.Timestamp("2024-02-01").value // 1000]))[0])
    stream = [("a", start + i * stride, float(i * stride)) for i in range(20)]
    _, _, dues = feed(stream, [7], SeriesSettings(frequency=text, context=context, horizon=2, on="every_step"))
    found = by_key(dues)
    assert len(found) == 20
    for (_, origin), (target, observed, *_) in found.items():
        assert target[-1] == origin - start
        for i in range(context):
            step = origin - start - (context - 1 - i)
            assert observed[i] == (step >= 0 and step % stride == 0)
            assert target[i] == (step if observed[i] else 0)


def test_a_late_event_corrects_the_window_of_the_next_forecast() -> None:
    stream: Stream = [("a", 1, 1.0), ("a", 2, 2.0), ("a", 4, 4.0), ("a", 2, 20.0), ("a", 3, 3.0), ("a", 5, 5.0)]
    _, _, dues = feed(stream, [1], SeriesSettings(context=5, horizon=1))
    found = by_key(dues)
    assert found["a", 4][0] == [0, 1, 2, 0, 4]
    assert found["a", 4][1] == [False, True, True, False, True]
    assert found["a", 5][0] == [1, 20, 3, 4, 5]


def test_a_late_event_corrects_the_covariates_of_the_next_forecast_and_a_gap_has_none() -> None:
    stream: Stream = [("a", 1, 1.0, 10.0), ("a", 3, 3.0, 30.0), ("a", 1, 1.0, -10.0), ("a", 4, None, 40.0)]
    memory, _, dues = feed(stream, [1], SeriesSettings(context=4, horizon=1))
    found = by_key(dues)
    assert found["a", 3][3:] == ([[0.0], [10.0], [0.0], [30.0]], [[False], [True], [False], [True]])
    assert found["a", 4][3:] == ([[-10.0], [0.0], [30.0], [40.0]], [[True], [False], [True], [True]])
    assert found["a", 4][:2] == ([1.0, 0.0, 3.0, 0.0], [True, False, True, False]), "its value was null"
    assert sorted(memory.past.values()) == [(-10.0, True, 2), (30.0, True, 1), (40.0, True, 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("last", (0.0, 7.0)), ("first", (1.0, 7.0)), ("mean", (2.0, 7.0)), ("sum", (4.0, 7.0)), ("max", (3.0, 7.0))],
)
def test_each_covariate_of_a_step_is_merged_by_itself(policy: Policy, expected: tuple[float, float]) -> None:
    stream: Stream = [("a", 1, 5.0, 1.0, None), ("a", 1, None, 3.0, None), ("a", 1, 6.0, None, 7.0)]
    for cuts in ([1], [2, 1], [3]):
        memory, ring, _ = feed(stream, cuts, SeriesSettings(context=2, horizon=1, duplicates=policy))
        values, seen = ring.past_windows(np.array([0]), ring.newest[:1], 1)
        assert (values[0, 0].tolist(), seen[0, 0].tolist()) == (list(expected), [policy != "last", True])
        assert sorted(events for _, _, events in memory.past.values()) == [1, 2]


def test_an_event_older_than_the_ring_is_stored_all_the_same() -> None:
    stream: Stream = [("a", 100, 1.0), ("a", 3, 2.0)]
    memory, _, dues = feed(stream, [1], SeriesSettings(context=5, horizon=1))
    assert len(memory.observations) == 2
    assert len(by_key(dues)) == 1


def test_events_finer_than_the_grid_are_aggregated_before_their_step_is_forecast() -> None:
    stream: Stream = [("a", 1, 1.0), ("a", 1, 3.0), ("a", 2, 5.0), ("a", 2, 7.0), ("a", 2, 9.0), ("a", 3, 0.0)]
    for policy, expected in (("mean", [2.0, 7.0]), ("sum", [4.0, 21.0]), ("max", [3.0, 9.0])):
        _, _, dues = feed(stream, [2], SeriesSettings(context=2, horizon=1, duplicates=policy))  # type: ignore[arg-type]
        assert by_key(dues)["a", 2][0] == expected


def test_series_without_observations_cannot_be_laid_out() -> None:
    empty = History(*(np.array(x) for x in ([1], [0, 0], [], [], [], [], [])))  # type: ignore[arg-type]
    with pytest.raises(Exception, match="nothing to train on"):
        lay_out(empty, frequency=HOURS, rows=np.array([1]), context=2, horizon=1)
