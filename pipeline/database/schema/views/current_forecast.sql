-- The whole horizon of each series' newest forecast: the latest origin, then the latest issued.
-- CROSS JOIN makes SQLite go from series to series; it would look at every forecast otherwise.
SELECT s.name AS series, p.series_id,
       {target_time} AS target_time,
       p.origin, n.step, p.issued_at, p.model_version, p.quality,
       {numbers},
       p.calibration
FROM (
    SELECT h.series_id, h.name, h.origin,
           (SELECT v.model_version FROM packed_forecasts v
            WHERE v.series_id = h.series_id AND v.origin = h.origin
            ORDER BY v.issued_at DESC, v.model_version DESC LIMIT 1) AS model_version
    FROM (
        SELECT a.series_id, a.name,
               (SELECT MAX(b.origin) FROM packed_forecasts b WHERE b.series_id = a.series_id) AS origin
        FROM series a
    ) h
) s
CROSS JOIN packed_forecasts p
CROSS JOIN horizon_steps n{cut}
WHERE p.series_id = s.series_id AND p.origin = s.origin AND p.model_version = s.model_version
  AND n.step BETWEEN 1 AND p.steps
