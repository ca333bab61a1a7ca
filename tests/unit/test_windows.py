"""What is chosen from the history where the settings leave it open."""

import pytest

from pipeline.errors import ConfigError
from pipeline.grid import Frequency
from pipeline.settings import Settings
from pipeline.windows import calendar_columns, model_config, usual_location


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


def test_parts_that_do_not_fit_are_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="settings: decoder 'dense' reads the last state only"):
        model_config(Settings(model={"decoder": "dense"}), Frequency("1h"), 1)
