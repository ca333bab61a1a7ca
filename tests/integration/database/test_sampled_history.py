"""A history larger than training.max_rows: what a retraining reads of it, and the memory that this takes."""

import tracemalloc

import numpy as np
import pytest

from jobs.retraining.history import read_history
from pipeline.database import Database
from pipeline.records import Observations
from pipeline.settings import Settings
from tests.contracts.rows import HOUR, NOW, START, turn_of

SERIES, STEPS = 50, 4000
MEBIBYTE = 2**20


@pytest.fixture
def full(database: Database) -> Database:
    """50 series of 4,000 hours each: 200,000 rows, 5 MB as columns."""
    store = database.store("meters", "last", lambda: NOW)
    own = np.repeat(store.recent([f"s{n:02}" for n in range(SERIES)], 1).series_id, STEPS)
    step = np.tile(np.arange(STEPS), SERIES)
    ones, flags = np.ones(len(own), np.int64), np.ones(len(own), np.bool_)
    rows = Observations(
        series_id=own,
        observed_at=START + HOUR * step,
        value=step.astype(np.float64),
        observed=flags,
        events=ones,
        partition=0 * ones,
        offset=np.arange(len(own)),
        fresh=flags,
        covariates=np.empty((len(own), 0)),
        covariate_events=np.empty((len(own), 0), np.int64),
    )
    store.commit(turn_of(store.claim(0, "me"), len(own), observations=rows))
    return database


def test_what_is_read_and_the_memory_for_it_are_bounded_by_the_rows_that_are_asked_for(full: Database) -> None:
    sizes = {"series": {"context": 100, "horizon": 10}, "jobs": {"gate_origins": 1}}
    peaks = []
    for limit in (2000, SERIES * STEPS):
        settings = Settings(**sizes, training={"max_rows": limit})  # type: ignore[arg-type]
        tracemalloc.start()
        _, history, read = read_history(full.reader, settings, 8760)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(history.value) <= limit
        assert read.sampled == (limit < SERIES * STEPS)
        assert (read.of_series, read.of_rows) == (SERIES, SERIES * STEPS)
        assert history.value.max() == STEPS - 1, "the newest steps are the ones that are read"
    assert peaks[0] < MEBIBYTE < 5 * MEBIBYTE < peaks[1]
