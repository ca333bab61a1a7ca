-- Each series: what has arrived, and what was forecast last. missing counts explicit nulls; a gap has no row at all.
-- A reading that somebody removed has no source (-1) and no value: it has not arrived.
SELECT s.name AS series, s.series_id, s.first_seen, o.first_observed_at, o.last_observed_at,
       COALESCE(o.observations, 0) AS observations, COALESCE(o.missing, 0) AS missing, COALESCE(o.events, 0) AS events,
       o.last_recorded_at, c.origin AS last_origin, c.issued_at AS last_issued_at, c.model_version, c.quality
FROM series s
LEFT JOIN (
    SELECT series_id, MIN(observed_at) AS first_observed_at,
           MAX(CASE WHEN value IS NOT NULL OR source_offset >= 0 THEN observed_at END) AS last_observed_at,
           COUNT(*) AS observations, SUM(CASE WHEN value IS NULL THEN 1 ELSE 0 END) AS missing,
           SUM(events) AS events, MAX(recorded_at) AS last_recorded_at
    FROM observations
    GROUP BY series_id
) o ON o.series_id = s.series_id
LEFT JOIN current_forecast c ON c.series_id = s.series_id AND c.step = 1
