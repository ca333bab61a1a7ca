import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.retraining.significance import UNITS, Evidence, Losses, find_evidence, find_losses, resample
from jobs.retraining.verdict import Gate, Rival, Score, verdict
from models.config import QUANTILE_LEVELS
from models.metrics import METRICS, Matured

HORIZON = 4
SEEDS = st.integers(0, 2**32 - 1)


def losses(loss: np.ndarray, size: np.ndarray | None = None, origins: int = 1) -> Losses:
    """Losses (S * origins,) laid out series by series, at origins a horizon apart."""
    series = np.repeat(np.arange(len(loss) // origins), origins)
    steps = np.tile(HORIZON * np.arange(origins), len(loss) // origins)
    return Losses(series, steps, loss, np.full(len(loss), 10.0) if size is None else size)


def draw(seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.lognormal(0.0, 1.0, count), generator.lognormal(1.0, 2.0, count)


def find(challenger: Losses, champion: Losses, seed: int = 0) -> Evidence:
    return find_evidence(challenger, champion, horizon=HORIZON, generator=np.random.default_rng(seed))


def promoted(challenger: Losses, champion: Losses, seed: int = 0, confidence: float = 0.9) -> bool:
    def score(of: Losses) -> Score:
        return Score(of.loss.sum() / of.size.sum(), 1.0, 1.0, 0.8, len(of.loss), len(of.loss), 4)

    rival = Rival(1, score(champion), evidence=find(challenger, champion, seed))
    naive = Score(math.inf, 1.0, 1.0, 0.8, len(champion.loss), len(champion.loss), 4)
    return verdict(score(challenger), rival, naive, Gate(confidence=confidence)).promote


@given(SEEDS)
def test_identical_forecasts_are_never_promoted(seed: int) -> None:
    one = losses(*draw(seed))
    assert find(one, one, seed).share == 0.0
    assert not promoted(one, one, seed)
    assert not promoted(one, one, seed, confidence=0.0)


@given(SEEDS, st.floats(0.001, 0.999))
def test_a_challenger_better_on_every_series_is_always_promoted(seed: int, factor: float) -> None:
    loss, size = draw(seed)
    better, worse = losses(factor * loss, size), losses(loss, size)
    assert find(better, worse, seed).share == 1.0
    assert promoted(better, worse, seed, confidence=1.0)
    assert not promoted(worse, better, seed)


@given(SEEDS)
def test_the_order_of_the_series_changes_nothing_but_the_draws(seed: int) -> None:
    generator = np.random.default_rng(seed)
    loss, size = draw(seed, 30)
    other = loss * generator.lognormal(0.0, 0.3, 30)
    order = generator.permutation(30)
    shares = [
        find(losses(loss[by], size[by]), losses(other[by], size[by]), seed + 1).share for by in (slice(None), order)
    ]
    assert shares[0] is not None
    assert shares[1] == pytest.approx(shares[0], abs=0.08), "five deviations of the difference of two shares of 2,000"


def test_pairs_of_a_series_are_drawn_together_in_whatever_order_they_come() -> None:
    loss, size = draw(3, 60)
    other = loss * np.random.default_rng(4).lognormal(0.0, 0.5, 60)
    order = np.random.default_rng(5).permutation(60)

    def shuffled(of: Losses) -> Losses:
        return Losses(of.series[order], of.origins[order], of.loss[order], of.size[order])

    one, rival = losses(loss, size, origins=3), losses(other, size, origins=3)
    summed = losses(loss.reshape(20, 3).sum(axis=1), size.reshape(20, 3).sum(axis=1))
    rival_summed = losses(other.reshape(20, 3).sum(axis=1), size.reshape(20, 3).sum(axis=1))
    expected = find(summed, rival_summed).share
    assert find(one, rival).share == find(shuffled(one), shuffled(rival)).share == expected
    assert expected not in (0.0, 1.0)


def test_the_share_is_that_of_a_bootstrap_in_plain_python() -> None:
    loss, size = draw(7, 25)
    other = loss * np.random.default_rng(8).lognormal(0.0, 0.4, 25)
    rows = list(zip(loss.tolist(), other.tolist(), size.tolist(), strict=True))
    chance = random.Random(9)
    better = 0
    for _ in range(20_000):
        drawn = [chance.choice(rows) for _ in rows]
        weight = sum(row[2] for row in drawn)
        better += sum(row[0] for row in drawn) / weight < sum(row[1] for row in drawn) / weight
    share = resample(losses(loss, size), losses(other, size), np.arange(25), np.random.default_rng(10))
    assert 0.1 < share < 0.9
    assert share == pytest.approx(better / 20_000, abs=0.05)


def test_the_share_over_two_units_is_that_of_every_possible_draw() -> None:
    """Units a (challenger 1 against 2) and b (4 against 3.5): aa, ab and ba (5 against 5.5) are better, bb is not."""
    share = resample(losses(np.array([1.0, 4.0])), losses(np.array([2.0, 3.5])), np.arange(2), np.random.default_rng(0))
    assert share == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95])
def test_a_challenger_that_is_equal_up_to_noise_passes_about_as_often_as_the_confidence_leaves(
    confidence: float,
) -> None:
    generator = np.random.default_rng(11)
    passed, rounds = 0, 500
    for round_ in range(rounds):
        loss, size = draw(round_, 100)
        noise = generator.normal(0.0, 0.1, (2, 100)) * loss
        passed += promoted(losses(loss + noise[0], size), losses(loss + noise[1], size), round_, confidence)
    left = 1.0 - confidence
    assert passed / rounds == pytest.approx(left, abs=0.025 + 3.0 * math.sqrt(left * confidence / rounds))


def test_a_gain_on_one_of_many_series_is_no_evidence_however_large() -> None:
    champion = np.full(100, 1.0)
    challenger = champion + 0.01
    challenger[0] = 0.0
    champion[0] = 2.0
    share = find(losses(challenger), losses(champion)).share
    assert share is not None
    assert share == pytest.approx(1.0 - (1.0 - 1 / 100) ** 100, abs=0.04), "that is, where that series was drawn"


def test_few_series_leave_the_origins_to_be_drawn_if_they_are_enough_and_do_not_overlap() -> None:
    loss, few = draw(1, 2 * UNITS)[0], UNITS - 1
    assert find(losses(loss, origins=UNITS), losses(2.0 * loss, origins=UNITS)) == Evidence(1.0, 2, UNITS, "origins")
    near = Losses(np.zeros(UNITS, np.int64), np.arange(UNITS), loss[:UNITS], np.ones(UNITS))
    assert find(near, near) == Evidence(None, 1, UNITS)
    assert find(losses(loss[:few]), losses(loss[:few])) == Evidence(None, few, 1)
    assert find(losses(loss[:UNITS]), losses(loss[:UNITS])) == Evidence(0.0, UNITS, 1)


def test_series_without_any_size_decide_nothing() -> None:
    zero = losses(np.zeros(UNITS), np.zeros(UNITS))
    assert find(zero, losses(np.ones(UNITS), np.zeros(UNITS))).share == 0.0


def test_many_series_are_drawn_in_parts_and_the_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, size = draw(2, 50)
    pair = losses(loss, size), losses(loss * np.random.default_rng(3).lognormal(0.0, 0.3, 50), size)
    whole = find(*pair).share
    monkeypatch.setattr("jobs.retraining.significance.AT_ONCE", 7)
    assert find(*pair).share == pytest.approx(whole, abs=0.06)


def test_losses_of_the_pairs_add_up_to_the_metric_and_leave_out_what_cannot_be_scored() -> None:
    generator = np.random.default_rng(0)
    target = generator.normal(5.0, 1.0, (6, HORIZON))
    target[0, 1] = math.nan
    quantiles = np.sort(generator.normal(5.0, 1.0, (6, HORIZON, len(QUANTILE_LEVELS))), axis=2)
    quantiles[2, 3, 0] = math.nan
    matured = Matured(target=target, quantiles=quantiles, scale=np.ones(6))
    found = find_losses(matured, np.arange(6), np.zeros(6, np.int64))
    assert found.loss.sum() / found.size.sum() == pytest.approx(METRICS["wql"](matured))
    assert found.size[0] == pytest.approx(np.abs(target[0, [0, 2, 3]]).sum())
