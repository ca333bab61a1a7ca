"""The only importers of the library `kafka`: what Kafka's words mean to the services."""
