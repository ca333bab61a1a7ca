"""When a job runs, as settings say it: a cron expression, or an interval such as `every 6h`; both in UTC."""

from jobs.clock.cron import split_cron
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
