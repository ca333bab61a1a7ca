"""Every key of [training] and [model] that the Python interface takes has its effect, or is refused in words."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jobs.clock.outcome import Stage
from jobs.forecaster.fitting import ONLY_SERVICE, SERVED
from jobs.forecaster.forecaster import Forecaster
from models.network.heads import QuantileHead
from pipeline.errors import ConfigError
from pipeline.settings import ModelSettings, TrainingSettings
from tests.unit.jobs.tiny import make_forecaster, make_frame, make_wave

Change = dict[str, Any]
POINT = {"loss": "mse"}
LONG = {"steps": 40}
TRAINING: dict[str, tuple[Change, Change]] = {
    "loss": ({"loss": "mae"}, POINT),
    "optimizer": ({"optimizer": "rmsprop"}, {}),
    "schedule": ({"schedule": "constant"}, {}),
    "steps": ({"steps": 7}, {}),
    "patience": ({"patience": 1}, {"steps": 200, "learning_rate": 1.0}),
    "refit": ({"refit": 0.0}, {}),
    "batch": ({"batch": 5}, {}),
    "learning_rate": ({"learning_rate": 1e-4}, {}),
    "seed": ({"seed": 5}, {}),
    "members": ({"members": 2}, {}),
    "precision": ({"precision": "bfloat16"}, {}),
    "budget": ({"budget": 1e-3}, LONG),
    "history": ({"history": 30}, {}),
    "validation_steps": ({"validation_steps": 20}, {}),
    "mode": ({"mode": "warm"}, {}),
    "warm_steps": ({"warm_steps": 3}, {"mode": "warm"}),
    "recent": ({"recent": "30 hours"}, {"mode": "fine-tune"}),
    "search": ({"search": 6}, {}),
    "search_over": ({"search_over": ["learning_rate"]}, {"search": 4, "seed": 1}),
}
"""The change of each key, and what it is a change to."""
AGAIN = {"mode", "warm_steps", "recent"}
"""Keys that have their effect in a fit that starts from another one."""
SHOWN = {"device", "threads"}
"""Keys whose effect is seen in another way than in the forecast."""
MODEL: dict[str, tuple[Change, Change]] = {
    "kind": ({"kind": "lstm"}, {}),
    "cell": ({"cell": "lstm"}, {}),
    "layers": ({"layers": 2}, {}),
    "direction": ({"direction": "bidirectional"}, {}),
    "stack": ({"stack": "plain"}, {}),
    "attention": ({"attention": "none"}, {}),
    "decoder": ({"decoder": "recurrent"}, {}),
    "hidden": ({"hidden": 4}, {}),
    "segment": ({"segment": 2}, {}),
    "dropout": ({"dropout": 0.5}, {}),
    "calendar": ({"calendar": "none"}, {}),
    "location": ({"location": "mean"}, {}),
    "spread": ({"spread": "series"}, {}),
    "series_dim": ({"series_dim": 0}, {}),
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return make_frame(a=make_wave(), b=make_wave(50, level=5000.0, seed=2))


@pytest.fixture(scope="module")
def forecast(frame: pd.DataFrame) -> Callable[[Change, Change], np.ndarray]:
    """Forecasts after so many fits, each of which may start from the one before; each is made once."""
    made: dict[str, np.ndarray] = {}

    def find(training: Change, model: Change, fits: int = 1) -> np.ndarray:
        key = repr((training, model, fits))
        if key not in made:
            made[key] = fit(frame, training, model, fits)
        return made[key]

    return find


def fit(frame: pd.DataFrame, training: Change, model: Change, fits: int) -> np.ndarray:
    """Fit so many times and forecast."""
    forecaster = make_forecaster(training={"threads": 1} | training, model=model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training.mode")
        for _ in range(fits):
            forecaster.fit(frame)
        return forecaster.predict(frame).filter(regex="^q0|^q[1-9]").to_numpy()


def test_no_key_is_forgotten() -> None:
    assert set(TrainingSettings.model_fields) == set(TRAINING) | set(ONLY_SERVICE) | SHOWN
    floor = {"non_negative"}  # which is seen in test_non_negative
    assert set(ModelSettings.model_fields) == set(MODEL) | {SERVED} | floor


@pytest.mark.parametrize("key", TRAINING)
def test_a_key_of_training_changes_the_fit(key: str, forecast: Callable[..., np.ndarray]) -> None:
    change, before = TRAINING[key]
    assert set(change) == {key}
    fits = 2 if key in AGAIN else 1
    assert not np.array_equal(forecast(before | change, {}, fits), forecast(before, {}, fits))


@pytest.mark.parametrize("key", MODEL)
def test_a_key_of_model_changes_the_network(key: str, forecast: Callable[..., np.ndarray]) -> None:
    change, before = MODEL[key]
    assert not np.array_equal(forecast({}, before | change), forecast({}, before))


def test_a_key_that_is_the_services_alone_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"training\.max_rows has no effect here: .*; leave it away"):
        Forecaster("1h", 4, training={"max_rows": 5000})
    Forecaster("1h", 4, training={"max_rows": TrainingSettings.model_fields["max_rows"].default})
    with pytest.raises(ConfigError, match=r"model\.pretrained is for what the service serves first"):
        Forecaster("1h", 4, model={"pretrained": False})


def watch_threads(fit: Callable[..., Any]) -> tuple[list[int], list[str]]:
    """Threads at every stage of a fit, and the words of the first one."""
    seen: list[int] = []
    told: list[str] = []

    def note(stage: Stage) -> None:
        if stage.name == "fit":
            seen.append(torch.get_num_threads())
            told.append(stage.words)

    fit(on_stage=note)
    return seen, told


@pytest.fixture
def two_threads() -> Iterator[None]:
    """A process that computes on two threads, as a notebook's does."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("verb", ["fit", "fine_tune", "backtest"])
def test_threads_are_those_of_the_setting_during_the_fit_and_the_processs_own_after_it(
    verb: str, frame: pd.DataFrame, two_threads: None
) -> None:
    forecaster = make_forecaster(training={"threads": 1}).fit(frame)
    seen, told = watch_threads(lambda **options: getattr(forecaster, verb)(frame, **options))
    assert set(seen) == {1}
    assert "cpu (1 threads)" in told[0]
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyboardInterrupt):
        getattr(forecaster, verb)(frame, on_stage=interrupt)
    assert torch.get_num_threads() == 2


def interrupt(stage: Stage) -> None:
    """Somebody presses Ctrl-C."""
    if stage.name == "fit":
        raise KeyboardInterrupt


def test_no_threads_are_chosen_by_what_is_free(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.fitting.cores.count_free", lambda: 2)  # the tests' own are one
    seen, _ = watch_threads(lambda **options: make_forecaster(training={"threads": 0}).fit(frame, **options))
    assert set(seen) == {2}


def test_a_device_that_is_not_there_is_refused(frame: pd.DataFrame) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match=r"training\.device cuda is not available"):
        make_forecaster(training={"device": "cuda"}).fit(frame)


def test_a_fine_tune_goes_on_from_the_weights_in_hand(frame: pd.DataFrame) -> None:
    quiet = {"warm_steps": 1, "learning_rate": 1e-9, "refit": 0.0, "recent": "40 hours"}
    forecaster = make_forecaster(training=quiet).fit(frame)
    before = forecaster._trained()
    more = make_frame(b=make_wave(50, level=5000.0, seed=2), c=make_wave(60, level=7.0, seed=5))
    forecaster.fine_tune(more)
    after = forecaster._trained()
    assert after.series == ("b", "c", "a"), "a is not in the frame and stays known"
    old, new = before.model.state_dict(), after.model.state_dict()
    assert torch.allclose(old["skip.weight"], new["skip.weight"], atol=1e-5)
    rows = (old["series.rows.weight"], new["series.rows.weight"])
    assert torch.allclose(rows[0][[2, 0, 1]], rows[1][1:], atol=1e-5)
    assert isinstance(after.model.head, QuantileHead)


def test_a_warm_fit_has_its_own_steps(frame: pd.DataFrame) -> None:
    forecaster = make_forecaster(training={"warm_steps": 3, "refit": 0.0}).fit(frame)
    stages: list[Stage] = []
    forecaster.fit(frame, warm=True, on_stage=stages.append)
    assert {stage.total for stage in stages if stage.name == "fit"} == {3}
    assert "from the fitted forecaster's weights" in stages[0].words


@pytest.mark.parametrize("verb", ["fine_tune", "fit"])
def test_weights_that_are_not_there_are_no_start(verb: str, frame: pd.DataFrame) -> None:
    options = {"warm": True} if verb == "fit" else {}
    with pytest.raises(ConfigError, match="there are no weights to start from: there is no fitted forecaster"):
        getattr(make_forecaster(), verb)(frame, **options)


def test_a_mode_without_weights_is_from_scratch_and_says_so(frame: pd.DataFrame) -> None:
    with pytest.warns(UserWarning, match="training.mode = 'fine-tune': this fit is from scratch") as caught:
        make_forecaster(training={"mode": "fine-tune"}).fit(frame)
    assert {warning.filename for warning in caught} == {__file__}


def test_a_fine_tuning_of_too_few_steps_names_the_key_that_makes_them_more(frame: pd.DataFrame) -> None:
    forecaster = make_forecaster(training={"threads": 1, "recent": "2 hours"}).fit(frame)
    with pytest.raises(ConfigError, match=r"too little history: .*: raise training\.recent, or lower the horizon"):
        forecaster.fine_tune(frame)
