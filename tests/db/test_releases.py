"""The release policy in the database: what puts it in force, takes it back, and waits for it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from db.audit import verify
from db.operators import Operator
from db.releases import (
    DrainScope,
    NewRelease,
    Outcome,
    activate_release,
    find_policy,
    find_release,
    hold_policy,
    list_releases,
    roll_back_release,
)
from rules.versions import ReleasePolicy, is_update_required
from tests.support.databases import Database
from tests.support.processes import wait_until
from tests.support.services import People

OLGA = Operator("olga", None)
VERSIONS = (
    None,
    "",
    "1",
    "1.0",
    "1.0.1",
    "1.9",
    "1.10",
    "01.10.0",
    "2",
    "0",
    "0.0",
    "x",
    "1.",
    "2.0.1",
    "1.10.20261124123045",
    "1.10.20261124123046",
    "9" * 18,
    "9" * 19,
)


class Desk:
    """What the API does for an operator."""

    def __init__(self, api: psycopg.Connection[Any]) -> None:
        self.api = api

    def activate(self, latest: str, minimum: str | None = None, **more: Any) -> Outcome:
        dry_run = more.pop("dry_run", False)
        new = NewRelease(latest, minimum, **more)
        with self.api.transaction():
            return activate_release(self.api, OLGA, new, dry_run=dry_run)

    def roll_back(self, *, dry_run: bool = False) -> Outcome:
        with self.api.transaction():
            return roll_back_release(self.api, OLGA, "it crashes", dry_run=dry_run)

    def serves(self, version: str | None, content: str | None = None) -> bool:
        """Whether a client of this version passes the gate now."""
        found = find_policy(self.api)
        return not is_update_required(found.policy, version, content, found.now)


@pytest.fixture
def desk(database: Database) -> Iterator[Desk]:
    with database.connect("api") as api:
        yield Desk(api)


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    with People(database) as made:
        yield made


class TestTheGate:
    def test_before_the_first_release_everybody_is_served(self, desk: Desk) -> None:
        assert desk.serves(None)

    def test_a_minimum_is_enforced_after_the_grace_and_not_before(self, desk: Desk) -> None:
        policy = desk.activate("2.0", "1.10", grace_seconds=60).release
        assert policy.enforce_after is not None
        assert policy.activated_at is not None
        assert policy.enforce_after - policy.activated_at == timedelta(seconds=60)
        assert desk.serves("1.9")
        desk.activate("2.0", "1.10", grace_seconds=0)
        assert not desk.serves("1.9")
        assert not desk.serves(None)
        assert desk.serves("1.10")

    def test_a_newer_minimum_that_is_only_announced_lets_nobody_in_again(self, desk: Desk) -> None:
        desk.activate("2.0", "2.0", grace_seconds=0)
        desk.activate("3.0", "3.0", grace_seconds=300)
        assert not desk.serves("1.9")
        assert desk.serves("2.0")
        desk.activate("4.0", "4.0", grace_seconds=300)
        assert not desk.serves("1.9")
        assert desk.serves("2.0")

    def test_a_release_without_a_minimum_leaves_the_announced_deadline_alone(
        self, desk: Desk
    ) -> None:
        announced = desk.activate("2.0", "2.0", grace_seconds=300).release
        after = desk.activate("2.1", grace_seconds=0).release
        assert (after.min_supported_version, after.enforce_after) == (
            "2.0",
            announced.enforce_after,
        )
        assert desk.serves("1.9")

    def test_a_lower_minimum_lets_in_again_at_once(self, desk: Desk) -> None:
        desk.activate("2.0", "2.0", grace_seconds=0)
        desk.activate("2.0", "1.5", grace_seconds=300)
        assert desk.serves("1.5")
        assert not desk.serves("1.4")

    def test_content_is_measured_like_the_client(self, desk: Desk) -> None:
        desk.activate(
            "2.0", latest_content_version="8", min_supported_content_version="7", grace_seconds=0
        )
        assert desk.serves("1.0", "7")
        assert not desk.serves("99", "6.9")
        assert not desk.serves("99")

    def test_python_and_sql_agree_about_every_client_under_every_policy(
        self, desk: Desk, database: Database
    ) -> None:
        now = datetime(2026, 11, 24, tzinfo=UTC)
        minima = (None, "1.10", "1.10.20261124123046", "2", "0")
        with database.connect() as owner:
            for minimum, floor, late in itertools.product(minima, minima, (None, -1, 0, 1)):
                enforce_after = None if late is None else now + timedelta(seconds=late)
                policy = ReleasePolicy(
                    min_supported_version=minimum,
                    enforce_after=enforce_after,
                    floor_version=floor,
                    min_supported_content_version=floor,
                    floor_content_version=minimum,
                )
                asked = [*zip(VERSIONS, reversed(VERSIONS), strict=True)]
                rows = owner.execute(
                    "SELECT is_update_required("
                    " jsonb_populate_record(NULL::release_policy, jsonb_build_object("
                    "  'min_supported_version', %s::text, 'floor_version', %s::text,"
                    "  'min_supported_content_version', %s::text,"
                    "  'floor_content_version', %s::text, 'enforce_after', %s::timestamptz)),"
                    " v, c, %s) FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY a (v, c, n)"
                    " ORDER BY n",
                    [
                        *(minimum, floor, floor, minimum, enforce_after, now),
                        *([one for one, _ in asked], [other for _, other in asked]),
                    ],
                ).fetchall()
                expected = [is_update_required(policy, *who, now) for who in asked]
                assert [required for (required,) in rows] == expected, policy


class TestActivating:
    def test_it_leaves_its_record_and_its_audit_row(self, desk: Desk) -> None:
        done = desk.activate("2.0", "1.0", notes="Faster.")
        assert done.verdict == "activated"
        assert done.head is not None
        [record] = list_releases(desk.api, 10)
        assert (record.id, record.action, record.actor) == (
            done.release.release_id,
            "activate",
            "olga",
        )
        row = desk.api.execute(
            "SELECT id, actor, details->>'min_supported_version' FROM admin_action_audit"
            " WHERE action = 'release.activate'"
        ).fetchall()
        assert row == [(done.head.id, "olga", "1.0")]
        assert verify(desk.api, most_rows=1000).intact

    def test_a_lower_version_wants_leave(self, desk: Desk) -> None:
        desk.activate("2.0", latest_content_version="7")
        for refused in (
            desk.activate("1.9.9"),
            desk.activate("2.0", latest_content_version="6"),
        ):
            assert (refused.verdict, refused.head) == ("regression", None)
        assert find_release(desk.api)[0].latest_version == "2.0"
        assert desk.activate("1.9.9", allow_regression=True).verdict == "activated"

    def test_a_minimum_that_no_client_can_reach_is_refused(self, desk: Desk) -> None:
        assert desk.activate("2.0", "2.0.1").verdict == "minimum_above_latest"
        desk.activate("2.0", "2.0")
        assert desk.activate("1.0", allow_regression=True).verdict == "minimum_above_latest"
        alone = desk.activate("2.0", min_supported_content_version="1")
        assert alone.verdict == "minimum_above_latest"
        assert len(list_releases(desk.api, 10)) == 1

    def test_a_dry_run_counts_and_changes_nothing(self, desk: Desk, people: People) -> None:
        for version in ("1.0", "1.0", "0.9", "junk", None, "2.0"):
            people.person(version=version)
        admin = people.person(version="0.1")
        people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [admin.user_id])
        revoked = people.person(version="0.2")
        people.owner.execute(
            "UPDATE user_sessions SET revoked_at = now() WHERE id = %s", [revoked.session_id]
        )
        before = find_release(desk.api)
        tried = desk.activate("2.0", "2.0", dry_run=True)
        assert tried.release.min_supported_version == "2.0"
        assert tried.head is None
        assert tried.outdated is not None
        assert tried.outdated["sessions"] == 5
        found = {one["client_version"]: one["sessions"] for one in tried.outdated["by_version"]}
        assert found == {"1.0": 2, "0.9": 1, None: 2}
        assert find_release(desk.api) == before
        assert list_releases(desk.api, 10) == []

    def test_whatever_versions_clients_make_up_the_answer_stays_short(
        self, desk: Desk, people: People
    ) -> None:
        person = people.person()
        people.owner.execute(
            "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at, client_version)"
            " SELECT %s, now() + interval '1 day', now() + interval '1 day', '0.' || n"
            " FROM generate_series(1, 200) n",
            [person.user_id],
        )
        tried = desk.activate("2.0", "2.0", dry_run=True)
        assert tried.outdated is not None
        assert tried.outdated["sessions"] == 201
        assert len(tried.outdated["by_version"]) == 50

    def test_two_at_once_come_one_after_the_other(self, desk: Desk, database: Database) -> None:
        def activate(version: str) -> None:
            with database.connect("api") as api:
                Desk(api).activate(version, allow_regression=True)

        threads = [threading.Thread(target=activate, args=(f"{n}",)) for n in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        records = list_releases(desk.api, 10)
        # An unbroken chain: each knows the one that it replaced.
        assert [one.previous_id for one in records[:-1]] == [one.id for one in records[1:]]
        assert find_release(desk.api)[0].release_id == records[0].id


class TestActivatingWithADrain:
    def test_the_drain_has_the_sessions_the_minima_and_the_deadline_of_the_release(
        self, desk: Desk, people: People
    ) -> None:
        old, new = people.person(version="1.9"), people.person(version="2.0")
        tried = desk.activate("2.0", "2.0", drain=DrainScope.OUTDATED, dry_run=True)
        assert (tried.drain_id, tried.enrolled) == (None, 1)
        done = desk.activate("2.0", "2.0", drain=DrainScope.OUTDATED, grace_seconds=60)
        assert done.enrolled == 1
        drains = people.owner.execute(
            "SELECT id, scope, release_id, min_version, deadline FROM publish_drain_events"
        ).fetchall()
        release = done.release
        assert drains == [
            (done.drain_id, "outdated", release.release_id, "2.0", release.enforce_after)
        ]
        sessions = "SELECT id, drain_event_id FROM user_sessions ORDER BY id"
        assert people.owner.execute(sessions).fetchall() == [
            (old.session_id, done.drain_id),
            (new.session_id, None),
        ]
        assert [one.drain_id for one in list_releases(desk.api, 10)] == [done.drain_id]
        assert find_release(desk.api)[0] == release
        rows = people.owner.execute(
            "SELECT id, action, (details->>'enforce_after')::timestamptz, details->>'release_id'"
            " FROM admin_action_audit WHERE actor = 'olga' ORDER BY id"
        ).fetchall()
        assert done.head is not None
        # The evidence says the moment that is enforced, and the act's own row is its id.
        assert rows == [
            (done.audit_id, "release.activate", release.enforce_after, str(release.release_id)),
            (done.head.id, "drain.start", None, str(release.release_id)),
        ]

    def test_a_second_one_has_to_wait_and_changes_nothing(self, desk: Desk) -> None:
        desk.activate("2.0", "2.0", drain=DrainScope.ALL, grace_seconds=60)
        before = find_release(desk.api)
        refused = desk.activate("3.0", "3.0", drain=DrainScope.OUTDATED)
        assert (refused.verdict, refused.head) == ("drain_in_progress", None)
        tried = desk.activate("3.0", drain=DrainScope.ALL, dry_run=True)
        assert tried.verdict == "drain_in_progress"
        assert find_release(desk.api) == before
        # A release that sends nobody out need not wait.
        assert desk.activate("2.1").verdict == "activated"

    def test_a_refused_release_begins_no_drain(self, desk: Desk, people: People) -> None:
        desk.activate("2.0")
        assert desk.activate("1.0", drain=DrainScope.ALL).verdict == "regression"
        assert people.one("SELECT count(*) FROM publish_drain_events") == 0

    def test_of_four_at_once_one_begins(
        self, desk: Desk, database: Database, people: People
    ) -> None:
        verdicts = list[str]()

        def activate() -> None:
            with database.connect("api") as api:
                verdicts.append(Desk(api).activate("2.0", drain=DrainScope.ALL).verdict)

        threads = [threading.Thread(target=activate) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(verdicts) == ["activated", *["drain_in_progress"] * 3]
        assert people.one("SELECT count(*) FROM release_records") == 1


class TestRollingBack:
    def test_step_by_step_to_the_state_before_the_first(self, desk: Desk) -> None:
        first = desk.activate("1.0", "1.0", grace_seconds=0).release
        second = desk.activate("2.0", "2.0", grace_seconds=0, notes="Bad.").release
        desk.activate("3.0")
        assert desk.roll_back().release == second
        assert not desk.serves("1.0")
        assert desk.roll_back(dry_run=True).release == first
        assert not desk.serves("1.0")
        assert desk.roll_back().release == first
        assert desk.serves("1.0")
        assert desk.roll_back().release.latest_version is None
        assert desk.serves(None)
        assert desk.roll_back().verdict == "nothing_before"
        assert [one.action for one in list_releases(desk.api, 10)] == [
            *["rollback"] * 3,
            *["activate"] * 3,
        ]

    def test_after_it_the_next_release_replaces_what_was_restored(self, desk: Desk) -> None:
        first = desk.activate("1.0").release
        desk.activate("2.0")
        desk.roll_back()
        desk.activate("3.0")
        assert desk.roll_back().release == first


class TestWhoCreatesASession:
    def test_waits_for_an_activation_and_then_sees_it(
        self, desk: Desk, database: Database, people: People
    ) -> None:
        seen = list[str | None]()

        def create() -> None:
            with database.connect("api") as api, api.transaction():
                seen.append(hold_policy(api).policy.latest_version)

        creating = threading.Thread(target=create)
        with database.connect("api") as api, api.transaction():
            activate_release(api, OLGA, NewRelease("2.0"), dry_run=False)
            creating.start()
            wait_until(lambda: people.waiting() > 0, "the session waits for the activation")
        creating.join(10)
        assert seen == ["2.0"]

    def test_is_waited_for_by_an_activation(
        self, desk: Desk, database: Database, people: People
    ) -> None:
        activating = threading.Thread(target=desk.activate, args=("2.0",))
        with database.connect("api") as api, api.transaction():
            assert hold_policy(api).policy.latest_version is None
            activating.start()
            wait_until(lambda: people.waiting() > 0, "the activation waits for the session")
            assert find_policy(api).policy.latest_version is None
        activating.join(10)
        assert find_policy(desk.api).policy.latest_version == "2.0"

    def test_holds_the_policy_whoever_opens_it(self, people: People, database: Database) -> None:
        """open_session takes the lock itself: nobody can forget it."""
        opening = threading.Thread(target=people.person)
        with database.connect() as owner, owner.transaction():
            owner.execute("SELECT pg_advisory_xact_lock(72013004)")
            opening.start()
            wait_until(lambda: people.waiting() > 0, "the session waits")
        opening.join(10)


def test_a_policy_changed_by_hand_is_audited_and_wakes_the_gateways(database: Database) -> None:
    with database.connect() as owner, database.connect("gateway") as gateway:
        gateway.execute("LISTEN gatehouse_release")
        owner.execute("UPDATE release_policy SET latest_version = '9'")
        notified = [one.channel for one in gateway.notifies(timeout=5, stop_after=1)]
        assert notified == ["gatehouse_release"]
        rows = owner.execute("SELECT action, details->>'table' FROM admin_action_audit").fetchall()
        assert rows == [("sql.update", "release_policy")]


def test_a_policy_that_somebody_has_deleted_shuts_nobody_out(
    database: Database, people: People, desk: Desk
) -> None:
    with database.connect() as owner:
        owner.execute("DELETE FROM release_policy")
    people.person()
    assert desk.serves(None)
    assert find_release(desk.api)[0].release_id is None
    assert desk.activate("2.0", "2.0").verdict == "activated"
