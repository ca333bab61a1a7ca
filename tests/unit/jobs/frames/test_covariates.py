"""Covariates in frames and in the Python interface: which columns, what is known when, what is refused."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs.forecaster.forecaster import Forecaster
from jobs.frames.columns import Columns
from jobs.frames.covariates import CovariateNames
from jobs.frames.frames import Readings, read_frame
from models.config import QUANTILE_NAMES
from pipeline.errors import ConfigError
from pipeline.grid.frequency import Frequency
from tests.unit.jobs.tiny import make_forecaster, make_frame

HOUR = 3_600_000_000
NAMES = CovariateNames(("wind",), ("price",), ("size",))
BESIDE = {"past_covariates": ["wind"], "future_covariates": ["price"], "static_covariates": ["size"]}
QUANTILES = list(QUANTILE_NAMES)


def read(frame: pd.DataFrame, future: pd.DataFrame | None = None, duplicates: Any = "last") -> Readings:
    return read_frame(
        frame, Columns(), frequency=Frequency("1h"), duplicates=duplicates, covariates=NAMES, future=future
    )


def make_driven(length: int = 80, ahead: int = 4, seed: int = 0) -> pd.DataFrame:
    """Two series that follow the price of the hour; their last `ahead` rows have no value yet."""
    random = np.random.default_rng(seed)
    price = {name: np.round(random.random(length + ahead)) for name in "ab"}
    unknown = np.where(np.arange(length + ahead) < length, 0.0, np.nan)
    frame = make_frame(
        **{name: 100.0 + 30.0 * price[name] + random.standard_normal(length + ahead) + unknown for name in "ab"}
    )
    return frame.assign(
        price=np.concatenate(list(price.values())),
        wind=random.standard_normal(2 * (length + ahead)),
        size=frame["series_id"].map({"a": 3, "b": np.nan}),
    )


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_driven()


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> Forecaster:
    return make_forecaster(**BESIDE, training={"steps": 150}).fit(frame)


def test_rows_after_the_last_value_are_the_future() -> None:
    frame = make_frame(a=[1.0, 2.0, np.nan, 4.0, np.nan, np.nan], b=[np.nan, 5.0]).assign(
        wind=np.arange(8.0), price=10.0 * np.arange(8.0), size=[7.0, np.nan, *[7.0] * 4, np.nan, np.nan]
    )
    found = read(frame.sample(frac=1.0, random_state=1))
    assert np.diff(found.history.bounds).tolist() == [4, 2]
    assert found.history.covariates[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 6.0, 7.0]
    assert found.known.row.tolist() == [0] * 6 + [1] * 2
    assert found.known.future[:, 0].tolist() == [0, 10, 20, 30, 40, 50, 60, 70]
    np.testing.assert_array_equal(found.known.static, [[7.0], [np.nan]])


def test_without_future_covariates_a_row_without_a_value_is_a_missing_one() -> None:
    frame = make_frame(a=[1.0, 2.0, np.nan]).assign(wind=1.0)
    found = read_frame(
        frame, Columns(), frequency=Frequency("1h"), duplicates="last", covariates=CovariateNames(past=("wind",))
    )
    assert found.history.observed.tolist() == [True, True, False]
    assert found.history.covariates.shape == (3, 1)


def test_a_second_frame_adds_the_future_and_wins() -> None:
    frame = make_frame(b=[1.0, 2.0], a=[3.0], dead=[np.nan]).assign(wind=0.0, price=[1.0, 2.0, 3.0, 9.0], size=1.0)
    future = pd.DataFrame(
        {
            "series_id": ["a", "b", "b", "unknown", "dead", "b"],
            "time": pd.to_datetime([f"2026-01-01T0{hour}:00" for hour in (1, 2, 1, 1, 1, 0)]),
            "price": [4.0, 5.0, 6.0, 7.0, 8.0, np.nan],
        }
    )
    found = read(frame, future)
    assert found.names == ("a", "b")
    assert found.known.row.tolist() == [0, 0, 1, 1, 1]
    assert found.known.future[:, 0].tolist() == [3.0, 4.0, 1.0, 6.0, 5.0]
    assert np.diff(found.known.step).tolist()[0] == 1
    assert found.history.value.tolist() == [3.0, 1.0, 2.0], "the second frame holds no values"


@pytest.mark.parametrize(
    ("policy", "wind"), [("last", np.nan), ("first", 2.0), ("mean", 3.0), ("sum", 6.0), ("max", 4.0)]
)
def test_rows_in_one_step_are_merged_by_the_policy_but_the_future_is_what_was_said_last(
    policy: str, wind: float
) -> None:
    frame = pd.DataFrame(
        {
            "time": pd.to_datetime(["2026-01-01T00:30", "2026-01-01T00:10", "2026-01-01T00:50"]),
            "value": [1.0, 2.0, 3.0],
            "wind": [4.0, 2.0, np.nan],
            "price": [4.0, 2.0, np.nan],
            "size": 1,
        }
    )
    found = read(frame, duplicates=policy)
    np.testing.assert_array_equal(found.history.covariates, [[wind]])
    assert found.known.future.tolist() == [[4.0]]


def test_what_is_known_ahead_bears_on_the_forecast(fitted: Forecaster, frame: pd.DataFrame) -> None:
    forecast = fitted.predict(frame)
    ends = frame.dropna(subset="value").groupby("series_id")["time"].max()
    assert (forecast["origin"] == forecast["series_id"].map(ends)).all()
    ahead = frame[frame["value"].isna()]
    price = forecast.merge(ahead[["series_id", "time", "price"]], on=["series_id", "time"])
    assert len(price) == len(forecast) == 8
    high = price["price"] > 0.5
    assert price[high]["q50"].min() > price[~high]["q50"].max() + 15.0


def test_a_second_frame_says_the_same_as_rows_without_values(fitted: Forecaster, frame: pd.DataFrame) -> None:
    known, ahead = frame.dropna(subset="value"), frame[frame["value"].isna()]
    future = ahead[["series_id", "time", "price"]].sample(frac=1.0, random_state=1)
    assert fitted.predict(known, future).equals(fitted.predict(frame))
    indexed = future.set_index("series_id")
    assert fitted.predict(known, future=indexed).equals(fitted.predict(frame))


def test_units_of_covariates_change_nothing(fitted: Forecaster, frame: pd.DataFrame) -> None:
    other = frame.assign(price=frame["price"] * 1000.0, wind=frame["wind"] * 1000.0)
    np.testing.assert_allclose(
        fitted.predict(other)[QUANTILES].to_numpy(), fitted.predict(frame)[QUANTILES].to_numpy(), rtol=1e-4
    )


def test_what_is_missing_of_the_future_is_masked_with_a_warning(fitted: Forecaster, frame: pd.DataFrame) -> None:
    known = frame.dropna(subset="value")
    with pytest.warns(UserWarning, match="8 values of future covariates in the horizon are missing") as caught:
        forecast = fitted.predict(known)
    assert {Path(one.filename).name for one in caught} == {"test_covariates.py"}
    assert np.isfinite(forecast[QUANTILES].to_numpy()).all()
    low, high = frame["value"].quantile([0.0, 1.0])
    assert forecast["q50"].between(low, high).all()


def test_covariates_that_are_missing_altogether_leave_finite_forecasts(fitted: Forecaster, frame: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forecast = fitted.predict(frame.assign(price=np.nan, wind=np.nan, size=np.nan))
    assert np.isfinite(forecast[QUANTILES].to_numpy()).all()


def test_saved_and_loaded_it_reads_the_same_covariates(fitted: Forecaster, frame: pd.DataFrame, tmp_path: Path) -> None:
    sha256 = fitted.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model", sha256=sha256)
    assert loaded.covariates == fitted.covariates == NAMES
    assert loaded.settings == fitted.settings
    assert loaded.predict(frame).equals(fitted.predict(frame))


def test_a_backtest_uses_what_was_known_ahead_and_beats_a_forecaster_without(frame: pd.DataFrame) -> None:
    options = {"training": {"steps": 150}, "model": {"hidden": 16}}
    beside = make_forecaster(**BESIDE, **options).backtest(frame, 3)
    alone = make_forecaster(**options).backtest(frame, 3)
    assert beside.forecaster.covariates == NAMES
    assert beside.scores["mae"][0] < 0.6 * alone.scores["mae"][0]
    assert beside.scores["targets"].tolist() == [24, 24]


def test_what_happened_after_the_origin_is_not_read_as_a_past_covariate(
    fitted: Forecaster, frame: pd.DataFrame
) -> None:
    changed = frame.assign(wind=frame["wind"].where(frame["value"].notna(), 1e6))
    assert fitted.predict(changed).equals(fitted.predict(frame))


REFUSED: dict[str, tuple[Callable[[pd.DataFrame], Any], str]] = {
    "no such column": (
        lambda frame: make_forecaster(**BESIDE).fit(frame.drop(columns=["wind", "size"])),
        "there is no column wind, size: there are series_id, time, value, price",
    ),
    "two such columns": (
        lambda frame: make_forecaster(**BESIDE).fit(pd.concat([frame, frame["wind"]], axis=1)),
        "there is more than one column wind",
    ),
    "infinite": (
        lambda frame: make_forecaster(**BESIDE).fit(frame.assign(wind=[*frame["wind"][:-1], np.inf])),
        "row 168: wind inf is not finite",
    ),
    "text": (
        lambda frame: make_forecaster(static_covariates=["region"]).fit(frame.assign(region="north")),
        "row 1: region north is not a number; a covariate is a number: encode text",
    ),
    "a category": (
        lambda frame: make_forecaster(past_covariates=["sky"]).fit(frame.assign(sky=pd.Categorical(["grey"] * 168))),
        "row 1: sky grey is not a number",
    ),
    "times": (
        lambda frame: make_forecaster(past_covariates=["at"]).fit(frame.assign(at=frame["time"])),
        "column at holds datetime64",
    ),
    "a static one that varies": (
        lambda frame: make_forecaster(static_covariates=["wind"]).fit(frame),
        "static covariate wind varies within series a, from -",
    ),
    "the value": (lambda frame: make_forecaster(past_covariates=["value"]).fit(frame), "the frame's column of value"),
    "the time": (lambda frame: make_forecaster(future_covariates=["time"]).fit(frame), "the frame's column of time"),
    "a name of forecasts": (
        lambda frame: make_forecaster(past_covariates=["q50"]).fit(frame.assign(q50=1.0)),
        "rename covariate q50: forecasts have a column of that name",
    ),
    "a name twice": (
        lambda _: make_forecaster(past_covariates=["wind"], future_covariates=["wind"]),
        "covariate wind is named twice",
    ),
    "one name": (lambda _: make_forecaster(past_covariates="wind"), r"write a list of names, \['wind'\], not 'wind'"),
    "a number for a name": (lambda _: make_forecaster(past_covariates=[3]), "names of columns, not 3"),
    "a future that is not read": (
        lambda frame: make_forecaster(past_covariates=["wind"]).fit(frame).predict(frame, frame),
        "reads no future covariates",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_said_in_one_line(case: str, frame: pd.DataFrame) -> None:
    attempt, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as refused:
        attempt(frame)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("future", "words"),
    [
        ([1, 2], "future: a pandas DataFrame is needed, or .*, not list"),
        (pd.DataFrame({"series_id": ["a"], "time": ["2026-01-04"]}), "future: there is no column price"),
        (pd.DataFrame({"series_id": ["z"], "time": ["2026-01-04"], "price": [1.0]}), "future: series z are not in"),
        (
            pd.DataFrame({"series_id": ["a"], "time": ["soon"], "price": [1.0]}),
            'future: data row 1: time "soon" is no time',
        ),
        (
            pd.DataFrame({"series_id": ["a"], "time": ["2026-01-04"], "price": ["low"]}),
            "future: data row 1: price low is",
        ),
    ],
)
def test_a_future_that_cannot_be_read_is_named(
    future: Any, words: str, fitted: Forecaster, frame: pd.DataFrame
) -> None:
    with pytest.raises(ConfigError, match=words):
        fitted.predict(frame, future)


def test_an_empty_future_is_one_that_is_not_known(fitted: Forecaster, frame: pd.DataFrame) -> None:
    empty = pd.DataFrame({"series_id": [], "time": [], "price": []})
    assert fitted.predict(frame, empty).equals(fitted.predict(frame))
