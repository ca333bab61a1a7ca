"""A challenger: how its network is built and fitted, what is known about it, and its artifact."""

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from jobs.clock.outcome import OnStage, Stage
from jobs.retraining.comparison import Comparison, finite
from jobs.retraining.search import Found, find_settings
from jobs.retraining.training_set import TrainingSet, name_series
from jobs.retraining.verdict import Verdict
from jobs.retraining.warm_start import COLD, Start, warm_start
from models.artifact import pack
from models.config import ModelConfig, TrainConfig
from models.fitting.ensembles import fit_members
from models.fitting.fit import count_steps
from models.fitting.graph import EAGER, GRAPH
from models.fitting.parallel import crew
from models.fitting.ranks import ALONE, RankLost
from models.fitting.training import FitReport, Progress, choose_device
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Network, build
from models.network.precision import choose_precision
from models.presets import PRETRAINED
from pipeline.errors import ConfigError, Unavailable
from pipeline.forecasting.windows import model_config, named
from pipeline.grid.frequency import DAY, Frequency
from pipeline.settings import Settings

WEIGHT_DECAY = 1e-2
"""Of AdamW."""
EMA = 0.995
"""Decay of the averaged weights, which are the ones kept."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained challenger and how it was made."""

    model: Network
    training: TrainConfig
    report: FitReport
    start: Start
    device: torch.device
    search: Found | None = None


def fit_challenger(
    trained_on: TrainingSet, start: Start, settings: Settings, *, frequency: Frequency, on_stage: OnStage
) -> Fitted:
    """Build and fit a model of the settings, or of what a search finds around them, on everything before the cut."""
    days = (trained_on.lineage.train_to - trained_on.lineage.train_from) / DAY

    def shape(chosen: Settings) -> ModelConfig:
        known_ahead = {"future": trained_on.future_covariates, "static": trained_on.static_covariates}
        return model_config(chosen, frequency, len(trained_on.learned), days=days, **known_ahead)

    def try_out(chosen: Settings, tell: OnStage) -> FitReport:  # nothing is searched in the settings of a trial
        return fit_challenger(trained_on, COLD, chosen, frequency=frequency, on_stage=tell).report

    champion = start.champion
    found = find_settings(
        settings, shape, try_out, champion.provenance if champion else {}, on_stage=on_stage, clock=time.monotonic
    )
    settings = start.adapt(found.settings if found else settings)
    try:
        device = choose_device(settings.training.device)
        training = train_config(settings, trained_on.validation_steps)
        choose_precision(training.precision, device)
        others = crew()
        ranks = others.ranks if others else ALONE
        ranks.share(training.batch_size)
    except ValueError as error:
        raise ConfigError(f"settings: training.{error}") from error
    config = shape(settings)
    if champion:  # whose weights need its shape, but a floor and what the wheel's network does not read have none
        free = ("non_negative", "future_covariates", "static_covariates")
        given = {name: getattr(config, name) for name in free}
        config = replace(champion.config, series=len(trained_on.learned), **given)
    model = build(config, seed=training.seed)
    assert not isinstance(model, SeasonalNaive), "settings name no such kind"
    if champion:
        warm_start(model, trained_on.learned, champion)

    def tell(progress: Progress) -> None:
        validated = "" if math.isnan(progress.validation) else f", validation {progress.validation:.4f}"
        words = f"loss {progress.loss:.4f}{validated}, {progress.seconds:.0f} s"
        on_stage(Stage("fit", progress.step, progress.steps, words))

    on_stage(
        Stage(
            "fit",
            0,
            model.config.members * count_steps(training),
            f"{len(trained_on.learned)} series on {_name_place(device, ranks.world if others else 1)}, {start.words}",
        )
    )
    known = name_series(trained_on.known, trained_on.rows_of(trained_on.learned))
    try:
        report = fit_members(model, known, training, device=device, on_progress=tell)
    except RankLost as error:
        raise Unavailable(str(error)) from error
    if report.path not in (EAGER, GRAPH):
        on_stage(Stage("fit", report.steps, report.steps, report.path))
    return Fitted(model, training, report, start, device, found)


def _name_place(device: torch.device, processes: int) -> str:
    together = f" x {processes}" if processes > 1 else ""
    threads = f" ({torch.get_num_threads()} threads)" if device.type == "cpu" else ""
    return f"{device.type}{together}{threads}"


def train_config(settings: Settings, validation_steps: int) -> TrainConfig:
    """Read how to fit from the settings."""
    chosen = settings.training
    return TrainConfig(
        **named(TrainConfig, chosen)
        | {"batch_size": chosen.batch, "max_seconds": chosen.budget, "validation_steps": validation_steps},
        weight_decay=WEIGHT_DECAY,
        ema=EMA,
        anchored=settings.model.kind == PRETRAINED,
    )


def describe(trained_on: TrainingSet, fitted: Fitted, compared: Comparison, judged: Verdict) -> dict[str, Any]:
    """Collect every figure of a challenger as plain values for JSON."""
    scores = compared.scores
    report = {name: value for name, value in asdict(fitted.report).items() if name != "history"}
    facts = {
        **asdict(scores["challenger"]),
        "scores": {name: asdict(score) for name, score in scores.items()},
        "fit": report | {"mode": fitted.start.mode, "start": fitted.start.words, "device": str(fitted.device)},
        "training": fitted.training.to_dict(),
        "lineage": trained_on.lineage.to_dict(),
        "verdict": judged.reason,
        "evidence": asdict(compared.evidence) if compared.evidence else None,
    } | ({"search": fitted.search.to_dict()} if fitted.search else {})
    return {name: finite(value) for name, value in facts.items()}


def pack_challenger(fitted: Fitted, trained_on: TrainingSet, settings: Settings, code: str) -> bytes:
    """Make its artifact: weights, configuration, names of series, and how they were made."""
    provenance = {
        **Frequency.of(settings.series).facts,
        "seed": settings.training.seed,
        "code": code,
        "lineage": trained_on.lineage.to_dict(),
    } | ({"search": fitted.search.provenance()} if fitted.search else {})
    return pack(fitted.model, series=trained_on.learned, provenance=provenance)
