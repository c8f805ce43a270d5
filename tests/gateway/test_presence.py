"""How many sockets an account, an address and a process may have, over all instances."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import Processes, wait_until
from tests.support.services import People
from tests.support.stack import Gateway, Stack, open_socket, open_with, receive, run


@pytest.fixture
def stack(database: Database, processes: Processes) -> Stack:
    stack = Stack(database, processes)
    stack.start_api()
    return stack


async def closed_with(socket: ClientConnection) -> int | None:
    async with asyncio.timeout(10):
        await socket.wait_closed()
    return socket.close_code


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.connect() as owner:
        return owner.execute(query).fetchall()


class TestAnAccount:
    async def _fill(self, stack: Stack, count: int, maximum: int) -> list[ClientConnection]:
        gateways = [
            stack.start_gateway(WS_MAX_CONNECTIONS_PER_ACCOUNT=str(maximum)) for _ in range(2)
        ]
        ann = await stack.person()
        sockets = []
        for number in range(count):
            socket, frame = await open_socket(ann, gateways[number % 2])
            assert frame["type"] == "connected"
            sockets.append(socket)
        return sockets

    def test_a_newer_connection_takes_the_place_of_the_oldest_on_any_instance(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            sockets = await self._fill(stack, 5, maximum=3)
            assert (await receive(sockets[0]))["code"] == "replaced"
            assert [await closed_with(socket) for socket in sockets[:2]] == [4509, 4509]
            for socket in sockets[2:]:
                await socket.send('{"type":"ping"}')
                assert (await receive(socket))["type"] == "pong"

        run(scenario())

    def test_ten_at_once_on_two_instances_leave_exactly_the_maximum(
        self, stack: Stack, database: Database
    ) -> None:
        async def scenario() -> None:
            gateways = [stack.start_gateway(WS_MAX_CONNECTIONS_PER_ACCOUNT="3") for _ in range(2)]
            ann = await stack.person()
            opened = await asyncio.gather(
                *(open_socket(ann, gateways[number % 2]) for number in range(10))
            )
            wait_until(
                lambda: rows(database, "SELECT count(*) FROM gateway_connections") == [(3,)],
                "three rows are left",
            )
            closed = [socket for socket, _ in opened]
            async with asyncio.timeout(10):
                await asyncio.wait(
                    {asyncio.create_task(socket.wait_closed()) for socket in closed},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                while sum(socket.close_code == 4509 for socket in closed) < 7:
                    await asyncio.sleep(0.02)
            assert sum(socket.close_code is None for socket in closed) == 3

        run(scenario())

    def test_a_lost_notification_costs_only_time(self, stack: Stack, database: Database) -> None:
        async def scenario() -> None:
            [old] = await self._fill(stack, 1, maximum=3)
            with database.connect() as owner:
                owner.execute("DELETE FROM gateway_connections")
            assert await closed_with(old) == 4509

        run(scenario())

    def test_sockets_that_have_ended_do_not_count(self, stack: Stack, database: Database) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(WS_MAX_CONNECTIONS_PER_ACCOUNT="2")
            ann = await stack.person()
            stays, _ = await open_socket(ann, gateway)
            for _ in range(4):
                passing, frame = await open_socket(ann, gateway)
                assert frame["type"] == "connected"
                await passing.close()
                wait_until(
                    lambda: rows(database, "SELECT count(*) FROM gateway_connections") == [(1,)],
                    "the ended socket is struck out",
                )
            await stays.send('{"type":"ping"}')
            assert (await receive(stays))["type"] == "pong"

        run(scenario())

    def test_a_socket_that_has_ended_is_struck_out_without_waiting_for_a_heartbeat(
        self, stack: Stack, database: Database
    ) -> None:
        with database.connect() as owner:  # a heartbeat that repairs nothing
            owner.execute(
                """
                CREATE OR REPLACE FUNCTION report_presence(
                    p_instance_id text, p_connection_ids bigint[], p_session_ids bigint[],
                    p_user_ids bigint[], p_newest_id bigint
                ) RETURNS TABLE (connection_id bigint) LANGUAGE sql SECURITY DEFINER
                SET search_path = pg_catalog, public, pg_temp
                AS $$
                    INSERT INTO gateway_instances (id) VALUES (p_instance_id)
                    ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp();
                    SELECT NULL::bigint WHERE false
                $$
                """
            )

        async def scenario() -> None:
            gateway = stack.start_gateway()
            ann = await stack.person()
            passing, _ = await open_socket(ann, gateway)
            assert rows(database, "SELECT user_id FROM gateway_connections") == [(ann.user_id,)]
            await passing.close()
            wait_until(
                lambda: rows(database, "SELECT user_id FROM gateway_connections") == [],
                "the ended socket is struck out",
            )

        run(scenario())

    def test_sockets_of_a_killed_gateway_do_not_count_for_long(
        self, stack: Stack, database: Database
    ) -> None:
        async def scenario() -> None:
            killed = stack.start_gateway()
            gateway = stack.start_gateway()
            ann = await stack.person()
            await open_socket(ann, killed)
            killed.process.kill()
            with database.connect() as owner:  # as if fifteen seconds had passed
                owner.execute(
                    "UPDATE gateway_instances SET heartbeat_at = now() - interval '16 s'"
                    " WHERE id = (SELECT instance_id FROM gateway_connections)"
                )
                left = owner.execute("SELECT count(*) FROM present_connections").fetchall()
            assert left == [(0,)]
            _, frame = await open_socket(ann, gateway)
            assert frame["type"] == "connected"

        run(scenario())

    def test_an_instance_that_was_taken_for_dead_writes_itself_down_again(
        self, stack: Stack, database: Database
    ) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway()
            ann = await stack.person()
            socket, _ = await open_socket(ann, gateway)
            with database.connect() as owner:
                owner.execute("DELETE FROM gateway_instances")
            wait_until(
                lambda: (
                    rows(database, "SELECT user_id FROM gateway_connections") == [(ann.user_id,)]
                ),
                "the socket is written down again",
            )
            await socket.send('{"type":"ping"}')
            assert (await receive(socket))["type"] == "pong"

        run(scenario())

    def test_a_stopped_gateway_leaves_no_row(self, stack: Stack, database: Database) -> None:
        gateway = stack.start_gateway()
        assert len(rows(database, "SELECT id FROM gateway_instances")) == 1
        assert gateway.process.stop() == 0
        assert rows(database, "SELECT id FROM gateway_instances") == []


class TestAnAddress:
    def test_one_address_has_a_bounded_number_of_sockets(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(WS_MAX_CONNECTIONS_PER_IP="2", TRUSTED_PROXY_HOPS="1")
            ann = await stack.person()

            async def attempt(address: str) -> str:
                headers = {"X-Forwarded-For": address}
                _, frame = await open_socket(ann, gateway, additional_headers=headers)
                return str(frame["type"])

            assert await attempt("198.51.100.1") == "connected"
            assert await attempt("198.51.100.1") == "connected"
            with pytest.raises(InvalidStatus) as refused:
                await attempt("198.51.100.1")
            assert refused.value.response.status_code == 429
            assert refused.value.response.headers["Retry-After"] == "30"
            assert await attempt("198.51.100.2") == "connected"

        run(scenario())

    def test_made_up_tickets_lock_their_address_out_and_used_ones_do_not(
        self, stack: Stack
    ) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(
                AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="3", TRUSTED_PROXY_HOPS="1"
            )
            ann = await stack.person()
            used = (await ann.client.ticket()).subprotocols
            attacker = {"X-Forwarded-For": "203.0.113.5"}
            await open_with(gateway, used)
            for _ in range(6):
                _, frame = await open_with(gateway, used, additional_headers=attacker)
                assert frame["code"] == "ticket_invalid"
            made_up = ["gatehouse.v1", "ticket." + "A" * 43]
            for _ in range(3):
                _, frame = await open_with(gateway, made_up, additional_headers=attacker)
                assert frame["code"] == "ticket_invalid"
            assert await self._until_refused(gateway, made_up, attacker) == 429
            _, frame = await open_socket(ann, gateway)
            assert frame["type"] == "connected"

        run(scenario())

    def test_a_lockout_by_the_api_is_known_at_once_to_a_gateway(
        self, database: Database, processes: Processes
    ) -> None:
        stack = Stack(database, processes)
        stack.start_api(AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP="3", TRUSTED_PROXY_HOPS="1")
        api = Http(stack.api_port)
        gateway = Http(stack.start_gateway(TRUSTED_PROXY_HOPS="1").port)

        def is_refused(address: str) -> bool:
            answer = gateway.get("/ws", headers={"X-Forwarded-For": address})
            return answer.status == 429

        # One that nobody was told of: when it is known, the next look is two seconds away.
        with database.connect() as owner:
            owner.execute(
                "INSERT INTO rate_limits"
                " (key, window_seconds, slice, reserved, failures, locked_until, touched_at)"
                " VALUES ('login:ip:198.51.100.1', 60, 0, '{}', '{}',"
                " now() + interval '1 hour', now())"
            )
        wait_until(lambda: is_refused("198.51.100.1"), "the sweep finds it")
        guess = {"email": "nobody@example.org", "password": "a wrong guess"}
        for _ in range(3):
            assert not is_refused("203.0.113.5")
            api.post("/auth/login", guess, headers={"X-Forwarded-For": "203.0.113.5"})
        wait_until(lambda: is_refused("203.0.113.5"), "the gateway knows it", 1.0)

    async def _until_refused(
        self, gateway: Gateway, subprotocols: list[str], headers: dict[str, str]
    ) -> int:
        """The bad tickets are written down a moment after they were answered."""
        async with asyncio.timeout(10):
            while True:
                try:
                    await open_with(gateway, subprotocols, additional_headers=headers)
                except InvalidStatus as refused:
                    return refused.response.status_code


class TestAProcess:
    def test_a_full_gateway_refuses_in_the_handshake(self, stack: Stack) -> None:
        async def scenario() -> None:
            gateway = stack.start_gateway(WS_MAX_CONNECTIONS="1")
            ann = await stack.person()
            first, _ = await open_socket(ann, gateway)
            with pytest.raises(InvalidStatus) as refused:
                await open_socket(ann, gateway)
            assert refused.value.response.status_code == 503
            await first.close()
            async with asyncio.timeout(10):
                while True:
                    try:
                        _, frame = await open_socket(ann, gateway)
                        break
                    except InvalidStatus:
                        continue
            assert frame["type"] == "connected"

        run(scenario())

    def test_workers_end_with_the_process_that_watches_over_them(self, stack: Stack) -> None:
        gateway = stack.start_gateway(WS_PROCESSES="2")
        for _ in range(2):
            gateway.process.wait_for_line("serving on")
        gateway.process.kill()
        # Both write to the pipe that we read, and it ends with the last of them.
        gateway.process.wait_for_line("the process that watched over this one is gone")
        wait_until(lambda: not gateway.process._reader.is_alive(), "the workers are gone", 20)


def test_two_connections_of_an_instance_may_be_the_first_at_once(
    database: Database, people: People
) -> None:
    """As at a start: the gateway reports, and its listener too."""
    report = "SELECT report_presence('the-same', '{}', '{}', '{}', 0)"
    with (
        database.connect("gateway") as one,
        database.connect("gateway") as other,
        ThreadPoolExecutor(1) as threads,
    ):
        with one.transaction():
            one.execute(report)
            second = threads.submit(other.execute, report)
            wait_until(lambda: people.waiting() == 1, "the other waits for the first")
        second.result()
    assert people.one("SELECT count(*) FROM gateway_instances WHERE id = 'the-same'") == 1
