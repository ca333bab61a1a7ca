"""What this process has answered so far, counted by route and status."""

from dataclasses import dataclass, field


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
