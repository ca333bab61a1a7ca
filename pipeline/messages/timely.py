"""Whether times lie on the grid, within what is believed, and not too far in the future."""

from collections.abc import Callable, Iterator

import numpy as np

from pipeline.grid.frequency import Frequency
from pipeline.grid.times import TimeRule
from pipeline.grid.untimely import explain_future, explain_time
from pipeline.messages.unreadable import Fault
from pipeline.records import Ints, Kind


def find_untimely(
    times: Ints,
    sent: Callable[[int], str | float | None],
    field: str,
    frequency: Frequency,
    rule: TimeRule,
    latest: int,
) -> Iterator[tuple[int, Fault]]:
    """Yield the places of times (N,) in microseconds that are none on the grid, or later than `latest`, each with why.

    `sent(i)` is the time as the message has it, None where there is none to judge, and `field` what it calls it.
    """
    bad = ~frequency.holds(times) | (times > latest) | (times < rule.first_text)
    for i in np.flatnonzero(bad).tolist():
        time = sent(i)
        if time is not None and times[i] > latest:
            yield i, Fault(Kind.FUTURE, f"{field}: {explain_future(time)}")
        elif time is not None:
            yield i, Fault(Kind.TIME, f"{field}: {explain_time(time, rule)}")
