"""NOTIFY: a wake-up and a hint where to look, never the data itself; typing alone excepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass

from psycopg import AsyncConnection

from db import queries

_SQL = queries.load("notifications")
_LISTEN_LOG = _SQL["listen_log"]
_LISTEN_SESSIONS = _SQL["listen_sessions"]
_LISTEN_REPLACED = _SQL["listen_replaced"]
_LISTEN_RELEASE = _SQL["listen_release"]
_LISTEN_DRAINS = _SQL["listen_drains"]
_LISTEN_MEMBERS = _SQL["listen_members"]
_LISTEN_TYPING = _SQL["listen_typing"]
_NOTIFY_TYPING = _SQL["notify_typing"]
_LISTEN_LOCKOUTS = _SQL["listen_lockouts"]
_LISTEN_HEARTBEAT = _SQL["listen_heartbeat"]
_NOTIFY_HEARTBEAT = _SQL["notify_heartbeat"]

LOG_CHANNEL = "gatehouse_log"
SESSIONS_CHANNEL = "gatehouse_sessions"
REPLACED_CHANNEL = "gatehouse_replaced"
RELEASE_CHANNEL = "gatehouse_release"
DRAINS_CHANNEL = "gatehouse_drains"
MEMBERS_CHANNEL = "gatehouse_members"
TYPING_CHANNEL = "gatehouse_typing"
LOCKOUTS_CHANNEL = "gatehouse_lockouts"
HEARTBEAT_CHANNEL = "gatehouse_heartbeat"


@dataclass(frozen=True, slots=True)
class LogGrown:
    """`last_seqs` by channel id; None means look at everything. `backend_pid` is the writer's."""

    last_seqs: dict[int, int] | None
    backend_pid: int


@dataclass(frozen=True, slots=True)
class SessionsChanged:
    """`session_ids`; None means look at everything."""

    session_ids: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class ConnectionsReplaced:
    """`connection_ids` of whatever instance; None means look at everything."""

    connection_ids: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class MembersGone:
    """Members of these channels were taken out or changed; None means look at everything."""

    channel_ids: frozenset[int] | None


@dataclass(frozen=True, slots=True)
class Typing:
    """Who types where: (channel id, user id)."""

    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ReleaseChanged:
    """The release policy was written."""


@dataclass(frozen=True, slots=True)
class DrainsChanged:
    """A drain began or ended."""


@dataclass(frozen=True, slots=True)
class AddressesLocked:
    """At least one address was locked out."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Somebody's beat_heart, perhaps our own."""

    beat: str


Notice = (
    LogGrown
    | SessionsChanged
    | ConnectionsReplaced
    | MembersGone
    | ReleaseChanged
    | DrainsChanged
    | Typing
    | AddressesLocked
    | Heartbeat
)


async def listen(connection: AsyncConnection) -> None:
    await connection.execute(_LISTEN_LOG)
    await connection.execute(_LISTEN_SESSIONS)
    await connection.execute(_LISTEN_REPLACED)
    await connection.execute(_LISTEN_MEMBERS)
    await connection.execute(_LISTEN_RELEASE)
    await connection.execute(_LISTEN_DRAINS)
    await connection.execute(_LISTEN_TYPING)
    await connection.execute(_LISTEN_LOCKOUTS)
    await connection.execute(_LISTEN_HEARTBEAT)


async def receive(connection: AsyncConnection, seconds: float) -> AsyncIterator[Notice]:
    """What arrives within `seconds`; a payload that cannot be read means look at everything."""
    async for notify in connection.notifies(timeout=seconds):
        if notify.channel == LOG_CHANNEL:
            yield LogGrown(_last_seqs(notify.payload), notify.pid)
        elif notify.channel == SESSIONS_CHANNEL:
            yield SessionsChanged(_ids(notify.payload))
        elif notify.channel == MEMBERS_CHANNEL:
            yield MembersGone(_ids(notify.payload))
        elif notify.channel == RELEASE_CHANNEL:
            yield ReleaseChanged()
        elif notify.channel == DRAINS_CHANNEL:
            yield DrainsChanged()
        elif notify.channel == TYPING_CHANNEL:
            yield Typing(_pairs(notify.payload))
        elif notify.channel == LOCKOUTS_CHANNEL:
            yield AddressesLocked()
        elif notify.channel == HEARTBEAT_CHANNEL:
            yield Heartbeat(notify.payload)
        else:
            yield ConnectionsReplaced(_ids(notify.payload))


async def beat_heart(connection: AsyncConnection, beat: str) -> None:
    """Notifies everybody who listens, whoever sends it included: what comes back was heard."""
    await connection.execute(_NOTIFY_HEARTBEAT, (beat,))


async def notify_typing(connection: AsyncConnection, said: Collection[tuple[int, int]]) -> None:
    """Passes on (session id, channel id) of those who may write there; at most 100 of them."""
    session_ids = [session_id for session_id, _ in said]
    channel_ids = [channel_id for _, channel_id in said]
    await connection.execute(
        _NOTIFY_TYPING, {"session_ids": session_ids, "channel_ids": channel_ids}
    )


def _last_seqs(payload: str) -> dict[int, int] | None:
    try:
        pairs = (item.split(":") for item in payload.split())
        return {int(channel_id): int(last_seq) for channel_id, last_seq in pairs}
    except ValueError:
        return None


def _ids(payload: str) -> frozenset[int] | None:
    try:
        return frozenset(int(item) for item in payload.split())
    except ValueError:
        return None


def _pairs(payload: str) -> tuple[tuple[int, int], ...]:
    try:
        split = (item.split(":") for item in payload.split())
        return tuple((int(first), int(second)) for first, second in split)
    except ValueError:
        return ()
