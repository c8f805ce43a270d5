-- name: wait_for_locks
-- The services give up on a lock after a second; a migration may wait for them to finish.
SET lock_timeout = '60s'

-- name: lock_migrations
-- Any number of deployments may start at once; the key only has to be ours alone.
SELECT pg_advisory_lock(72013001)

-- name: create_migrations_table
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    incompatible boolean NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)

-- name: find_migrations_table
SELECT to_regclass('public.schema_migrations') IS NOT NULL

-- name: list_migrations
SELECT version, name, checksum, incompatible FROM schema_migrations ORDER BY version

-- name: insert_migration
INSERT INTO schema_migrations (version, name, checksum, incompatible) VALUES (%s, %s, %s, %s)

-- name: public_may_create
SELECT has_schema_privilege('public', 'public', 'CREATE')
