from pathlib import Path

import numpy as np
import pytest

from models.config import QUANTILE_LEVELS
from pipeline.charts import Fan, Lines, _tell_apart, bars, save, save_lines, text
from pipeline.errors import ConfigError

HOUR = 3_600_000_000
START = 1_767_225_600_000_000  # 2026-01-01 00:00 UTC


def make_fan(past: int = 72, horizon: int = 24, level: float = 100.0, spread: float = 10.0, seen: int = 12) -> Fan:
    """A flat series at `level`, a fan of +-`spread` around it, and actuals at the level for the first `seen` hours."""
    times = START + HOUR * np.arange(past + horizon)
    offsets = spread * (np.array(QUANTILE_LEVELS) - 0.5) * 2
    actual = np.full(horizon, level)
    actual[seen:] = np.nan
    quantiles = np.tile(level + offsets, (horizon, 1))
    return Fan("meter-17", times[:past], np.full(past, level), times[past:], quantiles, actual)


def test_the_text_chart_fits_the_width_and_height_asked_for() -> None:
    lines = text(make_fan(), width=80, height=9)
    assert max(map(len, lines)) <= 80
    assert len(lines) == 9 + 2  # and the time axis and the legend


def test_the_text_chart_marks_the_past_the_interval_the_median_and_what_came() -> None:
    lines = text(make_fan(seen=12), width=120, height=11)
    middle = lines[5].partition("┤")[2]
    past, _, future = middle.partition("┊")
    assert set(past) == {"·"} and len(past) == 72
    assert future == "●" * 12 + "─" * 12
    assert all("░" in line for line in lines[1:4])


def test_the_text_chart_names_the_first_time_the_origin_and_the_last_target() -> None:
    axis = text(make_fan(past=72, horizon=24), width=120)[-2]
    assert axis.split() == ["2026-01-01", "00:00", "2026-01-03", "23:00", "2026-01-04", "23:00"]


def test_a_gap_in_the_past_is_left_blank() -> None:
    fan = make_fan()
    fan.history[10:20] = np.nan
    middle = text(fan, width=120, height=11)[5].partition("┤")[2]
    assert middle[:30] == "·" * 10 + " " * 10 + "·" * 10


@pytest.mark.parametrize("level", [0.0, 1e-9, -5.0, 3e12])
def test_a_constant_series_with_no_spread_still_draws(level: float) -> None:
    assert len(text(make_fan(level=level, spread=0.0))) == 14


def test_a_long_horizon_is_squeezed_into_half_of_a_narrow_terminal() -> None:
    lines = text(make_fan(past=500, horizon=400), width=60)
    assert all(len(line.partition("┤")[2]) <= 60 for line in lines[:-2])


def test_a_series_without_a_past_draws_its_forecast() -> None:
    assert len(text(make_fan(past=0))) == 14


def test_the_chart_file_is_a_png_with_all_series(tmp_path: Path) -> None:
    file = tmp_path / "chart.png"
    save([make_fan(), make_fan(level=-3.0)], file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_a_chart_that_cannot_be_written_is_an_error_for_a_person(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        save([make_fan()], tmp_path / "no" / "chart.png")
    with pytest.raises(ConfigError, match="cannot be written"):
        save([make_fan()], tmp_path / "chart.unknown")


def test_bars_are_as_high_as_their_share_of_the_top() -> None:
    assert bars(np.array([0.0, 0.5, 1.0]), 1.0) == "▁▅█"
    assert bars(np.array([np.nan, 2.0]), 2.0) == " █"
    assert bars(np.zeros(3), 0.0) == "▁▁▁"
    assert bars(np.repeat([0.0, 1.0], 50), 1.0, width=2) == "▁█"


@pytest.mark.parametrize("ideal", [False, True])
def test_lines_are_written_as_a_png(ideal: bool, tmp_path: Path) -> None:
    file = tmp_path / "lines.png"
    lines = {"tidecast": np.array([0.2, np.nan, 0.9]), "seasonal naive": np.full(3, np.nan)}
    save_lines(Lines("Error by step", "step", "MASE", np.arange(1.0, 4.0), lines, ideal=ideal), file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_the_axis_of_a_small_wave_on_a_large_level_tells_its_values_apart() -> None:
    assert _tell_apart([53.0, 51.5, 50.0]) == ["53", "51.5", "50"]
    assert _tell_apart([12_345.6, 1000.0, 999.0]) == ["12,346", "1,000", "999"]
    assert _tell_apart([50.002, 50.0, 49.998]) == ["50.002", "50", "49.998"]
    assert _tell_apart([1e9 + 0.2, 1e9 + 0.1, 1e9]) == ["1,000,000,000.2", "1,000,000,000.1", "1,000,000,000.0"]
    assert _tell_apart([7.0, 7.0, 7.0]) == ["7", "7", "7"]
