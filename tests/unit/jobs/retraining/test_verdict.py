import dataclasses
import math

import pytest

from jobs.retraining.significance import Evidence
from jobs.retraining.verdict import Gate, Rival, Score, find_gain, verdict

GATE = Gate(origins=4, gain=0.01, coverage=(0.6, 0.95))


def scored(wql: float, **changes: float) -> Score:
    score = Score(wql=wql, mase=1.0, sql=1.0, coverage_80=0.8, steps=400, windows=40, origins=4)
    return dataclasses.replace(score, **changes)


TABLE = [
    # challenger, champion, naive, promote, reason
    (scored(0.5), None, scored(1.0, origins=3), False, "scored on 3 origins, 4 are needed: wait for more history"),
    (scored(0.5, steps=390), None, scored(1.0), False, "no finite forecast for 10 of 400 targets"),
    (scored(math.nan), None, scored(math.nan), False, "no evidence: every target of the backtest is 0"),
    (scored(1.1), None, scored(1.0), False, "10.0 % worse than seasonal naive on 4 origins"),
    (scored(0.1), None, scored(0.0), False, "worse than seasonal naive, which is exact, on 4 origins"),
    (
        scored(0.5, coverage_80=0.31),
        None,
        scored(1.0),
        False,
        "its 80 % interval held 31.0 % of the targets, outside 60.0 % to 95.0 %",
    ),
    (scored(0.75), None, scored(1.0), True, "first champion: gain 25.0 % over seasonal naive on 4 origins"),
    (scored(0.0), None, scored(0.0), True, "first champion: no gain over seasonal naive on 4 origins"),
    (
        scored(0.75),
        Rival(4, None, "it forecasts 24 steps, the settings ask for 48"),
        scored(1.0),
        True,
        "version 4 cannot be compared (it forecasts 24 steps, the settings ask for 48): "
        "gain 25.0 % over seasonal naive on 4 origins",
    ),
    (
        scored(0.75),
        Rival(4, scored(math.nan, steps=0)),
        scored(1.0),
        True,
        "version 4 gave forecasts that are not finite: gain 25.0 % over seasonal naive on 4 origins",
    ),
    (scored(0.775), Rival(4, scored(0.8)), scored(1.0), True, "gain 3.1 % over version 4 on 4 origins"),
    (
        scored(0.796),
        Rival(4, scored(0.8)),
        scored(1.0),
        False,
        "gain 0.5 % over version 4 on 4 origins, more than 1.0 % is needed",
    ),
    (
        scored(0.8),
        Rival(4, scored(0.8)),
        scored(1.0),
        False,
        "no gain over version 4 on 4 origins, more than 1.0 % is needed",
    ),
    (
        scored(0.88),
        Rival(4, scored(0.8)),
        scored(1.0),
        False,
        "10.0 % worse than version 4 on 4 origins, more than 1.0 % is needed",
    ),
    (
        scored(0.775),
        Rival(4, scored(0.8), evidence=Evidence(0.97, 414, 4)),
        scored(1.0),
        True,
        "gain 3.1 % over version 4 on 4 origins, better in 97 % of resamples of 414 series",
    ),
    (
        scored(0.775),
        Rival(4, scored(0.8), evidence=Evidence(0.8995, 414, 4)),
        scored(1.0),
        False,
        "gain 3.1 % over version 4 on 4 origins, better in 89.95 % of resamples of 414 series, 90 % is needed",
    ),
    (
        scored(0.796),
        Rival(4, scored(0.8), evidence=Evidence(1.0, 414, 4)),
        scored(1.0),
        False,
        "gain 0.5 % over version 4 on 4 origins, more than 1.0 % is needed",
    ),
    (
        scored(0.775),
        Rival(4, scored(0.8), evidence=Evidence(0.95, 1, 12, "origins")),
        scored(1.0),
        True,
        "gain 3.1 % over version 4 on 4 origins, better in 95 % of resamples of 12 origins (1 series would be too few)",
    ),
    (
        scored(0.775),
        Rival(4, scored(0.8), evidence=Evidence(None, 3, 1)),
        scored(1.0),
        True,
        "gain 3.1 % over version 4 on 4 origins; 3 series and 1 origin are no evidence for a bootstrap, "
        "so the gain alone decides",
    ),
]


@pytest.mark.parametrize(("challenger", "champion", "naive", "promote", "reason"), TABLE)
def test_the_verdict_says_why(
    challenger: Score, champion: Rival | None, naive: Score, promote: bool, reason: str
) -> None:
    judged = verdict(challenger, champion, naive, GATE)
    assert (judged.promote, judged.reason) == (promote, reason)


def test_an_equal_challenger_does_not_replace_the_champion_by_default() -> None:
    assert not verdict(scored(0.8), Rival(1, scored(0.8)), scored(1.0), Gate()).promote


def test_without_a_confidence_the_gain_alone_decides() -> None:
    rival = Rival(4, scored(0.8), evidence=Evidence(0.3, 414, 4))
    judged = verdict(scored(0.775), rival, scored(1.0), Gate(confidence=0.0))
    assert (judged.promote, judged.reason) == (True, "gain 3.1 % over version 4 on 4 origins")


def test_gain_against_a_perfect_reference_is_zero_or_infinitely_bad() -> None:
    assert find_gain(0.0, 0.0) == 0.0
    assert find_gain(0.1, 0.0) == -math.inf
    assert find_gain(0.0, 1.0) == 1.0
