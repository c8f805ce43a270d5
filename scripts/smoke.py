"""The main job, step by step, against any deployment: scripts/smoke API_URL WS_URL

Registers a new account, walks it through everything and logs it out; each step is checked and its
time printed. Exit code 0 only when every step holds. The account stays, since none can be removed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
import uuid
from collections.abc import Awaitable
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from gatehouse_client.errors import ApiError
from gatehouse_client.rest import Rest

T = TypeVar("T")

STEP_SECONDS = 15.0
GLOBAL = 1


class StepFailed(Exception):
    """A step did something else than it should; the message says what."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: scripts/smoke API_URL WS_URL", file=sys.stderr)
        return 2
    walk = Walk(arguments[0], arguments[1])
    try:
        asyncio.run(walk.run())
    except (StepFailed, ApiError, OSError, TimeoutError, WebSocketException) as error:
        what = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        print(f"FAILED  {walk.step_name}: {what or type(error).__name__}", flush=True)
        return 1
    print(f"all steps passed in {walk.total_ms:.0f} ms")
    return 0


class Walk:
    def __init__(self, api_url: str, ws_url: str) -> None:
        self._rest = Rest(api_url, {"User-Agent": "gatehouse-smoke"})
        self._ws_url = ws_url
        self.step_name = "start"
        self.total_ms = 0.0

    async def run(self) -> None:
        email = f"smoke-{secrets.token_hex(8)}@example.org"
        password = secrets.token_urlsafe(18)
        content = f"smoke {secrets.token_hex(8)}"
        credentials = {"email": email, "password": password}

        await self._step("register", self._register(credentials))
        session = await self._step("login", self._call("POST", "/auth/login", credentials))
        refreshed = await self._step(
            "refresh",
            self._call("POST", "/auth/refresh", {"refresh_token": session["refresh_token"]}),
        )
        _expect(refreshed["refresh_token"] != session["refresh_token"], "the refresh token stayed")
        token = refreshed["access_token"]
        ticket = await self._step("ticket", self._call("POST", "/auth/ws-ticket", None, token))
        socket = await self._step("socket", self._open(ticket["subprotocols"]))
        async with socket:
            await self._step("ticket only once", self._expect_spent(ticket["subprotocols"]))
            await self._step("subscribe", self._subscribe(socket))
            seq = await self._step("send and ack", self._send(socket, content))
            await self._step("history", self._find(token, seq, content))
            await self._step("logout", self._call("POST", "/auth/logout", None, token))
            await self._step("socket ends", self._expect_end(socket))
        await self._step("tokens are dead", self._expect_dead(token, refreshed["refresh_token"]))

    async def _step(self, name: str, work: Awaitable[T]) -> T:
        self.step_name = name
        started = time.perf_counter()
        async with asyncio.timeout(STEP_SECONDS):
            result = await work
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.total_ms += elapsed_ms
        print(f"ok  {name:<18}{elapsed_ms:8.1f} ms", flush=True)
        return result

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, token: str | None = None
    ) -> dict[str, Any]:
        return await self._rest.call(method, path, body, token)

    async def _register(self, credentials: dict[str, str]) -> None:
        body = {**credentials, "display_name": "Smoke test"}
        answer = await self._call("POST", "/auth/register", body)
        _expect(answer["user"]["email"] == credentials["email"], "another user was registered")

    async def _open(self, subprotocols: list[str]) -> ClientConnection:
        offered = [Subprotocol(name) for name in subprotocols]
        socket = await connect(self._ws_url, subprotocols=offered, compression=None)
        await _receive(socket, "connected")
        return socket

    async def _expect_spent(self, subprotocols: list[str]) -> None:
        offered = [Subprotocol(name) for name in subprotocols]
        async with connect(self._ws_url, subprotocols=offered, compression=None) as socket:
            frame = json.loads(await socket.recv())
            _expect(frame.get("code") == "ticket_invalid", "a ticket opened a second socket")
            await socket.wait_closed()
            _expect(socket.close_code == 4401, f"closed with {socket.close_code}, not 4401")

    async def _subscribe(self, socket: ClientConnection) -> None:
        await socket.send(json.dumps({"type": "subscribe", "channel_id": GLOBAL}))
        await _receive(socket, "subscribed")

    async def _send(self, socket: ClientConnection, content: str) -> int:
        identifier = str(uuid.uuid4())
        frame = {
            "type": "send",
            "channel_id": GLOBAL,
            "client_msg_id": identifier,
            "content": content,
        }
        await socket.send(json.dumps(frame))
        seq, delivered = None, None
        while seq is None or delivered is None:
            answer = json.loads(await socket.recv())
            _expect(answer["type"] != "error", f"refused: {answer.get('message')}")
            if answer.get("client_msg_id") != identifier:
                continue  # somebody else's
            if answer["type"] == "ack":
                seq = int(answer["seq"])
            else:
                delivered = int(answer["seq"])
        _expect(seq == delivered, f"acknowledged as {seq} but delivered as {delivered}")
        return seq

    async def _find(self, token: str, seq: int, content: str) -> None:
        path = f"/chat/channels/{GLOBAL}/messages?after_seq={seq - 1}&limit=1"
        [entry] = (await self._call("GET", path, None, token))["entries"]
        stored = (entry["seq"], entry["content"]) == (seq, content)
        _expect(stored, "the history has something else at that place")

    async def _expect_end(self, socket: ClientConnection) -> None:
        try:
            while True:
                await socket.recv()
        except ConnectionClosed:
            _expect(socket.close_code == 4501, f"closed with {socket.close_code}, not 4501")

    async def _expect_dead(self, access_token: str, refresh_token: str) -> None:
        await _expect_refused(self._call("GET", "/auth/me", None, access_token))
        body = {"refresh_token": refresh_token}
        await _expect_refused(self._call("POST", "/auth/refresh", body))


async def _receive(socket: ClientConnection, kind: str) -> dict[str, Any]:
    frame: dict[str, Any] = json.loads(await socket.recv())
    _expect(frame["type"] == kind, f"got {frame.get('code') or frame['type']}, not {kind}")
    return frame


async def _expect_refused(work: Awaitable[dict[str, Any]]) -> None:
    try:
        await work
    except ApiError as error:
        _expect(error.status == 401, f"refused with {error.status}, not 401")
        return
    raise StepFailed("a token of the ended session was accepted")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
