"""The training set: history on the grid, and where it is cut into training, validation and backtest.

    oldest                                    cut                                newest
    |------ training ------|-- validation --| |-- backtest: origin 1, 2, ... O --|
                                            first held-out step

The cut is one point in time for all series, so a backtest knows nothing that was not known then.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from models.panel import Panel
from pipeline.errors import TidecastError
from pipeline.forecasting.windows import lay_out
from pipeline.grid.frequency import Frequency
from pipeline.records import History, Ints
from pipeline.settings import Settings
from pipeline.settings.jobs import HELD_OUT, count_needed

VALIDATED, VALIDATION = 8, 5
"""Horizons held back for validation, of all series together, as long as they are no more than one part in VALIDATION of
the shortest. One horizon of one series neither chooses weights nor tells how wide intervals must be."""


class TooLittleHistory(TidecastError):
    """There is not enough to train on yet; the message says what is there and what is needed."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a model was made from: event times in microseconds, UTC.

    train_from and train_to: oldest and newest time that may be learned or validated on; backtest_to: newest time
    scored. rows: observations from train_from to train_to; series: how many the model knows by name. series_read of
    series_stored were read, and rows_read of rows_stored that the settings allow; None for a frame.
    """

    train_from: int
    train_to: int
    backtest_to: int
    rows: int
    series: int
    series_read: int | None = None
    series_stored: int | None = None
    rows_read: int | None = None
    rows_stored: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """S series on the grid; `panel` holds everything, `known` ends at the cut.

    names: every series, in panel order. learned: the names of embedding rows 1.., those with steps to learn from.
    firsts: grid steps of the first target of each backtest origin. validation_steps: the last ones of `known`.
    future_covariates, static_covariates: names of the panel's; those of the past are in the settings.
    """

    names: tuple[str, ...]
    learned: tuple[str, ...]
    panel: Panel
    known: Panel
    firsts: tuple[int, ...]
    validation_steps: int
    lineage: Lineage
    future_covariates: tuple[str, ...] = ()
    static_covariates: tuple[str, ...] = ()

    def rows_of(self, learned: Sequence[str]) -> Ints:
        """Find the embedding row (S,) of each series in a model that knows `learned`; 0 for one it does not know."""
        return find_rows(self.names, learned)


def cut_training_set(
    names: Sequence[str], history: History, settings: Settings, frequency: Frequency, *, recent: int | None = None
) -> TrainingSet:
    """Lay the history out and cut it; raises TooLittleHistory when it does not reach over a few horizons.

    `recent`: only so many steps before the cut are learned and validated on, with the contexts before them.
    """
    names, history = keep_newest(names, history, frequency, settings.training.history)
    context, horizon = settings.series.context, settings.series.horizon
    steps = frequency.step_of(history.observed_at)
    if not len(steps):
        raise TooLittleHistory("there are no observations to train on yet: run tidecast stream until there are")
    oldest, newest = int(steps.min()), int(steps.max())
    gate = settings.jobs
    before_end = pick_origins(newest - oldest + 1, horizon, gate.gate_origins, frequency)
    firsts = tuple(newest + 1 - before for before in before_end)

    unnamed = np.zeros(len(names), np.int64)
    panel = lay_out(history, frequency=frequency, rows=unnamed, context=context, horizon=horizon)
    known = replace(panel, length=(firsts[0] - panel.first_step).clamp(min=0).minimum(panel.length))
    begin = oldest if recent is None else max(oldest, firsts[0] - recent)
    known = drop_older(known, begin)
    validation = settings.training.validation_steps or usual_validation(known.length.numpy(), horizon)
    learnable = (known.length - validation >= 2).tolist()
    learned = tuple(name for name, enough in zip(names, learnable, strict=True) if enough)
    if not learned:
        raise TooLittleHistory(
            f"no series has steps to learn from before the {validation} validation and {newest + 1 - firsts[0]} "
            f"backtest steps: {'wait for more history' if recent is None else 'raise training.recent'}, or lower "
            "series.horizon"
        )
    rows = int(((begin <= steps) & (steps < firsts[0])).sum())
    times = frequency.time_of(np.array([begin, firsts[0] - 1, newest], np.int64)).tolist()
    return TrainingSet(
        names=tuple(names),
        learned=learned,
        panel=panel,
        known=known,
        firsts=firsts,
        validation_steps=validation,
        lineage=Lineage(times[0], times[1], times[2], rows, len(learned)),
    )


def usual_validation(length: Ints, horizon: int) -> int:
    """Choose how many of the last steps of series of `length` (S,) steps are held back, where nobody has chosen."""
    some = length[length >= horizon + 2]  # those that can be learned from
    if not len(some):
        return horizon
    return max(horizon, min(horizon * -(-VALIDATED // len(some)), int(some.min()) // VALIDATION))


def drop_older(panel: Panel, begin: int) -> Panel:
    """Let every series begin at grid step `begin` or later; windows still see the values before it as context."""
    skipped = (begin - panel.first_step).clamp(min=0).minimum(panel.length)
    return replace(
        panel,
        start=panel.start + skipped,
        length=panel.length - skipped,
        first_step=panel.first_step + skipped,
    )


def pick_origins(span: int, horizon: int, origins: int, frequency: Frequency) -> tuple[int, ...]:
    """Spread backtest origins over the end of a history of `span` steps: first targets, in steps before its end.

    They are a horizon apart, or nearer where that would hold out more than one part in HELD_OUT.
    """
    least = count_needed(horizon, origins)
    if span < least:
        raise TooLittleHistory(
            f"the history reaches over {span} steps of {frequency.text}; a horizon of {horizon} and {origins} backtest "
            f"origins need {least}: wait for more, or lower series.horizon or jobs.gate_origins"
        )
    apart = horizon
    if origins > 1:
        apart = min(apart, (span // HELD_OUT - horizon) // (origins - 1))
    return tuple(horizon + apart * back for back in reversed(range(origins)))


def find_rows(names: Sequence[str], learned: Sequence[str]) -> Ints:
    """Find the embedding row of each of `names` (S,) in a model that knows `learned`; 0 for one it does not know."""
    row = {name: index for index, name in enumerate(learned, start=1)}
    return np.array([row.get(name, 0) for name in names], np.int64)


def name_series(panel: Panel, rows: Ints) -> Panel:
    """Give a panel's series their embedding rows (S,) in a model; everything else is shared."""
    return replace(panel, series=torch.from_numpy(rows).to(panel.device))


def drop_future(history: History, now: int) -> History:
    """Drop observations of later than `now`: one series whose clock is fast must not set the end of the others."""
    kept = history.observed_at <= now
    owner = np.repeat(np.arange(len(history.series_id)), np.diff(history.bounds))
    counts = np.bincount(owner[kept], minlength=len(history.series_id))
    return History(
        series_id=history.series_id,
        bounds=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        observed_at=history.observed_at[kept],
        value=history.value[kept],
        observed=history.observed[kept],
        events=history.events[kept],
        covariates=history.covariates[kept],
    )


def keep_newest(names: Sequence[str], history: History, frequency: Frequency, steps: int) -> tuple[list[str], History]:
    """Keep the newest `steps` grid steps, counted from the newest observation of all, and series that have any."""
    at = frequency.step_of(history.observed_at)
    kept = at > at.max(initial=at[0] if len(at) else 0) - steps
    owner = np.repeat(np.arange(len(names)), np.diff(history.bounds))
    counts = np.bincount(owner[kept], minlength=len(names))
    some = counts > 0
    return [name for name, has in zip(names, some, strict=True) if has], History(
        series_id=history.series_id[some],
        bounds=np.concatenate([[0], np.cumsum(counts[some])]).astype(np.int64),
        observed_at=history.observed_at[kept],
        value=history.value[kept],
        observed=history.observed[kept],
        events=history.events[kept],
        covariates=history.covariates[kept],
    )
