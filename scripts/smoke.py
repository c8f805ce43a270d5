"""The main job, step by step, against any deployment: scripts/smoke API_URL WS_URL

Registers a new account, walks it through everything and logs it out; each step is checked and its
time printed. Exit code 0 only when every step holds. The account stays, since none can be removed,
and so does one message in the channel Global.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
import uuid
from collections.abc import Awaitable
from typing import Any, TypeVar

from gatehouse_client.errors import ApiError
from gatehouse_client.rest import Rest
from gatehouse_client.socket_link import Link, LinkClosed, LinkRefused

T = TypeVar("T")

STEP_SECONDS = 20.0
# A session's sockets end within 5 s even when the notification was lost.
REVOCATION_SECONDS = 7.0
GLOBAL = 1


class StepFailed(Exception):
    """A step did something else than it should; the message says what."""


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        print("usage: scripts/smoke API_URL WS_URL", file=sys.stderr)
        return 2
    api_url, ws_url = arguments
    try:
        walk = Walk(api_url, ws_url)
    except ValueError as error:
        print(f"smoke: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(walk.run())
    except KeyboardInterrupt:
        print(f"stopped at {walk.step_name}", flush=True)
        return 130
    except (StepFailed, ApiError, LinkClosed, LinkRefused) as error:
        return _failed(walk, str(error))
    except OSError as error:  # a TimeoutError too
        return _failed(walk, f"no answer from {api_url}: {error}")
    except (KeyError, TypeError, ValueError) as error:
        return _failed(walk, f"the answer is not Gatehouse's: {error!r}")
    print(f"all steps passed in {walk.total_ms:.0f} ms")
    return 0


def _failed(walk: Walk, what: str) -> int:
    print(f"FAILED  {walk.step_name}: {what}", flush=True)
    return 1


class Walk:
    def __init__(self, api_url: str, ws_url: str) -> None:
        self._rest = Rest(api_url, {"User-Agent": "gatehouse-smoke"})
        self._ws_url = ws_url
        self.step_name = "start"
        self.total_ms = 0.0

    async def run(self) -> None:
        credentials = {
            "email": f"smoke-{secrets.token_hex(8)}@example.org",
            "password": secrets.token_urlsafe(18),
        }
        content = f"smoke {secrets.token_hex(8)}"

        first = await self._step("register", self._register(credentials))
        try:
            session = await self._step("login", self._login(credentials, first))
            refreshed = await self._step("refresh", self._refresh(session))
            token = refreshed["access_token"]
            ticket = await self._step("ticket", self._call("POST", "/auth/ws-ticket", None, token))
            link = await self._step("socket", self._open(ticket["subprotocols"], refreshed))
            try:
                await self._step("ticket only once", self._expect_spent(ticket["subprotocols"]))
                await self._step("subscribe", self._subscribe(link))
                seq = await self._step("send and ack", self._send(link, content))
                await self._step("history", self._find(token, seq, content, refreshed["user"]))
                await self._step("logout", self._call("POST", "/auth/logout", None, token))
                ends = _expect_close(link, 4501)
                await self._step("socket ends", ends, REVOCATION_SECONDS)
            finally:
                await link.close()
            await self._step("tokens are dead", self._expect_dead(refreshed))
        finally:
            # The session that the registration opened: nobody is left logged in.
            with contextlib.suppress(ApiError, OSError):
                await self._call("POST", "/auth/logout", None, first["access_token"])

    async def _step(self, name: str, work: Awaitable[T], seconds: float = STEP_SECONDS) -> T:
        self.step_name = name
        started = time.perf_counter()
        try:
            async with asyncio.timeout(seconds):
                result = await work
        except TimeoutError as error:
            raise StepFailed(str(error) or f"not done within {seconds:.0f} s") from error
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.total_ms += elapsed_ms
        print(f"ok  {name:<18}{elapsed_ms:8.1f} ms", flush=True)
        return result

    async def _call(
        self, method: str, path: str, body: dict[str, Any] | None, token: str | None = None
    ) -> dict[str, Any]:
        return await self._rest.call(method, path, body, token)

    async def _register(self, credentials: dict[str, str]) -> dict[str, Any]:
        body = {**credentials, "display_name": "Smoke test"}
        session = await self._call("POST", "/auth/register", body)
        _expect(session["user"]["email"] == credentials["email"], "another user was registered")
        return session

    async def _login(self, credentials: dict[str, str], first: dict[str, Any]) -> dict[str, Any]:
        session = await self._call("POST", "/auth/login", credentials)
        _expect(session["user"]["id"] == first["user"]["id"], "somebody else was logged in")
        _expect(session["session_id"] != first["session_id"], "the login opened no new session")
        return session

    async def _refresh(self, session: dict[str, Any]) -> dict[str, Any]:
        body = {"refresh_token": session["refresh_token"]}
        refreshed = await self._call("POST", "/auth/refresh", body)
        changed = refreshed["refresh_token"] != session["refresh_token"]
        _expect(changed, "the refresh token stayed the same")
        _expect(refreshed["session_id"] == session["session_id"], "the session changed")
        me = await self._call("GET", "/auth/me", None, refreshed["access_token"])
        _expect(me["user"] == session["user"], "the new access token is somebody else's")
        return refreshed

    async def _open(self, subprotocols: list[str], session: dict[str, Any]) -> Link:
        link = await self._connect(subprotocols)
        try:
            frame = await _receive(link, "connected")
            admitted = frame["user_id"], frame["session_id"]
            ours = session["user"]["id"], session["session_id"]
            _expect(admitted == ours, "admitted as another session")
        except BaseException:
            await link.close()
            raise
        return link

    async def _connect(self, subprotocols: list[str]) -> Link:
        try:
            return await Link.open(self._ws_url, subprotocols)
        except LinkClosed as error:
            raise StepFailed(f"no socket at {self._ws_url}: {error.reason}") from error

    async def _expect_spent(self, subprotocols: list[str]) -> None:
        link = await self._connect(subprotocols)
        try:
            frame = await link.receive()
            _expect(frame.get("code") == "ticket_invalid", "a ticket opened a second socket")
            await _expect_close(link, 4401)
        finally:
            await link.close()

    async def _subscribe(self, link: Link) -> None:
        await link.send({"type": "subscribe", "channel_id": GLOBAL})
        await _receive(link, "subscribed")

    async def _send(self, link: Link, content: str) -> int:
        """Twice, as a client does whose first ack got lost: it stays one message."""
        identifier = str(uuid.uuid4())
        frame = {
            "type": "send",
            "channel_id": GLOBAL,
            "client_msg_id": identifier,
            "content": content,
        }
        await link.send(frame)
        seq, delivered = None, None
        while seq is None or delivered is None:
            answer = await link.receive()
            _expect(answer["type"] != "error", f"refused: {answer.get('message')}")
            if answer.get("client_msg_id") != identifier:
                continue  # somebody else's
            if answer["type"] == "ack":
                seq = int(answer["seq"])
                _expect(answer["duplicate"] is False, "a new message was taken for a repeat")
            else:
                delivered = int(answer["seq"])
                _expect(answer["content"] == content, "something else was delivered")
        _expect(seq == delivered, f"acknowledged as {seq} but delivered as {delivered}")
        await link.send(frame)
        while (answer := await link.receive())["type"] != "ack":
            _expect(answer["type"] != "error", f"the repeat was refused: {answer.get('message')}")
        repeat = answer["seq"], answer["duplicate"]
        _expect(repeat == (seq, True), "a repeat was stored as a second message")
        return seq

    async def _find(self, token: str, seq: int, content: str, user: dict[str, Any]) -> None:
        path = f"/chat/channels/{GLOBAL}/messages?after_seq={seq - 1}&limit=1"
        entries = (await self._call("GET", path, None, token))["entries"]
        found = [(entry["seq"], entry["sender_id"], entry["content"]) for entry in entries]
        _expect(found == [(seq, user["id"], content)], "the history has something else there")

    async def _expect_dead(self, session: dict[str, Any]) -> None:
        await _expect_refused(
            self._call("GET", "/auth/me", None, session["access_token"]), "the access token"
        )
        body = {"refresh_token": session["refresh_token"]}
        await _expect_refused(self._call("POST", "/auth/refresh", body), "the refresh token")


async def _receive(link: Link, kind: str) -> dict[str, Any]:
    frame = await link.receive()
    _expect(frame["type"] == kind, f"got {frame.get('code') or frame['type']}, not {kind}")
    return frame


async def _expect_close(link: Link, code: int) -> None:
    """Passes over whatever frames still come."""
    try:
        while True:
            await link.receive()
    except LinkClosed as closed:
        _expect(closed.code == code, f"closed with {closed.code}, not {code}")


async def _expect_refused(work: Awaitable[dict[str, Any]], what: str) -> None:
    try:
        await work
    except ApiError as error:
        _expect(error.status == 401, f"{what} was refused with {error.status}, not 401")
        return
    raise StepFailed(f"{what} of the ended session was accepted")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
