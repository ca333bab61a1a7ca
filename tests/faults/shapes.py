"""Messages as real producers write them: one reading in many spellings, and what is no reading at all.

Every function takes the `Random` of a plan, so that a seed writes the same bytes each time.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta, timezone
from random import Random

from tests.faults.panel import STEP, time_of

SMALL_LIMIT = 20_000
"""Bytes of a message that the workers take before the limit is mended."""
LARGE_LIMIT = 900_000
"""Bytes of a message that they take afterwards, which is the default."""


@dataclass(frozen=True)
class Reading:
    """What a meter says: the value at step `t`; None is an explicit null."""

    series: str
    t: int
    value: float | None


def spell(reading: Reading, random: Random) -> bytes:
    """Write a reading as some producer would: any order of fields, white space, kind of timestamp, and more fields."""
    fields: dict[str, object] = {"series_id": reading.series, "timestamp": _time(reading.t, random)}
    fields["value"] = _number(reading.value, random)
    if random.random() < 0.3:
        fields["unit"] = random.choice(["kWh", "°C", None, {"name": "kWh", "scale": [1, 0]}])
    order = list(fields)
    random.shuffle(order)
    shuffled = {name: fields[name] for name in order}
    style = random.random()
    ascii_only = random.random() < 0.5
    if style < 0.15:
        text = json.dumps(shuffled, indent=random.choice([1, 2, "\t"]), ensure_ascii=ascii_only)
        return text.replace("\n", random.choice(["\n", "\r\n"])).encode()
    if style < 0.3:
        return f" \n\t{json.dumps(shuffled, ensure_ascii=ascii_only)}\r\n ".encode()
    separators = (",", ":") if style < 0.6 else (", ", ": ")
    return json.dumps(shuffled, separators=separators, ensure_ascii=ascii_only).encode()


def padded(reading: Reading, length: int) -> bytes:
    """Write a reading in exactly so many bytes, most of them padding that compresses to nearly nothing."""
    plain = json.dumps({"series_id": reading.series, "timestamp": time_of(reading.t).isoformat()}, ensure_ascii=False)
    begin = f'{plain[:-1]}, "value": {json.dumps(reading.value)}, "note": "'.encode()
    return begin + b"x" * (length - len(begin) - 2) + b'"}'


def plain(reading: Reading) -> bytes:
    """Write a reading in the usual way."""
    return json.dumps(
        {"series_id": reading.series, "timestamp": time_of(reading.t).isoformat(), "value": reading.value}
    ).encode()


def _time(t: int, random: Random) -> object:
    """Write a time within step `t`: a reading belongs to the step that it falls into."""
    moment = time_of(t)
    if random.random() < 0.3:
        moment += STEP * random.choice([0.25, 0.5, 0.999])
    seconds = int(moment.timestamp())
    style = random.randrange(6)
    if style == 0:
        return seconds
    if style == 1:
        return seconds * 1000 + random.choice([0, 1, 250])
    if style == 2:
        return seconds + 0.5
    if style == 3:
        return moment.isoformat().replace("+00:00", "Z")
    zone = timezone(timedelta(minutes=random.choice([0, 330, -480, 765])))
    return moment.astimezone(zone).isoformat()


def _number(value: float | None, random: Random) -> float | int | None:
    whole = value is not None and value.is_integer() and random.random() < 0.5
    return int(value) if whole and value is not None else value


def refused(reading: Reading, random: Random) -> bytes:
    """Write what is nearly a reading; nothing of it may be stored."""
    good = plain(reading)
    name = json.dumps(reading.series).encode()
    stamp = time_of(reading.t).isoformat().encode()
    value = json.dumps(reading.value).encode()
    broken: Sequence[Callable[[], bytes]] = (
        lambda: b"",
        lambda: b" ",
        lambda: b"null",
        lambda: b"[]",
        lambda: b"17",
        lambda: b'"' + reading.series.encode() + b'"',
        lambda: good[: random.randrange(1, len(good) - 1)],
        lambda: good + good,
        lambda: good + b"\n" + good,
        lambda: b"[" + good + b"]",
        lambda: b"\x00\x00\x00\x00\x07" + good,  # as a schema registry frames a message
        lambda: b"\xef\xbb\xbf" + good,
        lambda: good.decode().encode("utf-16"),
        lambda: good.replace(b'"value": ' + value, b'"value": "' + value + b'"'),
        lambda: good.replace(b'"value": ' + value, b'"value": NaN'),
        lambda: good.replace(b'"value": ' + value, b'"value": -Infinity'),
        lambda: good.replace(b'"value": ' + value, b'"value": true'),
        lambda: good.replace(b'"value": ' + value, b'"value": 1e300'),
        lambda: good.replace(b'"value": ' + value, b'"value": ' + b"9" * 400),
        lambda: good.replace(b'"value"', b'"reading"'),
        lambda: good.replace(b'"value": ' + value, b'"value": [' + value + b"]"),
        lambda: good.replace(name, b'""', 1),
        lambda: good.replace(name, b"17", 1),
        lambda: good.replace(name, b"null", 1),
        lambda: good.replace(name, b'"' + b"n" * 257 + b'"', 1),
        lambda: good.replace(name, b'"a\\u0000b"', 1),
        lambda: good.replace(stamp, b"2189-01-01T00:00:00Z"),
        lambda: good.replace(stamp, stamp[:19]),  # without an offset
        lambda: good.replace(stamp, b"0001-01-01T00:00:00+23:59"),
        lambda: good.replace(stamp, b"yesterday"),
        lambda: good.replace(b'"' + stamp + b'"', b"null"),
        lambda: good.replace(b'"' + stamp + b'"', b"1e30"),
        lambda: good[:-1] + b', "deep": ' + b"[" * 5_000,
        lambda: good.replace(name, b'"\xff"', 1),
        lambda: b"<xml>" + good,
    )
    return random.choice(broken)()


def fragments(reading: Reading, random: Random) -> list[bytes]:
    """Write neighbours of which each is refused, though together, split elsewhere, they would make readings."""
    good = plain(reading)
    cut = random.randrange(1, len(good))
    half = good.index(b",") + 1
    return random.choice(
        [
            [good[:cut], good[cut:]],
            [good[:half] + b"\n", good[half:]],
            [good + b" " + good, b" "],
            [b"\t", good + good],
            [good + b"\n" + good[:cut], good[cut:] + b"\n" + good],
            [b"[", b"]"],
            [b"1", b" ", b"2 3"],
        ]
    )
