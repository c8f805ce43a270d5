"""Made people with live sockets. An incident borrows them; at the end every session of theirs ends.

The same few accounts play in every incident: accounts cannot be removed, and an address may
register only so many in an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gatehouse_client.errors import ApiError
from gatehouse_client.rest import Rest
from gatehouse_client.socket_link import Link, LinkClosed
from scripts.drills.report import DrillFailed

STEP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Person:
    user_id: int
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    person: Person
    id: int
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    version: str | None


class Seat:
    """One socket: every frame that came, and when and how it ended."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._news = asyncio.Event()
        self._seen = 0
        self.frames: list[dict[str, Any]] = []
        self.code: int | None = None
        self.closed_at: float | None = None
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while True:
                self.frames.append(await self._link.receive())
                self._news.set()
        except LinkClosed as closed:
            self.code, self.closed_at = closed.code, time.perf_counter()
            self._news.set()

    async def send(self, frame: dict[str, Any]) -> None:
        try:
            await self._link.send(frame)
        except LinkClosed as closed:
            raise DrillFailed(f"a socket that should live has ended: {closed}") from None

    async def until(
        self, fits: Callable[[dict[str, Any]], bool], what: str, seconds: float = STEP_SECONDS
    ) -> dict[str, Any]:
        """The next frame that fits; those before it are passed over. Raises DrillFailed."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    while self._seen < len(self.frames):
                        frame = self.frames[self._seen]
                        self._seen += 1
                        if fits(frame):
                            return frame
                    if self.closed_at is not None:
                        raise DrillFailed(f"no {what}: the socket ended with {self.code}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DrillFailed(f"no {what} within {seconds:.0f} s") from None

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The answer to a frame, an error too, told by its ref."""
        ref = secrets.token_hex(4)
        await self.send({**frame, "ref": ref})
        return await self.until(lambda got: got.get("ref") == ref, f"answer to {frame['type']}")

    async def is_alive(self) -> bool:
        if self.closed_at is not None:
            return False
        try:
            return bool((await self.ask({"type": "ping"}))["type"] == "pong")
        except DrillFailed:
            return False

    async def close(self) -> None:
        await self._link.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


async def until_closed(seats: Sequence[Seat], seconds: float) -> list[Seat]:
    """Waits until all have ended, or the time is over; returns those that live on."""
    deadline = time.perf_counter() + seconds
    while open_ones := [seat for seat in seats if seat.closed_at is None]:
        if time.perf_counter() > deadline:
            return open_ones
        await asyncio.sleep(0.005)
    return []


class Cast:
    def __init__(self, api_url: str, ws_url: str) -> None:
        self.api_url, self.ws_url = api_url, ws_url
        self._people: list[Person] = []
        self._sessions: dict[int, Session] = {}
        self._seats: list[Seat] = []

    @property
    def user_ids(self) -> frozenset[int]:
        return frozenset(person.user_id for person in self._people)

    async def people(self, count: int) -> list[Person]:
        while len(self._people) < count:
            await self._register()
        return self._people[:count]

    async def login(
        self, person: Person, version: str | None = None, password: str | None = None
    ) -> Session:
        body = {"email": person.email, "password": password or person.password}
        answer = await self.call("POST", "/auth/login", body, version=version)
        return self._keep(person, answer, version)

    async def refresh(self, session: Session, version: str | None = None) -> Session:
        body = {"refresh_token": session.refresh_token}
        answer = await self.call("POST", "/auth/refresh", body, version=version)
        return self._keep(session.person, answer, version)

    async def ticket(self, session: Session) -> list[str]:
        answer = await self.call_as(session, "POST", "/auth/ws-ticket")
        return list(answer["subprotocols"])

    async def sit(self, session: Session, subprotocols: list[str] | None = None) -> Seat:
        """A socket that was let in; raises DrillFailed when it was not."""
        offered = subprotocols or await self.ticket(session)
        try:
            link = await Link.open(self.ws_url, offered)
        except LinkClosed as error:
            raise DrillFailed(f"no socket at {self.ws_url}: {error.reason}") from None
        seat = Seat(link)
        self._seats.append(seat)
        await seat.until(lambda frame: frame["type"] == "connected", "admission")
        await seat.ask({"type": "ping"})  # a socket that never says anything is closed
        return seat

    async def end_of(self, subprotocols: list[str]) -> str:
        """What a ticket that must be dead brings: the close code, or "admitted"."""
        link = await Link.open(self.ws_url, subprotocols)
        seat = Seat(link)
        self._seats.append(seat)
        try:
            await seat.until(lambda frame: frame["type"] == "connected", "admission")
        except DrillFailed:
            return str(seat.code)
        return "admitted"

    async def call_as(
        self, session: Session, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        return await self.call(
            method, path, body, token=session.access_token, version=session.version
        )

    async def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        token: str | None = None,
        version: str | None = None,
    ) -> dict[str, Any]:
        headers = {"User-Agent": "gatehouse-drill"}
        if version is not None:
            headers["X-Client-Version"] = version
        return await Rest(self.api_url, headers).call(method, path, body, token)

    async def until_it_answers(self, seconds: float = 60.0) -> None:
        """Until the API is ready, after somebody restarted it."""
        deadline = time.perf_counter() + seconds
        while True:
            try:
                await self.call("GET", "/health/ready")
                return
            except (ApiError, OSError):
                if time.perf_counter() > deadline:
                    raise
            await asyncio.sleep(0.1)

    async def leave(self) -> None:
        """Ends every socket and every session, also after a failure half-way."""
        seats, self._seats = self._seats, []
        for seat in seats:
            await seat.close()
        for session in self._sessions.values():
            with contextlib.suppress(ApiError, OSError):
                await self.call_as(session, "POST", "/auth/logout")

    async def _register(self) -> None:
        number = len(self._people) + 1
        email = f"drill-{secrets.token_hex(8)}@example.org"
        password = secrets.token_urlsafe(18)
        body = {"email": email, "password": password, "display_name": f"Drill {number}"}
        answer = await self.call("POST", "/auth/register", body)
        person = Person(answer["user"]["id"], email, password)
        self._people.append(person)
        self._keep(person, answer, None)

    def _keep(self, person: Person, answer: dict[str, Any], version: str | None) -> Session:
        session = Session(
            person,
            answer["session_id"],
            answer["access_token"],
            answer["refresh_token"],
            version,
        )
        self._sessions[session.id] = session
        return session
