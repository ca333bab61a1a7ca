-- Every forecast, step by step. Where its numbers are: docs/sql.md, "How a forecast is stored".
SELECT p.series_id, p.origin, n.step,
       {target_time} AS target_time,
       p.model_version, p.issued_at,
       {numbers},
       p.quality, p.source_topic, p.source_partition, p.source_offset, p.calibration
FROM packed_forecasts p
CROSS JOIN horizon_steps n{cut}
WHERE n.step BETWEEN 1 AND p.steps
