"""The worker: partitions claimed, messages read and scored, turns committed exactly once."""
