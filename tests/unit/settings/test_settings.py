"""Where settings come from, and how wrong ones are refused."""

import json
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.settings.sources import load, masked, shown


def test_the_command_line_wins_over_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text("[series]\nhorizon = 1\ncontext = 10\nseason = 5\n")
    monkeypatch.setenv("TIDECAST_SERIES__HORIZON", "2")
    monkeypatch.setenv("TIDECAST_SERIES__CONTEXT", "20")
    settings = load(file, ["series.horizon=3"])
    assert (settings.series.horizon, settings.series.context, settings.series.season) == (3, 20, 5)


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load().series.frequency == "1h"


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["series.horizn=3"], r"unknown key series\.horizn"),
        (["serie.horizon=3"], r"unknown key serie"),
        (["series.horizon=many"], r"series\.horizon: .*integer"),
        (["series.horizon=0"], r"series\.horizon: .*greater than or equal to 1"),
        (["series.duplicates='newest'"], r"series\.duplicates: .*'last'"),
        (["kafka.call_timeout=0.1"], r"kafka: call_timeout must be longer than a poll"),
        (["kafka.session_timeout='soon'"], r"kafka\.session_timeout: 'soon' is not a duration; write '90s'"),
        (["input.value='timestamp'"], r"input: .*three different fields"),
        (["horizon=3"], r"write section\.key=value"),
        (["series.horizon"], r"write section\.key=value"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(sets: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        load(None, sets)
    assert "\n" not in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, ["series.horizon=0", "series.contxt=3", "kafka.partitions='x'"])
    assert all(part in str(refused.value) for part in ("series.horizon", "series.contxt", "kafka.partitions"))


def test_a_file_that_is_missing_or_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path / "none.toml")
    bad = tmp_path / "bad.toml"
    bad.write_text("[series\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load(bad)


def test_an_environment_variable_of_an_unknown_section_or_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_SERIE__HORIZON", "2")
    with pytest.raises(ConfigError, match="TIDECAST_SERIE__HORIZON names no section"):
        load()
    monkeypatch.delenv("TIDECAST_SERIE__HORIZON")
    monkeypatch.setenv("TIDECAST_SERIES__HORIZN", "2")
    with pytest.raises(ConfigError, match=r"unknown key series\.horizn"):
        load()


@pytest.mark.parametrize(
    ("text", "seconds"), [("'90s'", 90), ("'10 min'", 600), ("'2h'", 7200), ("'1 day'", 86400), ("1.5", 1.5)]
)
def test_durations_are_words_or_seconds(text: str, seconds: float) -> None:
    assert load(None, [f"training.budget={text}"]).training.budget == seconds


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = load(None, ["database.url='postgresql://me:s3cret@db/x'", "kafka.sasl_password='s3cret'"])
    assert "s3cret" not in f"{settings!r} {settings} {shown(settings)}"
    assert shown(settings)["database"]["url"] == "postgresql://me:***@db/x"
    assert masked("sqlite:///a.db") == "sqlite:///a.db"
    assert masked("postgresql://db/t?user=u&password=hunter2&x=1") == "postgresql://db/t?user=u&password=***&x=1"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().series.horizon = 3  # type: ignore[misc]


def test_a_job_is_switched_off_in_words() -> None:
    assert load(None, ["jobs.retrain=off"]).jobs.retrain is None
    assert load(None, ["jobs.retrain='0 * * * *'"]).jobs.retrain == "0 * * * *"


def test_a_job_has_a_timeout_of_its_own_or_that_of_all() -> None:
    jobs = load(None, ["jobs.timeouts={retrain = '10 min'}"]).jobs
    assert (jobs.timeout_of("retrain"), jobs.timeout_of("another")) == (600, 21_600)
    for wrong, words in (("{lease = 5}", "'lease' is not a job; write one of "), ("{retrain = 0}", "greater")):
        with pytest.raises(ConfigError, match=words):
            load(None, [f"jobs.timeouts={wrong}"])


def test_an_environment_variable_with_one_underscore_too_few_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_KAFKA_GROUP", "other")
    with pytest.raises(ConfigError, match="write TIDECAST_KAFKA__GROUP"):
        load()


def test_an_environment_variable_that_is_not_what_its_key_needs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_JOBS__GATE_COVERAGE", "abc")
    with pytest.raises(ConfigError, match="jobs") as refused:
        load()
    assert "\n" not in str(refused.value)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "latin.toml"
    file.write_bytes(b"[kafka]\ngroup = '\xe4'\n")
    with pytest.raises(ConfigError, match="not TOML"):
        load(file)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (["x", "x"], "covariates must name different fields"),
        (["x", "kwh"], "none of series_id, timestamp and value"),
        ([""], "not empty"),
        (["a\0"], "can be printed"),
        ([f"x{n}" for n in range(33)], "at most 32"),
        (['a"b'], "without quotes, backslashes and line ends"),
        (["a\\b"], "without quotes, backslashes and line ends"),
    ],
)
def test_covariates_that_could_not_be_told_apart_or_stored_are_refused(names: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(sets=[f"input.covariates={json.dumps(names)}", "input.value=kwh"], environ={})


def test_covariates_are_a_list_in_toml_and_on_the_command_line() -> None:
    settings = load(sets=['input.covariates=["temperature", "wind speed", "value"]', "input.value=kwh"], environ={})
    assert settings.input.covariates == ("temperature", "wind speed", "value")


def test_a_challenger_is_the_model_with_changes() -> None:
    settings = load(None, ["model.hidden=32", "challengers.small.hidden=8", "challengers.quick.steps=9"])
    small, quick = settings.side_by_side().values()
    assert (small.model.hidden, small.training.steps) == (8, 3000)
    assert (quick.model.hidden, quick.training.steps) == (32, 9)
    assert load().side_by_side() == {}


def test_challengers_come_from_the_file_and_the_environment_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tidecast.toml"
    file.write_text('[challengers.wide]\nhidden = 256\n[challengers."gru-1.0"]\nkind = "gru"\n')
    monkeypatch.setenv("TIDECAST_CHALLENGERS__WIDE__STEPS", "7")
    found = load(file).side_by_side()
    assert (found["wide"].model.hidden, found["wide"].training.steps) == (256, 7)
    assert found["gru-1.0"].model.kind == "gru"


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        (["challengers.small.hiden=8"], r"unknown key challengers\.small\.hiden: write keys of \[model\]"),
        (["challengers.small.layers=9"], r"challengers\.small\.layers: .*less than or equal to 4"),
        (["challengers.small.steps=0"], r"challengers\.small\.steps: .*greater than or equal to 1"),
        (["challengers.small.mode='warm'"], r"challengers\.small\.mode is the same for all challengers"),
        (["challengers.a/b.layers=1"], r"'a/b' is no name"),
        (["challengers.small=1"], r"'' is no name"),
    ],
)
def test_a_wrong_challenger_is_refused_in_one_line(sets: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as refused:
        load(None, sets)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("sets", "complaint"),
    [
        (["ssl_cafile=ca.pem"], "ssl_cafile is for TLS, but security_protocol is PLAINTEXT"),
        (["sasl_username=me", "security_protocol=SSL"], "sasl_username is for SASL, but security_protocol is SSL"),
        (["security_protocol=SASL_SSL", "sasl_mechanism=PLAIN"], "needs sasl_username, sasl_password"),
        (["security_protocol=SSL", "ssl_certfile=a.pem"], "belong together"),
    ],
)
def test_security_that_would_be_ignored_or_is_half_given_is_refused(sets: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(sets=[f"kafka.{text}" for text in sets], environ={})
