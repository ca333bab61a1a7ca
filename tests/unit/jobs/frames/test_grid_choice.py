"""The grid of a frame has the steps that its rows have, whatever zone, phase or end of a period they come from."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from jobs.frames.columns import Columns
from jobs.frames.frames import read_frame
from jobs.frames.grid_choice import wish_for
from pipeline.errors import ConfigError

BERLIN = "Europe/Berlin"


def regular(first: str, frequency: str, zone: str | None = None, count: int = 120) -> pd.DatetimeIndex:
    return pd.date_range(first, periods=count, freq=frequency, tz=zone, unit="us")


CASES = {
    "days of Berlin": (regular("2024-02-01", "D", BERLIN), None, "1D in Europe/Berlin"),
    "days of Berlin, told": (regular("2024-02-01", "D", BERLIN), "1D", "1D in Europe/Berlin"),
    "days of Auckland": (regular("2024-02-01", "D", "Pacific/Auckland"), "D", "D in Pacific/Auckland"),
    "months of Berlin": (regular("2014-02-01", "MS", BERLIN), None, "MS in Europe/Berlin"),
    "months of New York": (regular("2014-02-01", "ME", "America/New_York"), "ME", "ME in America/New_York"),
    "gas days": (regular("2024-02-01 06:00", "D", BERLIN), None, "1D in Europe/Berlin, 6 h after"),
    "days at six": (regular("2024-02-01 06:00", "D"), "1D", "1D, 6 h after"),
    "a fixed offset": (regular("2024-02-01", "D", "+05:30"), "D", "D, 18 h 30 min after"),
    "business days": (regular("2024-02-01", "B", "America/New_York"), None, "B in America/New_York"),
    "ends under starts": (regular("2014-02-01", "ME"), "MS", "ME"),
    "starts under ends": (regular("2014-02-01", "MS"), "ME", "ME, 1 day after"),
    "quarters' ends": (regular("1994-02-01", "QE"), "QS", "QE-DEC"),
    "other quarters": (regular("1994-02-01", "QS-FEB"), "QS", "QS-FEB"),
    "years' starts": (regular("1904-02-01", "YS"), "YE", "YE, 1 day after"),
    "Mondays under W": (regular("2014-02-01", "W-MON"), "W", "W, 1 day after"),
    "7D from a Wednesday": (regular("2024-01-03", "7D"), "7D", "7D, 6 day after"),
    "odd hours": (regular("2024-02-01 01:00", "2h"), "2h", "2h, 1 h after"),
    "hours in UTC over a change of clocks": (regular("2024-03-28", "2h", BERLIN), "2h", "2h, 1 h after"),
    "hours of Kolkata": (regular("2024-02-01", "h", "Asia/Kolkata"), None, "1h in Asia/Kolkata"),
    "the same in UTC": (regular("2024-02-01", "h", "Asia/Kolkata").tz_convert("UTC"), "1h", "1h, 30 min after"),
    "17 past": (regular("2024-02-01 00:17:03", "h"), "1h", "1h, 17 min 3 s after"),
    "on the grid": (regular("2024-02-01", "h"), "1h", "1h"),
}


@pytest.mark.parametrize(("times", "frequency", "words"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("order", ["in order", "shuffled"])
def test_every_row_is_a_step_of_its_own_at_its_own_time(
    times: pd.DatetimeIndex, frequency: str | None, words: str, order: str
) -> None:
    frame = pd.DataFrame({"time": times, "value": np.arange(len(times)) % 7.0})
    frame = frame if order == "in order" else frame.sample(frac=1.0, random_state=0)
    readings = read_frame(frame, Columns(), frequency=wish_for(frequency, None, None), duplicates=None)
    assert readings.frequency.words == words
    kept = pd.DatetimeIndex(readings.history.observed_at.astype("datetime64[us]"))
    expected = times if times.tz is None else times.tz_convert("UTC").tz_localize(None)
    assert list(kept) == list(expected)
    assert not [note for note in readings.notes() if "between two steps" in note]


def test_forecasts_of_gas_days_are_gas_days_and_a_saved_forecaster_keeps_its_grid(tmp_path: object) -> None:
    times = regular("2024-02-01 06:00", "D", BERLIN)
    frame = pd.DataFrame({"time": times, "value": np.arange(len(times)) % 7.0})
    small = {"training": {"steps": 2}, "model": {"hidden": 8}}
    forecaster = Forecaster(horizon=4, context=28, **small).fit(frame[:-4])  # type: ignore[arg-type]
    assert list(forecaster.predict(frame[:-4])["time"]) == list(times[-4:])
    forecaster.save(f"{tmp_path}/model")
    again = Forecaster.load(f"{tmp_path}/model")
    assert again.frequency.words == "1D in Europe/Berlin, 6 h after"
    assert list(again.predict(frame[:-4])["time"]) == list(times[-4:])


def test_a_zone_is_that_of_times_without_an_offset() -> None:
    times = regular("2024-02-01", "D")
    frame = pd.DataFrame({"time": times.strftime("%Y-%m-%d"), "value": np.arange(len(times)) % 7.0})
    forecaster = Forecaster("1D", timezone=BERLIN)
    read = forecaster.read(frame)
    assert list(pd.DatetimeIndex(read.history.observed_at.astype("datetime64[us]"), tz="UTC")) == list(
        times.tz_localize(BERLIN).tz_convert("UTC")
    )


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Pacific/Auckland"])
def test_local_midnights_in_utc_are_said_with_what_to_give(zone: str) -> None:
    times = regular("2024-02-01", "D", zone, 300).tz_convert("UTC")
    frame = pd.DataFrame({"time": times, "value": np.arange(len(times)) % 7.0})
    said = read_frame(frame, Columns(), frequency=wish_for("1D", None, None), duplicates=None).notes()
    assert any(f"rows are steps of 1D in {zone}, or of" in note and f"give timezone='{zone}'" in note for note in said)
    assert "300 of 300 rows are between two steps of 1D, and count for the one before" in said
    read = Forecaster("1D", timezone=zone).read(frame)
    assert (read.history.observed_at.astype("datetime64[us]") == times.tz_localize(None).to_numpy()).all()


def test_irregular_rows_have_no_phase_and_are_counted() -> None:
    random = np.random.default_rng(0)
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.sort(random.integers(0, 40 * 86_400, 500)), unit="s")
    frame = pd.DataFrame({"time": times, "value": random.normal(size=500)})
    readings = read_frame(frame, Columns(), frequency=wish_for("1h", None, None), duplicates="mean")
    assert readings.frequency.phase == 0
    readings = read_frame(frame, Columns(), frequency=wish_for("1h", None, None), duplicates=None)
    assert "500 of 500 rows are between two steps of 1h, and count for the one before" in readings.notes()


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ((None, "Mars", None), "series.timezone 'Mars' is not a time zone"),
        ((None, ZoneInfo(BERLIN), None), "timezone .* is not the name of a time zone"),
        (("1h", None, "2h"), "series.phase must be"),
        (("1D", None, 1e18), "series.phase must be whole seconds, at least 0 and less than a step of 1D"),
        (("1h", None, "soon"), "phase 'soon' is not a duration"),
        (("1h", None, 0.5), "phase must be 'auto', or a duration of whole seconds"),
    ],
)
def test_what_is_no_part_of_a_grid_is_refused_in_words(wish: tuple[object, object, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        wish_for(*wish)
