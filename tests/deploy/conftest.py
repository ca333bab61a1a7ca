"""The places that these tests run in."""

from tests.faults.conftest import development_broker, postgresql, run_folder

__all__ = ["development_broker", "postgresql", "run_folder"]
