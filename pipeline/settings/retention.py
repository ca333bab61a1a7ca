"""The table [retention]: how long the database keeps what."""

from typing import Annotated

from pipeline.settings.values import DAY, KEEPING, Keeping, LookedBack, Seconds, Section


class RetentionSettings(Section):
    """How long the job `retention` keeps what is in the database; `off`: for ever."""

    observations: Keeping = None
    """Observations and covariates are kept so long. `off`: for ever."""
    thin_forecasts: Keeping = 35 * DAY
    """Of older forecasts only each day's first origin is kept. `off`: all."""
    forecasts: Keeping = 400 * DAY
    """Older forecasts are deleted. `off`: never."""
    requeued_dead_letters: Keeping = 35 * DAY
    """Dead letters are kept so long after they were requeued. `off`: for ever."""
    waiting_dead_letters: Keeping = None
    """Dead letters that were never requeued are kept so long. `off`: for ever."""
    job_runs: Annotated[LookedBack | None, KEEPING] = 400 * DAY
    """The history of jobs is kept so long, 370 days at least. `off`: for ever."""
    artifacts: Keeping = 90 * DAY
    """The bytes of models that never were champion are kept so long. `off`: for ever."""
    budget: Seconds = 1800.0
    """Expert: Longest time of a run. The next run goes on."""
