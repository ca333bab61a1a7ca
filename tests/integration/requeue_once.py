"""`python -m tests.integration.requeue_once POINT TURN KEY=VALUE...`: requeue everything and kill -9 at a point.

The points are those of pipeline.stream.requeue, and `in_transaction`; with an empty one it goes to its end.
"""

import os
import signal
import sys

from pipeline.database import open_database
from pipeline.database.turns.requeue import RequeueShelf
from pipeline.health.watchdog import Watchdog
from pipeline.kafka.limits import read_limits
from pipeline.kafka.requeue import RequeueSender
from pipeline.kafka.topics import check_topics
from pipeline.settings.sources import load
from pipeline.start import clock
from pipeline.stream.requeue import Place, Requeue


def main(point: str, turn: int, sets: list[str]) -> None:
    left = turn

    def passed(name: str) -> None:
        nonlocal left
        left -= name == point
        if name == point and not left:
            os.kill(os.getpid(), signal.SIGKILL)

    def tell(place: Place, why: str) -> None:
        sys.stderr.write(f"{place} was left: {why}\n")

    settings = load(None, sets)
    kafka = settings.kafka
    database = open_database(settings.database.url.get_secret_value(), timeout=30)
    counts, limits = check_topics(kafka), read_limits(kafka, [kafka.input_topic])
    sender = RequeueSender(
        kafka,
        Watchdog(60),
        partitions=counts[kafka.input_topic],
        limits=limits[kafka.input_topic],
        clock=clock,
        passed=passed,
    )
    work = Requeue(RequeueShelf(database.engine), sender, clock=clock, tell=tell, passed=passed)
    sent = work.run(f"pid {os.getpid()}")
    sender.close()
    database.close()
    sys.stdout.write(f"{sent}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
