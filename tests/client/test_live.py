"""The client library against both services: it comes back, resumes, and loses no send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused
from rules.access_tokens import AccessTokens
from tests.scenario.scripted_gateway import ScriptedGateway
from tests.support.databases import Database
from tests.support.lossy_proxy import LossyProxy
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


async def next_event(live: Live, *kinds: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        async for event in live:
            if event["type"] in kinds:
                return event
    raise AssertionError("the events ended")


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

    def test_a_message_too_long_for_a_frame_is_refused_and_the_next_one_goes(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            async with ann.client.live() as live, asyncio.timeout(30):
                await live.subscribe(GLOBAL)
                with pytest.raises(SendRefused, match="too_big"):
                    await live.send(GLOBAL, "x" * 60_000)
                assert (await live.send(GLOBAL, "shorter"))["seq"] == 1

        run(scenario())

    def test_many_sends_at_once_are_no_flood(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(
                WS_MAX_FRAMES_PER_SECOND="10",
                CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="10000",
                CHAT_WRITE_RATE_LIMIT_MAX_PER_IP="10000",
            )
            ann = await stack.person("Ann", gateway)
            async with ann.client.live(frames_per_second=9) as live, asyncio.timeout(60):
                await live.subscribe(GLOBAL)
                acks = await asyncio.gather(*(live.send(GLOBAL, str(n)) for n in range(45)))
                assert [ack["seq"] for ack in acks] == list(range(1, 46))
                events = [await anext(live) for _ in range(46)]
            assert [event["type"] for event in events] == ["online"] + ["message"] * 45

        run(scenario())

    def test_somebody_who_does_not_read_gets_everything_later(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            bob = await stack.person("Bob")
            async with ann.client.live(max_events=3) as live:
                await live.subscribe(GLOBAL, after_seq=0)
                for number in range(25):
                    await bob.client.post(GLOBAL, str(number))
                await live.send(GLOBAL, "25")  # the inbox is full, and yet the ack arrives
                assert await contents(live, 26) == [str(number) for number in range(26)]

        run(scenario())

    def test_somebody_who_does_not_read_is_not_connected_again_and_again(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            with ScriptedGateway() as gateway:
                client = Client(stack.api_url, websocket_url=gateway.url_of(1012))
                await client.register("ann@example.org", PASSWORD, "Ann")
                async with client.live(max_events=2) as live:  # online, offline: full
                    await asyncio.sleep(2)  # far longer than the first pause
                    assert gateway.visits[1012] == 1
                    for kind in ("online", "offline", "online"):
                        assert (await anext(live))["type"] == kind
                assert gateway.visits[1012] == 2

        run(scenario())

    def test_typing_and_removal_are_events(self, stack: Stack, database: Database) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway()
            ann, bob = await stack.person("Ann", gateway), await stack.person("Bob", gateway)
            with database.connect() as owner:
                row = owner.execute(
                    "INSERT INTO chat_channels (kind) VALUES ('group') RETURNING id"
                ).fetchone()
                assert row is not None
                owner.execute(
                    "INSERT INTO chat_members (channel_id, user_id) SELECT %s, id FROM users", row
                )
                async with ann.client.live() as hers, bob.client.live() as his:
                    await hers.subscribe(row[0])
                    await his.subscribe(row[0])
                    his.typing(row[0])
                    event = await next_event(hers, "typing", "message")
                    assert (event["type"], event["channel_id"]) == ("typing", row[0])
                    owner.execute(
                        "DELETE FROM chat_members WHERE user_id = %s", (event["user_id"],)
                    )
                    event = await next_event(his, "removed", "message")
                    assert event == {"type": "removed", "channel_id": row[0]}
                    with pytest.raises(SendRefused, match="not_found"):
                        await his.subscribe(row[0])

        run(scenario())

    def test_somebody_who_wants_nothing_stays_connected(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway(WS_FIRST_FRAME_SECONDS="1"))
            async with ann.client.live() as live:
                assert (await next_event(live, "online", "offline"))["type"] == "online"
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(live), 1.5)

        run(scenario())

    def test_a_channel_that_was_left_is_silent(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL)
                await live.unsubscribe(GLOBAL)
                await live.send(GLOBAL, "not for me")
                subscription = await live.subscribe(GLOBAL)
                assert subscription.last_seq == 1
                await live.send(GLOBAL, "for me")
                assert await contents(live, 1) == ["for me"]

        run(scenario())


class TestChannels:
    def test_a_group_from_its_making_to_the_owners_leaving(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            bob = await stack.person("Bob", stack.start_gateway())
            group = await ann.client.create_group("Friends & foes")
            channel_id = group["id"]
            assert (group["name"], group["role"]) == ("Friends & foes", "owner")
            assert (await ann.client.add_member(channel_id, bob.user_id))["role"] == "member"
            async with bob.client.live() as his:
                await his.subscribe(channel_id, after_seq=0)
                stored = await ann.client.post(channel_id, "regretted")
                await ann.client.erase(channel_id, stored["seq"])
                await ann.client.remove_member(channel_id, ann.user_id)
                left = await next_event(his, "left")
                assert left["user_id"] == ann.user_id
                [owner] = await bob.client.members(channel_id)
                assert (owner["user_id"], owner["role"]) == (bob.user_id, "owner")
                log = (await bob.client.history(channel_id))["entries"]
                kinds = [entry["type"] for entry in log]
                assert kinds == ["joined", "joined", "message", "deleted", "left"]
                assert log[2]["content"] is None
            assert [channel["id"] for channel in await ann.client.channels()] == [GLOBAL]
            with pytest.raises(ApiError, match="not_found"):
                await ann.client.members(channel_id)

        run(scenario())

    def test_somebody_is_found_by_name_and_written_to(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann, bob = await stack.person("Ann"), await stack.person("Bob")
            name = "Bob & Co. #1 \u00e4"  # what has a meaning in a URL
            renamed = await bob.client.rename(name)
            assert renamed["display_name"] == name
            assert bob.client.user == renamed
            found = await ann.client.people(name)
            assert found == [{"id": bob.user_id, "display_name": name}]
            assert await ann.client.person(bob.user_id) == found[0]
            assert await ann.client.people("Bob") == []
            hers = await ann.client.direct(bob.user_id)
            his = await bob.client.direct(ann.user_id)
            assert (his["id"], hers["peer"]) == (hers["id"], found[0])

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

    def test_pages_may_be_as_small_as_the_server_likes(
        self, database: Database, processes: Processes
    ) -> None:
        async def scenario() -> None:
            stack = Stack(database, processes)
            stack.start_api(CHAT_HISTORY_PAGE_MAX="3")
            gateway = stack.start_gateway(CHAT_RECOVERY_MAX_MESSAGES="5")
            ann = await stack.person("Ann", gateway)
            for number in range(12):
                await ann.client.post(GLOBAL, str(number))
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=0)
                assert await contents(live, 12) == [str(number) for number in range(12)]

        run(scenario())

    def test_what_retention_has_taken_is_told(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            for number in range(1, 6):
                await ann.client.post(GLOBAL, str(number))
            with stack.database.connect() as owner:
                owner.execute("DELETE FROM chat_messages WHERE seq <= 3")
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=1)
                missed = await next_event(live, "missed", "message")
                assert (missed["first_seq"], missed["last_seq"]) == (2, 3)
                assert await contents(live, 2) == ["4", "5"]

        run(scenario())

    def test_a_log_that_was_set_back_is_told(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            await ann.client.post(GLOBAL, "1")
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=50)  # seen before the restore
                rewound = await next_event(live, "rewound", "message")
                assert rewound["last_seq"] == 1
                await live.send(GLOBAL, "2")
                assert await contents(live, 2) == ["1", "2"]

        run(scenario())

    def test_a_send_that_was_given_up_does_not_go_out_later(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway()
            ann = await stack.person("Ann", gateway)
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL, after_seq=0)
                gateway.process.kill()
                await next_event(live, "offline")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await live.send(GLOBAL, "too late by then")
                stack.start_gateway(gateway.port)
                await live.send(GLOBAL, "the only one")
                assert await contents(live, 1) == ["the only one"]

        run(scenario())

    def test_an_api_that_is_away_as_well_is_waited_for(
        self, database: Database, processes: Processes
    ) -> None:
        async def scenario() -> None:
            stack = Stack(database, processes)
            api, gateway = stack.start_api(), stack.start_gateway()
            ann = await stack.person("Ann", gateway)
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL)
                api.kill()
                gateway.process.kill()
                sending = asyncio.create_task(live.send(GLOBAL, "after all that"))
                while "API" not in (await next_event(live, "offline"))["reason"]:
                    pass
                stack.start_gateway(gateway.port)
                stack.start_api()
                assert (await sending)["seq"] == 1
                assert await contents(live, 1) == ["after all that"]

        run(scenario())

    def test_a_refresh_whose_answer_got_lost_is_asked_again(self, stack: Stack) -> None:
        async def scenario() -> None:
            sessions: list[dict[str, Any] | None] = []
            async with LossyProxy(stack.api_port, b"POST /auth/refresh ") as proxy:
                client = Client(f"http://127.0.0.1:{proxy.port}", on_session=sessions.append)
                await client.register("ann@example.org", PASSWORD, "Ann")
                await client.refresh()
                assert proxy.lost == 1
                me = await client.me()
                assert me["user"]["display_name"] == "Ann"
            first, second = sessions
            assert first is not None
            assert second is not None
            assert first["refresh_token"] != second["refresh_token"]
            assert first["session_id"] == second["session_id"]

        run(scenario())

    def test_a_refresh_runs_to_its_end_whoever_gives_up_waiting(self, stack: Stack) -> None:
        async def scenario() -> None:
            sessions: list[dict[str, Any] | None] = []
            async with LossyProxy(stack.api_port, b"POST /auth/refresh ") as proxy:
                address = f"http://127.0.0.1:{proxy.port}"
                async with Client(address, on_session=sessions.append) as client:
                    await client.register("ann@example.org", PASSWORD, "Ann")
                    refreshing = asyncio.create_task(client.refresh())
                    async with asyncio.timeout(10):
                        while not proxy.lost:  # the server has spent the token, and we do not know
                            await asyncio.sleep(0.005)
                    refreshing.cancel()
                assert len(sessions) == 2
                assert refreshing.cancelled()
                await client.refresh()
            assert [session and session["session_id"] for session in sessions] == [1, 1, 1]

        run(scenario())

    def test_a_stored_refresh_token_is_a_login(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann")
            token = ann.client._refresh_token
            later = stack.client()
            session = await later.refresh(token)
            assert session["session_id"] == ann.session_id
            assert (await later.me())["user"]["id"] == ann.user_id

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

    @pytest.mark.parametrize("is_expired", [False, True], ids=["revoked", "revoked and expired"])
    def test_a_session_that_ended_meanwhile_is_told(self, stack: Stack, is_expired: bool) -> None:
        async def scenario() -> None:
            sessions: list[dict[str, Any] | None] = []
            client = Client(stack.api_url, on_session=sessions.append)
            session = await client.register("ann@example.org", PASSWORD, "Ann")
            with stack.database.connect() as owner:
                owner.execute("UPDATE user_sessions SET revoked_at = now()")
            if is_expired:
                client._access_token = expired_token(session["user"]["id"], session["session_id"])
            async with client.live() as live:
                end = await ended(live)
                assert (end.code, end.reason) == (None, "session_revoked")
            assert sessions[-1] is None  # what the app has stored is good for nothing now

        run(scenario())

    @pytest.mark.parametrize("address", ["ws://127.0.0.1:{port}/wrong", "not an address"])
    def test_an_address_that_cannot_be_right_is_told(self, stack: Stack, address: str) -> None:
        async def scenario() -> None:
            url = address.format(port=stack.start_gateway().port)
            client = Client(stack.api_url, websocket_url=url)
            await client.register("ann@example.org", PASSWORD, "Ann")
            async with client.live() as live, asyncio.timeout(30):
                with pytest.raises(LiveEnded, match=r"handshake: HTTP 404|not a websocket address"):
                    await live.subscribe(GLOBAL)

        run(scenario())

    def test_closing_it_here_ends_the_events_and_fails_what_waits(self, stack: Stack) -> None:
        async def scenario() -> None:
            ann = await stack.person("Ann", stack.start_gateway())
            async with ann.client.live() as live:
                await live.subscribe(GLOBAL)
                await live.send(GLOBAL, "hello")
                assert await contents(live, 1) == ["hello"]
            assert [event async for event in live] == []
            with pytest.raises(LiveEnded, match="closed here"):
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
