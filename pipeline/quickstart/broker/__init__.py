"""A Kafka broker for development and tests: one node, loopback only, in memory. Not for production.

It speaks enough of the protocol for consumers, groups, idempotent and transactional producers and administration;
`tests/integration/test_broker_conformance.py` runs the same checks over it and over Apache Kafka. Nothing survives
it, there is no retention, no replication and no security.
"""

from pipeline.quickstart.broker.server import DevelopmentBroker, serve

__all__ = ["DevelopmentBroker", "serve"]
