"""Carry out a plan on real servers, and judge what is left: one round of the randomised driver.

    round     a plan of a seed on a fresh deployment, faults and all, until everything is stored and published
    clean     one worker, one message for each reading, every key right, nothing else
    judged    the round by the oracle; then its rows and newest forecasts by those of the clean run

A `DifferenceError` holds the seed, every step that led to it, and the command that does the same again.
"""

import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from confluent_kafka import KafkaException
from kafka.partitioner.default import murmur2
from sqlalchemy.exc import SQLAlchemyError

from tests.faults.compare import Trial, compare, judge
from tests.faults.conftest import QUICK, Place
from tests.faults.deployment import deploy
from tests.faults.drive import OUTPUT_PARTITIONS, SETTLE_SECONDS, Drive
from tests.faults.fleet import Fleet, until
from tests.faults.left import Left, read_left, read_topic
from tests.faults.oracle import Arrived, Oracle, Sorted, sort_out
from tests.faults.outside import behind, command, fresh_database, register_models
from tests.faults.plan import SITUATIONS, Plan, outline
from tests.faults.shapes import plain
from tests.faults.verify import Findings


class DifferenceError(AssertionError):
    """What is left is not what must be left."""


@dataclass(frozen=True)
class Round:
    """What came of one round."""

    messages: int
    faults: int
    forecasts: int
    degraded: int  # of these, and so not held to their windows
    seconds: float  # until lag 0, after the last fault


def run_round(place: Place, seed: int, steps: int, without: frozenset[str] = frozenset()) -> Round:
    """Run the round of a seed at a place; raises DifferenceError."""
    situations = frozenset(SITUATIONS) - without
    plan = Plan(outline(seed, situations), situations, steps)
    drive = Drive(replace(place, database=fresh_database(place, f"round-{seed}")), plan)
    try:
        drive.go()
        findings = judged(drive)
    except (AssertionError, subprocess.SubprocessError, KafkaException, SQLAlchemyError) as error:
        raise DifferenceError(f"{story(drive, without)}\n{error}") from error
    if findings:
        raise DifferenceError(f"{story(drive, without)}\n{findings}")
    return Round(drive.messages, drive.faults, drive.forecasts, drive.degraded, drive.last_settled)


def judged(drive: Drive) -> Findings:
    """Compare what is left with the oracle and with a clean run."""
    arrived = [*drive.former, *read_topic(drive.deployment, drive.deployment.topic, drive.life)]
    found = sort_out(arrived, drive.barriers, datetime.now(UTC))
    _judge_sent(drive, arrived)
    left = read_left(drive.deployment)
    drive.forecasts = len(left.forecasts)
    drive.degraded = sum(each.quality == "degraded" for each in left.forecasts)
    lives = {drive.deployment.topic: drive.life}
    for name in {each.topic for each in (*left.forecasts, *left.letters)} - lives.keys():
        lives[name] = next((life for life, ids in enumerate(drive.ids) if any(one in name for one in ids)), -1)
    shape = drive.outline.context, drive.outline.season, drive.outline.horizon
    oracle = Oracle(found.slots, drive.outline.policy, drive.known, *shape)
    champions = frozenset(drive.champions)
    trial = Trial(drive.outline, drive.deployment.topic, lives, arrived, found, left, oracle, champions)
    findings = judge(trial)
    cleanly = compare(trial, _run_clean(drive, found))
    for kind in ("lost", "doubled", "mismatched"):
        getattr(findings, kind).extend(getattr(cleanly, kind))
    return findings


def story(drive: Drive, without: frozenset[str]) -> str:
    """Say how it came to this, and how to see it again."""
    keyed = dict(zip(drive.outline.series, drive.outline.styles, strict=True))
    lines = [f"seed {drive.outline.seed} on {drive.place.name}: {' '.join(drive.outline.settings)}", f"  {keyed}"]
    lines += [f"  {number:3d} {step}" for number, step in enumerate(drive.done, start=1)]
    words = [f"--seed {drive.outline.seed} --steps {drive.plan.steps}"]
    words += [f"--without {each}" for each in sorted(without)]
    test = "random" if drive.place.name.startswith("Apache") else "short-random"
    lines.append(
        f"again: python -m tests.faults --only {test} --place '{drive.place.name}' --seconds 1 {' '.join(words)}"
    )
    return "\n".join(lines)


def _judge_sent(drive: Drive, arrived: list[Arrived]) -> None:
    came = Counter(
        (each.life, each.partition, each.key, each.value)
        for each in arrived
        if "tidecast-requeued-from" not in dict(each.headers)
    )
    assert came == drive.sent, f"the input holds {came.total()} messages of its producers, not {drive.sent.total()}"


def _run_clean(drive: Drive, found: Sorted) -> Left:
    """Give the same readings to one worker that nothing happens to."""
    database = fresh_database(drive.place, f"clean-{drive.outline.seed}")
    settings = (*QUICK, *drive.outline.settings)
    clean = deploy(drive.deployment.bootstrap_servers, database, settings, OUTPUT_PARTITIONS)
    register_models(clean)
    if drive.champion is not None:
        command(clean, "models", "promote", str(drive.champion))
    producer = drive.producer("none")
    for each in sorted(found.readings, key=lambda stored: stored.order):
        key = each.reading.series.encode()
        partition = (murmur2(key) & 0x7FFFFFFF) % OUTPUT_PARTITIONS
        producer.produce(clean.topic, plain(each.reading), key, partition)
    assert not producer.flush(60)
    with Fleet(clean.sets, drive.place.folder) as fleet:
        fleet.start("clean")
        until(lambda: not behind(clean), SETTLE_SECONDS, "the clean run has taken in everything")
        assert fleet.stop("clean") == 0
    return read_left(clean)
