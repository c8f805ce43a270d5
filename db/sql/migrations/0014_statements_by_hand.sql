-- Statements by hand, of any role that is not a service's: a plain UPDATE by the person on call above
-- all. The audit row is appended at the commit, by a deferred trigger, because the audit's head is the
-- last lock of a transaction; somebody who thinks a while in an open one holds nobody up.

-- Noted and not yet appended. Rows go at the commit that they came with: nobody sees another's.
CREATE TABLE statements_by_hand (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor text NOT NULL,
    ip inet,
    action text NOT NULL,
    details jsonb NOT NULL
);

CREATE FUNCTION audit_statement_by_hand() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
BEGIN
    DELETE FROM statements_by_hand WHERE id = NEW.id;
    IF FOUND THEN
        PERFORM append_audit(NEW.actor, NEW.action, NULL, NEW.ip, NULL, NULL, NEW.details);
    END IF;
    RETURN NULL;
END;
$$;

CREATE CONSTRAINT TRIGGER statement_by_hand_is_audited AFTER INSERT ON statements_by_hand
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION audit_statement_by_hand();

-- Where a foreign key takes rows of other tables along, each of those tables has its row too. How many
-- rows TRUNCATE removes is unknown.
CREATE FUNCTION on_statement_by_hand() RETURNS trigger
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    v_rows bigint;
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        SELECT count(*) INTO v_rows FROM changed_rows;
    END IF;
    IF v_rows = 0 THEN
        RETURN NULL;
    END IF;
    INSERT INTO statements_by_hand (actor, ip, action, details)
    VALUES (
        'psql:' || session_user,
        inet_client_addr(),
        'sql.' || lower(TG_OP),
        jsonb_build_object(
            'table', TG_TABLE_NAME,
            'rows', v_rows,
            'application', current_setting('application_name')
        )
    );
    RETURN NULL;
END;
$$;

-- For a function whose act has an audit row of its own: what it noted on the way is no other
-- statement. It remembers the last one when it begins, and forgets what came after.
CREATE FUNCTION last_statement_by_hand() RETURNS bigint
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
RETURN (SELECT coalesce(max(n.id), 0) FROM statements_by_hand n);

CREATE FUNCTION forget_statements_by_hand(p_after bigint) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    DELETE FROM statements_by_hand n WHERE n.id > p_after;
END;

-- On every table but those of the audit itself; a test holds that none is forgotten. The services'
-- own statements are told apart before anything is counted.
DO $$
DECLARE
    v_table name;
    v_kind text[];
BEGIN
    FOR v_table IN
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
          AND c.relname NOT IN (
              'admin_action_audit', 'admin_action_audit_head', 'statements_by_hand',
              'schema_migrations'
          )
        ORDER BY c.relname
    LOOP
        FOREACH v_kind SLICE 1 IN ARRAY ARRAY[
            ['INSERT', 'REFERENCING NEW TABLE AS changed_rows'],
            ['UPDATE', 'REFERENCING NEW TABLE AS changed_rows'],
            ['DELETE', 'REFERENCING OLD TABLE AS changed_rows'],
            ['TRUNCATE', '']
        ] LOOP
            EXECUTE format(
                'CREATE TRIGGER %I AFTER %s ON %I %s FOR EACH STATEMENT'
                ' WHEN (session_user NOT IN (''gatehouse_api'', ''gatehouse_gateway''))'
                ' EXECUTE FUNCTION on_statement_by_hand()',
                lower(v_kind[1]) || '_by_hand', v_kind[1], v_table, v_kind[2]
            );
        END LOOP;
    END LOOP;
END;
$$;
