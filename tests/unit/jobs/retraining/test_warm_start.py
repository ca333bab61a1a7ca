"""How a retraining starts, and what it does with a history that is too large."""

from collections.abc import Callable

import numpy as np
import pytest
from structlog.testing import capture_logs

from models.artifact import unpack
from pipeline.settings import Settings
from tests.unit.jobs.fakes import HOUR, START, FakeReader, FakeRegistry, make_history
from tests.unit.jobs.retraining.test_retrain import drifting, run, untrained

Make = Callable[..., Settings]


@pytest.mark.parametrize("spread", ["window", "series"])
def test_a_warm_start_begins_where_the_champion_ended(tiny: Make, spread: str) -> None:
    registry, model = FakeRegistry(), {"spread": spread}
    run(tiny(model=model), registry, drifting(count=4))
    warm = tiny(model=model, training={"mode": "warm", "steps": 1, "learning_rate": 1e-9})
    outcome = run(warm, registry, drifting(count=5))
    assert outcome.facts["fit"]["start"] == "from the champion's weights"
    before, after = (unpack(row["artifact"]).model for row in registry.models)
    assert np.allclose(before.series.rows.weight[:5].detach(), after.series.rows.weight[:5].detach(), atol=1e-5)
    assert np.allclose(before.series.rows.weight[0].detach(), after.series.rows.weight[5].detach(), atol=1e-5)


def test_an_ensemble_is_one_model_and_each_member_starts_where_its_predecessor_ended(tiny: Make) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(training={"members": 2, "steps": 20}), registry, drifting(count=4))
    assert outcome.facts["fit"]["steps"] == 60
    warm = tiny(training={"members": 2, "mode": "warm", "steps": 1, "learning_rate": 1e-9})
    outcome = run(warm, registry, drifting(count=5))
    assert outcome.facts["fit"]["start"] == "from the champion's weights"
    before, after = (unpack(row["artifact"]).model.state_dict() for row in registry.models)
    for member in range(2):
        rows = [weights[f"members.{member}.series.rows.weight"] for weights in (before, after)]
        assert np.allclose(rows[0], rows[1][:5], atol=1e-5)
        assert np.allclose(rows[0][0], rows[1][5], atol=1e-5)
    alone = run(tiny(training={"mode": "warm", "steps": 1}), registry, drifting(count=5))
    assert alone.facts["fit"]["start"] == "from scratch, not warm: the champion's network has another shape"


def test_a_warm_start_from_another_network_starts_from_scratch(tiny: Make) -> None:
    settings = tiny(training={"mode": "warm"})
    registry = FakeRegistry(models=[{"artifact": untrained(settings, hidden=4)}], current=1)
    outcome = run(settings, registry)
    assert outcome.facts["fit"]["start"] == "from scratch, not warm: the champion's network has another shape"


@pytest.mark.parametrize("mode", ["warm", "fine-tune"])
def test_without_a_champion_to_start_from_a_fit_is_cold_and_the_outcome_says_why(tiny: Make, mode: str) -> None:
    registry = FakeRegistry()
    outcome = run(tiny(training={"mode": mode, "warm_steps": 7}), registry)
    assert (outcome.facts["fit"]["mode"], outcome.facts["training"]["steps"]) == ("cold", 30)
    assert outcome.reason.endswith(f"; started from scratch, not {mode}: there is no champion")
    registry = FakeRegistry(models=[{"artifact": b"rust"}], current=1)
    outcome = run(tiny(training={"mode": mode}), registry)
    assert f"started from scratch, not {mode}: version 1 cannot be used (4 bytes are too few" in outcome.reason
    assert outcome.facts["lineage"]["rows"] > 400, "a fit from scratch has all of the history"


def test_a_warm_start_takes_the_steps_that_are_stated_for_it(tiny: Make) -> None:
    registry = FakeRegistry()
    cold = run(tiny(), registry)
    warm = run(tiny(training={"mode": "warm", "warm_steps": 5}), registry)
    assert [cold.facts["fit"]["mode"], warm.facts["fit"]["mode"]] == ["cold", "warm"]
    assert [outcome.facts["training"]["steps"] for outcome in (cold, warm)] == [30, 5]
    assert cold.facts["training"]["learning_rate"] == warm.facts["training"]["learning_rate"]
    assert warm.facts["lineage"]["train_from"] == cold.facts["lineage"]["train_from"]
    assert "started" not in cold.reason + warm.reason
    same = run(tiny(training={"mode": "warm"}), registry)
    assert same.facts["training"]["steps"] == 30


def test_a_fine_tune_learns_slowly_from_recent_history_alone(tiny: Make) -> None:
    registry, reader = FakeRegistry(), drifting(length=400)
    cold = run(tiny(), registry, reader)
    recent = {"mode": "fine-tune", "recent": "2 days", "warm_steps": 5}
    tuned = run(tiny(training=recent), registry, reader)
    assert tuned.facts["fit"]["mode"] == "fine-tune"
    assert tuned.facts["fit"]["start"] == "from the champion's weights, on recent history"
    assert tuned.facts["training"]["learning_rate"] == pytest.approx(0.1 * cold.facts["training"]["learning_rate"])
    assert tuned.facts["training"]["steps"] == 5
    lineage, before = tuned.facts["lineage"], cold.facts["lineage"]
    assert lineage["train_to"] == before["train_to"] == START + (400 - 12 - 1) * HOUR
    assert lineage["train_to"] - lineage["train_from"] == 47 * HOUR
    assert lineage["rows"] == 4 * 48
    assert reader.asked == [(8760, None), (48 + 12 + 3 * 4, None)], "two days, a context and three origins"
    assert tuned.facts["scores"]["champion"] == cold.facts["scores"]["challenger"], "the same origins and windows"


def test_a_fine_tune_keeps_what_the_champion_knows_of_series_that_were_silent(tiny: Make) -> None:
    names, history = drifting(length=400).names, drifting(length=400).history
    values = {name: history.value[400 * row : 400 * (row + 1)] for row, name in enumerate(names)}
    values["s3"] = values["s3"][:200]
    registry, reader = FakeRegistry(), FakeReader(*make_history(values))
    run(tiny(), registry, reader)
    quiet = {"mode": "fine-tune", "recent": "2 days", "warm_steps": 1, "learning_rate": 1e-9}
    outcome = run(tiny(training=quiet), registry, reader)
    before, after = (unpack(row["artifact"]) for row in registry.models)
    assert (outcome.facts["fit"]["mode"], outcome.facts["lineage"]["series"]) == ("fine-tune", 4)
    rows = [one.model.series.rows.weight[one.series.index("s3") + 1].detach().numpy() for one in (before, after)]
    assert np.allclose(*rows, atol=1e-5)


def test_too_short_a_recent_history_says_what_to_raise(tiny: Make) -> None:
    registry = FakeRegistry()
    run(tiny(), registry)
    outcome = run(tiny(training={"mode": "fine-tune", "recent": "3h"}), registry)
    assert (outcome.ending, len(registry.models)) == ("failed", 1)
    assert "raise training.recent" in outcome.reason


def test_a_warm_start_keeps_the_calendar_that_the_champion_reads(tiny: Make) -> None:
    registry = FakeRegistry(models=[{"artifact": untrained(tiny())}], current=1)  # with yearly columns
    run(tiny(training={"mode": "warm", "steps": 1}), registry)
    assert registry.models[-1]["config"]["calendar_features"] == 6


def test_a_history_that_does_not_fit_is_sampled_and_every_record_says_so(tiny: Make) -> None:
    reader, registry, stages = drifting(length=400, count=6), FakeRegistry(), []
    with capture_logs() as logs:
        outcome = run(tiny(training={"max_rows": 1000}), registry, reader, stages)
    (asked,) = reader.asked
    assert asked == (166, [1, 2, 3, 4, 5, 6]), "166 of each of 6 are 996"
    words = "sampled: 996 of 2,400 rows, the newest 166 of each of 6 of 6 series (training.max_rows 1,000)"
    assert outcome.reason.endswith(words)
    assert words in [stage.words for stage in stages]
    lineage = registry.models[0]["metrics"]["lineage"]
    read = {"series_read": 6, "series_stored": 6, "rows_read": 996, "rows_stored": 2400}
    assert lineage | read == lineage
    assert unpack(registry.models[0]["artifact"]).provenance["lineage"] == lineage
    assert [entry for entry in logs if entry["event"] == "history sampled" and entry | read == entry]


def test_a_sample_of_series_is_the_same_for_a_seed_and_its_warm_start_knows_the_others(tiny: Make) -> None:
    reader, registry = drifting(length=400, count=20), FakeRegistry()
    run(tiny(), registry, reader)
    small = {"max_rows": 1000, "mode": "warm", "warm_steps": 1}
    outcome = run(tiny(training=small), registry, reader)
    run(tiny(training=small), registry, reader)
    run(tiny(training=small | {"seed": 1}), registry, reader)
    depths, samples = zip(*reader.asked[1:], strict=True)
    assert set(depths) == {96}
    assert samples[0] == samples[1] != samples[2]
    assert len(samples[0]) == 10
    assert outcome.facts["lineage"]["series"] == 20, "the champion's rows of the other ten are kept"
    assert len(unpack(registry.models[1]["artifact"]).series) == 20
