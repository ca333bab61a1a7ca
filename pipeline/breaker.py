"""A circuit breaker: where most messages cannot be read, it is the reader or the producers that must change.

    messages   ok ok bad ok ok | bad bad bad bad bad bad ...
                 stored turns  | this turn: more than most_bad of some `window` messages in a row, so nothing is stored

Messages are weighed in the order in which they came. What came before this worker's start counts as good, so a quiet
topic does not trip it by its first messages. Once tripped, it forgets what came before, and a turn is stored again
when its own share is within the limit.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import Tripped
from pipeline.records import DeadLetter, Mask, Messages
from pipeline.settings import InputSettings

SHOWN = 200
"""Characters of an example."""


def mark_bad(runs: Sequence[Messages], letters: Sequence[DeadLetter]) -> Mask:
    """Mark (N,) which of the messages of a turn became dead letters, in the order in which they came."""
    bad: dict[int, list[int]] = {}
    for letter in letters:
        bad.setdefault(letter.partition, []).append(letter.offset)
    marks = [np.isin(run.offsets, bad.get(run.partition, [])) for run in runs]
    return np.concatenate([np.empty(0, np.bool_), *marks])


def most_in_a_row(before: Mask, bad: Mask, window: int) -> int:
    """Return the most bad ones among any `window` messages in a row that end in `bad`; `before` came before."""
    counts = np.concatenate([[0], np.cumsum(np.concatenate([before[max(0, len(before) - window + 1) :], bad]))])
    ends = np.arange(len(counts) - len(bad), len(counts))
    return int(np.max(counts[ends] - counts[np.maximum(ends - window, 0)], initial=0))


@dataclass(slots=True)
class Breaker:
    """One worker's breaker. `tripped` says why it takes no turns now, None while it does."""

    settings: InputSettings
    tripped: str | None = None
    _stored: Mask = field(default_factory=lambda: np.empty(0, np.bool_))

    def check(self, bad: Mask, letters: Sequence[DeadLetter]) -> None:
        """Raise Tripped if a turn with these marks must not be stored."""
        limit = self.settings.most_bad
        if limit is None or not len(bad):
            return
        window = min(len(bad), self.settings.bad_window) if self.tripped else self.settings.bad_window
        most = most_in_a_row(self._before(), bad, window)
        if most > limit * window:
            reason, example = commonest(letters)
            self.tripped = f"{most} of {window} messages cannot be read, most of them because of {reason}"
            raise Tripped(self.tripped, pause=self.settings.bad_pause, example=example)

    def remember(self, bad: Mask) -> None:
        """A turn with these marks is stored."""
        if len(bad):
            self._stored = np.concatenate([self._before(), bad])[-self.settings.bad_window :]
            self.tripped = None

    def _before(self) -> Mask:
        return np.empty(0, np.bool_) if self.tripped else self._stored


def commonest(letters: Sequence[DeadLetter]) -> tuple[str, Mapping[str, object]]:
    """Return what most reasons begin with, which is a field or a fault, and the first letter with it."""
    kinds = Counter(letter.reason.partition(":")[0] for letter in letters)
    kind = kinds.most_common(1)[0][0]
    first = next(letter for letter in letters if letter.reason.partition(":")[0] == kind)
    shown = None if first.value is None else first.value[:SHOWN].decode(errors="replace")
    return kind, {
        "partition": first.partition,
        "offset": first.offset,
        "reason": first.reason[:SHOWN],
        "value": shown,
    }
