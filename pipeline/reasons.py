"""The reasons of dead letters, in a few classes: what a metric may have as a label, whatever the messages hold."""

CLASSES = {
    "batch": "the record batch",
    "empty": "the message is empty",
    "null": "the message has no value",
    "encoding": "not UTF-8: ",
    "event": "not an event: ",
    "size": "more than input.max_message_bytes",
    "name": ": a name has ",
    "number": " is not a finite number within ",
    "new series": "a new series beyond ",
    "future": ": farther in the future than input.max_future_skew",
    "time": ": not a time with an offset",
}
"""Class -> what its reasons say, looked for in this order."""
OTHER = "other"


def classify(reason: str) -> str:
    """Return the class of a dead letter's reason."""
    return next((name for name, words in CLASSES.items() if words in reason), OTHER)
