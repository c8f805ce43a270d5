-- name: hold_release_policy
SELECT
    (h.policy).latest_version, (h.policy).min_supported_version,
    (h.policy).latest_content_version, (h.policy).min_supported_content_version,
    (h.policy).enforce_after, (h.policy).update_url,
    (h.policy).floor_version, (h.policy).floor_content_version, h.now
FROM hold_release_policy() h

-- name: find_release_policy
SELECT
    p.latest_version, p.min_supported_version, p.latest_content_version,
    p.min_supported_content_version, p.enforce_after, p.update_url,
    p.floor_version, p.floor_content_version, clock_timestamp() AS now
FROM (SELECT) one LEFT JOIN release_policy p ON true

-- name: find_release
-- What is in force, with what clients below the minima there are.
SELECT
    p.release_id, p.latest_version, p.min_supported_version, p.latest_content_version,
    p.min_supported_content_version, p.enforce_after, p.update_url, p.notes, p.activated_at,
    describe_outdated_sessions(p) AS outdated
FROM (SELECT) one LEFT JOIN release_policy p ON true

-- name: find_release_notes
SELECT p.notes FROM release_policy p

-- name: activate_release
SELECT
    a.verdict, a.outdated, a.drain_id, a.enrolled, a.audit_id, a.head_id, a.head_hash,
    (a.policy).release_id, (a.policy).latest_version, (a.policy).min_supported_version,
    (a.policy).latest_content_version, (a.policy).min_supported_content_version,
    (a.policy).enforce_after, (a.policy).update_url, (a.policy).notes, (a.policy).activated_at
FROM activate_release_with_drain(
    %(actor)s, %(request_id)s, %(ip)s, %(latest_version)s, %(min_supported_version)s,
    %(latest_content_version)s, %(min_supported_content_version)s, %(update_url)s, %(notes)s,
    %(grace_seconds)s, %(allow_regression)s, %(dry_run)s, %(drain)s
) a

-- name: roll_back_release
SELECT
    a.verdict, a.outdated, NULL AS drain_id, 0 AS enrolled, a.audit_id,
    a.audit_id AS head_id, a.audit_hash AS head_hash,
    (a.policy).release_id, (a.policy).latest_version, (a.policy).min_supported_version,
    (a.policy).latest_content_version, (a.policy).min_supported_content_version,
    (a.policy).enforce_after, (a.policy).update_url, (a.policy).notes, (a.policy).activated_at
FROM roll_back_release(%(actor)s, %(reason)s, %(request_id)s, %(ip)s, %(dry_run)s) a

-- name: list_releases
-- The history, newest first.
SELECT
    r.id, r.created_at, r.action, r.actor, r.reason, r.request_id, r.previous_id, r.restored_id,
    r.drain_id, p.latest_version, p.min_supported_version, p.latest_content_version,
    p.min_supported_content_version, p.enforce_after, p.notes
FROM release_records r
CROSS JOIN LATERAL jsonb_populate_record(NULL::release_policy, r.policy) p
ORDER BY r.id DESC
LIMIT %(limit)s
