-- name: format_password_change
-- A statement that changes a role takes no parameters, so the server quotes them into one.
SELECT format('ALTER ROLE %%I PASSWORD %%L', %(role)s::text, %(verifier)s::text)
