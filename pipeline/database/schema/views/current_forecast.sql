-- The whole horizon of each series' newest forecast: the latest origin, then the latest issued.
-- target_time > origin is always true; it lets the primary key skip everything older.
SELECT s.name AS series, f.series_id, f.target_time, f.origin, f.step, f.issued_at, f.model_version, f.quality,
       f.q025, f.q05, f.q10, f.q20, f.q30, f.q40, f.q50, f.q60, f.q70, f.q80, f.q90, f.q95, f.q975,
       f.calibration
FROM (
    SELECT n.series_id, n.origin,
           (SELECT v.model_version FROM forecasts v
            WHERE v.step = 1 AND v.series_id = n.series_id AND v.origin = n.origin
            ORDER BY v.issued_at DESC, v.model_version DESC LIMIT 1) AS model_version
    FROM (
        SELECT a.series_id,
               (SELECT MAX(b.origin) FROM forecasts b WHERE b.step = 1 AND b.series_id = a.series_id) AS origin
        FROM series a
    ) n
) h
JOIN series s ON s.series_id = h.series_id
JOIN forecasts f ON f.series_id = h.series_id AND f.target_time > h.origin
                AND f.origin = h.origin AND f.model_version = h.model_version
