"""Both services on one database, as processes, and people who use them."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from gatehouse_client import Client
from tests.support.databases import Database
from tests.support.ports import free_port
from tests.support.processes import Processes, ServiceProcess

JWT_SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"
PASSWORD = "a horse of another colour"
GLOBAL = 1
_people = itertools.count(1)

# Wide, so that a test meets only the limits that it is about.
WIDE = {
    "AUTH_SCRYPT_LOG2_N": "4",
    "AUTH_REGISTRATIONS_PER_IP_PER_HOUR": "10000",
    "AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_IP": "10000",
    "AUTH_TICKETS_PER_SESSION_PER_MINUTE": "10000",
    "AUTH_REFRESHES_PER_SESSION_PER_MINUTE": "10000",
}


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is logged in."""

    client: Client
    user_id: int
    session_id: int


@dataclass(frozen=True, slots=True)
class Gateway:
    process: ServiceProcess
    port: int

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"


class Stack:
    """An API and any number of gateways, started when they are wanted."""

    def __init__(self, database: Database, processes: Processes) -> None:
        self.database = database
        self._processes = processes
        self.api_port = 0

    def start_api(self, **settings: str) -> ServiceProcess:
        environment = {
            **self.database.environment("api"),
            **WIDE,
            "JWT_SECRET": JWT_SECRET,
            **settings,
        }
        process, self.api_port = self._processes.start_service(
            "api", environment, self.api_port or None
        )
        return process

    def start_gateway(self, port: int | None = None, **settings: str) -> Gateway:
        environment = {**self.database.environment("gateway"), **WIDE, **settings}
        process, port = self._processes.start_service("wsgateway", environment, port)
        return Gateway(process, port)

    def start_gateway_unready(self, **settings: str) -> Gateway:
        """Does not wait until it is ready."""
        port = free_port()
        environment = {
            **self.database.environment("gateway"),
            **WIDE,
            "HOST": "127.0.0.1",
            "PORT": str(port),
            **settings,
        }
        return Gateway(self._processes.start_module("wsgateway", environment), port)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def client(self, gateway: Gateway | None = None) -> Client:
        return Client(self.api_url, websocket_url=gateway.url if gateway else None)

    async def person(self, name: str = "Ann", gateway: Gateway | None = None) -> Person:
        """A new account, logged in."""
        client = self.client(gateway)
        email = f"{name.lower()}-{next(_people)}@example.org"
        session = await client.register(email, PASSWORD, name)
        return Person(client, session["user"]["id"], session["session_id"])


_opened: list[ClientConnection] = []


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs an asynchronous test and closes, at its end, every socket that it opened."""

    async def run_and_close() -> None:
        try:
            await scenario
        finally:
            while _opened:
                await _opened.pop().close()

    asyncio.run(run_and_close())


async def open_socket(
    person: Person, gateway: Gateway, **options: Any
) -> tuple[ClientConnection, dict[str, Any]]:
    """A socket of the person, and its `connected` frame (or what came instead)."""
    ticket = await person.client.ticket()
    return await open_with(gateway, ticket.subprotocols, **options)


async def open_with(
    gateway: Gateway, subprotocols: list[str], **options: Any
) -> tuple[ClientConnection, dict[str, Any]]:
    offered = [Subprotocol(name) for name in subprotocols]
    socket = await connect(
        gateway.url, subprotocols=offered, compression=None, close_timeout=2, **options
    )
    _opened.append(socket)
    return socket, await receive(socket)


async def receive(socket: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next frame; with `kinds` the next one of those, passing over others."""
    while True:
        frame: dict[str, Any] = json.loads(await socket.recv())
        if not kinds or frame["type"] in kinds:
            return frame


async def transmit(socket: ClientConnection, frame: Mapping[str, Any]) -> None:
    await socket.send(json.dumps(frame))


async def ask(socket: ClientConnection, frame: Mapping[str, Any], *kinds: str) -> dict[str, Any]:
    await transmit(socket, frame)
    return await receive(socket, *kinds)
