"""A worker over the in-memory outside, for tests of the protocol."""

import json
from collections.abc import Callable, Sequence

from pipeline.forecasting.scorer import Champion, Scorer
from pipeline.forecasting.shadow import Shadow, ShadowScorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.health.logs import Phases
from pipeline.messages.codec import Reader
from pipeline.records import Advance, Observations, Turn, no_forecasts
from pipeline.settings import InputSettings, SeriesSettings, Settings
from pipeline.stream.eviction import Eviction
from pipeline.stream.series_limit import SeriesLimit
from pipeline.stream.turn import Parts, nothing_happens
from pipeline.stream.worker import Worker
from tests.fakes import Clock, MemoryCalibrations, MemoryPublisher, MemorySource, MemoryStore, MemoryTopics, NoChampion

HOUR = 3600
START = 1_700_000_000 // HOUR * HOUR


def event(series: str, step: int, value: float | None, **covariates: float | None) -> tuple[bytes, bytes]:
    """Encode an input message of an hourly series."""
    fields = {"series_id": series, "timestamp": START + step * HOUR, "value": value, **covariates}
    return series.encode(), json.dumps(fields).encode()


def worker(
    store: MemoryStore,
    topics: MemoryTopics,
    *,
    series: SeriesSettings | None = None,
    most: int = 100,
    passed: Callable[[str], None] = nothing_happens,
    owner: str = "test",
    registry: Champion | None = None,
    calibrations: MemoryCalibrations | None = None,
    shadow: Shadow | None = None,
    new_series: int | None = None,
    series_in_memory: int | None = None,
    reading: InputSettings | None = None,
) -> Worker:
    """Build a worker that owns every partition of `topics` and reads the covariates that `store` keeps.

    `reading` says how messages are read, flat events without it.
    """
    chosen = series or SeriesSettings(context=12, horizon=3, season=4)
    frequency = Frequency(chosen.frequency)
    grid = Grid(frequency, chosen, len(store.covariates))
    clock = Clock()
    whole = Settings(series=chosen, input=InputSettings(covariates=store.covariates))
    parts = Parts(
        source=MemorySource(topics, most),
        store=store,
        publisher=MemoryPublisher(topics),
        scorer=Scorer(
            registry or NoChampion(),
            calibrations or MemoryCalibrations(),
            grid,
            model_config(whole, frequency, 0),
        ),
        reader=Reader(reading or InputSettings(covariates=store.covariates), frequency, "input"),
        grid=grid,
        clock=clock,
        timer=clock,
        phases=Phases(),
        passed=passed,
        shadow=ShadowScorer(shadow, grid, model_config(whole, frequency, 0)) if shadow else None,
        series_limit=SeriesLimit(new_series, store.known) if new_series else None,
        eviction=Eviction(series_in_memory) if series_in_memory else None,
        input_topic="input",
        topics={"output": "one", "letters": "two"},
    )
    return Worker(parts, owner, 20_000)


def run_dry(one: Worker, steps: int = 60) -> None:
    """Step until everything in the topic is published; the clock moves so that no pause lasts."""
    source, clock = one.parts.source, one.parts.clock
    assert isinstance(source, MemorySource)
    assert isinstance(clock, Clock)
    for _ in range(steps):
        one.step()
        clock.advance(60)
        ends = {at: len(messages) for at, messages in source.topics.inputs.items()}
        if source.topics.offsets == ends and all(one.owned.get(at) for at in ends):
            return
    raise AssertionError(f"not done after {steps} steps: {source.topics.offsets}")


def panel(series: Sequence[str], steps: int) -> list[tuple[bytes, bytes]]:
    """List events of y = step for every series, step by step, with a covariate and one that is missing at times."""
    return [
        event(name, step, float(step), temperature=step / 2, wind=None if step % 4 == 0 else -float(step))
        for step in range(steps)
        for name in series
    ]


def turn_of(observations: Observations, epoch: int, start: int, stop: int) -> Turn:
    """Make the turn that stores these observations and nothing else."""
    return Turn((Advance(0, epoch, start, stop),), observations, no_forecasts(1), ())
