-- name: insert_user
-- No row when the address is taken; the unique constraint decides, whoever comes at once.
INSERT INTO users (email, email_key, password_hash, display_name)
VALUES (%(email)s, %(email_key)s, %(password_hash)s, %(display_name)s)
ON CONFLICT (email_key) DO NOTHING
RETURNING id, email, display_name, is_admin, password_hash, disabled_at IS NOT NULL AS disabled

-- name: find_user_by_email_key
SELECT id, email, display_name, is_admin, password_hash, disabled_at IS NOT NULL AS disabled
FROM users
WHERE email_key = %s

-- name: find_user_by_id
SELECT id, email, display_name, is_admin, password_hash, disabled_at IS NOT NULL AS disabled
FROM users
WHERE id = %s

-- name: replace_password_hash
-- Only the hash that was checked is replaced: a change made meanwhile wins.
UPDATE users SET password_hash = %(new_hash)s
WHERE id = %(user_id)s AND password_hash = %(checked_hash)s

-- name: update_display_name
UPDATE users SET display_name = %(display_name)s WHERE id = %(user_id)s

-- name: find_person
SELECT id, display_name FROM users WHERE id = %s AND disabled_at IS NULL

-- name: list_people_named
-- The longest-standing first.
SELECT id, display_name
FROM users
WHERE display_name = %(display_name)s AND disabled_at IS NULL
ORDER BY id
LIMIT %(limit)s

-- name: has_password_reset
-- A cheap look before a password is hashed for it; redeem_password_reset decides.
SELECT EXISTS (
    SELECT FROM password_resets WHERE token_hash = %s AND expires_at > clock_timestamp()
)

-- name: redeem_password_reset
SELECT redeem_password_reset(%(token_hash)s, %(password_hash)s)
