-- Each series: what has arrived, and what was forecast last. missing counts explicit nulls; a gap has no row at all.
-- A reading that somebody removed has no source (-1) and no value: it has not arrived.
-- The counts are of every observation; PostgreSQL leaves them out where a query does not ask for them.
SELECT s.name AS series, s.series_id, s.first_seen,
       (SELECT MIN(f.observed_at) FROM observations f WHERE f.series_id = s.series_id) AS first_observed_at,
       (SELECT l.observed_at FROM observations l
        WHERE l.series_id = s.series_id AND (l.value IS NOT NULL OR l.source_offset >= 0)
        ORDER BY l.observed_at DESC LIMIT 1) AS last_observed_at,
       COALESCE(o.observations, 0) AS observations, COALESCE(o.missing, 0) AS missing, COALESCE(o.events, 0) AS events,
       o.last_recorded_at, p.origin AS last_origin, p.issued_at AS last_issued_at, p.model_version, p.quality
FROM series s
LEFT JOIN (
    SELECT series_id, COUNT(*) AS observations, SUM(CASE WHEN value IS NULL THEN 1 ELSE 0 END) AS missing,
           SUM(events) AS events, MAX(recorded_at) AS last_recorded_at
    FROM observations
    GROUP BY series_id
) o ON o.series_id = s.series_id
{newest}
