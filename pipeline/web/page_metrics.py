"""What the page tells of itself at `metrics.listen`: its answers, its event streams, and the database behind it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.database.pages.pages import Pages
from pipeline.errors import TidecastError
from pipeline.health.probes import Checks
from pipeline.health.prometheus import Collector, Metric, counter, gauge


@dataclass(slots=True)
class Traffic:
    """Counts of answers by (route, status), and the seconds they took by route; event streams are not timed."""

    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Add one answer."""
        self.answers[route, status] = self.answers.get((route, status), 0) + 1
        self.seconds[route] = self.seconds.get(route, 0.0) + seconds

    def failed(self) -> int:
        """Count the answers that say that something here is broken or away."""
        return sum(count for (_, status), count in self.answers.items() if status >= 500)

    def total(self) -> int:
        """Count all answers."""
        return sum(self.answers.values())


class Counted(Protocol):
    """What is open (connections, event streams), and how many were dropped for a client that held them up."""

    dropped: int

    def __len__(self) -> int:
        """Count the open ones."""
        ...


class PageCollector(Collector):
    """Reads plain counters of the event loop's thread, of the access check and a feed; a scrape takes no lock of it."""

    def __init__(self, traffic: Traffic, streams: Counted, connections: Counted) -> None:
        self._traffic = traffic
        self._streams = streams
        self._connections = connections

    def collect(self) -> Iterator[Metric]:
        """Yield every metric. A route is one of the API's, or `other`: never a path that somebody requested."""
        answers, seconds = dict(self._traffic.answers), dict(self._traffic.seconds)
        rows = [((route, str(status)), float(count)) for (route, status), count in answers.items()]
        yield counter("page_answers", "Answers by route and HTTP status.", rows, ("route", "status"))
        yield counter(
            "page_answer_seconds",
            "Seconds that answers took, by route; event streams are not timed.",
            [((route,), taken) for route, taken in seconds.items()],
            ("route",),
        )
        yield gauge("page_connections", "Open connections.", [((), float(len(self._connections)))])
        yield counter(
            "page_connections_dropped",
            "Connections that were dropped: no whole request in time, an answer not read, or too many.",
            [((), self._connections.dropped)],
        )
        yield gauge("page_streams", "Open event streams.", [((), float(len(self._streams)))])
        yield counter(
            "page_streams_dropped",
            "Event streams that were dropped because nobody read them.",
            [((), self._streams.dropped)],
        )


def checks_of(pages: Pages) -> Checks:
    """Say what keeps the page from answering: the database, which is asked. It is well while its process can say so."""

    def find_unready() -> list[str]:
        try:
            pages.answers()
        except TidecastError as error:
            return [f"the database does not answer: {error}"]
        return []

    return Checks(list, find_unready)
