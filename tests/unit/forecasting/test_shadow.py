"""The shadow: what it scores, and that nothing it does touches the champion, at any line of the protocol."""

import itertools

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from models.artifact import pack
from models.batch import Batch
from models.config import ModelConfig
from models.network.forecasters import build
from pipeline.errors import Unavailable
from pipeline.forecasting.shadow import ShadowScorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import InputSettings, ModelSettings, SeriesSettings, Settings
from tests.fakes import MemoryCalibrations, MemoryStore, MemoryTopics, OneShadow
from tests.unit.forecasting.test_scorer import Registry as OneChampion
from tests.unit.forecasting.test_scorer import due, scorer_of
from tests.unit.stream.test_protocol import (
    EVERY,
    POINTS,
    CrashAt,
    CrashError,
    check_exactly_once,
    filled,
    nothing_stored,
)
from tests.unit.workers import run_dry, worker

SECOND = 1_000_000
HOURS = Frequency("1h")


def shape_of(series: SeriesSettings, covariates: tuple[str, ...] = ()) -> ModelConfig:
    small = ModelSettings(hidden=8, layers=1, series_dim=2)
    return model_config(Settings(series=series, model=small, input=InputSettings(covariates=covariates)), HOURS, 2)


def made(version: int, shape: ModelConfig, frequency: str = "1h") -> bytes:
    torch.manual_seed(version)
    return pack(build(shape), series=["a", "b"], provenance={"frequency": frequency})


SERIES = SeriesSettings(context=24, horizon=4, season=6)


def shadow(version: int = 7) -> OneShadow:
    return OneShadow({version: made(version, shape_of(SERIES))}, version)


def shadow_of_workers() -> OneShadow:
    return OneShadow({7: made(7, shape_of(EVERY, nothing_stored().covariates))}, 7)


def scorer(registry: OneShadow) -> ShadowScorer:
    return ShadowScorer(registry, Grid(HOURS, SERIES), shape_of(SERIES))


class Broken(torch.nn.Module):
    """A model that fails, or whose forecasts of some windows are not finite."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__()
        self.failure = failure

    def forward(self, windows: Batch) -> torch.Tensor:
        if self.failure is not None:
            raise self.failure
        quantiles = torch.zeros(len(windows), 4, 13)
        quantiles[0, 2, 5] = torch.nan
        return quantiles


def break_it(one: ShadowScorer, failure: Exception | None) -> None:
    assert one._loaded is not None
    one._loaded = one._loaded._replace(model=Broken(failure))  # type: ignore[arg-type]


def test_without_a_shadow_nothing_is_scored() -> None:
    one = scorer(OneShadow())
    one.refresh(0)
    assert one.version is None
    assert one.score([due()], now=0) is None


def test_a_shadow_scores_every_window_under_its_own_version_and_without_a_calibration() -> None:
    one = scorer(shadow(3))
    one.refresh(0)
    seen = one.score([due(seen=0.2)], now=9)
    assert seen is not None
    assert (one.version, set(seen.model_version.tolist()), set(seen.calibration.tolist())) == (3, {3}, {0})
    assert (list(seen.series), set(seen.quality), set(seen.issued_at.tolist())) == (["a", "b", "z"], {"degraded"}, {9})


def test_what_a_shadow_says_is_what_it_would_serve_as_champion() -> None:
    champion = OneChampion()
    champion.promote(3)
    one = ShadowScorer(OneShadow(champion.artifacts, 3), Grid(Frequency("h"), SERIES), shape_of(SERIES))
    one.refresh(0)
    served = scorer_of(champion, MemoryCalibrations())
    served.refresh(0)
    seen = one.score([due()], now=0)
    assert seen is not None
    expected = served.score([due()], now=0)
    order = np.lexsort((seen.offset, seen.partition))
    assert seen.take(order).quantiles.tobytes() == expected.quantiles.tobytes()


def test_a_new_shadow_is_taken_within_seconds_and_a_dropped_one_is_left() -> None:
    registry = shadow(3)
    one = scorer(registry)
    one.refresh(0)
    registry.artifacts[4], registry.alias = made(4, shape_of(SERIES)), 4
    one.refresh(1)
    assert one.version == 3, "it looks every few seconds only"
    one.refresh(3 * SECOND)
    assert one.version == 4
    registry.alias = None
    one.refresh(6 * SECOND)
    assert one.version is None


@pytest.mark.parametrize(
    "artifact",
    [
        b"no artifact",
        made(5, shape_of(SeriesSettings(context=24, horizon=5, season=6))),
        made(5, shape_of(SERIES), frequency="1D"),
    ],
)
def test_a_shadow_that_does_not_fit_is_logged_and_left_out(artifact: bytes) -> None:
    one = scorer(OneShadow({5: artifact}, 5))
    with capture_logs() as said:
        one.refresh(0)
        one.refresh(9 * SECOND)
    assert one.score([due()], now=0) is None
    (line,) = said
    assert (line["event"], line["version"]) == ("shadow refused", 5)
    assert "tidecast models drop-shadow" in line["reason"]


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), ValueError("shape"), IndexError("row")])
def test_a_shadow_that_fails_is_logged_once_and_left_out_until_another_comes(failure: Exception) -> None:
    registry = shadow(3)
    one = scorer(registry)
    one.refresh(0)
    break_it(one, failure)
    with capture_logs() as said:
        assert one.score([due()], now=0) is None
        one.refresh(9 * SECOND)
        assert one.score([due()], now=0) is None
    assert [line["event"] for line in said] == ["shadow failed"]
    registry.artifacts[4], registry.alias = made(4, shape_of(SERIES)), 4
    one.refresh(20 * SECOND)
    assert one.score([due()], now=0) is not None


def test_a_forecast_that_is_not_finite_is_left_out_and_the_others_stay() -> None:
    one = scorer(shadow(3))
    one.refresh(0)
    break_it(one, None)
    seen = one.score([due("abz")], now=0)
    assert seen is not None
    assert list(seen.series) == ["b", "z"]
    assert np.isfinite(seen.quantiles).all()


def test_a_database_that_is_away_is_asked_again() -> None:
    registry = shadow(3)
    one = scorer(registry)
    read = registry.artifact

    def away(version: int) -> bytes:
        raise Unavailable("away")

    registry.artifact = away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        one.refresh(0)
    registry.artifact = read  # type: ignore[method-assign]
    one.refresh(9 * SECOND)
    assert one.version == 3


def outside(store: MemoryStore, topics: MemoryTopics) -> tuple[object, ...]:
    """All that the champion stored and published, as far as a shadow might touch it."""
    rows = sorted(
        (int(part.partition[i]), int(part.offset[i]), name, int(part.model_version[i]), part.quantiles[i].tobytes())
        for part in store.forecasts
        for i, name in enumerate(part.series)
    )
    return rows, sorted(topics.output), topics.offsets, store.observations, sorted(store.keys)


def without_shadow() -> tuple[object, ...]:
    store, topics = nothing_stored(), filled()
    run_dry(worker(store, topics, series=EVERY, most=17))
    return outside(store, topics)


@pytest.mark.parametrize(("point", "turn"), list(itertools.product(POINTS, (1, 2, 3))))
def test_a_crash_at_any_point_with_a_shadow_leaves_what_there_is_without_one(point: str, turn: int) -> None:
    store, topics, registry = nothing_stored(), filled(), shadow_of_workers()
    crash = CrashAt(point, turn)
    with pytest.raises(CrashError):
        for _ in range(3):  # points of the claim come with restarts
            run_dry(worker(store, topics, series=EVERY, most=17, passed=crash, shadow=registry))
    run_dry(worker(store, topics, series=EVERY, most=17, shadow=registry))
    check_exactly_once(store, topics)
    assert outside(store, topics) == without_shadow()
    assert {(own, at) for own, at, _ in store.shadow} == {(own, at) for own, at, _ in store.keys}, "beside each one"
    assert {version for *_, version in store.shadow} == {7}


@pytest.mark.parametrize("point", POINTS)
def test_a_shadow_that_comes_or_goes_around_a_crash_changes_nothing_else(point: str) -> None:
    store, topics, registry = nothing_stored(), filled(), shadow_of_workers()
    with pytest.raises(CrashError):
        for _ in range(3):
            run_dry(worker(store, topics, series=EVERY, most=17, passed=CrashAt(point, 1), shadow=registry))
    registry.alias = None
    run_dry(worker(store, topics, series=EVERY, most=17, shadow=registry))
    check_exactly_once(store, topics)
    assert outside(store, topics) == without_shadow()


def test_a_failing_shadow_leaves_the_turns_as_they_are() -> None:
    store, topics = nothing_stored(), filled()
    one = worker(store, topics, series=EVERY, most=17, shadow=shadow_of_workers())
    one.step()
    assert one.parts.shadow is not None
    break_it(one.parts.shadow, RuntimeError("broken"))
    run_dry(one)
    check_exactly_once(store, topics)
    assert outside(store, topics) == without_shadow()
    assert store.shadow == {}
