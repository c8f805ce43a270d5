"""Limits on writing, as clients meet them: one limit for the socket, HTTP and every instance."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from gatehouse_client import ApiError
from tests.support.databases import Database
from tests.support.processes import Processes, wait_until
from tests.support.stack import GLOBAL, Stack, ask, open_socket, receive, run, transmit


@pytest.fixture
def stack(database: Database, processes: Processes) -> Stack:
    stack = Stack(database, processes)
    stack.start_api()
    return stack


def send(content: str = "hi") -> dict[str, object]:
    return {
        "type": "send",
        "channel_id": GLOBAL,
        "client_msg_id": str(uuid.uuid4()),
        "content": content,
    }


class TestTheDefaults:
    def test_the_31st_message_in_ten_seconds_is_refused_wherever_it_is_sent(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            one, other = stack.start_gateway(), stack.start_gateway()
            ann = await stack.person()
            here, _ = await open_socket(ann, one)
            there, _ = await open_socket(ann, other)
            for _ in range(10):
                assert (await ask(here, send(), "ack", "error"))["type"] == "ack"
                assert (await ask(there, send(), "ack", "error"))["type"] == "ack"
                await ann.client.post(GLOBAL, "hi")
            message = send()
            refused = await ask(here, message, "ack", "error")
            assert refused["code"] == "rate_limited"
            assert refused["client_msg_id"] == message["client_msg_id"]
            assert refused["retry_after_seconds"] == 30
            with pytest.raises(ApiError) as by_http:
                await ann.client.post(GLOBAL, "hi")
            assert (by_http.value.status, by_http.value.code) == (429, "rate_limited")
            assert by_http.value.retry_after_seconds in (29, 30)

        run(scenario())


class TestGoingOn:
    def test_three_messages_after_a_second_of_lockout_end_the_socket(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="1")
            ann = await stack.person()
            socket, _ = await open_socket(ann, gateway)
            first = send()
            assert (await ask(socket, first, "ack", "error"))["type"] == "ack"
            for _ in range(5):  # at once: nobody's fault
                assert (await ask(socket, send(), "error"))["code"] == "rate_limited"
            # Being told starts the second; what is sent after it counts, three times.
            await asyncio.sleep(1.2)
            for _ in range(3):
                await transmit(socket, send())
            async with asyncio.timeout(20):
                await socket.wait_closed()
            assert socket.close_code == 4429
            again, _ = await open_socket(ann, gateway)
            assert (await ask(again, first, "ack", "error"))["duplicate"] is True
            assert (await ask(again, send(), "ack", "error"))["code"] == "rate_limited"

        run(scenario())

    def test_the_neighbours_of_a_flooding_address_are_refused_and_never_sent_away(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(
                CHAT_WRITE_RATE_LIMIT_MAX_PER_IP="2", CHAT_WRITE_RATE_LIMIT_WINDOW_SECONDS="60"
            )
            ann, bob = await stack.person(), await stack.person()
            flooding, _ = await open_socket(ann, gateway)
            beside, _ = await open_socket(bob, gateway)
            for _ in range(2):
                assert (await ask(flooding, send(), "ack", "error"))["type"] == "ack"
            assert (await ask(beside, send(), "error"))["code"] == "rate_limited"
            await asyncio.sleep(1.2)
            for _ in range(4):
                assert (await ask(beside, send(), "error"))["code"] == "rate_limited"
            assert (await ask(beside, {"type": "ping"}, "pong"))["type"] == "pong"

        run(scenario())


class TestTheEvent:
    @pytest.mark.parametrize("by_http", [False, True])
    def test_a_lockout_is_written_down_once_with_whose_it_is(
        self, database: Database, processes: Processes, by_http: bool
    ) -> None:
        stack = Stack(database, processes)
        stack.start_api(CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="2")

        async def scenario() -> None:
            ann = await stack.person()
            if by_http:
                await ann.client.post(GLOBAL, "hi")
                await ann.client.post(GLOBAL, "hi")
                for _ in range(3):
                    with pytest.raises(ApiError):
                        await ann.client.post(GLOBAL, "hi")
            else:
                gateway = stack.start_gateway(CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="2")
                socket, _ = await open_socket(ann, gateway)
                for _ in range(7):
                    await transmit(socket, send())
                for _ in range(5):
                    assert (await receive(socket, "error"))["code"] == "rate_limited"
            told = {"what": "chat", "seconds": 30}
            whose = (ann.user_id, ann.session_id, "127.0.0.1", True, told)
            wait_until(lambda: limit_events(database) != [], "the event is written")
            assert limit_events(database) == [whose]

        run(scenario())


def limit_events(database: Database) -> list[tuple[object, ...]]:
    with database.connect() as owner:
        return owner.execute(
            "SELECT user_id, session_id, host(ip), request_id <> '', details FROM security_events"
            " WHERE event = 'excess_rate_limit_exceeded'"
        ).fetchall()
