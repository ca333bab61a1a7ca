-- Each series: what has arrived, and what was forecast last. missing counts explicit nulls; a gap has no row at all.
-- A reading that somebody removed has no source (-1) and no value: it has not arrived.
-- The counts are of every observation; each is left out where a query does not ask for it.
SELECT s.name AS series, s.series_id, s.first_seen,
       (SELECT MIN(f.observed_at) FROM observations f WHERE f.series_id = s.series_id) AS first_observed_at,
       (SELECT l.observed_at FROM observations l
        WHERE l.series_id = s.series_id AND (l.value IS NOT NULL OR l.source_offset >= 0)
        ORDER BY l.observed_at DESC LIMIT 1) AS last_observed_at,
       (SELECT COUNT(*) FROM observations o WHERE o.series_id = s.series_id) AS observations,
       (SELECT COUNT(*) FROM observations o WHERE o.series_id = s.series_id AND o.value IS NULL) AS missing,
       (SELECT COALESCE(SUM(o.events), 0) FROM observations o WHERE o.series_id = s.series_id) AS events,
       (SELECT MAX(o.recorded_at) FROM observations o WHERE o.series_id = s.series_id) AS last_recorded_at,
       p.origin AS last_origin, p.issued_at AS last_issued_at, p.model_version, p.quality
FROM series s
{newest}
