"""CPU time of decoding, as JSON on stdout: `python -P decoded.py SHAPE`, of whatever pipeline PYTHONPATH has.

A file of its own, and nothing but what any commit has in it, so that two commits can be measured in turn.
"""

import json
import sys
import time
from typing import Any

import msgspec
import numpy as np

from pipeline.grid.frequency import Frequency
from pipeline.messages.codec import Reader
from pipeline.records import Messages
from pipeline.settings import InputSettings

MESSAGES = 10_000
TURNS = 25
NOW = 1_800_000_000_000_000
START = 1_700_000_000
BARE = "bare JSON"
SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "flat": ({}, 1),
    "nested": ({"series_id": "p.id", "timestamp": "p.at", "value": "p.v"}, 1),
    "debezium": ({"envelope": "debezium"}, 1),
    "wide": ({"series_id": "{id}/{$field}", "timestamp": "at", "values": ("*",)}, 10),
    "array": ({"each": "readings", "series_id": "{^id}/{m}", "timestamp": "at", "value": "v"}, 20),
    "profile": ({"each": "v", "series_id": "^id", "timestamp": "^at", "value": "$value", "interval": "15 min"}, 96),
}
"""The mapping of each shape, and how many readings a message has."""


def message(shape: str, i: int) -> Any:
    """Make the i-th message of a shape."""
    name, at = f"meter-{i % 500:05d}", START + i
    flat = {"series_id": name, "timestamp": at, "value": i * 0.1}
    return {
        "flat": flat,
        "nested": {"p": {"id": name, "at": at, "v": i * 0.1}},
        "debezium": {"before": None, "after": flat, "op": "c"},
        "wide": {"id": name, "at": at, **{f"field{j}": j * 0.5 for j in range(10)}},
        "array": {"id": name, "readings": [{"m": f"m{j}", "at": at, "v": j * 0.5} for j in range(20)]},
        "profile": {"id": name, "at": at, "v": [j * 0.5 for j in range(96)]},
    }[shape]


def measure(shape: str) -> dict[str, float]:
    """Return the least microseconds of CPU a reading, and what decoding the same JSON to plain values takes."""
    mapping, readings = SHAPES[shape]
    count = max(1, MESSAGES // readings)
    values = [json.dumps(message(shape, i)).encode() for i in range(count)]
    messages = Messages(0, np.arange(count), [None] * count, values, count)
    reader = Reader(InputSettings(**mapping), Frequency("1h"))
    decode = msgspec.json.Decoder().decode
    ours, bare = [], []
    for _ in range(TURNS):
        began = time.process_time()
        events, letters = reader.read(messages, NOW)
        ours.append(time.process_time() - began)
        assert (len(events), letters) == (count * readings, ())
        began = time.process_time()
        for value in values:
            decode(value)
        bare.append(time.process_time() - began)
    scale = 1e6 / (count * readings)
    return {"us": min(ours) * scale, BARE: min(bare) * scale}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1])))
