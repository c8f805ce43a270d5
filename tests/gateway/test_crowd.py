"""Two hundred in one channel, and one of them does not read."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.gateway.conftest import StartGateway
from tests.support.databases import Database
from tests.support.services import People
from tests.support.sockets import Sockets

CROWD = 200
LONG = "\u0dba" * 2000  # 6 KB in UTF-8
A_TIME = 25
MOST = 1500  # 9 MB: more than all buffers on the way of one socket hold
SEQ = re.compile(r'"seq":(\d+)')
MEGABYTE = 2**20


class Reader:
    """One that reads: it takes down the seqs and forgets the rest."""

    def __init__(self, connection: ClientConnection) -> None:
        self.seqs: list[int] = []
        self._connection = connection
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._connection:
            assert isinstance(message, str)
            if message.startswith('{"type":"message"'):
                found = SEQ.search(message)
                assert found is not None
                self.seqs.append(int(found[1]))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.seqs) < count:
                await asyncio.sleep(0.01)


def resident_bytes(pid: int) -> int:
    """Of a process, by the kernel's count."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def test_one_of_two_hundred_that_does_not_read_changes_nothing_for_the_others(
    database: Database, people: People, start_gateway: StartGateway, sockets: Sockets
) -> None:
    gateway, port = start_gateway(database, WS_SEND_BUFFER_BYTES="65536")
    ada = people.person("Ada")
    channel = people.channel(ada)

    async def enter(**options: object) -> ClientConnection:
        return await connect(
            f"ws://127.0.0.1:{port}/ws",
            subprotocols=[Subprotocol("gatehouse.v1"), Subprotocol(f"ticket.{people.ticket(ada)}")],
            compression=None,
            ping_interval=None,
            close_timeout=1,
            **options,  # type: ignore[arg-type]
        )

    async def subscribed(**options: object) -> ClientConnection:
        connection = await enter(**options)
        await connection.recv()
        await connection.send(f'{{"type":"subscribe","channel_id":{channel}}}')
        await connection.recv()
        return connection

    async def scenario() -> list[int]:
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        narrow.connect(("127.0.0.1", port))
        narrow.setblocking(False)
        stalled = await subscribed(sock=narrow, max_queue=1)
        open_sockets = [await subscribed() for _ in range(CROWD - 1)]
        readers = [Reader(connection) for connection in open_sockets]
        before = most = resident_bytes(gateway.pid)
        stored = 0
        while "slow_consumer" not in gateway.output or stored < 200:
            assert stored < MOST, "it is never cut off"
            await asyncio.to_thread(people.fill, ada, channel, A_TIME, LONG)
            stored += A_TIME
            for reader in readers:
                await reader.until(stored)
            most = max(most, resident_bytes(gateway.pid))
        for reader in readers:
            assert reader.seqs == list(range(1, stored + 1))
            reader.reading.cancel()
        growth = most - before
        seen = await everything(stalled)
        assert stalled.close_code == 4408
        await asyncio.gather(*(connection.close() for connection in (stalled, *open_sockets)))
        assert growth < 48 * MEGABYTE
        return [*seen, stored]

    *seen, stored = asyncio.run(scenario())
    assert seen == list(range(1, len(seen) + 1))
    # It comes back and resumes.
    people.fill(ada, channel, 1, "meanwhile")
    resumed = sockets.admitted(port, people.ticket(ada)).subscribe(channel, after_seq=seen[-1])
    assert resumed["last_seq"] == stored + 1
    assert resumed["entries"][-1]["content"] == "meanwhile"


async def everything(connection: ClientConnection) -> list[int]:
    """The seqs that it has got, to its end."""
    seqs = []
    try:
        while True:
            message = await asyncio.wait_for(connection.recv(), 15)
            assert isinstance(message, str)
            if message.startswith('{"type":"message"'):
                found = SEQ.search(message)
                assert found is not None
                seqs.append(int(found[1]))
    except ConnectionClosed:
        return seqs
