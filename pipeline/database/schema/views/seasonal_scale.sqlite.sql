-- The scale of MASE: a series' mean absolute difference between observations one season apart, over pairs where both
-- were observed. It is the error of the seasonal naive one season ahead, in the series' units. See matured_forecasts
-- for the grid and the tolerance.
SELECT series_id, AVG(difference) AS scale, COUNT(difference) AS pairs
FROM (
    SELECT o.series_id,
           ABS(o.value - (SELECT p.value FROM observations p
                          WHERE p.series_id = o.series_id AND p.value IS NOT NULL
                            AND p.observed_at > strftime('%Y-%m-%d %H:%M:%f', o.observed_at, '-' || ((g.season + 0.5) * g.step_seconds) || ' seconds')
                            AND p.observed_at < strftime('%Y-%m-%d %H:%M:%f', o.observed_at, '-' || ((g.season - 0.5) * g.step_seconds) || ' seconds')
                          ORDER BY p.observed_at LIMIT 1)) AS difference
    FROM observations o
    JOIN models g ON g.version = 0
    WHERE o.value IS NOT NULL
) pairs_of_values
GROUP BY series_id
