"""A value means the same wherever it is written: in the file, in a secret, in the environment, or after --set."""

import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, SecretStr

from pipeline.errors import ConfigError
from pipeline.settings import Settings, parse_seconds
from pipeline.settings.sources import load
from pipeline.settings.texts import kind_of, read

KEYS = {
    (section, key): field.annotation
    for section, table in Settings.model_fields.items()
    if section != "challengers"
    for key, field in table.annotation.model_fields.items()  # type: ignore[union-attr]
}
NUMBERS = "30|+5|-5|0x10|0b11|1e3|1E3|1_000|007|.5|5.|0.7|1.0|3.5|inf|-inf|nan|NaN|1e400|1__0|0|1| 30 |12,5|1,000"
TIMES = (
    "90s|10 min|2h|1 day|1D|1m|1M|P1D|P1M|PT30S|1.5h|1,5h|2h 30min|500ms|500 days|1 fortnight|s|5 s 5|00:10:00|10:00"
)
CLOCKS = (
    "07:32:00|1 days 02:00:00|30 days |12 months|every 30|every 6h|17 3 * * *|30 # a|2026-01-01|2026-01-01T00:00:00Z"
)
WORDS = (
    "true|True|false|yes|no|on|off|OFF| off |none|null|None|~|y|t|| |warm| gru|SSL|ä|日本|%|$X|a#b|a # b|127.0.0.1:9"
)
QUOTES = """''|""|'x'|"x"|'12'|"30"| 'warm' |it's|'a' or 'b'|"|'|"a|\\d|"a\\"b"|[::1]:9|:9|9464|^(a)/|sqlite:///x.db"""
LISTS = """[]|[1]|["a"]|['a', 'b']|["a"|[0.1, 0.9]|["0.1", "0.9"]|[true]|a,b|[1] # no|[null]|{}|{retrain = 5|{"a": 1}"""
TABLES = """{"retrain": 5}|{retrain = '10 min'}|{"retrain": "30"}|{"retrain": null}"""
LINES = ("9" * 5000, "\n", "30\n", "\t12\r\n", "a\nb", "[1]\nx = [2]", '"a"\nb = "c"')
WRITTEN = [*"|".join((NUMBERS, TIMES, CLOCKS, WORDS, QUOTES, LISTS, TABLES)).split("|"), *LINES]
PARTS = 5


def toml_text(text: str) -> str:
    """Write a text as TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def outcome(section: str, key: str, **sources: Any) -> tuple[str, object]:
    """Load, and return the settings with their secrets, or the refusal."""
    try:
        settings = load(**{"environ": {}, **sources})
    except ConfigError as refused:
        assert "\n" not in str(refused).replace("a\nb", ""), refused
        assert key in str(refused).lower() or section in str(refused).lower() or "not TOML" in str(refused), refused
        return "refused", None
    plain = {
        (name, own): value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, table in settings
        if name != "challengers"
        for own, value in table
        if own != "instance" or section == "kafka"
    }
    return "settings", plain


class Written:
    """One key, written in each source; `folder` and `file` are overwritten each time."""

    def __init__(self, place: Path) -> None:
        self.folder, self.file = place / "secrets", place / "tidecast.toml"
        self.folder.mkdir()

    def outcomes(self, section: str, key: str, text: str) -> Iterator[tuple[str, tuple[str, object]]]:
        name = f"TIDECAST_{section}__{key}".upper()
        yield "environment", outcome(section, key, environ={name: text})
        yield "--set", outcome(section, key, sets=[f"{section}.{key}={text}"])
        secret = self.folder / f"{section}__{key}"
        for ending in ("", "\n", "\r\n"):
            secret.write_bytes((text + ending).encode())
            yield "secret", outcome(section, key, environ={"TIDECAST_SECRETS": str(self.folder)})
        secret.unlink()
        for literal in self.literals(section, key, text):
            self.file.write_bytes(f"[{section}]\n{key} = {literal}\n".encode())
            yield f"file: {literal}", outcome(section, key, file=self.file)

    def literals(self, section: str, key: str, text: str) -> Iterator[str]:
        """Write the text in a file: as text, and bare if the key is no text and TOML reads it."""
        kind, verbatim = kind_of(KEYS[section, key])
        bare = text.strip()
        quoted = not verbatim and len(bare) > 1 and bare[0] in "\"'" and bare[0] == bare[-1]
        if not quoted:
            yield toml_text(text)
        try:
            tree: Mapping[str, Any] = tomllib.loads(f"value = {text}")
        except ValueError:
            return
        texts = kind in (str, SecretStr, Path) or (isinstance(tree["value"], str) and kind is not None)
        if "#" not in text and len(tree) == 1 and (quoted or not texts):
            yield text


def way_to_read(section: str, key: str) -> tuple[object, ...]:
    """Return what decides how a text is read for a key: its type, and what else reads it."""
    field = Settings.model_fields[section].annotation.model_fields[key]  # type: ignore[union-attr]
    return kind_of(KEYS[section, key]), *(one.func for one in field.metadata if isinstance(one, BeforeValidator))


def texts_of(section: str, key: str) -> list[str]:
    """Give every text to the first key of each way to read; to another key a fifth, its neighbours the other fifths."""
    way = way_to_read(section, key)
    number = [each for each in KEYS if way_to_read(*each) == way].index((section, key))
    return WRITTEN[number % PARTS :: PARTS] if number else WRITTEN


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[".".join(key) for key in KEYS])
def test_every_key_means_the_same_from_every_source(tmp_path: Path, section: str, key: str) -> None:
    written = Written(tmp_path)
    for text in texts_of(section, key):
        found = list(written.outcomes(section, key, text))
        first = found[0]
        for source, result in found[1:]:
            assert repr(result) == repr(first[1]), f"{section}.{key} = {text!r} in {first[0]} and in {source}"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=12)
ANY_NUMBER = st.integers().map(str) | st.floats().map(repr)


@given(key=st.sampled_from(sorted(KEYS)), text=TEXTS | ANY_NUMBER | st.sampled_from(WRITTEN), data=st.data())
def test_any_text_means_the_same_from_every_source(
    tmp_path_factory: pytest.TempPathFactory, key: tuple[str, str], text: str, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        text += data.draw(st.sampled_from(["s", " min", "h", "\n", " "]))
    written = Written(tmp_path_factory.mktemp("written"))
    (first, expected), *others = written.outcomes(*key, text)
    for source, result in others:
        assert repr(result) == repr(expected), f"{key} = {text!r} in {first} and in {source}"


DURATIONS = {
    "30": 30,
    "1e3": 1000,
    "+5": 5,
    "0x10": 16,
    "1.5": 1.5,
    "1m": 60,
    "10 min": 600,
    "2h 30min": 9000,
    "2H": 7200,
}
DURATIONS |= {"1 day 12h": 129_600, "00:10:00": 600, "1 days 02:00:00": 93_600, "500 ms": 0.5, "1W": 604_800}


AMBIGUOUS = [
    "1M",
    "P1M",
    "P1D",
    "1,5h",
    "5s 5",
    "1 month",
    "1 year",
    "s",
    "07:32",
    "nan",
    "1T",
    "-5s",
    "1.5.2 s",
    "1 h -5 s",
]
LOOK_ALIKES = ["007", "1e5", "true", "null", "12345", "2026-01-01", "0x10", "[1]", "{}", "1_000", "off"]


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_without_a_unit_is_seconds_and_text_is_what_it_says(text: str) -> None:
    settings = load(environ={"TIDECAST_DATABASE__TIMEOUT": text})
    assert settings.database.timeout == DURATIONS[text] == parse_seconds(text)


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_a_duration_that_could_be_two_or_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"database\.timeout: .* is not a duration; write '90s'"):
        load(environ={"TIDECAST_DATABASE__TIMEOUT": text})


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_text_that_looks_like_something_else_is_text(text: str) -> None:
    settings = load(
        sets=[f"kafka.group={text}", f"kafka.input_topic='{text}'"],
        environ={"TIDECAST_KAFKA__SASL_PASSWORD": text, "TIDECAST_KAFKA__DEAD_LETTER_TOPIC": text},
    )
    kafka = settings.kafka
    assert (kafka.group, kafka.input_topic, kafka.dead_letter_topic) == (text,) * 3
    assert kafka.sasl_password is not None and kafka.sasl_password.get_secret_value() == text


def test_a_number_in_the_file_for_a_text_is_refused_with_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "tidecast.toml"
    for literal in ("7", "1e5", "true", "2026-01-01"):
        file.write_text(f"[kafka]\ngroup = {literal}\n")
        with pytest.raises(ConfigError, match=r"kafka\.group: write it in quotes"):
            load(file, environ={})


@pytest.mark.parametrize("password", [" a b ", "'quoted'", '"quoted"', "\ttab", "a\nb", "#", "=x", "%40"])
def test_every_character_of_a_password_counts_but_the_line_end_of_its_file(tmp_path: Path, password: str) -> None:
    (tmp_path / "kafka__sasl_password").write_text(f"{password}\n")
    for environ in ({"TIDECAST_SECRETS": str(tmp_path)}, {"TIDECAST_KAFKA__SASL_PASSWORD": password}):
        found = load(environ=environ).kafka.sasl_password
        assert found is not None and found.get_secret_value() == password


def test_blank_values_leave_what_a_source_below_says(tmp_path: Path) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text("[kafka]\ngroup = 'mine'\ninstance = ''\n[series]\nhorizon = ''\n")
    environ = {"TIDECAST_KAFKA__GROUP": "", "TIDECAST_SERIES__SEASON": " "}
    settings = load(file, ["kafka.group=", "series.context=''"], environ)
    assert (settings.kafka.group, settings.series, settings.kafka.instance) == (
        "mine",
        Settings().series,
        Settings().kafka.instance,
    )


def test_tables_of_several_sources_are_laid_over_each_other(tmp_path: Path) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text("[jobs.timeouts]\nretrain = 1\nmonitor = 2\ncalibrate = 3\npromote = 4\n")
    (tmp_path / "jobs__timeouts__monitor").write_text("20\n")
    environ = {
        "TIDECAST_SECRETS": str(tmp_path),
        "TIDECAST_JOBS__TIMEOUTS": '{"calibrate": "30"}',
        "TIDECAST_JOBS__TIMEOUTS__RETENTION": "1 min",
    }
    timeouts = load(file, ["jobs.timeouts.promote=40"], environ).jobs.timeouts
    assert timeouts == {"retrain": 1, "monitor": 20, "calibrate": 30, "promote": 40, "retention": 60}


def test_a_challenger_means_the_same_from_every_source(tmp_path: Path) -> None:
    file, secret = tmp_path / "tidecast.toml", tmp_path / "challengers__quick__budget"
    expected = {"quick": {"budget": 30.0}}
    for text in ("30", "0x1e", " 30\n", "'30'", "30s"):
        file.write_text(f"[challengers.quick]\nbudget = {toml_text(text.strip(chr(39)))}\n")
        secret.write_text(text)
        for sources in (
            {"file": file},
            {"environ": {"TIDECAST_SECRETS": str(tmp_path)}},
            {"environ": {"TIDECAST_CHALLENGERS__QUICK__BUDGET": text}},
            {"sets": [f"challengers.quick.budget={text}"]},
        ):
            side = load(**{"environ": {}, **sources}).side_by_side()  # type: ignore[arg-type]
            assert {name: {"budget": each.training.budget} for name, each in side.items()} == expected


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("kafka__group", b"\xff\xfem\0", "is not UTF-8"),
        ("TIDECAST_KAFKA__GROUP", b"mine", "name it kafka__group"),
        ("series__frequency", b"'1h", None),
        ("kafka__group", b"'a' or 'b'", "leave the outer quotes away"),
    ],
)
def test_a_secret_that_is_not_what_its_key_needs_is_refused(
    tmp_path: Path, file: str, content: bytes, complaint: str | None
) -> None:
    (tmp_path / file).write_bytes(content)
    if complaint is None:
        assert load(environ={"TIDECAST_SECRETS": str(tmp_path)}).series.frequency == content.decode()
        return
    with pytest.raises(ConfigError, match=complaint):
        load(environ={"TIDECAST_SECRETS": str(tmp_path)})


def test_a_variable_that_is_a_whole_table_or_not_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="write TIDECAST_SERIES__KEY"):
        load(environ={"TIDECAST_SERIES": '{"horizon": 3}'})
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(environ={"TIDECAST_KAFKA__GROUP": "\udcff"})


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_bytes(b"\xef\xbb\xbf[series]\nhorizon = 3\n")
    assert load(file, environ={}).series.horizon == 3


def test_reading_twice_is_reading_once() -> None:
    for annotation, text in itertools.product(set(map(str, KEYS.values())), WRITTEN):
        wanted = next(one for one in KEYS.values() if str(one) == annotation)
        try:
            once = read(wanted, text)
        except ValueError:
            continue
        assert repr(read(wanted, once)) == repr(once)
