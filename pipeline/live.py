"""What a comparison of two models on live forecasts is made from."""

from dataclasses import dataclass

from pipeline.records import Floats, Ints


@dataclass(frozen=True, slots=True)
class LivePairs:
    """Sums over the matured targets of (series, origin) pairs that shadow, champion and seasonal naive all forecast.

    A row (N,) is one pair. pinball: mean over the levels; errors are of the median; all in the series' units.
    left_out: matured targets of the champion, since the shadow was to score, that the shadow has no forecast for.
    """

    series: Ints  # (N,)
    origin: Ints  # (N,) microseconds
    last_step: Ints  # (N,) the largest step that has matured
    n: Ints  # (N,) targets
    size: Floats  # (N,) sum of |actual|
    naive_error: Floats  # (N,) sum of |error| of the seasonal naive
    shadow_error: Floats  # (N,) sum of |error|
    shadow_pinball: Floats  # (N,)
    champion_pinball: Floats  # (N,)
    shadow_inside: Ints  # (N,) targets within the 80 % interval
    champion_inside: Ints  # (N,)
    left_out: int
