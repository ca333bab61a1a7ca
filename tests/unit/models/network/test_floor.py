"""Forecasts of what cannot be negative stay at zero or above, series by series."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.artifact import pack, unpack
from models.batch import Batch
from models.config import ModelConfig, TrainConfig
from models.fitting.fit import fit
from models.network.floor import SeriesSign, find_floor
from models.network.forecasters import Ensemble, Forecaster, Single, build
from models.panel import Panel
from tests.unit.models.panels import make_panel

CONFIG = ModelConfig(
    kind="gru",
    hidden=8,
    heads=1,
    segment=6,
    context_length=24,
    horizon=6,
    season=6,
    series=3,
    series_dim=2,
    non_negative="auto",
)
TRAIN = TrainConfig(steps=5, batch_size=8, validation_steps=6)


def low_panel(lowest: tuple[float, ...] = (0.0, 0.0, -1.0)) -> Panel:
    """Three series near zero, which rest there at times; the lowest value of each, in its oldest steps, as given."""
    panel = make_panel(series=3, steps=90, season=6, noise=0.3)
    target = (panel.target - panel.target.mean()).abs() / 10.0 * panel.observed
    for step in (70, 71):  # in the windows
        target[panel.start + step] = 0.0
    target[panel.start + 1] = torch.tensor(lowest, dtype=target.dtype)
    return replace(panel, target=target)


def windows(panel: Panel, rows: list[int], series: list[int]) -> Batch:
    cut = panel.cut(torch.tensor(rows), torch.full((len(rows),), 80), context_length=24, horizon=6)
    return replace(cut, series=torch.tensor(series))


def widened(model: Forecaster) -> Forecaster:
    """The model with quantiles so far apart that the lowest are below zero."""
    for part in model.modules():
        if isinstance(part, Single):
            part.head.stretch.fill_(50.0)
    return model.eval()


def fitted(config: ModelConfig, panel: Panel) -> Forecaster:
    model = build(config, seed=0)
    for network in model.networks() if isinstance(model, Ensemble) else [model]:
        assert isinstance(network, Single)
        fit(network, panel, TRAIN, device=torch.device("cpu"), on_progress=lambda _: None)
    return widened(model)


@pytest.mark.parametrize("members", [1, 2])
def test_a_series_that_was_never_negative_stays_so_and_one_that_was_does_not(members: int) -> None:
    panel = low_panel()
    model = fitted(replace(CONFIG, members=members), panel)
    lowest = model(windows(panel, [0, 1, 2], [1, 2, 3])).amin(dim=(1, 2))
    assert (lowest[:2] == 0.0).all()
    assert lowest[2] < 0.0, "its window has no negative value, its training had"
    loaded = unpack(pack(model, series=["a", "b", "c"], provenance={})).model
    batch = windows(panel, [0, 1, 2], [1, 2, 3])
    assert torch.equal(loaded(batch), model(batch))


def test_of_an_unknown_series_the_window_decides_and_of_a_known_one_it_has_a_say() -> None:
    panel = low_panel()
    model = fitted(CONFIG, panel)
    for series in (0, 1):
        batch = windows(panel, [0, 0], [series, series])
        batch.target[1, 5] = -0.01
        lowest = model(batch).amin(dim=(1, 2))
        assert (lowest[0] == 0.0, lowest[1] < 0.0) == (True, True)
    hidden = windows(panel, [0], [0])
    hidden.target[0, 5] = -7.0
    hidden.observed[0, 5] = False
    assert model(hidden).min() == 0.0, "what was not observed says nothing"


@pytest.mark.parametrize(("wish", "floors"), [("auto", [0.0, -np.inf]), ("on", [0.0, 0.0]), ("off", None)])
def test_the_wish_decides_who_has_a_floor(wish: str, floors: list[float] | None) -> None:
    batch = windows(low_panel(), [0, 0], [1, 1])
    batch.target[1, 3] = -2.0
    found = find_floor(wish, batch)
    assert (found if found is None else found.tolist()) == floors
    for kind in ("gru", "seasonal_naive"):
        model = widened(build(replace(CONFIG, kind=kind, non_negative=wish), seed=0))
        lowest = model(batch).amin(dim=(1, 2))
        assert bool((lowest >= 0.0).all()) == (wish == "on")
        assert lowest[1] < 0.0 or wish == "on"


def test_a_series_far_above_zero_is_not_touched() -> None:
    panel = make_panel(series=3, steps=90, season=6, noise=0.3)
    panel = replace(panel, target=(panel.target + 1e4) * panel.observed)
    free = build(replace(CONFIG, non_negative="off"), seed=0).eval()
    bound = build(CONFIG, seed=0).eval()
    batch = windows(panel, [0, 1, 2], [1, 2, 3])
    assert torch.equal(free(batch), bound(batch))


def test_in_training_nothing_is_cut_so_that_every_quantile_learns() -> None:
    panel = low_panel()
    model = build(CONFIG, seed=0)
    assert isinstance(model, Single)
    model.head.stretch.fill_(50.0)
    assert model.train()(windows(panel, [0], [1])).min() < 0.0


def test_quantiles_ascend_with_a_floor_and_nan_stays_nan() -> None:
    panel = low_panel()
    model = fitted(CONFIG, panel)
    assert (model(windows(panel, [0, 1, 2], [1, 2, 3])).diff(dim=2) >= 0.0).all()
    for weight in model.parameters():
        weight.data.fill_(torch.nan)
    assert model(windows(panel, [0], [1])).isnan().all()


def test_signs_are_those_of_the_observed_steps_of_a_series_and_what_was_seen_once_stays() -> None:
    panel = low_panel((-1.0, 0.0, 0.0))
    panel.target[panel.start[1] - 1] = -5.0  # in the margin, nobody's
    signs = SeriesSign(3)
    signs.learn(panel)
    assert signs.rows.tolist() == [False, True, False, False]
    newer = replace(panel, start=panel.start + 40, length=panel.length - 40, first_step=panel.first_step + 40)
    signs.learn(newer)
    assert signs.rows.tolist() == [False, True, False, False]
    shorter = replace(panel, length=panel.length * 0 + 1)
    fresh = SeriesSign(3)
    fresh.learn(shorter)
    assert not fresh.rows.any(), "the second step is not known yet"


def test_zero_is_an_end_where_a_series_rests_or_counts() -> None:
    rests = low_panel((0.0, 0.0, 0.0))
    degrees = replace(rests, target=rests.target + 0.37 * rests.observed)
    counts = replace(rests, target=(10 * rests.target).round() + 1.0 * rests.observed)
    for panel, ended in ((rests, True), (degrees, False), (counts, True)):
        signs = SeriesSign(3)
        signs.learn(panel)
        assert signs.ended.tolist() == [False, ended, ended, ended]
        floor = find_floor("auto", windows(panel, [0], [0]))
        assert floor is not None and floor.tolist() == [0.0 if ended else -np.inf]
        model = fitted(CONFIG, panel)
        assert (model(windows(panel, [0], [1])).min() < 0.0) == (not ended)


def test_what_training_showed_counts_where_the_window_shows_nothing() -> None:
    panel = low_panel()
    cut = windows(panel, [0, 0], [1, 0])
    batch = replace(cut, target=cut.target + 0.37 * cut.observed)
    model = fitted(CONFIG, panel)
    lowest = model(batch).amin(dim=(1, 2))
    assert (lowest[0] == 0.0, lowest[1] < 0.0) == (True, True)


def test_an_artifact_of_before_has_no_floor() -> None:
    old = build(replace(CONFIG, non_negative="off"), seed=0)
    described = old.config.to_dict()
    del described["non_negative"]
    assert ModelConfig.from_dict(described) == old.config
    with pytest.raises(ValueError, match="non_negative 'perhaps' is unknown: use one of auto, on, off"):
        replace(CONFIG, non_negative="perhaps")
