"""Publishing in spite of messages that their topic will never take: they stay in SQL, and the rest goes on.

A dead letter that is refused is sent as a stub, which says where it is and why; only when that is refused, too, is it
left out, as a forecast is. Each is noted in SQL first, so that a crash cannot make it disappear without a word.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import structlog

from pipeline.errors import Refused
from pipeline.records import DEAD_LETTER, Committed, DeadLetter, Forecasts, Left
from pipeline.stream.ports import Publisher, Store
from pipeline.stream.worker_state import WorkerState

log = structlog.get_logger()


def publish_or_leave(
    publication: tuple[Forecasts, Sequence[DeadLetter], Mapping[int, Committed]],
    publisher: Publisher,
    store: Store,
    worker_state: WorkerState,
) -> None:
    """Publish forecasts, dead letters and next offsets in one transaction, without those that are refused."""
    forecasts, letters, commits = publication
    while True:  # each round leaves at least one message or its whole form out
        try:
            return publisher.publish(forecasts, letters, commits)
        except Refused as refused:
            store.leave(refused.left)
            worker_state.leave(refused.left)
            log.error("messages left in SQL", messages=len(refused.left), reason=str(refused))
            forecasts, letters = leave_out(forecasts, letters, refused.left)


def leave_out(
    forecasts: Forecasts, letters: Sequence[DeadLetter], left: Sequence[Left]
) -> tuple[Forecasts, list[DeadLetter]]:
    """Return what to publish instead: letters refused as they are become stubs, other refused messages are dropped."""
    kept = np.ones(len(forecasts), np.bool_)
    kept[[each.index for each in left if each.message != DEAD_LETTER]] = False
    refused = {each.index: each for each in left if each.message == DEAD_LETTER}
    rest = [
        replace(letter, left_because=refused[i].reason) if i in refused else letter
        for i, letter in enumerate(letters)
        if i not in refused or not refused[i].stub
    ]
    return forecasts.take(kept), rest
