"""/asyncapi.json, held against live gateways in both directions.

Every frame and every end below must be described, and every described frame, error code and close
code must have come by the last line.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg import sql
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.support.databases import Database
from tests.support.described import Described, SocketDescription
from tests.support.log_entries import add_one_of_each_kind
from tests.support.processes import Processes, ServiceProcess, wait_until
from tests.support.services import People, Person, api_environment, gateway_environment

SECONDS = 15.0


class DescribedSocket:
    """A socket of which every frame and the end must be described."""

    def __init__(self, connection: ClientConnection, description: SocketDescription) -> None:
        self._connection = connection
        self._description = description

    def send(self, kind: str, **members: Any) -> None:
        frame = {"type": kind, **members}
        self._description.check_sent_by_client(frame)
        self._connection.send(json.dumps(frame))

    def send_anything(self, message: str | bytes) -> None:
        self._connection.send(message)

    def send_frame(self, opcode: Opcode, data: bytes, *, mask: bool = True) -> None:
        """Below the library, which would not send it."""
        self._connection.socket.sendall(Frame(opcode, data).serialize(mask=mask))

    def next(self, kind: str) -> dict[str, Any]:
        """The next frame of this type; what comes before it is checked and dropped."""
        while True:
            message = self._connection.recv(timeout=SECONDS)
            frame = self._description.check_sent_by_gateway(message)
            if frame["type"] == kind:
                return frame

    def error(self) -> str:
        return str(self.next("error")["code"])

    def end(self) -> tuple[int, str]:
        """Reads to the end: (close code, reason)."""
        received = None
        try:
            while True:
                message = self._connection.recv(timeout=SECONDS)
                self._description.check_sent_by_gateway(message)
        except ConnectionClosed as error:
            received = error.rcvd
        assert received is not None, "the connection broke"
        self._description.check_close(received.code, received.reason)
        return received.code, received.reason


def subprotocols(ticket: str) -> list[Subprotocol]:
    return [Subprotocol("gatehouse.v1"), Subprotocol(f"ticket.{ticket}")]


@dataclass
class Stage:
    """Two gateways, an ordinary one and one whose sockets end soon, and an API that describes."""

    database: Database
    people: People
    description: SocketDescription
    process: ServiceProcess
    port: int
    hasty_port: int
    opened: contextlib.ExitStack

    def open(self, person: Person, port: int | None = None) -> DescribedSocket:
        return self.with_ticket(self.people.ticket(person), port)

    def with_ticket(self, ticket: str, port: int | None = None) -> DescribedSocket:
        connection = self.opened.enter_context(
            connect(
                f"ws://127.0.0.1:{port or self.port}/ws",
                subprotocols=subprotocols(ticket),
                compression=None,
                ping_interval=None,
                max_queue=None,
                close_timeout=1,
            )
        )
        return DescribedSocket(connection, self.description)

    def execute(self, statement: str, *values: object) -> None:
        self.people.owner.execute(statement, values)


@pytest.fixture
def stage(database: Database, processes: Processes) -> Iterator[Stage]:
    terms = {
        "DRAIN_WARNING_SECONDS": "59",
        "DB_POOL_TIMEOUT_MS": "300",
        "WS_SEND_BUFFER_BYTES": "65536",
    }
    one = {"WS_MAX_SUBSCRIPTIONS": "1", "WS_SHUTDOWN_SPREAD_SECONDS": "0"}
    hasty = {
        "WS_MAX_LIFETIME_SECONDS": "3",
        "WS_PING_SECONDS": "1",
        "WS_FIRST_FRAME_SECONDS": "2",
        "WS_MAX_CONNECTIONS_PER_ACCOUNT": "1",
    }
    _, api_port = processes.start_service("api", api_environment(database))
    environment = gateway_environment(database, **terms, **one)
    process, port = processes.start_service("wsgateway", environment)
    _, hasty_port = processes.start_service(
        "wsgateway", gateway_environment(database, **terms, **hasty)
    )
    with People(database) as people, contextlib.ExitStack() as opened:
        description = Described.by(api_port).socket
        yield Stage(database, people, description, process, port, hasty_port, opened)


def test_every_frame_is_described_and_every_described_frame_comes(
    stage: Stage, admin_connection: psycopg.Connection[Any]
) -> None:
    talk(stage)
    frames_refused(stage)
    broken_on_purpose(stage)
    sessions_ended(stage)
    a_drain(stage)
    an_end_nobody_heard_of(stage)
    releases(stage)
    ends_in_good_time(stage)
    one_that_does_not_read(stage)
    without_a_database(stage, admin_connection)
    without_rights(stage)
    restarted(stage)

    description = stage.description
    frames = description.frames("receive") | description.frames("send")
    assert frames - description.seen_frames == set()
    assert description.errors() - description.seen_errors == set()
    assert description.closes() - description.seen_closes == set()


def talk(stage: Stage) -> None:
    ann = stage.people.person("Ann")
    opened = stage.open(ann)
    opened.next("connected")
    opened.send("subscribe", channel_id=1, after_seq=0, ref="r1")
    assert opened.next("subscribed")["ref"] == "r1"
    client_msg_id = str(uuid.uuid4())
    opened.send("send", channel_id=1, client_msg_id=client_msg_id, content="hi")
    assert opened.next("ack")["duplicate"] is False
    opened.send("send", channel_id=1, client_msg_id=client_msg_id, content="hi", ref="r2")
    assert opened.next("ack")["duplicate"] is True
    opened.send("send", channel_id=1, client_msg_id=client_msg_id, content="ho", ref="r3")
    assert opened.error() == "conflict"
    add_one_of_each_kind(stage.database, 1, ann.user_id)
    for kind in ("joined", "deleted", "left", "removed"):
        opened.next(kind)
    opened.send("subscribe", channel_id=1, after_seq=0)
    kinds = [entry["type"] for entry in opened.next("subscribed")["entries"]]
    assert kinds == ["message", "joined", "deleted", "left"]
    opened.send("send", channel_id=1, client_msg_id=str(uuid.uuid4()), content="\u2603")
    opened.next("message")
    opened.send("ping", ref="")
    assert opened.next("pong")["ref"] == ""
    bob = stage.open(stage.people.person("Bob"))
    bob.send("typing", channel_id=1)
    opened.next("typing")
    opened.send("unsubscribe", channel_id=1)
    opened.next("unsubscribed")


def frames_refused(stage: Stage) -> None:
    ann = stage.people.person("Ann")
    opened = stage.open(ann)
    for message, code in (
        ("{", "malformed_json"),
        ('{"type":"shout"}', "invalid_request"),
        ('{"type":"ping","more":1}', "validation_failed"),
        ('{"type":"send","channel_id":1,"client_msg_id":"x","content":"hi"}', "validation_failed"),
    ):
        opened.send_anything(message)
        assert opened.error() == code
    opened.send("subscribe", channel_id=9)
    assert opened.error() == "not_found"
    opened.send("subscribe", channel_id=1)
    opened.send("subscribe", channel_id=2)
    assert opened.error() == "conflict"
    stage.execute(
        "UPDATE users SET muted_until = clock_timestamp() + interval '1 hour' WHERE id = %s",
        ann.user_id,
    )
    opened.send("send", channel_id=1, client_msg_id=str(uuid.uuid4()), content="hi")
    assert opened.error() == "muted"


def broken_on_purpose(stage: Stage) -> None:
    assert stage.with_ticket("A" * 43).end() == (4401, "ticket_invalid")

    def end_after(break_it: Callable[[DescribedSocket], None]) -> int:
        opened = stage.open(stage.people.person())
        opened.next("connected")
        break_it(opened)
        return opened.end()[0]

    assert end_after(lambda opened: opened.send_anything(b"{}")) == 1003
    assert end_after(lambda opened: opened.send_frame(Opcode.TEXT, b"\xff")) == 1007
    assert end_after(lambda opened: opened.send_frame(Opcode.TEXT, b" " * 40_000)) == 1009
    assert end_after(lambda opened: opened.send_frame(Opcode.TEXT, b"{}", mask=False)) == 1002
    flood = Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True) * 4000

    def send_flood(opened: DescribedSocket) -> None:
        with contextlib.suppress(OSError):  # the gateway may have had enough already
            opened._connection.socket.sendall(flood)

    assert end_after(send_flood) == 4429


def a_drain(stage: Stage) -> None:
    ann = stage.people.person("Ann")
    opened = stage.open(ann)
    opened.next("connected")
    drain_id = stage.people.one(
        "SELECT drain_id FROM start_drain('2.0', 'all', 60, NULL, 'olga', NULL)"
    )
    assert opened.next("drain_started")["event_id"] == drain_id
    opened.send("drain_ack", event_id=drain_id, ref="saved")
    assert opened.next("drain_acked")["ref"] == "saved"
    assert stage.open(ann).next("connected")["drain"]["event_id"] == drain_id
    opened.next("drain_warning")
    stage.execute("SELECT cancel_drain(%s, 'olga', NULL, NULL, NULL)", drain_id)
    opened.next("drain_cancelled")


def sessions_ended(stage: Stage) -> None:
    for statement, code in (
        (
            "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'test' WHERE id = %s",
            4501,
        ),
        ("UPDATE user_sessions SET drain_deadline_at = now() WHERE id = %s", 4510),
    ):
        person = stage.people.person()
        opened = stage.open(person)
        opened.next("connected")
        stage.execute(statement, person.session_id)
        assert opened.end()[0] == code
    person = stage.people.person()
    opened = stage.open(person)
    opened.next("connected")
    stage.execute("UPDATE users SET disabled_at = now() WHERE id = %s", person.user_id)
    assert opened.end() == (4503, "account_disabled")


def an_end_nobody_heard_of(stage: Stage) -> None:
    """A session expires silently, and its socket writes before the next sweep finds it.

    Again where the sweep was quicker, which it is once in a few hundred times.
    """
    for _ in range(5):
        person = stage.people.person()
        opened = stage.open(person)
        opened.next("connected")
        stage.execute(
            "UPDATE user_sessions SET expires_at = clock_timestamp() + interval '0.3 s'"
            " WHERE id = %s",
            person.session_id,
        )
        wait_until(partial(_has_ended, stage, person), "the session's end")
        opened.send("send", channel_id=1, client_msg_id=str(uuid.uuid4()), content="hi")
        assert opened.end() == (4501, "session_revoked")
        if "session_revoked" in stage.description.seen_errors:
            return


def _has_ended(stage: Stage, person: Person) -> bool:
    query = "SELECT count(*) FROM live_sessions WHERE session_id = %s"
    return bool(stage.people.one(query, person.session_id) == 0)


def releases(stage: Stage) -> None:
    """Nobody here names a version: first there is a newer one, then it must be."""
    person = stage.people.person()
    opened = stage.open(person)
    opened.next("connected")
    ticket = stage.people.ticket(person)
    stage.execute("UPDATE release_policy SET latest_version = '2.0'")
    opened.next("update_available")
    stage.execute(
        "UPDATE release_policy SET min_supported_version = '2.0', enforce_after = clock_timestamp()"
    )
    opened.next("update_required")
    assert opened.end() == (4526, "update_required")
    assert stage.with_ticket(ticket).end() == (4526, "update_required")
    stage.execute("UPDATE release_policy SET min_supported_version = NULL")


def ends_in_good_time(stage: Stage) -> None:
    person = stage.people.person()
    first = stage.open(person, stage.hasty_port)
    first.next("connected")
    second = stage.open(person, stage.hasty_port)
    second.send("ping")
    assert first.end() == (4509, "replaced")
    assert second.end() == (4440, "lifetime")

    assert stage.open(stage.people.person(), stage.hasty_port).end() == (1008, "policy")

    dead = stage.people.ticket(stage.people.person())
    messages, close = speak_below_the_library(
        stage.hasty_port, dead, [b'{"type":"ping"}'], answer_pings=False, pause_seconds=0
    )
    for message in messages:
        stage.description.check_sent_by_gateway(message)
    assert close[0] == 1011, "no pong came"
    stage.description.check_close(*close)


def one_that_does_not_read(stage: Stage) -> None:
    """Asks for what there is, again and again, and reads none of it."""
    author = stage.open(stage.people.person())
    for number in range(5):
        content = "\u0001" * 1990 + str(number)
        author.send("send", channel_id=1, client_msg_id=str(uuid.uuid4()), content=content)
        author.next("ack")
    ask = b'{"type":"subscribe","channel_id":1,"after_seq":0}'
    ticket = stage.people.ticket(stage.people.person())
    messages, close = speak_below_the_library(
        stage.port, ticket, [ask] * 900, answer_pings=True, pause_seconds=2
    )
    for message in messages:
        stage.description.check_sent_by_gateway(message)
    assert close == (4408, "slow_consumer")
    stage.description.check_close(*close)


def speak_below_the_library(
    port: int, ticket: str, texts: list[bytes], *, answer_pings: bool, pause_seconds: float
) -> tuple[list[str], tuple[int, str]]:
    """Sends `texts`, reads nothing for a while, then everything: (text messages, the close)."""
    protocol = ClientProtocol(
        parse_uri(f"ws://127.0.0.1:{port}/ws"),
        subprotocols=subprotocols(ticket),
        max_size=None,
    )
    messages: list[str] = []
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(SECONDS)
        connection.connect(("127.0.0.1", port))
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        while not protocol.handshake_exc and protocol.state.name == "CONNECTING":
            protocol.receive_data(connection.recv(4096))
        for text in texts:
            protocol.send_text(text)
        connection.sendall(b"".join(protocol.data_to_send()))
        time.sleep(pause_seconds)  # what is tested is that it does not read
        while protocol.close_rcvd is None:
            data = connection.recv(65536)
            assert data, "the connection broke"
            protocol.receive_data(data)
            pongs = protocol.data_to_send()
            if answer_pings:
                with contextlib.suppress(OSError):
                    connection.sendall(b"".join(pongs))
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    messages.append(bytes(event.data).decode())
        return messages, (protocol.close_rcvd.code, protocol.close_rcvd.reason)


def without_a_database(stage: Stage, admin_connection: psycopg.Connection[Any]) -> None:
    opened = stage.open(stage.people.person())
    opened.next("connected")
    ticket = stage.people.ticket(stage.people.person())
    name = sql.Identifier(stage.database.name)
    allow = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
    admin_connection.execute(allow.format(name, sql.SQL("false")))
    try:
        conninfo = stage.database.cluster.conninfo("postgres")
        with psycopg.connect(conninfo, autocommit=True) as superuser:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND usename = 'gatehouse_gateway'",
                [stage.database.name],
            )
        opened.send("send", channel_id=1, client_msg_id=str(uuid.uuid4()), content="hi")
        assert opened.error() == "unavailable"
        opened.send("subscribe", channel_id=1)
        assert opened.end() == (1013, "at_capacity")
        assert stage.with_ticket(ticket).end() == (1013, "at_capacity")
    finally:
        admin_connection.execute(allow.format(name, sql.SQL("true")))
    stage.process.wait_until_ready(stage.port)


def without_rights(stage: Stage) -> None:
    """A mistake of ours, made by an operator: the gateway may not read channels any more."""
    opened = stage.open(stage.people.person())
    opened.next("connected")
    stage.execute("REVOKE ALL ON chat_channels FROM gatehouse_gateway")
    opened.send("subscribe", channel_id=1)
    assert opened.end() == (1011, "internal")


def restarted(stage: Stage) -> None:
    opened = stage.open(stage.people.person())
    opened.next("connected")
    stage.process.stop()
    assert opened.end() == (1012, "service_restart")
