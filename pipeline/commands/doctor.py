"""tidecast doctor: is everything here that a worker needs, and if not, what to do."""

import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from pipeline.commands.display import show_json, show_table
from pipeline.commands.invocation import Invocation
from pipeline.errors import ConfigError, TidecastError

if TYPE_CHECKING:
    from pipeline.settings import Settings

DAY = 86_400_000_000  # microseconds
SECONDS = 5.0  # how long a broker or database may take to answer


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    check: str
    ok: bool
    found: str
    advice: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    help="Instead, read so many of the newest messages, say how these settings read them, and propose a mapping.",
)
@click.pass_obj
def doctor(invocation: Invocation, as_json: bool, sample: int | None) -> None:
    """Check settings, database, broker, topics, codecs, the batch hook and torch; exit 1 if anything is bad."""
    if sample is not None:
        from pipeline.commands.sample import show_sample

        if not show_sample(invocation.settings, sample, as_json=as_json):
            sys.exit(1)
        return
    findings = examine(invocation)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        rows = [[each.check, "ok" if each.ok else "bad", each.found, each.advice] for each in findings]
        show_table(["check", "", "found", "what to do"], rows)
    if not all(finding.ok for finding in findings):
        sys.exit(1)


def examine(invocation: Invocation) -> list[Finding]:
    """Make every check; one that needs what an earlier one found missing is left out."""
    findings = [check_codecs(), check_batch_hook()]
    try:
        settings = invocation.settings
    except TidecastError as error:
        return [Finding("settings", False, "not valid", str(error)), *findings]
    file = invocation.config or "./tidecast.toml if there, environment, defaults"
    findings.insert(0, Finding("settings", True, str(file)))
    databases = (check_database, check_keys, check_grid, check_model, check_left_in_sql)
    for chain in (databases, (check_broker, check_topics), (check_device,)):
        for check in chain:
            try:
                findings.append(check(settings))
            except TidecastError as error:
                findings.append(Finding(check.__name__.removeprefix("check_"), False, "not usable", str(error)))
                break
    return findings


def check_database(settings: "Settings") -> Finding:
    """Open it: reachable, and its schema is this release's."""
    from pipeline.database import current, open_database
    from pipeline.settings.sources import masked

    url = settings.database.url.get_secret_value()
    open_database(url, timeout=min(SECONDS, settings.database.timeout)).close()
    return Finding("database", True, f"{masked(url)}, schema {current(url)}")


def check_keys(settings: "Settings") -> Finding:
    """Count the series that arrive in several partitions: right, but slower, and a sign that keys are missing."""
    from pipeline.database import open_database

    database = open_database(settings.database.url.get_secret_value(), timeout=min(SECONDS, settings.database.timeout))
    try:
        spread, count = database.reader.count_spread()
    finally:
        database.close()
    if not spread:
        return Finding("keys", True, f"each of {count:,} series arrives in one partition")
    advice = "slower, not wrong: give every message its series as key, and use one partitioner"
    return Finding("keys", True, f"{spread:,} of {count:,} series arrive in several partitions", advice)


def check_grid(settings: "Settings") -> Finding:
    """Count the events that lie between two steps, where another one may replace them."""
    from pipeline.database import open_database
    from pipeline.grid.frequency import Frequency
    from pipeline.grid.phase import OFF_GRID
    from pipeline.stream.observe import SEEN_IS_COMPLETE
    from pipeline.stream.worker import SHARE_OFF

    database = open_database(settings.database.url.get_secret_value(), timeout=min(SECONDS, settings.database.timeout))
    try:
        off, messages = database.reader.count_off_grid(settings.kafka.input_topic)
        frequency = Frequency.of(settings.with_phase(database.pipelines.phase()).series)
    finally:
        database.close()
    many = settings.input.many  # then messages are not events, and nothing counts those
    said = f"{frequency.words}; {off:,} {'readings' if many else f'of {messages:,} messages'} lie between two steps"
    meant = off <= (1.0 if many else SHARE_OFF) * messages or settings.series.duplicates not in SEEN_IS_COMPLETE
    return Finding("grid", True, said, "" if meant else OFF_GRID)


def check_model(settings: "Settings") -> Finding:
    """Load the champion as a worker would, and say what is waited for; without one seasonal naive serves, version 0."""
    from pipeline.commands.opened import now
    from pipeline.database import open_database
    from pipeline.forecasting.served import load_model
    from pipeline.forecasting.windows import Grid, model_config
    from pipeline.grid.frequency import Frequency

    database = open_database(settings.database.url.get_secret_value(), timeout=min(SECONDS, settings.database.timeout))
    try:
        version = database.registry.champion() or 0
        found = "version 0, seasonal naive"
        if version:
            frequency = Frequency.of(settings.with_phase(database.pipelines.phase()).series)
            grid = Grid(frequency, settings.series, len(settings.input.covariates))
            loaded = load_model(database.registry, version, grid, model_config(settings, frequency, 0))
            found = f"version {version}, {loaded.config.kind}"
        awaited = database.first_history(settings, now).awaited()
    finally:
        database.close()
    return Finding("model", True, "; next, ".join([found, *awaited]))


def check_left_in_sql(settings: "Settings") -> Finding:
    """Tell of messages that their topic has refused within a day: they are in SQL only."""
    from pipeline.commands.opened import now
    from pipeline.database import open_database

    database = open_database(settings.database.url.get_secret_value(), timeout=min(SECONDS, settings.database.timeout))
    try:
        found = database.reader.left_in_sql(now() - DAY)
    finally:
        database.close()
    if not found:
        return Finding("left in SQL", True, "nothing within a day")
    said = ", ".join(f"{count:,} refused by {topic}" for topic, count in sorted(found.items()))
    return Finding("left in SQL", False, f"{said} within a day", "see TidecastLeftInSql in deploy/runbook.md")


def check_broker(settings: "Settings") -> Finding:
    """Connect; a missing topic is for the next check."""
    try:
        check_topics(settings)
    except ConfigError as error:
        if "does not exist" not in str(error):
            raise
    return Finding("broker", True, f"{settings.kafka.bootstrap_servers} answers")


def check_topics(settings: "Settings") -> Finding:
    """Look for the three topics without creating any."""
    from pipeline.kafka import topics

    kafka = settings.kafka.model_copy(
        update={"create_topics": False, "call_timeout": min(SECONDS, settings.kafka.call_timeout)}
    )
    try:
        counts = topics.check_topics(kafka)
    except ConfigError as error:
        if settings.kafka.create_topics and "does not exist" in str(error):
            return Finding("topics", True, "not all there yet", "a worker's start creates them")
        raise
    return Finding("topics", True, ", ".join(f"{name} ({count})" for name, count in counts.items()))


def check_device(settings: "Settings") -> Finding:
    """Find what training will run on."""
    import torch

    from models.fitting.training import choose_device

    try:
        device = choose_device(settings.training.device)
    except ValueError as error:
        raise ConfigError(f"training.{error}") from error
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return Finding("device", True, f"{device.type}: {name}, torch {torch.__version__}")


def check_codecs() -> Finding:
    """Every compression codec must be readable: one batch in a missing one would stop a partition."""
    from pipeline.kafka.connection import CODECS, missing_codecs

    missing = missing_codecs()
    if missing:
        return Finding("codecs", False, f"missing {', '.join(missing)}", "pip install 'tidecast[compression]'")
    return Finding("codecs", True, ", ".join(CODECS.values()))


def check_batch_hook() -> Finding:
    """Let the fast consumer path test itself; without it workers read record by record."""
    from pipeline.kafka.batches import unusable

    reason = unusable()
    if reason:
        return Finding(
            "batch hook", False, reason, "install the kafka-python of constraints.txt; reading is slower now"
        )
    return Finding("batch hook", True, "self-test passed")
