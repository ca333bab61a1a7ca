"""The demo as a user runs it, made small: every event and every forecast is counted on both sides."""

import json
import re
import sqlite3
import sys
from pathlib import Path

import psutil
import pytest

from pipeline.quickstart.demo_directory import CHART, DATABASE, MARKER, SETTINGS
from pipeline.quickstart.demo_series import HORIZON, load
from tests import processes

SERIES = 6
SMALL = ("training.steps=15", "training.batch=16", "model.hidden=8", "model.layers=1")
ANY_COVERAGE = "jobs.gate_coverage=[0.0, 1.0]"


@pytest.mark.slow
def test_the_demo_stores_and_publishes_every_forecast_once_and_leaves_nothing_running(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / MARKER).touch()
    (directory / DATABASE).write_text("what an earlier demo left")
    sets = [part for text in (*SMALL, ANY_COVERAGE) for part in ("--set", text)]
    command = [sys.executable, "-m", "pipeline.cli", *sets, "demo", "--once", "--json", "--series", str(SERIES)]
    done = processes.run(
        [*command, "--directory", str(directory)], capture_output=True, text=True, cwd=tmp_path, forking=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout)
    assert set(summary) == {
        "events",
        "observations",
        "forecasts_in_sql",
        "messages_on_topic",
        "mase",
        "mase_zero_shot",
        "mase_seasonal_naive",
        "coverage_80",
        "coverage_80_zero_shot",
        "seconds",
    }
    table = load(SERIES)
    assert summary["events"] == summary["observations"] == len(table)
    assert summary["forecasts_in_sql"] == summary["messages_on_topic"] >= SERIES * (HORIZON + 1)
    assert 0 < summary["mase"] < 100
    assert summary["mase_seasonal_naive"] == pytest.approx(seasonal_naive_by_hand(), abs=1e-4)
    assert 0 < summary["mase_zero_shot"] < summary["mase_seasonal_naive"]
    assert 0 <= summary["coverage_80"] <= 1

    with sqlite3.connect(directory / DATABASE) as connection:
        ((stored,),) = connection.execute("SELECT COUNT(*) FROM forecasts WHERE step = 1")
        by_champion = "SELECT COUNT(*) FROM forecasts JOIN aliases ON version = model_version WHERE alias = 'champion'"
        ((scored,),) = connection.execute(f"{by_champion} AND step = 1")
        versions = connection.execute("SELECT name FROM models ORDER BY version").fetchall()
        runs = connection.execute("SELECT job, outcome FROM job_runs").fetchall()
        ((matured,),) = connection.execute("SELECT COUNT(*) FROM matured_forecasts")
        ((evaluated,),) = connection.execute("SELECT SUM(n) FROM forecast_accuracy")
    connection.close()
    assert stored == summary["forecasts_in_sql"]
    assert scored >= SERIES * (HORIZON + 1)  # the champion made every forecast of the streamed hours
    assert [name for (name,) in versions] == ["seasonal-naive", "zero-shot", "pretrained", "attention"]
    assert "have forecasts already, by the pretrained network" in done.stderr
    assert runs == [("retrain", "ok"), ("monitor", "ok")]
    assert evaluated == matured > 0  # the leaderboard that was shown counts every matured forecast
    assert (directory / CHART).read_bytes().startswith(b"\x89PNG")
    assert (directory / SETTINGS).is_file()
    (worker,) = re.findall(r"tidecast stream, process (\d+)", done.stderr)
    assert not psutil.pid_exists(int(worker))


def seasonal_naive_by_hand() -> float:
    """MASE of repeating the last day before the cut, written out for one series after the other."""
    scores = []
    for _, rows in load(SERIES).groupby("series_id")["value"]:
        values = rows.tolist()
        known, actual = values[:-HORIZON], values[-HORIZON:]
        scale = sum(abs(known[i] - known[i - 24]) for i in range(24, len(known))) / (len(known) - 24)
        error = sum(abs(known[len(known) - 24 + h % 24] - actual[h]) for h in range(HORIZON)) / HORIZON
        scores.append(error / scale)
    return sum(scores) / len(scores)
