"""The network of the wheel serves where there is no model of its own, and only there."""

import numpy as np
import pytest

from models.artifact import pack, unpack
from models.config import ModelConfig
from models.network.baselines import SeasonalNaive
from models.network.forecasters import build
from models.pretrained import load_pretrained
from pipeline.forecasting.first_champion import NAME, serve_pretrained
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.served import find_champion
from pipeline.forecasting.shadow import ShadowScorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import InputSettings, ModelSettings, SeriesSettings, Settings
from tests.fakes import MemoryCalibrations
from tests.unit.forecasting.test_scorer import due
from tests.unit.jobs.fakes import FakeRegistry

HOURS = Frequency("h")
SETTINGS = Settings(series=SeriesSettings(context=24, horizon=4, season=6))


def serve(registry: FakeRegistry, settings: Settings = SETTINGS, frequency: Frequency = HOURS) -> None:
    serve_pretrained(registry, settings, frequency, now=5)


def test_a_fresh_database_gets_it_once_under_a_version_and_says_what_it_is() -> None:
    registry = FakeRegistry()
    serve(registry)
    serve(registry)
    assert (registry.current, len(registry.models), len(registry.history)) == (1, 1, 1)
    row, loaded = registry.models[0], unpack(registry.artifact(1))
    assert (row["name"], row["train_from"], row["train_to"]) == (NAME, None, None)
    assert (row["config"]["kind"], row["config"]["step_seconds"]) == ("pretrained", 3600.0)
    assert row["metrics"]["pretrained"] == loaded.provenance["pretrained"]
    assert len(row["metrics"]["pretrained"]["sha256"]) == 64
    assert loaded.provenance["frequency"] == "h"
    champion = find_champion(registry, model_config(SETTINGS, HOURS, 0), HOURS)
    assert champion is not None
    assert champion.loaded is not None, "it fits the settings that it was registered for"


def test_another_shape_or_grid_gets_its_own_version_and_a_former_one_is_found_again() -> None:
    registry = FakeRegistry()
    serve(registry)
    longer = SETTINGS.model_copy(update={"series": SeriesSettings(context=48, horizon=8, season=6)})
    serve(registry, longer)
    assert (registry.current, len(registry.models)) == (2, 2)
    serve(registry)
    assert (registry.current, len(registry.models)) == (1, 2)
    serve(registry, frequency=Frequency("D"))
    assert (registry.current, len(registry.models)) == (3, 3)


@pytest.mark.parametrize("current", [0, 1])
def test_a_model_of_its_own_and_a_chosen_seasonal_naive_stay(current: int) -> None:
    own = build(model_config(SETTINGS, HOURS, 0))
    registry = FakeRegistry(models=[{"artifact": pack(own, series=(), provenance={})}], current=current)
    serve(registry)
    assert (registry.current, len(registry.models)) == (current, 1)


def test_an_unreadable_champion_is_not_replaced_behind_the_operators_back() -> None:
    registry = FakeRegistry(models=[{"artifact": b"rust"}], current=1)
    serve(registry)
    assert (registry.current, len(registry.models)) == (1, 1)


@pytest.mark.parametrize("failure", [MemoryError("no room"), RuntimeError("a shape"), KeyError("a name")])
def test_a_champion_that_cannot_be_built_keeps_no_worker_from_starting(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(artifact: bytes) -> None:
        raise failure

    monkeypatch.setattr("pipeline.forecasting.served.unpack", fail)
    registry = FakeRegistry(models=[{"artifact": b"large"}], current=1)
    serve(registry)
    assert (registry.current, len(registry.models)) == (1, 1)
    champion = find_champion(registry, model_config(SETTINGS, HOURS, 0), HOURS)
    assert champion is not None
    assert champion.unfit.startswith(type(failure).__name__)


def test_it_can_be_switched_off() -> None:
    registry = FakeRegistry()
    serve(registry, SETTINGS.model_copy(update={"model": ModelSettings(pretrained=False)}))
    assert (registry.current, registry.models) == (None, [])


def test_who_comes_second_in_a_race_changes_nothing() -> None:
    def promote_another(registry: FakeRegistry) -> None:
        registry.models.append({"artifact": b"of another worker"})
        registry.current = 1

    registry = FakeRegistry(meanwhile=promote_another)
    serve(registry)
    assert (registry.current, len(registry.models), registry.history) == (1, 1, [])


def test_covariates_of_the_settings_do_not_keep_it_from_serving() -> None:
    registry = FakeRegistry()
    settings = SETTINGS.model_copy(update={"input": InputSettings(covariates=("load",))})
    serve(registry, settings)
    champion = find_champion(registry, model_config(settings, HOURS, 0), HOURS)
    assert champion is not None
    assert champion.loaded is not None
    grid = Grid(HOURS, SETTINGS.series, covariates=1)
    scorer = Scorer(registry, MemoryCalibrations(), grid, model_config(settings, HOURS, 0))
    scorer.refresh(0)
    made = scorer.score([due(covariates=1)], now=7)
    assert set(made.model_version.tolist()) == {1}


def test_windows_of_fewer_than_eight_observed_values_are_left_to_seasonal_naive() -> None:
    registry = FakeRegistry()
    serve(registry)
    shape = model_config(SETTINGS, HOURS, 0)
    scorer = Scorer(registry, MemoryCalibrations(), Grid(HOURS, SETTINGS.series), shape)
    scorer.refresh(0)
    seven, eight = due("ab", seen=7 / 24), due("cd", seen=8 / 24)
    made = scorer.score([seven, eight], now=7)
    versions = dict(zip(made.series, made.model_version.tolist(), strict=True))
    assert versions == {"a": 0, "b": 0, "c": 1, "d": 1}
    assert dict(zip(made.series, made.quality, strict=True)) == {
        "a": "fallback",
        "b": "fallback",
        "c": "degraded",
        "d": "degraded",
    }
    alone = Scorer(FakeRegistry(), MemoryCalibrations(), Grid(HOURS, SETTINGS.series), shape).score([seven], now=7)
    assert np.array_equal(made.quantiles[np.isin(made.series, ["a", "b"])], alone.quantiles)
    assert scorer.failures == 0


def test_a_shadow_leaves_such_windows_out_and_counts_no_failure() -> None:
    registry = FakeRegistry()
    serve(registry)
    registry.beside = registry.current
    shadow = ShadowScorer(registry, Grid(HOURS, SETTINGS.series), model_config(SETTINGS, HOURS, 0))
    shadow.refresh(0)
    made = shadow.score([due("ab", seen=7 / 24), due("cd", seen=8 / 24)], now=7)
    assert made is not None
    assert sorted(made.series) == ["c", "d"]
    assert shadow.failures == 0


def test_a_recurrent_network_has_no_least() -> None:
    assert ModelConfig().least_observed == 0
    assert load_pretrained(ModelConfig()).config.least_observed == 8
    assert SeasonalNaive(ModelConfig(kind="seasonal_naive")).config.least_observed == 0
