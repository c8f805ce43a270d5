"""What the middleware learns about a request, typed, so that nobody guesses at attributes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import falcon

from db.sessions import ClientInfo, LiveSession
from rules.client_address import Address
from rules.versions import ReleasePolicy


@dataclass(slots=True)
class RequestContext:
    """Every field has a value from the start: a response may be due before all middleware ran."""

    request_id: str = ""
    address: Address | None = None
    secure: bool = False
    started: float = 0.0
    session: LiveSession | None = None
    policy: ReleasePolicy | None = None  # as it stood when the session was read
    actor: str | None = None  # whose ops token it is
    refusal_code: str | None = None


class Request(falcon.Request):
    context_type = RequestContext
    context: RequestContext  # type: ignore[assignment]  # falcon's is a bag of attributes

    @property
    def session(self) -> LiveSession:
        """The live session of the bearer; only resources that require one may ask."""
        if self.context.session is None:
            raise RuntimeError(f"{self.method} {self.path} is public and has no session")
        return self.context.session

    @property
    def policy(self) -> ReleasePolicy:
        """What the bearer's client is measured by; as for `session`."""
        if self.context.policy is None:
            raise RuntimeError(f"{self.method} {self.path} is public and has no session")
        return self.context.policy

    @property
    def actor(self) -> str:
        """The operator's name; only resources for operators may ask."""
        if self.context.actor is None:
            raise RuntimeError(f"{self.method} {self.path} is not for operators")
        return self.context.actor

    def client(self) -> ClientInfo:
        return ClientInfo(
            ip=self.context.address,
            user_agent=_printable(self.get_header("User-Agent"), 256),
            version=_printable(self.get_header("X-Client-Version"), 64),
            content_version=_printable(self.get_header("X-Client-Content-Version"), 64),
        )


class Response(falcon.Response):
    def send_json(self, status: int, body: dict[str, Any]) -> None:
        self.status = falcon.code_to_http_status(status)
        self.media = body


def _printable(value: str | None, longest: int) -> str | None:
    """Headers are stored and shown to people: nothing unprintable, nothing endless. An empty one
    says nothing."""
    if not value:
        return None
    return "".join(c if c.isprintable() else "?" for c in value[:longest])
