"""The client of a schema registry, which speaks the interface that Confluent published."""
