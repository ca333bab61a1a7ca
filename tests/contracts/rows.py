"""Rows of the turns that a database is tried with."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.database import Database
from pipeline.database.turns.requeue import RequeueShelf
from pipeline.quantiles import shorten
from pipeline.records import (
    Advance,
    Claim,
    Forecasts,
    Observations,
    Turn,
    no_forecasts,
    no_observations,
)
from pipeline.settings import Policy
from pipeline.stream.ports import Store
from pipeline.stream.requeue import Place

HOUR = 3_600_000_000
POLICIES: tuple[Policy, ...] = ("last", "first", "mean", "sum", "max")
NOW = 1_767_225_600_123_456  # 2026-01-01 00:00:00.123456
START = 1_767_225_600_000_000
Cell = tuple[int, int, float | None, int, int, bool]  # series_id, observed_at, value, events, offset, fresh


def observations(cells: Iterable[Cell], partition: int = 0) -> Observations:
    rows = list(cells)
    ids, times, values, events, offsets, fresh = zip(*rows, strict=True) if rows else ((),) * 6
    return Observations(
        series_id=np.array(ids, np.int64),
        observed_at=np.array(times, np.int64),
        value=np.array([0.0 if value is None else value for value in values]),
        observed=np.array([value is not None for value in values], np.bool_),
        events=np.array(events, np.int64),
        partition=np.full(len(rows), partition, np.int64),
        offset=np.array(offsets, np.int64),
        fresh=np.array(fresh, np.bool_),
        covariates=np.empty((len(rows), 0)),
        covariate_events=np.empty((len(rows), 0), np.int64),
    )


def mark_requeued(database: Database, topic: str, partition: int, offset: int, now: int) -> None:
    """Note that a dead letter was sent again, as a requeue of it alone does."""
    shelf = RequeueShelf(database.engine)
    number = shelf.last_number() + 1
    shelf.assign(shelf.begin("me", now), number, [Place(topic, partition, offset)])
    assert shelf.mark(number, now) == 1


WideCell = tuple[int, int, float | None, Sequence[float | None], int, bool]  # a Cell with covariates for events


def wide_observations(cells: Iterable[WideCell]) -> Observations:
    """Rows of one event each, with P covariates."""
    rows = list(cells)
    narrow = observations((own, at, value, int(value is not None), *rest) for own, at, value, _, *rest in rows)  # type: ignore[misc]
    covariates = np.array([row[3] for row in rows], np.float64)  # None becomes NaN
    return replace(narrow, covariates=covariates, covariate_events=(~np.isnan(covariates)).astype(np.int64))


def forecasts(series: dict[str, int], origin: int, offset: int, **changes: Any) -> Forecasts:
    """One forecast of three hourly steps per series."""
    n = len(series)
    seed = changes.get("seed", 0)
    return Forecasts(
        series=list(series),
        series_id=np.array(list(series.values()), np.int64),
        origin=np.full(n, origin, np.int64),
        target_times=np.tile(origin + HOUR * np.arange(1, 4), (n, 1)),
        quantiles=shorten(np.sort(np.random.default_rng(seed).normal(0, 1e5, (n, 3, 13)), axis=2)),
        model_version=np.full(n, changes.get("version", 1), np.int64),
        calibration=changes.get("calibration", np.arange(n, dtype=np.int64)),
        quality=changes.get("quality", ["ok"] * n),
        issued_at=np.full(n, NOW, np.int64),
        partition=np.full(n, changes.get("partition", 0), np.int64),
        offset=offset + np.arange(n, dtype=np.int64),
    )


def turn_of(claim: Claim, stop: int, **parts: Any) -> Turn:
    """A turn that moves one claim to `stop`."""
    return Turn(
        advances=(Advance(claim.partition, claim.epoch, claim.next_offset, stop),),
        observations=parts.get("observations", no_observations()),
        forecasts=parts.get("forecasts", no_forecasts(3)),
        dead_letters=parts.get("dead_letters", ()),
        shadow=parts.get("shadow"),
    )


def same(one: Forecasts, other: Forecasts) -> bool:
    return (
        list(one.series) == list(other.series)
        and list(one.quality) == list(other.quality)
        and one.quantiles.tobytes() == other.quantiles.tobytes()
        and all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in (
                "series_id",
                "origin",
                "target_times",
                "model_version",
                "calibration",
                "issued_at",
                "partition",
                "offset",
            )
        )
    )


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads that start together; return their results, exceptions included."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        started = [pool.submit(run, call) for call in calls]
        return [future.exception() or future.result() for future in started]


def folded(policy: str, values: list[float | None]) -> tuple[float | None, int]:
    """What a row must hold after these events, in order: the value and the number of events with one."""
    value: float | None = None
    events = 0
    for new in values:
        if policy == "last":
            value = new
        elif value is None or new is None:
            value = new if value is None else value
        elif policy == "mean":
            value = (value * events + new) / (events + 1)
        elif policy != "first":
            value = {"sum": value + new, "max": max(value, new)}[policy]
        events += new is not None
    return value, events


OpenStore = Callable[[Policy, Sequence[str]], Store]
