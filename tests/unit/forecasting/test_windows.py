"""What is chosen from the history where the settings leave it open."""

import numpy as np
import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.forecasting.windows import Known, batch, calendar_columns, lay_out, model_config, usual_location
from pipeline.grid.frequency import Frequency
from pipeline.records import Due, History
from pipeline.settings import Settings


@pytest.mark.parametrize(
    ("frequency", "wish", "days", "columns"),
    [
        ("1h", "auto", None, 6),
        ("1h", "auto", 699.0, 4),
        ("1h", "auto", 700.0, 6),
        ("1h", "all", 1.0, 6),
        ("1h", "none", 9999.0, 0),
        ("1D", "auto", 365.0, 2),
        ("1D", "auto", 1000.0, 4),
        ("W-SUN", "auto", 365.0, 0),
        ("MS", "auto", 3650.0, 2),
        ("YS", "auto", 100.0, 0),
    ],
)
def test_yearly_columns_need_about_two_years(frequency: str, wish: str, days: float | None, columns: int) -> None:
    assert calendar_columns(wish, Frequency(frequency), days) == columns


def test_a_window_of_the_service_has_the_covariates_of_the_one_cut_from_history_bit_for_bit() -> None:
    hour = 3_600_000_000
    at = np.array([3, 4, 7, 8, 1, 2], np.int64)  # two series, the first with a gap
    past = np.array([[0.1, np.nan], [np.nan, 2.0], [1e300, 3.0], [0.4, 4.0], [0.5, np.nan], [0.6, 6.0]])
    value = np.arange(6.0) + 0.1
    history = History(
        np.array([1, 2]), np.array([0, 4, 6]), at * hour, value, np.ones(6, np.bool_), np.ones(6, np.int64), past
    )
    known = Known(
        np.array([0, 0, 1, 1]),
        np.array([8, 10, 0, 99]),
        np.array([[8.0], [10.0], [0.0], [99.0]]),
        np.array([[5.0], [np.nan]]),
    )
    rows = np.array([1, 2])
    panel = lay_out(history, frequency=Frequency("1h"), rows=rows, context=6, horizon=2, known=known)
    trained = panel.cut(torch.tensor([0, 1]), panel.length, context_length=6, horizon=2)

    target, seen = np.zeros((2, 6)), np.zeros((2, 6), np.bool_)
    beside, there = np.zeros((2, 6, 2)), np.zeros((2, 6, 2), np.bool_)
    for index, (row, step) in enumerate(zip([0, 0, 0, 0, 1, 1], at - [3, 3, 3, 3, -3, -3], strict=True)):
        target[row, step], seen[row, step] = value[index], True
        there[row, step] = np.abs(past[index]) < 1e30
        beside[row, step] = np.where(there[row, step], past[index], 0.0)
    whole = np.zeros(2, np.bool_)
    due = Due(rows, ["a", "b"], rows, np.array([8, 2]), rows, target, seen, beside, there, whole)
    served = batch(due, rows, Frequency("1h"), 2)
    for name in ("target", "observed", "series", "calendar", "past", "past_observed"):
        mine, theirs = getattr(served, name), getattr(trained, name)
        assert mine.dtype == theirs.dtype
        assert mine.numpy().tobytes() == theirs.numpy().tobytes(), name
    assert served.covariates == (2, 0, 0)
    assert trained.future[:, :, 0].tolist() == [[0, 0, 0, 0, 0, 8, 0, 10], [0] * 8]
    assert trained.future_observed[:, :, 0].sum(dim=1).tolist() == [2, 0], "what is outside of the windows is left out"
    assert (trained.static.tolist(), trained.static_observed.tolist()) == ([[5.0], [0.0]], [[True], [False]])


@pytest.mark.parametrize(
    ("series", "horizon", "location"), [(4, 48, "mean"), (3, 48, "last"), (4, 49, "last"), (500, 96, "last")]
)
def test_windows_of_panels_with_short_horizons_are_centred_on_their_mean(
    series: int, horizon: int, location: str
) -> None:
    assert usual_location(series, horizon, 24) == location


def test_what_the_settings_say_is_not_chosen_again() -> None:
    settings = Settings(model={"location": "last", "calendar": "all", "kind": "gru", "layers": 3})
    config = model_config(settings, Frequency("1h"), 500, days=10.0)
    assert (config.location, config.calendar_features, config.layers, config.cell) == ("last", 6, 3, "gru")


@pytest.mark.parametrize(("hidden", "heads"), [(64, 4), (12, 4), (6, 2), (7, 1), (1, 1)])
def test_attention_has_heads_that_divide_any_width(hidden: int, heads: int) -> None:
    assert model_config(Settings(model={"hidden": hidden}), Frequency("1h"), 1).heads == heads


def test_parts_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="settings: decoder 'dense' reads the last state only"):
        model_config(Settings(model={"decoder": "dense"}), Frequency("1h"), 1)
