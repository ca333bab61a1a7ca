"""How a long-running role is watched: logs, metrics, probes, and processes that are kept running."""
