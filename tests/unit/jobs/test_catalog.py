"""The jobs by name: which of them compute with torch, and that the others do without its seconds of import."""

import subprocess
import sys

import pytest

from jobs.catalog import CATALOG, training_threads
from pipeline.settings import JobSettings, Settings, TrainingSettings
from pipeline.settings.values import TIMING

LIGHT = ("monitor", "calibrate", "retention")
RUN = """
import sys
from types import SimpleNamespace
import jobs.__main__
from jobs.catalog import find_work
from pipeline.settings import Settings, TrainingSettings
grids = SimpleNamespace(phase=lambda: None)
for job in sys.argv[1:]:
    try:
        find_work(job, Settings(), SimpleNamespace(pipelines=grids), lambda: 0)(lambda stage: None)
    except AttributeError:
        pass  # there is nothing else in the database; its modules are imported by then
    print(job, "torch" in sys.modules)
"""


def test_every_job_has_a_timetable_and_every_timetable_a_job() -> None:
    timed = [name for name, field in JobSettings.model_fields.items() if TIMING in field.metadata]
    assert sorted(CATALOG) == sorted(timed)
    assert [job.name for job in CATALOG.values() if job.torch] == ["retrain"]


def test_a_job_that_trains_nothing_does_not_import_torch() -> None:
    command = [sys.executable, "-c", RUN, *LIGHT, "retrain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines() == [*(f"{job} False" for job in LIGHT), "retrain True"]


@pytest.mark.parametrize(("wish", "threads"), [(0, 3), (1, 1), (5, 5)])
def test_a_job_trains_on_the_cores_that_are_free_or_as_the_setting_says(
    wish: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.fitting.cores.count_free", lambda: 3)
    assert training_threads(Settings(training=TrainingSettings(threads=wish))) == threads
