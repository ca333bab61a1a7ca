-- Accuracy of each model by horizon, UTC day of the target and group of series; every matured forecast step counts once.
-- Read from the sums in evaluations, which the job monitor keeps: right as of its last run.
-- mase: absolute error over the series' scale on that day, averaged over the steps of series that have one. The scale is
-- the mean absolute difference between values one season apart in the 28 seasons before the day (job monitor).
-- wql: 2 x sum of pinball / sum of |actual|. skill: 1 - sum of |error| / sum of the seasonal naive's |error|, over the
-- targets where the naive has an answer; 0 is as good as the naive, 1 is perfect, NULL is no evidence.
SELECT e.model_version, e.horizon_from,
       CASE e.horizon_from WHEN 1 THEN 1 WHEN 2 THEN 6 WHEN 7 THEN 24 WHEN 25 THEN 48 END AS horizon_to,
       e.day,
       CAST(SUM(e.n) AS BIGINT) AS n,
       SUM(e.absolute_error) / SUM(e.n) AS mae,
       SQRT(SUM(e.squared_error) / SUM(e.n)) AS rmse,
       SUM(e.error) / SUM(e.n) AS bias,
       SUM(e.scaled_error) / NULLIF(SUM(e.scaled_n), 0) AS mase,
       SUM(e.pinball) / SUM(e.n) AS pinball,
       2 * SUM(e.pinball) / NULLIF(SUM(e.absolute_actual), 0) AS wql,
       SUM(e.inside_80) * 1.0 / SUM(e.n) AS coverage_80,
       SUM(e.inside_95) * 1.0 / SUM(e.n) AS coverage_95,
       1 - SUM(e.absolute_error_beside_naive) / NULLIF(SUM(e.naive_absolute_error), 0) AS skill,
       g.series_group
FROM evaluations e
LEFT JOIN series_groups g ON g.series_id = e.series_id
GROUP BY e.model_version, e.horizon_from, e.day, g.series_group
