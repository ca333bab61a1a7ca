"""Drift: whether the champion's errors have risen, or the inputs moved, by Page and Hinkley's test. Pure.

A group of series gives one pair of numbers per step of time, in units of the series' scale: the mean absolute error of
the champion one step ahead, and the mean change of the observations against one season before. Each is standardised by
what was before it, so that thresholds mean the same for every group. The test adds up what lies above the mean by more
than `delta`, starts again at 0 whenever the sum would be negative, and raises an alarm at `threshold`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean, median
from typing import Any

CLIP = 8.0
"""Standard deviations that one step may count for: none raises an alarm by itself, nor hides those after it."""
MAD_OF_NORMAL = 1.4826
"""Standard deviations of a normal distribution in its median absolute deviation."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`delta` and `threshold` in standard deviations; `warm_up` in values, before which there is no alarm."""

    delta: float
    threshold: float
    warm_up: int


@dataclass(frozen=True, slots=True)
class Excursion:
    """The sum of the test since it was last 0: over `steps` values with this `total`, the first at `since`.

    `taken` is what of the total went into the mean of the test.
    """

    statistic: float = 0.0
    steps: int = 0
    total: float = 0.0
    since: int = 0  # microseconds UTC
    taken: float = 0.0


@dataclass(frozen=True, slots=True)
class PageHinkley:
    """The test in both directions, and the count, mean and sum of squared differences of the values so far.

    None counts for more than CLIP deviations there, or one absurd value would make the test deaf for good. `early` are
    the values of the warm-up, as long as it lasts.
    """

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    rise: Excursion = Excursion()
    fall: Excursion = Excursion()
    early: tuple[float, ...] = ()

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "PageHinkley":
        """Read what `to_dict` wrote."""
        parts = {"rise": Excursion(**saved["rise"]), "fall": Excursion(**saved["fall"])}
        return cls(**{**saved, **parts, "early": tuple(saved.get("early", ()))})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which keeps every bit of them."""
        return asdict(self)


def advance(test: PageHinkley, value: float, time: int, limits: Limits) -> PageHinkley:
    """Take in the value of a step. The mean is that of all values, so the test follows a change only slowly."""
    if test.n < limits.warm_up:
        early = (*test.early, value)
        if len(early) < limits.warm_up:
            return replace(test, n=len(early), early=early)
        return _measure(early)
    spread = math.sqrt(test.squares / test.n)
    above = value - test.mean
    size = above / spread if spread > 0.0 else math.copysign(math.inf, above) if above else 0.0
    taken = value
    if abs(size) > CLIP:
        size = math.copysign(CLIP, size)
        taken = test.mean + size * spread if spread > 0.0 else value
    n = test.n + 1
    mean = test.mean + (taken - test.mean) / n
    return replace(
        test,
        n=n,
        mean=mean,
        squares=test.squares + (taken - test.mean) * (taken - mean),
        rise=_extend(test.rise, size - limits.delta, value, taken, time),
        fall=_extend(test.fall, -size - limits.delta, value, taken, time),
    )


def _measure(values: tuple[float, ...]) -> PageHinkley:
    """Take the moments of the warm-up; the median says what is absurd there, as it is moved by no single value."""
    middle = median(values)
    room = CLIP * MAD_OF_NORMAL * median(abs(value - middle) for value in values)
    if room > 0.0:  # 0 where more than half are equal: then nothing says what is absurd
        values = tuple(max(middle - room, min(middle + room, value)) for value in values)
    mean = fmean(values)
    return PageHinkley(len(values), mean, math.fsum((value - mean) ** 2 for value in values))


def _extend(excursion: Excursion, by: float, value: float, taken: float, time: int) -> Excursion:
    statistic = excursion.statistic + by
    if statistic <= 0.0:
        return Excursion()
    since = excursion.since if excursion.steps else time
    return Excursion(statistic, excursion.steps + 1, excursion.total + value, since, excursion.taken + taken)


@dataclass(frozen=True, slots=True)
class Watch:
    """The two tests of a group of series, and the origin of the last step that they were fed."""

    fed: int | None = None  # microseconds UTC
    error: PageHinkley = PageHinkley()
    level: PageHinkley = PageHinkley()

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Watch":
        """Read what `to_dict` wrote."""
        return cls(saved["fed"], PageHinkley.from_dict(saved["error"]), PageHinkley.from_dict(saved["level"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Step:
    """A group's step of time: `origin` of the forecasts one step ahead, and the means; None without evidence."""

    origin: int  # microseconds UTC
    error: float | None
    level: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """What was found: the signal, its mean before and in the excursion, which has `steps` steps from `since` on."""

    signal: str
    before: float
    after: float
    steps: int
    since: int  # microseconds UTC


def feed(watch: Watch, step: Step, limits: Limits) -> tuple[Watch, Alarm | None]:
    """Take in a step; an alarm starts both tests anew. Errors alarm when they rise, levels in either direction."""
    error = watch.error if step.error is None else advance(watch.error, step.error, step.origin, limits)
    level = watch.level if step.level is None else advance(watch.level, step.level, step.origin, limits)
    suspects = (
        ("errors rose", error, error.rise),
        ("level rose", level, level.rise),
        ("level fell", level, level.fall),
    )
    for signal, test, excursion in suspects:
        if excursion.statistic > limits.threshold:
            rest = test.n - excursion.steps
            before = (test.mean * test.n - excursion.taken) / rest
            after = excursion.total / excursion.steps
            return Watch(step.origin), Alarm(signal, before, after, excursion.steps, excursion.since)
    return Watch(step.origin, error, level), None
