"""What a job remembers between its runs: plain JSON under a name, changed by compare-and-set on its epoch."""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, select, update

from pipeline.database.engine import reading, writing
from pipeline.database.jobs.ledger import request_job
from pipeline.database.schema.monitor_tables import job_states
from pipeline.database.schema.tables import inserting


def read_state(connection: Connection, name: str) -> tuple[int, dict[str, Any]]:
    """Return a state and its epoch; (0, {}) before the first."""
    query = select(job_states.c.epoch, job_states.c.state).where(job_states.c.name == name)
    found = connection.execute(query).one_or_none()
    return (0, {}) if found is None else (int(found.epoch), dict(found.state))


def replace_state(connection: Connection, name: str, epoch: int, state: Mapping[str, Any]) -> bool:
    """Replace the state of `epoch` and raise the epoch by one; False, with nothing changed, if it is another by now."""
    if epoch == 0:
        new = inserting(connection, job_states).values(name=name, epoch=1, state=dict(state))
        first = new.on_conflict_do_nothing(index_elements=["name"]).returning(job_states.c.epoch)
        return connection.execute(first).scalar() is not None
    same = update(job_states).where(job_states.c.name == name, job_states.c.epoch == epoch)
    return connection.execute(same.values(epoch=epoch + 1, state=dict(state))).rowcount == 1


class _Moved(Exception):
    """The state is that of another epoch, so the transaction is rolled back."""


class JobStates:
    """The table job_states; each method is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read(self, name: str) -> tuple[int, dict[str, Any]]:
        """Return a state and its epoch; (0, {}) before the first."""
        with reading(self._engine) as connection:
            return read_state(connection, name)

    def replace(self, name: str, epoch: int, state: Mapping[str, Any]) -> bool:
        """Replace the state of `epoch`; False, with nothing changed, if it is another by now."""
        with writing(self._engine) as connection:
            return replace_state(connection, name, epoch, state)

    def replace_and_request(
        self, name: str, epoch: int, state: Callable[[bool], Mapping[str, Any]], *, job: str, reason: str, now: int
    ) -> bool | None:
        """Request a job and replace the state of `epoch` by `state(new)`; return whether the request is new.

        None, with nothing changed and nothing requested, if the state is that of another epoch by now.
        """
        try:
            with writing(self._engine) as connection:
                new = request_job(connection, job, reason, now)
                if not replace_state(connection, name, epoch, state(new)):
                    raise _Moved
                return new
        except _Moved:
            return None
