"""Events per second of one worker: Apache Kafka in, SQL rows and forecast messages out, beside Quix Streams.

A figure is the median over rounds; in a round every implementation runs once, in turn. Each run has a process, a
group, a database and output topics of its own, and its results are checked before its figure counts.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, text

from pipeline.settings import Settings
from tests.bench import peers
from tests.bench.feed import Feed, Kind
from tests.bench.results import Figure, Report, median, medians, ratios, say
from tests.bench.stage import (
    Stage,
    committed,
    delete_topics,
    measure,
    measure_worker,
    promote_untrained,
    read_messages,
    staged,
)

PARTITIONS = 6
HISTORY = 336
HORIZON = 48
WANTED = 40_000.0
COMMIT_EVERY = 100_000  # events in a checkpoint of Quix Streams, about its default of five seconds

PROTOCOLS = {
    "same-hour": "nothing due: duplicates=mean, every event falls into the hour that its series has begun, so a turn's "
    "events are merged and upserted, one row per series and turn",
    "late": "nothing due: every event is older than its series' newest, and each becomes a row of its own",
    "import": "history in bulk, series after series: every event a new row, one forecast (seasonal naive) per series "
    "and turn, about one per 336 events",
    "due-naive": "every event is a new hour of its series and makes a forecast due (48 steps, 13 quantiles, "
    "on=every_step), by the seasonal naive",
    "late-keyless": "as late, without keys: the messages of a series come in all partitions",
    "due-naive-keyless": "as due-naive, without keys",
    "due-attention": "as due-naive, by the default attention network with the weights it starts from",
}
LIMIT = "reading and decoding only"
PEERS = {
    "insert": "quixstreams, PostgreSQL sink, a row per event",
    "upsert": "quixstreams, PostgreSQL sink, upsert",
    "topic": "quixstreams, output topic only",
}


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    series: int = 10_000
    events: int = 600_000
    rounds: int = 3

    def feed(self, bench: str) -> Feed:
        if bench == "import":
            return Feed("import", max(PARTITIONS, self.events // HISTORY), HISTORY, PARTITIONS, 0)
        kind: Kind = "due" if bench.startswith("due") else "late" if bench.startswith("late") else "same-hour"
        each = max(4, self.events // self.series)
        rounds = min(each, 4) if kind == "due" else each
        return Feed(kind, self.series, rounds, PARTITIONS, HISTORY, keyed=not bench.endswith("-keyless"))


Found = dict[str, Any]


def run(
    sizes: Sizes, *, database: str, with_peers: bool, only: Sequence[str] = (), profiles: Path | None = None
) -> Path:
    """Measure, and return the file of figures; `profiles` is a folder for profiles, which slow the runs down."""
    kinds = ("sqlite", "postgresql") if database == "both" else (database,)
    python = peers.quix_python() if with_peers else None
    report = Report("end-to-end")
    with staged(postgresql="postgresql" in kinds) as stage:
        measures = dict(plan(stage, sizes, kinds, only or tuple(PROTOCOLS), python, profiles))
        found: dict[tuple[str, str], list[Found]] = {each: [] for each in measures}
        for number in range(sizes.rounds):
            for (bench, impl), measured in measures.items():
                once = measured()
                found[bench, impl].append(once)
                say(f"round {number + 1}/{sizes.rounds} {bench}: {impl}: {once['rate']:,.0f} events/s")
    versions = peers.versions(python) if python else {}
    for figure in figures(found, sizes):
        report.write(figure, versions)
    return report.path


def plan(
    stage: Stage,
    sizes: Sizes,
    kinds: Iterable[str],
    benches: Iterable[str],
    python: Path | None,
    profiles: Path | None,
) -> Iterable[tuple[tuple[str, str], Callable[[], Found]]]:
    """Yield ((bench, impl), how to measure it once) in the order of a round."""
    for bench in benches:
        feed = sizes.feed(bench)
        for kind in kinds:
            profile = profiles / f"{bench}-{kind}.txt" if profiles else None
            yield (bench, f"tidecast, {kind}"), partial(measure_ours, stage, bench, kind, feed, profile)
        if bench == "same-hour":
            yield (bench, LIMIT), partial(measure_ingest, stage, feed, batch_hook=True)
            for output, impl in PEERS.items() if python else ():
                if output == "topic" or stage.postgresql_port is not None:
                    yield (bench, impl), partial(measure_quix, stage, feed, output, python)


def figures(found: Mapping[tuple[str, str], Sequence[Found]], sizes: Sizes) -> Iterable[Figure]:
    """Turn runs into figures; the peers' own runs and the limit are of the load same-hour."""
    rates = {each: median([once["rate"] for once in runs]) for each, runs in found.items()}
    others = {impl: rates["same-hour", impl] for impl in PEERS.values() if ("same-hour", impl) in rates}
    for (bench, impl), runs in found.items():
        ours, due = impl.startswith("tidecast"), bench.startswith("due")
        rate = rates[bench, impl]
        ratio, each = ratios(rate, others if ours and not due else {})
        yield Figure(
            bench=f"end-to-end/{bench}",
            impl=impl,
            value=rate,
            unit="forecasts/s" if due else "events/s",
            protocol=protocol(bench, sizes),
            runs=[once["rate"] for once in runs],
            limit=None if due else rates.get(("same-hour", LIMIT)),
            limit_is=None if due else LIMIT,
            wanted=WANTED if ours and not due else None,
            ratio=ratio,
            ratios=each,
            more={
                part: medians([once[part] for once in runs])
                for part in ("cpu_us", "wall_us", "memory", "counts")
                if part in runs[0]
            },
        )


def protocol(bench: str, sizes: Sizes) -> str:
    feed = sizes.feed(bench)
    return (
        f"{PROTOCOLS[bench]}; {feed.series} hourly series, {feed.rounds} events each, {feed.history} hours of each in "
        f"SQL before; topic of {feed.partitions} partitions filled before the worker starts, about 90 bytes of JSON a "
        f"message; one worker process, one torch thread, steady state, cpu_us and wall_us per event; median of "
        f"{sizes.rounds} rounds in turn; results checked"
    )


def measure_ours(stage: Stage, bench: str, kind: str, feed: Feed, profile: Path | None) -> Found:
    with stage.database(kind, feed) as url:
        settings = stage.settings(feed, url)
        if bench == "due-attention":
            promote_untrained(Settings.model_validate(settings), feed)
        found = measure_worker(stage, settings, feed, profile=profile and str(profile.absolute()))
        assert found["model_version"] == (1 if bench == "due-attention" else 0)
        found["counts"] = check(stage, url, settings["kafka"], feed)
    delete_topics(stage, settings["kafka"]["output_topic"], settings["kafka"]["dead_letter_topic"])
    return found


def check(stage: Stage, url: str, kafka: Mapping[str, Any], feed: Feed) -> dict[str, float]:
    """Compare what a run left in SQL and on the topics with what the feed must give; return the counts."""
    ours = "source_topic = (SELECT topic_id FROM topics WHERE topic = :topic)"
    engine = create_engine(url)
    with engine.connect() as connection:

        def ask(query: str) -> Sequence[Any]:
            return connection.execute(text(query), {"topic": kafka["input_topic"]}).one()

        rows, events, total = ask(f"SELECT count(*), sum(events), sum(value) FROM observations WHERE {ours}")
        (steps,) = ask(f"SELECT count(*) FROM forecasts WHERE {ours}")
        (forecasts,) = ask(f"SELECT count(*) FROM forecasts WHERE step = 1 AND {ours}")
        (letters,) = ask("SELECT count(*) FROM dead_letters WHERE topic = :topic")
        (stored,) = ask("SELECT sum(next_offset) FROM ingest_state WHERE topic = :topic")
    engine.dispose()
    offsets, ends = committed(stage, kafka["group"], kafka["input_topic"], feed.partitions)
    messages = read_messages(stage, kafka["output_topic"])
    assert (rows, int(events)) == (feed.rows, feed.events), f"{rows} rows of {events} events"
    assert abs(total - feed.total()) < 1e-9 * feed.events * 100, f"values sum to {total}, not {feed.total()}"
    assert offsets == ends, f"published up to {offsets} of {ends}"
    assert int(stored) == sum(ends) == feed.events, f"stored up to {stored} of {sum(ends)}"
    assert letters == 0, f"{letters} dead letters"
    assert steps == HORIZON * forecasts, f"{steps} steps of {forecasts} forecasts"
    assert forecasts == (feed.forecasts or forecasts) >= feed.series, f"{forecasts} forecasts"
    assert len(messages) == len({said for _, said in messages}) == forecasts, f"{len(messages)} messages"
    return {"rows": rows, "forecasts": forecasts, "messages": len(messages)}


def measure_ingest(stage: Stage, feed: Feed, *, batch_hook: bool) -> Found:
    """Measure reading and decoding alone: no worker can be faster."""
    settings = stage.settings(feed)
    settings["kafka"]["batch_hook"] = batch_hook
    job = {"measure": "ingest", "settings": settings, "events": feed.events}
    return measure(stage, [sys.executable, "-m", "tests.bench.measured"], job)


def measure_quix(stage: Stage, feed: Feed, output: str, python: Path) -> Found:
    ours = stage.settings(feed)["kafka"]
    with stage.empty_postgresql() if output != "topic" else nullcontext() as address:
        job = {
            "bootstrap_servers": stage.bootstrap_servers,
            "topic": ours["input_topic"],
            "group": ours["group"],
            "output": output,
            "output_topic": ours["output_topic"],
            "postgresql": address,
            "guarantee": "at-least-once",
            "commit_every": min(COMMIT_EVERY, feed.events // 4),
            "state_dir": str(stage.folder / ours["group"]),
            "events": feed.events,
        }
        found = measure(stage, [str(python), str(Path(__file__).with_name("quix_app.py"))], job)
        offsets, ends = committed(stage, ours["group"], ours["input_topic"], feed.partitions)
        assert offsets == ends, f"committed {offsets} of {ends}"
        if address is None:
            written = len(read_messages(stage, ours["output_topic"]))
            delete_topics(stage, ours["output_topic"])
        else:
            written = _check_sink(address, feed, output)
        wanted = feed.series if output == "upsert" else feed.events
        assert written == wanted, f"{output}: {written} results, {wanted} expected"
    return found


def _check_sink(address: Mapping[str, Any], feed: Feed, output: str) -> int:
    engine = create_engine("postgresql+psycopg://postgres@{host}:{port}/{dbname}".format(**address))
    with engine.connect() as connection:
        rows, total = connection.execute(text("SELECT count(*), sum(value) FROM observations")).one()
    engine.dispose()
    if output == "upsert":
        assert abs(total - feed.total()) < 1e-6 * feed.series, f"values sum to {total}, not {feed.total()}"
    return int(rows)
