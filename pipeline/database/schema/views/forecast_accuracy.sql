-- Accuracy of each model by horizon, UTC day of the target and group of series; every matured forecast step counts once.
-- Read from daily_accuracy, the sums that the job monitor keeps of its cells, evaluations: right as of its last run.
-- mase: absolute error over the series' scale on that day, averaged over the steps of series that have one. The scale is
-- the mean absolute difference between values one season apart in the 28 seasons before the day (job monitor).
-- wql: 2 x sum of pinball / sum of |actual|. skill: 1 - sum of |error| / sum of the seasonal naive's |error|, over the
-- targets where the naive has an answer; 0 is as good as the naive, 1 is perfect, NULL is no evidence.
SELECT d.model_version, d.horizon_from,
       CASE d.horizon_from WHEN 1 THEN 1 WHEN 2 THEN 6 WHEN 7 THEN 24 WHEN 25 THEN 48 END AS horizon_to,
       d.day,
       d.n,
       d.absolute_error / d.n AS mae,
       SQRT(d.squared_error / d.n) AS rmse,
       d.error / d.n AS bias,
       d.scaled_error / NULLIF(d.scaled_n, 0) AS mase,
       d.pinball / d.n AS pinball,
       2 * d.pinball / NULLIF(d.absolute_actual, 0) AS wql,
       d.inside_80 * 1.0 / d.n AS coverage_80,
       d.inside_95 * 1.0 / d.n AS coverage_95,
       1 - d.absolute_error_beside_naive / NULLIF(d.naive_absolute_error, 0) AS skill,
       d.series_group
FROM daily_accuracy d
