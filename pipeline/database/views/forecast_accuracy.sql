-- Accuracy of each model by horizon and UTC day of the target; every matured forecast step counts once.
-- mase: absolute error over the series' own scale (seasonal_scale), averaged over the steps of series that have one.
-- wql: 2 x sum of pinball / sum of |actual|. skill: 1 - sum of |error| / sum of the seasonal naive's |error|, over the
-- targets where the naive has an answer; 0 is as good as the naive, 1 is perfect, NULL is no evidence.
SELECT v.model_version, v.horizon_from, v.horizon_to, v.day,
       COUNT(*) AS n,
       AVG(v.absolute_error) AS mae,
       SQRT(AVG(v.error * v.error)) AS rmse,
       AVG(v.error) AS bias,
       AVG(v.absolute_error / NULLIF(c.scale, 0)) AS mase,
       AVG(v.pinball) AS pinball,
       2 * SUM(v.pinball) / NULLIF(SUM(ABS(v.actual)), 0) AS wql,
       AVG(v.inside_80 * 1.0) AS coverage_80,
       AVG(v.inside_95 * 1.0) AS coverage_95,
       1 - SUM(CASE WHEN v.naive_error IS NOT NULL THEN v.absolute_error END)
           / NULLIF(SUM(ABS(v.naive_error)), 0) AS skill
FROM (
    SELECT b.*,
           CASE WHEN step = 1 THEN 1 WHEN step <= 6 THEN 2 WHEN step <= 24 THEN 7 WHEN step <= 48 THEN 25
                ELSE 49 END AS horizon_from,
           CASE WHEN step = 1 THEN 1 WHEN step <= 6 THEN 6 WHEN step <= 24 THEN 24 WHEN step <= 48 THEN 48
                END AS horizon_to
    FROM forecast_vs_actual b
) v
LEFT JOIN seasonal_scale c ON c.series_id = v.series_id
GROUP BY v.model_version, v.horizon_from, v.horizon_to, v.day
