"""The read side for jobs and people."""

from sqlalchemy import Engine


class Reader:
    """Reads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
