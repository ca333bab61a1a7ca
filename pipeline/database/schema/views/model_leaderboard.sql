-- Every model with its accuracy on live forecasts (see forecast_accuracy) and its newest backtest.
SELECT m.version AS model_version, m.name,
       CASE WHEN a.version IS NULL THEN 0 ELSE 1 END AS champion,
       m.created_at, COALESCE(l.n, 0) AS n, l.mae, l.rmse, l.bias, l.mase, l.pinball, l.wql, l.coverage_80,
       l.coverage_95, l.skill, b.mase AS backtest_mase, b.wql AS backtest_wql, b.coverage_80 AS backtest_coverage_80
FROM models m
LEFT JOIN aliases a ON a.alias = 'champion' AND a.version = m.version
LEFT JOIN (
    SELECT e.model_version,
       CAST(SUM(e.n) AS BIGINT) AS n,
       SUM(e.absolute_error) / SUM(e.n) AS mae,
       SQRT(SUM(e.squared_error) / SUM(e.n)) AS rmse,
       SUM(e.error) / SUM(e.n) AS bias,
       SUM(e.scaled_error) / NULLIF(SUM(e.scaled_n), 0) AS mase,
       SUM(e.pinball) / SUM(e.n) AS pinball,
       2 * SUM(e.pinball) / NULLIF(SUM(e.absolute_actual), 0) AS wql,
       SUM(e.inside_80) * 1.0 / SUM(e.n) AS coverage_80,
       SUM(e.inside_95) * 1.0 / SUM(e.n) AS coverage_95,
       1 - SUM(e.absolute_error_beside_naive) / NULLIF(SUM(e.naive_absolute_error), 0) AS skill
    FROM daily_accuracy e
    GROUP BY e.model_version
) l ON l.model_version = m.version
LEFT JOIN (SELECT model_version, MAX(id) AS id FROM backtests GROUP BY model_version) newest
       ON newest.model_version = m.version
LEFT JOIN backtests b ON b.id = newest.id
