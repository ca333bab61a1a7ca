"""The fit of the Python interface: from readings and a start to a model, with every key of [training] in effect.

training.history and max_rows belong to the service. Of them only history means something for a frame.
"""

import contextlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jobs.clock.outcome import OnStage, Stage
from jobs.forecaster import evaluation
from jobs.forecaster.evaluation import MODEL, Evaluation, HeldOut
from jobs.forecaster.evaluation import NAIVE as NAIVE_NAME
from jobs.frames.columns import Columns
from jobs.frames.covariates import CovariateNames
from jobs.frames.frames import Readings
from jobs.retraining.challenger import Fitted, fit_challenger
from jobs.retraining.history import count_recent
from jobs.retraining.training_set import Lineage, TrainingSet, drop_older, find_rows, name_series, usual_validation
from jobs.retraining.warm_start import COLD, Start, begin, choose_start
from models.artifact import Loaded, hash_artifact, pack
from models.config import QUANTILE_LEVELS, ModelConfig
from models.fitting.cpu import fitting_threads
from models.network.baselines import SeasonalNaive
from models.panel import Panel
from models.presets import NAIVE, PRETRAINED
from models.pretrained import load_pretrained
from pipeline.errors import ConfigError
from pipeline.forecasting.served import Champion
from pipeline.forecasting.windows import model_config, usual_context
from pipeline.grid.frequency import Frequency
from pipeline.records import Floats, Ints
from pipeline.settings import SeriesSettings, Settings, TrainingSettings
from pipeline.version import installed_version

ONLY_SERVICE: Mapping[str, str] = {
    "max_rows": "it bounds what the service reads from SQL, and of a frame all rows are used",
}
"""Keys of [training] that change nothing here, and why."""
SERVED = "pretrained"
"""The one of [model]."""


AFRESH = (COLD.mode, PRETRAINED)
"""How a fit starts that goes on from no forecaster."""


class TooShort(ConfigError):
    """No series has steps to learn from."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a forecaster is made of, beside its weights.

    timezone, phase: those given; times without an offset are of the zone, and a phase that is None is found.
    """

    frequency: Frequency
    settings: Settings
    columns: Columns
    covariates: CovariateNames
    timezone: str | None = None
    phase: float | None = None


def refuse_service_keys(training: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key of ONLY_SERVICE that somebody has set; its default says nothing."""
    if SERVED in model:
        raise ConfigError(f"Forecaster: model.{SERVED} is for what the service serves first: use Forecaster.pretrained")
    for key, reason in ONLY_SERVICE.items():
        if training.get(key, default := TrainingSettings.model_fields[key].default) != default:
            raise ConfigError(f"Forecaster: training.{key} has no effect here: {reason}; leave it away")


def choose_beginning(recipe: Recipe, before: Loaded | None, mode: str, *, must: bool) -> Start:
    """Start from the weights of `before` as `mode` says; where that cannot be, ConfigError if it `must`, or a warning.

    Series that `before` knows and the frame lacks stay known.
    """
    if mode == "cold":
        return begin(recipe.settings, recipe.frequency)
    chosen = recipe.settings.training.model_copy(update={"mode": mode})
    settings = recipe.settings.model_copy(update={"training": chosen})
    in_hand = Champion(1, before) if before else None
    start = choose_start(in_hand, settings, recipe.frequency, called="fitted forecaster")
    if start.mode in AFRESH:
        reason = start.words.partition(": ")[2]
        if must:
            raise ConfigError(f"{mode}: there are no weights to start from: {reason}; call fit(frame) first")
        warnings.warn(f"training.mode = {mode!r}: this fit is {start.words}", stacklevel=4)
    return start


def fit_frame(
    recipe: Recipe, readings: Readings, known: Panel, panel: Panel, start: Start, on_stage: OnStage
) -> tuple[Loaded, Fitted]:
    """Fit on `known`, the part of the `panel` that may be learned; TooShort when no series has two steps for it."""
    settings = recipe.settings
    training = settings.training
    if start.mode == "fine-tune":
        known = _keep_newest(known, count_recent(settings, recipe.frequency))
    elif "history" in training.model_fields_set:
        known = _keep_newest(known, training.history)
    validation = training.validation_steps or usual_validation(known.length.numpy(), settings.series.horizon)
    every = np.arange(len(known))
    counts = evaluation.count_observed(known, every, 0 * every, known.length.numpy() - validation)
    learned = tuple(name for name, count in zip(readings.names, counts, strict=True) if count >= 2)
    if not learned:
        raise TooShort(
            f"too little history: the longest series has {int(known.length.max())} steps to learn from, its last "
            f"{validation} choose the weights, and before them no series has two observed values: "
            f"{'raise training.recent' if start.mode == 'fine-tune' else 'give more history'}, or lower the horizon, "
            "the origins or training.validation_steps"
        )
    if start.champion:  # what it knows of series that are not in this frame
        learned += tuple(sorted(set(start.champion.series) - set(learned)))
    lineage = find_lineage(recipe, known, panel, len(learned))
    names = (recipe.covariates.future, recipe.covariates.static)
    trained_on = TrainingSet(readings.names, learned, panel, known, (), validation, lineage, *names)
    with fitting_threads(training.threads):
        fitted = fit_challenger(trained_on, start, settings, frequency=recipe.frequency, on_stage=on_stage)
    model = fitted.model.to("cpu").eval()
    searched = {"search": fitted.search.provenance()} if fitted.search else {}
    kind = {"series_kind": readings.kind}
    return Loaded(model, model.config, learned, describe_origin(recipe, lineage) | searched | kind), fitted


def fall_back(recipe: Recipe, panel: Panel) -> Loaded:
    """Make what forecasts where there is too little to train on: seasonal naive, or the wheel's network as it came."""
    if recipe.settings.model.kind == PRETRAINED:
        return as_it_came(recipe)
    config = replace(_shape(recipe), kind=NAIVE, members=1)
    origin = describe_origin(recipe, find_lineage(recipe, panel, panel, 0))
    return Loaded(SeasonalNaive(config).eval(), config, (), origin)


def as_it_came(recipe: Recipe) -> Loaded:
    """Make the network of the wheel for a recipe, without a fit."""
    loaded = load_pretrained(_shape(recipe))
    return loaded._replace(provenance=loaded.provenance | describe_origin(recipe, None))


def _shape(recipe: Recipe) -> ModelConfig:
    covariates = recipe.covariates
    return model_config(recipe.settings, recipe.frequency, 0, future=covariates.future, static=covariates.static)


def backtest_frame(
    recipe: Recipe, readings: Readings, held_out: HeldOut, *, every: int, on_stage: OnStage
) -> tuple[Evaluation, Loaded, Fitted | None]:
    """Fit before the first origin, and anew before each `every` origins after it, and score all pairs.

    A later fit begins as training.mode says from the one before; the first is from scratch, as is an only one. Returned
    are the newest model and its fit. With an `every` of 0 the network of the wheel forecasts as it came.
    """
    pairs, panel, horizon = held_out.pairs, held_out.panel, recipe.settings.series.horizon
    quantiles = np.full((len(pairs), horizon, len(QUANTILE_LEVELS)), np.nan)
    loaded: Loaded | None = None
    fitted: Fitted | None = None
    for known, inside in held_out.split(every or held_out.origins):
        if every:
            mode = recipe.settings.training.mode if loaded else COLD.mode
            start = choose_beginning(recipe, loaded, mode, must=False)
            loaded, fitted = fit_frame(recipe, readings, known, panel, start, on_stage)
        else:
            loaded = as_it_came(with_kind(recipe, PRETRAINED))
        on_stage(Stage("backtest", 0, 0, f"{int(inside.sum()):,} windows"))
        named = name_series(panel, find_rows(readings.names, loaded.series))
        rows, ends = pairs.rows[inside], pairs.ends[inside]
        device = fitted.device if fitted else "cpu"
        quantiles[inside], _ = evaluation.forecast_finite(loaded.model, named, rows, ends, device=device)
        loaded.model.to("cpu")
    assert loaded is not None, "there are pairs, so there is a part with some"
    config = loaded.config

    def naive(rows: Ints, ends: Ints) -> Floats:
        return evaluation.forecast_finite(SeasonalNaive(config), panel, rows, ends)[0]

    found = evaluation.evaluate(
        held_out, {MODEL: lambda rows, ends: quantiles, NAIVE_NAME: naive}, horizon=horizon, season=config.season
    )
    return found, loaded, fitted


def find_lineage(recipe: Recipe, known: Panel, panel: Panel, series: int) -> Lineage:
    """Say what a model is made from: times and rows of `known`, and where the whole panel ends."""
    first, last = (known.first_step.min(), (known.first_step + known.length - 1).max())
    steps = np.array([int(first), int(last), int((panel.first_step + panel.length - 1).max())], np.int64)
    times = recipe.frequency.time_of(steps).tolist()
    return Lineage(times[0], times[1], times[2], int(known.length.sum()), series)


def describe_origin(recipe: Recipe, lineage: Lineage | None) -> dict[str, Any]:
    """Collect what an artifact says of its origin; `Forecaster.load` makes the forecaster of it again.

    The lineage is None where nothing has been learned from a frame.
    """
    settings, chosen = recipe.settings, recipe.settings.series
    return {
        **recipe.frequency.facts,
        "seed": settings.training.seed,
        "code": installed_version(),
        **({"lineage": lineage.to_dict()} if lineage else {}),
        "forecaster": {
            "timezone": recipe.timezone,
            "phase": recipe.phase,
            "duplicates": chosen.duplicates if "duplicates" in chosen.model_fields_set else None,
            "columns": recipe.columns.to_dict(),
            "model": settings.model.model_dump(mode="json", exclude={SERVED}),
            "training": settings.training.model_dump(mode="json", exclude_unset=True),
            **settings.input.model_dump(mode="json", include={"time_unit", "oldest_time"}),
        },
    }


def settle_series(
    series: SeriesSettings, frequency: Frequency, context: int | None, season: int | None
) -> SeriesSettings:
    """Take a grid, and with it the season and the context that nobody chose; ValidationError for what cannot be."""
    chosen = series.model_dump(include={"horizon", "duplicates"}, exclude_unset=True)
    chosen |= {"frequency": frequency.text, "timezone": frequency.timezone, "phase": frequency.phase}
    chosen |= {"season": frequency.season if season is None else season}
    settled = SeriesSettings.model_validate({**chosen, "context": 2 if context is None else context})
    if context is not None:
        return settled
    return settled.model_copy(update={"context": usual_context(frequency, settled.season or 1, settled.horizon)})


def with_kind(recipe: Recipe, kind: str) -> Recipe:
    """Give a recipe another kind of network, without what only the former one has."""
    model = recipe.settings.model.with_changes({"kind": kind})
    return replace(recipe, settings=recipe.settings.model_copy(update={"model": model}))


def write_model(loaded: Loaded, file: Path) -> str:
    """Write a model as one file, whole or not at all; return its SHA-256. ConfigError where that cannot be."""
    artifact = pack(loaded.model, series=loaded.series, provenance=loaded.provenance)
    part = file.with_name(file.name + ".part")
    try:
        part.write_bytes(artifact)
        part.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ConfigError(f"the model cannot be written to {file}: {error.strerror}") from error
    return hash_artifact(artifact)


def _keep_newest(known: Panel, steps: int) -> Panel:
    """Learn from the newest `steps` alone, counted from the newest step of all; contexts may reach farther back."""
    return drop_older(known, int((known.first_step + known.length).max()) - steps)
