"""The judge of the randomised driver: silent about an honest run, and it finds each fault that is planted in one."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest

from tests.faults.compare import REQUEUED, Trial, compare, judge
from tests.faults.left import Issued, Left, Letter, Row
from tests.faults.oracle import Arrived, Barrier, Known, Oracle, RefusedError, decode, merge, sort_out
from tests.faults.panel import LEVELS, Panel, microseconds, time_of
from tests.faults.plan import Outline
from tests.faults.shapes import Reading, fragments, padded, plain, refused, spell

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BEGAN = microseconds(NOW)
SECOND = 1_000_000
STEPS = 40
NAMES = ("series-001", "series-002")
OUTLINE = Outline(1, "last", True, 2, NAMES, ("murmur2", "murmur2"))
PANEL = Panel(series=3, steps=STEPS, partitions=2)
TOPIC = "input"
BAD_AT = 10  # the offset of what is refused, in partition 0


def test_every_spelling_of_a_reading_is_that_reading() -> None:
    for seed in range(300):
        random = Random(seed)
        value = random.choice([None, 0.0, -1.5, 17.0, 1e17])
        reading = Reading(random.choice(["a", "Zähler 11", "été/\N{SNOWMAN}"]), random.randint(-50, 5_000), value)
        assert decode(spell(reading, random), 900_000, NOW) == reading, seed
        assert decode(padded(reading, 1_000), 1_000, NOW) == reading, seed
        assert len(padded(reading, 1_000)) == 1_000


def test_what_is_nearly_a_reading_is_none_and_neither_is_a_fragment() -> None:
    for seed in range(300):
        random = Random(seed)
        reading = Reading("a", 3, 7.0)
        for value in (refused(reading, random), *fragments(reading, random), padded(reading, 1_001)):
            with pytest.raises(RefusedError):
                decode(value, 1_000, NOW)


def test_the_policies_merge_what_came_in_its_order() -> None:
    values = [1.0, None, 5.0, 3.0]
    assert [merge(policy, values) for policy in ("last", "mean", "sum", "max")] == [3.0, 3.0, 9.0, 5.0]
    assert [merge(policy, [1.0, None]) for policy in ("last", "mean", "sum", "max")] == [None, 1.0, 1.0, 1.0]
    assert merge("max", [None]) is None


def test_what_may_have_been_stored_widens_a_step_and_what_must_have_been_narrows_it() -> None:
    """A step of two partitions: its correction in partition 1 was sent before the forecast, and stored, or not yet."""
    messages = [
        Arrived(0, 0, 0, BEGAN, b"a", plain(Reading("a", 0, 1.0))),
        Arrived(0, 1, 0, BEGAN, b"a", plain(Reading("a", 0, 9.0))),
        Arrived(0, 0, 1, BEGAN, b"a", plain(Reading("a", 6, 2.0))),
    ]
    readings = sort_out(messages, [Barrier(0, {}, 1_000)], NOW).slots
    for stored, can_be in (({0: 1}, {1.0, 9.0}), ({0: 1, 1: 1}, {9.0})):
        oracle = Oracle(readings, "last", [Known(BEGAN + SECOND, 0, stored)], 12, 6, 6)
        window = oracle.window("a", 6, (0, 0, 1), BEGAN + 2 * SECOND)
        assert window.cells[5] == can_be
        assert window.medians(6) == {2.0}
        assert window.medians(5) == {2.0}, "never observed in this phase: the newest value of all"
    early = Oracle(readings, "last", [], 12, 6, 6).window("a", 6, (0, 0, 1), BEGAN - SECOND)
    assert early.cells[5] == {1.0}, "what was sent later cannot be in it"


@pytest.fixture(scope="module")
def honest() -> Trial:
    """A run of two series, each event a turn of its own, and one refused message that was sent again."""
    messages: list[Arrived] = []
    for t in range(STEPS):
        for partition, name in enumerate(NAMES):
            offset = sum(each.partition == partition for each in messages)
            if partition == 0 and offset == BAD_AT:
                messages.append(Arrived(0, 0, offset, BEGAN, None, b"no", (("trace", b"1"),)))
                offset += 1
            at = BEGAN + t * SECOND
            messages.append(Arrived(0, partition, offset, at, name.encode(), plain(Reading(name, t, _value(name, t)))))
    again = (("trace", b"1"), (REQUEUED, b"input/0/10"))
    messages.append(Arrived(0, 0, 41, BEGAN, None, b"no", again))
    found = sort_out(messages, [Barrier(0, {}, 1_000)], NOW)
    rows = [Row(each.reading.series, each.reading.t, each.reading.value, 1) for each in found.readings]
    forecasts = [_forecast(each.reading, each.place[1], each.place[2], each.at) for each in found.readings]
    letters = [Letter(TOPIC, 0, offset, "r", None, b"no", offset == BAD_AT) for offset in (BAD_AT, 41)]
    dead = [
        Arrived(0, 0, i, BEGAN, None, b"no", (("source", f"{TOPIC}/0/{at}".encode()),)) for i, at in enumerate((10, 41))
    ]
    left = Left(rows, forecasts, letters, [_message(each, i) for i, each in enumerate(forecasts)], dead)
    known = [Known(each.at, 0, {0: 0}) for each in found.readings]
    oracle = Oracle(found.slots, "last", known, OUTLINE.context, OUTLINE.season, OUTLINE.horizon)
    return Trial(OUTLINE, TOPIC, {TOPIC: 0}, messages, found, left, oracle, frozenset({0}))


def _value(name: str, t: int) -> float:
    return PANEL.value(name, t)


def _forecast(reading: Reading, partition: int, offset: int, at: int) -> Issued:
    t = reading.t
    rows = tuple(map(tuple, PANEL.forecast(reading.series, t)))
    targets = (t + 1, t + 2, t + 3)
    return Issued(reading.series, t, 0, (1, 2, 3), targets, rows, "fallback", 1, at + 1, TOPIC, partition, offset)


def _message(of: Issued, offset: int) -> Arrived:
    origin = time_of(of.origin).isoformat().replace("+00:00", "Z")
    issued = datetime.fromtimestamp(of.issued_at / SECOND, UTC)
    fields = {
        "series_id": of.series,
        "origin": origin,
        "steps": 3,
        "quantile_levels": LEVELS,
        "quantiles": of.quantiles,
        "model_version": of.version,
        "issued_at": issued.isoformat(),
        "quality": of.quality,
        "calibration": of.calibration,
    }
    headers = (
        ("forecast_id", f"{of.series}@{origin}#0".encode()),
        ("source", f"{TOPIC}/{of.partition}/{of.offset}".encode()),
    )
    return Arrived(0, of.partition, offset, BEGAN, of.series.encode(), json.dumps(fields).encode(), headers)


def test_an_honest_run_has_no_findings(honest: Trial) -> None:
    findings = judge(honest)
    assert not findings, str(findings)
    assert not compare(honest, honest.left)


def _stale(trial: Trial) -> Trial:
    """A forecast of a window with a hole: its median is that of a period before."""
    shifted = tuple(tuple(number - 12.0 for number in row) for row in trial.left.forecasts[60].quantiles)
    return _changed(trial, "forecasts", 60, quantiles=shifted)


def _changed(trial: Trial, what: str, at: int, **changes: object) -> Trial:
    held = list(getattr(trial.left, what))
    held[at] = replace(held[at], **changes)
    return replace(trial, left=replace(trial.left, **{what: held}))


def _dropped(what: str, at: int) -> Callable[[Trial], Trial]:
    def plant(trial: Trial) -> Trial:
        held = list(getattr(trial.left, what))
        del held[at]
        return replace(trial, left=replace(trial.left, **{what: held}))

    return plant


def _twice(what: str, at: int) -> Callable[[Trial], Trial]:
    def plant(trial: Trial) -> Trial:
        held = list(getattr(trial.left, what))
        return replace(trial, left=replace(trial.left, **{what: [*held, held[at]]}))

    return plant


def _sent_again(**changes: object) -> Callable[[Trial], Trial]:
    return lambda trial: replace(trial, input=[*trial.input[:-1], replace(trial.input[-1], **changes)])


PLANTS: dict[str, tuple[Callable[[Trial], Trial], str]] = {
    "a row is missing": (_dropped("observations", 7), "lost"),
    "a row is there twice": (_twice("observations", 7), "doubled"),
    "a value is another": (lambda trial: _changed(trial, "observations", 7, value=1.5), "mismatched"),
    "a reading counts twice": (lambda trial: _changed(trial, "observations", 7, events=2), "doubled"),
    "a forecast and its message are missing": (
        lambda trial: _dropped("output", 9)(_dropped("forecasts", 9)(trial)),
        "lost",
    ),
    "a forecast is of a window with holes": (_stale, "mismatched"),
    "a quantile is another": (
        lambda trial: _changed(trial, "forecasts", 60, quantiles=((0.0,) * 13,) * 3),
        "mismatched",
    ),
    "a forecast comes of another series": (lambda trial: _changed(trial, "forecasts", 60, partition=1), "mismatched"),
    "a message is missing": (_dropped("output", 9), "lost"),
    "a message is there twice": (_twice("output", 9), "doubled"),
    "a dead letter is missing": (_dropped("letters", 1), "lost"),
    "a dead letter is there twice": (_twice("letters", 1), "doubled"),
    "a dead letter holds other bytes": (lambda trial: _changed(trial, "letters", 1, value=b"yes"), "mismatched"),
    "a message of a dead letter is missing": (_dropped("dead", 0), "lost"),
    "a message of a dead letter is there twice": (_twice("dead", 0), "doubled"),
    "a letter was never sent again": (lambda trial: replace(trial, input=trial.input[:-1]), "lost"),
    "a letter was sent again twice": (lambda trial: replace(trial, input=[*trial.input, trial.input[-1]]), "doubled"),
    "a letter was sent again elsewhere": (_sent_again(partition=1), "mismatched"),
    "a letter lost its headers": (_sent_again(headers=((REQUEUED, b"input/0/10"),)), "mismatched"),
    "a letter lost its time": (_sent_again(at=BEGAN + 1), "mismatched"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_fault_is_found(name: str, honest: Trial) -> None:
    plant, kind = PLANTS[name]
    findings = judge(plant(honest))
    assert getattr(findings, kind), f"{name}: {findings}"


def test_a_clean_run_that_ends_elsewhere_is_a_difference(honest: Trial) -> None:
    last = len(honest.left.forecasts) - 1
    other = _changed(honest, "forecasts", last, quantiles=((0.0,) * 13,) * 3).left
    assert "newest forecast of series-002 (keyed by murmur2)" in str(compare(honest, other))
    assert compare(honest, _dropped("observations", 3)(honest).left).doubled
