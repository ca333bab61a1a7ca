"""Cron expressions as everybody else reads them, for APScheduler, which counts weekdays from Monday."""

import re

from pipeline.errors import ConfigError

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
