-- Each series: what has arrived, and what was forecast last. missing counts explicit nulls; a gap has no row at all.
-- A reading that somebody removed has no source (-1) and no value: it has not arrived.
-- The counts are of every observation; PostgreSQL leaves them out where a query does not ask for them.
SELECT s.name AS series, s.series_id, s.first_seen,
       (SELECT MIN(f.observed_at) FROM observations f WHERE f.series_id = s.series_id) AS first_observed_at,
       (SELECT l.observed_at FROM observations l
        WHERE l.series_id = s.series_id AND (l.value IS NOT NULL OR l.source_offset >= 0)
        ORDER BY l.observed_at DESC LIMIT 1) AS last_observed_at,
       COALESCE(o.observations, 0) AS observations, COALESCE(o.missing, 0) AS missing, COALESCE(o.events, 0) AS events,
       o.last_recorded_at, c.origin AS last_origin, c.issued_at AS last_issued_at, c.model_version, c.quality
FROM series s
LEFT JOIN (
    SELECT series_id, COUNT(*) AS observations, SUM(CASE WHEN value IS NULL THEN 1 ELSE 0 END) AS missing,
           SUM(events) AS events, MAX(recorded_at) AS last_recorded_at
    FROM observations
    GROUP BY series_id
) o ON o.series_id = s.series_id
LEFT JOIN packed_forecasts c ON c.series_id = s.series_id
  AND c.origin = (SELECT MAX(h.origin) FROM packed_forecasts h WHERE h.series_id = s.series_id)
  AND c.model_version = (SELECT v.model_version FROM packed_forecasts v
                         WHERE v.series_id = s.series_id
                           AND v.origin = (SELECT MAX(h.origin) FROM packed_forecasts h WHERE h.series_id = s.series_id)
                         ORDER BY v.issued_at DESC, v.model_version DESC LIMIT 1)
