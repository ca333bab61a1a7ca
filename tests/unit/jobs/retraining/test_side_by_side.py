"""Several challengers in one retraining: each by its name, all on the same windows, the best one promoted."""

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from jobs.retraining.comparison import Comparison, judge
from jobs.retraining.significance import Evidence
from jobs.retraining.verdict import Score
from models.artifact import unpack
from pipeline.errors import ConfigError
from pipeline.forecasting.served import Champion
from pipeline.settings import Settings
from tests.unit.jobs.fakes import FakeRegistry
from tests.unit.jobs.retraining.test_retrain import run, untrained

Make = Callable[..., Settings]
GOOD: dict[str, Any] = {"kind": "lstm", "seed": 3}
WQL = {"naive": 0.5, "champion": 0.4, "challenger": 0.3}
LAZY: dict[str, Any] = {"steps": 1, "learning_rate": 1e-6}


def test_each_challenger_is_fitted_as_it_says_and_registered_under_its_name(tiny: Make) -> None:
    registry, stages = FakeRegistry(), []
    outcome = run(tiny(challengers={"good": GOOD, "lazy": LAZY}), registry, stages=stages)
    good, lazy = registry.models
    assert (good["name"], lazy["name"]) == ("good", "lazy")
    assert (good["config"]["kind"], lazy["config"]["kind"]) == ("lstm", "attention")
    assert (good["seed"], lazy["seed"]) == (3, 0)
    assert (good["metrics"]["training"]["steps"], lazy["metrics"]["training"]["steps"]) == (30, 1)
    assert good["config"]["hidden"] == lazy["config"]["hidden"] == 8, "what is left away is as [model] says"
    assert [unpack(model["artifact"]).config.kind for model in registry.models] == ["lstm", "attention"]
    json.dumps(outcome.to_dict(), allow_nan=False)
    assert {stage.name for stage in stages} >= {"fit good", "fit lazy", "backtest", "registering"}


def test_the_best_of_those_that_pass_is_promoted_and_the_reason_names_all(tiny: Make) -> None:
    for challengers in ({"good": GOOD, "lazy": LAZY}, {"lazy": LAZY, "good": GOOD}):
        registry = FakeRegistry()
        outcome = run(tiny(challengers=challengers), registry)
        version = 1 + list(challengers).index("good")
        assert registry.current == version
        assert outcome.facts["promoted"] is True
        assert outcome.facts["version"] == version
        assert outcome.reason.startswith(f"good, version {version} promoted: first champion: gain ")
        assert f"; lazy, version {3 - version} kept as challenger" in outcome.reason
        assert set(outcome.facts["challengers"]) == {"good", "lazy"}


def test_all_are_compared_with_each_other_and_the_champion_on_the_same_windows(tiny: Make) -> None:
    registry = FakeRegistry(models=[{"artifact": untrained(tiny())}], current=1)
    run(tiny(challengers={"good": GOOD, "lazy": LAZY}), registry)
    rows = registry.backtests
    assert [(row["version"], row["compared_to"]) for row in rows] == [(0, None), (2, 1), (3, 1), (1, 0)]
    assert all(one["now"] == other["now"] and one["n"] == other["n"] for one, other in pairwise(rows))
    assert registry.current == 2


def test_a_challenger_has_the_same_figures_alone_and_beside_others(tiny: Make) -> None:
    alone, beside = FakeRegistry(), FakeRegistry()
    run(tiny(challengers={"good": GOOD}), alone)
    run(tiny(challengers={"lazy": LAZY, "good": GOOD}), beside)
    assert alone.models[0]["artifact"] == beside.models[1]["artifact"]
    assert alone.models[0]["metrics"]["scores"]["challenger"] == beside.models[1]["metrics"]["scores"]["challenger"]


@pytest.mark.parametrize(("among", "promoted"), [(1, True), (2, False)])
def test_more_challengers_need_more_evidence_each(tiny: Make, among: int, promoted: bool) -> None:
    scores = {role: Score(wql, 0.5, 0.3, 0.8, 100, 20, 5) for role, wql in WQL.items()}
    compared = Comparison(scores, Evidence(0.93, 20, 5))
    found = judge(compared, Champion(4, None), tiny(jobs={"gate_confidence": 0.9}), among=among)
    assert found.promote is promoted
    assert ("95 % is needed" in found.reason) is not promoted


def test_nothing_is_promoted_when_nobody_passes(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(), registry)
    outcome = run(tiny(challengers={"lazy": LAZY, "idle": LAZY | {"seed": 5}}), registry)
    assert registry.current == 1
    assert outcome.facts["promoted"] is False
    assert outcome.reason.count("kept as challenger") == 2


def test_only_the_best_becomes_shadow(tiny: Make) -> None:
    settings = tiny(jobs={"shadow": "7 days"}, challengers={"lazy": LAZY, "good": GOOD})
    registry = FakeRegistry(models=[{"artifact": untrained(settings)}], current=1)
    outcome = run(settings, registry)
    assert (registry.current, registry.beside) == (1, 3)
    assert outcome.reason.startswith("good, version 3 is shadow now: gain ")


def test_a_warm_start_is_for_the_challenger_that_has_the_champions_shape(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(challengers={"good": GOOD}), registry)
    assert registry.current == 1
    run(tiny(training={"mode": "fine-tune"}, challengers={"good": GOOD, "wide": {"hidden": 16}}), registry)
    good, wide = registry.models[1:]
    assert (good["metrics"]["fit"]["mode"], wide["metrics"]["fit"]["mode"]) == ("fine-tune", "cold")
    assert good["metrics"]["lineage"]["backtest_to"] == wide["metrics"]["lineage"]["backtest_to"]
    assert good["metrics"]["steps"] == wide["metrics"]["steps"], "they are scored on the same targets"


def test_a_network_that_cannot_be_built_is_refused_before_anything_is_fitted(tiny: Make) -> None:
    registry, stages = FakeRegistry(), []
    with pytest.raises(ConfigError, match="segment"):
        run(tiny(challengers={"good": GOOD, "odd": {"segment": 5}}), registry, stages=stages)
    assert (registry.models, stages) == ([], [])
