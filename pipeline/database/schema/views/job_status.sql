-- Each job: its latest run, how its runs have ended so far, and whether it is paused.
SELECT r.job, r.scheduled_for, r.owner, r.started_at, r.heartbeat_at, r.finished_at, r.outcome, r.reason, r.progress,
       t.runs, t.ok, t.not_ok, t.last_ok_at, r.cause, r.exit_code, p.paused_at, p.paused_by, p.reason AS pause_reason
FROM job_runs r
JOIN (
    SELECT job, MAX(scheduled_for) AS scheduled_for, COUNT(*) AS runs,
           SUM(CASE WHEN outcome = 'ok' THEN 1 ELSE 0 END) AS ok,
           SUM(CASE WHEN outcome IN ('failed', 'timeout', 'lost') THEN 1 ELSE 0 END) AS not_ok,
           MAX(CASE WHEN outcome = 'ok' THEN finished_at END) AS last_ok_at
    FROM job_runs
    GROUP BY job
) t ON t.job = r.job AND t.scheduled_for = r.scheduled_for
LEFT JOIN job_pauses p ON p.job = r.job AND p.resumed_at IS NULL
