-- name: describe_role
-- What a role is, beyond the rights that roles.sql gives it. A superuser is a member of everything.
SELECT
    r.rolname::text AS name,
    r.rolsuper AS is_superuser,
    r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls AS is_privileged,
    has_schema_privilege('public', 'CREATE') AS may_create,
    EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.relnamespace = 'public'::regnamespace AND pg_has_role(c.relowner, 'MEMBER')
    ) AS is_owner,
    EXISTS (
        SELECT FROM pg_roles AS wanted
        WHERE wanted.rolname = %(wanted)s AND pg_has_role(wanted.oid, 'USAGE')
    ) AS is_wanted
FROM pg_roles AS r
WHERE r.rolname = current_user

-- name: describe_server
-- The first two tell one database from another, whatever name and address it was reached under.
SELECT
    pg_postmaster_start_time() AS started_at,
    (SELECT d.oid::bigint FROM pg_database AS d WHERE d.datname = current_database()) AS database_id,
    pg_is_in_recovery() AS is_standby,
    clock_timestamp() AS now
