"""Hold what a run left behind to the oracle, to itself, and to a clean run of the same readings."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tests.faults.left import Issued, Left, Letter
from tests.faults.oracle import Arrived, Oracle, Sorted, Stored, merge
from tests.faults.panel import LEVELS, START, STEP, microseconds
from tests.faults.plan import Outline
from tests.faults.verify import CALIBRATION, Findings

REQUEUED = "tidecast-requeued-from"
MEDIAN = LEVELS.index(0.5)
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Trial:
    """A run to be judged; `lives` gives the life that each name of the topic in SQL stands for."""

    outline: Outline
    topic: str
    lives: Mapping[str, int]
    input: Sequence[Arrived]
    sorted: Sorted
    left: Left
    oracle: Oracle
    champions: frozenset[int]

    def place(self, of: Issued | Letter) -> Place:
        return self.lives.get(of.topic, -1), of.partition, of.offset


def judge(trial: Trial) -> Findings:
    """Compare SQL with the input, the topics with SQL, and every forecast with its window."""
    findings = Findings()
    _judge_observations(trial, findings)
    _judge_letters(trial, findings)
    _judge_dead_topic(trial, findings)
    _judge_requeues(trial, findings)
    _judge_forecasts(trial, findings)
    _judge_output(trial, findings)
    return findings


def compare(trial: Trial, clean: Left) -> Findings:
    """Compare the observations, and the newest forecast of each series, with those of a clean run."""
    findings = Findings()
    ours, theirs = ({(row.series, row.t): row for row in left.observations} for left in (trial.left, clean))
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        if one is None or other is None:
            findings.count(f"row of {_said(*key)} that the clean run has", int(one is not None), int(other is not None))
        elif not _same(one.value, other.value) or one.events != other.events:
            findings.mismatched.append(f"row {_said(*key)} is {one}, in the clean run {other}")
    here, there = (_newest(left.forecasts) for left in (trial.left, clean))
    for series in trial.outline.series:
        if series not in here or series not in there:
            findings.count(f"a forecast of {series}", int(series in here), int(series in there))
        elif wrong := _difference(here[series], there[series]):
            styles = dict(zip(trial.outline.series, trial.outline.styles, strict=True))
            findings.mismatched.append(f"newest forecast of {series} (keyed by {styles[series]}): {wrong}")
    return findings


def _difference(one: Issued, other: Issued) -> str:
    for name in ("origin", "version", "quality", "calibration"):
        if getattr(one, name) != getattr(other, name):
            return f"{name} {getattr(one, name)}, in the clean run {getattr(other, name)}"
    pairs = zip(_flat(one), _flat(other), strict=True)
    worst = max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)
    medians = [[row[MEDIAN] for row in each.quantiles] for each in (one, other)]
    return "" if worst < 1e-4 else f"medians {medians[0]} of origin {one.origin}, in the clean run {medians[1]}"


def _flat(forecast: Issued) -> list[float]:
    return [number for row in forecast.quantiles for number in row]


def _newest(forecasts: Sequence[Issued]) -> dict[str, Issued]:
    newest: dict[str, Issued] = {}
    for each in sorted(forecasts, key=lambda one: (one.origin, one.issued_at)):
        newest[each.series] = each
    return newest


def _judge_observations(trial: Trial, findings: Findings) -> None:
    wanted = {
        (series, t): [each.reading.value for each in stored]
        for series, slots in trial.sorted.slots.items()
        for t, stored in slots.items()
    }
    rows = Counter((row.series, row.t) for row in trial.left.observations)
    found = {(row.series, row.t): row for row in trial.left.observations}
    for key in sorted(wanted.keys() | rows.keys()):
        findings.count(f"row {_said(*key)}", rows[key], int(key in wanted))
        if key not in wanted or key not in found:
            continue
        value = merge(trial.outline.policy, wanted[key])
        events = sum(each is not None for each in wanted[key])
        findings.count(f"readings in row {_said(*key)}", found[key].events, events)
        if not _same(found[key].value, value):
            findings.mismatched.append(f"row {_said(*key)} is {found[key].value}, not {value} of {wanted[key]}")


def _judge_letters(trial: Trial, findings: Findings) -> None:
    rows = Counter(trial.place(letter) for letter in trial.left.letters)
    wanted = trial.sorted.refused
    for place in sorted(wanted.keys() | rows.keys()):
        what = f"dead letter {place} {_short(wanted[place].value) if place in wanted else ''}"
        findings.count(what, rows[place], int(place in wanted))
    for letter in trial.left.letters:
        message = wanted.get(trial.place(letter))
        if message is not None and (letter.key, letter.value) != (message.key, message.value):
            findings.mismatched.append(f"dead letter {trial.place(letter)} holds other bytes than the input")


def _judge_dead_topic(trial: Trial, findings: Findings) -> None:
    """Every row of dead_letters is one message; two lives of a topic may give one name to two messages."""
    rows: dict[str, list[Letter]] = defaultdict(list)
    for letter in trial.left.letters:
        rows[f"{trial.topic}/{letter.partition}/{letter.offset}"].append(letter)
    messages: dict[str, list[Arrived]] = defaultdict(list)
    for message in trial.left.dead:
        messages[dict(message.headers)["source"].decode()].append(message)
    for source in sorted(rows.keys() | messages.keys()):
        findings.count(f"message of dead letter {source}", len(messages[source]), len(rows[source]))
        held = [(letter.key, letter.value) for letter in rows[source]]
        for message in messages[source]:
            left_in_sql = "left-in-sql" in dict(message.headers)
            if not left_in_sql and (message.key, message.value) not in held:
                findings.mismatched.append(f"message of dead letter {source} holds other bytes than SQL")


def _judge_requeues(trial: Trial, findings: Findings) -> None:
    """A letter that is marked came again once, as it was; one that is not never did."""
    again: dict[str, list[Arrived]] = defaultdict(list)
    for message in trial.input:
        if REQUEUED in dict(message.headers):
            again[_told(dict(message.headers)[REQUEUED].decode(), message.life)].append(message)
    newest: dict[tuple[int, int], int] = {}
    for letter in sorted(trial.left.letters, key=trial.place):
        place = trial.place(letter)
        at = f"{letter.partition}/{letter.offset}"
        names = {_told(f"{letter.topic}/{at}", place[0]), _told(f"{trial.topic}/{at}", place[0])}
        came = [message for name in sorted(names) for message in again.pop(name, ())]
        findings.count(f"times that letter {place} was sent again", len(came), int(letter.requeued))
        source = trial.sorted.refused.get(place)
        first = tuple(header for header in source.headers if header[0] != REQUEUED) if source else None
        for message in came:
            moved = message.life != place[0] and message.partition != letter.partition  # a new topic may have fewer
            own = tuple(header for header in message.headers if header[0] != REQUEUED)
            wrong = [
                name
                for name, one, other in (
                    ("partition", message.partition, letter.partition),
                    ("key", message.key, letter.key),
                    ("value", message.value, letter.value),
                    ("headers", own, own if first is None else first),
                    ("time", message.at, source.at if source else message.at),
                )
                if one != other and not (name == "partition" and moved)
            ]
            if wrong:
                findings.mismatched.append(f"letter {place} was sent again with another {', '.join(wrong)}")
            if moved:
                continue
            log = (message.life, message.partition)
            if message.offset < newest.get(log, -1):
                findings.mismatched.append(f"letter {place} was sent again before one that had come earlier")
            newest[log] = max(newest.get(log, -1), message.offset)
    for name, messages in again.items():
        findings.doubled.append(f"{len(messages)} messages were sent again from {name}, which is no letter")


def _told(source: str, life: int) -> str:
    """Name a letter by its header and the life of the topic: a former topic's name has an id, the present one's not."""
    return source if "@" in source.partition("/")[0] else f"{life}:{source}"


def _judge_forecasts(trial: Trial, findings: Findings) -> None:
    places = {each.place: each for each in trial.sorted.readings}
    made = Counter((each.series, each.origin) for each in trial.left.forecasts if each.offset >= 0)
    for each in trial.left.forecasts:
        if wrong := _wrong_forecast(each, trial, places):
            findings.mismatched.append(f"forecast of {_said(each.series, each.origin)}#{each.version}: {wrong}")
    if trial.outline.every_step and trial.outline.policy == "last":
        for key in _expected(trial.sorted.readings):
            findings.count(f"forecast of {_said(*key)}", made[key])


def _expected(readings: Sequence[Stored]) -> list[tuple[str, int]]:
    """The steps at which a series that only ever was in one partition moved on."""
    homes: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for each in readings:
        homes[each.reading.series].add(each.place[:2])
    newest: dict[str, int] = {}
    steps = []
    for each in sorted(readings, key=lambda stored: stored.place):
        series, t = each.reading.series, each.reading.t
        if len(homes[series]) == 1 and t > newest.get(series, t - 1):
            newest[series] = t
            steps.append((series, t))
    return steps


def _wrong_forecast(each: Issued, trial: Trial, places: Mapping[Place, Stored]) -> str:
    horizon = tuple(range(1, trial.outline.horizon + 1))
    if each.steps != horizon or each.targets != tuple(each.origin + h for h in horizon):
        return f"steps {each.steps}, targets {each.targets}"
    if each.offset >= 0:
        source = places.get(trial.place(each))
        if source is None or source.reading.series != each.series:
            return f"source {trial.place(each)} is {source}"
    elif each.origin not in trial.sorted.slots[each.series]:
        return f"made again after a swap, but nothing was stored at step {each.origin}"
    if not all(math.isfinite(number) for number in _flat(each)):
        return "not finite"
    if any(list(row) != sorted(row) for row in each.quantiles):
        return "quantiles that fall"
    if each.version:
        return "" if each.version in trial.champions else "a version that was never champion"
    if each.calibration != CALIBRATION:
        return f"calibration {each.calibration}"
    if each.quality == "degraded":
        return ""
    window = trial.oracle.window(each.series, each.origin, trial.place(each), each.issued_at)
    for h, row in zip(horizon, each.quantiles, strict=True):
        can_be = window.medians(h)
        if can_be is not None and not any(math.isclose(row[MEDIAN], one, rel_tol=2e-7) for one in can_be):
            some = sorted(can_be)[:4]
            return (
                f"the median of step {h} is {row[MEDIAN]}, not of {some} ({each.quality}, source {trial.place(each)})"
            )
    if window.certain:
        for row, exact in zip(each.quantiles, window.quantiles(), strict=True):
            if not all(math.isclose(a, b, rel_tol=1e-5, abs_tol=0.02) for a, b in zip(row, exact, strict=True)):
                return f"quantiles {row}, not {exact}"
    return ""


def _judge_output(trial: Trial, findings: Findings) -> None:
    rows = {(each.series, each.origin, each.version): each for each in trial.left.forecasts}
    counted: Counter[tuple[str, int, int]] = Counter()
    for message in trial.left.output:
        fields = json.loads(message.value or b"{}")
        moment = datetime.fromisoformat(fields["origin"])
        key = (fields["series_id"], (moment - START) // STEP, fields["model_version"])
        counted[key] += 1
        row = rows.get(key)
        if row is None:
            continue
        headers = {
            "forecast_id": f"{fields['series_id']}@{fields['origin']}#{key[2]}",
            "source": f"{trial.topic}/{row.partition}/{row.offset}",
        }
        same = (
            message.key == key[0].encode()
            and {name: value.decode() for name, value in message.headers} == headers
            and tuple(fields["quantile_levels"]) == LEVELS
            and tuple(map(tuple, fields["quantiles"])) == row.quantiles
            and fields["steps"] == len(row.steps)
            and (fields["quality"], fields["calibration"]) == (row.quality, row.calibration)
            and microseconds(datetime.fromisoformat(fields["issued_at"])) == row.issued_at
        )
        if not same:
            findings.mismatched.append(f"message {_said(*key[:2])}#{key[2]} differs from its rows")
    for key in sorted(counted.keys() | rows.keys()):
        findings.count(f"message of forecast {_said(*key[:2])}#{key[2]}", counted[key], int(key in rows))


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-12)


def _said(series: str, t: int) -> str:
    return f"{series}@{(START + t * STEP):%Y-%m-%dT%H} (step {t})"


def _short(value: bytes | None) -> str:
    return repr(value if value is None or len(value) < 60 else value[:57] + b"...")
