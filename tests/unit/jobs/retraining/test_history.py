import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.retraining.history import count_recent, find_depth, find_floor, plan_sample, read_history
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from tests.unit.jobs.fakes import FakeReader, make_history

COUNTS = st.lists(st.integers(0, 200), min_size=1, max_size=30).map(np.array)


@given(COUNTS, st.integers(1, 1000), st.integers(1, 300), st.integers(1, 300), st.integers(0, 99))
def test_a_plan_never_reads_more_than_the_limit_nor_less_than_it_could(
    counts: np.ndarray, limit: int, depth: int, floor: int, seed: int
) -> None:
    least, chosen = plan_sample(counts, limit, depth, floor, np.random.default_rng(seed))
    assert np.minimum(counts[chosen], least).sum() <= limit
    assert min(floor, depth, limit) <= least <= depth
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen), "one series always fits"
    if len(chosen) == len(counts):
        assert least == depth or np.minimum(counts, least + 1).sum() > limit
    else:
        assert least == min(floor, depth, limit), "no series is left out while all could be shorter"
        assert np.minimum(counts, least).sum() > limit
    again = plan_sample(counts, limit, depth, floor, np.random.default_rng(seed))
    assert (again[0], again[1].tolist()) == (least, chosen.tolist())


def test_a_history_that_fits_is_read_whole_and_not_called_a_sample() -> None:
    reader = FakeReader(*make_history({"a": np.arange(600.0), "b": np.arange(400.0)}))
    _, _, read = read_history(reader, Settings(training={"max_rows": 1000}), 9000)
    assert (read.sampled, read.words, reader.asked) == (False, "1,000 rows of 2 series", [(9000, None)])


def test_of_too_many_series_the_newest_steps_of_some_are_read() -> None:
    reader = FakeReader(*make_history({f"s{n}": np.arange(500.0) + n for n in range(9)}))
    settings = Settings(
        series={"context": 40, "horizon": 10}, jobs={"gate_origins": 1}, training={"max_rows": 1000, "seed": 3}
    )
    assert find_floor(settings) == 200
    names, history, read = read_history(reader, settings, 500)
    assert (len(names), len(history.value)) == (5, 1000)
    assert read.words == (
        "sampled: 1,000 of 4,500 rows, the newest 200 of each of 5 of 9 series (training.max_rows 1,000)"
    )
    assert history.value[:200].tolist() == [int(names[0][1:]) + value for value in range(300, 500)]


def test_a_fine_tune_reads_what_it_learns_from_its_context_and_the_backtest() -> None:
    hourly = Frequency("1h")
    settings = Settings(training={"recent": "30 days"})
    assert count_recent(settings, hourly) == 720
    assert find_depth(settings, hourly, recent=True) == 720 + 336 + 4 * 48
    assert find_depth(settings, hourly, recent=False) == settings.training.history
    short = Settings(training={"recent": "1 day"}, series={"context": 24})
    assert find_depth(short, hourly, recent=True) == 4 * 4 * 48, "less would move the origins of the backtest together"
    assert count_recent(Settings(training={"recent": "36h"}), Frequency("1D")) == 2
