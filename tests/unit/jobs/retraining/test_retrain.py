import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from jobs.clock.outcome import Outcome, Stage
from jobs.retraining.retrain import retrain
from models.artifact import pack, unpack
from models.config import ModelConfig
from models.network.forecasters import build
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from tests.unit.jobs.fakes import HOUR, START, Clock, FakeReader, FakeRegistry, make_history

Make = Callable[..., Settings]
LATER = START + 100_000 * HOUR  # processing time, after every history here


def drifting(length: int = 160, count: int = 4) -> FakeReader:
    """Make seasonal series with a trend, which seasonal naive must lag behind."""
    t = np.arange(length)
    wave = np.tile([0.0, 3.0, 1.0, -2.0], length)[:length]
    return FakeReader(*make_history({f"s{n}": 10.0 * (n + 1) + 0.5 * t + wave for n in range(count)}))


def run(
    settings: Settings, registry: FakeRegistry, reader: FakeReader | None = None, stages: list[Stage] | None = None
) -> Outcome:
    told: list[Stage] = [] if stages is None else stages
    return retrain(reader or drifting(), registry, settings, clock=Clock(LATER), code="test", on_stage=told.append)


def untrained(settings: Settings, **changes: object) -> bytes:
    """Make a champion that knows nothing but has the shapes of the settings."""
    config = ModelConfig(
        **{
            "hidden": 8,
            "layers": 1,
            "heads": 4,
            "segment": 4,
            "series_dim": 2,
            "context_length": 12,
            "horizon": 4,
            "season": 4,
            "calendar_features": 6,
            "series": 1,
            "dropout": 0.0,
        }
        | changes
    )
    return pack(build(config), series=["s0"], provenance={"frequency": settings.series.frequency})


def test_a_model_better_than_seasonal_naive_is_promoted(tiny: Make) -> None:
    registry, stages = FakeRegistry(), []
    outcome = run(tiny(), registry, stages=stages)
    assert outcome.ending == "ok"
    assert outcome.reason.startswith("version 1 promoted: first champion: gain ")
    assert outcome.facts["promoted"] is True
    assert registry.current == 1
    assert registry.history[0][1] in outcome.reason
    json.dumps(outcome.to_dict(), allow_nan=False)
    names = ["reading history", "history read", "fit", "backtest", "registering"]
    assert [stage.name for stage in stages if not stage.done] == names
    assert any(stage.name == "fit" and stage.done == stage.total == 45 for stage in stages)
    told = [stage.words for stage in stages if stage.name == "fit"]
    assert any("validation" in words for words in told)
    assert not any("nan" in words for words in told), "a refit has nothing to validate on, which is no failure"


def test_what_is_registered_tells_where_the_model_comes_from(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(training={"seed": 7}), registry)
    row = registry.models[0]
    json.dumps([row["config"], row["metrics"]], allow_nan=False)
    assert (row["name"], row["seed"], row["code"]) == ("attention-gru", 7, "test")
    assert (row["config"]["frequency"], row["config"]["step_seconds"], row["config"]["season"]) == ("1h", 3600.0, 4)
    metrics = row["metrics"]
    assert metrics["fit"]["device"] == "cpu"
    assert metrics["lineage"]["series"] == 4
    assert metrics["wql"] == metrics["scores"]["challenger"]["wql"] < metrics["scores"]["naive"]["wql"]
    assert row["train_from"] < row["train_to"] < metrics["lineage"]["backtest_to"]
    loaded = unpack(row["artifact"])
    assert loaded.series == ("s0", "s1", "s2", "s3")
    assert loaded.provenance["frequency"] == "1h"
    assert {(record["version"], record["compared_to"]) for record in registry.backtests} == {(1, 0), (0, None)}


def test_a_point_loss_is_trained_served_and_judged_like_any_other(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(model={"kind": "lstm"}, training={"loss": "huber", "optimizer": "adam"}), registry)
    assert outcome.facts["promoted"] is True
    assert registry.models[0]["name"] == "lstm-lstm"
    assert unpack(registry.models[0]["artifact"]).config.output == "point"


def test_yearly_columns_are_left_out_of_a_model_of_a_short_history(tiny: Make) -> None:
    registry = FakeRegistry(models=[{"artifact": untrained(tiny())}], current=1)
    outcome = run(tiny(), registry)
    assert registry.models[-1]["config"]["calendar_features"] == 4
    assert "champion" in outcome.facts["scores"], "one with yearly columns can be compared with one without"


def test_the_same_seed_and_history_give_the_same_artifact(tiny: Make) -> None:
    one, other = FakeRegistry(), FakeRegistry()
    run(tiny(), one)
    run(tiny(), other)
    assert one.models[0]["artifact"] == other.models[0]["artifact"]


def test_a_worse_challenger_does_not_replace_the_champion(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(), registry)
    outcome = run(tiny(training={"steps": 1, "learning_rate": 1e-6}), registry)
    assert outcome.ending == "ok"
    assert outcome.reason.startswith("version 2 kept as challenger: ")
    assert outcome.facts["promoted"] is False
    assert outcome.facts["champion"] == 1
    assert registry.current == 1
    assert [(r["version"], r["compared_to"]) for r in registry.backtests[-3:]] == [(0, None), (2, 1), (1, 0)]


def test_a_better_challenger_replaces_the_champion_that_it_was_compared_with(tiny: Make) -> None:
    settings = tiny()
    registry = FakeRegistry(models=[{"artifact": untrained(settings)}], current=1)
    outcome = run(settings, registry)
    assert "over version 1 on 3 origins" in outcome.reason
    assert registry.current == 2


def test_with_a_shadow_period_a_better_challenger_scores_beside_the_champion_first(tiny: Make) -> None:
    settings = tiny(jobs={"shadow": "7 days"})
    registry = FakeRegistry(models=[{"artifact": untrained(settings)}], current=1)
    outcome = run(settings, registry)
    assert outcome.reason.startswith("version 2 is shadow now: gain ")
    assert (outcome.facts["promoted"], outcome.facts["shadow"]) == (False, True)
    assert (registry.current, registry.beside) == (1, 2)
    later = run(tiny(jobs={"shadow": "7 days"}, training={"seed": 3}), registry)
    assert later.reason.startswith("version 3 is shadow now in place of version 2: gain ")
    assert [version for version, _ in registry.shadow_history] == [2, 3]
    assert registry.current == 1


def test_with_a_shadow_period_a_worse_challenger_is_no_shadow(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(), registry)
    outcome = run(tiny(jobs={"shadow": "7 days"}, training={"steps": 1, "learning_rate": 1e-6}), registry)
    assert outcome.reason.startswith("version 2 kept as challenger: ")
    assert registry.beside is None


@pytest.mark.parametrize("champion", [None, b"cannot be compared"])
def test_with_nothing_to_compare_with_there_is_nothing_to_wait_for(tiny: Make, champion: bytes | None) -> None:
    registry = FakeRegistry(models=[{"artifact": champion}], current=1) if champion else FakeRegistry()
    outcome = run(tiny(jobs={"shadow": "7 days"}), registry)
    assert outcome.facts["promoted"] is True
    assert registry.beside is None


def test_a_shadow_chosen_meanwhile_by_somebody_else_stays(tiny: Make) -> None:
    class Raced(FakeRegistry):
        def begin_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
            self.beside = 99
            return super().begin_shadow(version, expected=expected, reason=reason, now=now)

    settings = tiny(jobs={"shadow": "7 days"})
    registry = Raced(models=[{"artifact": untrained(settings)}], current=1)
    outcome = run(settings, registry)
    assert outcome.reason.startswith("version 2 not made shadow: the shadow changed meanwhile; ")
    assert (registry.current, registry.beside) == (1, 99)


def test_the_reason_and_the_figures_tell_in_how_many_resamples_the_challenger_was_better(tiny: Make) -> None:
    settings = tiny()
    registry = FakeRegistry(models=[{"artifact": untrained(settings)}], current=1)
    outcome = run(settings, registry, drifting(count=12))
    assert outcome.facts["promoted"] is True
    assert " over version 1 on 3 origins, better in 100 % of resamples of 12 series" in outcome.reason
    evidence = {"share": 1.0, "series": 12, "origins": 3, "over": "series"}
    assert outcome.facts["evidence"] == registry.models[-1]["metrics"]["evidence"] == evidence


@pytest.mark.parametrize(("gain", "current", "words"), [(0.0, 1, "promoted: gain"), (0.99, 0, "99.0 % is needed")])
def test_the_seasonal_naive_as_champion_is_held_to_the_gate_like_any_other(
    tiny: Make, gain: float, current: int, words: str
) -> None:
    registry = FakeRegistry(current=0)
    outcome = run(tiny(jobs={"gate_gain": gain}), registry, drifting(count=12))
    assert registry.current == current
    assert words in outcome.reason
    assert " over version 0 on 3 origins" in outcome.reason
    assert [(r["version"], r["compared_to"]) for r in registry.backtests] == [(0, None), (1, 0)]


def test_figures_of_the_same_windows_are_recorded_with_the_same_time(tiny: Make) -> None:
    class Ticking(Clock):
        def __call__(self) -> int:
            self.advance(1.0)
            return self.now

    registry = FakeRegistry(models=[{"artifact": untrained(tiny())}], current=1)
    retrain(drifting(), registry, tiny(), clock=Ticking(LATER), code="test", on_stage=lambda _: None)
    assert len(registry.backtests) == 3
    assert len({row["now"] for row in registry.backtests}) == 1


def test_all_are_scored_on_the_same_windows(tiny: Make) -> None:
    settings = tiny()
    registry = FakeRegistry(models=[{"artifact": untrained(settings)}], current=1)
    scores = run(settings, registry).facts["scores"]
    assert set(scores) == {"naive", "challenger", "champion"}
    assert len({(score["steps"], score["windows"], score["origins"]) for score in scores.values()}) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon": 8}, "has horizon 8, the settings need 4"),
        ({"context_length": 24}, "has context_length 24, the settings need 12"),
        ({"past_covariates": ("wind",)}, "reads past covariates wind, input.covariates names none"),
        ({"future_covariates": ("price",)}, "reads future covariates price, messages bring none"),
        ({"static_covariates": ("size",)}, "reads static covariates size, messages bring none"),
    ],
)
def test_a_champion_of_other_shapes_is_not_compared_and_that_is_said(
    tiny: Make, changes: dict[str, object], words: str
) -> None:
    settings = tiny()
    registry = FakeRegistry(models=[{"artifact": untrained(settings, **changes)}], current=1)
    outcome = run(settings, registry)
    assert f"version 1 cannot be compared ({words})" in outcome.reason
    assert registry.current == 2


def test_a_champion_that_cannot_be_read_is_replaced(tiny: Make) -> None:
    registry = FakeRegistry(models=[{"artifact": b"rust"}], current=1)
    assert "version 1 cannot be compared (4 bytes are too few" in run(tiny(), registry).reason
    assert registry.current == 2


def test_a_champion_chosen_meanwhile_by_somebody_else_stays(tiny: Make) -> None:
    def promote_another(registry: FakeRegistry) -> None:
        registry.current = 99

    registry = FakeRegistry(while_training=promote_another)
    outcome = run(tiny(), registry)
    assert outcome.reason.startswith("version 1 not promoted: the champion changed meanwhile (there was none); ")
    assert outcome.facts["promoted"] is False
    assert registry.current == 99


def test_before_the_first_model_too_little_history_is_waited_for_and_registers_nothing(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(), registry, drifting(length=10))
    words = "waiting for history: the history reaches over 10 steps of 1h"
    assert (outcome.ending, outcome.reason.split(";")[0]) == ("ok", words)
    assert outcome.reason.endswith("; until then seasonal naive serves")
    outcome = run(tiny(), registry, FakeReader(*make_history({})))
    assert outcome.reason.startswith("waiting for history: there are no observations to train on yet")
    assert registry.models == []


def test_where_there_was_enough_for_a_model_too_little_history_is_a_failure_in_words(tiny: Make) -> None:
    registry = FakeRegistry()
    assert run(tiny(), registry).facts["promoted"]
    outcome = run(tiny(), registry, FakeReader(*make_history({})))
    assert (outcome.ending, outcome.reason.split(":")[0]) == ("failed", "there are no observations to train on yet")
    assert len(registry.models) == 1


def test_gaps_new_and_silent_series_are_no_obstacle(tiny: Make) -> None:
    values = {f"s{n}": 10.0 + np.arange(120) % 4 + 0.1 * np.arange(120) for n in range(3)}
    values["s0"][40:60] = np.nan
    values["silent"] = np.full(120, np.nan)
    values["constant"] = np.full(120, 3.0)
    values["none"] = np.empty(0)
    values["unborn"] = np.arange(6.0)
    registry = FakeRegistry()
    outcome = run(tiny(), registry, FakeReader(*make_history(values, {"unborn": 114})))
    assert outcome.ending == "ok"
    assert outcome.facts["scores"]["naive"]["windows"] == 4 * 3 + 1
    assert unpack(registry.models[0]["artifact"]).series == ("s0", "s1", "s2", "silent", "constant")


def test_past_covariates_of_the_history_are_learned_from_and_warm_started_with(tiny: Make) -> None:
    random = np.random.default_rng(0)
    winds = {f"s{n}": random.standard_normal(400) for n in range(4)}
    names, history = make_history({name: 10.0 + 5.0 * np.roll(wind, 4) for name, wind in winds.items()})
    wind = np.concatenate(list(winds.values()))[:, None]
    wind[50:60] = np.nan
    windy = tiny(input={"covariates": ("wind",)}, training={"steps": 150})
    registry = FakeRegistry()
    outcome = run(windy, registry, FakeReader(names, replace(history, covariates=wind)))
    assert registry.models[0]["config"]["past_covariates"] == ["wind"]
    assert outcome.facts["scores"]["challenger"]["wql"] < 0.7 * outcome.facts["scores"]["naive"]["wql"]
    shuffled = FakeReader(names, replace(history, covariates=random.permutation(wind)))
    assert outcome.facts["wql"] < 0.8 * run(windy, FakeRegistry(), shuffled).facts["wql"]
    again = tiny(input={"covariates": ("wind",)}, training={"mode": "warm", "steps": 1})
    after = run(again, registry, FakeReader(names, replace(history, covariates=wind)))
    assert after.facts["fit"]["start"] == "from the champion's weights"
    assert "champion" in after.facts["scores"]


def test_a_device_that_is_not_there_is_the_operators_business(tiny: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="device cuda is not available on this machine"):
        run(tiny(training={"device": "cuda"}), FakeRegistry())


def test_a_series_whose_clock_is_fast_does_not_move_the_end_of_the_others(tiny: Make) -> None:
    names, history = make_history({f"s{n}": np.arange(160.0) + n for n in range(4)} | {"fast": np.arange(460.0)})
    now = Clock(START + 160 * HOUR)
    registry = FakeRegistry()
    retrain(FakeReader(names, history), registry, tiny(), clock=now, code="test", on_stage=lambda _: None)
    lineage = registry.models[0]["metrics"]["lineage"]
    assert lineage["backtest_to"] <= now.now
    assert lineage["series"] == 5
