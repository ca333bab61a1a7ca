"""Promote: end a shadow's period by a verdict on what it and the champion forecast live.

1 find the shadow and the end of its period, 2 sum up the matured targets that shadow, champion and seasonal naive all
forecast, 3 the verdict under the same gate as a retraining's, 4 promote or drop. The last is one transaction that
compares and sets, so a champion or a shadow that somebody chose meanwhile stays, and the next run judges again.
"""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np

from jobs.clock.outcome import OnStage, Outcome, Stage, spell_minute
from jobs.retraining.comparison import finite, gate_of
from jobs.retraining.significance import Losses, find_evidence
from jobs.retraining.verdict import Rival, Score, Verdict, find_gain, verdict
from pipeline.grid.frequency import Frequency
from pipeline.job_facts import LivePairs
from pipeline.records import Floats, Ints
from pipeline.settings import Settings

SECOND = 1_000_000
SETTLING = 300.0
"""Seconds after which every worker has the new shadow, however its clock is off; earlier forecasts are not judged."""
LEFT_OUT = 0.01
"""Share of the champion's targets that a shadow may leave out; a worker that restarts may miss a turn."""


class Shadowing(Protocol):
    """A model that scores beside the champion."""

    @property
    def version(self) -> int:
        """Which one."""
        ...

    @property
    def since(self) -> int:
        """When it became shadow."""
        ...


class ShadowRegistry(Protocol):
    """Which models are champion and shadow, for the end of a shadow's period."""

    def champion(self) -> int | None:
        """Return the champion's version, or None."""
        ...

    def shadowing(self) -> Shadowing | None:
        """Return the shadow and since when it is one, or None."""
        ...

    def promote_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        """Make the shadow champion if both still are what they were; False, with nothing changed, if not."""
        ...

    def drop_shadow(self, version: int, *, reason: str, now: int) -> bool:
        """End the shadow `version`; False when it is the shadow no longer."""
        ...


class Shadows(Protocol):
    """Live forecasts of shadow and champion."""

    def live_pairs(self, shadow: int, champion: int, since: int) -> LivePairs:
        """Sum up what both forecast at or after `since`, as far as it has matured."""
        ...


def end_shadow_period(
    shadows: Shadows, registry: ShadowRegistry, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage
) -> Outcome:
    """Promote or drop the shadow if its period is over and enough targets have matured; else say why not yet."""
    shadowing, champion = registry.shadowing(), registry.champion()
    if shadowing is None:
        return Outcome("ok", "there is no shadow")
    version, since = shadowing.version, shadowing.since
    end = since + round((settings.jobs.shadow or 0.0) * SECOND)
    if clock() < end:
        return Outcome("ok", f"version {version} is shadow until {spell_minute(end)}")
    if champion is None:
        return Outcome("ok", f"version {version} stays shadow: there is no champion to compare it with")
    on_stage(Stage("live forecasts"))
    pairs = shadows.live_pairs(version, champion, since + round(SETTLING * SECOND))
    whole = len(np.unique(pairs.origin[pairs.last_step == settings.series.horizon]))
    facts: dict[str, Any] = {"version": version, "champion": champion, "promoted": False, "origins": whole}
    if whole < settings.jobs.gate_origins:
        words = f"{whole} origins have matured beside version {champion}, {settings.jobs.gate_origins} are needed"
        return Outcome("ok", f"version {version} stays shadow: its period goes on, {words}", facts)
    on_stage(Stage("verdict"))
    judged, scores = judge_live(pairs, champion, settings, origins=whole)
    facts |= {"scores": scores, "verdict": judged.reason}
    reason = f"live, {judged.reason}"
    if judged.promote:
        done = registry.promote_shadow(version, expected=champion, reason=reason, now=clock())
    else:
        done = registry.drop_shadow(version, reason=reason, now=clock())
    if not done:
        changed = f"version {version} left as it is: the champion or the shadow changed meanwhile; {reason}"
        return Outcome("ok", changed, facts)
    words = "promoted after its shadow period" if judged.promote else "dropped after its shadow period"
    return Outcome("ok", f"version {version} {words}: {reason}", facts | {"promoted": judged.promote})


def judge_live(
    pairs: LivePairs, champion: int, settings: Settings, *, origins: int
) -> tuple[Verdict, dict[str, dict[str, float]]]:
    """Judge a shadow by what it would have served; `origins` counts those that have matured to the last step.

    The seasonal naive has no interval here, so its loss (WQL) is that of its one answer, and the shadow's median must
    not be worse than it either.
    """
    scores = {
        "shadow": _score(pairs, pairs.shadow_pinball, pairs.shadow_inside, origins),
        "champion": _score(pairs, pairs.champion_pinball, pairs.champion_inside, origins),
        "naive": _score(pairs, pairs.naive_error / 2.0, None, origins),
    }
    plain = {name: finite(asdict(score)) for name, score in scores.items()}
    shown = int(pairs.n.sum())
    if pairs.left_out > LEFT_OUT * (shown + pairs.left_out):
        words = f"it left out {pairs.left_out} of {shown + pairs.left_out} targets that version {champion} forecast"
        return Verdict(False, words), plain
    skill = find_gain(float(pairs.shadow_error.sum()), float(pairs.naive_error.sum()))
    if skill < 0.0:
        worse = (
            "its median is worse than seasonal naive, which is exact"
            if math.isinf(skill)
            else (f"its median is {-100.0 * skill:.1f} % worse than seasonal naive")
        )
        return Verdict(False, f"{worse} on {origins} origins"), plain
    frequency, horizon = Frequency.of(settings.series), settings.series.horizon
    steps = frequency.step_of(pairs.origin)
    losses = (
        Losses(pairs.series, steps, 2.0 * pinball, pairs.size)
        for pinball in (pairs.shadow_pinball, pairs.champion_pinball)
    )
    evidence = find_evidence(*losses, horizon=horizon, generator=np.random.default_rng(settings.training.seed))
    rival = Rival(champion, scores["champion"], evidence=evidence)
    return verdict(scores["shadow"], rival, scores["naive"], gate_of(settings)), plain


def _score(pairs: LivePairs, pinball: Floats, inside: Ints | None, origins: int) -> Score:
    size, count = float(pairs.size.sum()), int(pairs.n.sum())
    return Score(
        wql=2.0 * float(pinball.sum()) / size if size > 0.0 else math.nan,
        mase=math.nan,
        sql=math.nan,
        coverage_80=math.nan if inside is None else float(inside.sum()) / count,
        steps=count,
        windows=len(pairs.n),
        origins=origins,
    )


class Stored(Protocol):
    """The parts of the database that the job works on."""

    @property
    def shadows(self) -> Shadows:
        """Live forecasts of shadow and champion."""
        ...

    @property
    def registry(self) -> ShadowRegistry:
        """Which models are champion and shadow."""
        ...


def run(database: Stored, settings: Settings, *, clock: Callable[[], int], on_stage: OnStage) -> Outcome:
    """Run the job on a database."""
    return end_shadow_period(database.shadows, database.registry, settings, clock=clock, on_stage=on_stage)
