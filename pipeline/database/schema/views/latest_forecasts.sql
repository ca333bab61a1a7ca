-- The newest forecast of each target time: the one with the latest origin, then the latest issued.
-- A step is the newest of its target where the series' next forecast begins after it, or ends before it and no other
-- that is newer reaches it. Where steps are of one length and the next forecast reaches as far, the steps up to where
-- it begins are counted (`shown`), so that no others are looked at.
SELECT p.series, p.series_id,
       {target_time} AS target_time,
       p.origin, n.step, p.issued_at, p.model_version, p.quality,
       {numbers},
       p.calibration
FROM (
    SELECT w.*,
           CASE WHEN w.next_last >= w.last_target AND w.step_seconds IS NOT NULL
                THEN {seconds_to_next} / w.step_seconds ELSE w.steps END AS shown
    FROM (
        SELECT p.*, s.name AS series,
               {last_target} AS last_target,
               LEAD(p.origin) OVER later AS next_origin,
               LEAD({last_target}) OVER later AS next_last
        FROM packed_forecasts p
        JOIN series s ON s.series_id = p.series_id
        WINDOW later AS (PARTITION BY s.name, p.series_id ORDER BY p.origin, p.issued_at, p.model_version)
    ) w
) p
CROSS JOIN horizon_steps n{cut}
WHERE n.step BETWEEN 1 AND p.steps AND n.step <= p.shown
  AND (p.next_origin IS NULL
       OR {target_time} <= p.next_origin
       OR ({target_time} > p.next_last AND NOT EXISTS (
           SELECT 1 FROM packed_forecasts f
           WHERE f.series_id = p.series_id AND f.origin >= p.origin AND f.origin < {target_time}
             AND (f.origin, f.issued_at, f.model_version) > (p.origin, p.issued_at, p.model_version)
             AND {last_target_of_f} >= {target_time})))
