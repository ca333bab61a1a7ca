"""The command line: errors are one line, exit codes say who must act, help imports nothing heavy."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import pytest

from pipeline.cli import COMMANDS, main, root
from pipeline.commands.display import table
from pipeline.database import open_database, upgrade
from pipeline.quickstart.broker import DevelopmentBroker
from tests import processes

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tidecast in this process, in an empty directory: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    return run


@pytest.fixture
def database(tmp_path: Path) -> Sequence[str]:
    """Root options for an empty database with a schema."""
    url = f"sqlite:///{tmp_path / 'cli.db'}"
    upgrade(url)
    return ["--set", f"database.url={url}"]


def run_process(*arguments: str) -> tuple[int, str, str]:
    """Run tidecast as a process; kafka-python leaves sockets behind when it cannot connect."""
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    done = processes.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def assert_one_line(stderr: str, *words: str) -> None:
    assert stderr.startswith("tidecast: ")
    assert stderr.count("\n") == 1
    for word in words:
        assert word in stderr


def test_an_unknown_key_ends_with_2_and_names_it(run: Run) -> None:
    code, out, err = run("--set", "series.horizn=3", "config", "check")
    assert (code, out) == (2, "")
    assert_one_line(err, "series.horizn", "tidecast config show")


def test_a_value_of_the_wrong_type_ends_with_2_and_names_the_key(run: Run) -> None:
    code, _, err = run("--set", "series.horizon=many", "config", "check")
    assert code == 2
    assert_one_line(err, "series.horizon", "integer")


def test_a_set_without_a_section_shows_how_to_write_it(run: Run) -> None:
    code, _, err = run("--set", "horizon", "config", "check")
    assert code == 2
    assert_one_line(err, "section.key=value")


def test_a_missing_settings_file_ends_with_2(run: Run) -> None:
    code, _, err = run("--config", "nowhere.toml", "config", "check")
    assert code == 2
    assert_one_line(err, "nowhere.toml", "does not exist")


def test_a_settings_file_that_is_not_toml_ends_with_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tidecast.toml").write_text("[series\n")
    code, _, err = run("config", "check")
    assert code == 2
    assert_one_line(err, "is not TOML")


def test_an_unreachable_broker_ends_with_1(tmp_path: Path) -> None:
    file = tmp_path / "values.csv"
    file.write_text("series_id,timestamp,value\na,2026-01-01,1\n")
    address = f"127.0.0.1:{closed_port()}"
    sets = ("--set", f"kafka.bootstrap_servers={address}", "--set", "kafka.call_timeout=1")
    code, _, err = run_process(*sets, "produce", str(file))
    assert code == 1
    assert_one_line(err, address, "check kafka.bootstrap_servers")


def test_an_unreachable_database_ends_with_1_without_its_password(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDECAST_DATABASE__URL", f"postgresql://me:secret@127.0.0.1:{closed_port()}/tidecast")
    code, _, err = run("--set", "database.timeout=2", "models", "list")
    assert code == 1
    assert_one_line(err, "127.0.0.1")
    assert "secret" not in err


def test_a_database_without_a_schema_says_how_to_make_one(run: Run, tmp_path: Path) -> None:
    code, _, err = run("models", "list")
    assert code == 2
    assert_one_line(err, "tidecast db upgrade")
    assert list(tmp_path.iterdir()) == []  # asking made no file


@pytest.mark.parametrize(
    "arguments",
    [("foo",), ("models", "foo"), ("models", "show", "x"), ("models", "show"), ("forecast", "latest", "--limit", "0")],
)
def test_wrong_usage_ends_with_2_and_points_to_the_help(run: Run, arguments: Sequence[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert_one_line(err, "--help")


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    code, _, err = run()
    assert code == 2
    assert "Commands:" in err


def test_ctrl_c_ends_quietly_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(root, "get_command", lambda context, name: interrupted)
    code, out, err = run("anything")
    assert (code, out, err.strip()) == (130, "", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_the_help_that_the_list_promises(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: tidecast {name}")


def test_the_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'pandas', 'numpy', 'sqlalchemy', 'kafka', 'pydantic', 'rich', 'apscheduler'}"
    script = f"import sys, pipeline.cli\nsys.stderr.write(str(sorted({heavy} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


WITHOUT_TORCH = {
    "run": ["--set", "metrics.listen={taken}", "run"],
    "schedule": ["--set", "metrics.listen={taken}", "schedule"],
    "serve": ["--set", "serve.listen={taken}", "serve"],
    "broker": ["broker", "--port", "{port}"],
    "metrics": ["metrics"],
    "job": ["job", "list"],
    "produce": ["produce", "events.csv"],
    "models": ["models", "list"],
    "forecast": ["forecast", "latest"],
    "readings": ["readings", "repairs"],
    "dead-letters": ["dead-letters", "list"],
    "db": ["db", "rebind"],
    "config": ["config", "show"],
}
"""A call of each command. The first four would stay; they end with 1, because their port is taken."""
WITH_TORCH = {"stream", "backtest", "demo", "doctor"}
"""What scores or trains, and the doctor, who says on what a training will run."""
CALL_EACH = """
import json, sys
from pipeline.cli import main
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    try:
        main(arguments)
    except SystemExit as end:
        found[name] = [end.code, "torch" in sys.modules]
sys.stdout.write("\\n" + json.dumps(found))
"""


def test_what_neither_trains_nor_scores_starts_without_torch(database: Sequence[str], tmp_path: Path) -> None:
    """A supervisor, a scheduler and a page are a quarter as large without it: 154 MB instead of 618."""
    assert sorted(COMMANDS) == sorted([*WITHOUT_TORCH, *WITH_TORCH])
    (tmp_path / "events.csv").write_text(
        "series_id,timestamp,value\nmeter-17,2026-01-01T00:00Z,3.2\n", encoding="utf-8"
    )
    with DevelopmentBroker() as broker, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = [*database, "--set", f"kafka.bootstrap_servers={broker.bootstrap_servers}"]
        calls = {
            name: [*first, *(word.format(taken=f"127.0.0.1:{port}", port=port) for word in words)]
            for name, words in WITHOUT_TORCH.items()
        }
        script = [sys.executable, "-c", CALL_EACH, json.dumps(calls)]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {name: [1 if number < 4 else 0, False] for number, name in enumerate(WITHOUT_TORCH)}, done.stderr


def test_the_same_command_ends_alike_as_a_process() -> None:
    code, _, err = run_process("--set", "a.b=1", "config", "check")
    assert code == 2
    assert_one_line(err, "unknown key a")


def test_config_show_masks_secrets_and_is_toml_that_can_be_read_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as secrets:
        secrets.setenv("TIDECAST_DATABASE__URL", "postgresql://me:secret@host/tidecast")
        secrets.setenv("TIDECAST_KAFKA__SASL_PASSWORD", "hunter2")
        code, out, _ = run("--set", "series.horizon=7", "--set", "jobs.timeouts={retrain = '2h'}", "config", "show")
    assert code == 0
    assert "secret" not in out and "hunter2" not in out
    (tmp_path / "tidecast.toml").write_text(out)
    code, again, _ = run("config", "show", "--json")
    assert code == 0
    assert json.loads(again)["series"]["horizon"] == 7
    assert json.loads(again)["jobs"]["timeouts"] == {"retrain": 7200}


def test_read_verbs_write_json_on_an_empty_database(run: Run, database: Sequence[str]) -> None:
    for verb in (("forecast", "latest"), ("dead-letters", "list"), ("forecast", "as-of", "2026-01-01")):
        code, out, _ = run(*database, *verb, "--json")
        assert (code, json.loads(out)) == (0, [])
    code, out, _ = run(*database, "db", "current", "--json")
    assert json.loads(out)["current"] == json.loads(out)["needed"]


def test_what_is_not_there_is_said_in_one_line(run: Run, database: Sequence[str]) -> None:
    for verb, word in (
        (("models", "show", "9"), "model 9 does not exist"),
        (("models", "promote", "9"), "model 9"),
        (("models", "rollback"), "no earlier champion"),
        (("dead-letters", "show", "observations/0/1"), "no dead letter observations/0/1"),
        (("dead-letters", "show", "observations"), "TOPIC/PARTITION/OFFSET"),
        (("forecast", "plot", "meter-17"), "meter-17 has no forecast"),
        (("forecast", "as-of", "soon"), "is not a time"),
        (("dead-letters", "requeue"), "--all"),
    ):
        code, _, err = run(*database, *verb)
        assert code == 2, verb
        assert_one_line(err, word)


def test_db_upgrade_may_be_repeated(run: Run, tmp_path: Path) -> None:
    sets = ("--set", f"database.url=sqlite:///{tmp_path / 'new.db'}")
    assert run(*sets, "db", "current")[1].startswith("empty; this release needs")
    first = run(*sets, "db", "upgrade")
    assert first[0] == 0
    assert run(*sets, "db", "upgrade") == first


def test_doctor_names_what_is_bad_and_what_to_do_and_ends_with_1(database: Sequence[str]) -> None:
    sets = ("--set", f"kafka.bootstrap_servers=127.0.0.1:{closed_port()}", "--set", "kafka.call_timeout=1")
    code, out, _ = run_process(*database, *sets, "doctor", "--json")
    found = {finding["check"]: finding for finding in json.loads(out)}
    assert code == 1
    assert {name for name, finding in found.items() if not finding["ok"]} == {"broker"}
    assert "kafka.bootstrap_servers" in found["broker"]["advice"]
    awaited = "next, the first retraining: needs 204 steps of a series, has 0"
    assert found["model"]["found"] == f"version 0, seasonal naive; {awaited}"


def test_doctor_reports_wrong_settings_instead_of_ending(run: Run) -> None:
    code, out, _ = run("--set", "series.horizon=0", "doctor")
    assert code == 1
    assert "series.horizon" in out


def test_the_demo_never_deletes_what_it_did_not_create(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("keep")
    code, _, err = run("demo", "--once", "--directory", str(mine))
    assert code == 2
    assert_one_line(err, "was not made by tidecast demo", "--directory")
    (mine / ".tidecast-demo").touch()
    code, _, err = run("demo", "--once", "--directory", str(mine))
    assert code == 2
    assert_one_line(err, "notes.txt")
    assert (mine / "notes.txt").read_text() == "keep"


def test_a_table_aligns_numbers_to_the_right() -> None:
    assert table(["name", "n"], [["a", 5], ["long name", 1234], ["none", None]]) == [
        "name          n",
        "a             5",
        "long name  1234",
        "none          -",
    ]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("series.frequency=banana", "not a pandas frequency"),
        ("model.segment=5", "segment"),
        ("series.frequency=2YS", "fifty years"),
        ("series.horizon=9000", "does not fit into one message"),
        ("jobs.retrain=nonsense", "cron"),
        ("jobs.group=(", "not a regular expression"),
        ("jobs.group=north", "exactly one group"),
        ("jobs.retrain=every now and then", "is not a duration"),
        ("kafka.call_timeout=0.5", "call_timeout must be longer than a poll"),
        ("kafka.call_timeout=inf", "kafka.call_timeout"),
    ],
)
def test_config_check_refuses_what_could_not_run(run: Run, setting: str, reason: str) -> None:
    code, output, errors = run("--set", setting, "config", "check")
    assert (code, output) == (2, "")
    assert reason in errors
    assert len(errors.splitlines()) == 1


def test_a_file_that_cannot_be_written_is_one_line(run: Run, database: Sequence[str]) -> None:
    code, _, errors = run(*database, "forecast", "export", "--output", "/nonexistent/x.csv")
    assert code == 1
    assert "/nonexistent" in errors
    assert len(errors.splitlines()) == 1


def test_a_model_is_shown_with_the_calibration_in_use(run: Run, database: Sequence[str], tmp_path: Path) -> None:
    assert json.loads(run(*database, "models", "show", "0", "--json")[1])["calibration"] == {"version": 0}
    opened = open_database(f"sqlite:///{tmp_path / 'cli.db'}", timeout=5.0)
    opened.calibrations.record(
        0, between=(0, 3_600_000_000), n=500, factors=[[1.0] * 13], metrics={"method": {"coverage_80": 0.8}}, now=0
    )
    opened.close()
    calibration = json.loads(run(*database, "models", "show", "0", "--json")[1])["calibration"]
    assert (calibration["version"], calibration["n"], calibration["to"]) == (1, 500, "1970-01-01 01:00:00+00:00")
    code, out, _ = run(*database, "models", "show", "0")
    assert code == 0
    assert "metrics.method.coverage_80" in out


def test_the_calibration_job_runs_by_hand_and_says_what_it_did(run: Run, database: Sequence[str]) -> None:
    code, out, _ = run(*database, "job", "run", "calibrate")
    assert (code, out.splitlines()[-1]) == (
        0,
        "no calibration kept for model 0: 0 forecast steps have matured, 100 are needed",
    )
