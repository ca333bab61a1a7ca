"""The metrics of a stream worker for Prometheus, and why it is unwell or not ready: read from what it counts itself.

A label is a partition, a phase, a quality, or one of a few classes, never text of a message. Times are
`_timestamp_seconds`; an age is time() - that.
"""

from collections.abc import Callable, Iterator

from pipeline.health.probes import Checks
from pipeline.health.prometheus import Collector, Metric, counter, gauge, histogram, in_seconds
from pipeline.records import Kind, Quality
from pipeline.stream.worker import Worker
from pipeline.stream.worker_state import KINDS, SETBACKS, PartitionState

PARTITION = ("partition",)
QUALITIES: tuple[Quality, ...] = ("ok", "degraded", "fallback")
TURN = "turn"


def checks_of(worker: Worker, *, lately: float, patience: float) -> Checks:
    """Look at a worker: it is unready when its loop or what it needs is silent for `lately` seconds.

    It is unwell when its loop stands still for `patience` seconds, which no call in it may take.
    """
    worker_state = worker.parts.worker_state

    def find_unready() -> list[str]:
        tripped = [
            f"the circuit breaker has paused partition {at}: {why}" for at, why in sorted(worker.tripped.items())
        ]
        return tripped + worker_state.find_unready(lately)

    return Checks(lambda: worker_state.heartbeat.find_stop(patience), find_unready)


class WorkerCollector(Collector):
    """Collects the metrics of a worker, from any thread."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._turns()
        yield from self._partitions()
        yield from self._recovery()
        yield from self._models()

    def _turns(self) -> Iterator[Metric]:
        worker_state, durations = self._worker.parts.worker_state, dict(self._worker.parts.phases.durations)
        whole = {TURN: durations.pop(TURN)} if TURN in durations else {}
        yield histogram("turn_duration_seconds", "How long the turns took, from a poll's messages on.", whole)
        yield histogram("turn_phase_duration_seconds", "How long each phase took.", durations, "phase")
        yield counter("messages", "Input messages that were read to their end.", [((), worker_state.messages)])
        yield counter(
            "off_grid_events", "Events whose time lies between two steps of the grid.", [((), worker_state.off_grid)]
        )
        yield counter(
            "tombstones", "Input messages without a value, which are skipped.", [((), worker_state.tombstones)]
        )
        yield counter(
            "skipped_messages",
            "Other input messages that have no reading by the mapping, such as the deletes of an envelope.",
            [((), worker_state.no_reading)],
        )
        yield counter("observations", "Observations that were stored.", [((), worker_state.observations)])
        made = [((quality,), float(worker_state.forecasts[quality])) for quality in QUALITIES]
        yield counter("forecasts", "Forecasts that were stored, by quality.", made, ("quality",))
        yield counter(
            "reforecasts",
            "Forecasts of newest origins that a swap of the champion made due, not an event.",
            [((), worker_state.reforecasts)],
        )
        letters = [((kind,), float(worker_state.dead_letters[kind])) for kind in Kind]
        yield counter("dead_letters", "Messages that became dead letters, by class of reason.", letters, ("reason",))

        left = [((kind,), float(worker_state.left[kind])) for kind in KINDS]
        yield counter("left_in_sql", "Messages that their topic refused: they are in SQL only.", left, ("kind",))

    def _partitions(self) -> Iterator[Metric]:
        parts = self._worker.parts
        own = sorted(dict(parts.worker_state.partitions).items())

        def each(value: Callable[[PartitionState], float | None]) -> list[tuple[tuple[str], float | None]]:
            return [((str(partition),), value(worker_state)) for partition, worker_state in own]

        def newest(worker_state: PartitionState) -> float | None:
            return in_seconds(worker_state.newest_event)

        def size(worker_state: PartitionState) -> float | None:
            ring = worker_state.ring
            return None if ring is None else ring.nbytes

        def series(worker_state: PartitionState) -> float | None:
            ring = worker_state.ring
            return None if ring is None else len(ring)

        yield gauge(
            "partition_claimed",
            "1 while an assigned partition is claimed.",
            each(lambda worker_state: worker_state.ring is not None),
            PARTITION,
        )
        yield gauge("partition_epoch", "Fencing epoch of the last claim.", each(lambda v: v.epoch or None), PARTITION)
        yield gauge("partition_next_offset", "Next offset to store.", each(lambda v: v.next_offset), PARTITION)
        yield gauge(
            "partition_lag_messages", "Messages on the topic that are not stored yet.", each(lambda v: v.lag), PARTITION
        )
        yield gauge(
            "partition_newest_event_timestamp_seconds", "Newest event time stored here.", each(newest), PARTITION
        )
        yield gauge("partition_ring_bytes", "Memory of the windows.", each(size), PARTITION)
        yield gauge("partition_ring_series", "Series in the windows.", each(series), PARTITION)
        eviction = parts.eviction
        yield counter(
            "series_evicted",
            "Series dropped from memory to make room; one that returns is read from SQL.",
            [((), eviction.evicted if eviction else 0)],
        )
        yield gauge(
            "spread_series",
            "Series whose messages arrive in several partitions; their windows are read from SQL.",
            [((), len(parts.spread.names))],
        )
        yield gauge(
            "grid_step_seconds", "Seconds from one step of the grid to the next.", [((), parts.grid.frequency.seconds)]
        )

    def _recovery(self) -> Iterator[Metric]:
        worker_state = self._worker.parts.worker_state
        yield gauge(
            "uncommitted_seconds",
            "Seconds for which there was something to commit or to claim and nothing was committed.",
            [((), worker_state.uncommitted())],
        )
        yield gauge(
            "last_commit_timestamp_seconds",
            "When a turn was last stored and published.",
            [((), in_seconds(worker_state.committed_at))],
        )
        yield counter("claims", "Claims of partitions.", [((), worker_state.claims)])
        yield counter(
            "claims_dropped",
            "Times that claims were dropped, by why: fenced, broker, database, breaker.",
            [((why,), float(worker_state.setbacks[why])) for why in SETBACKS],
            ("reason",),
        )
        yield counter(
            "republications", "Claims that published what had been stored only.", [((), worker_state.republications)]
        )
        yield counter("republished_messages", "Messages that such claims published.", [((), worker_state.republished)])
        yield counter(
            "skipped_offsets", "Offsets that retention took before they were read.", [((), worker_state.skipped)]
        )
        yield gauge(
            "circuit_breaker_tripped",
            "1 while the circuit breaker has paused a partition of the worker.",
            [((), bool(self._worker.tripped))],
        )

    def _models(self) -> Iterator[Metric]:
        scorer, shadow = self._worker.parts.scorer, self._worker.parts.shadow
        yield gauge("model_version", "Model that scores here; 0: seasonal naive.", [((), scorer.version)])
        yield gauge(
            "model_trained_until_timestamp_seconds",
            "Newest event time from which the model that scores here has learned.",
            [((), in_seconds(scorer.trained_until))],
        )
        yield gauge("model_calibration_version", "Calibration in use here; 0: none.", [((), scorer.calibration)])
        yield gauge("champion_refused_version", "Champion that cannot be used here; 0: none.", [((), scorer.refused)])
        yield counter(
            "champion_failures",
            "Times that a champion or its calibration was refused, or the champion failed.",
            [((), scorer.failures)],
        )
        yield gauge("shadow_version", "Shadow that scores here; 0: none.", [((), (shadow and shadow.version) or 0)])
        yield counter(
            "shadow_failures", "Times that a shadow was refused or failed.", [((), shadow.failures if shadow else 0)]
        )
