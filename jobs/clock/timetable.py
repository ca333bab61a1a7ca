"""When a job runs, as settings say it: a cron expression, or an interval such as `every 6h`; both in UTC."""

import re

from pipeline.errors import ConfigError
from pipeline.settings import parse_seconds

EVERY = "every "


def read_interval(text: str) -> int | None:
    """Read 'every 6h' as whole seconds, counted from 1970 in UTC; None for a cron expression. Raises ConfigError."""
    words = " ".join(text.split())
    if not words.lower().startswith(EVERY):
        return None
    try:
        seconds = parse_seconds(words[len(EVERY) :])
    except ValueError as error:
        raise ConfigError(f"interval {text!r}: {error}") from error
    if not (seconds >= 1 and seconds == int(seconds)):
        raise ConfigError(f"interval {text!r} is not a whole number of seconds; write every 90s, every 6h, every 1 day")
    return int(seconds)


def check_timing(text: str) -> None:
    """Raise ConfigError unless the text says when to run."""
    if read_interval(text) is None:
        split_cron(text)


DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
PART = re.compile(r"(\*|\w+)(?:-(\w+))?(?:/(\d+))?")


def split_cron(text: str) -> dict[str, str]:
    """Split 'minute hour day month day_of_week' into fields by name; weekdays 0-7 (0 and 7 are Sunday) or names.

    Unlike in crontab(5), day and day_of_week must both match when both are given. Raises ConfigError.
    """
    fields = text.split()
    if len(fields) != 5:
        raise ConfigError(f"cron {text!r} has {len(fields)} fields; write minute hour day month weekday, '17 3 * * *'")
    names = ("minute", "hour", "day", "month", "day_of_week")
    named = dict(zip(names, fields, strict=True))
    try:
        return named | {"day_of_week": name_weekdays(named["day_of_week"])}
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"cron {text!r}: weekday {named['day_of_week']!r} is not 0-7, mon-fri, */2 or alike"
        ) from error


def name_weekdays(field: str) -> str:
    """List the weekdays of a cron field by name: '1-5' is 'mon,tue,wed,thu,fri'."""
    if field == "*":
        return field
    found: set[int] = set()
    for part in field.split(","):
        match = PART.fullmatch(part)
        if match is None:
            raise ValueError(part)
        first, last, step = match.groups()
        low = 0 if first == "*" else _number(first)
        high = 6 if first == "*" or (step and last is None) else low
        if last is not None:
            high = _number(last)
        if high < low:
            high += 7  # fri-mon
        found |= {day % 7 for day in range(low, high + 1, int(step or 1))}
    return ",".join(DAYS[day] for day in sorted(found))


def _number(day: str) -> int:
    if day.isdigit():
        if int(day) > 7:
            raise ValueError(day)
        return int(day)
    return DAYS.index(day.lower()[:3])
