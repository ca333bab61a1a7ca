"""What is waited for next: the first model that is fitted here, and forecasts of every series by the champion."""

from collections.abc import Callable

import numpy as np
from sqlalchemy import Connection, Engine, exists, func, or_, select

from pipeline.database.engine import reading
from pipeline.database.pages.models import read_champion
from pipeline.database.pages.service import read_phase
from pipeline.database.schema.tables import BASELINE, ingest_state, models, observations, packed_forecasts, series
from pipeline.grid.frequency import Frequency
from pipeline.settings import Settings
from pipeline.settings.jobs import count_needed

LONGEST_OF = 100
"""Series among which the longest history is looked for: those that were met first."""
FORECAST_OF = 500
"""Series, spread over all, that are looked at for forecasts of the champion."""


def read_awaited(connection: Connection, settings: Settings, now: int) -> list[str]:
    """Say what is waited for next, each in a few words; nothing if all is there."""
    return [*_of_first_model(connection, settings, now), *_of_swap(connection)]


def is_fitted(connection: Connection) -> bool:
    """Tell whether a model was ever fitted to a history here: the network of the wheel has none."""
    fitted = select(models.c.version).where(models.c.version != BASELINE, models.c.train_to.is_not(None))
    return connection.execute(fitted.limit(1)).first() is not None


def read_reached(connection: Connection, settings: Settings, now: int) -> int:
    """Count the steps that the longest history of a series reaches over, until `now`."""
    frequency = Frequency.of(settings.with_phase(read_phase(connection)).series)
    own = observations.c
    first = select(series.c.series_id).order_by(series.c.series_id).limit(LONGEST_OF).subquery("first")
    mine = own.series_id == first.c.series_id, own.observed_at <= now
    ends = (select(end(own.observed_at)).where(*mine).scalar_subquery() for end in (func.min, func.max))
    found = connection.execute(select(first.c.series_id, *ends))
    rows = [(oldest, newest) for _, oldest, newest in found if oldest is not None]
    steps = frequency.step_of(np.array(rows, np.int64).reshape(-1, 2).ravel()).reshape(-1, 2)
    return int((steps[:, 1] - steps[:, 0] + 1).max(initial=0))


class FirstHistory:
    """The history that the first model waits for, as a scheduler sees it; `clock` returns microseconds UTC."""

    def __init__(self, engine: Engine, settings: Settings, clock: Callable[[], int]) -> None:
        self._engine = engine
        self._settings = settings
        self._clock = clock

    def fitted(self) -> bool:
        """Tell whether a model was ever fitted to a history here."""
        with reading(self._engine) as connection:
            return is_fitted(connection)

    def messages(self) -> int:
        """Count the messages of the input topic that are stored."""
        stored = select(func.sum(ingest_state.c.next_offset)).where(
            ingest_state.c.topic == self._settings.kafka.input_topic
        )
        with reading(self._engine) as connection:
            return int(connection.execute(stored).scalar() or 0)

    def reached(self) -> int:
        """Count the steps that the longest history of a series reaches over."""
        with reading(self._engine) as connection:
            return read_reached(connection, self._settings, self._clock())

    def awaited(self) -> list[str]:
        """Say what is waited for next."""
        with reading(self._engine) as connection:
            return read_awaited(connection, self._settings, self._clock())


def _of_first_model(connection: Connection, settings: Settings, now: int) -> list[str]:
    if is_fitted(connection):
        return []
    if settings.jobs.retrain is None:
        return ["the first retraining: jobs.retrain is off"]
    needed = count_needed(settings.series.horizon, settings.jobs.gate_origins)
    reached = read_reached(connection, settings, now)
    if reached < needed:
        return [f"the first retraining: needs {needed:,} steps of a series, has {reached:,}"]
    return [f"the first retraining: has the {needed:,} steps of a series that it needs"]


def _of_swap(connection: Connection) -> list[str]:
    """Count the series whose newest origin the champion has forecast, of those that were forecast at all.

    Where it could not, for example from too few observations, what was forecast since it is champion counts, too.
    """
    champion = read_champion(connection)
    if champion is None:
        return []
    highest = connection.execute(select(func.max(series.c.series_id))).scalar() or 0
    chosen = np.unique(np.linspace(1, highest, min(highest, FORECAST_OF)).round().astype(np.int64)).tolist()
    own, made = packed_forecasts.alias("own").c, packed_forecasts.alias("made").c
    newest = select(func.max(own.origin)).where(own.series_id == series.c.series_id)
    looked = (
        select(series.c.series_id, newest.scalar_subquery().label("origin"))
        .where(series.c.series_id.in_(chosen))
        .subquery("looked")
    )
    there = made.series_id == looked.c.series_id, made.origin == looked.c.origin
    by_now = or_(made.model_version == champion["version"], made.issued_at >= champion["promoted_at"])
    done = exists().where(*there, by_now).label("done")
    found = connection.execute(select(done).where(looked.c.origin.is_not(None))).scalars().all()
    if all(found):
        return []
    about = "" if len(chosen) == highest else " that were looked at"
    return [f"re-forecasting: {sum(map(bool, found)):,} of {len(found):,} series{about} are done"]
