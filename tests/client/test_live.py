"""The client library against both services: it comes back, resumes, and loses no send."""

from __future__ import annotations

import asyncio

import pytest

from gatehouse_client import ApiError, Live, LiveEnded, SendRefused
from rules.access_tokens import AccessTokens
from tests.support.databases import Database
from tests.support.processes import Processes
from tests.support.stack import GLOBAL, JWT_SECRET, PASSWORD, Stack, run


@pytest.fixture
def stack(database: Database, processes: Processes) -> Stack:
    stack = Stack(database, processes)
    stack.start_api()
    return stack


async def contents(live: Live, count: int) -> list[str]:
    """The contents of the next `count` messages."""
    found: list[str] = []
    async with asyncio.timeout(30):
        async for event in live:
            if event["type"] == "message":
                found.append(event["content"])
                if len(found) == count:
                    break
    return found


async def ended(live: Live) -> LiveEnded:
    async with asyncio.timeout(30):
        with pytest.raises(LiveEnded) as end:
            async for _ in live:
                pass
    return end.value


class TestTalking:
    def test_two_people_on_two_gateways(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            bob = await stack.person("Bob", stack.start_gateway())
            async with ann.client.live() as hers, bob.client.live() as his:
                await hers.subscribe(GLOBAL, after_seq=0)
                await his.subscribe(GLOBAL, after_seq=0)
                ack = await hers.send(GLOBAL, "hello")
                assert (ack["seq"], ack["duplicate"]) == (1, False)
                await his.send(GLOBAL, "hello yourself")
                assert await contents(hers, 2) == ["hello", "hello yourself"]
                assert await contents(his, 2) == ["hello", "hello yourself"]

        run(scenario())

    def test_a_channel_that_is_not_ours_is_refused(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            async with ann.client.live() as live:
                with pytest.raises(SendRefused, match="not_found"):
                    await live.subscribe(999)
                with pytest.raises(SendRefused, match="not_found"):
                    await live.send(999, "hello")

        run(scenario())


class TestComingBack:
    def test_a_killed_gateway_costs_no_message_and_doubles_none(self, stack: Stack) -> None:
        async def scenario() -> None:
            first = stack.start_gateway()
            ann = await stack.person("Ann", first)
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=0)
                await live.send(GLOBAL, "before")
                first.process.kill()
                sending = asyncio.create_task(live.send(GLOBAL, "during"))
                await ann.client.post(GLOBAL, "by http")
                stack.start_gateway(first.port)
                ack = await sending
                assert ack["duplicate"] is False
                assert sorted(await contents(live, 3)) == ["before", "by http", "during"]

        run(scenario())

    def test_more_than_the_socket_gives_back_is_paged_in(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(CHAT_RECOVERY_MAX_MESSAGES="5")
            ann = await stack.person("Ann", gateway)
            for number in range(12):
                await ann.client.post(GLOBAL, str(number))
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=2)
                await live.send(GLOBAL, "12")
                assert await contents(live, 11) == [str(number) for number in range(2, 13)]

        run(scenario())

    def test_an_expired_access_token_is_refreshed(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann")
            with stack.database.connect() as owner:
                before = owner.execute("SELECT count(*) FROM refresh_tokens").fetchall()
                # The database's clock cannot be moved, so a token that has expired is forged.
                ann.client._access_token = expired_token(ann.user_id, ann.session_id)
                me, channels = await asyncio.gather(ann.client.me(), ann.client.channels())
                after = owner.execute("SELECT count(*) FROM refresh_tokens").fetchall()
            assert me["user"]["id"] == ann.user_id
            assert channels[0]["name"] == "Global"
            assert (before, after) == ([(1,)], [(2,)])  # one refresh for both calls

        run(scenario())


class TestTheEnd:
    def test_a_logout_elsewhere_is_told(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL)
                await ann.client.logout()
                end = await ended(live)
                assert (end.code, end.reason) == (4501, "session_revoked")
                with pytest.raises(LiveEnded):
                    await live.send(GLOBAL, "too late")

        run(scenario())

    def test_a_wrong_password_is_an_api_error(self, stack: Stack) -> None:
        async def scenario() -> None:
            with pytest.raises(ApiError) as refused:
                await stack.client().login("nobody@example.org", PASSWORD)
            assert (refused.value.status, refused.value.code) == (401, "invalid_credentials")

        run(scenario())


def expired_token(user_id: int, session_id: int) -> str:
    tokens = AccessTokens([JWT_SECRET.encode()], "gatehouse", "gatehouse-client", 900)
    return tokens.issue(user_id=user_id, session_id=session_id, now=1_000_000)
