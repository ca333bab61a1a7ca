"""What the API answers about the service itself: jobs, partitions, dead letters; see answers.py."""

from pipeline.web.answers import Answer, At


class Progress(Answer):
    """Where a running job is: `step` of `steps`, 0 of 0 when it cannot tell."""

    stage: str
    step: int
    steps: int
    words: str


class Run(Answer):
    """One run of a job; seconds up to now's heartbeat while it runs."""

    id: int
    job: str
    outcome: str
    reason: str | None
    cause: str
    scheduled_for: At
    started_at: At
    ended_at: At | None
    seconds: float
    progress: Progress | None


class Job(Answer):
    """A job: its timetable, None for never by itself, and its latest run."""

    job: str
    timetable: str | None
    enabled: bool
    paused: bool
    requested: bool
    running: bool
    last: Run | None
    progress: Progress | None


class Jobs(Answer):
    """All jobs."""

    items: list[Job]


class RunPage(Answer):
    """Runs, the last begun first; `next` is what to ask for `before`."""

    items: list[Run]
    next: int | None


class Partition(Answer):
    """How far a partition of the input topic is; lag counts offsets, None when the broker was not asked."""

    topic: str
    partition: int
    next_offset: int
    end_offset: int | None
    lag: int | None
    owner: str
    epoch: int
    updated_at: At


class Partitions(Answer):
    """Partitions; `lag_unknown_because` says why a broker did not answer."""

    items: list[Partition]
    lag_unknown_because: str | None


class DeadLetterRow(Answer):
    """A message that could not be read; key and value are text, other bytes escaped, cut at 4,000 bytes."""

    id: str
    topic: str
    partition: int
    offset: int
    reason: str
    received_at: At
    key: str | None
    value: str | None
    cut: bool
    requeued_at: At | None


class DeadLetterPage(Answer):
    """Dead letters, newest first; `next` is what to ask for `after`."""

    items: list[DeadLetterRow]
    next: str | None
