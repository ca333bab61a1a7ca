"""Challengers, champion and seasonal naive on the same windows: how they scored, who wins, and the record of it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from jobs.retraining.backtest import Forecast, backtest, find_scales, pick_pairs
from jobs.retraining.significance import Evidence, find_evidence
from jobs.retraining.training_set import TrainingSet, name_series
from jobs.retraining.verdict import Gate, Rival, Score, Verdict, verdict
from models.network.baselines import SeasonalNaive
from models.network.forecasters import Forecaster, Network
from models.predict import predict
from pipeline.forecasting.served import NAIVE, Champion
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of a challenger and its rivals by role: naive, challenger, zero-shot, champion if one can be compared.

    evidence: how sure it is that the challenger is better than that champion.
    """

    scores: Mapping[str, Score]
    evidence: Evidence | None


def compare(
    models: Mapping[str, Network],
    sets: Mapping[str, TrainingSet],
    champion: Champion | None,
    device: torch.device,
    *,
    seed: int,
    wheel: Forecaster | None = None,
) -> dict[str, Comparison]:
    """Backtest challengers by name, champion (if it can be compared) and seasonal naive, all on the same windows.

    sets: what each challenger was trained on, cuts of one history at the same time. seed: of the bootstrap. wheel: the
    pretrained network as it came, whose role is zero-shot.
    """
    whole = max(sets.values(), key=lambda each: int(each.known.length.sum()))

    def bind(forecaster: Forecaster, learned: tuple[str, ...]) -> Forecast:
        return partial(predict, forecaster, name_series(whole.panel, whole.rows_of(learned)), device=device)

    shape = next(iter(models.values())).config
    forecasters = {("naive", ""): bind(SeasonalNaive(shape), ())}
    forecasters |= {("challenger", name): bind(model, sets[name].learned) for name, model in models.items()}
    if wheel:
        forecasters["zero-shot", ""] = bind(wheel, ())
    if champion and champion.loaded:
        forecasters["champion", ""] = bind(champion.loaded.model, champion.loaded.series)
    pairs = pick_pairs(whole.panel, whole.firsts, shape.horizon)
    scale = find_scales(whole.known, shape.season, pairs.rows)
    scored = backtest(forecasters, whole.panel, pairs, horizon=shape.horizon, scale=scale)
    common = {role: one for (role, _), one in scored.items() if role != "challenger"}

    def put_together(name: str) -> Comparison:
        of_one = common | {"challenger": scored["challenger", name]}
        evidence = None
        if "champion" in of_one:
            rivals = of_one["challenger"].losses, of_one["champion"].losses
            evidence = find_evidence(*rivals, horizon=shape.horizon, generator=np.random.default_rng(seed))
        return Comparison({role: one.score for role, one in of_one.items()}, evidence)

    return {name: put_together(name) for name in models}


def judge(compared: Comparison, champion: Champion | None, settings: Settings, *, among: int = 1) -> Verdict:
    """Give the verdict under the gate of the settings; `among` so many challengers on the same windows.

    The best of many is better than it is: so that no better one is found by chance more often than with one, the share
    of resamples that may speak against a challenger is divided among them.
    """
    scores, gate = compared.scores, gate_of(settings)
    rival = Rival(champion.version, scores.get("champion"), champion.unfit, compared.evidence) if champion else None
    if gate.confidence:
        gate = replace(gate, confidence=round(1.0 - (1.0 - gate.confidence) / among, 6))
    return verdict(scores["challenger"], rival, scores["naive"], gate, wheel=scores.get("zero-shot"))


def gate_of(settings: Settings) -> Gate:
    """Read the gate from the settings."""
    jobs = settings.jobs
    return Gate(jobs.gate_origins, jobs.gate_gain, jobs.gate_coverage, jobs.gate_confidence)


class Backtests(Protocol):
    """What models scored in backtests."""

    def record_backtest(  # noqa: PLR0913 - one row's columns, all by name
        self,
        *,
        version: int,
        compared_to: int | None,
        origins: int,
        mase: float | None,
        wql: float | None,
        coverage_80: float | None,
        n: int,
        now: int,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Store what a version scored over `origins` origins and `n` targets; version 0 is seasonal naive."""
        ...


def record(
    registry: Backtests,
    compared: Mapping[str, Comparison],
    versions: Mapping[str, int],
    champion: Champion | None,
    *,
    now: int,
) -> None:
    """Store the figures of challengers, by name, and rivals; equal times say that they are of the same windows."""
    scores = next(iter(compared.values())).scores
    rival = champion.version if champion and "champion" in scores else NAIVE
    rows: list[tuple[int, int | None, Score]] = [(NAIVE, None, scores["naive"])]
    rows += [(versions[name], rival, one.scores["challenger"]) for name, one in compared.items()]
    if rival != NAIVE:  # else it is there as the naive
        rows.append((rival, NAIVE, scores["champion"]))
    for version, against, score in rows:
        figures = finite(asdict(score))
        registry.record_backtest(
            version=version,
            compared_to=against,
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
