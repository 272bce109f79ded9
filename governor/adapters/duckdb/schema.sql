-- The tables of governor's DuckDB file, version 5. Views are the contract; tables are not.
-- No primary keys, no indexes: exactness comes from one writer, positions kept with the data, and
-- the dedupe query. Money is whole nano-dollars (10^-9 USD), times are TIMESTAMPTZ in UTC.

CREATE TABLE meta (schema_version INTEGER, created_by VARCHAR);

-- Counted events in arrival order, which is nearly their time order, so that zone maps prune.
CREATE TABLE events (
    event_id VARCHAR, source VARCHAR, event_time TIMESTAMPTZ,
    provider VARCHAR, model VARCHAR, model_requested VARCHAR, operation VARCHAR,
    service_tier VARCHAR, status VARCHAR, error_type VARCHAR,
    customer VARCHAR, "user" VARCHAR, tier VARCHAR, segment VARCHAR, feature VARCHAR,
    team VARCHAR, project VARCHAR, environment VARCHAR, api_key VARCHAR, region VARCHAR,
    session_id VARCHAR, trace_id VARCHAR, span_id VARCHAR,
    input_tokens BIGINT, cache_read_tokens BIGINT,
    cache_write_5m_tokens BIGINT, cache_write_1h_tokens BIGINT,
    output_tokens BIGINT, reasoning_tokens BIGINT,
    input_audio_tokens BIGINT, output_audio_tokens BIGINT, input_image_tokens BIGINT,
    output_images BIGINT, web_searches BIGINT, compute_ms BIGINT,
    requests BIGINT, duration_ms BIGINT,
    reported_cost_nano BIGINT,  -- what the sender says that it cost; kept beside ours
    tags MAP(VARCHAR, VARCHAR),
    topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
    price_id BIGINT,        -- the price used; of the stand-in where the model is unpriced
    cost_nano BIGINT,       -- NULL: unpriced, which is not free
    cap_nano BIGINT,        -- what caps count: the cost, or the stand-in's cost; never NULL
    list_nano BIGINT,       -- cost by the list; NULL where that is the cost, or is not known
    contradicts BOOLEAN,    -- its parts exceed its totals; priced as if the parts came on top
    tier_unpriced BOOLEAN,  -- at the standard price, for want of one of its service tier
    stored_at TIMESTAMPTZ
);

-- The late list: counted like the rest, kept apart so that `events` stays ordered by time.
CREATE TABLE late_events AS FROM events LIMIT 0;

CREATE TABLE rollup_minute (
    bucket TIMESTAMPTZ,
    tier VARCHAR, segment VARCHAR, feature VARCHAR, team VARCHAR, project VARCHAR,
    environment VARCHAR, provider VARCHAR, model VARCHAR, operation VARCHAR,
    service_tier VARCHAR, region VARCHAR,
    events BIGINT, requests BIGINT,
    input_tokens BIGINT, cache_read_tokens BIGINT, output_tokens BIGINT,
    cost_nano HUGEINT, cap_nano HUGEINT,
    unpriced_events BIGINT, unpriced_tokens BIGINT,
    unpriced_nano HUGEINT,  -- what caps count for the unpriced
    reported_nano HUGEINT,  -- what senders say that priced events cost, and
    compared_nano HUGEINT   -- what those events cost by our prices
);

CREATE TABLE rollup_hour AS FROM rollup_minute LIMIT 0;

-- Every version of every business event, append only; `business` shows the one that holds.
CREATE TABLE business_events (
    event_id VARCHAR, source VARCHAR, event_time TIMESTAMPTZ, measure VARCHAR, op VARCHAR,
    amount BIGINT,          -- nano-dollars for revenue, else a count; NULL in a delete
    currency VARCHAR, until TIMESTAMPTZ, updated_at TIMESTAMPTZ,
    customer VARCHAR, tier VARCHAR, segment VARCHAR, feature VARCHAR, team VARCHAR,
    project VARCHAR, outcome VARCHAR,
    topic VARCHAR, "partition" INTEGER, "offset" BIGINT, stored_at TIMESTAMPTZ
);

CREATE TABLE rejects (
    topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
    reason VARCHAR, detail VARCHAR, raw BLOB, raw_bytes BIGINT, stored_at TIMESTAMPTZ
);

-- One row a partition, updated in the transaction that stores its records.
CREATE TABLE positions (
    topic VARCHAR, "partition" INTEGER, topic_id VARCHAR,
    next_offset BIGINT, watermark_us BIGINT,
    events BIGINT, counted BIGINT, duplicates BIGINT, rejected BIGINT, late BIGINT,
    unpriced BIGINT, updated_at TIMESTAMPTZ
);

-- Every time a partition was not simply read on from its stored position.
CREATE TABLE resumptions (
    resumed_at TIMESTAMPTZ, topic VARCHAR, "partition" INTEGER, topic_id VARCHAR,
    reason VARCHAR, from_offset BIGINT, to_offset BIGINT, missed_records BIGINT
);

-- Every price that an event here was looked up at; append only. Rates are femto-dollars (10^-15 USD).
CREATE TABLE prices (
    price_id BIGINT, provider VARCHAR, model VARCHAR, tier VARCHAR, source VARCHAR,
    starts_at TIMESTAMPTZ, ends_at TIMESTAMPTZ, from_second INTEGER, until_second INTEGER,
    from_tokens BIGINT, until_tokens BIGINT,
    input BIGINT, cache_read BIGINT, cache_write_5m BIGINT, cache_write_1h BIGINT,
    output BIGINT, reasoning BIGINT, input_audio BIGINT, output_audio BIGINT,
    request BIGINT, web_search BIGINT, image BIGINT, compute BIGINT, added_at TIMESTAMPTZ
);

-- Every event that was priced again, as it was and as it is; append only.
CREATE TABLE adjustments (
    run VARCHAR, made_at TIMESTAMPTZ,
    source VARCHAR, event_id VARCHAR, event_time TIMESTAMPTZ,
    provider VARCHAR, model VARCHAR, customer VARCHAR,
    topic VARCHAR, "partition" INTEGER, "offset" BIGINT,
    old_price_id BIGINT, new_price_id BIGINT,
    old_cost_nano BIGINT, new_cost_nano BIGINT,
    old_cap_nano BIGINT, new_cap_nano BIGINT,
    old_list_nano BIGINT, new_list_nano BIGINT
);

-- Every order to price again that was carried out to its end.
CREATE TABLE rerates (
    run VARCHAR, who VARCHAR, via VARCHAR,
    starts_at TIMESTAMPTZ, ends_at TIMESTAMPTZ, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    slices BIGINT, events BIGINT, before_nano HUGEINT, after_nano HUGEINT
);

-- How each alert stands: one row a rule, group and period. Groups are JSON lists of the values of
-- the rule's `per`, null where an event does not say.
CREATE TABLE alerts (
    alert_id VARCHAR, rule VARCHAR, "group" VARCHAR,
    period VARCHAR, period_start TIMESTAMPTZ, period_end TIMESTAMPTZ,
    meaning VARCHAR, phase VARCHAR, mode VARCHAR, level VARCHAR, crossed INTEGER,
    amount HUGEINT,       -- in the unit of the rule: nano-dollars, requests, millionths, ...
    since TIMESTAMPTZ, judged_at TIMESTAMPTZ, health VARCHAR, episode INTEGER, revision INTEGER,
    fired_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, ending VARCHAR,
    cleared_at TIMESTAMPTZ, -- since when all is well, where it recovers
    told HUGEINT,           -- the amount that people last heard of
    why VARCHAR             -- what was said of how it came about: a sentence, and lines of detail
);

-- Every transition of every alert, in order; append only. `evidence` says which records were read.
CREATE TABLE alert_lines (
    seq BIGINT, happened_at TIMESTAMPTZ, alert_id VARCHAR, rule VARCHAR, "group" VARCHAR, period VARCHAR,
    episode INTEGER, mode VARCHAR, what VARCHAR, level VARCHAR, threshold VARCHAR, amount HUGEINT,
    actions VARCHAR[], reason VARCHAR, evidence VARCHAR
);

-- What each receiver is to be told and was told: one row a receiver and episode. It is due while
-- `told` is behind `wanted`, not before `next_at`. `together` is what it shares a thread by.
CREATE TABLE messages (
    receiver VARCHAR, message VARCHAR, body VARCHAR, together VARCHAR,
    level INTEGER, lines INTEGER, "over" BOOLEAN, weight HUGEINT,  -- of what is wanted
    wanted INTEGER, wanted_at TIMESTAMPTZ, begun_at TIMESTAMPTZ, next_at TIMESTAMPTZ,
    quiet_until TIMESTAMPTZ, escalated BOOLEAN,
    thread VARCHAR, trying INTEGER, trying_lines INTEGER,          -- of the last try
    told INTEGER, told_lines INTEGER, told_at TIMESTAMPTZ
);

-- What a receiver sees as one: a message that is kept up to date. `unsure` is set before each try and
-- cleared once its outcome is known, so that after a crash or a lost reply we look for the message
-- before we post another.
CREATE TABLE threads (
    receiver VARCHAR, thread VARCHAR, together VARCHAR, storm BOOLEAN, opened_at TIMESTAMPTZ,
    serial INTEGER, level INTEGER, reference VARCHAR,
    attempts INTEGER, unsure BOOLEAN, next_at TIMESTAMPTZ, last_error VARCHAR,
    told_at TIMESTAMPTZ, posted_at TIMESTAMPTZ, closed_at TIMESTAMPTZ
);

-- Every directive ever issued, append only; the greatest version of an id is what holds.
CREATE TABLE directive_versions (
    version BIGINT, directive_id VARCHAR, effect VARCHAR, rule VARCHAR, body VARCHAR,
    issued_at TIMESTAMPTZ, until TIMESTAMPTZ
);

-- The number of the last decisions stored, so that a commit of unknown outcome is made once.
CREATE TABLE decided (number BIGINT);
INSERT INTO decided VALUES (0);

-- Spans in which a rule is not to learn from a group (NULL: from none), since they were planned or are
-- forgiven. Of those that are planned nobody is told either.
CREATE TABLE exemptions (
    rule VARCHAR, "group" VARCHAR[], starts_at TIMESTAMPTZ, ends_at TIMESTAMPTZ, planned BOOLEAN,
    reason VARCHAR, who VARCHAR, made_at TIMESTAMPTZ
);

-- Who has seen which episode of an alert, and until when it is not to be repeated; append only, the
-- newest of an alert holds.
CREATE TABLE acks (
    alert_id VARCHAR, episode INTEGER, who VARCHAR, made_at TIMESTAMPTZ, until TIMESTAMPTZ,
    level VARCHAR, snooze BOOLEAN, note VARCHAR
);

-- What people ordered not to be told while governor runs; append only, the newest version of each holds.
CREATE TABLE silences (
    silence VARCHAR, match VARCHAR, since TIMESTAMPTZ, until TIMESTAMPTZ, reason VARCHAR,
    who VARCHAR, made_at TIMESTAMPTZ
);

-- Raises of budgets for a while, with who asked and who approved; append only, the newest version of
-- each holds. `amount` is in the unit of the budget.
CREATE TABLE raises (
    raise VARCHAR, rule VARCHAR, amount HUGEINT, until TIMESTAMPTZ, reason VARCHAR,
    asked_by VARCHAR, asked_at TIMESTAMPTZ, approved_by VARCHAR[], needs INTEGER, ended BOOLEAN,
    made_at TIMESTAMPTZ
);

-- The ledger of reports: one row a report and period, with all that it told; `body` is NULL of those
-- that were not made, since governor was down when they were due.
CREATE TABLE report_ledger (
    report VARCHAR, period VARCHAR, period_start TIMESTAMPTZ, period_end TIMESTAMPTZ,
    made_at TIMESTAMPTZ, body VARCHAR
);

-- Every call of the control API, and every change of the rules.
CREATE TABLE audit (
    happened_at TIMESTAMPTZ, who VARCHAR, via VARCHAR, action VARCHAR, target VARCHAR, outcome VARCHAR,
    detail VARCHAR
);

-- ------------------------------------------------------------------------------ the contract

CREATE VIEW usage AS
SELECT * EXCLUDE (cost_nano, cap_nano, late),
       CASE WHEN cost_nano IS NULL THEN 'unpriced' ELSE 'priced' END AS price_status,
       cost_nano, cap_nano,
       cost_nano::DECIMAL(29, 0) * 0.000000001::DECIMAL(9, 9) AS cost_usd,
       late
FROM (SELECT *, false AS late FROM events UNION ALL SELECT *, true FROM late_events);

-- The sampled check: ids that came under more than one event time, and so were counted each time,
-- among ids that end in 77 (one in 256 of random hexadecimal ids).
CREATE VIEW reused_ids AS
SELECT source, event_id, count(*) AS times, min(event_time) AS first_time,
       max(event_time) AS last_time
FROM usage
WHERE suffix(event_id, '77')
GROUP BY ALL
HAVING count(*) > 1;

CREATE VIEW spend_hourly AS
SELECT time_bucket(INTERVAL 1 HOUR, bucket) AS hour,
       tier, segment, feature, team, project, environment,
       provider, model, operation, service_tier, region,
       sum(events)::BIGINT AS events, sum(requests)::BIGINT AS requests,
       sum(input_tokens)::BIGINT AS input_tokens,
       sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
       sum(output_tokens)::BIGINT AS output_tokens,
       CASE WHEN sum(unpriced_events) < sum(events) THEN sum(cost_nano)::HUGEINT END AS cost_nano,
       sum(cap_nano)::HUGEINT AS cap_nano,
       CASE WHEN sum(unpriced_events) < sum(events)
            THEN sum(cost_nano)::DECIMAL(29, 0) * 0.000000001::DECIMAL(9, 9) END AS cost_usd,
       sum(unpriced_events)::BIGINT AS unpriced_events
FROM (FROM rollup_hour UNION ALL FROM rollup_minute)
GROUP BY ALL;

CREATE VIEW spend_daily AS
SELECT (hour AT TIME ZONE 'UTC')::DATE AS day, * EXCLUDE (hour, events, requests, input_tokens, cache_read_tokens,
                                     output_tokens, cost_nano, cap_nano, cost_usd, unpriced_events),
       sum(events)::BIGINT AS events, sum(requests)::BIGINT AS requests,
       sum(input_tokens)::BIGINT AS input_tokens,
       sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
       sum(output_tokens)::BIGINT AS output_tokens,
       sum(cost_nano)::HUGEINT AS cost_nano, sum(cap_nano)::HUGEINT AS cap_nano,
       sum(cost_usd)::DECIMAL(38, 9) AS cost_usd,
       sum(unpriced_events)::BIGINT AS unpriced_events
FROM spend_hourly
GROUP BY ALL;

-- What holds of each business event: its newest correction, or where there is none its insert.
CREATE VIEW business AS
SELECT source, event_id, event_time, until, measure, amount,
       CASE measure WHEN 'revenue' THEN amount::DECIMAL(28, 0) * 0.000000001::DECIMAL(9, 9)
                    ELSE amount END AS "value",
       currency, customer, tier, segment, feature, team, project, outcome,
       op <> 'insert' AS corrected, updated_at, stored_at
FROM (
    FROM business_events
    QUALIFY row_number() OVER (
        PARTITION BY source, event_id
        ORDER BY op = 'insert', updated_at DESC, topic, "partition", "offset" DESC
    ) = 1
)
WHERE op <> 'delete';

-- By the UTC day. What is about a span is shared out evenly over it, to the last unit; active users
-- are the same number on each of its days.
CREATE VIEW business_daily AS
SELECT day::DATE AS day, measure, customer, tier, segment, feature, team, project, outcome,
       sum(CASE WHEN until IS NULL OR measure = 'active_users' THEN amount
                ELSE amount::HUGEINT * (least(ends, epoch_us(day) + 86400000000) - starts) // (ends - starts)
                   - amount::HUGEINT * (greatest(starts, epoch_us(day)) - starts) // (ends - starts)
           END)::HUGEINT AS amount
FROM (
    SELECT *, epoch_us(event_time) AS starts, epoch_us(until) AS ends,
           unnest(generate_series(
               date_trunc('day', event_time AT TIME ZONE 'UTC'),
               coalesce(until - INTERVAL 1 MICROSECOND, event_time) AT TIME ZONE 'UTC',
               INTERVAL 1 DAY)) AS day
    FROM business
)
GROUP BY ALL;

-- What a day's usage cost, against what it brought. `all` is the company: what is stated of all of
-- it where something is, else the sum of what is stated of each customer.
CREATE VIEW unit_economics AS
WITH costs AS (
    SELECT (event_time AT TIME ZONE 'UTC')::DATE AS day, customer, grouping(customer) = 1 AS whole,
           sum(cost_nano)::HUGEINT AS cost_nano, sum(requests)::BIGINT AS requests,
           count(DISTINCT (customer, "user")) FILTER ("user" IS NOT NULL) AS users_seen,
           count(*) FILTER (cost_nano IS NULL) AS unpriced_events
    FROM usage
    GROUP BY GROUPING SETS ((day, customer), (day))
), told AS (
    SELECT day, customer, grouping(customer) = 1 AS whole,
           CASE WHEN whole THEN coalesce(sum(amount) FILTER (measure = 'revenue' AND customer IS NULL),
                                         sum(amount) FILTER (measure = 'revenue'))
                ELSE sum(amount) FILTER (measure = 'revenue') END AS revenue_nano,
           CASE WHEN whole THEN coalesce(sum(amount) FILTER (measure = 'active_users' AND customer IS NULL),
                                         sum(amount) FILTER (measure = 'active_users'))
                ELSE sum(amount) FILTER (measure = 'active_users') END AS users_told,
           CASE WHEN whole THEN coalesce(sum(amount) FILTER (measure = 'outcomes' AND customer IS NULL),
                                         sum(amount) FILTER (measure = 'outcomes'))
                ELSE sum(amount) FILTER (measure = 'outcomes') END AS outcomes
    FROM business_daily
    GROUP BY GROUPING SETS ((day, customer), (day))
), days AS (
    SELECT coalesce(c.day, t.day) AS day, coalesce(c.customer, t.customer) AS customer,
           cost_nano, requests, coalesce(unpriced_events, 0) AS unpriced_events,
           revenue_nano, coalesce(users_told, users_seen) AS active_users, outcomes
    FROM (FROM costs WHERE whole OR customer IS NOT NULL) c
    FULL JOIN (FROM told WHERE whole OR customer IS NOT NULL) t
        ON c.day = t.day AND c.customer IS NOT DISTINCT FROM t.customer
)
SELECT day, CASE WHEN customer IS NULL THEN 'all' ELSE 'customer' END AS scope, customer,
       requests, cost_nano,
       cost_nano::DECIMAL(29, 0) * 0.000000001::DECIMAL(9, 9) AS cost_usd, unpriced_events,
       revenue_nano, revenue_nano::DECIMAL(29, 0) * 0.000000001::DECIMAL(9, 9) AS revenue_usd,
       active_users, outcomes,
       CASE WHEN revenue_nano > 0 THEN (cost_nano * 1000000 // revenue_nano)::DECIMAL(29, 0)
            * 0.000001::DECIMAL(6, 6) END AS cost_per_revenue,
       CASE WHEN active_users > 0 THEN (cost_nano // active_users)::DECIMAL(29, 0)
            * 0.000000001::DECIMAL(9, 9) END AS cost_per_user_usd,
       CASE WHEN outcomes > 0 THEN (cost_nano // outcomes)::DECIMAL(29, 0)
            * 0.000000001::DECIMAL(9, 9) END AS cost_per_outcome_usd
FROM days;
