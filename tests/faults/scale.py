"""How large the fault tests are in this run: `make faults SCALE=10` makes them ten times as large."""

import os

SCALE = "TIDECAST_FAULT_SCALE"


def scale() -> float:
    return float(os.environ.get(SCALE) or 1)


def scaled(count: int, by: float = 1.0, *, quick: int | None = None) -> int:
    """Return a count of this scale: count x scale / by, never less than `count` itself or 1.

    `by` is for what grows more slowly than the input: scaled(10, by=10) is 10 up to SCALE=10, and 50 at SCALE=50.
    `quick` is the count of `make test`, which has no scale, where that is a smaller one.
    """
    if quick is not None and SCALE not in os.environ:
        return quick
    return max(1, count, round(count * scale() / by))
