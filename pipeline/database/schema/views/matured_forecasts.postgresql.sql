-- Every forecast step whose target has been observed, with the actual value and the seasonal naive's answer.
-- The seasonal naive repeats the newest season that was known at the origin: for step h of season m it looks back
-- k = ceil(h / m) seasons from the target. The grid (m steps of step_seconds) is kept with model version 0. Half a
-- step of tolerance finds the right month or quarter too, whose lengths differ. No such observation: naive is NULL.
SELECT s.name AS series, f.series_id, f.target_time, (f.target_time AT TIME ZONE 'UTC')::date AS day, f.origin, f.step, f.issued_at,
       f.model_version, f.quality,
       f.q025, f.q05, f.q10, f.q20, f.q30, f.q40, f.q50, f.q60, f.q70, f.q80, f.q90, f.q95, f.q975,
       o.value AS actual,
       (SELECT p.value FROM observations p
        WHERE p.series_id = f.series_id AND p.value IS NOT NULL
          AND p.observed_at > f.target_time - make_interval(secs => ((f.step + g.season - 1) / g.season * g.season + 0.5) * g.step_seconds)
          AND p.observed_at < f.target_time - make_interval(secs => ((f.step + g.season - 1) / g.season * g.season - 0.5) * g.step_seconds)
        ORDER BY p.observed_at LIMIT 1) AS naive,
       f.calibration
FROM forecasts f
JOIN series s ON s.series_id = f.series_id
CROSS JOIN LATERAL (  -- OFFSET 0: each actual by its key; the planner knows too little of the steps to choose that
    SELECT x.value FROM observations x
    WHERE x.series_id = f.series_id AND x.observed_at = f.target_time AND x.value IS NOT NULL OFFSET 0
) o
LEFT JOIN models g ON g.version = 0
