"""The write path in Postgres: no gaps, no doubles, the right verdict for each message."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import psycopg
import pytest

from db.chat_log import AppendResult, NewMessage, WriteLimits
from db.chat_log import append_messages as append_within
from db.sessions import ClientInfo, SessionTerms, open_session
from db.users import insert_user
from rules.client_address import Address
from tests.support.databases import Database
from tests.support.rows_read import fill_house, rows_read

Connection = psycopg.Connection[tuple[Any, ...]]
NOBODY = ClientInfo(ip=None, user_agent=None, version=None, content_version=None)
GLOBAL = 1
WIDE = WriteLimits(10, 1_000_000, 1_000_000, 30, 600)
NARROW = WriteLimits(
    window_seconds=10,
    max_per_account=3,
    max_per_address=5,
    lockout_seconds=30,
    lockout_max_seconds=100,
)
SMALLER = replace(NARROW, max_per_account=1)
HERE, THERE = ip_address("198.51.100.1"), ip_address("203.0.113.1")


def append_messages(
    connection: Connection, messages: list[NewMessage], limits: WriteLimits = WIDE
) -> list[AppendResult]:
    return append_within(connection, messages, limits)


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with database.connect() as connection:
        yield connection


def new_session(api: Connection, name: str) -> int:
    user = insert_user(api, email=f"{name}@example.org", password_hash="x", display_name=name)
    assert user is not None
    terms = SessionTerms(ttl_days=30, idle_days=14, max_per_account=20)
    session = open_session(api, user.id, checked_hash="x", client=NOBODY, terms=terms)
    assert session is not None
    return session.id


@pytest.fixture
def ann(api: Connection) -> int:
    return new_session(api, "Ann")


def message(
    session_id: int,
    content: str = "hi",
    *,
    channel_id: int = GLOBAL,
    key: uuid.UUID | None = None,
    address: Address = HERE,
) -> NewMessage:
    return NewMessage(session_id, channel_id, key or uuid.uuid4(), content, "request-1", address)


def verdicts(results: list[AppendResult]) -> list[tuple[str, int | None]]:
    return [(result.verdict, result.seq) for result in results]


def group(owner: Connection, *session_ids: int) -> int:
    row = owner.execute("INSERT INTO chat_channels (kind) VALUES ('group') RETURNING id").fetchone()
    assert row is not None
    for session_id in session_ids:
        owner.execute(
            "INSERT INTO chat_members (channel_id, user_id)"
            " SELECT %s, user_id FROM user_sessions WHERE id = %s",
            (row[0], session_id),
        )
    return int(row[0])


class TestVerdicts:
    def test_a_batch_gets_the_next_seqs_in_its_order(self, api: Connection, ann: int) -> None:
        first = append_messages(api, [message(ann, "a"), message(ann, "b")])
        second = append_messages(api, [message(ann, "c")])
        assert verdicts(first) == [("stored", 1), ("stored", 2)]
        assert verdicts(second) == [("stored", 3)]
        assert (first[0].sender_name, first[0].created_at) == ("Ann", first[1].created_at)

    def test_one_bad_message_does_not_take_others_down(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        bob = new_session(api, "Bob")
        owner.execute("UPDATE user_sessions SET revoked_at = now() WHERE id = %s", (bob,))
        batch = [message(ann), message(bob), message(ann, channel_id=99), message(ann)]
        assert verdicts(append_messages(api, batch)) == [
            ("stored", 1),
            ("session_ended", None),
            ("not_found", None),
            ("stored", 2),
        ]

    def test_a_repeat_gives_the_first_seq_in_the_batch_and_later(
        self, api: Connection, ann: int, database: Database
    ) -> None:
        key = uuid.uuid4()
        again = message(ann, "same", key=key)
        assert verdicts(append_messages(api, [again, message(ann), again])) == [
            ("stored", 1),
            ("stored", 2),
            ("repeat", 1),
        ]
        with database.connect("gateway") as elsewhere:
            assert verdicts(append_messages(elsewhere, [again])) == [("repeat", 1)]

    def test_the_same_id_with_other_content_is_a_conflict(self, api: Connection, ann: int) -> None:
        key = uuid.uuid4()
        batch = [message(ann, "one", key=key), message(ann, "two", key=key)]
        results = append_messages(api, batch)
        assert [result.verdict for result in results] == ["stored", "conflict"]
        assert append_messages(api, batch[1:])[0].verdict == "conflict"

    def test_the_same_id_from_two_people_or_in_two_channels_is_two_messages(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        key = uuid.uuid4()
        bob = new_session(api, "Bob")
        room = group(owner, ann)
        batch = [
            message(ann, key=key),
            message(bob, key=key),
            message(ann, key=key, channel_id=room),
        ]
        assert verdicts(append_messages(api, batch)) == [
            ("stored", 1),
            ("stored", 2),
            ("stored", 1),
        ]

    def test_a_repeat_of_an_erased_message_is_a_repeat(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        sent = message(ann)
        append_messages(api, [sent])
        owner.execute("UPDATE chat_messages SET content = NULL")
        assert verdicts(append_messages(api, [sent])) == [("repeat", 1)]

    def test_only_members_write_to_a_group(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        bob = new_session(api, "Bob")
        room = group(owner, ann)
        batch = [message(ann, channel_id=room), message(bob, channel_id=room)]
        results = append_messages(api, batch)
        assert [result.verdict for result in results] == ["stored", "not_found"]

    def test_a_muted_person_is_told_for_how_long_but_repeats_are_free(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        sent = message(ann)
        append_messages(api, [sent])
        owner.execute("UPDATE users SET muted_until = now() + interval '90 s'")
        muted, repeat = append_messages(api, [message(ann), sent])
        assert muted.verdict == "muted"
        assert muted.retry_after_seconds in (89, 90)
        assert repeat.verdict == "repeat"
        owner.execute("UPDATE users SET muted_until = now() - interval '1 s'")
        assert append_messages(api, [message(ann)])[0].verdict == "stored"

    @pytest.mark.parametrize(
        ("changes", "verdict"),
        [
            (["ended", "not a member", "conflict", "muted", "locked out"], "session_ended"),
            (["not a member", "conflict", "muted", "locked out"], "not_found"),
            (["conflict", "muted", "locked out"], "conflict"),
            (["muted", "locked out"], "muted"),
            (["locked out"], "locked_out"),
            ([], "stored"),
        ],
    )
    def test_of_several_objections_the_first_in_the_order_is_told(
        self, api: Connection, ann: int, owner: Connection, changes: list[str], verdict: str
    ) -> None:
        room = group(owner, ann)
        key = uuid.uuid4()
        append_messages(api, [message(ann, "first", channel_id=room, key=key)])
        statements = {
            "ended": "UPDATE user_sessions SET revoked_at = now()",
            "not a member": "DELETE FROM chat_members",
            "muted": "UPDATE users SET muted_until = now() + interval '1 hour'",
            "locked out": "UPDATE rate_limits SET locked_until = now() + interval '1 hour'",
        }
        for change in changes:
            if change in statements:
                owner.execute(statements[change])
        again = key if "conflict" in changes else uuid.uuid4()
        [result] = append_messages(api, [message(ann, "second", channel_id=room, key=again)])
        assert result.verdict == verdict


class TestOrder:
    def test_eight_writers_leave_no_gap_no_double_and_no_time_that_runs_backwards(
        self, api: Connection, ann: int, owner: Connection, database: Database
    ) -> None:
        rooms = [GLOBAL, *(group(owner, ann) for _ in range(3))]
        gate = threading.Barrier(8)

        def write(number: int) -> list[tuple[int, int]]:
            chance = random.Random(number)
            stored = []
            with database.connect("gateway") as connection:
                gate.wait()
                for _ in range(25):
                    batch = [
                        message(ann, channel_id=chance.choice(rooms))
                        for _ in range(chance.randint(1, 12))
                    ]
                    for sent, result in zip(batch, append_messages(connection, batch), strict=True):
                        assert result.seq is not None
                        stored.append((sent.channel_id, result.seq))
            return stored

        with ThreadPoolExecutor(8) as threads:
            answered = [pair for pairs in threads.map(write, range(8)) for pair in pairs]
        rows = owner.execute(
            "SELECT channel_id, seq, created_at FROM chat_messages ORDER BY channel_id, seq"
        ).fetchall()
        assert sorted(answered) == [(channel_id, seq) for channel_id, seq, _ in rows]
        for room in rooms:
            of_room = [
                (seq, created_at) for channel_id, seq, created_at in rows if channel_id == room
            ]
            assert [seq for seq, _ in of_room] == list(range(1, len(of_room) + 1))
            assert [at for _, at in of_room] == sorted(at for _, at in of_room)

    def test_two_processes_with_the_same_message_store_it_once(
        self, ann: int, owner: Connection, database: Database
    ) -> None:
        batch = [message(ann, str(number)) for number in range(10)]
        gate = threading.Barrier(6)

        def write(_: int) -> list[int | None]:
            with database.connect("gateway") as connection:
                gate.wait()
                return [result.seq for result in append_messages(connection, batch)]

        with ThreadPoolExecutor(6) as threads:
            answers = {tuple(answer) for answer in threads.map(write, range(6))}
        assert len(answers) == 1
        assert owner.execute("SELECT count(*) FROM chat_messages").fetchone() == (10,)

    def test_a_clock_that_jumped_back_does_not_show_in_a_channel(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        owner.execute("UPDATE chat_channels SET last_entry_at = now() + interval '1 hour'")
        ahead = owner.execute("SELECT last_entry_at FROM chat_channels").fetchone()
        [result] = append_messages(api, [message(ann)])
        assert (result.created_at,) == ahead

    def test_a_message_that_waited_is_not_stamped_with_the_time_before_it_waited(
        self, api: Connection, ann: int, owner: Connection, database: Database
    ) -> None:
        def write() -> AppendResult:
            with database.connect("gateway") as connection:
                [result] = append_messages(connection, [message(ann)])
                return result

        with ThreadPoolExecutor(1) as threads:
            with owner.transaction(), database.connect() as watcher:
                owner.execute("SELECT FROM chat_channels WHERE id = 1 FOR UPDATE")
                writing = threads.submit(write)
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                while watcher.execute(waiting).fetchone() == (0,):
                    assert not writing.done()
                row = watcher.execute("SELECT clock_timestamp()").fetchone()
            created_at = writing.result().created_at
        assert row is not None
        assert created_at is not None
        assert created_at > row[0]


class TestLimits:
    def send(self, api: Connection, *messages: NewMessage) -> list[str]:
        return [one.verdict for one in append_messages(api, list(messages), NARROW)]

    def later(self, owner: Connection, seconds: int) -> None:
        owner.execute(
            "UPDATE rate_limits SET slice = slice - %s,"
            " locked_until = locked_until - make_interval(secs => %s),"
            " locked_at = locked_at - make_interval(secs => %s)",
            (seconds, seconds, seconds),
        )

    def test_the_maximum_is_accepted_in_one_batch_and_in_many(
        self, api: Connection, ann: int
    ) -> None:
        assert self.send(api, message(ann), message(ann)) == ["stored"] * 2
        assert self.send(api, message(ann), message(ann)) == ["stored", "locked_out_now"]

    def test_an_account_that_goes_on_is_locked_out_for_longer_each_time(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        waits = []
        for _ in range(4):
            results = append_messages(api, [message(ann) for _ in range(4)], NARROW)
            assert [one.verdict for one in results] == ["stored"] * 3 + ["locked_out_now"]
            waits.append(results[3].retry_after_seconds)
            assert self.send(api, message(ann)) == ["locked_out"]
            self.later(owner, 101)
        assert waits == [30, 60, 100, 100]

    def test_a_lockout_outlasts_the_window(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        self.send(api, *(message(ann) for _ in range(4)))
        self.later(owner, 20)
        [refused] = append_messages(api, [message(ann)], NARROW)
        assert refused.verdict == "locked_out"
        assert refused.retry_after_seconds in (9, 10)
        self.later(owner, 11)
        assert self.send(api, message(ann)) == ["stored"]

    def test_repeats_cost_nothing_and_are_answered_in_a_lockout(
        self, api: Connection, ann: int
    ) -> None:
        first = message(ann)
        assert self.send(api, first, first, first, first) == ["stored"] + ["repeat"] * 3
        self.send(api, *(message(ann) for _ in range(3)))
        assert self.send(api, message(ann), first) == ["locked_out", "repeat"]

    def test_a_refused_message_and_its_repeat_in_one_batch_are_both_refused(
        self, api: Connection, ann: int
    ) -> None:
        self.send(api, *(message(ann) for _ in range(3)))
        over = message(ann)
        assert self.send(api, over, over) == ["locked_out_now", "locked_out"]
        assert api.execute("SELECT count(*) FROM chat_messages").fetchone() == (3,)

    def test_each_lockout_begins_with_one_message(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        bob = new_session(api, "Bob")
        batch = [message(one, address=where) for where, one in [(HERE, ann), (THERE, bob)] * 5]
        assert self.send(api, *batch) == [
            *["stored"] * 6,
            *["locked_out_now"] * 2,
            *["locked_out"] * 2,
        ]
        # A limit that was made smaller meanwhile leaves less room than none.
        self.later(owner, 101)
        self.send(api, *(message(ann) for _ in range(3)))
        results = append_messages(api, [message(ann) for _ in range(2)], SMALLER)
        assert [one.verdict for one in results] == ["locked_out_now", "locked_out"]
        assert [one.retry_after_seconds for one in results] == [60, 60]

    def test_an_address_is_refused_but_never_locked(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        bob, carol = new_session(api, "Bob"), new_session(api, "Carol")
        assert self.send(api, *(message(ann) for _ in range(3))) == ["stored"] * 3
        batch = [message(bob), message(bob), message(carol), message(carol, address=THERE)]
        assert self.send(api, *batch) == ["stored", "stored", "address_full", "stored"]
        self.later(owner, 11)
        assert self.send(api, message(carol)) == ["stored"]

    def test_a_repeat_from_elsewhere_is_told_when_the_first_one_may_go_on(
        self, api: Connection, ann: int
    ) -> None:
        """Somebody whose network is full, and who has just changed to another one."""
        bob = new_session(api, "Bob")
        self.send(api, *(message(ann) for _ in range(3)))
        key = uuid.uuid4()
        again = message(bob, key=key, address=THERE)
        batch = [message(bob), message(bob), message(bob, key=key), again]
        results = append_messages(api, batch, NARROW)
        assert [result.verdict for result in results] == ["stored"] * 2 + ["address_full"] * 2
        assert results[3].retry_after_seconds == results[2].retry_after_seconds
        assert results[2].retry_after_seconds

    def test_two_connections_of_an_account_share_one_limit(
        self, ann: int, owner: Connection, database: Database
    ) -> None:
        gate = threading.Barrier(8)

        def write(_: int) -> list[str]:
            with database.connect("gateway") as connection:
                gate.wait()
                return self.send(connection, message(ann), message(ann, address=THERE))

        with ThreadPoolExecutor(8) as threads:
            verdicts_ = [one for some in threads.map(write, range(8)) for one in some]
        assert verdicts_.count("stored") == 3
        assert owner.execute("SELECT count(*) FROM chat_messages").fetchone() == (3,)

    def test_what_is_refused_for_another_reason_does_not_count(
        self, api: Connection, ann: int
    ) -> None:
        assert self.send(api, *(message(ann, channel_id=99) for _ in range(9))) == ["not_found"] * 9
        assert self.send(api, *(message(ann) for _ in range(3))) == ["stored"] * 3


class TestWakingUp:
    def heard(self, owner: Connection) -> list[str]:
        return [notify.payload for notify in owner.notifies(timeout=0.2)]

    def test_a_batch_is_one_notification_with_the_last_seqs(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        room = group(owner, ann)
        owner.execute("LISTEN gatehouse_log")
        append_messages(api, [message(ann), message(ann), message(ann, channel_id=room)])
        assert self.heard(owner) == [f"1:2 {room}:1"]

    def test_a_batch_that_stored_nothing_wakes_nobody(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        sent = message(ann)
        append_messages(api, [sent])
        owner.execute("LISTEN gatehouse_log")
        append_messages(api, [sent, message(ann, channel_id=99)])
        assert self.heard(owner) == []

    def test_more_channels_than_fit_become_look_at_everything(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        owner.execute(
            "WITH made AS (INSERT INTO chat_channels (kind) SELECT 'group'"
            " FROM generate_series(1, 1500) RETURNING id)"
            " INSERT INTO chat_members (channel_id, user_id)"
            " SELECT made.id, s.user_id FROM made, user_sessions s"
        )
        rooms = [row[0] for row in owner.execute("SELECT channel_id FROM chat_members").fetchall()]
        owner.execute("LISTEN gatehouse_log")
        append_messages(api, [message(ann, channel_id=room) for room in rooms[:1000]])
        named = self.heard(owner)
        assert [len(payload.split()) for payload in named] == [1000]
        append_messages(api, [message(ann, channel_id=room) for room in rooms])
        assert self.heard(owner) == ["*"]

    def test_sessions_that_end_are_named_and_a_touch_wakes_nobody(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        bob = new_session(api, "Bob")
        owner.execute("LISTEN gatehouse_sessions")
        owner.execute("UPDATE user_sessions SET last_seen_at = now(), idle_expires_at = 'infinity'")
        assert self.heard(owner) == []
        owner.execute("UPDATE user_sessions SET revoked_at = now()")
        assert self.heard(owner) == [f"{ann} {bob}"]
        owner.execute("UPDATE users SET disabled_at = now()")
        assert self.heard(owner) == []  # they were dead before
        owner.execute("DELETE FROM user_sessions WHERE id = %s", (ann,))
        assert self.heard(owner) == [f"{ann}"]

    def test_a_disabled_user_is_named_by_their_sessions(
        self, api: Connection, ann: int, owner: Connection
    ) -> None:
        owner.execute("LISTEN gatehouse_sessions")
        owner.execute("UPDATE users SET disabled_at = now()")
        assert self.heard(owner) == [f"{ann}"]

    def test_too_many_to_name_become_look_at_everything(self, ann: int, owner: Connection) -> None:
        owner.execute(
            "INSERT INTO user_sessions (user_id, expires_at, idle_expires_at)"
            " SELECT user_id, 'infinity', 'infinity' FROM user_sessions, generate_series(1, 3000)"
        )
        owner.execute("LISTEN gatehouse_sessions")
        owner.execute("UPDATE user_sessions SET revoked_at = now()")
        assert self.heard(owner) == ["*"]


class TestPlan:
    def test_a_plan_made_in_an_empty_house_still_reads_little_in_a_full_one(
        self, api: Connection, owner: Connection, ann: int
    ) -> None:
        """Statistics come later, if at all: a connection keeps the plan of its first batch."""
        room = group(owner, ann)
        append_messages(api, [message(ann, channel_id=room)])
        fill_house(owner)
        for _ in range(20):
            append_messages(api, [message(ann, channel_id=room) for _ in range(100)])
        owner.execute(
            "INSERT INTO chat_members (channel_id, user_id) SELECT %s, id FROM users"
            " ON CONFLICT DO NOTHING",
            (room,),
        )
        with api.transaction():
            before = rows_read(api)
            append_messages(api, [message(ann, channel_id=room)])
            assert rows_read(api) - before < 50
