"""The composition root: settings -> adapters -> services. Nothing is built anywhere else.

The clock is read here and handed down, so that time is an argument everywhere else.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import structlog

from models.fitting.cpu import tune_cpu
from pipeline.database import Database
from pipeline.errors import Regridded
from pipeline.forecasting.first_champion import serve_pretrained
from pipeline.forecasting.scorer import Scorer
from pipeline.forecasting.shadow import ShadowScorer
from pipeline.forecasting.windows import Grid, model_config
from pipeline.grid.frequency import Frequency
from pipeline.grid.phase import SETTLED, PhaseSearch
from pipeline.health.heartbeat import LATELY
from pipeline.health.logs import Phases, start_logging
from pipeline.health.probes import Probes, serving
from pipeline.health.watchdog import Watchdog
from pipeline.kafka import topics
from pipeline.kafka.limits import read_limits
from pipeline.kafka.publisher import KafkaPublisher
from pipeline.kafka.source import KafkaSource
from pipeline.messages.codec import Reader, check_horizon
from pipeline.settings import Settings
from pipeline.settings.secrets import list_secrets
from pipeline.start import binding_of, clock, decoder_of, ending_well, open_database, stop_signal, timer
from pipeline.stream.breaker import Breakers
from pipeline.stream.claim import Accept
from pipeline.stream.eviction import Eviction
from pipeline.stream.incarnations import remade
from pipeline.stream.series_limit import SeriesLimit
from pipeline.stream.turn import Parts, nothing_happens
from pipeline.stream.worker import Worker
from pipeline.stream.worker_metrics import WorkerCollector, checks_of

log = structlog.get_logger()
DATABASE_CALLS = 4.0
KAFKA_CALLS = 1.5
"""The watchdogs wait for so many times what a call may take: it may be tried again, or be several."""
MARGIN = 60.0  # seconds after the watchdogs' in which a loop that stands still is computing, not waiting


@contextmanager
def built_worker(
    settings: Settings,
    *,
    accept: Accept = Accept.NOTHING,
    now: Callable[[], int] = clock,
    timer: Callable[[], int] = timer,
    passed: Callable[[str], None] = nothing_happens,
) -> Iterator[Worker]:
    """Build a stream worker on the real adapters and close them after it."""
    with ExitStack() as stack:
        check_horizon(settings.series.horizon)
        model_config(settings, Frequency.of(settings.series), 0)
        database = open_database(settings, Watchdog(settings.database.timeout * DATABASE_CALLS).guard)
        stack.callback(database.close)
        phase = database.pipelines.bind(binding_of(settings), now(), new_group=Accept.OFFSETS_LOST in accept)
        settings = settings.with_phase(phase)
        frequency = Frequency.of(settings.series)
        grid = Grid(frequency, settings.series, len(settings.input.covariates))
        shape = model_config(settings, frequency, 0)
        database.registry.describe_baseline(shape.to_dict(), season=shape.season, step_seconds=frequency.seconds)
        serve_pretrained(database.registry, settings, frequency, now())
        scorer = Scorer(database.registry, database.calibrations, grid, shape)
        scorer.refresh(timer())
        anew = Accept.NEW_TOPIC in accept
        counts = topics.check_topics(settings.kafka, () if anew else database.pipelines.known_topics())
        outputs = (settings.kafka.output_topic, settings.kafka.dead_letter_topic)
        limits = read_limits(settings.kafka, outputs)
        check_horizon(settings.series.horizon, limits[settings.kafka.output_topic].fits)
        watchdog = Watchdog(settings.kafka.call_timeout * KAFKA_CALLS)
        source = KafkaSource(settings.kafka, watchdog, max_batch_bytes=settings.input.max_batch_bytes)
        stack.callback(source.close)
        written = identify_outputs(settings, database, source, now(), accept=anew)
        publisher = KafkaPublisher(
            settings.kafka,
            watchdog,
            group_metadata=source.group_metadata,
            frequency=frequency,
            partitions=(counts[outputs[0]], counts[outputs[1]]),
            limits=(limits[outputs[0]], limits[outputs[1]]),
        )
        stack.callback(publisher.close)
        store = database.store(settings.kafka.input_topic, settings.series.duplicates, now, settings.input.covariates)
        new, total = settings.input.max_new_series, settings.input.max_series
        held = settings.input.series_in_memory
        parts = Parts(
            source=source,
            store=store,
            publisher=publisher,
            scorer=scorer,
            reader=Reader(settings.input, frequency, settings.kafka.input_topic, decoder_of(settings)),
            grid=grid,
            clock=now,
            timer=timer,
            phases=Phases(),
            passed=passed,
            breakers=Breakers(settings.input),
            shadow=ShadowScorer(database.registry, grid, shape),
            series_limit=SeriesLimit(new, store.known, total=total, count=store.count_series) if new or total else None,
            eviction=Eviction(held) if held else None,
            phase=SETTLED if phase is not None else PhaseSearch(frequency, database.pipelines.decide_phase),
            input_topic=settings.kafka.input_topic,
            topics=written,
        )
        yield Worker(parts, f"{settings.kafka.instance}:{os.getpid()}", settings.kafka.max_messages, accept)


def identify_outputs(
    settings: Settings, database: Database, source: KafkaSource, now: int, *, accept: bool
) -> dict[str, str]:
    """Return Kafka's ids of the topics that are written to; ConfigError for one that is not the one known to SQL."""
    kafka = settings.kafka
    source.ask()
    found = source.incarnations()
    output, letters = found.get(kafka.output_topic, ""), found.get(kafka.dead_letter_topic, "")
    known = database.pipelines.identify(output, letters, now, accept=accept)
    ids = {
        kafka.output_topic: known["output_incarnation"],
        kafka.dead_letter_topic: known["dead_letter_incarnation"],
    }
    for topic, own in ids.items():
        if own and found.get(topic, own) != own:
            raise remade(topic, own, is_input=False)
    return ids


@contextmanager
def visible_worker(
    settings: Settings,
    *,
    accept: Accept = Accept.NOTHING,
    now: Callable[[], int] = clock,
    passed: Callable[[str], None] = nothing_happens,
) -> Iterator[Worker]:
    """Build a stream worker that tells how it is at `metrics.listen`, also while it is being built."""
    probes = Probes("worker", list_secrets(settings))
    with (
        serving(settings.metrics.listen, probes, settings.metrics.hosts),
        built_worker(settings, accept=accept, now=now, passed=passed) as worker,
    ):
        lately = max(LATELY, settings.kafka.session_timeout)
        patience = longest_call(settings) + MARGIN
        probes.watch(checks_of(worker, lately=lately, patience=patience), WorkerCollector(worker))
        yield worker


def run_worker(settings: Settings, *, accept: Accept = Accept.NOTHING) -> None:
    """Run one stream worker until SIGTERM or SIGINT, which end it between two turns."""
    start_logging(list_secrets(settings))
    switches = tune_cpu(1)
    stopping = stop_signal()
    with ending_well(stopping):
        turns = -1
        while turns < 0:
            with visible_worker(settings, accept=accept) as worker:
                where = {"topic": settings.kafka.input_topic, "instance": settings.kafka.instance}
                log.info("worker ready", **where, cpu=str(switches))
                turns = run_on_its_grid(worker, stopping)
        log.info("worker stopped", turns=turns)


def run_on_its_grid(worker: Worker, stopping: Callable[[], bool]) -> int:
    """Run a worker and return its turns; -1 if it is to be built again, on the grid that the first events have."""
    try:
        worker.run(stopping)
    except Regridded as error:
        log.warning("the grid has a phase", reason=str(error), action="the worker starts again with it")
        return -1
    return worker.turns


def longest_call(settings: Settings) -> float:
    """Return the seconds after which the watchdogs end the process, whatever it waits for."""
    return max(settings.database.timeout * DATABASE_CALLS, settings.kafka.call_timeout * KAFKA_CALLS)
