"""Which model serves, when it swaps, and what happens when it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from models.artifact import pack, unpack
from models.batch import Batch
from models.config import ModelConfig
from models.network.forecasters import build
from pipeline.errors import ConfigError, Corrupt, Unavailable
from pipeline.forecasting.calibration import Calibration, correct
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.windows import Grid, batch, model_config
from pipeline.grid.frequency import Frequency
from pipeline.records import Due
from pipeline.settings import InputSettings, ModelSettings, SeriesSettings, Settings
from tests.fakes import MemoryCalibrations

SETTINGS = Settings(
    series=SeriesSettings(context=24, horizon=4, season=6),
    model=ModelSettings(hidden=8, layers=1, series_dim=2),
)
HOURS = Frequency("h")
SHAPE = model_config(SETTINGS, HOURS, 2)
SECOND = 1_000_000


class Registry:
    """`pipeline.forecasting.scorer.Champion` with one alias."""

    def __init__(self) -> None:
        self.artifacts: dict[int, bytes] = {}
        self.alias: int | None = None

    def promote(self, version: int, shape: ModelConfig = SHAPE, frequency: str = "h") -> None:
        torch.manual_seed(version)
        model = build(shape)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        self.artifacts[version] = pack(model, series=["a", "b"], provenance={"frequency": frequency})
        self.alias = version

    def champion(self) -> int | None:
        return self.alias

    def artifact(self, version: int) -> bytes:
        return self.artifacts[version]


def due(names: str = "abz", seen: float = 1.0, covariates: int = 0) -> Due:
    count = len(names)
    past = np.ones((count, 24, covariates))
    observed = np.zeros((count, 24), np.bool_)
    observed[:, 24 - round(24 * seen) :] = True
    target = np.where(observed, np.arange(24.0), 0.0)
    steps = np.arange(count) + 1_000
    offsets = np.arange(count)[::-1] + 50
    partition, partial = np.ones(count, np.int64), np.zeros(count, np.bool_)
    return Due(partition, list(names), np.arange(count), steps, offsets, target, observed, past, past > 0.0, partial)


def scorer_of(registry: Registry, calibrations: MemoryCalibrations) -> Scorer:
    return Scorer(registry, calibrations, Grid(HOURS, SETTINGS.series), model_config(SETTINGS, HOURS, 0))


def scorer(registry: Registry) -> Scorer:
    return scorer_of(registry, MemoryCalibrations())


def test_without_a_champion_seasonal_naive_answers_as_fallback() -> None:
    one = scorer(Registry())
    one.refresh(0)
    made = one.score([due()], now=7)
    assert set(made.quality) == {"fallback"}
    assert set(made.model_version.tolist()) == {0}
    assert made.quantiles[0, :, 6].tolist() == [18.0, 19.0, 20.0, 21.0]
    assert made.issued_at.tolist() == [7, 7, 7]


def test_forecasts_come_in_offset_order_with_their_target_times() -> None:
    made = scorer(Registry()).score([due()], now=0)
    assert made.offset.tolist() == [50, 51, 52]
    assert list(made.series) == ["z", "b", "a"]
    hour = 3_600 * SECOND
    assert made.origin.tolist() == [1_002 * hour, 1_001 * hour, 1_000 * hour]
    assert (made.target_times - made.origin[:, None]).tolist() == [[hour, 2 * hour, 3 * hour, 4 * hour]] * 3


def test_a_champion_is_picked_up_between_turns_and_swapped() -> None:
    registry = Registry()
    one = scorer(registry)
    one.refresh(0)
    registry.promote(1)
    one.refresh(1)
    assert one.version == 0, "it looks every few seconds only"
    one.refresh(3 * SECOND)
    first = one.score([due()], now=0)
    assert (set(first.model_version.tolist()), set(first.quality)) == ({1}, {"ok"})
    registry.promote(2)
    one.refresh(9 * SECOND)
    second = one.score([due()], now=0)
    assert set(second.model_version.tolist()) == {2}
    assert not np.allclose(first.quantiles, second.quantiles)
    registry.alias = None
    one.refresh(12 * SECOND)
    assert one.version == 0


def test_quantiles_ascend_and_do_not_depend_on_the_company() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    together, alone = one.score([due("abz")], now=0), one.score([due("a")], now=0)
    assert (np.diff(together.quantiles, axis=2) >= 0).all()
    row = together.series.index("a")
    np.testing.assert_allclose(together.quantiles[row], alone.quantiles[0], rtol=1e-5, atol=1e-4)


def test_a_window_with_many_gaps_is_called_degraded() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    assert set(one.score([due(seen=0.4)], now=0).quality) == {"degraded"}


@pytest.mark.parametrize("field", ["context_length", "horizon", "season"])
def test_a_first_champion_of_another_shape_is_refused_in_words(field: str) -> None:
    registry = Registry()
    registry.promote(1, replace(SHAPE, **{field: 2 * getattr(SHAPE, field)}))
    with pytest.raises(ConfigError, match=f"version 1 has {field} .* tidecast job run retrain"):
        scorer(registry).refresh(0)


def test_a_later_champion_of_another_shape_leaves_the_one_in_use() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    registry.promote(2, replace(SHAPE, horizon=8))
    one.refresh(9 * SECOND)
    assert one.version == 1
    assert set(one.score([due()], now=0).model_version.tolist()) == {1}


BROKEN = {
    "not an artifact": b"\x10not an artifact",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "empty": b"",
    "another hash": Corrupt("the artifact of model 1 does not match its sha256; roll back to another version"),
    "no artifact": ConfigError("model 1 has no artifact; see tidecast models list"),
    "no memory": MemoryError("no memory"),
    "of a later release": lambda whole: whole.replace(b'\\"format\\":1', b'\\"format\\":7'),
}


def spoil(registry: Registry, how: str) -> None:
    """Break the artifact of version 1."""
    broken = BROKEN[how]

    def raising(version: int) -> bytes:
        assert isinstance(broken, Exception)
        raise broken

    if isinstance(broken, Exception):
        registry.artifact = raising  # type: ignore[method-assign]
    else:
        registry.artifacts[1] = broken(registry.artifacts[1]) if callable(broken) else broken  # type: ignore[assignment]


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_champion_at_the_start_leaves_seasonal_naive_loudly_until_a_good_one_comes(how: str) -> None:
    registry = Registry()
    registry.promote(1)
    spoil(registry, how)
    one = scorer(registry)
    with capture_logs() as logs:
        one.refresh(0)
        one.refresh(5 * SECOND)
    assert (one.version, one.refused, one.failures) == (0, 1, 1)
    [event] = [each for each in logs if each["log_level"] == "error"]
    assert (event["event"], event["version"], event["serving"]) == ("champion refused", 1, 0)
    assert event["reason"].startswith("champion version 1: ")
    assert "tidecast models rollback" in event["reason"]
    assert "\n" not in event["reason"]
    assert set(one.score([due()], now=0).quality) == {"fallback"}
    registry.__dict__.pop("artifact", None)
    registry.promote(2)
    one.refresh(10 * SECOND)
    assert (one.version, one.refused) == (2, 0)
    assert set(one.score([due()], now=0).quality) == {"ok"}


def test_a_broken_champion_is_tried_again_every_minute_and_taken_when_it_was_restored() -> None:
    registry = Registry()
    registry.promote(1)
    whole, registry.artifacts[1] = registry.artifacts[1], b""
    one = scorer(registry)
    for second in range(0, 200, 5):
        one.refresh(second * SECOND)
    assert (one.refused, one.failures) == (1, 4)
    registry.artifacts[1] = whole
    for second in range(200, 270, 5):
        one.refresh(second * SECOND)
    assert (one.version, one.refused, one.failures) == (1, 0, 4)


def test_a_broken_later_champion_leaves_the_one_in_use_and_says_so() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    registry.promote(2)
    registry.artifacts[2] = b""
    one.refresh(5 * SECOND)
    assert (one.version, one.refused, one.failures) == (1, 2, 1)
    registry.alias = 1
    one.refresh(10 * SECOND)
    assert (one.version, one.refused) == (1, 0)


class Failing(torch.nn.Module):
    """A model whose forward pass raises until it is mended."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure

    def forward(self, batch: object) -> torch.Tensor:
        raise self.failure


@pytest.mark.parametrize(
    "failure",
    [
        RuntimeError("shapes"),
        ValueError("x"),
        TypeError("x"),
        IndexError("x"),
        MemoryError("x"),
        ZeroDivisionError("x"),
        AssertionError("x"),
        AttributeError("x"),
    ],
)
def test_a_champion_whose_forward_pass_raises_does_not_end_the_worker(failure: Exception) -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    calibrations.store(1, wider(2.0))
    one = scorer_of(registry, calibrations)
    one.refresh(0)
    assert one._loaded is not None
    one._loaded = one._loaded._replace(model=Failing(failure))  # type: ignore[arg-type]
    with capture_logs() as logs:
        made = one.score([due(), due("xy")], now=0)
    assert (set(made.quality), set(made.model_version.tolist())) == ({"fallback"}, {0})
    assert set(made.calibration.tolist()) == {0}, "the champion's correction is none of seasonal naive's"
    assert len(made) == 5
    [event] = [each for each in logs if each["log_level"] == "error"]
    assert (event["event"], event["version"]) == ("champion failed", 1)
    assert type(failure).__name__ in event["reason"]
    one.refresh(5 * SECOND)
    assert (one.version, one.refused, one.failures) == (0, 1, 1), "it is not loaded at every look"
    one.refresh(70 * SECOND)
    assert (one.version, one.refused) == (1, 0)
    assert set(one.score([due()], now=0).calibration.tolist()) == {1}


def test_calibrations_that_cannot_be_read_leave_the_model_as_it_is() -> None:
    class Unreadable(MemoryCalibrations):
        def newest(self, model_version: int, after: int = 0) -> Calibration | None:
            raise Corrupt("a column of JSON holds something else")

    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    calibrations.store(1, wider(2.0))
    one = scorer_of(registry, Unreadable())
    for second in range(0, 100, 5):
        one.refresh(second * SECOND)
    assert (one.version, one.calibration, one.failures) == (1, 0, 2)
    one._calibrations = calibrations
    for second in range(100, 130, 5):
        one.refresh(second * SECOND)
    assert one.calibration == 1


def test_a_champion_without_yearly_columns_reads_the_same_days_and_weeks_as_in_training() -> None:
    registry = Registry()
    registry.promote(1, replace(SHAPE, calendar_features=4))
    one = scorer(registry)
    one.refresh(0)
    made = one.score([due("a")], now=0)
    steps = 1_000 + np.arange(1, 5)
    windows = batch(due("a"), np.array([1]), HOURS, 4)
    trained_on = torch.from_numpy(HOURS.calendar(steps)[:, :4].astype(np.float32))[None]
    with torch.inference_mode():
        wanted = unpack(registry.artifacts[1]).model(replace(windows, calendar=trained_on))
    np.testing.assert_allclose(made.quantiles, wanted.double().numpy(), atol=1e-5 * np.ptp(made.quantiles))


def test_a_champion_with_calendar_columns_that_the_frequency_lacks_is_refused_in_words() -> None:
    registry = Registry()
    registry.promote(1, replace(SHAPE, calendar_features=8))
    with pytest.raises(ConfigError, match="version 1 reads 8 calendar columns, h has 6; run tidecast job run retrain"):
        scorer(registry).refresh(0)


WITH_WIND = model_config(SETTINGS.model_copy(update={"input": InputSettings(covariates=("wind",))}), HOURS, 2)


def test_a_champion_reads_the_past_covariates_of_its_windows() -> None:
    registry = Registry()
    registry.promote(1, WITH_WIND)
    one = Scorer(registry, MemoryCalibrations(), Grid(HOURS, SETTINGS.series), WITH_WIND)
    one.refresh(0)
    windows = due("a", covariates=1)
    windy = replace(windows, past=windows.past * np.arange(24.0)[:, None])
    made = [one.score([each], now=0).quantiles for each in (windows, windy)]
    assert not np.allclose(made[0], made[1])
    with torch.inference_mode():
        served = unpack(registry.artifacts[1]).model(batch(windy, np.array([1]), HOURS, 4))
    np.testing.assert_allclose(made[1], served.double().numpy(), atol=1e-5 * np.ptp(made[1]))


@pytest.mark.parametrize(
    ("has", "needs", "words"),
    [
        (SHAPE, WITH_WIND, "version 1 reads past covariates none, input.covariates names wind; run tidecast job run"),
        (WITH_WIND, SHAPE, "version 1 reads past covariates wind, input.covariates names none"),
        (replace(SHAPE, future_covariates=("price",)), SHAPE, "reads future covariates price, messages bring none"),
        (replace(SHAPE, static_covariates=("size",)), SHAPE, "reads static covariates size, messages bring none"),
    ],
)
def test_a_champion_of_other_covariates_is_refused_in_words(has: ModelConfig, needs: ModelConfig, words: str) -> None:
    registry = Registry()
    registry.promote(1, has)
    with pytest.raises(ConfigError, match=words):
        Scorer(registry, MemoryCalibrations(), Grid(HOURS, SETTINGS.series), needs).refresh(0)


class Broken(torch.nn.Module):
    """Answers NaN for the first window."""

    def forward(self, batch: object) -> torch.Tensor:
        answer = torch.zeros(3, 4, 13)
        answer[0] = torch.nan
        return answer

    def find_floor(self, batch: Batch) -> None:
        return None


def test_a_forecast_that_is_not_finite_is_replaced_by_the_fallback() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    assert one._loaded is not None
    one._loaded = one._loaded._replace(model=Broken())  # type: ignore[arg-type]
    made = one.score([due()], now=0)
    assert np.isfinite(made.quantiles).all()
    assert dict(zip(made.series, made.quality, strict=True)) == {"a": "fallback", "b": "ok", "z": "ok"}
    assert dict(zip(made.series, made.model_version.tolist(), strict=True)) == {"a": 0, "b": 1, "z": 1}


def test_nothing_due_is_no_forecast() -> None:
    assert len(scorer(Registry()).score([], now=0)) == 0


def test_a_champion_that_could_not_be_read_is_looked_at_again() -> None:
    registry = Registry()
    one = scorer(registry)
    one.refresh(0)
    registry.promote(1)
    artifact, registry.artifact = registry.artifact, away  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        one.refresh(5 * SECOND)
    registry.artifact = artifact  # type: ignore[method-assign]
    one.refresh(10 * SECOND)
    assert one.version == 1


def test_a_later_champion_whose_bytes_were_changed_leaves_the_one_in_use() -> None:
    registry = Registry()
    registry.promote(1)
    one = scorer(registry)
    one.refresh(0)
    registry.promote(2)
    registry.artifact = corrupt  # type: ignore[method-assign]
    one.refresh(5 * SECOND)
    assert one.version == 1


def away(version: int) -> bytes:
    raise Unavailable(f"no database to read version {version} from")


def corrupt(version: int) -> bytes:
    raise Corrupt(f"version {version} has another hash")


def test_a_champion_made_for_another_frequency_is_refused_in_words() -> None:
    registry = Registry()
    registry.promote(1, frequency="D")
    with pytest.raises(ConfigError, match="made for frequency D, the settings say h"):
        scorer(registry).refresh(0)


def wider(factor: float) -> list[list[float]]:
    """Factors (4, 13) that stretch every quantile but the median."""
    return [[1.0 if place == 6 else factor for place in range(13)] for _ in range(4)]


def test_the_newest_calibration_of_the_model_in_use_is_applied_and_named() -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    one = scorer_of(registry, calibrations)
    one.refresh(0)
    plain = one.score([due()], now=0)
    assert plain.calibration.tolist() == [0, 0, 0]
    calibrations.store(1, wider(2.0))
    calibrations.store(2, wider(3.0))
    one.refresh(SECOND)
    assert one.calibration == 0, "it looks every few seconds only"
    one.refresh(5 * SECOND)
    made = one.score([due()], now=0)
    assert made.calibration.tolist() == [1, 1, 1]
    unit = 1e-5 * np.ptp(made.quantiles)
    np.testing.assert_allclose(made.quantiles[:, :, 6], plain.quantiles[:, :, 6], atol=unit)
    wanted = np.maximum(correct(plain.quantiles, np.array(wider(2.0))), 0.0)  # no window has a negative value
    np.testing.assert_allclose(made.quantiles, wanted, atol=2 * unit)
    registry.promote(2)
    one.refresh(10 * SECOND)
    assert set(one.score([due()], now=0).calibration.tolist()) == {2}
    registry.promote(3)
    one.refresh(15 * SECOND)
    assert set(one.score([due()], now=0).calibration.tolist()) == {0}, "another model's correction is none of its own"


def test_a_database_that_goes_away_between_champion_and_calibration_leaves_no_turn_without_the_calibration() -> None:
    class Away(MemoryCalibrations):
        def newest(self, model_version: int, after: int = 0) -> Calibration | None:
            raise Unavailable("the database is away")

    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    calibrations.store(1, wider(2.0))
    one = scorer_of(registry, Away())
    with pytest.raises(Unavailable):
        one.refresh(0)
    one._calibrations = calibrations
    one.refresh(SECOND // 2)  # the worker's first pause after such an error
    assert (one.version, one.calibration) == (1, 1)


def test_the_seasonal_naive_can_be_calibrated_too() -> None:
    calibrations = MemoryCalibrations()
    calibrations.store(0, wider(0.5))
    one = scorer_of(Registry(), calibrations)
    plain = scorer(Registry()).score([due()], now=0)
    one.refresh(0)
    made = one.score([due()], now=0)
    assert (set(made.calibration.tolist()), set(made.quality)) == ({1}, {"fallback"})
    wanted = correct(plain.quantiles, np.array(wider(0.5)))
    np.testing.assert_allclose(made.quantiles, wanted, atol=2e-5 * np.ptp(wanted))


@pytest.mark.parametrize(
    "factors",
    [
        None,
        "wide",
        [[1.0] * 13] * 5,
        [[1.0] * 12] * 4,
        wider(float("nan")),
        wider(0.0),
        wider(1e9),
        [[2.0] * 13] * 4,
        {"1": 2},
    ],
)
def test_a_broken_calibration_is_refused_and_the_last_one_stays(factors: object) -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    calibrations.store(1, wider(2.0))
    calibrations.store(1, factors)
    one = scorer_of(registry, MemoryCalibrations(calibrations.stored[:1]))
    one.refresh(0)
    one._calibrations = calibrations
    one.refresh(5 * SECOND)
    assert one.calibration == 1
    assert set(one.score([due()], now=0).calibration.tolist()) == {1}
    calibrations.store(1, wider(3.0))
    one.refresh(10 * SECOND)
    assert one.calibration == 3


def test_a_forecast_of_the_fallback_beside_a_calibrated_champion_carries_no_calibration() -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    registry.promote(1)
    calibrations.store(1, wider(2.0))
    calibrations.store(0, wider(2.0))
    one = scorer_of(registry, calibrations)
    one.refresh(0)
    assert one._loaded is not None
    one._loaded = one._loaded._replace(model=Broken())  # type: ignore[arg-type]
    made = one.score([due()], now=0)
    assert dict(zip(made.series, made.calibration.tolist(), strict=True)) == {"a": 0, "b": 1, "z": 1}


@pytest.mark.parametrize("version", [1, 0])
def test_a_calibration_puts_no_quantile_of_a_count_below_zero(version: int) -> None:
    registry, calibrations = Registry(), MemoryCalibrations()
    if version:
        registry.promote(version)
    calibrations.store(version, wider(9.0))
    one = scorer_of(registry, calibrations)
    one.refresh(0)
    waiting = due()
    waiting.target[:] = waiting.target % 3  # 0, 1, 2
    waiting.target[1, 7] = -1.0
    made = one.score([waiting], now=0)
    lowest = dict(zip(made.series, made.quantiles.min(axis=(1, 2)).tolist(), strict=True))
    assert set(made.calibration.tolist()) == {1}
    assert (lowest["a"], lowest["z"]) == (0.0, 0.0)
    assert lowest["b"] < 0.0
