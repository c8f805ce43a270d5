"""Limits in Postgres: windows, lockouts, and what happens when everybody comes at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from db import limits
from db.limits import LockedSubject, Lockout, Outcome, Reservation
from tests.support.databases import Database

WINDOW = 60
LOCKOUT = Lockout(seconds=60, max_seconds=3600)
Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def api(database: Database) -> Iterator[Connection]:
    with database.connect("api") as connection:
        yield connection


def reserve(connection: Connection, maxima: dict[str, int], **options: Any) -> Reservation:
    return limits.reserve(connection, maxima, options.get("window", WINDOW), settled=True)


def settle(
    connection: Connection,
    maxima: dict[str, int],
    reservation: Reservation,
    outcome: Outcome,
    clear: tuple[str, ...] = (),
) -> list[LockedSubject]:
    return limits.settle(
        connection,
        maxima,
        WINDOW,
        reservation=reservation,
        outcome=outcome,
        clear=clear,
        lockout=LOCKOUT,
    )


def fail(connection: Connection, maxima: dict[str, int]) -> list[LockedSubject]:
    reservation = reserve(connection, maxima)
    assert reservation.allowed
    return settle(connection, maxima, reservation, Outcome.FAILURE)


def pass_time(database: Database, seconds: int) -> None:
    """Moves what is stored into the past, which is the same as waiting."""
    slices = seconds * 10 // WINDOW
    with database.connect() as owner:
        owner.execute(
            "UPDATE rate_limits SET slice = slice - %s,"
            " locked_until = locked_until - make_interval(secs => %s),"
            " locked_at = locked_at - make_interval(secs => %s)",
            (slices, seconds, seconds),
        )


class TestReservations:
    def test_the_maximum_is_allowed_and_one_more_is_not(self, api: Connection) -> None:
        allowed = [reserve(api, {"a": 3}).allowed for _ in range(4)]
        assert allowed == [True, True, True, False]

    def test_a_refusal_of_one_subject_counts_for_none(self, api: Connection) -> None:
        reserve(api, {"full": 1})
        for _ in range(5):
            assert not reserve(api, {"full": 1, "free": 2}).allowed
        assert reserve(api, {"free": 2}).allowed
        assert reserve(api, {"free": 2}).allowed

    def test_reservations_alone_hold_back_for_a_moment(self, api: Connection) -> None:
        reserve(api, {"a": 1})
        assert reserve(api, {"a": 1}).retry_after_seconds == 1

    def test_a_release_gives_the_place_back(self, api: Connection) -> None:
        reservation = reserve(api, {"a": 1})
        settle(api, {"a": 1}, reservation, Outcome.RELEASE)
        assert reserve(api, {"a": 1}).allowed

    def test_fifty_at_once_get_exactly_the_maximum(self, database: Database) -> None:
        gate = threading.Barrier(50)

        def attempt(number: int) -> bool:
            # In both orders of the subjects, so that a deadlock would have its chance.
            maxima = {"b": 100, "a": 8} if number % 2 else {"a": 8, "b": 100}
            with database.connect("api") as connection:
                gate.wait()
                return reserve(connection, maxima).allowed

        with ThreadPoolExecutor(50) as threads:
            outcomes = list(threads.map(attempt, range(50)))
        assert outcomes.count(True) == 8

    def test_a_process_that_died_gives_its_places_back_with_the_window(
        self, api: Connection, database: Database
    ) -> None:
        reserve(api, {"a": 1})
        pass_time(database, WINDOW * 11 // 10 - 12)
        assert not reserve(api, {"a": 1}).allowed
        pass_time(database, 18)
        assert reserve(api, {"a": 1}).allowed

    def test_what_is_only_counted_says_when_there_is_room(
        self, api: Connection, database: Database
    ) -> None:
        def take() -> Reservation:
            return limits.reserve(api, {"r": 2}, WINDOW, settled=False)

        take()
        pass_time(database, 30)
        take()
        refused = take()
        # The first one is at least 30 s old, and leaves after at most 66.
        assert refused.retry_after_seconds is not None
        assert 24 <= refused.retry_after_seconds <= 36
        pass_time(database, refused.retry_after_seconds // 6 * 6 + 6)
        assert take().allowed

    def test_another_window_length_forgets_nothing(self, api: Connection) -> None:
        reserve(api, {"a": 2}, window=60)
        reserve(api, {"a": 2}, window=60)
        assert not reserve(api, {"a": 2}, window=600).allowed

    def test_a_clock_that_jumped_back_neither_fails_nor_opens(
        self, api: Connection, database: Database
    ) -> None:
        reserve(api, {"a": 2})
        pass_time(database, -600)
        assert reserve(api, {"a": 2}).allowed
        assert not reserve(api, {"a": 2}).allowed

    def test_a_refusal_is_noted_once_a_minute(self, api: Connection) -> None:
        reserve(api, {"a": 1})
        notes = [reserve(api, {"a": 1}).note for _ in range(5)]
        assert notes == [True, False, False, False, False]


class TestLockouts:
    def test_failures_that_reach_the_maximum_lock(self, api: Connection) -> None:
        assert [fail(api, {"a": 3}) for _ in range(2)] == [[], []]
        assert fail(api, {"a": 3}) == [LockedSubject("a", 60)]
        refused = reserve(api, {"a": 3})
        assert not refused.allowed
        assert refused.retry_after_seconds in (59, 60)

    def test_whoever_is_locked_out_leaves_no_row_of_what_else_was_asked_about(
        self, api: Connection
    ) -> None:
        fail(api, {"login:ip:192.0.2.1": 1})
        for number in range(5):
            asked = {"login:ip:192.0.2.1": 1, f"login:account:{number}": 8}
            refused = reserve(api, asked)
            assert not refused.allowed
            assert refused.retry_after_seconds in (59, 60)
            assert refused.note is (number == 0)
        row = api.execute("SELECT count(*) FROM rate_limits").fetchone()
        assert row == (1,)

    def test_a_lockout_ends_by_itself(self, api: Connection, database: Database) -> None:
        fail(api, {"a": 1})
        pass_time(database, 54)
        assert not reserve(api, {"a": 1}).allowed
        pass_time(database, 12)
        assert reserve(api, {"a": 1}).allowed

    def test_each_further_lockout_within_a_day_is_twice_as_long_up_to_the_maximum(
        self, api: Connection, database: Database
    ) -> None:
        seconds = []
        for _ in range(8):
            [locked] = fail(api, {"a": 1})
            seconds.append(locked.seconds)
            pass_time(database, 3606)
        assert seconds == [60, 120, 240, 480, 960, 1920, 3600, 3600]

    def test_after_a_quiet_day_lockouts_are_short_again(
        self, api: Connection, database: Database
    ) -> None:
        fail(api, {"a": 1})
        pass_time(database, 120)
        fail(api, {"a": 1})
        pass_time(database, 86_406)
        assert fail(api, {"a": 1}) == [LockedSubject("a", 60)]

    def test_gateways_are_woken_when_an_address_is_locked_and_only_then(
        self, api: Connection, database: Database
    ) -> None:
        maxima = {"login:ip:198.51.100.1": 2, "login:account:x": 1}
        with database.connect() as listening:
            listening.execute("LISTEN gatehouse_lockouts")
            fail(api, maxima)
            assert list(listening.notifies(timeout=0.2)) == []
            pass_time(database, 3606)
            fail(api, {"login:ip:198.51.100.1": 1})
            assert [note.payload for note in listening.notifies(timeout=0.2)] == [""]

    def test_a_success_clears_the_failures_of_the_named_subjects_only(
        self, api: Connection
    ) -> None:
        maxima = {"account": 2, "ip": 2}
        fail(api, maxima)
        reservation = reserve(api, maxima)
        settle(api, maxima, reservation, Outcome.SUCCESS, clear=("account",))
        assert fail(api, {"account": 2}) == []
        assert fail(api, {"ip": 2}) == [LockedSubject("ip", 60)]

    def test_a_failure_that_is_settled_some_slices_later_counts_once(
        self, api: Connection, database: Database
    ) -> None:
        reservation = reserve(api, {"a": 2})
        pass_time(database, 18)
        assert reservation.slice is not None
        then = replace(reservation, slice=reservation.slice - 3)  # what its holder remembers
        settle(api, {"a": 2}, then, Outcome.FAILURE)
        assert fail(api, {"a": 2}) == [LockedSubject("a", 60)]
