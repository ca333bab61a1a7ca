"""Facts of jobs in which every metric has at least one sample."""

from pipeline.job_facts import (
    AccuracyFacts,
    CalibrationFacts,
    ChampionFacts,
    DriftFacts,
    JobFacts,
    LeaseFacts,
    RunFacts,
)

SECOND = 1_000_000
NOW = 1_767_225_600 * SECOND  # 2026-01-01, a Thursday
PERIODS = {"retrain": 86_400.0, "monitor": 300.0, "calibrate": 3600.0, "retention": None}


def ran(ok: int, failed: int = 0) -> RunFacts:
    return RunFacts({"ok": ok, "failed": failed}, 0, 0, NOW - 3600 * SECOND, 90.5, paused=False, requested=False)


FACTS = JobFacts(
    read_at=NOW,
    runs={
        "retrain": ran(12, 3),
        "monitor": ran(400),
        "calibrate": ran(20),
        "retention": RunFacts({}, 1, 0, None, None, paused=True, requested=True),
    },
    lease=LeaseFacts(4, NOW + 20 * SECOND),
    champion=ChampionFacts(7, NOW - 9 * SECOND, NOW - 10 * SECOND, CalibrationFacts(3, NOW - 5 * SECOND, 4000)),
    changes={"promote": 5, "rollback": 1},
    accuracy=[
        AccuracyFacts(7, 1, 900, 0.6, 0.05, None, 0.79, 0.95),
        AccuracyFacts(7, 2, 4500, 0.8, 0.07, 0.3, 0.81, 0.94),
        AccuracyFacts(0, 2, 4500, 1.1, 0.10, 0.0, 0.83, 0.96),
    ],
    drift=DriftFacts(2, NOW - 7 * SECOND, waiting=False),
    deleted={"forecasts": 1200},
)
