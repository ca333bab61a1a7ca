"""Retrain: history -> training set -> fit -> backtest -> verdict -> register -> promote or keep."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog
import torch

from jobs.champion import find_champion
from jobs.comparison import Comparison, compare, finite, judge, record
from jobs.history import Share, count_recent, find_depth, read_history
from jobs.outcome import OnStage, Outcome, Stage
from jobs.ports import Reader, Registry
from jobs.search import Found, find_settings
from jobs.training_set import TooLittleHistory, TrainingSet, cut_training_set, drop_future, name_series
from jobs.verdict import Verdict
from jobs.warm_start import COLD, Start, choose_start, warm_start
from models.artifact import pack
from models.baselines import SeasonalNaive
from models.config import ModelConfig, TrainConfig
from models.ensembles import fit_members
from models.fit import count_steps
from models.forecasters import Network, build
from models.graph import EAGER, GRAPH
from models.parallel import crew
from models.precision import choose_precision
from models.ranks import ALONE, RankLost
from models.training import FitReport, Progress, choose_device
from pipeline.errors import ConfigError, Unavailable
from pipeline.grid import DAY, Frequency
from pipeline.settings import Settings
from pipeline.windows import model_config

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained challenger and how it came about."""

    model: Network
    training: TrainConfig
    report: FitReport
    start: Start
    device: torch.device
    search: Found | None = None


def retrain(
    reader: Reader, registry: Registry, settings: Settings, *, clock: Callable[[], int], code: str, on_stage: OnStage
) -> Outcome:
    """Train a challenger, compare it, register it with every number, and promote it if it deserves it.

    1 read the history and the champion, 2 cut, 3 fit, 4 backtest, 5 verdict, 6 register, 7 promote. The promotion is a
    compare-and-set against the champion that was compared, so a champion chosen meanwhile by somebody else stays.
    With a shadow period, one that beat a champion becomes shadow instead; the job `promote` ends the period.
    """
    began = clock()
    frequency = Frequency(settings.series.frequency)
    on_stage(Stage("reading history"))
    champion = find_champion(registry, model_config(settings, frequency, 0), frequency)
    start = choose_start(champion, settings, frequency)
    try:
        trained_on, read = _prepare(reader, start, settings, frequency, now=began)
    except TooLittleHistory as error:
        return Outcome("failed", str(error))
    on_stage(Stage("history read", words=read.words))
    if read.sampled:
        counts = {
            key: value for key, value in trained_on.lineage.to_dict().items() if key.startswith(("series", "rows"))
        }
        log.info("history sampled", **counts)

    fitted = fit_challenger(trained_on, start, settings, frequency=frequency, on_stage=on_stage)
    on_stage(Stage("backtest"))
    compared = compare(fitted.model, champion, trained_on, fitted.device, seed=settings.training.seed)
    judged = judge(compared, champion, settings)
    asides = (
        fitted.search.words if fitted.search else "",
        f"started {start.words}" if start.mode != settings.training.mode else "",
        read.words if read.sampled else "",
    )
    reason = "; ".join((judged.reason, *filter(None, asides)))

    on_stage(Stage("registering"))
    facts = _facts(trained_on, fitted, compared, judged) | {"seconds": (clock() - began) / 1e6}
    version = registry.register(
        name=f"{fitted.model.config.kind}-{fitted.model.config.cell}",
        config=fitted.model.config.to_dict() | {"frequency": frequency.text, "step_seconds": frequency.seconds},
        metrics=facts,
        train_from=trained_on.lineage.train_from,
        train_to=trained_on.lineage.train_to,
        seed=settings.training.seed,
        code=code,
        artifact=_pack(fitted, trained_on, settings, code),
        now=clock(),
    )
    record(registry, compared, version, champion, now=clock())
    facts |= {"version": version, "champion": champion.version if champion else None, "promoted": False}
    if not judged.promote:
        return Outcome("ok", f"version {version} kept as challenger: {reason}", facts)
    if settings.jobs.shadow is not None and champion and champion.loaded:
        return _begin_shadow(registry, version, judged, reason, facts, now=clock())
    expected = champion.version if champion else None
    if not registry.promote(version, expected=expected, reason=judged.reason, now=clock()):
        was = "there was none" if expected is None else f"it was version {expected}"
        return Outcome("ok", f"version {version} not promoted: the champion changed meanwhile ({was}); {reason}", facts)
    return Outcome("ok", f"version {version} promoted: {reason}", facts | {"promoted": True})


def _begin_shadow(
    registry: Registry, version: int, judged: Verdict, reason: str, facts: dict[str, Any], *, now: int
) -> Outcome:
    before = registry.shadow()
    if not registry.begin_shadow(version, expected=before, reason=judged.reason, now=now):
        return Outcome("ok", f"version {version} not made shadow: the shadow changed meanwhile; {reason}", facts)
    instead = "" if before is None else f" in place of version {before}"
    return Outcome("ok", f"version {version} is shadow now{instead}: {reason}", facts | {"shadow": True})


def _prepare(
    reader: Reader, start: Start, settings: Settings, frequency: Frequency, *, now: int
) -> tuple[TrainingSet, Share]:
    recent = start.mode == "fine-tune"
    names, history, read = read_history(reader, settings, find_depth(settings, frequency, recent=recent))
    steps = count_recent(settings, frequency) if recent else None
    cut = cut_training_set(names, drop_future(history, now), settings, frequency, recent=steps)
    learned = cut.learned
    if start.champion and (recent or read.sampled):  # what the champion knows of series that are not read is kept
        learned += tuple(sorted(set(start.champion.series) - set(learned)))
    lineage = replace(
        cut.lineage,
        series=len(learned),
        series_read=read.series,
        series_stored=read.of_series,
        rows_read=read.rows,
        rows_stored=read.of_rows,
    )
    return replace(cut, learned=learned, lineage=lineage), read


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
    config = replace(champion.config, series=len(trained_on.learned)) if champion else shape(settings)
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
            f"{len(trained_on.learned)} series on {device.type}{f' x {ranks.world}' if others else ''}, {start.words}",
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


def train_config(settings: Settings, validation_steps: int) -> TrainConfig:
    """Read how to fit from the settings."""
    chosen = settings.training
    return TrainConfig(
        loss=chosen.loss,
        optimizer=chosen.optimizer,
        schedule=chosen.schedule,
        steps=chosen.steps,
        patience=chosen.patience,
        batch_size=chosen.batch,
        learning_rate=chosen.learning_rate,
        weight_decay=chosen.weight_decay,
        clip_norm=chosen.clip_norm,
        ema=chosen.ema,
        seed=chosen.seed,
        validation_steps=validation_steps,
        validation_stride=chosen.validation_stride or 0,
        scaled=chosen.scaled,
        refit=chosen.refit,
        max_seconds=chosen.budget,
        graph=chosen.graph,
        precision=chosen.precision,
    )


def _facts(trained_on: TrainingSet, fitted: Fitted, compared: Comparison, judged: Verdict) -> dict[str, Any]:
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


def _pack(fitted: Fitted, trained_on: TrainingSet, settings: Settings, code: str) -> bytes:
    provenance = {
        "frequency": settings.series.frequency,
        "seed": settings.training.seed,
        "code": code,
        "lineage": trained_on.lineage.to_dict(),
    } | ({"search": fitted.search.provenance()} if fitted.search else {})
    return pack(fitted.model, series=trained_on.learned, provenance=provenance)
