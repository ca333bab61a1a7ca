"""The Python interface: fit, predict, backtest, save and load on long pandas frames, with the product's own parts.

forecaster = Forecaster("1h", 48).fit(frame)       frequency and horizon; Forecaster() finds the frequency
forecaster.predict(frame)        one row per series and step, a column per quantile
forecaster.backtest(frame)       a model of its own, fitted before the first origin
forecaster.save("model.safetensors")
Forecaster.pretrained("1h", 48).predict(frame)     without a fit, by the network that comes with tidecast
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from datetime import date
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from pydantic import ValidationError

from jobs.clock.outcome import OnStage, Stage
from jobs.forecaster import evaluation
from jobs.forecaster.backtest import Backtest
from jobs.forecaster.charts import draw_forecast
from jobs.forecaster.fitting import (
    AFRESH,
    Recipe,
    TooShort,
    as_it_came,
    backtest_frame,
    choose_beginning,
    fall_back,
    fit_frame,
    refuse_service_keys,
    settle_series,
    write_model,
)
from jobs.frames.columns import Columns
from jobs.frames.covariates import CovariateNames
from jobs.frames.frames import Readings, read_frame, write_frame
from jobs.frames.grid_choice import Wish, wish_for
from jobs.frames.series_names import note_names
from jobs.retraining.training_set import find_rows, name_series
from models.artifact import ArtifactError, Loaded, unpack
from models.config import COVARIATES
from models.network.baselines import SeasonalNaive
from models.panel import Panel
from models.presets import PRETRAINED
from pipeline import charts as chart
from pipeline.errors import ConfigError
from pipeline.forecasting.windows import lay_out
from pipeline.grid.frequency import Frequency
from pipeline.settings import InputSettings, ModelSettings, SeriesSettings, Settings, TrainingSettings
from pipeline.settings.removed import drop_removed
from pipeline.settings.sources import explain

GIVEN = ("timezone", "phase", "duplicates", "columns", "model", "training", "time_unit", "oldest_time")
"""What a saved model keeps of how it was made, besides its config."""


class Forecaster:
    """A forecaster of the settings' network for long frames of one frequency.

    frequency: as pandas writes it; timezone: name of the zone by whose clocks steps begin, and of times that have no
    offset; phase: from there to the steps, as "6h"; `fit` and `backtest` find from the frame what is left away.
    context: steps that the network sees; season: steps; both are found from the frequency if left away. duplicates:
    last, first, mean, sum or max of the rows in one step; if left away the last counts, and many such rows are refused.
    columns: {"series_id", "time", "value"} to the frame's names; found if left away (also Nixtla's unique_id, ds, y),
    and without a column of series the frame is one series. model, training: keys of the settings' sections of that
    name, {"hidden": 32}, {"steps": 300, "budget": "2 min", "seed": 1}.
    past_covariates, future_covariates, static_covariates: names of columns of numbers that are read beside the values:
    known up to the origin, known before it happens, the same all through a series. time_unit, oldest_time: of times
    that are numbers (auto, s, ms, us or ns), and the oldest day that is believed, as the settings of [input] say.

    Times without an offset are UTC. Rows may come in any order; gaps and NaN are missing; series may have different
    lengths and ends, and each is forecast from its own last row; with future covariates, from its last row with a
    value, as the rows after it are its future. All of a frame is used unless training.history is given; keys of
    [training] that concern the service alone are refused. Raises ConfigError for what cannot work.
    """

    def __init__(  # noqa: PLR0913 - what a forecaster is made of, all by name
        self,
        frequency: str | None = None,
        horizon: int = 48,
        *,
        timezone: str | None = None,
        phase: str | float | None = None,
        context: int | None = None,
        season: int | None = None,
        duplicates: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        model: Mapping[str, Any] | None = None,
        training: Mapping[str, Any] | None = None,
        past_covariates: Iterable[str] | None = None,
        future_covariates: Iterable[str] | None = None,
        static_covariates: Iterable[str] | None = None,
        time_unit: str = "auto",
        oldest_time: date | str | None = None,
    ) -> None:
        refuse_service_keys(training or {}, model or {})
        self._wish = wish_for(frequency, timezone, phase)
        self._lengths = (context, season)
        self.columns = Columns.of(columns)
        self.covariates = CovariateNames.of(past=past_covariates, future=future_covariates, static=static_covariates)
        chosen = {"horizon": horizon} | ({} if duplicates is None else {"duplicates": duplicates})
        try:
            self.settings = Settings.model_construct(
                input=InputSettings.model_validate({"time_unit": time_unit, "oldest_time": oldest_time}).model_copy(
                    update={"covariates": self.covariates.past}
                ),
                series=SeriesSettings.model_validate(chosen),
                model=ModelSettings.model_validate(dict(model or {})),
                training=TrainingSettings.model_validate(dict(training or {})),
            )
        except ValidationError as error:
            raise ConfigError(f"Forecaster: {explain(error)}") from error
        if self.settings.model.kind == PRETRAINED and any(self.covariates.keywords().values()):
            warnings.warn("the pretrained network reads no covariates: another model.kind does", stacklevel=2)
        self._frequency: Frequency | None = None
        if self._wish.frequency is not None:
            self._settle(Frequency(self._wish.frequency, timezone or "UTC", self._wish.phase or 0))
        self._loaded: Loaded | None = None

    @classmethod
    def pretrained(cls, frequency: str | None = None, horizon: int = 48, **options: Any) -> Self:
        """Make a forecaster of kind "pretrained", which predicts without a fit: `Forecaster.pretrained("1h", 24)`.

        options: those of the class; it reads no covariates. `fit` goes on from its weights with the frame's history.
        """
        model = {"kind": PRETRAINED, **(options.pop("model", None) or {})}
        if model["kind"] != PRETRAINED:
            raise ConfigError(f"kind {model['kind']} is not pretrained: make it by Forecaster(...) and fit it")
        return cls(frequency, horizon, model=model, **options)

    @property
    def frequency(self) -> Frequency:
        """The grid's: the one given, or the one that `fit` found; ConfigError before that."""
        if self._frequency is None:
            raise ConfigError("this forecaster has no frequency yet: fit it, or give one, as Forecaster('1h')")
        return self._frequency

    @property
    def found_frequency(self) -> bool:
        """Whether the frequency was found from a frame, as none was given."""
        return self._wish.frequency is None and self._frequency is not None

    def read(self, frame: pd.DataFrame, future: pd.DataFrame | None = None) -> Readings:
        """Lay a frame on the grid as `fit` does; warns of what a reader may not expect."""
        return self._read(frame, self._grid(), future)

    def fit(self, frame: pd.DataFrame, *, warm: bool = False, on_stage: OnStage | None = None) -> Self:
        """Train on every series of the frame; the last horizon of each only chooses the best weights.

        From scratch, or as `training.mode` says from the weights that this forecaster has: `warm`, for
        `training.warm_steps`, or fine-tune, as `fine_tune` does. ConfigError for `warm` without weights. Where no
        series has steps to learn from, seasonal naive forecasts, or the pretrained network as it came, with a warning.
        """
        return self._fit(frame, "warm" if warm else self.settings.training.mode, on_stage, must=warm)

    def fine_tune(self, frame: pd.DataFrame, *, on_stage: OnStage | None = None) -> Self:
        """Go on from this forecaster's weights, only with the last `training.recent` of the frame.

        For `training.warm_steps` at a tenth of `training.learning_rate`. Series that the frame lacks stay
        known, those that are new start as unknown ones. ConfigError when it is not fitted.
        """
        return self._fit(frame, "fine-tune", on_stage, must=True)

    def predict(self, frame: pd.DataFrame, future: pd.DataFrame | None = None) -> pd.DataFrame:
        """Forecast the horizon after each series' last row: series, time, origin, step, q025 ... q975, quality.

        Future covariates over the horizon are in `frame`, in rows without a value, or in `future`: series, time and
        covariates, of which those of `future` win. Missing ones are masked, with a warning that says how many.

        A series that was not in the training data is served as an unknown one. quality, as in the product: ok;
        degraded when less than half of the context was observed, or it moves by less than float64 holds at its level;
        fallback when the network's answer was not finite, or nothing could be trained, or a window has fewer values
        than it needs, and seasonal naive's stands in.
        Series without an observed value in their context are left out, with a warning.
        """
        if future is not None and not self.covariates.future:
            raise ConfigError("this forecaster reads no future covariates: leave `future` away, or name them and fit")
        if not self._loaded and self.settings.model.kind == PRETRAINED:
            readings = self._read(frame, self._wish, future)
            self._settle(readings.frequency)
        else:
            self._trained()
            readings = self._read(frame, self.frequency, future)
        loaded = self._trained()
        panel = self._lay_out(readings)
        ends = panel.length.numpy()
        rows = np.arange(len(panel))
        context = self.settings.series.context
        seen = evaluation.count_observed(panel, rows, ends - context, ends) / context
        if not seen.all():
            silent = [readings.names[row] for row in rows[seen == 0.0]]
            words = f"{', '.join(silent[:5])}: no observed value in the last {context} steps"
            if len(silent) == len(rows):
                raise ConfigError(f"series {words}: there is nothing to forecast from")
            warnings.warn(f"series {words}; left out", stacklevel=2)
        rows, ends, seen = rows[seen > 0.0], ends[seen > 0.0], seen[seen > 0.0]
        missing = evaluation.count_unknown(panel, rows, ends, self.settings.series.horizon)
        if missing:
            warnings.warn(f"{missing:,} values of future covariates in the horizon are missing", stacklevel=2)
        for note in note_names(readings.names, readings.kind, loaded.series, loaded.provenance.get("series_kind")):
            warnings.warn(note, stacklevel=2)
        panel = name_series(panel, find_rows(readings.names, loaded.series))
        quantiles, broken = evaluation.forecast_finite(loaded.model, panel, rows, ends)
        full = (seen >= self.settings.series.min_observed) & ~evaluation.find_coarse_windows(panel, rows, ends, context)
        broken |= isinstance(loaded.model, SeasonalNaive)
        quality = np.where(broken, "fallback", np.where(full, "ok", "degraded"))
        firsts = panel.first_step.numpy()[rows] + ends
        return write_frame(readings, rows, firsts, quantiles, frequency=self.frequency, more={"quality": quality})

    def backtest(
        self,
        frame: pd.DataFrame,
        origins: int | None = None,
        *,
        stride: int | None = None,
        common_time: bool = False,
        refit: bool | int = False,
        zero_shot: bool = False,
        on_stage: OnStage | None = None,
    ) -> "Backtest[Forecaster]":
        """Fit a forecaster on what was known before the first origin, and score it at every origin.

        Seasonal naive is scored on exactly the same (series, origin) pairs. The origins are `stride` steps apart (the
        horizon if left away) and end a horizon before each series' own end, or with `common_time` before the newest
        end of all, so that nothing later than the first origin is learned from any series. There are four if left away,
        more for few series, within a quarter of the data. The model is fitted once, or with `refit` anew before every
        origin (True) or every so many of them, from scratch or as training.mode says from the fit before. With
        `zero_shot` nothing is fitted: the pretrained network forecasts as it came. This forecaster stays as it is.
        """
        if int(refit) < 0:
            raise ConfigError(f"refit {refit} must be True, False or how many origins apart, at least 1")
        readings = self._read(frame, self._wish)
        judged = copy(self)
        judged._settle(readings.frequency)
        chosen = judged.settings.series
        panel = judged._lay_out(readings)
        held_out = evaluation.hold_out(
            panel,
            context=chosen.context,
            horizon=chosen.horizon,
            origins=origins,
            stride=stride,
            common_time=common_time,
        )
        mode = judged.settings.training.mode
        notes: tuple[str, ...] = ()
        if mode != "cold" and not refit and not zero_shot:
            notes = (f"training.mode = {mode!r} is left out: a backtest that fits once does so from scratch",)
            warnings.warn(notes[0], stacklevel=2)
        every = 0 if zero_shot else int(refit) or held_out.origins
        found, judged._loaded, fitted = backtest_frame(
            judged._recipe(), readings, held_out, every=every, on_stage=on_stage or _silent
        )
        report, search = (fitted.report, fitted.search) if fitted else (None, None)
        return Backtest(judged, readings, readings.frequency, found, report, search, notes)

    def plot(
        self,
        frame: pd.DataFrame,
        *,
        future: pd.DataFrame | None = None,
        series: Sequence[object] | None = None,
        file: str | Path | None = None,
    ) -> Any:
        """Draw the forecasts of three series, or of those named, after their history: a figure of matplotlib.

        It is written where a `file` is named (PNG, SVG or PDF by its suffix). ConfigError without matplotlib.
        """
        forecast = self.predict(frame, future)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # predict has said it
            readings = self.read(frame, future)
        fans = draw_forecast(forecast, readings, self._lay_out(readings), self.frequency, series)
        figure = chart.draw(fans)
        if file is not None:
            chart.write(figure, Path(file))
        return figure

    def __repr__(self) -> str:
        """What it forecasts, and whether it is fitted."""
        series, loaded = self.settings.series, self._loaded
        if loaded is None:
            state = "pretrained, as it came" if self.settings.model.kind == PRETRAINED else "not fitted"
        elif isinstance(loaded.model, SeasonalNaive):
            state = "seasonal naive"
        elif "pretrained" in loaded.provenance:
            state = "pretrained, as it came"
        else:
            state = f"{loaded.config.kind} fitted on {len(loaded.series):,} series"
        grid = repr(self._frequency.words) if self._frequency else "no frequency yet"
        return f"Forecaster({grid}, horizon={series.horizon}, context={series.context}: {state})"

    def save(self, path: str | Path) -> str:
        """Write the fitted model as one safetensors file, without the data; returns its SHA-256."""
        return write_model(self._trained(), Path(path))

    @classmethod
    def load(cls, path: str | Path, *, sha256: str | None = None) -> Self:
        """Read a saved model; ConfigError when the file is no model, or not the one with that SHA-256."""
        try:
            loaded = unpack(Path(path).read_bytes(), sha256=sha256)
        except OSError as error:
            raise ConfigError(f"the model cannot be read from {path}: {error.strerror}") from error
        except ArtifactError as error:
            raise ConfigError(f"{path}: {error}") from error
        config, written = loaded.config, loaded.provenance
        if "frequency" not in written:
            raise ConfigError(f"{path} does not say its frequency: it was not made by tidecast's training")
        given = drop_removed(written.get("forecaster", {}), lambda line: None)
        forecaster = cls(
            written["frequency"],
            config.horizon,
            context=config.context_length,
            season=config.season,
            **{name: given[name] for name in GIVEN if name in given},
            **{name: getattr(config, name) for name in COVARIATES},
        )
        forecaster._settle(Frequency(written["frequency"], written.get("timezone", "UTC"), written.get("phase", 0)))
        forecaster._loaded = loaded
        return forecaster

    def _grid(self) -> Frequency | Wish:
        """The grid of the data that this forecaster was fitted to, or what was wished for."""
        return self._wish if self._loaded is None else self.frequency

    def _read(self, frame: pd.DataFrame, grid: Frequency | Wish, future: pd.DataFrame | None = None) -> Readings:
        series, zone = self.settings.series, self._wish.timezone
        readings = read_frame(
            frame,
            self.columns,
            frequency=grid,
            duplicates=series.duplicates if "duplicates" in series.model_fields_set else None,
            covariates=self.covariates,
            future=future,
            times=self.settings.input.time_rule(zone),
        )
        for note in readings.notes():
            warnings.warn(note, stacklevel=3)
        return readings

    def _settle(self, frequency: Frequency) -> None:
        """Take a grid, and with it the season and the context that nobody chose."""
        self._frequency = frequency
        try:
            series = settle_series(self.settings.series, frequency, *self._lengths)
        except ValidationError as error:
            raise ConfigError(f"Forecaster: {explain(error)}") from error
        self.settings = self.settings.model_copy(update={"series": series})

    def _trained(self) -> Loaded:
        if self._loaded is None and self._frequency and self.settings.model.kind == PRETRAINED:
            self._loaded = as_it_came(self._recipe())
        if self._loaded is None:
            raise ConfigError("this forecaster is not fitted yet: call fit(frame), or Forecaster.load(path)")
        return self._loaded

    def _lay_out(self, readings: Readings) -> Panel:
        chosen = self.settings.series
        unnamed = np.zeros(len(readings.names), np.int64)
        return lay_out(
            readings.history,
            frequency=self.frequency,
            rows=unnamed,
            context=chosen.context,
            horizon=chosen.horizon,
            known=readings.known,
        )

    def _fit(self, frame: pd.DataFrame, mode: str, on_stage: OnStage | None, *, must: bool) -> Self:
        readings = self._read(frame, self._wish if mode == "cold" else self._grid())
        fresh = copy(self)  # a fit that does not end well leaves this forecaster as it was, on the grid of its model
        fresh._settle(readings.frequency)
        recipe = fresh._recipe()
        before = self._loaded
        if not before and mode != "cold" and self.settings.model.kind == PRETRAINED:
            before = as_it_came(recipe)
        start = choose_beginning(recipe, before, mode, must=must)
        panel = fresh._lay_out(readings)
        try:
            fresh._loaded, _ = fit_frame(recipe, readings, panel, panel, start, on_stage or _silent)
        except TooShort as error:
            if start.mode not in AFRESH:
                raise
            whose = "those of the pretrained network" if start.mode == PRETRAINED else "seasonal naive's"
            warnings.warn(f"{error}; until then the forecasts are {whose}", stacklevel=3)
            fresh._loaded = fall_back(recipe, panel)
        self._frequency, self.settings, self._loaded = fresh._frequency, fresh.settings, fresh._loaded
        return self

    def _recipe(self) -> Recipe:
        wish = self._wish
        return Recipe(self.frequency, self.settings, self.columns, self.covariates, wish.timezone, wish.phase)


def _silent(stage: Stage) -> None:
    """Show nothing."""
