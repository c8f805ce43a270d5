"""One gateway process: the parts, wired; and one handler for every socket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import socket as sockets
import time
from datetime import UTC, datetime
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from db.chat_log import write_limits
from db.connections import FAILED, UNAVAILABLE, AsyncPool, connect_async, probe_async
from db.security_events import Event
from db.tickets import Admission
from rules import limit_subjects, log_lines
from rules.client_address import Address
from rules.errors import Refusal
from rules.secret_values import Secrets
from rules.settings import Settings
from rules.times import rfc3339
from rules.versions import version_status
from wsgateway import background
from wsgateway.admission import AdmissionDesk
from wsgateway.connection import Connection, finish_closing, say_goodbye
from wsgateway.connections import Connections, Places
from wsgateway.drain_watch import DrainWatch
from wsgateway.fanout import Fanout
from wsgateway.framing import text_frame
from wsgateway.guarded_socket import Guard, GuardedSocket, guarded_by
from wsgateway.handshake import Handshake, select_subprotocol
from wsgateway.housekeeping import Housekeeping
from wsgateway.listener import Listener
from wsgateway.lockouts import Lockouts
from wsgateway.member_watch import MemberWatch
from wsgateway.presence import Presence
from wsgateway.protocol import (
    Action,
    Close,
    DrainAck,
    Limits,
    Pong,
    Reply,
    Send,
    Subscribe,
    Typing,
    Unsubscribe,
    error_frame,
    receive,
    with_ref,
)
from wsgateway.readiness import Readiness
from wsgateway.release_watch import ReleaseWatch
from wsgateway.security_events import SecurityEvents
from wsgateway.session_watch import SessionWatch
from wsgateway.stats import read_stats
from wsgateway.turns import Turns
from wsgateway.typists import Typists
from wsgateway.writer import Writer

logger = logging.getLogger("gatehouse.gateway")

HANDSHAKE_SECONDS = 10
CLOSE_SECONDS = 3
# Cloud Run kills ten seconds after SIGTERM.
FLUSH_WITHIN_SECONDS = 5.5
LAST_HANDSHAKES_SECONDS = 1.0
EXIT_WITHIN_SECONDS = 8.5


class Gateway:
    def __init__(
        self, settings: Settings, secrets_: Secrets, pool: AsyncPool, turns: Turns
    ) -> None:
        chat, limits = settings.chat, settings.socket
        self._settings = settings
        self._pool = pool
        self.instance = f"{sockets.gethostname()}-{secrets.token_hex(4)}"
        # Beyond what Connection.write allows: who reads slowly is told so.
        self._most_unsent_bytes = 2 * limits.send_buffer_bytes
        self._limits = Limits(
            frames_per_second=limits.max_frames_per_second,
            max_subscriptions=limits.max_subscriptions,
            message_max_chars=chat.message_max_chars,
        )
        self._connections = Connections()
        self._fanout = Fanout(
            pool,
            turns,
            recovery_messages=chat.recovery_max_messages,
            recovery_bytes=limits.send_buffer_bytes // 4,
        )
        self._events = SecurityEvents(pool)
        self._places = Places(limits.max_connections, limits.max_connections_per_ip)
        self._presence = Presence(pool, self._connections, self.instance, self._stats)
        self._lockouts = Lockouts(pool, self._events, settings.auth)
        self._desk = AdmissionDesk(
            pool, self._presence, self._lockouts, limits.max_connections_per_account
        )
        self._drains = DrainWatch(
            pool, turns, self._connections, self.instance, settings.drain.warning_seconds
        )
        self._watch = SessionWatch(
            pool,
            turns,
            self._connections,
            idle_days=settings.auth.session_idle_days,
            unverified_max_seconds=limits.unverified_max_seconds,
            overdue=self._drains.overdue,
        )
        self._writer = Writer(
            pool, self._fanout, self._events, write_limits(chat), self._watch.doubt
        )
        self._releases = ReleaseWatch(pool, self._connections)
        self._typists = Typists(pool, self._fanout)
        self._listener = Listener(
            lambda: connect_async(
                settings.database, secrets_.db_passwords, "gatehouse-gateway-listener"
            ),
            fanout=self._fanout,
            watch=self._watch,
            members=MemberWatch(pool, self._fanout),
            releases=self._releases,
            drains=self._drains,
            writer=self._writer,
            presence=self._presence,
            lockouts=self._lockouts,
            typists=self._typists,
        )
        self._housekeeping = Housekeeping(pool, settings)
        self._handshake = Handshake(
            allowed_origins=settings.socket_origins,
            trusted_proxy_hops=settings.service.trusted_proxy_hops,
            ticket_in_query=settings.ticket_in_query,
            cloud_project=settings.cloud_project,
            events=self._events,
            refusal_now=self._refusal_now,
            refusal_for=self._refusal_for,
            probe=Readiness(self._look_at_database).require,
        )
        self._guard = Guard(
            most_unsent_bytes=self._most_unsent_bytes,
            frames_per_second=limits.max_frames_per_second,
            last_look=self._handshake.last_look,
            refuse_unread=self._handshake.refuse_unread,
        )
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Asks run() to end in good order; safe in a signal handler of the loop."""
        self._stopping.set()

    async def run(self, host: str, port: int, *, share_port: bool) -> None:
        """Serves until stop(); raises OSError when the port is not to be had."""
        limits = self._settings.socket
        async with asyncio.TaskGroup() as tasks:
            parts = [
                tasks.create_task(background.forever(work))
                for work in (
                    self._writer.run(),
                    self._desk.run(),
                    self._presence.run(),
                    self._lockouts.run(),
                    self._lockouts.follow(),
                    self._events.run(),
                    self._fanout.run(),
                    self._listener.run(),
                    self._watch.run(),
                    self._watch.follow(),
                    self._releases.run(),
                    self._drains.run(),
                    self._typists.run(),
                    self._housekeeping.run(),
                )
            ]
            try:
                await self._presence.report()  # nobody is admitted to an instance nobody knows
                await self._lockouts.read()
                await self._releases.read()
                await self._drains.read()
                server = await serve(
                    self._handle,
                    host,
                    port,
                    reuse_port=share_port or None,
                    process_request=self._handshake.process_request,
                    process_response=self._handshake.process_response,
                    select_subprotocol=select_subprotocol,
                    create_connection=guarded_by(self._guard),
                    compression=None,
                    server_header=None,
                    open_timeout=HANDSHAKE_SECONDS,
                    close_timeout=CLOSE_SECONDS,
                    ping_interval=limits.ping_seconds,
                    ping_timeout=limits.ping_seconds,
                    max_size=limits.max_frame_bytes,
                    # What it reads ahead of us: enough to batch, little enough to hold back.
                    max_queue=32,
                    # Above it the library waits before it pings, for ever where nobody reads: a
                    # dead peer would be found only while it has little to read.
                    write_limit=self._most_unsent_bytes,
                    backlog=1024,
                )
                self._events.note(
                    Event.SERVICE_STARTED, None, service="gateway", instance=self.instance
                )
                logger.info("serving on %s:%d as %s", host, port, self.instance)
                await self._stopping.wait()
                await self._drain(server)
                await self._write_last_receipts()
                await self._presence.say_goodbye()
            finally:
                await background.end(parts)

    async def _drain(self, server: Server) -> None:
        """New handshakes get 503; every socket closes with 1012, spread over some seconds, after
        the answers to what it has sent; then the queue is empty by construction."""
        clock = asyncio.get_running_loop().time
        started = clock()
        open_sockets = list(self._connections)
        logger.info("stopping: %d sockets to close", len(open_sockets))
        random.shuffle(open_sockets)
        pause = self._settings.socket.shutdown_spread_seconds / max(1, len(open_sockets))
        for number, connection in enumerate(open_sockets):
            due = started + number * pause
            if due > clock():
                await asyncio.sleep(due - clock())
            connection.close(Refusal("service_restart"), after_acks=True)
        # Sockets that wait for the answers to what they have sent close when those have gone out.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(started + FLUSH_WITHIN_SECONDS):
                await self._writer.flushed()
        server.close(code=1012, reason="service_restart")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_HANDSHAKES_SECONDS):
                await server.wait_closed()
        self._guard.cut_handshakes()  # whoever has only connected would hold us up to the end
        try:
            async with asyncio.timeout_at(started + EXIT_WITHIN_SECONDS):
                await server.wait_closed()
        except TimeoutError:
            logger.warning("stopped with %d sockets that did not close", len(self._connections))
        logger.info("stopped")

    async def _write_last_receipts(self) -> None:
        try:
            await self._drains.write_receipts()
        except (FAILED, *UNAVAILABLE) as error:
            logger.warning("stopped without the last receipts: %s", type(error).__name__)

    def _stats(self) -> dict[str, Any]:
        return read_stats(
            connections=self._connections,
            fanout=self._fanout,
            writer=self._writer,
            desk=self._desk,
            watch=self._watch,
            listener=self._listener,
        )

    def _refusal_now(self) -> Refusal | None:
        if self._stopping.is_set():
            return Refusal("unavailable", "This gateway is stopping.", retry_after_seconds=1)
        if self._places.is_full():
            return Refusal("unavailable", "This gateway is full.", retry_after_seconds=5)
        return None

    def _refusal_for(self, address: Address | None) -> Refusal | None:
        if self._places.is_full_for(limit_subjects.source(address)):
            return Refusal("rate_limited", "Too many sockets.", retry_after_seconds=30)
        return self._lockouts.refusal_for(address)

    async def _look_at_database(self) -> None:
        async with self._pool.connection() as connection:
            await probe_async(connection)

    async def _handle(self, socket: ServerConnection) -> None:
        """One socket from after the upgrade to its end."""
        assert isinstance(socket, GuardedSocket)  # noqa: S101 - serve() was told to make it
        assert socket.request is not None  # noqa: S101 - the handshake is over
        address = self._handshake.address_of(socket, socket.request)
        source = limit_subjects.source(address)
        # Asked in the handshake too; taken here, so that those who came together are counted.
        if not self._places.take(source):
            await _turn_away(socket, Refusal("at_capacity"))
            return
        ticket = self._handshake.ticket_of(socket.request)
        socket.forget_handshake()
        try:
            await self._admit(socket, ticket, address)
        finally:
            self._places.give_back(source)

    async def _admit(
        self, socket: GuardedSocket, ticket: str | None, address: Address | None
    ) -> None:
        changes_seen, drains_seen = self._watch.changes, self._drains.changes
        try:
            admission = await self._desk.admit(ticket, address)
        except Refusal as refusal:
            await _turn_away(socket, refusal)
            return
        log_lines.request_id.set(admission.request_id)
        drain_id = await self._drains.drain_of(admission.session_id)
        connection = Connection(
            socket,
            admission,
            address,
            limits=self._limits,
            buffer_bytes=self._settings.socket.send_buffer_bytes,
        )
        socket.on_flood = lambda: connection.close(Refusal("rate_limited"), after_acks=True)
        self._connections.add(connection)
        try:
            connection.note("socket open")
            drain = self._drains.enter(connection, drain_id)
            connection.send(self._connected(admission) | {"drain": drain})
            await self._read(socket, connection, changes_seen, drains_seen)
        finally:
            self._fanout.leave(connection)
            self._connections.remove(connection)
            self._presence.ended(connection.id)
            if connection.end_code is None:
                connection.note("socket closed: by the client", close_code=socket.close_code)

    async def _read(
        self,
        socket: ServerConnection,
        connection: Connection,
        changes_seen: int,
        drains_seen: int,
    ) -> None:
        call_later = asyncio.get_running_loop().call_later
        lifetime = self._settings.socket.max_lifetime_seconds
        # Staggered, so that those who came together do not all come back together.
        expiry = call_later(
            lifetime * random.uniform(0.9, 1.0),  # noqa: S311 - not a secret
            lambda: connection.close(Refusal("lifetime"), after_acks=True),
        )
        # Who never asks for anything gets nothing, and takes a place from somebody who would.
        silence = call_later(
            self._settings.socket.first_frame_seconds,
            lambda: connection.close(Refusal("policy", "No frame came.")),
        )
        try:
            # A revocation that was heard of while the ticket was being spent did not find this
            # socket here yet.
            if self._watch.changes != changes_seen:
                await self._watch.check(connection.session_id)
            if self._drains.changes != drains_seen:
                await self._drains.look_at(connection.session_id)
            async for message in socket:
                silence.cancel()
                if connection.is_ending or connection.is_silent:
                    continue
                for action in receive(connection.state, message, time.monotonic()):
                    await self._carry_out(connection, action)
        except ConnectionClosed:
            pass  # however it ended, there is nobody left to tell
        except (TimeoutError, *UNAVAILABLE) as error:  # of its turn, or of the database
            logger.warning("a socket ends: %s", type(error).__name__)
            connection.close(Refusal("unavailable", retry_after_seconds=2))
        except Exception:
            logger.exception("a socket ends")
            connection.close(Refusal("internal_error"))
        finally:
            expiry.cancel()
            silence.cancel()
        await connection.closed()

    async def _carry_out(self, connection: Connection, action: Action) -> None:
        match action:
            case Send():
                self._writer.submit(connection, action)
            case Reply(frame):
                connection.send(frame)
            case Pong(ref):
                now = rfc3339(datetime.now(UTC))
                connection.send(with_ref({"type": "pong", "server_time": now}, ref))
            case Subscribe():
                await self._subscribe(connection, action)
            case Unsubscribe(channel_id, ref):
                self._fanout.unsubscribe(connection, channel_id)
                frame = {"type": "unsubscribed", "channel_id": channel_id}
                connection.send(with_ref(frame, ref))
            case Typing(channel_id):
                self._typists.says(connection.session_id, connection.user_id, channel_id)
            case DrainAck(event_id, ref):
                self._drains.ack(connection, event_id, ref)
            case Close(code):
                connection.close(Refusal(code), after_acks=True)

    async def _subscribe(self, connection: Connection, wanted: Subscribe) -> None:
        try:
            subscription = await self._fanout.subscribe(
                connection, wanted.channel_id, wanted.after_seq
            )
        except Refusal as refusal:
            connection.send(error_frame(refusal, ref=wanted.ref))
            return
        frame = {
            "type": "subscribed",
            "channel_id": wanted.channel_id,
            "first_seq": subscription.first_seq,
            "last_seq": subscription.last_seq,
            "recovered": subscription.recovered,
            "entries": [entry.as_object() for entry in subscription.entries],
        }
        connection.send(with_ref(frame, wanted.ref))

    def _connected(self, admission: Admission) -> dict[str, Any]:
        limits = self._settings.socket
        return {
            "type": "connected",
            "user_id": admission.user_id,
            "session_id": admission.session_id,
            "display_name": admission.display_name,
            "instance": self.instance,
            "server_time": rfc3339(admission.now),
            "ping_seconds": limits.ping_seconds,
            "max_lifetime_seconds": limits.max_lifetime_seconds,
            "version_status": version_status(
                self._releases.policy,
                admission.client_version,
                admission.client_content_version,
                admission.now,
            ),
        }


async def _turn_away(socket: ServerConnection, refusal: Refusal) -> None:
    """A refusal that a browser must understand: told after the upgrade."""
    logger.info("admission refused: %s", refusal.code)
    say_goodbye(socket, refusal, text_frame(error_frame(refusal)))
    await finish_closing(socket)
