-- The whole horizon of each series' newest forecast: the latest origin, then the latest issued.
SELECT s.name AS series, p.series_id,
       {target_time} AS target_time,
       p.origin, n.step, p.issued_at, p.model_version, p.quality,
       {numbers},
       p.calibration
FROM series s
{newest}
CROSS JOIN horizon_steps n{cut}
WHERE n.step BETWEEN 1 AND p.steps
