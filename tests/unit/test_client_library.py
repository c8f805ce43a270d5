"""The parts of the client library that need no network."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from gatehouse_client import ApiError, SendRefused, backoff
from gatehouse_client.close_codes import Advice, advice_on
from gatehouse_client.drains import Drains
from gatehouse_client.inbox import Inbox
from gatehouse_client.outbox import MAX_INTERNAL_ERRORS, Outbox
from gatehouse_client.pace import Pace
from gatehouse_client.progress import ChannelProgress, GapError
from gatehouse_client.rest import Answer, Rest, meaning, parse_answer, request_head


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


class TestBackoff:
    def test_the_bound_doubles_from_half_a_second_up_to_thirty(self) -> None:
        bounds = [backoff.bound(attempt) for attempt in range(9)]
        assert bounds == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
        assert backoff.bound(10_000) == 30

    def test_delays_lie_anywhere_below_the_bound(self) -> None:
        delays = [backoff.delay(3) for _ in range(500)]
        assert all(0 <= delay <= 4 for delay in delays)
        assert min(delays) < 1
        assert max(delays) > 3

    @pytest.mark.parametrize(("lasted", "following"), [(0, 3), (9.9, 3), (10, 0), (3000, 0)])
    def test_only_a_connection_that_held_begins_again(self, lasted: float, following: int) -> None:
        assert backoff.attempt_after(3, lasted) == following


class TestCloseCodes:
    @pytest.mark.parametrize(
        "code", [None, 1000, 1001, 1006, 1011, 1012, 1013, 4401, 4408, 4429, 4440, 4499]
    )
    def test_these_mean_come_back(self, code: int | None) -> None:
        assert advice_on(code) is Advice.COME_BACK

    @pytest.mark.parametrize("code", [1003, 1007, 1008, 1009])
    def test_these_mean_come_back_with_something_else(self, code: int) -> None:
        assert advice_on(code) is Advice.SEND_SOMETHING_ELSE

    @pytest.mark.parametrize("code", [4500, 4501, 4503, 4509, 4510, 4526, 4999])
    def test_these_mean_that_a_person_must_act(self, code: int) -> None:
        assert advice_on(code) is Advice.ASK_A_PERSON


def answer(
    *seqs: int, last_seq: int, first_seq: int = 1, recovered: bool = False
) -> dict[str, Any]:
    return {
        "entries": [{"seq": seq} for seq in seqs],
        "first_seq": first_seq,
        "last_seq": last_seq,
        "recovered": recovered,
    }


class TestProgress:
    def test_only_the_next_entry_is_taken(self) -> None:
        progress = ChannelProgress(after_seq=5)
        assert progress.take({"seq": 6})
        assert not progress.take({"seq": 6})
        assert not progress.take({"seq": 3})
        with pytest.raises(GapError):
            progress.take({"seq": 8})
        assert progress.take({"seq": 7})

    @pytest.mark.parametrize(
        ("last_seq", "subscribed", "missing"),
        [
            (10, answer(14, 15, last_seq=15), [11, 12, 13]),
            (10, answer(11, last_seq=11), []),
            (10, answer(14, last_seq=14, first_seq=13), [13]),  # retention took 11 and 12
            (10, answer(last_seq=12), [11, 12]),  # not even the newest one fitted
            (10, answer(last_seq=12, first_seq=13), []),  # retention took everything
            (10, answer(7, last_seq=7), []),  # a log that was set back
            (10, answer(11, last_seq=11, recovered=True), []),
            (None, answer(last_seq=7, recovered=True), []),
        ],
    )
    def test_what_must_be_paged_in(
        self, last_seq: int | None, subscribed: dict[str, Any], missing: list[int]
    ) -> None:
        assert list(ChannelProgress(last_seq).missing_before(subscribed)) == missing

    def test_a_log_that_ends_before_our_place_was_set_back(self) -> None:
        assert ChannelProgress(10).is_beyond(answer(last_seq=9))
        assert not ChannelProgress(10).is_beyond(answer(last_seq=10))
        assert not ChannelProgress(None).is_beyond(answer(last_seq=0))

    def test_skipping_tells_what_was_not_read(self) -> None:
        progress = ChannelProgress(5)
        assert list(progress.skip_to(8)) == [6, 7, 8]
        assert list(progress.skip_to(8)) == []
        assert list(ChannelProgress(None).skip_to(8)) == []


class TestDrains:
    def test_whoever_was_away_learns_what_became_of_the_drain(self) -> None:
        drains, one, two = Drains(), {"event_id": 1}, {"event_id": 2}
        assert drains.connected(None) == []
        assert drains.connected(one) == [{"type": "drain_started", "event_id": 1}]
        assert drains.connected(one) == [{"type": "drain_warning", "event_id": 1}]
        cancelled = {"type": "drain_cancelled", "event_id": 1}
        assert drains.connected(two) == [cancelled, {"type": "drain_started", "event_id": 2}]
        drains.heard({"type": "drain_cancelled", "event_id": 2})
        assert drains.connected(None) == []
        drains.heard({"type": "drain_started", "event_id": 3})
        assert drains.connected(None) == [{"type": "drain_cancelled", "event_id": 3}]

    def test_an_end_is_told_to_whoever_waits(self) -> None:
        async def scenario() -> None:
            drains = Drains()
            noted = drains.acknowledge(1)
            assert drains.acknowledge(1) is noted
            drains.acked(2)  # nobody asked
            drains.fail_all(OSError("gone"))
            with pytest.raises(OSError, match="gone"):
                await noted
            assert not drains
            assert drains.reconnected() == []

        run(scenario())


class TestOutbox:
    def test_unacknowledged_sends_go_out_again_in_their_order_and_under_their_ids(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            one, two = outbox.add(1, "one", "id-1"), outbox.add(1, "two", "id-2")
            outbox.add(1, "three", "id-3")
            outbox.acknowledged({"client_msg_id": "id-3", "seq": 7})
            again = outbox.reconnected()
            assert again == [one, two]
            assert '"client_msg_id": "id-1"' in again[0].frame
            outbox.acknowledged({"client_msg_id": "id-1", "seq": 8})
            outbox.acknowledged({"client_msg_id": "id-1", "seq": 8})  # a repeat's second ack
            assert (await one.outcome)["seq"] == 8
            assert outbox.reconnected() == [two]

        run(scenario())

    def test_the_same_message_twice_is_one_and_another_content_a_conflict(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            assert outbox.add(1, "one", "id") is outbox.add(1, "one", "id")
            with pytest.raises(SendRefused, match="conflict"):
                outbox.add(1, "two", "id")

        run(scenario())

    def test_what_passes_is_tried_again_later_and_what_does_not_is_told(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            one, two = outbox.add(1, "one", "id-1"), outbox.add(1, "two", "id-2")
            away = {"code": "unavailable", "message": "", "retry_after_seconds": 2}
            again = outbox.refused({"client_msg_id": "id-1", **away})
            assert again is not None
            assert again[0] is one
            assert again[1] >= 2
            limited = {"code": "rate_limited", "message": "slow", "retry_after_seconds": 9}
            assert outbox.refused({"client_msg_id": "id-2", **limited}) is None
            with pytest.raises(SendRefused) as refused:
                await two.outcome
            assert (refused.value.code, refused.value.retry_after_seconds) == ("rate_limited", 9)

        run(scenario())

    def test_an_internal_error_that_stays_is_told_in_the_end(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            pending = outbox.add(1, "one", "id")
            frame = {"client_msg_id": "id", "code": "internal_error", "message": "oh"}
            for _ in range(MAX_INTERNAL_ERRORS - 1):
                assert outbox.refused(frame) is not None
            assert outbox.refused(frame) is None
            with pytest.raises(SendRefused, match="internal_error"):
                await pending.outcome

        run(scenario())

    def test_what_the_server_closed_the_socket_on_is_not_sent_again(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            carried, not_yet = outbox.add(1, "long", "id-1"), outbox.add(1, "next", "id-2")
            carried.is_written = True
            outbox.blame_written("too_big", "")
            with pytest.raises(SendRefused, match="too_big"):
                await carried.outcome
            assert outbox.reconnected() == [not_yet]

        run(scenario())

    def test_of_several_the_one_that_the_socket_was_closed_on_is_found_out(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            short, long, never = (outbox.add(1, name, name) for name in ("short", "long", "never"))
            short.is_written = long.is_written = True
            outbox.blame_written("too_big", "")
            assert outbox.reconnected() == [short, long, never]
            assert [one.is_suspect for one in (short, long, never)] == [True, True, False]
            short.is_written = True
            outbox.acknowledged({"client_msg_id": "short", "seq": 7})
            assert short.answered.is_set()
            long.is_written = True
            outbox.blame_written("too_big", "")
            with pytest.raises(SendRefused, match="too_big"):
                await long.outcome
            assert outbox.reconnected() == [never]

        run(scenario())

    def test_whoever_waits_for_an_answer_is_woken_by_any_and_when_it_is_given_up(self) -> None:
        async def scenario() -> None:
            outbox = Outbox()
            away = {"code": "unavailable", "message": ""}
            later, given_up = outbox.add(1, "", "later"), outbox.add(1, "", "given up")
            later.is_written = True
            assert outbox.refused({"client_msg_id": "later", **away}) is not None
            outbox.forget(given_up)
            assert later.answered.is_set()
            assert given_up.answered.is_set()
            outbox.blame_written("too_big", "")  # an answer was given: it was not this one
            assert not later.is_suspect

        run(scenario())


class TestInbox:
    def test_events_come_in_order_and_the_end_comes_last_and_stays(self) -> None:
        async def scenario() -> None:
            inbox = Inbox(10, lambda: False)
            inbox.put({"type": "a"})
            inbox.put({"type": "b"})
            inbox.end(LookupError("over"))
            assert [(await inbox.get())["type"] for _ in range(2)] == ["a", "b"]
            for _ in range(2):
                with pytest.raises(LookupError):
                    await inbox.get()

        run(scenario())

    def test_a_full_inbox_makes_the_socket_wait_until_somebody_reads(self) -> None:
        async def scenario() -> None:
            inbox = Inbox(1, lambda: False)
            inbox.put({"type": "a"})
            waiting = asyncio.create_task(inbox.wait_for_room())
            await asyncio.sleep(0)
            assert not waiting.done()
            await inbox.get()
            await asyncio.wait_for(waiting, 5)

        run(scenario())

    def test_but_not_while_an_answer_is_awaited(self) -> None:
        async def scenario() -> None:
            awaited = False
            inbox = Inbox(1, lambda: awaited)
            inbox.put({"type": "a"})
            waiting = asyncio.create_task(inbox.wait_for_room())
            await asyncio.sleep(0)
            awaited = True
            inbox.nudge()
            await asyncio.wait_for(waiting, 5)

        run(scenario())


class TestPace:
    def test_after_a_burst_frames_keep_their_distance(self) -> None:
        pace = Pace(40)
        waits = [pace.take(100.0) for _ in range(120)]
        assert waits[:40] == pytest.approx([0.0] * 40)
        assert waits[40:] == pytest.approx([n / 40 for n in range(1, 81)])

    def test_a_pause_earns_one_burst_and_no_more(self) -> None:
        pace = Pace(10)
        assert pace.take(0.0) == 0
        waits = [pace.take(1000.0) for _ in range(12)]
        assert [wait > 0.001 for wait in waits] == [False] * 10 + [True] * 2

    def test_no_speed_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="above 0"):
            Pace(0)


class TestRest:
    @pytest.mark.parametrize(
        "received",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n" + b'{"a": 1}',
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b'4\r\n{"a"\r\n4\r\n: 1}\r\n0\r\n\r\n',
            b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        ],
    )
    def test_an_answer_however_framed(self, received: bytes) -> None:
        assert meaning(parse_answer("GET", received)) == {"a": 1}

    @pytest.mark.parametrize(
        "received",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\n{",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{",
        ],
    )
    def test_half_an_answer_is_none(self, received: bytes) -> None:
        with pytest.raises(ConnectionError):
            parse_answer("GET", received)

    def test_a_refusal_says_everything(self) -> None:
        body = (
            b'{"error": {"code": "rate_limited", "message": "Slow.",'
            b' "details": {"retry_after_seconds": 7}}}'
        )
        with pytest.raises(ApiError) as refused:
            meaning(Answer(429, body))
        error = refused.value
        assert (error.status, error.code, error.message) == (429, "rate_limited", "Slow.")
        assert error.retry_after_seconds == 7
        assert error.is_temporary

    @pytest.mark.parametrize(
        ("status", "body"),
        [(200, b"<html>log in</html>"), (200, b"[]"), (502, b"<h1>Bad gateway</h1>"), (302, b"{}")],
    )
    def test_what_is_not_gatehouses_may_pass(self, status: int, body: bytes) -> None:
        with pytest.raises(ApiError, match="unexpected_answer") as refused:
            meaning(Answer(status, body))
        assert refused.value.is_temporary

    def test_204_is_an_empty_object(self) -> None:
        assert meaning(parse_answer("POST", b"HTTP/1.1 204 No Content\r\n\r\n")) == {}

    def test_no_header_breaks_out_of_its_line(self) -> None:
        with pytest.raises(ValueError, match="control characters"):
            request_head("GET", "/", {"Authorization": "Bearer x\r\nX-Evil: 1"})

    @pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://example.org", "http://", ""])
    def test_what_is_no_address_of_an_api(self, address: str) -> None:
        with pytest.raises(ValueError, match="not an API address"):
            Rest(address, {})
