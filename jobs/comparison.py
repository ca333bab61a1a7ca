"""Challenger, champion and seasonal naive on the same windows: how they scored, who wins, and the record of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from jobs.backtest import Forecast, backtest, find_scales, pick_pairs
from jobs.champion import NAIVE, Champion
from jobs.ports import Registry
from jobs.significance import Evidence, find_evidence
from jobs.training_set import TrainingSet, name_series
from jobs.verdict import Gate, Rival, Score, Verdict, verdict
from models.baselines import SeasonalNaive
from models.forecasters import Forecaster, Network
from models.predict import predict
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores by name: naive, challenger, and champion if there is one that can be compared.

    evidence: how sure it is that the challenger is better than that champion.
    """

    scores: Mapping[str, Score]
    evidence: Evidence | None


def compare(
    model: Network, champion: Champion | None, trained_on: TrainingSet, device: torch.device, *, seed: int
) -> Comparison:
    """Backtest challenger, champion (if it can be compared) and seasonal naive; `seed` is of the bootstrap."""

    def bind(forecaster: Forecaster, learned: tuple[str, ...]) -> Forecast:
        return partial(predict, forecaster, name_series(trained_on.panel, trained_on.rows_of(learned)), device=device)

    forecasters = {"naive": bind(SeasonalNaive(model.config), ()), "challenger": bind(model, trained_on.learned)}
    if champion and champion.loaded:
        forecasters["champion"] = bind(champion.loaded.model, champion.loaded.series)
    horizon, season = model.config.horizon, model.config.season
    pairs = pick_pairs(trained_on.panel, trained_on.firsts, horizon)
    scale = find_scales(trained_on.known, season, pairs.rows)
    scored = backtest(forecasters, trained_on.panel, pairs, horizon=horizon, scale=scale)
    evidence = None
    if "champion" in scored:
        rivals = scored["challenger"].losses, scored["champion"].losses
        evidence = find_evidence(*rivals, horizon=horizon, generator=np.random.default_rng(seed))
    return Comparison({name: one.score for name, one in scored.items()}, evidence)


def judge(compared: Comparison, champion: Champion | None, settings: Settings) -> Verdict:
    """Ask for the verdict under the gate of the settings."""
    scores = compared.scores
    rival = Rival(champion.version, scores.get("champion"), champion.unfit, compared.evidence) if champion else None
    return verdict(scores["challenger"], rival, scores["naive"], gate_of(settings))


def gate_of(settings: Settings) -> Gate:
    """Read the gate from the settings."""
    jobs = settings.jobs
    return Gate(jobs.gate_origins, jobs.gate_gain, jobs.gate_coverage, jobs.gate_confidence)


def record(registry: Registry, compared: Comparison, version: int, champion: Champion | None, *, now: int) -> None:
    """Store the figures of challenger `version` and its rivals; equal times say that they are of the same windows."""
    versions = {"naive": NAIVE, "champion": champion.version if champion else NAIVE, "challenger": version}
    rival = "champion" if "champion" in compared.scores else "naive"
    against = {"naive": None, "champion": NAIVE, "challenger": versions[rival]}
    for name, score in compared.scores.items():
        if name == "champion" and versions[name] == NAIVE:
            continue  # it is there as the naive
        figures = finite(asdict(score))
        registry.record_backtest(
            version=versions[name],
            compared_to=against[name],
            origins=score.origins,
            mase=figures["mase"],
            wql=figures["wql"],
            coverage_80=figures["coverage_80"],
            n=score.steps,
            now=now,
            metrics=figures,
        )


def finite(value: Any) -> Any:
    """Replace NaN and infinities, which JSON cannot hold, by None, at any depth."""
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
