"""`tidecast doctor --sample`: how the newest messages are read, and a mapping that would read them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pipeline.commands.config import toml
from pipeline.commands.display import say, show_json

if TYPE_CHECKING:
    from pipeline.records import Messages
    from pipeline.settings import InputSettings, Settings

SHOWN = 3
"""Readings that are shown as an example."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a mapping reads a sample: `read` messages have `readings`; `reasons` are the commonest of those refused."""

    messages: int
    read: int
    readings: int
    series: int
    skipped: int
    refused: int
    reasons: tuple[str, ...]
    example: tuple[str, ...]


def show_sample(settings: "Settings", count: int, *, as_json: bool) -> bool:
    """Read a sample, say what becomes of it, and propose a mapping unless all is read; return whether all is."""
    from pipeline.kafka.source import of_records
    from pipeline.kafka.topics import read_topic

    kafka = settings.kafka
    records = sorted(read_topic(kafka, kafka.input_topic, count), key=lambda each: (each.partition, each.offset))
    runs = [of_records(at, list(own)) for at, own in groupby(records, key=lambda each: each.partition)]
    found = judge(runs, settings.input, settings)
    better = None if found.read and not found.refused else find_better(runs, found, settings)
    if as_json:
        proposal = None if better is None else {"input": better[0], **asdict(better[1])}
        show_json({"topic": kafka.input_topic, **asdict(found), "proposal": proposal})
    else:
        _show(kafka.input_topic, found, better)
    return bool(found.read) and not found.refused


def judge(runs: Sequence["Messages"], mapping: "InputSettings", settings: "Settings") -> Reading:
    """Read messages by a mapping, on the grid of the settings."""
    from pipeline.commands.opened import now
    from pipeline.grid.frequency import Frequency
    from pipeline.messages.codec import Reader, iso
    from pipeline.start import decoder_of

    decoder = decoder_of(settings.model_copy(update={"input": mapping}))
    reader = Reader(mapping, Frequency.of(settings.series), settings.kafka.input_topic, decoder)
    read = readings = 0
    names: set[str] = set()
    reasons: Counter[str] = Counter()
    example: list[str] = []
    for run in runs:
        events, letters = reader.read(run, now())
        read += events.messages
        readings += len(events)
        names |= set(events.series)
        reasons.update(letter.reason for letter in letters)
        rows = zip(events.series, events.value.tolist(), iso(events.event_time[:SHOWN], "s"), strict=False)
        example += [f"{name} {value:g} at {time}" for name, value, time in rows]
    common = tuple(reason for reason, _ in reasons.most_common(SHOWN))
    total = sum(len(run.offsets) for run in runs)
    skipped = total - read - reasons.total()
    return Reading(total, read, readings, len(names), skipped, reasons.total(), common, tuple(example[:SHOWN]))


def find_better(
    runs: Sequence["Messages"], found: Reading, settings: "Settings"
) -> tuple[dict[str, Any], Reading] | None:
    """Propose a mapping that reads more of the messages, None if none is found."""
    import msgspec
    from pydantic import ValidationError

    from pipeline.messages.proposal import propose
    from pipeline.settings import InputSettings

    decoded = []
    for value in (value for run in runs for value in run.values if value):
        try:
            decoded.append(msgspec.json.decode(value))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    if not decoded:
        return None
    keys = [key for run in runs for key in run.keys]
    try:
        proposal = propose(decoded, keyed=all(key is not None for key in keys))
        better = judge(runs, InputSettings(**proposal), settings)
    except (ValidationError, RecursionError):  # no path can say it
        return None
    return (proposal, better) if better.read > found.read else None


def _show(topic: str, found: Reading, better: tuple[dict[str, Any], Reading] | None) -> None:
    fate = f"{found.read:,} of them read, {found.skipped:,} skipped, {found.refused:,} refused"
    say(f"{topic}: {found.messages:,} messages, {fate}")
    for reason in found.reasons:
        say(f"  refused: {reason}")
    for line in found.example:
        say(f"  {line}")
    if better is None:
        return
    proposal, reading = better
    say()
    say(f"a mapping that reads {reading.read:,} of them, {reading.readings:,} readings of {reading.series:,} series;")
    say("a guess from names and values, so look at it before it is used:")
    say()
    say("[input]")
    for key, value in proposal.items():
        say(f"{key} = {toml(list(value) if isinstance(value, tuple) else value)}")
    say()
    for line in reading.example:
        say(f"  {line}")
