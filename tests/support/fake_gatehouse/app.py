"""Accounts, tokens, channels and operators of the fake."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import re
import secrets
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.support.fake_gatehouse.http import Refused, Request, Response

KEY = b"a key of the fake that nobody guesses"
OPS_TOKEN = "an-ops-token-of-the-fake"
TICKET_SECONDS = 0.4
_ACCOUNT_FAILURES, _ADDRESS_FAILURES = 8, 100
# No holes: the first call comes while this address is limited, for so many seconds.
_LIMITED = {"limited-for-a-second": 1, "limited-for-an-hour": 3600}
_PER_SESSION, _MESSAGES, _MESSAGES_WINDOW, _REGISTRATIONS = 30, 30, 10.0, 40
_TRACE = 'Traceback (most recent call last):\n  File "/app/api/app.py", line 7'
_COMMON = ("password", "12345678", "password1")


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unsegment(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "==="))


@dataclass(slots=True)
class User:
    id: int
    email: str
    password: str
    name: str
    is_admin: bool = False


@dataclass(slots=True)
class Session:
    id: int
    user: User
    ip: str
    refresh: str = ""
    alive: bool = True
    created: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Channel:
    members: set[int] | None  # None: everybody
    owner: int = 0
    entries: list[dict[str, Any]] = field(default_factory=list)


class App:
    def __init__(self, holes: Collection[str]) -> None:
        self._holes = holes
        self._key = b"secret" if "weak-key" in holes else KEY
        self._header = segment({"alg": "HS256", "kid": "k1", "typ": "JWT"})
        if "telling-key-id" in holes:
            self._header = segment({"alg": "HS256", "kid": "password of the key", "typ": "JWT"})
        self._ids = itertools.count(1)
        self._users: dict[str, User] = {}
        self.sessions: dict[int, Session] = {}
        self._spent: dict[str, tuple[Session, str]] = {}
        self._refresh: dict[str, Session] = {}
        self.tickets: dict[str, tuple[Session, float]] = {}
        self.spent_tickets: set[str] = set()
        self.channels: dict[int, Channel] = defaultdict(lambda: Channel(set()))
        self.channels[1] = Channel(None)
        self._failures: Counter[str] = Counter()
        self._uses: Counter[tuple[str, int]] = Counter()
        self._written: dict[int, list[float]] = defaultdict(list)
        self._audit: list[dict[str, Any]] = []
        self.on_entry: Callable[[int, dict[str, Any]], None] = lambda channel, entry: None
        self.on_end: Callable[[Session], None] = lambda session: None

    def has(self, hole: str) -> bool:
        return hole in self._holes

    # Routes.

    async def answer(self, request: Request) -> Response:
        for limited, seconds in _LIMITED.items():
            if self.has(limited) and not self._uses[limited, 0]:
                self._uses[limited, 0] = 1
                raise Refused(429, "rate_limited", retry_after_seconds=seconds)
        method, path = self._as_meant(request)
        response = self._cors(request)
        if response is not None:
            return response
        route = f"{method} {path}"
        if path.startswith("/ops/"):
            return self._ops(request, method, path)
        if path == "/health/live" and method == "GET":
            return self._with_origin(request, Response(200, {"status": "ok"}))
        if self.has("open-files") and path == "/.env":
            return Response(200, {"JWT_SECRET": "x"})
        if method == "TRACE" and self.has("trace"):
            return Response(200, dict(request.headers))
        public: dict[str, Callable[[Request], Response]] = {
            "POST /auth/register": self._register,
            "POST /auth/login": self._login,
            "POST /auth/refresh": self._refreshed,
            "POST /auth/password-reset": self._reset,
        }
        if route in public:
            return public[route](request)
        return self._for_bearers(request, method, path)

    def _as_meant(self, request: Request) -> tuple[str, str]:
        method, path = request.method, request.path
        if self.has("method-override"):
            method = request.headers.get("x-http-method-override", method)
        if self.has("lax-paths"):
            path = re.sub("/+", "/", unquote(path)).rstrip("/ ")
        if self.has("suffixes"):
            path = path.removesuffix("/x.css")
        if "%0d%0a" in path and self.has("header-injection"):
            name, _, value = unquote(path).partition("\r\n")[2].partition(":")
            raise _Reply(Response(404, {"error": {}}, {name: value}))
        return method, path

    def _cors(self, request: Request) -> Response | None:
        if request.method == "OPTIONS" and self.has("open-preflight"):
            allow = {"Access-Control-Allow-Methods": "DELETE"}
            return Response(204, None, allow)
        return None

    def _with_origin(self, request: Request, response: Response) -> Response:
        if self.has("any-origin") and "origin" in request.headers:
            allow = {"Access-Control-Allow-Origin": request.headers["origin"]}
            return Response(response.status, response.body, allow)
        return response

    def _not_found(self, request: Request) -> Response:
        if self.has("tracebacks"):
            return Response(500, {"error": {"code": "x", "message": _TRACE}})
        if self.has("no-envelope"):
            return Response(404, {"detail": "not found"})
        if self.has("repeats-host"):
            return Response(404, {"error": {"code": "x", "message": request.headers["host"]}})
        raise Refused(404, "not_found")

    # Bodies.

    def _fields(self, request: Request, *names: str) -> dict[str, Any]:
        kind = request.headers.get("content-type", "")
        if kind != "application/json" and not self.has("any-content-type"):
            raise Refused(415, "unsupported_media_type")
        try:
            text = request.body.decode("utf-8")
            body = json.loads(text, object_pairs_hook=self._pairs, parse_constant=self._constant)
        except RecursionError:
            raise Refused(400, "malformed_json") from None
        except ValueError:
            if self.has("repeats-secrets"):
                raise Refused(400, "malformed_json", seen=request.body.decode("latin-1")) from None
            raise Refused(400, "malformed_json") from None
        if not isinstance(body, dict):
            raise Refused(400, "malformed_json")
        if set(body) - set(names) and not self.has("mass-assignment"):
            raise Refused(422, "validation_failed")
        if "injection" in self._holes and body.get("password") == "' OR '1'='1' --":
            return body
        for name in names:
            value = body.get(name)
            if name in ("user_id", "password") and self.has(f"any-{name}"):
                body[name] = str(value) if name == "password" else value
            elif name == "user_id":
                if type(value) is not int:
                    raise Refused(422, "validation_failed")
            elif not isinstance(value, str) or not _is_clean(value):
                raise Refused(422, "validation_failed")
        return body

    def _pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs) and not self.has("lax-json"):
            raise ValueError("doubled")
        return dict(pairs)

    @staticmethod
    def _constant(name: str) -> Any:
        raise ValueError(name)

    # Accounts.

    def _register(self, request: Request) -> Response:
        body = self._fields(request, "email", "password", "display_name")
        if self._uses["register", 0] >= _REGISTRATIONS and not self.has("no-register-limit"):
            raise Refused(429, "rate_limited", retry_after_seconds=600)
        password = body["password"]
        weak = not 8 <= len(password) <= 128 or password.casefold() in _COMMON
        if weak and not self.has("any-password"):
            raise Refused(422, "validation_failed")
        email = self._folded(body["email"])
        self._uses["register", 0] += 1
        if email in self._users:
            raise Refused(409, "email_taken")
        user = User(next(self._ids), email, self._kept(password), body["display_name"])
        user.is_admin = bool(body.get("is_admin", False))
        self._users[email] = user
        return Response(201, self._open(user, request))

    def _folded(self, email: str) -> str:
        if self.has("same-address"):
            return email
        return unicodedata.normalize("NFKC", email).casefold()

    def _kept(self, password: str) -> str:
        return password[:72] if self.has("short-password") else password

    def _login(self, request: Request) -> Response:
        body = self._fields(request, "email", "password")
        email, password = self._folded(body["email"]), body["password"]
        if self.has("injection") and password.startswith("' OR"):
            return Response(200, self._open(next(iter(self._users.values())), request))
        if self.has("injection-500") and "'" in email:
            return Response(500, {"error": {}})
        subjects = [email, "address"]
        if self.has("forwarded-lockout"):
            subjects[0] += request.headers.get("x-forwarded-for", "")
        most = {subjects[0]: _ACCOUNT_FAILURES, "address": _ADDRESS_FAILURES}
        user = self._users.get(email)
        if user is None and self.has("no-lockout-of-nobody"):
            subjects.remove(email)
        if self.has("no-account-lockout"):
            subjects.remove(email)
        if self.has("no-address-lockout"):
            subjects.remove("address")
        let_in = self.has("right-in-lockout") and user and user.password == password
        if not let_in and any(self._failures[name] >= most[name] for name in subjects):
            when = {} if self.has("no-retry-after") else {"retry_after_seconds": 30}
            raise Refused(429, "rate_limited", **when)
        if user is not None and self.has("telling-time"):
            time.sleep(0.15)
        if user is None or user.password != self._kept(password):
            self._failures.update(subjects)
            known = user is not None and self.has("telling-bytes")
            raise Refused(401, "wrong_password" if known else "invalid_credentials")
        return Response(200, self._open(user, request))

    def _open(self, user: User, request: Request) -> dict[str, Any]:
        ip = "127.0.0.1"
        if self.has("believes-forwarded"):
            ip = request.headers.get("x-forwarded-for", ip)
        session = Session(next(self._ids), user, ip)
        self.sessions[session.id] = session
        return self._answer_with_tokens(session, secrets.token_urlsafe(32))

    def _answer_with_tokens(self, session: Session, refresh: str) -> dict[str, Any]:
        session.refresh = refresh
        self._refresh[refresh] = session
        user = session.user
        return {
            "access_token": self._token(session),
            "refresh_token": refresh,
            "session_id": session.id,
            "user": {"id": user.id, "email": user.email, "is_admin": user.is_admin},
        }

    def _token(self, session: Session) -> str:
        claims = {
            "iss": "gatehouse",
            "aud": "gatehouse-client",
            "sub": str(session.user.id),
            "sid": str(session.id),
            "exp": int(time.time()) + 900,
        }
        text = f"{self._header}.{segment(claims)}"
        return f"{text}.{segment(hmac.digest(self._key, text.encode(), 'sha256'))}"

    def _refreshed(self, request: Request) -> Response:
        token = str(self._fields(request, "refresh_token")["refresh_token"])
        if self.has("access-refreshes") and token.count(".") == 2:
            session = self.session_of(token)
            return Response(200, self._answer_with_tokens(session, secrets.token_urlsafe(32)))
        if self.has("refresh-by-part"):
            token = next((known for known in self._refresh if known[1:] == token[1:]), token)
        session_or_none = self._refresh.get(token)
        if session_or_none is None:
            raise Refused(401, "refresh_token_invalid")
        session = session_or_none
        if not session.alive and not self.has("immortal-sessions"):
            raise Refused(401, "session_revoked")
        if self._uses["refresh", session.id] >= _PER_SESSION and not self.has("no-refresh-limit"):
            if self.has("no-retry-after-refresh"):
                raise Refused(429, "rate_limited")
            raise Refused(429, "rate_limited", retry_after_seconds=30)
        self._uses["refresh", session.id] += 1
        if token in self._spent and not self.has("refresh-forks"):
            successor = self._spent[token][1]
            if successor == session.refresh:
                return Response(200, self._answer_with_tokens(session, successor))
            if self.has("reuse-accepted"):
                return Response(200, self._answer_with_tokens(session, secrets.token_urlsafe(32)))
            if not self.has("reuse-unpunished"):
                self.end(session)
            raise Refused(401, "refresh_token_reused")
        successor = secrets.token_urlsafe(32)
        self._spent[token] = session, successor
        return Response(200, self._answer_with_tokens(session, successor))

    def _reset(self, request: Request) -> Response:
        self._fields(request, "reset_token", "new_password")
        if self.has("any-reset"):
            return Response(204)
        raise Refused(401, "unauthorized")

    def end(self, session: Session) -> None:
        session.alive = False
        if not self.has("sockets-outlive"):
            self.on_end(session)

    # Tokens.

    def _bearer(self, request: Request) -> Session:
        given = request.headers.get("authorization", "")
        if self.has("token-in-query"):
            values = parse_qs(request.query).get("access_token", [])
            given = f"Bearer {values[0]}" if values else given
        if not given.startswith("Bearer ") or "," in given:
            raise Refused(401, "unauthorized")
        return self.session_of(given.removeprefix("Bearer "))

    def session_of(self, token: str) -> Session:
        if self.has("refresh-as-access") and token in self._refresh:
            return self._refresh[token]
        if self.has("ticket-as-bearer") and token in self.tickets:
            return self.tickets[token][0]
        try:
            claims = self._claims(token)
            session = self.sessions[int(claims["sid"])]
        except (ValueError, KeyError, TypeError, OverflowError, AttributeError):
            raise Refused(401, "unauthorized") from None
        if not session.alive and not self.has("immortal-sessions"):
            raise Refused(401, "session_revoked")
        return session

    def _claims(self, token: str) -> dict[str, Any]:
        if self.has("signature-spelling"):
            token = token.replace(" ", "").rstrip("=")
        header, body, signature = token.split(".")
        claims: dict[str, Any] = unsegment(body)
        if not self._is_signed(header, body, signature):
            raise ValueError("signature")
        if not self.has("claims-unchecked"):
            if (claims["iss"], claims["aud"]) != ("gatehouse", "gatehouse-client"):
                raise ValueError("for somebody else")
            if self.sessions[int(claims["sid"])].user.id != int(claims["sub"]):
                raise ValueError("another's session")
        good_until = claims.get("exp")
        if not self.has("expiry-unchecked") and (
            type(good_until) is not int or good_until <= time.time()
        ):
            raise ValueError("expired")
        return claims

    def _is_signed(self, header: str, body: str, signature: str) -> bool:
        text = f"{header}.{body}".encode()
        if header == self._header:
            right = segment(hmac.digest(self._key, text, "sha256"))
            if self.has("signature-spelling"):
                return base64.urlsafe_b64decode(signature + "=") == base64.urlsafe_b64decode(
                    right + "="
                )
            if self.has("signature-unchecked"):
                return True
            return hmac.compare_digest(right.encode(), signature.encode())
        said: dict[str, Any] = unsegment(header)
        keys = []
        if self.has("alg-none") and str(said.get("alg")).lower() == "none":
            return True
        if self.has("known-key"):
            keys.append(b"")
        if self.has("key-by-path") and said.get("kid") == "/dev/null":
            keys.append(b"")
        if self.has("embedded-key") and "jwk" in said:
            keys.append(base64.urlsafe_b64decode(said["jwk"]["k"] + "==="))
        return any(segment(hmac.digest(key, text, "sha256")) == signature for key in keys)

    # What bearers may do.

    def _for_bearers(self, request: Request, method: str, path: str) -> Response:
        known = re.fullmatch(
            r"/auth/(me|sessions(/[^/]+)?|logout|password|ws-ticket)|/users(/[^/]+)?"
            r"|/chat/channels(/.*)?",
            path,
        )
        if not known:
            return self._not_found(request)
        if self.has("open-endpoint") and path == "/chat/channels" and method == "GET":
            return Response(200, {"channels": []})
        session = self._bearer(request)
        me = session.user
        if path.startswith("/auth/"):
            return self._own_account(request, session, method, path)
        match method, path.split("/")[1:]:
            case "GET", ["users", number]:
                if self.has("any-number") and number == "%EF%BC%91":
                    number = "1"
                return self._profile(_number(number))
            case "GET", ["users"] if "%00" not in request.query:
                return Response(200, {"users": []})
            case "GET", ["chat", "channels"]:
                return Response(200, {"channels": []})
            case "POST", ["chat", "channels"]:
                self._fields(request, "name")
                number_ = next(self._ids) + 1
                self.channels[number_] = Channel({me.id}, me.id)
                return Response(201, {"id": number_})
            case _, ["chat", "channels", number, *rest]:
                return self._channel(request, method, me, _number(number), rest)
        raise Refused(405, "method_not_allowed")

    def _own_account(self, request: Request, session: Session, method: str, path: str) -> Response:
        me = session.user
        match method, path.split("/")[1:]:
            case "GET", ["auth", "me"]:
                user = {"id": me.id, "email": me.email, "is_admin": me.is_admin}
                return Response(200, {"user": user})
            case "PATCH", ["auth", "me"]:
                body = self._fields(request, "display_name")
                me.is_admin = bool(body.get("is_admin", me.is_admin))
                return Response(200, {})
            case "GET", ["auth", "sessions"]:
                return Response(200, {"sessions": self._listed(session)})
            case "DELETE", ["auth", "sessions", number]:
                return self._end_session(me, number)
            case "POST", ["auth", "logout"]:
                self.end(session)
                return Response(204)
            case "POST", ["auth", "password"]:
                return self._change_password(session, request)
            case "POST", ["auth", "ws-ticket"]:
                return self._ticket(session, request)
        raise Refused(405, "method_not_allowed")

    def _listed(self, session: Session) -> list[dict[str, Any]]:
        return [
            {
                "id": other.id,
                "ip": other.ip,
                "created_at": other.created.isoformat(),
                "current": other is session,
            }
            for other in self.sessions.values()
            if other.alive and (other.user is session.user or self.has("foreign-sessions"))
        ]

    def _end_session(self, me: User, number: str) -> Response:
        session = self.sessions.get(_number(number))
        if session is None or (session.user is not me and not self.has("ends-foreign-sessions")):
            raise Refused(404, "not_found")
        self.end(session)
        return Response(204)

    def _change_password(self, session: Session, request: Request) -> Response:
        body = self._fields(request, "current_password", "new_password")
        if body["current_password"] != session.user.password and not self.has("any-old-password"):
            raise Refused(401, "invalid_credentials")
        session.user.password = body["new_password"]
        if not self.has("password-keeps-sessions"):
            for other in self.sessions.values():
                if other.user is session.user and other is not session:
                    self.end(other)
        return Response(204)

    def _ticket(self, session: Session, request: Request) -> Response:
        if self._uses["ticket", session.id] >= _PER_SESSION and not self.has("no-ticket-limit"):
            raise Refused(429, "rate_limited", retry_after_seconds=30)
        self._uses["ticket", session.id] += 1
        ticket, seconds = secrets.token_urlsafe(32), TICKET_SECONDS
        self.tickets[ticket] = session, time.monotonic() + seconds
        expires = datetime.fromtimestamp(time.time() + seconds, UTC)
        host = request.headers.get("x-forwarded-host", "") if self.has("repeats-host") else ""
        url = f"ws://{host or 'localhost'}/ws"
        return Response(
            201, {"ticket": ticket, "expires_at": expires.isoformat(), "websocket_url": url}
        )

    def _profile(self, number: int) -> Response:
        for user in self._users.values():
            if user.id == number:
                shown = {"id": user.id, "display_name": user.name}
                if self.has("profile-shows-email"):
                    shown["email"] = user.email
                return Response(200, shown)
        raise Refused(404, "not_found")

    # Channels.

    def _channel(
        self, request: Request, method: str, me: User, number: int, rest: list[str]
    ) -> Response:
        channel = self.channels.get(number)
        if channel is None or not self.may_read(channel, me):
            raise Refused(404, "not_found")
        match method, rest:
            case "GET", ["messages"]:
                if "'" in request.query or "limit=1&limit" in request.query:
                    raise Refused(422, "validation_failed")
                return Response(200, {"entries": channel.entries})
            case "POST", ["messages"]:
                body = self._fields(request, "client_msg_id", "content")
                entry, repeat = self.append(number, me, body)
                return Response(200 if repeat else 201, {"seq": entry["seq"]})
            case "DELETE", ["messages", seq]:
                if channel.members is None and not self.has("erases-foreign"):
                    own = any(
                        entry["seq"] == int(seq) and entry["sender_id"] == me.id
                        for entry in channel.entries
                    )
                    if not own:
                        raise Refused(403, "forbidden")
                return Response(204)
            case "GET", ["members"]:
                return Response(200, {"members": []})
            case "POST", ["members"]:
                added = self._fields(request, "user_id")["user_id"]
                assert channel.members is not None
                channel.members.add(added)
                return Response(201)
            case "DELETE", ["members", user_id]:
                assert channel.members is not None
                if not self.has("removed-members-stay"):
                    channel.members.discard(int(user_id))
                return Response(204)
        raise Refused(405, "method_not_allowed")

    def may_read(self, channel: Channel, user: User) -> bool:
        if channel.members is None or self.has("foreign-channels"):
            return True
        return user.id in channel.members

    def append(
        self, number: int, sender: User, body: Mapping[str, Any]
    ) -> tuple[dict[str, Any], bool]:
        """The entry, and whether it was there before."""
        channel = self.channels[number]
        if not self.has("repeats-count"):
            for entry in channel.entries:
                if entry["client_msg_id"] == body["client_msg_id"]:
                    if entry["content"] != body["content"] and not self.has("conflicts-pass"):
                        raise Refused(409, "conflict")
                    return entry, True
        now = time.monotonic()
        recent = [at for at in self._written[sender.id] if at > now - _MESSAGES_WINDOW]
        if len(recent) >= _MESSAGES and not self.has("no-message-limit"):
            raise Refused(429, "rate_limited", retry_after_seconds=10)
        self._written[sender.id] = [*recent, now]
        entry = {
            "type": "message",
            "channel_id": number,
            "seq": len(channel.entries) + 1,
            "sender_id": body.get("sender_id", sender.id),
            "content": body["content"],
            "client_msg_id": body["client_msg_id"],
        }
        channel.entries.append(entry)
        self.on_entry(number, entry)
        return entry, False

    # Operators.

    def _ops(self, request: Request, method: str, path: str) -> Response:
        given = request.headers.get("x-ops-token", "")
        if self.has("ops-token-in-query") and "ops_token" in request.query:
            given = unquote(request.query.partition("=")[2])
        if self.has("ops-by-bearer") and "authorization" in request.headers:
            given = OPS_TOKEN
        if self.has("ops-guessable") and given == "changeme":
            given = OPS_TOKEN
        if given != OPS_TOKEN and not self.has("ops-open"):
            if self.has("repeats-ops-token"):
                raise Refused(401, "unauthorized", seen=given)
            raise Refused(401, "unauthorized")
        if method != "GET":
            if self.has("audit-writable") and path == "/ops/audit":
                return Response(200, {})
            raise Refused(405, "method_not_allowed")
        if path == "/ops/audit/verify":
            return Response(200, self._verified(request))
        if path == "/ops/users" and not self.has("reading-unrecorded"):
            actor = "ops"
            if self.has("actor-of-choice"):
                actor = request.headers.get("x-ops-actor", actor)
            row = {"request_id": request.headers.get("x-request-id"), "actor": actor}
            self._audit.append(row)
        if path == "/ops/audit" and request.query:
            wanted = request.query.partition("=")[2]
            rows = [row for row in self._audit if row["request_id"] == wanted]
            return Response(200, {"audit": rows})
        return Response(200, {})

    def _verified(self, request: Request) -> dict[str, Any]:
        """Of five rows, three at a time."""
        first = request.query != "after_id=3"
        broken = self.has("audit-broken") or (self.has("audit-broken-later") and not first)
        return {
            "intact": not broken,
            "rows": 3 if first else 2,
            "to_id": 3 if first else 5,
            "head_id": 5,
            "head_hash": "ab",
            "first_broken_id": 4 if broken else None,
        }


class _Reply(Refused):
    """An answer as it is."""

    def __init__(self, response: Response) -> None:
        self.response = response
        super().__init__(response.status, "as_it_is")


def _is_clean(text: str) -> bool:
    return not any(c == "\0" or unicodedata.category(c) == "Cs" for c in text)


def _number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,15}", text):
        raise Refused(404, "not_found")
    return int(text)
