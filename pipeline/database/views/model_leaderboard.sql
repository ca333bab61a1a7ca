-- Every model with its accuracy on live forecasts (see forecast_accuracy) and its newest backtest.
SELECT m.version AS model_version, m.name,
       CASE WHEN a.version IS NULL THEN 0 ELSE 1 END AS champion,
       m.created_at, COALESCE(l.n, 0) AS n, l.mae, l.rmse, l.bias, l.mase, l.pinball, l.wql, l.coverage_80,
       l.coverage_95, l.skill, b.mase AS backtest_mase, b.wql AS backtest_wql, b.coverage_80 AS backtest_coverage_80
FROM models m
LEFT JOIN aliases a ON a.alias = 'champion' AND a.version = m.version
LEFT JOIN (
    SELECT v.model_version,
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
    FROM forecast_vs_actual v
    LEFT JOIN seasonal_scale c ON c.series_id = v.series_id
    GROUP BY v.model_version
) l ON l.model_version = m.version
LEFT JOIN (SELECT model_version, MAX(id) AS id FROM backtests GROUP BY model_version) newest
       ON newest.model_version = m.version
LEFT JOIN backtests b ON b.id = newest.id
