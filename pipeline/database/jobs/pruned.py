"""How far rows have been deleted: days of targets before that may lack forecasts, or the values that judge them."""

from sqlalchemy import Connection

from pipeline.database.jobs.states import read_state, replace_state
from pipeline.database.schema.instants import FIRST

STATE = "pruned"


def read_pruned(connection: Connection) -> int:
    """Return the time of a target before which rows may be gone; FIRST where nothing was deleted."""
    _, state = read_state(connection, STATE)
    return int(state.get("until", FIRST))


def note_pruned(connection: Connection, until: int) -> None:
    """Note it in the transaction that deletes; it never goes back."""
    while True:
        epoch, state = read_state(connection, STATE)
        if state.get("until", FIRST) >= until or replace_state(connection, STATE, epoch, {"until": until}):
            return
