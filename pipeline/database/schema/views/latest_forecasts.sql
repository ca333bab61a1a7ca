-- The newest forecast of each target time: the one with the latest origin, then the latest issued.
SELECT series, series_id, target_time, origin, step, issued_at, model_version, quality,
       q025, q05, q10, q20, q30, q40, q50, q60, q70, q80, q90, q95, q975,
       calibration
FROM (
    SELECT s.name AS series, f.*,
           ROW_NUMBER() OVER (
               PARTITION BY f.series_id, f.target_time
               ORDER BY f.origin DESC, f.issued_at DESC, f.model_version DESC
           ) AS place
    FROM forecasts f
    JOIN series s ON s.series_id = f.series_id
) newest
WHERE place = 1
