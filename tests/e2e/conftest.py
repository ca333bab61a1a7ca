"""The places that the fault tests run in."""

from tests.faults.conftest import apache_kafka, development_broker, place, postgresql, run_folder

__all__ = ["apache_kafka", "development_broker", "place", "postgresql", "run_folder"]
