"""A retraining beside the network of the wheel: fine-tuned until there is a model of its own, and never worse."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from jobs.retraining.retrain import NOTHING_KEPT
from jobs.retraining.verdict import Gate, Score, verdict
from jobs.retraining.warm_start import begin
from models.artifact import unpack
from models.pretrained import load_pretrained
from pipeline.forecasting.windows import model_config
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings, TrainingSettings
from tests.unit.jobs.fakes import FakeRegistry
from tests.unit.jobs.retraining.test_retrain import drifting, run

Make = Callable[..., Settings]
ON = {"pretrained": True}


def tuning(settings: Settings) -> Settings:
    """Let the network of the wheel be what is trained."""
    return settings.model_copy(update={"model": settings.model.with_changes({"kind": "pretrained"})})


FEW = {"steps": 10, "refit": 0.0}
STILL = FEW | {"learning_rate": 1e-9}


def test_the_first_retraining_fine_tunes_it_beside_what_the_settings_ask_for(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(model=ON, training=FEW), registry)
    zero_shot, tuned, own = registry.models
    assert [row["name"] for row in registry.models] == ["zero-shot", "pretrained", "attention"]
    assert tuned["metrics"]["fit"]["start"] == "from the pretrained weights"
    assert own["metrics"]["fit"]["start"] == "from scratch"
    assert set(outcome.facts["challengers"]) == {"pretrained", "attention"}
    assert set(tuned["metrics"]["scores"]) == {"naive", "zero-shot", "champion", "challenger"}
    assert tuned["metrics"]["scores"]["zero-shot"] == tuned["metrics"]["scores"]["champion"]
    assert "pretrained" not in unpack(tuned["artifact"]).provenance, "it has learned: it is a model of its own"
    assert "pretrained" in unpack(zero_shot["artifact"]).provenance


def test_it_learns_slowly_and_few_steps_whatever_the_settings_are(tiny: Make) -> None:
    training = {"steps": 4, "learning_rate": 0.02, "members": 2, "loss": "mse", "search": 0}
    registry = FakeRegistry()
    run(tiny(model=ON, training=training), registry)
    how = registry.models[1]["metrics"]["training"]
    assert (how["learning_rate"], how["steps"], how["loss"]) == (pytest.approx(0.002), 4, "pinball")
    assert how["anchored"]
    assert not registry.models[2]["metrics"]["training"]["anchored"]
    assert registry.models[1]["config"]["members"] == 1
    assert registry.models[2]["config"]["members"] == 2


def test_its_steps_have_few_windows_unless_the_settings_say_how_many() -> None:
    model = Settings().model.with_changes({"kind": "pretrained"})
    for training, batch in (({}, 32), ({"batch": 128}, 128)):
        settings = Settings(training=TrainingSettings.model_validate(training)).model_copy(update={"model": model})
        adapted = begin(settings, Frequency("1h")).adapt(settings).training
        assert (adapted.batch, adapted.steps, adapted.learning_rate) == (batch, 300, pytest.approx(5e-4))


def test_a_tuning_that_makes_it_worse_is_not_kept_and_the_reason_says_so(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tuning(tiny(model=ON, training=FEW | {"learning_rate": 100.0})), registry)
    assert registry.current == 1
    assert NOTHING_KEPT in outcome.reason
    assert outcome.facts["fit"]["share"] == 0.0
    zero_shot, tuned = (unpack(row["artifact"]).model.state_dict() for row in registry.models)
    assert torch.equal(zero_shot["deepen.weight"], tuned["deepen.weight"])


def test_with_a_model_of_its_own_the_settings_alone_say_what_is_trained(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(), registry)
    assert registry.current == 1
    run(tiny(model=ON, training=FEW), registry)
    assert [row["name"] for row in registry.models] == ["attention-gru", "attention-gru"]
    assert "zero-shot" in registry.models[1]["metrics"]["scores"], "which the gate protects as ever"


def test_a_challenger_of_that_kind_is_not_doubled(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(model=ON, training=FEW, challengers={"tuned": {"kind": "pretrained"}}), registry)
    assert [row["name"] for row in registry.models] == ["zero-shot", "tuned"]
    registry = FakeRegistry()
    run(tuning(tiny(model=ON, training=FEW)), registry)
    assert [row["name"] for row in registry.models] == ["zero-shot", "pretrained-gru"]


def test_a_challenger_of_its_name_is_fitted_beside_it(tiny: Make) -> None:
    registry = FakeRegistry()
    named = {"pretrained": {"kind": "attention"}, "fine-tuned": {"kind": "attention"}}
    outcome = run(tiny(model=ON, training=FEW, challengers=named), registry)
    assert [row["name"] for row in registry.models] == ["zero-shot", "fine-tuned pretrained", *named]
    assert set(outcome.facts["challengers"]) == {"fine-tuned pretrained", *named}
    assert unpack(registry.models[1]["artifact"]).model.config.kind == "pretrained"


def test_weights_that_did_not_move_forecast_as_those_of_the_wheel(tiny: Make) -> None:
    registry, settings = FakeRegistry(), tuning(tiny(training=STILL))
    run(settings, registry)
    wheel = load_pretrained(model_config(settings, Frequency("1h"), 0)).model.state_dict()
    own = unpack(registry.models[0]["artifact"]).model.state_dict()
    for name, weight in wheel.items():
        if not name.startswith("signs") and name != "head.stretch":
            assert np.allclose(weight, own[name], atol=1e-6), name


def test_what_was_tuned_is_what_a_warm_start_goes_on_from(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tuning(tiny(training={"steps": 30})), registry)
    assert registry.current == 1
    outcome = run(tuning(tiny(training={"mode": "warm", "warm_steps": 3})), registry, drifting(length=200))
    assert outcome.facts["fit"]["start"] == "from the champion's weights"
    outcome = run(tuning(tiny(training=FEW)), registry, drifting(length=200))
    assert outcome.facts["fit"]["start"] == "from the pretrained weights"


def test_too_short_a_history_leaves_it_in_place_and_says_so(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(model=ON), registry, drifting(length=12))
    assert (registry.current, outcome.ending) == (1, "ok")
    assert outcome.reason.endswith("; until then the pretrained network serves, version 1")


def score(wql: float, steps: int = 40) -> Score:
    return Score(wql, 1.0, wql, 0.8, steps, 10, 5)


def test_nothing_worse_than_the_pretrained_network_becomes_champion() -> None:
    gate, naive = Gate(), score(0.5)
    assert verdict(score(0.3), None, naive, gate, wheel=score(0.3)).promote
    found = verdict(score(0.4), None, naive, gate, wheel=score(0.3))
    assert not found.promote
    assert found.reason == "33.3 % worse than the pretrained network on 5 origins"
    assert verdict(score(0.4), None, naive, gate, wheel=score(0.3, steps=20)).promote, "it did not forecast everything"
