"""How a shadow's period ends: one test per reason."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from jobs.clock.outcome import Outcome
from jobs.retraining.promote import SETTLING, end_shadow_period
from pipeline.job_facts import LivePairs
from pipeline.settings import Settings
from tests.unit.jobs.fakes import HOUR, START, Clock

Make = Callable[..., Settings]
HORIZON = 4
DAY = 24 * HOUR
LATER = START + 8 * DAY


@dataclass(frozen=True)
class Since:
    """A shadow and when it became one."""

    version: int
    since: int


@dataclass
class TwoAliases:
    """Champion and shadow; `meanwhile` runs before a change, as a race would."""

    alias: int | None = 1
    beside: Since | None = field(default_factory=lambda: Since(2, START))
    reasons: list[str] = field(default_factory=list)
    meanwhile: Callable[["TwoAliases"], None] = lambda _: None

    def champion(self) -> int | None:
        return self.alias

    def shadowing(self) -> Since | None:
        return self.beside

    def promote_shadow(self, version: int, *, expected: int | None, reason: str, now: int) -> bool:
        self.meanwhile(self)
        if self.alias != expected or self.beside is None or self.beside.version != version:
            return False
        self.alias, self.beside = version, None
        self.reasons.append(reason)
        return True

    def drop_shadow(self, version: int, *, reason: str, now: int) -> bool:
        self.meanwhile(self)
        if self.beside is None or self.beside.version != version:
            return False
        self.beside = None
        self.reasons.append(reason)
        return True


def pairs(shadow: float = 0.8, champion: float = 1.0, naive: float = 4.0, **changes: Any) -> LivePairs:
    """12 series at 10 origins, one horizon apart; the losses are those of the shadow, the champion and the naive."""
    series, origin = (each.ravel() for each in np.meshgrid(np.arange(12), START + HOUR * HORIZON * np.arange(10)))
    n = len(series)
    made = LivePairs(
        series=series,
        origin=origin,
        last_step=np.full(n, HORIZON),
        n=np.full(n, HORIZON),
        size=np.full(n, 10.0),
        naive_error=np.full(n, naive),
        shadow_error=np.full(n, 2.0 * shadow),
        shadow_pinball=np.full(n, shadow) * (1.0 + 0.01 * (series % 3)),
        champion_pinball=np.full(n, champion),
        shadow_inside=np.full(n, 3),
        champion_inside=np.full(n, 3),
        left_out=0,
    )
    return replace(made, **changes)


@dataclass
class Given:
    """Live forecasts that were given; `asked` is every question."""

    found: LivePairs
    asked: list[tuple[int, int, int]] = field(default_factory=list)

    def live_pairs(self, shadow: int, champion: int, since: int) -> LivePairs:
        self.asked.append((shadow, champion, since))
        return self.found


def run(
    settings: Settings, registry: TwoAliases, found: LivePairs | None = None, now: int = START + 8 * DAY
) -> Outcome:
    given = Given(found or pairs())
    outcome = end_shadow_period(given, registry, settings, clock=Clock(now), on_stage=lambda _: None)
    assert outcome.ending == "ok"
    assert given.asked in ([], [(2, 1, START + round(SETTLING * 1e6))])
    return outcome


@pytest.fixture
def week(tiny: Make) -> Settings:
    return tiny(jobs={"shadow": "7 days", "gate_origins": 8, "gate_coverage": (0.6, 0.95)})


def test_without_a_shadow_nothing_happens(week: Settings) -> None:
    assert run(week, TwoAliases(beside=None)).reason == "there is no shadow"


def test_before_its_end_the_period_goes_on(week: Settings) -> None:
    registry = TwoAliases()
    outcome = run(week, registry, now=START + 7 * DAY - 1)
    assert outcome.reason == "version 2 is shadow until 2026-01-08 00:00"
    assert (registry.alias, registry.beside) == (1, Since(2, START))


def test_a_shadow_that_is_better_live_becomes_champion_with_the_reason(week: Settings) -> None:
    registry = TwoAliases()
    outcome = run(week, registry)
    assert outcome.reason == (
        "version 2 promoted after its shadow period: live, gain 19.2 % over version 1 on 10 origins,"
        " better in 100 % of resamples of 12 series"
    )
    assert (registry.alias, registry.beside) == (2, None)
    assert registry.reasons[0] in outcome.reason
    assert outcome.facts["promoted"] is True
    assert outcome.facts["scores"]["shadow"]["steps"] == 12 * 10 * HORIZON
    assert outcome.facts["scores"]["naive"]["wql"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (pairs(shadow=1.1), "live, 11.1 % worse than version 1 on 10 origins, more than 0.0 % is needed"),
        (pairs(shadow=2.1, champion=3.0), "live, its median is 5.0 % worse than seasonal naive on 10 origins"),
        (pairs(naive=0.0), "live, its median is worse than seasonal naive, which is exact on 10 origins"),
        (pairs(shadow_inside=np.full(120, 1)), "live, its 80 % interval held 25.0 % of the targets, outside 60.0 %"),
        (pairs(left_out=20), "live, it left out 20 of 500 targets that version 1 forecast"),
        (
            pairs(shadow_pinball=np.where(np.arange(120) % 12 < 6, 1.005, 0.994)),
            "live, gain 0.1 % over version 1 on 10 origins, better in ",
        ),
    ],
)
def test_a_shadow_that_fails_the_gate_live_is_dropped_and_the_champion_stays(
    week: Settings, found: LivePairs, reason: str
) -> None:
    registry = TwoAliases()
    outcome = run(week, registry, found)
    assert outcome.reason.startswith(f"version 2 dropped after its shadow period: {reason}")
    assert (registry.alias, registry.beside, outcome.facts["promoted"]) == (1, None, False)
    assert registry.reasons[0] in outcome.reason


def test_a_few_targets_that_were_left_out_are_forgiven(week: Settings) -> None:
    assert run(week, TwoAliases(), pairs(left_out=4)).facts["promoted"] is True


@pytest.mark.parametrize(
    ("found", "whole"),
    [
        (pairs(last_step=np.where(np.arange(120) < 60, HORIZON, HORIZON - 1)), 5),
        (LivePairs(*(np.empty(0, np.int64) for _ in range(11)), 0), 0),  # type: ignore[arg-type]
    ],
)
def test_with_too_few_matured_origins_the_period_goes_on_and_says_so(
    week: Settings, found: LivePairs, whole: int
) -> None:
    registry = TwoAliases()
    outcome = run(week, registry, found)
    assert outcome.reason == (
        f"version 2 stays shadow: its period goes on, {whole} origins have matured beside version 1, 8 are needed"
    )
    assert (registry.alias, registry.beside) == (1, Since(2, START))


@pytest.mark.parametrize("better", [True, False])
def test_what_somebody_chose_meanwhile_stays(week: Settings, better: bool) -> None:
    def by_hand(registry: TwoAliases) -> None:
        registry.alias, registry.beside = 5, None

    registry = TwoAliases(meanwhile=by_hand)
    outcome = run(week, registry, pairs(shadow=0.8 if better else 1.2))
    assert outcome.reason.startswith("version 2 left as it is: the champion or the shadow changed meanwhile; live, ")
    assert (registry.alias, registry.reasons, outcome.facts["promoted"]) == (5, [], False)


def test_a_shadow_that_is_left_when_the_setting_is_off_is_judged_at_once(tiny: Make) -> None:
    assert run(tiny(), TwoAliases(), now=START + HOUR).facts["promoted"] is True


def test_without_a_champion_there_is_nothing_to_compare_with(week: Settings) -> None:
    assert "no champion to compare it with" in run(week, TwoAliases(alias=None)).reason
