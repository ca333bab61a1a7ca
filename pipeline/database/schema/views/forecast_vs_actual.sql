-- Every matured forecast step with its errors, in the series' units.
-- error = median - actual; pinball = mean of the pinball losses over the 13 levels; inside_p = 1 when the actual lies
-- in the central p % interval, or beside it by what float64 rounds; naive_error is the seasonal naive's error at the same target (NULL: no such value).
SELECT series, series_id, target_time, day, origin, step, issued_at, model_version, quality,
       q025, q05, q10, q20, q30, q40, q50, q60, q70, q80, q90, q95, q975,
       actual, naive,
       q50 - actual AS error,
       ABS(q50 - actual) AS absolute_error,
       (
        (actual - q025) * (0.025 - CASE WHEN actual < q025 THEN 1 ELSE 0 END)
        + (actual - q05) * (0.05 - CASE WHEN actual < q05 THEN 1 ELSE 0 END)
        + (actual - q10) * (0.1 - CASE WHEN actual < q10 THEN 1 ELSE 0 END)
        + (actual - q20) * (0.2 - CASE WHEN actual < q20 THEN 1 ELSE 0 END)
        + (actual - q30) * (0.3 - CASE WHEN actual < q30 THEN 1 ELSE 0 END)
        + (actual - q40) * (0.4 - CASE WHEN actual < q40 THEN 1 ELSE 0 END)
        + (actual - q50) * (0.5 - CASE WHEN actual < q50 THEN 1 ELSE 0 END)
        + (actual - q60) * (0.6 - CASE WHEN actual < q60 THEN 1 ELSE 0 END)
        + (actual - q70) * (0.7 - CASE WHEN actual < q70 THEN 1 ELSE 0 END)
        + (actual - q80) * (0.8 - CASE WHEN actual < q80 THEN 1 ELSE 0 END)
        + (actual - q90) * (0.9 - CASE WHEN actual < q90 THEN 1 ELSE 0 END)
        + (actual - q95) * (0.95 - CASE WHEN actual < q95 THEN 1 ELSE 0 END)
        + (actual - q975) * (0.975 - CASE WHEN actual < q975 THEN 1 ELSE 0 END)
       ) / 13 AS pinball,
       CASE WHEN actual - q10 >= -1e-15 * ABS(actual) AND q90 - actual >= -1e-15 * ABS(actual) THEN 1 ELSE 0 END AS inside_80,
       CASE WHEN actual - q05 >= -1e-15 * ABS(actual) AND q95 - actual >= -1e-15 * ABS(actual) THEN 1 ELSE 0 END AS inside_90,
       CASE WHEN actual - q025 >= -1e-15 * ABS(actual) AND q975 - actual >= -1e-15 * ABS(actual) THEN 1 ELSE 0 END AS inside_95,
       naive - actual AS naive_error,
       calibration
FROM matured_forecasts
