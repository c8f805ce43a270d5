"""A person's access to the API: log in once, and every call refreshes its token when it must."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from gatehouse_client import backoff
from gatehouse_client.errors import UNEXPECTED_ANSWER, ApiError
from gatehouse_client.live import Live
from gatehouse_client.rest import TIMEOUT_SECONDS, Rest

# How often a refresh is tried whose answer got lost: the same token may be shown again only for a
# minute or so, later it would look stolen.
REFRESH_ATTEMPTS = 3

# No token of the session is good any more. Any other refusal (429, 426, 503, or one by a proxy or
# the login page of a hotel) has spent nothing: the refresh token is as good as before. So is that
# of a drained session, once the app has been updated.
SESSION_IS_OVER = frozenset({"session_revoked", "refresh_token_invalid", "refresh_token_reused"})


@dataclass(frozen=True, slots=True)
class Ticket:
    """One socket's worth of admission; `subprotocols` carry the ticket."""

    websocket_url: str
    subprotocols: list[str] = field(repr=False)


class Client:
    """`user` is the user object of the last session answer, None before a login.

    A refresh token is for one use, so there is one refresh at a time, shared by all who need it; it
    runs to its end, whoever gives up waiting, and the new token is kept before anything else is
    tried. An app that wants to stay logged in after a restart stores the refresh token in
    `on_session`, which gets every session answer before it is used and None when the session has
    ended, and begins with `refresh(stored_token)` instead of `login`.

    `websocket_url` is used instead of the one that the API names.
    """

    def __init__(
        self,
        api_url: str,
        *,
        client_version: str | None = None,
        content_version: str | None = None,
        websocket_url: str | None = None,
        on_session: Callable[[dict[str, Any] | None], None] | None = None,
    ) -> None:
        headers = {"User-Agent": "gatehouse-client"}
        if client_version is not None:
            headers["X-Client-Version"] = client_version
        if content_version is not None:
            headers["X-Client-Content-Version"] = content_version
        self._rest = Rest(api_url, headers)
        self._websocket_url = websocket_url
        self._on_session = on_session
        self._access_token: str | None = None
        self._refresh_token: str | None = None
        self._refreshing: asyncio.Task[dict[str, Any]] | None = None
        self.user: dict[str, Any] | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The session stays, until somebody logs out; its next refresh token is waited for."""
        if self._refreshing is not None:
            with contextlib.suppress(Exception):  # whoever asked is told
                await asyncio.wait_for(self._refreshing, TIMEOUT_SECONDS)

    async def register(self, email: str, password: str, display_name: str) -> dict[str, Any]:
        body = {"email": email, "password": password, "display_name": display_name}
        return self._keep(await self._rest.call("POST", "/auth/register", body))

    async def login(self, email: str, password: str) -> dict[str, Any]:
        body = {"email": email, "password": password}
        return self._keep(await self._rest.call("POST", "/auth/login", body))

    async def refresh(self, refresh_token: str | None = None) -> dict[str, Any]:
        """A new access token and the next refresh token; ours, or one from an earlier run."""
        if refresh_token is not None:
            self._refresh_token = refresh_token
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(_take_note)
        # A caller that is cancelled must not take the refresh along: the server may have spent the
        # token already, and only the answer has the next one.
        return await asyncio.shield(self._refreshing)

    async def logout(self) -> None:
        """Ends the session, and with it its sockets."""
        await self.call("POST", "/auth/logout")
        self._session_is_over()

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Any call as the person who is logged in; raises ApiError, OSError when nobody answers."""
        token = self._access_token
        try:
            return await self._ask(method, path, body, token)
        except ApiError as error:
            # "unauthorized" too: after a leak the API does not know the key any more, while the
            # refresh token is as good as before. And "drained": to a client that has been updated
            # the refresh gives a new session. A second refusal is final.
            if token is None or error.code not in ("token_expired", "unauthorized", "drained"):
                raise
        if self._access_token == token:  # else somebody else has done it meanwhile
            await self.refresh()
        return await self._ask(method, path, body, self._access_token)

    async def me(self) -> dict[str, Any]:
        return await self.call("GET", "/auth/me")

    async def rename(self, display_name: str) -> dict[str, Any]:
        """How one is called from now on, in what was said before too; gives the user."""
        answer = await self.call("PATCH", "/auth/me", {"display_name": display_name})
        user: dict[str, Any] = _member(answer, "user")
        self.user = user
        return user

    async def person(self, user_id: int) -> dict[str, Any]:
        """{id, display_name}."""
        return await self.call("GET", f"/users/{user_id}")

    async def people(self, display_name: str) -> list[dict[str, Any]]:
        """Who is called exactly this: names are not unique, ids are."""
        query = urlencode({"display_name": display_name})
        return list(_member(await self.call("GET", f"/users?{query}"), "users"))

    async def channels(self) -> list[dict[str, Any]]:
        """[{id, kind, name, created_at, last_seq, role, peer}], the newest first."""
        return list(_member(await self.call("GET", "/chat/channels"), "channels"))

    async def create_group(self, name: str) -> dict[str, Any]:
        """A new channel of our own, every time it is asked for."""
        return await self.call("POST", "/chat/channels", {"name": name})

    async def direct(self, user_id: int) -> dict[str, Any]:
        """The one channel with somebody, made where there is none yet."""
        return await self.call("POST", "/chat/channels/direct", {"user_id": user_id})

    async def members(self, channel_id: int) -> list[dict[str, Any]]:
        """[{user_id, display_name, role, joined_at}], the longest-standing first."""
        answer = await self.call("GET", f"/chat/channels/{channel_id}/members")
        return list(_member(answer, "members"))

    async def add_member(self, channel_id: int, user_id: int) -> dict[str, Any]:
        path = f"/chat/channels/{channel_id}/members"
        return await self.call("POST", path, {"user_id": user_id})

    async def remove_member(self, channel_id: int, user_id: int) -> None:
        """With one's own id it is leaving."""
        await self.call("DELETE", f"/chat/channels/{channel_id}/members/{user_id}")

    async def erase(self, channel_id: int, seq: int) -> None:
        """Takes the content of a message away; once more changes nothing."""
        await self.call("DELETE", f"/chat/channels/{channel_id}/messages/{seq}")

    async def history(
        self,
        channel_id: int,
        *,
        after_seq: int | None = None,
        before_seq: int | None = None,
        limit: int | None = None,
    ) -> dict[str, Any]:
        """{entries, first_seq, last_seq}, ascending; the newest page without any bound."""
        bounds = {"after_seq": after_seq, "before_seq": before_seq, "limit": limit}
        query = urlencode({name: value for name, value in bounds.items() if value is not None})
        return await self.call("GET", f"/chat/channels/{channel_id}/messages?{query}")

    async def entries(
        self, channel_id: int, after_seq: int, until_seq: int
    ) -> AsyncIterator[dict[str, Any]]:
        """All entries that are kept of those after `after_seq`, up to and with `until_seq`."""
        while after_seq < until_seq:
            # As much a page as the server likes to give.
            page = _member(await self.history(channel_id, after_seq=after_seq), "entries")
            for entry in page:
                after_seq = int(entry["seq"])
                if after_seq <= until_seq:
                    yield entry
            if not page:
                return

    async def post(
        self, channel_id: int, content: str, client_msg_id: str | None = None
    ) -> dict[str, Any]:
        """Sends without a socket; the same client_msg_id again is the same message."""
        body = {"client_msg_id": client_msg_id or str(uuid.uuid4()), "content": content}
        return await self.call("POST", f"/chat/channels/{channel_id}/messages", body)

    async def ticket(self) -> Ticket:
        answer = await self.call("POST", "/auth/ws-ticket")
        url = self._websocket_url or str(_member(answer, "websocket_url"))
        return Ticket(url, [str(name) for name in _member(answer, "subprotocols")])

    def live(self, *, frames_per_second: float = 40.0, max_events: int = 1000) -> Live:
        """The live connection, to be entered with `async with`.

        It sends no faster than `frames_per_second`, and stops reading while `max_events` events
        wait for somebody to iterate.
        """
        return Live(self, frames_per_second=frames_per_second, max_events=max_events)

    async def _refresh(self) -> dict[str, Any]:
        body = {"refresh_token": self._refresh_token or ""}
        for attempt in range(REFRESH_ATTEMPTS):
            try:
                return self._keep(await self._ask("POST", "/auth/refresh", body))
            except OSError:
                if attempt + 1 == REFRESH_ATTEMPTS:
                    raise
                await asyncio.sleep(backoff.delay(attempt))
        raise AssertionError("unreachable")

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        access_token: str | None = None,
    ) -> dict[str, Any]:
        try:
            return await self._rest.call(method, path, body, access_token)
        except ApiError as error:
            if error.code in SESSION_IS_OVER:
                self._session_is_over()
            raise

    def _keep(self, session: dict[str, Any]) -> dict[str, Any]:
        access_token = str(_member(session, "access_token"))
        self._refresh_token = str(_member(session, "refresh_token"))
        if self._on_session is not None:
            self._on_session(session)
        self._access_token = access_token
        self.user = _member(session, "user")
        return session

    def _session_is_over(self) -> None:
        if self._on_session is not None:
            self._on_session(None)


def _take_note(refreshing: asyncio.Task[dict[str, Any]]) -> None:
    """Whoever waits is told of an error; nobody has to."""
    if not refreshing.cancelled():
        refreshing.exception()


def _member(answer: dict[str, Any], name: str) -> Any:
    if name not in answer:
        raise ApiError(200, UNEXPECTED_ANSWER, f"The answer has no {name}.", {})
    return answer[name]
