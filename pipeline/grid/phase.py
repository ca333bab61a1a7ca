"""How long after its grid times a deployment's events are: found from the first ones, once, and kept with the rows.

    day         1           2           3
    6 in July   |  x        |  x        |  x        gas days: one phase of 6 h
    readings    | x   x  x  |  x   xx   |x    x     several in a step, or at any time: no phase

A phase is only taken from events of several steps that agree. One found after rows were stored would mix two grids, so
what is stored first decides: with too little to go by, the steps begin where the frequency says.
"""

from collections.abc import Callable, Sequence

import numpy as np
import structlog

from pipeline.errors import Regridded, TooFew
from pipeline.grid.frequency import DAY, SECOND, Frequency
from pipeline.records import Events, Ints

log = structlog.get_logger()
AGREEING = 0.95
"""Share of the times that must have the phase: others are strays."""
BY_CHANCE = 0.01
"""At most so probable may it be that times without a phase agree as these do."""
ROUND = 1 / 48
"""A phase of half hours of a day, or as coarse a part of another step, needs no further evidence."""
UNITS = [DAY, *(unit * SECOND for unit in (43_200, 21_600, 10_800, 3_600, 1_800, 900, 300, 60, 30, 15, 5, 1))]
OFF_GRID = (
    "they are stored at the step before them, the last one of a step counts; if that is not meant, set "
    "series.timezone, series.phase or series.frequency to their steps, with a database of their own"
)
"""What to do about events between the steps."""
LOOKS = 2
"""Turns that may be put off because too few events have arrived to tell."""


class PhaseSearch:
    """Finds the phase of a grid with a phase of 0; `decide` notes it for all workers and returns what was noted first.

    `settle` looks at the events of a turn before any of them is stored, until the phase is settled.
    """

    def __init__(self, frequency: Frequency, decide: Callable[[int], int] | None = None) -> None:
        self._frequency = frequency
        self._decide = decide
        self._looks = 0

    def settle(self, events: Sequence[Events]) -> None:
        """Settle the phase. Raises Regridded if it is not 0, and TooFew, at first, if there is too little to go by."""
        if self._decide is None or not events:
            return
        numbers: dict[str, int] = {}  # not an array of texts, whose every row is as wide as the longest name
        series = np.array([numbers.setdefault(name, len(numbers)) for run in events for name in run.series], np.int64)
        found = find_phase(np.concatenate([run.event_time for run in events]), series, self._frequency)
        if found is None:
            self._looks += 1
            if self._looks <= LOOKS:
                raise TooFew("the first events do not tell where the steps of the grid begin")
            log.warning("too few events to find the grid's phase", grid=self._frequency.words, action=OFF_GRID)
        settled = self._decide(found or 0)
        self._decide = None
        if settled:
            raise Regridded(f"events come {settled} s after the steps of {self._frequency.words}")


SETTLED = PhaseSearch(Frequency("1h"))
"""For a grid whose phase is settled."""


def find_phase(times: Ints, series: Ints, frequency: Frequency) -> int | None:
    """Find the seconds after the steps of a grid with a phase of 0 at which times (N,) of series (N,) come.

    0 for times on the grid, and for those that have no phase: at any time, or several in a step. None if it may be
    either, as no series has agreeing times in enough steps.
    """
    past = frequency.past_step(times)
    phases, counts = np.unique(past, return_counts=True)
    phase, agreeing = int(phases[counts.argmax()]), int(counts.max())
    if phase == 0 or agreeing < AGREEING * len(times):
        return 0
    if phase % SECOND or not frequency.allows(phase // SECOND):  # such as the 31st under MS: February has none
        return 0
    agree = past == phase
    places = np.unique(np.stack([series[agree], frequency.step_of(times[agree])]), axis=1)
    steps = int(np.unique(places[0], return_counts=True)[1].max())
    if steps < 2:
        return None
    share = next(unit for unit in UNITS if phase % unit == 0) / (frequency.seconds * SECOND)
    return phase // SECOND if share >= ROUND or share ** (steps - 1) <= BY_CHANCE else None
