-- How PostgreSQL keeps forecasts by the period of their origin: a month, a week or a day of UTC. The oldest partition,
-- _past, begins at the beginning of time, and the newest, _open, has no end: every origin has a place. A worker's role
-- may change rows, and no table; so the two functions that do run with the rights of who made them, and can do no more
-- than retention does row by row.

CREATE OR REPLACE FUNCTION tidecast_periods() RETURNS TABLE (
    parent text, name text, lower_end timestamptz, upper_end timestamptz, thinned boolean, bytes bigint
)
LANGUAGE sql STABLE SET search_path = {schema}, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
    SELECT p.relname, c.relname,
           COALESCE(substring(b.bound FROM $x$FROM \('([^']+)'\)$x$), '-infinity')::timestamptz,
           COALESCE(substring(b.bound FROM $x$TO \('([^']+)'\)$x$), 'infinity')::timestamptz,
           COALESCE(obj_description(c.oid, 'pg_class') = 'thinned', false),
           COALESCE(pg_table_size(c.oid), 0)
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    JOIN pg_class p ON p.oid = i.inhparent
    JOIN pg_namespace n ON n.oid = p.relnamespace
    CROSS JOIN LATERAL (SELECT pg_get_expr(c.relpartbound, c.oid) AS bound) b
    WHERE p.relname IN ('packed_forecasts', 'packed_shadow_forecasts') AND p.relkind = 'p'
      AND n.nspname = current_schema() AND b.bound IS NOT NULL  -- it may be gone by now
    ORDER BY 1, 3
$$;

-- Locks tables for a change of partitions, all of them or none, if all who use them let go soon. Who waits for a period
-- that is being copied may hold the whole: then not at all, for neither could go on.
CREATE OR REPLACE FUNCTION tidecast_lock_forecasts(tables text[], how text, copied text) RETURNS boolean
LANGUAGE plpgsql SET search_path = {schema}, pg_temp SET lock_timeout = '200ms' AS $$
DECLARE
    name text;
BEGIN
    FOR attempt IN 1..20 LOOP
        IF EXISTS (SELECT FROM pg_locks l WHERE l.relation = to_regclass(quote_ident(copied)) AND NOT l.granted) THEN
            RETURN false;
        END IF;
        BEGIN
            FOREACH name IN ARRAY tables LOOP
                EXECUTE format('LOCK TABLE %I IN %s MODE', name, how);
            END LOOP;
            RETURN true;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(0.1 + 0.3 * random());
        END;
    END LOOP;
    RETURN false;
END $$;

-- Makes periods of a length, 'month', 'week' or 'day', from `since` up to `until`, and a longer one of what is before
-- them: where nobody did so in time, the open partition holds rows.
-- Returns how many were made, NULL where somebody was in the way.
CREATE OR REPLACE FUNCTION tidecast_add_periods(
    since timestamptz, until timestamptz, length text
) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    parent text; rest text; period text; bound timestamptz; stop timestamptz; newest timestamptz; made integer := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['packed_forecasts', 'packed_shadow_forecasts'] LOOP
        rest := parent || '_open';
        SELECT m.lower_end INTO bound FROM tidecast_periods() m WHERE m.name = rest;
        CONTINUE WHEN bound >= until;
        IF NOT tidecast_lock_forecasts(ARRAY[parent, rest], 'ACCESS EXCLUSIVE', NULL) THEN
            RETURN NULL;
        END IF;
        SELECT m.lower_end INTO bound FROM tidecast_periods() m WHERE m.name = rest;  -- another run may have been here
        CONTINUE WHEN bound >= until;
        EXECUTE format('SELECT max(origin) FROM %I', rest) INTO newest;
        CONTINUE WHEN newest >= until + interval '1 year';  -- a period that long would be in the way of all others
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, rest);
        stop := greatest(date_trunc(length, since), date_trunc(length, newest) + ('1 ' || length)::interval);
        period := parent || to_char(bound, '_YYYY_MM_DD');
        IF newest IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I RENAME TO %I', rest, period);
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', rest, period);
        ELSIF bound < stop THEN
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', period, rest);
        END IF;
        IF newest IS NOT NULL OR bound < stop THEN
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, period, bound, stop);
            bound := stop;
            made := made + 1;
        END IF;
        WHILE bound < until LOOP
            stop := date_trunc(length, bound) + ('1 ' || length)::interval;
            period := parent || to_char(bound, '_YYYY_MM_DD');
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', period, rest);
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, period, bound, stop);
            bound := stop;
            made := made + 1;
        END LOOP;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (MAXVALUE)', parent, rest, bound);
    END LOOP;
    RETURN made;
END $$;

-- Deletes what the rules of retention say, of a period that is all before `thin_before` or `delete_before`: what stays
-- is copied to a table that takes the period's place. Nobody writes into the period meanwhile; everybody else goes on, up
-- to the moment of the change. Little that stays of a period to delete joins the past, if that has at most `small` bytes.
-- Returns how many rows went, NULL where somebody was in the way: a later run will do it.
CREATE OR REPLACE FUNCTION tidecast_thin_period(
    period text, thin_before timestamptz, delete_before timestamptz, issued_before timestamptz, small bigint
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    own record; past record; staged text := period || '_kept'; joined text; held text; total bigint; kept bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock({lock}) THEN
        RETURN NULL;
    END IF;
    SELECT * INTO STRICT own FROM tidecast_periods() m
    WHERE m.name = period AND (m.upper_end <= thin_before OR m.upper_end <= delete_before);
    IF NOT tidecast_lock_forecasts(ARRAY[period], 'SHARE', NULL) THEN
        RETURN NULL;
    END IF;
    IF own.parent = 'packed_forecasts' THEN
        joined := $x$LEFT JOIN (
                SELECT t.topic_id, i.partition, i.turn_start, i.reforecasts
                FROM topics t JOIN ingest_state i ON i.topic = t.topic
            ) s ON s.topic_id = p.source_topic AND s.partition = p.source_partition
            LEFT JOIN (
                SELECT a.series_id,
                       (SELECT max(f.origin) FROM packed_forecasts f WHERE f.series_id = a.series_id) AS newest
                FROM series a OFFSET 0
            ) n ON n.series_id = p.series_id$x$;
        held := $x$s.topic_id IS NULL OR p.source_offset >= s.turn_start
            OR (p.source_offset < 0 AND p.source_offset <= -s.reforecasts)
            OR p.issued_at >= $3 OR n.newest IS NULL OR p.origin >= n.newest$x$;
    ELSE
        joined := '';
        held := $x$p.model_version IN (SELECT version FROM aliases WHERE alias = 'shadow')$x$;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', staged, period);
    EXECUTE format(
        $x$INSERT INTO %1$I SELECT p.* FROM %2$I p
            JOIN (
                SELECT series_id, origin, model_version, row_number() OVER (
                    PARTITION BY series_id, model_version, date_trunc('day', origin) ORDER BY origin) AS nth
                FROM %2$I
            ) r USING (series_id, origin, model_version)
            %3$s
            WHERE %4$s OR NOT (COALESCE(p.origin < $2, false) OR (r.nth > 1 AND COALESCE(p.origin < $1, false)))$x$,
        staged, period, joined, held) USING thin_before, delete_before, issued_before;
    GET DIAGNOSTICS kept = ROW_COUNT;
    EXECUTE format('SELECT count(*) FROM %I', period) INTO total;
    SELECT * INTO STRICT past FROM tidecast_periods() m WHERE m.parent = own.parent AND m.lower_end = '-infinity';
    IF NOT tidecast_lock_forecasts(ARRAY[own.parent, period, past.name], 'ACCESS EXCLUSIVE', period) THEN
        EXECUTE format('DROP TABLE %I', staged);
        RETURN NULL;
    END IF;
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', own.parent, period);
    EXECUTE format('DROP TABLE %I', period);
    IF own.upper_end <= delete_before AND past.upper_end = own.lower_end
       AND past.bytes <= small AND pg_table_size(quote_ident(staged)::regclass) <= small THEN
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', own.parent, past.name);
        EXECUTE format('INSERT INTO %I SELECT * FROM %I', past.name, staged);
        EXECUTE format('DROP TABLE %I', staged);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
                       own.parent, past.name, own.upper_end);
    ELSE
        EXECUTE format('ALTER TABLE %I RENAME TO %I', staged, period);
        EXECUTE format('COMMENT ON TABLE %I IS %L', period, 'thinned');
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%L)', own.parent, period,
                       CASE WHEN own.lower_end = '-infinity' THEN 'MINVALUE' ELSE quote_literal(own.lower_end) END,
                       own.upper_end);
    END IF;
    RETURN total - kept;
END $$;

REVOKE ALL ON FUNCTION tidecast_add_periods(timestamptz, timestamptz, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION tidecast_thin_period(text, timestamptz, timestamptz, timestamptz, bigint) FROM PUBLIC;
