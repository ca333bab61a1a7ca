"""What the network of the wheel is made from: synthetic and real windows, and a loop that goes on where it stopped."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from models.artifact import hash_artifact, unpack
from models.config import QUANTILE_LEVELS
from models.network.pretrained import PretrainedForecaster, find_long_season
from models.pretrained import read_pretrained
from models.pretraining import __main__ as command
from models.pretraining.loop import CONFIG, Plan, find_loss, find_rate, pretrain
from models.pretraining.synthetic import disturb, draw, evolve
from models.pretraining.windows import GROUPS, LEAST, batches, read_real

QUICK = Plan(steps=6, rows=4, warm_up=2, checkpoint_every=3)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.season))
def test_series_are_finite_and_most_of_them_move(group: tuple[int, ...]) -> None:
    season = group[0]
    series = draw(np.random.default_rng(0), 64, 300, (season, find_long_season(season)))
    assert np.isfinite(series.values).all()
    assert (series.values.std(axis=1) > 0.0).mean() > 0.95
    assert 0.85 < series.observed.mean() < 1.0


def test_series_of_states_have_a_level_a_slope_and_a_season_that_go_on() -> None:
    length, season = 240, 12
    rows = evolve(np.random.default_rng(3), 400, length, season)
    assert rows.shape == (400, length)
    assert np.allclose(rows.mean(axis=1), 0.0, atol=1e-9)
    assert np.allclose(rows.std(axis=1), 1.0)
    step, year = (np.abs(rows[:, lag:] - rows[:, :-lag]).mean(axis=1) for lag in (1, season))
    assert (step < 0.2).mean() > 0.2, "some drift slowly"
    assert (year < 0.7 * np.abs(rows[:, 6:] - rows[:, :-6]).mean(axis=1)).mean() > 0.2, "some repeat their year"
    assert np.isfinite(evolve(np.random.default_rng(3), 0, length, season)).all()


def test_some_series_have_one_value_of_quite_another_size() -> None:
    flat = np.random.default_rng(4).standard_normal((4000, 64))
    moved = np.abs(disturb(np.random.default_rng(4), flat) - flat)
    assert 0.005 < (moved.max(axis=1) > 40.0).mean() < 0.04


def test_the_same_seed_draws_the_same_series() -> None:
    one, other = (draw(np.random.default_rng(7), 8, 100, (24, 168)) for _ in range(2))
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(one.observed, other.observed)


def test_a_batch_has_windows_of_one_season_and_what_came_after() -> None:
    for season, windows in islice(batches(np.random.default_rng(1), 8, {}, real_share=0.0), 20):
        assert season in {group.season for group in GROUPS}
        assert windows.values.shape == windows.known.shape
        assert windows.targets.shape == windows.there.shape == (8, len(windows.steps))
        assert list(windows.steps) == sorted(set(windows.steps))
        assert not bool((windows.values[~windows.known] != 0.0).any()), "what is not known is not in the window"
        enough = windows.known.sum(dim=1) >= LEAST
        assert not bool(windows.there[~enough].any()), "nothing is learned from too short a history"


def real_file(folder: Path) -> Path:
    time = np.arange(600)
    hourly = 50.0 + np.sin(2 * np.pi * time / 24)
    hourly[100:110] = np.nan
    file = folder / "real.npz"
    np.savez(file, **{"24/load": hourly, "4/visits": np.arange(20.0)})
    return file


def test_real_series_count_for_their_season_and_for_coarser_grids(tmp_path: Path) -> None:
    real = read_real(real_file(tmp_path))
    assert sorted(real) == [4, 12, 24]
    assert len(real[12]) == 1
    assert len(real[12][0]) == 300, "two hours are averaged into one step"
    assert np.isnan(real[12][0]).sum() == 5


def test_real_windows_are_taken_with_their_gaps(tmp_path: Path) -> None:
    real = read_real(real_file(tmp_path))
    for _, windows in islice(batches(np.random.default_rng(2), 8, real, real_share=1.0), 20):
        assert bool(windows.values.isfinite().all())
        assert bool(windows.targets.isfinite().all())


def test_a_short_real_series_has_nothing_before_it() -> None:
    taken = [
        windows.known.sum(dim=1)
        for season, windows in islice(
            batches(np.random.default_rng(2), 8, {4: [np.arange(20.0)]}, real_share=1.0, steps=8), 60
        )
        if season == 4
    ]
    assert taken
    assert max(int(count.max()) for count in taken) <= 20


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Plan(steps=1000, warm_up=100, rate=1.0)
    rates = [find_rate(plan, step) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[100:700] == [1.0] * 600
    assert rates[-1] < 0.01
    assert all(late <= early for early, late in pairwise(rates[700:]))


def test_the_loss_and_its_gradients_are_finite() -> None:
    season, windows = next(batches(np.random.default_rng(3), 16, {}, real_share=0.0))
    levels = torch.tensor(QUANTILE_LEVELS)
    torch.manual_seed(0)
    model = PretrainedForecaster(CONFIG)
    loss = find_loss(model, season, windows, levels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert all(weight.grad is None or bool(torch.isfinite(weight.grad).all()) for weight in model.parameters())


def test_pretraining_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    checkpoint, said = tmp_path / "run.safetensors", []
    first = pretrain(replace(QUICK, steps=3), {}, checkpoint=checkpoint, say=said.append)
    assert [facts["step"] for facts in said] == [3]
    same = pretrain(replace(QUICK, steps=3), {}, checkpoint=checkpoint)
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(same.state_dict()[name], weight, rtol=0, atol=0)
    more = pretrain(QUICK, {}, checkpoint=checkpoint, say=said.append)
    assert [facts["step"] for facts in said] == [3, 6]
    changed = [not torch.equal(more.state_dict()[name], weight) for name, weight in first.named_parameters()]
    assert all(changed)


def test_pretraining_begins_with_given_weights_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    wheel = unpack(read_pretrained()).model
    still = replace(QUICK, steps=1, rate=1e-12, weight_decay=0.0)
    model = pretrain(still, {}, start=wheel.state_dict(), checkpoint=tmp_path / "run.safetensors")
    for name, weight in wheel.named_parameters():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_pretraining_learns() -> None:
    said: list[float] = []
    plan = Plan(steps=200, rows=8, warm_up=20)
    pretrain(plan, {}, say=lambda facts: said.append(facts["loss"]))
    assert said[-1] < said[0]


def test_the_command_says_with_which_weights_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, made = tmp_path / "begun.safetensors", tmp_path / "made.safetensors"
    begun.write_bytes(read_pretrained())
    options = {"steps": 1, "rows": 2, "device": "cpu", "checkpoint": tmp_path / "run", "weights": begun, "output": made}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr("sys.argv", ["pretraining", *words])
    try:
        assert command.main() == 0
    finally:
        torch.set_flush_denormal(False)
    provenance = unpack(made.read_bytes()).provenance
    assert (provenance["steps"], provenance["windows"]) == (1, 2)
    before = unpack(begun.read_bytes()).provenance
    assert provenance["begun_with"] == {"sha256": hash_artifact(begun.read_bytes()), **before}
