"""The table [input]: what a message means, and what is refused."""

import math
import pathlib
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.fields import Path, is_template, parse_column, parse_condition, parse_levels, parse_path, paths_in
from pipeline.grid.times import TimeRule, Unit, midnight, number_in, open_zone
from pipeline.settings.durations import parse_seconds
from pipeline.settings.values import Day, Limit, Section, Share, Skew, Steps

MICROSECOND = 0.000_001
LEAST_SKEW = 60.0
"""Seconds by which honest clocks may differ, however fine the grid."""


class InputSettings(Section):
    """How an input message is read."""

    format: Literal["json", "json-schema", "avro", "protobuf", "msgpack", "csv"] = "json"
    """What messages are written in. `json-schema` is JSON that a schema registry's serializer wrote."""
    schema_file: pathlib.Path | None = None
    """File with the schema that every message is written by, for `avro`. With `registry.url`, with the reader's schema:
    what was written by others is read as this one says. For `protobuf`, without a registry, a descriptor set, which
    `protoc --include_imports --descriptor_set_out` writes."""
    message: str | None = None
    """Full name of the Protobuf message in `input.schema_file`: `plant.Reading`."""
    columns: tuple[str, ...] = Field((), max_length=1_000)
    """Names of the columns of CSV lines. Without them the first line of each message has the names."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """Character between the columns of CSV lines."""
    series_id: str = "series_id"
    """Field with the name of the series, or the path of it: `payload.id`, `$key`, `$header.site`. Or a template with
    paths in braces: `{site}/{device}`."""
    timestamp: str = "timestamp"
    """Field with the event time, or its path; `$timestamp` is the record's own time."""
    value: str = "value"
    """Field with the value, or its path."""
    covariates: tuple[str, ...] = Field((), max_length=32)
    """Fields with further numbers, or their paths, past covariates. They are stored under these names; 32 at most."""
    envelope: Literal["none", "connect", "debezium"] = "none"
    """What a message is wrapped in. `connect`: schema and payload, and paths begin in the payload. `debezium`: before,
    after and op, with or without a schema, and paths begin in after; `^` is the envelope."""
    each: str | None = None
    """Path of an array or object in a message whose elements are readings. Other paths then begin in the element, and
    `^` is the object around it. `*` in it stands for every element on the way: `devices.*.readings`."""
    values: tuple[str, ...] = Field((), max_length=1_000)
    """Fields with numbers that are a series each, `{$field}` in its name; `*` is every number of an object. Instead of
    `value`."""
    interval: str | None = None
    """Time from one element of `each` to the next, a duration or the path of one (or of seconds), where `timestamp` is
    the first one's."""
    skip: tuple[str, ...] = Field((), max_length=100)
    """Conditions for messages, and for elements of `each`, that are no readings: `type != 'reading'`,
    `quality in ['bad', null]`, `rssi < -120`. They are counted, and no dead letters."""
    max_readings: int = Field(10_000, ge=1, le=1_000_000)
    """Expert: A message with more readings is a dead letter."""
    time_unit: Unit = "auto"
    """Unit of times that are numbers since 1970, in messages and files. `auto` tells the units apart by size, for 1980
    to 2190."""
    timezone: str | None = None
    """Zone of times without an offset, such as `Europe/Berlin`; without it a message with one is a dead letter. An hour
    that its clocks have twice is the earlier one."""
    lenient: bool = False
    """Also read integers as names, numbers in quotes, NaN, Infinity and empty texts as missing values, and UTF-8 with a
    byte order mark."""
    decimal_comma: bool = False
    """Read numbers in quotes, also with a decimal comma."""
    missing: tuple[str, ...] = Field((), max_length=100)
    """Values that mean a missing one: words such as `unavailable`, and numbers such as `-9999`."""
    oldest_time: Day = None
    """Date from which event times are believed; an older event is a dead letter. Without it, texts count from 1900 on
    and numbers from 1980 on. Earlier numbers need `input.time_unit`, too."""
    max_future_skew: Skew = Steps(2)
    """An event farther in the future is a dead letter: steps of the grid (a minute at least), or a duration."""
    max_message_bytes: int = Field(900_000, ge=1)
    """Expert: A longer message is a dead letter."""
    max_batch_bytes: int = Field(1 << 26, ge=1 << 20, le=1 << 30)
    """Expert: A compressed record batch that unpacks to more is one dead letter."""
    tombstones: Literal["skip", "refuse"] = "skip"
    """Messages that delete, which have no value or are the deletes of an envelope: `skip` counts them, `refuse` makes
    them dead letters."""
    most_bad: Share = 0.5
    """Share of dead letters among 1,000 messages of a partition beyond which it pauses for a minute instead of storing
    more. `off`: it never pauses."""
    max_new_series: Limit = 100_000  # a minute and worker
    """Series that a worker may meet for the first time in a minute. Messages of more are dead letters; known series go
    on. `off`: any number."""
    max_series: Limit = 2_000_000  # in SQL
    """Series that the database may hold. Messages of a new one beyond are dead letters; known series go on. `off`: any
    number."""
    series_in_memory: Limit = 1_000_000  # a worker
    """Series whose windows a worker holds, some 5 kB each at 336 steps. The longest silent ones make room and are read
    from SQL when they return. `off`: any number."""

    def time_rule(self, timezone: str | None = None) -> TimeRule:
        """Return what is a time; `timezone` is that of times without an offset if `self.timezone` is not set."""
        oldest = None if self.oldest_time is None else midnight(self.oldest_time)
        zone = self.timezone or timezone
        return TimeRule(self.time_unit, oldest, open_zone(zone) if zone else None)

    @property
    def flat(self) -> bool:
        """Whether each part of an event is a field of the message's object, and nothing else."""
        strict = not (self.lenient or self.decimal_comma or self.missing)
        return strict and self.may_be_flat and all(path.flat for path in self._paths())

    @property
    def may_be_flat(self) -> bool:
        """Whether a message may be a flat event, whose fields have the names that are set."""
        shaped = self.format != "json" or self.envelope != "none" or self.many or is_template(self.series_id)
        return not shaped and not self.skip and not self.missing_numbers and all(path.inner for path in self._paths())

    @property
    def many(self) -> bool:
        """Whether a message may have several readings."""
        return self.each is not None or bool(self.values)

    @property
    def reads_record_time(self) -> bool:
        """Whether the time of a message's record counts."""
        return any(path.origin == "timestamp" for path in self._paths())

    @property
    def missing_numbers(self) -> tuple[float, ...]:
        """The numbers that mean a missing value."""
        found = (number_in(word.strip()) for word in self.missing)
        return tuple(number for number in found if number is not None)

    @property
    def fixed_interval(self) -> float | None:
        """The seconds of `interval`, None where a part of the message says them."""
        try:
            return None if self.interval is None else parse_seconds(self.interval)
        except ValueError:
            return None

    def series_paths(self) -> tuple[Path, ...]:
        """List the paths in the name of the series."""
        return paths_in(self.series_id)

    def _paths(self) -> tuple[Path, ...]:
        """List every path; ValueError for what is none."""
        others = (parse_path(name) for name in (self.timestamp, self.value, *self.covariates))
        columns = (parse_column(name)[0] for name in self.values)
        conditions = (parse_condition(text).path for text in self.skip)
        interval = () if self.interval is None or self.fixed_interval else (parse_path(self.interval),)
        return *paths_in(self.series_id), *others, *columns, *conditions, *interval

    def future_skew(self, step_seconds: float) -> float:
        """Return how many seconds ahead of now an event may lie; steps of the grid are a minute at least."""
        skew = self.max_future_skew
        return max(LEAST_SKEW, skew * step_seconds) if isinstance(skew, Steps) else float(skew)

    @field_validator("timezone")
    @classmethod
    def check_timezone(cls, name: str | None) -> str | None:
        """Refuse what is no zone."""
        return None if name is None else str(open_zone(name).key)

    @field_validator("delimiter")
    @classmethod
    def check_delimiter(cls, delimiter: str) -> str:
        """Refuse what CSV has another meaning for."""
        if delimiter in '"\r\n\0 ':
            raise ValueError("must be a character that is no quote, line end or blank")
        return delimiter

    @model_validator(mode="after")
    def check_format(self) -> "InputSettings":
        """Refuse what the format would ignore."""
        if self.columns and self.format != "csv":
            raise ValueError(f"columns are of CSV lines, and format is {self.format}")
        if self.schema_file is not None and self.format not in ("avro", "protobuf"):
            raise ValueError(f"schema_file is for avro and protobuf, and format is {self.format}")
        if (self.message is not None) != (self.schema_file is not None and self.format == "protobuf"):
            raise ValueError("message goes with format protobuf and schema_file: it names the message in there")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns must be different names")
        return self

    @model_validator(mode="after")
    def check_fields(self) -> "InputSettings":
        """Each part of an event has a field of its own, and each covariate a name that SQL can hold."""
        own = {self.series_id, self.timestamp, self.value}
        if len(own) < 3:
            raise ValueError("series_id, timestamp and value must name three different fields")
        if len(own | set(self.covariates)) < 3 + len(self.covariates):
            raise ValueError("covariates must name different fields, and none of series_id, timestamp and value")
        if not all(name and name.isprintable() for name in self.covariates):
            raise ValueError("covariates must be names of fields: text that is not empty and can be printed")
        paths = self._paths()
        around = int(self.envelope == "debezium") + (len(parse_levels(self.each)) if self.each else 0)
        for path in paths:
            if path.around > around:
                raise ValueError(f"{path.text!r} begins with {'^' * path.around}, and there is no object around it")
            if path.origin in ("name", "index") and not self.each:
                raise ValueError(f"{path.text} is of an element of input.each, which is not set")
        self._check_values(columns=any(path.origin == "column" for path in self.series_paths()))
        if not self.values and any(path.origin == "column" for path in paths):
            raise ValueError("$field is a field of input.values, which is not set")
        if self.interval and not self.each:
            raise ValueError("interval is the time between the elements of input.each, which is not set")
        if self.fixed_interval is not None and not MICROSECOND <= self.fixed_interval < math.inf:
            raise ValueError(f"interval {self.interval!r} is no time that passes from one element to the next")
        return self

    def _check_values(self, *, columns: bool) -> None:
        """Fields of a series each need their name in the series' name, and leave no one value."""
        if self.values and self.value != "value":
            raise ValueError("set value or values: one field, or several that are a series each")
        if len(set(self.values)) < len(self.values):
            raise ValueError("values must name different fields")
        if self.values and not columns:
            raise ValueError("values are a series each: put {$field} into series_id, as in {device}/{$field}")
