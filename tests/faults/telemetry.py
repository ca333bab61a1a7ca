"""What a real process serves at its metrics.listen, read as Prometheus and a probe of an orchestrator would."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.faults.fleet import Fleet, until

ANY_PORT = "metrics.listen=127.0.0.1:0"


@dataclass(frozen=True)
class Telemetry:
    """Where it is: http://host:port."""

    address: str

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and the body; 0 when nobody listens."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def status(self, path: str) -> int:
        return self.get(path)[0]

    def reasons(self) -> str:
        """Why it is not ready."""
        _, text = self.get("/readyz")
        return "; ".join(json.loads(text)["reasons"]) if text else ""

    def samples(self) -> dict[tuple[str, ...], float]:
        """Every sample by its name without `tidecast_` and the values of its labels."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (each.name.removeprefix("tidecast_"), *each.labels.values()): each.value
            for family in text_string_to_metric_families(text)
            for each in family.samples
        }

    def sum(self, name: str) -> float:
        """Add up the samples of one name."""
        return sum(value for key, value in self.samples().items() if key[0] == name)


def telemetry_of(fleet: Fleet, name: str) -> Telemetry:
    """Find where a worker that was started with ANY_PORT listens."""
    until(lambda: bool(fleet.events(name, "metrics served")), 60.0, f"{name} listens")
    address: str = fleet.events(name, "metrics served")[0]["address"]
    return Telemetry(address.removesuffix("/metrics"))
