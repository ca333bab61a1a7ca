"""Where the steps of the grid begin is found from the first events, or not at all."""

import json
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from structlog.testing import capture_logs

from pipeline.errors import Regridded
from pipeline.grid.frequency import Frequency
from pipeline.grid.phase import PhaseSearch, find_phase
from pipeline.records import Events
from pipeline.settings import SeriesSettings, Settings
from pipeline.stream.worker import Worker
from tests.fakes import MemoryStore, MemoryTopics
from tests.unit.workers import event, run_dry, worker

H, MIN = 3600, 60


def found(frequency: str, first: str, every: str, count: int, zone: str = "UTC", series: int = 1) -> int | None:
    times = pd.date_range(first, periods=count, freq=every, tz=zone, unit="us").tz_convert("UTC").tz_localize(None)
    at = times.to_numpy().astype("datetime64[us]").astype(np.int64)
    return find_phase(np.tile(at, series), np.repeat(np.arange(series), count), Frequency(frequency, zone))


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        (("D", "2024-01-01 06:00", "D", 8), 6 * H),
        (("D", "2024-01-01", "D", 8), 0),
        (("D", "2024-03-25 06:00", "D", 14, "Europe/Berlin"), 6 * H),
        (("2h", "2024-01-01 01:00", "2h", 8), H),
        (("h", "2024-01-01 00:30", "h", 8), 30 * MIN),
        (("h", "2024-01-01 00:17:03", "h", 3), 17 * MIN + 3),
        (("h", "2024-01-01 00:17:03", "h", 2), 17 * MIN + 3),
        (("7D", "2024-01-03", "7D", 8), 6 * 86_400),
        (("W", "2024-01-01", "W-MON", 8), 86_400),
        (("ME", "2024-01-01", "MS", 24), 86_400),
        (("h", "2024-01-01 00:15", "15min", 40), 0),
        (("D", "2024-01-01 14:00", "h", 40), 0),
        (("h", "2024-01-01 00:30", "h", 1, "UTC", 50), None),
        (("D", "2024-01-01 14:00", "h", 1), None),
        (("MS", "2024-01-31", "ME", 24), 0),
        (("D", "2024-01-01 00:00:00.5", "D", 8), 0),
        (("MS", "2024-07-31", "ME", 2), 0),
        (("B", "2024-01-06", "W-SAT", 8), 0),
        (("bh", "2024-01-01 17:30", "D", 5), 0),
    ],
)
def test_a_phase_is_found_where_times_of_several_steps_agree(events: tuple[Any, ...], phase: int | None) -> None:
    assert found(*events) == phase


def test_what_comes_at_any_time_has_no_phase() -> None:
    times = np.random.default_rng(3).integers(0, 90 * 86_400, 200) * 1_000_000
    assert find_phase(times, np.zeros(200, np.int64), Frequency("D")) == 0


def test_a_few_strays_do_not_hide_a_phase() -> None:
    times = np.append(np.arange(100) * 86_400 + 6 * H, 12 * H) * 1_000_000
    assert find_phase(times, np.zeros(101, np.int64), Frequency("D")) == 6 * H


def late(message: tuple[bytes, bytes], seconds: int) -> tuple[bytes, bytes]:
    fields = json.loads(message[1])
    return message[0], json.dumps(fields | {"timestamp": fields["timestamp"] + seconds}).encode()


def undecided(store: MemoryStore, topics: MemoryTopics, noted: list[int]) -> Worker:
    one = worker(store, topics, series=SeriesSettings(context=12, horizon=3, season=4))

    def decide(seconds: int) -> int:
        noted.append(noted[0] if noted else seconds)
        return noted[0]

    one.parts = replace(one.parts, phase=PhaseSearch(one.parts.grid.frequency, decide))
    return one


def test_events_off_the_grid_end_the_worker_before_anything_is_stored() -> None:
    store, topics, noted = MemoryStore(), MemoryTopics(), []  # type: ignore[var-annotated]
    topics.inputs[0] = [late(event("a", step, 1.0), 900) for step in range(6)]
    with pytest.raises(Regridded, match="900 s"):
        run_dry(undecided(store, topics, noted))
    assert noted == [900]
    assert not store.observations


def test_events_on_the_grid_settle_it_and_go_on() -> None:
    store, topics, noted = MemoryStore(), MemoryTopics(), []  # type: ignore[var-annotated]
    topics.inputs[0] = [event("a", step, 1.0) for step in range(6)]
    run_dry(undecided(store, topics, noted))
    assert noted == [0]
    assert len(store.observations) == 6


def test_what_another_worker_noted_counts() -> None:
    store, topics = MemoryStore(), MemoryTopics()
    topics.inputs[0] = [event("a", step, 1.0) for step in range(6)]
    with pytest.raises(Regridded, match="900 s"):
        run_dry(undecided(store, topics, [900]))
    assert not store.observations


def test_the_settings_phase_is_that_of_the_database_unless_it_is_set() -> None:
    settings = Settings()
    assert settings.with_phase(None) is settings
    assert settings.with_phase(900).series.phase == 900
    own = Settings(series=SeriesSettings(phase=60))  # type: ignore[arg-type]
    assert own.with_phase(900).series.phase == 60


def test_too_few_events_are_read_again_with_what_has_come_meanwhile() -> None:
    store, topics, noted = MemoryStore(), MemoryTopics(), []  # type: ignore[var-annotated]
    topics.inputs[0] = [late(event("a", 0, 1.0), 900)]
    one = undecided(store, topics, noted)
    one.step()
    one.step()
    assert not one.owned
    assert not noted
    topics.inputs[0] += [late(event("a", step, 1.0), 900) for step in range(1, 6)]
    with pytest.raises(Regridded):
        run_dry(one)
    assert noted == [900]


def test_too_few_events_for_long_are_stored_where_the_frequency_says() -> None:
    store, topics, noted = MemoryStore(), MemoryTopics(), []  # type: ignore[var-annotated]
    topics.inputs[0] = [late(event("a", 0, 1.0), 900)]
    one = undecided(store, topics, noted)
    with capture_logs() as said:
        run_dry(one)
    assert "set series.timezone, series.phase" in next(
        each["action"] for each in said if each["event"] == "too few events to find the grid's phase"
    )
    assert noted == [0]
    assert len(store.observations) == 1
    assert one.parts.worker_state.off_grid == 1


def test_a_long_name_among_many_events_takes_no_memory_of_its_own() -> None:
    noted: list[int] = []
    events = Events(
        np.zeros(20_000, np.int64),
        ["a"] * 19_999 + ["n" * 1_000_000],
        np.arange(20_000) * H * 1_000_000,
        np.ones(20_000),
        np.ones(20_000, np.bool_),
        np.arange(20_000),
        np.empty((20_000, 0)),
    )
    tracemalloc.start()
    PhaseSearch(Frequency("h"), lambda seconds: noted.append(seconds) or seconds).settle([events])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert noted == [0]
    assert peak < 50_000_000
