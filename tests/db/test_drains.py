"""Drains in the database: who is enrolled, who is let go, how one ends, and what is kept of it."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from db.audit import verify
from db.drains import (
    Drain,
    cancel_drain,
    find_drain,
    finish_drain,
    list_receipts,
    start_drain,
)
from db.operators import Operator, Selector, UserAct, act_on_user, revoke_sessions
from db.releases import DrainScope, NewRelease, activate_release
from db.sessions import ClientInfo, SessionTerms, open_session, update_client_version
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.rows_read import fill_house
from tests.support.services import People

OLGA = Operator("olga", None)
TERMS = SessionTerms(ttl_days=30, idle_days=14, max_per_account=20)


class Desk:
    """What the API does for an operator, and gateways do later."""

    def __init__(self, database: Database, people: People) -> None:
        self._database, self._people = database, people

    def start(self, grace: int = 60, scope: str = "all") -> int | None:
        with self._database.connect("api") as api, api.transaction():
            return start_drain(api, OLGA, "a release", scope=scope, grace_seconds=grace)

    def started(self, grace: int = 60, scope: str = "all") -> int:
        drain_id = self.start(grace, scope)
        assert drain_id is not None
        return drain_id

    def started_for(self, minimum: str, scope: str = "outdated", grace: int = 60) -> int:
        """As the activation of a release does it."""
        row = self._people.owner.execute(
            "SELECT drain_id FROM start_drain('a release', %s, %s, 7, 'olga', NULL, %s)",
            (scope, grace, minimum),
        ).fetchone()
        assert row is not None
        drain_id: int = row[0]
        return drain_id

    def cancel(self, drain_id: int) -> str:
        with self._database.connect("api") as api, api.transaction():
            return cancel_drain(api, OLGA, None, drain_id)[0]

    def finish(self, linger_seconds: int = 0) -> bool:
        with self._database.connect("gateway") as gateway, gateway.transaction():
            found = gateway.execute(
                "SELECT drain_id FROM finish_drain('test', %s)", [linger_seconds]
            ).fetchone()
            return found is not None

    def drain(self, drain_id: int) -> Drain:
        with self._database.connect("api") as api:
            found = find_drain(api, drain_id)
        assert found is not None
        return found

    def outcomes(self, drain_id: int) -> dict[int, str | None]:
        with self._database.connect("api") as api:
            receipts = list_receipts(api, drain_id, after_session_id=0, limit=1000)
        return {receipt.session_id: receipt.outcome for receipt in receipts}

    def lives(self, session_id: int) -> bool:
        found: bool = self._people.one(
            "SELECT EXISTS (SELECT FROM live_sessions WHERE session_id = %s)", session_id
        )
        return found


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    with People(database) as made:
        yield made


@pytest.fixture
def desk(database: Database, people: People) -> Desk:
    return Desk(database, people)


def make_admin(people: People, user_id: int) -> None:
    people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [user_id])


class TestEnrolment:
    def test_everybody_is_enrolled_but_admins_and_the_dead(
        self, desk: Desk, people: People
    ) -> None:
        ada, bob, admin, gone = (people.person() for _ in range(4))
        make_admin(people, admin.user_id)
        people.owner.execute(
            "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", [gone.session_id]
        )
        drain_id = desk.started()
        assert set(desk.outcomes(drain_id)) == {ada.session_id, bob.session_id}
        assert desk.drain(drain_id).enrolled == 2
        assert desk.lives(ada.session_id)

    def test_outdated_is_whoever_lies_below_the_minimum(self, desk: Desk, people: People) -> None:
        old, new, silent = people.person("a", "1.9"), people.person("b", "1.10"), people.person()
        drain_id = desk.started_for("1.10")
        assert set(desk.outcomes(drain_id)) == {old.session_id, silent.session_id}
        # And so are those who come later, by the same measure.
        late, current = people.person("c", "1.2"), people.person("d", "1.10.1")
        admin = people.person("e", "2")
        make_admin(people, admin.user_id)
        assert set(desk.outcomes(drain_id)) == {
            *(old.session_id, silent.session_id, late.session_id)
        }
        assert desk.lives(current.session_id)
        assert new.session_id not in desk.outcomes(drain_id)

    def test_an_admin_who_comes_later_is_exempt(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        admin = people.person()
        make_admin(people, admin.user_id)
        drain_id = desk.started()
        with database.connect("api") as api, api.transaction():
            session = open_session(
                api,
                admin.user_id,
                checked_hash="nobody logs in with it",
                client=ClientInfo(None, None, None, None),
                terms=TERMS,
            )
        assert session is not None
        assert desk.outcomes(drain_id) == {}

    def test_after_the_deadline_an_outdated_client_gets_no_session(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person("Ada", "1")
        desk.started_for("2", grace=0)
        for version, is_drained in (("1", True), ("2", False)):
            with database.connect("api") as api, api.transaction():
                session = open_session(
                    api,
                    ada.user_id,
                    checked_hash="nobody logs in with it",
                    client=ClientInfo(None, None, version, None),
                    terms=TERMS,
                )
                assert session is not None
                assert session.is_drained is is_drained
            assert desk.lives(session.id) is not is_drained

    def test_whoever_has_updated_is_let_go_and_nobody_else(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada, bob = people.person("Ada", "1"), people.person("Bob", "1")
        drain_id = desk.started_for("2", grace=1)
        with database.connect("api") as api:
            for person, version in ((ada, "2"), (bob, "1.9")):
                client = ClientInfo(None, None, version, None)
                update_client_version(api, person.session_id, client)
        assert desk.outcomes(drain_id) == {ada.session_id: "cancelled", bob.session_id: None}
        wait_until(desk.finish, "the drain is over")
        assert desk.lives(ada.session_id)
        assert not desk.lives(bob.session_id)
        assert desk.outcomes(drain_id)[ada.session_id] == "cancelled"

    def test_after_the_deadline_nobody_is_let_go(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person("Ada", "1")
        desk.started_for("2", grace=0)
        with database.connect("api") as api:
            update_client_version(api, ada.session_id, ClientInfo(None, None, "2", None))
        assert not desk.lives(ada.session_id)

    def test_a_drain_of_everybody_keeps_those_who_were_up_to_date_all_along(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person("Ada", "2")
        drain_id = desk.started_for("2", scope="all")
        with database.connect("api") as api:
            update_client_version(api, ada.session_id, ClientInfo(None, None, "2", None))
        assert desk.outcomes(drain_id) == {ada.session_id: None}


def by_hand(database: Database, user_id: int) -> None:
    with database.connect("owner") as owner:
        owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [user_id])


def by_script(database: Database, user_id: int) -> None:
    """What scripts/make-admin does."""
    with database.connect("owner") as owner:
        act_on_user(owner, OLGA, UserAct.ADMIN, user_id, "she moderates", is_admin=True)


class TestWhoeverBecomesAnAdministrator:
    @pytest.mark.parametrize("become", [by_hand, by_script])
    def test_is_let_go_with_all_sessions_and_nobody_else(
        self,
        database: Database,
        desk: Desk,
        people: People,
        become: Callable[[Database, int], None],
    ) -> None:
        ada, bob = people.person("Ada"), people.person("Bob")
        drain_id = desk.started(grace=1)
        with database.connect("api") as api, api.transaction():
            late = open_session(
                api,
                ada.user_id,
                checked_hash="nobody logs in with it",
                client=ClientInfo(None, None, None, None),
                terms=TERMS,
            )
        assert late is not None
        become(database, ada.user_id)
        assert desk.outcomes(drain_id) == {
            ada.session_id: "cancelled",
            late.id: "cancelled",
            bob.session_id: None,
        }
        wait_until(desk.finish, "the drain is over")
        assert (desk.lives(ada.session_id), desk.lives(late.id)) == (True, True)
        assert not desk.lives(bob.session_id)
        assert desk.outcomes(drain_id)[ada.session_id] == "cancelled"

    def test_after_the_deadline_is_drained_like_everybody(self, desk: Desk, people: People) -> None:
        ada = people.person()
        drain_id = desk.started(grace=0)
        make_admin(people, ada.user_id)
        assert desk.outcomes(drain_id) == {ada.session_id: None}
        assert not desk.lives(ada.session_id)

    def test_too_late_for_having_waited_is_too_late(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        drain_id = desk.started(grace=1)
        with database.connect() as other, ThreadPoolExecutor(1) as pool:
            with other.transaction():
                other.execute(
                    "SELECT FROM user_sessions WHERE id = %s FOR UPDATE", [ada.session_id]
                )
                making = pool.submit(by_hand, database, ada.user_id)
                wait_until(lambda: people.waiting() == 1, "the operator waits")
                wait_until(lambda: not desk.lives(ada.session_id), "the deadline has passed")
            making.result()
        assert desk.outcomes(drain_id) == {ada.session_id: None}
        assert not desk.lives(ada.session_id)

    @pytest.mark.parametrize("become", [by_hand, by_script])
    def test_while_a_drain_begins_waits_for_it_and_is_let_go(
        self,
        database: Database,
        desk: Desk,
        people: People,
        become: Callable[[Database, int], None],
    ) -> None:
        ada = people.person()
        with database.connect("api") as api, ThreadPoolExecutor(1) as pool:
            with api.transaction():
                drain_id = start_drain(api, OLGA, "a release", scope="all", grace_seconds=60)
                making = pool.submit(become, database, ada.user_id)
                wait_until(lambda: people.waiting() == 1, "the operator waits")
            making.result()
        assert drain_id is not None
        assert desk.outcomes(drain_id) == {ada.session_id: "cancelled"}


class TestRaces:
    def test_of_two_starts_at_once_one_begins(self, desk: Desk, people: People) -> None:
        people.person()
        with ThreadPoolExecutor(4) as pool:
            begun = list(pool.map(lambda _: desk.start(), range(4)))
        assert len([one for one in begun if one is not None]) == 1
        assert people.one("SELECT count(*) FROM publish_drain_events") == 1

    def test_a_start_that_waits_for_an_activation_goes_by_its_minima(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person("Ada", "1")
        release = NewRelease("2.0", "2.0", grace_seconds=60)
        with database.connect("api") as api, ThreadPoolExecutor(1) as pool:
            with api.transaction():
                activated = activate_release(api, OLGA, release, dry_run=False)
                starting = pool.submit(desk.started, scope="outdated")
                wait_until(lambda: people.waiting() == 1, "the drain waits")
            drain_id = starting.result()
        assert set(desk.outcomes(drain_id)) == {ada.session_id}
        assert desk.drain(drain_id).release_id == activated.release.release_id

    def test_a_login_in_flight_is_waited_for_and_enrolled(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        with database.connect("api") as api, ThreadPoolExecutor(1) as pool:
            with api.transaction():
                late = open_session(
                    api,
                    ada.user_id,
                    checked_hash="nobody logs in with it",
                    client=ClientInfo(None, None, None, None),
                    terms=TERMS,
                )
                started = pool.submit(desk.started)
                wait_until(lambda: people.waiting() == 1, "the drain waits")
            assert late is not None
            assert late.id in desk.outcomes(started.result())

    def test_of_logins_that_race_with_the_start_every_session_is_enrolled(
        self, desk: Desk, people: People, database: Database
    ) -> None:
        ids = [people.person().user_id for _ in range(60)]
        go = threading.Barrier(5)

        def log_in(part: int) -> None:
            with database.connect("api") as api:
                go.wait()
                for user_id in ids[part::4]:
                    with api.transaction():
                        open_session(
                            api,
                            user_id,
                            checked_hash="nobody logs in with it",
                            client=ClientInfo(None, None, "1", None),
                            terms=TERMS,
                        )

        with ThreadPoolExecutor(4) as pool:
            parts = [pool.submit(log_in, part) for part in range(4)]
            go.wait()
            drain_id = desk.started_for("2")
            for part in parts:
                part.result()
        assert len(desk.outcomes(drain_id)) == 120
        free = "SELECT count(*) FROM live_sessions WHERE drain_event_id IS NULL"
        assert people.one(free) == 0

    def test_a_cancellation_that_races_with_the_deadline_leaves_all_or_nobody(
        self, desk: Desk, people: People
    ) -> None:
        persons = [people.person() for _ in range(5)]
        ends = []
        for round_ in range(3):
            for person in persons:
                people.owner.execute(
                    "UPDATE user_sessions SET drained_at = NULL, drain_event_id = NULL,"
                    " drain_deadline_at = NULL WHERE id = %s",
                    [person.session_id],
                )
            drain_id = desk.started(grace=1)
            left = people.one(
                "SELECT extract(epoch FROM deadline - clock_timestamp())::float8"
                " FROM publish_drain_events WHERE id = %s",
                drain_id,
            )
            time.sleep(max(0.0, left + 0.02 * (round_ - 1)))
            with ThreadPoolExecutor(2) as pool:
                finishing = pool.submit(desk.finish)
                verdict = desk.cancel(drain_id)
                finishing.result()
            wait_until(
                lambda: desk.finish() or desk.drain(drain_id).status != "draining",  # noqa: B023
                "it has ended",
            )
            status = desk.drain(drain_id).status
            ends.append(status)
            assert (verdict == "cancelled") == (status == "cancelled")
            alive = {desk.lives(person.session_id) for person in persons}
            assert alive == {status == "cancelled"}
        assert ends[-1] == "completed"


class TestTheEnd:
    def test_it_does_not_finish_before_the_deadline(self, desk: Desk, people: People) -> None:
        people.person()
        desk.started()
        assert not desk.finish()

    def test_every_session_has_its_outcome_and_no_clock_lets_it_back_in(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        acked, told, closed, away, logged_out = (people.person() for _ in range(5))
        drain_id = desk.started(grace=1)
        with database.connect("gateway") as gateway:
            for name, person in (("acked", acked), ("notified", told), ("closed", closed)):
                gateway.execute(
                    "SELECT note_drain_receipts(%s, p_notified => %s, p_acked => %s,"
                    " p_closed => %s)",
                    (
                        drain_id,
                        *(
                            [person.session_id] if name == one else []
                            for one in ("notified", "acked", "closed")
                        ),
                    ),
                )
        people.owner.execute(
            "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'logout' WHERE id = %s",
            [logged_out.session_id],
        )
        wait_until(desk.finish, "the drain is over")
        assert desk.outcomes(drain_id) == {
            acked.session_id: "acked",
            told.session_id: "closed",
            closed.session_id: "closed",
            away.session_id: "unreachable",
            logged_out.session_id: "unreachable",
        }
        drain = desk.drain(drain_id)
        counts = (drain.status, drain.enrolled, drain.acked, drain.closed, drain.unreachable)
        assert counts == ("completed", 5, 1, 2, 2)
        assert drain.revoked == 4
        # As a clock that jumps back would have it.
        people.owner.execute("UPDATE user_sessions SET drain_deadline_at = now() + interval '1 h'")
        assert not desk.lives(acked.session_id)

    def test_it_waits_for_open_sockets_until_the_linger_is_over(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        people.owner.execute("INSERT INTO gateway_instances (id) VALUES ('one')")
        people.owner.execute(
            "INSERT INTO gateway_connections (instance_id, session_id, user_id)"
            " VALUES ('one', %s, %s)",
            (ada.session_id, ada.user_id),
        )
        desk.started(grace=0)
        assert not desk.finish(linger_seconds=600)
        # A gateway that was killed is not waited for.
        people.owner.execute("UPDATE gateway_instances SET heartbeat_at = now() - interval '1 min'")
        assert desk.finish(linger_seconds=600)

    def test_of_several_gateways_one_finishes_it(self, desk: Desk, people: People) -> None:
        people.person()
        desk.started(grace=0)
        with ThreadPoolExecutor(4) as pool:
            done = list(pool.map(lambda _: desk.finish(), range(4)))
        assert sorted(done) == [False, False, False, True]
        finished = "SELECT count(*) FROM admin_action_audit WHERE action = 'drain.complete'"
        assert people.one(finished) == 1

    def test_the_digest_in_the_audit_trail_is_that_of_the_receipts(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        for _ in range(3):
            people.person()
        drain_id = desk.started(grace=0)
        desk.finish()
        row = people.owner.execute(
            "SELECT details FROM admin_action_audit WHERE action = 'drain.complete'"
        ).fetchone()
        assert row is not None
        details: dict[str, Any] = row[0]
        people.owner.execute("SET timezone = 'UTC'")
        lines = people.owner.execute(
            "SELECT jsonb_build_array(session_id, user_id, client_version, client_content_version,"
            " enrolled_at, notified_at, acked_at, closed_at, revoked_at, outcome)::text"
            " FROM publish_drain_session_audit WHERE drain_id = %s ORDER BY session_id",
            [drain_id],
        ).fetchall()
        text = "\n".join(line for (line,) in lines)
        assert details["receipts_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert (details["drain_id"], details["enrolled"]) == (drain_id, 3)
        with database.connect("api") as api:
            assert verify(api, most_rows=100).intact

    def test_a_drain_that_has_ended_and_its_receipts_are_frozen_for_the_owner_too(
        self, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        drain_id = desk.started(grace=0)
        desk.finish()
        for statement in (
            "UPDATE publish_drain_events SET status = 'draining', finished_at = NULL,"
            " receipts_digest = NULL",
            "UPDATE publish_drain_events SET reason = 'x'",
            "DELETE FROM publish_drain_events",
            "TRUNCATE publish_drain_events",
            "UPDATE publish_drain_session_audit SET outcome = 'acked'",
            "UPDATE publish_drain_session_audit SET drain_id = drain_id + 1",
            "DELETE FROM publish_drain_session_audit",
            "TRUNCATE publish_drain_session_audit",
            "INSERT INTO publish_drain_session_audit (drain_id, session_id, user_id, enrolled_at)"
            f" VALUES ({drain_id}, 99, 1, now())",
        ):
            with pytest.raises(psycopg.errors.RaiseException):
                people.owner.execute(statement)
        # The evidence outlives what it is about.
        people.owner.execute("DELETE FROM users WHERE id = %s", [ada.user_id])
        assert desk.outcomes(drain_id) == {ada.session_id: "unreachable"}

    def test_the_receipts_of_one_that_is_active_cannot_be_removed_either(
        self, desk: Desk, people: People
    ) -> None:
        people.person()
        desk.started()
        for statement in (
            "DELETE FROM publish_drain_session_audit",
            "UPDATE publish_drain_session_audit SET session_id = 0",
            "DELETE FROM publish_drain_events",
        ):
            with pytest.raises(psycopg.errors.RaiseException):
                people.owner.execute(statement)


class TestCancelling:
    def test_it_lets_everybody_go_and_the_next_one_may_begin(
        self, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        drain_id = desk.started()
        assert desk.start() is None
        assert desk.cancel(drain_id) == "cancelled"
        assert desk.outcomes(drain_id) == {ada.session_id: "cancelled"}
        assert desk.drain(drain_id).status == "cancelled"
        assert desk.lives(ada.session_id)
        assert desk.start() is not None

    def test_after_the_deadline_and_after_the_end_it_is_too_late(
        self, desk: Desk, people: People
    ) -> None:
        ada = people.person()
        drain_id = desk.started(grace=0)
        assert desk.cancel(drain_id) == "too_late"
        desk.finish()
        assert desk.cancel(drain_id) == "too_late"
        assert not desk.lives(ada.session_id)
        assert desk.cancel(drain_id + 1) == "unknown"


def revoke(api: psycopg.Connection) -> None:
    assert revoke_sessions(api, OLGA, "a leak", Selector(all=True), dry_run=False).revoked == 1


def start(api: psycopg.Connection) -> None:
    assert start_drain(api, OLGA, "a release", scope="all", grace_seconds=60) is not None


def cancel(api: psycopg.Connection) -> None:
    assert cancel_drain(api, OLGA, None, 1)[0] == "cancelled"


def activate(api: psycopg.Connection) -> None:
    release = NewRelease("2.0", grace_seconds=60, drain=DrainScope.ALL)
    assert activate_release(api, OLGA, release, dry_run=False).enrolled == 1


def slow_down(people: People) -> None:
    people.owner.execute(
        "CREATE FUNCTION take_time() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END'"
    )
    people.owner.execute(
        "CREATE TRIGGER takes_time AFTER UPDATE ON user_sessions"
        " FOR EACH STATEMENT EXECUTE FUNCTION take_time()"
    )


class TestAnActOnAllSessions:
    """It may take longer than any other statement, for there may be many."""

    @pytest.mark.parametrize("act", [revoke, start, cancel, activate])
    def test_of_an_operator_has_its_time_and_the_next_statement_has_not(
        self, database: Database, desk: Desk, people: People, act: Callable[..., None]
    ) -> None:
        people.person()
        if act is cancel:
            desk.started()
        slow_down(people)
        with database.connect("api") as api:
            api.execute("SET statement_timeout = 200")
            with api.transaction():
                act(api)
            assert api.execute("SHOW statement_timeout").fetchone() == ("200ms",)

    def test_the_end_for_twenty_thousand_fits_into_any_statement(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        fill_house(people.owner, 20_000)
        people.owner.execute("ANALYZE user_sessions")  # of a time when there was no drain
        drain_id = desk.started(grace=0)
        with database.connect("gateway") as gateway:
            gateway.execute("SET statement_timeout = '10s'")  # twice the services' own
            gateway.execute("SELECT finish_drain('test', 0)")
        assert desk.drain(drain_id).revoked == 20_000

    def test_of_a_gateway_has_its_time(
        self, database: Database, desk: Desk, people: People
    ) -> None:
        people.person()
        drain_id = desk.started(grace=0)
        slow_down(people)

        async def finish() -> None:
            async with await psycopg.AsyncConnection.connect(
                database.conninfo("gateway"), options="-c statement_timeout=200"
            ) as gateway:
                assert await finish_drain(gateway, "test", 0) is not None

        asyncio.run(finish())
        assert desk.drain(drain_id).status == "completed"
