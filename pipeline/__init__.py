"""Moving data: Kafka to windows to forecasts, in SQL and on an output topic, exactly once."""
