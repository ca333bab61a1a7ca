"""Quix Streams on the same topic; runs in its own virtual environment, so it imports nothing of ours.

`python quix_app.py JOB` reads events keyed by series, keeps the mean of the running hour per series in its state
store (RocksDB with a changelog topic, as documented), and writes each result to PostgreSQL or to an output topic.
The only instrument is a clock around the commit of a checkpoint.
"""

import json
import sys
import time
from datetime import timedelta

from quixstreams import Application
from quixstreams.checkpointing import Checkpoint
from quixstreams.dataframe.windows import Mean


def main() -> None:
    job = json.loads(sys.argv[1])
    app = Application(
        broker_address=job["bootstrap_servers"],
        consumer_group=job["group"],
        auto_offset_reset="earliest",
        commit_every=job["commit_every"],
        commit_interval=60.0,
        processing_guarantee=job["guarantee"],
        state_dir=job["state_dir"],
        loglevel="WARNING",
    )
    source = app.topic(job["topic"], key_deserializer="str", value_deserializer="json")
    hours = app.dataframe(source).tumbling_window(timedelta(hours=1)).agg(value=Mean("value")).current()
    if job["output"] == "topic":
        hours.to_topic(app.topic(job["output_topic"], key_serializer="str", value_serializer="json"))
    else:
        from quixstreams.sinks.community.postgresql import PostgreSQLSink

        upsert = job["output"] == "upsert"
        if upsert:
            hours = hours.apply(lambda value, key, _time, _headers: {"series_id": key, **value}, metadata=True)
        hours.sink(
            PostgreSQLSink(
                **job["postgresql"],
                user="postgres",
                password="",
                table_name="observations",
                primary_key_columns=["series_id", "start"] if upsert else (),
                upsert_on_primary_key=upsert,
            )
        )
    commits = clocked(app, job["events"])
    app.run()
    (first_count, first_wall, first_cpu), (count, wall, cpu) = commits[0], commits[-1]
    events = count - first_count
    found = {
        "events": events,
        "wall_s": wall - first_wall,
        "rate": events / (wall - first_wall),
        "cpu_us": {"all": 1e6 * (cpu - first_cpu) / events},
    }
    sys.stdout.write(json.dumps(found) + "\n")


def clocked(app: Application, events: int) -> list[tuple[int, float, float]]:
    """Note (events, wall, CPU) after every commit, and stop after the last event's."""
    commits: list[tuple[int, float, float]] = []
    commit = Checkpoint.commit

    def timed(self: Checkpoint, **options: object) -> None:
        commit(self, **options)
        before = commits[-1][0] if commits else 0
        commits.append((before + self._total_offsets_processed, time.perf_counter(), time.process_time()))
        if commits[-1][0] >= events:
            app.stop()

    Checkpoint.commit = timed
    return commits


if __name__ == "__main__":
    main()
