"""`tidecast run` that is told to end while it still checks its topics."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import roles
from pipeline.errors import Unavailable
from pipeline.settings import Settings


class Told(Exception):
    """SIGTERM came while nobody caught it."""


@pytest.fixture
def uncaught() -> Iterator[None]:
    def end(number: int, frame: object) -> None:
        raise Told

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("uncaught")
@pytest.mark.parametrize("answers", [True, False])
def test_sigterm_during_the_check_of_the_topics_ends_it_well_and_starts_no_role(
    answers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []

    def check(kafka: object, known: object) -> dict[str, int]:
        os.kill(os.getpid(), signal.SIGTERM)
        if answers:
            return {}
        raise Unavailable("no broker answers")

    monkeypatch.setattr(roles.topics, "check_topics", check)
    monkeypatch.setattr("pipeline.health.supervisor.subprocess.Popen", started.append)
    settings = Settings.model_validate(
        {"database": {"url": f"sqlite:///{tmp_path}/t.db"}, "metrics": {"listen": None}, "serve": {"listen": None}}
    )
    roles.run_all(settings, [])
    assert started == []
