"""A person's access to the API: log in once, and every call refreshes its token when it must."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

from gatehouse_client.errors import ApiError
from gatehouse_client.live import Live
from gatehouse_client.rest import Rest


@dataclass(frozen=True, slots=True)
class Ticket:
    """One socket's worth of admission; `subprotocols` carry the ticket."""

    websocket_url: str
    subprotocols: list[str]


class Client:
    """`user` is the user object of the last session answer, None before a login.

    A refresh token is for one use, so refreshes are done one at a time and the new token is kept
    before anything else is tried.
    """

    def __init__(
        self,
        api_url: str,
        *,
        client_version: str | None = None,
        content_version: str | None = None,
        websocket_url: str | None = None,
    ) -> None:
        headers = {"User-Agent": "gatehouse-client"}
        if client_version is not None:
            headers["X-Client-Version"] = client_version
        if content_version is not None:
            headers["X-Client-Content-Version"] = content_version
        self._rest = Rest(api_url, headers)
        self._websocket_url = websocket_url
        self._access_token: str | None = None
        self._refresh_token: str | None = None
        self._refreshing = asyncio.Lock()
        self.user: dict[str, Any] | None = None

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to close: the session stays, until somebody logs out."""

    async def register(self, email: str, password: str, display_name: str) -> dict[str, Any]:
        body = {"email": email, "password": password, "display_name": display_name}
        return self._keep(await self._rest.call("POST", "/auth/register", body, None))

    async def login(self, email: str, password: str) -> dict[str, Any]:
        body = {"email": email, "password": password}
        return self._keep(await self._rest.call("POST", "/auth/login", body, None))

    async def refresh(self) -> dict[str, Any]:
        """A new access token and the next refresh token."""
        async with self._refreshing:
            return await self._refresh()

    async def logout(self) -> None:
        """Ends the session, and with it its sockets."""
        await self.call("POST", "/auth/logout")

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Any call as the person who is logged in; raises ApiError."""
        token = self._access_token
        try:
            return await self._rest.call(method, path, body, token)
        except ApiError as error:
            if error.code != "token_expired":
                raise
        async with self._refreshing:
            if self._access_token == token:  # else somebody else has done it meanwhile
                await self._refresh()
        return await self._rest.call(method, path, body, self._access_token)

    async def me(self) -> dict[str, Any]:
        return await self.call("GET", "/auth/me")

    async def channels(self) -> list[dict[str, Any]]:
        answer = await self.call("GET", "/chat/channels")
        return list(answer["channels"])

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

    async def post(
        self, channel_id: int, content: str, client_msg_id: str | None = None
    ) -> dict[str, Any]:
        """Sends without a socket; the same client_msg_id again is the same message."""
        body = {"client_msg_id": client_msg_id or str(uuid.uuid4()), "content": content}
        return await self.call("POST", f"/chat/channels/{channel_id}/messages", body)

    async def ticket(self) -> Ticket:
        answer = await self.call("POST", "/auth/ws-ticket")
        url = self._websocket_url or str(answer["websocket_url"])
        return Ticket(url, [str(name) for name in answer["subprotocols"]])

    def live(self) -> Live:
        """The live connection, to be entered with `async with`."""
        return Live(self)

    async def _refresh(self) -> dict[str, Any]:
        body = {"refresh_token": self._refresh_token}
        return self._keep(await self._rest.call("POST", "/auth/refresh", body, None))

    def _keep(self, session: dict[str, Any]) -> dict[str, Any]:
        self._access_token = session["access_token"]
        self._refresh_token = session["refresh_token"]
        self.user = session["user"]
        return session
