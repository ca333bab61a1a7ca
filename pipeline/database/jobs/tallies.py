"""What retention has deleted so far, counted in the transactions that delete it, so that no crash loses a count.

Without it the counts of the ledger would fall when old runs go, which Prometheus takes for a restart.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection

from pipeline.database.jobs.states import read_state, replace_state

STATE = "deleted"


class Deleted(NamedTuple):
    """Rows deleted by table, and the runs among them by job and outcome."""

    rows: dict[str, int]
    runs: dict[tuple[str, str], int]


def read_deleted(connection: Connection) -> Deleted:
    """Return what was deleted so far."""
    return _decode(read_state(connection, STATE)[1])


def add_deleted(connection: Connection, table: str, count: int, runs: Iterable[tuple[str, str]] = ()) -> None:
    """Count rows that this transaction deletes; `runs` are job and outcome of each, where they are runs."""
    while count:
        epoch, saved = read_state(connection, STATE)
        rows, ended = _decode(saved)
        rows[table] = rows.get(table, 0) + count
        for key in runs:
            ended[key] = ended.get(key, 0) + 1
        counted = [[job, outcome, times] for (job, outcome), times in sorted(ended.items())]
        if replace_state(connection, STATE, epoch, {"rows": rows, "runs": counted}):
            return


def _decode(saved: dict[str, Any]) -> Deleted:
    return Deleted(
        dict(saved.get("rows", {})), {(job, outcome): times for job, outcome, times in saved.get("runs", [])}
    )
