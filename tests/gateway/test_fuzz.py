"""Whatever a frame holds: the gateway answers it or ends the socket, and never with 1011."""

from __future__ import annotations

import contextlib
import uuid

from hypothesis import given, note
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.support.databases import Database
from tests.support.fuzz import FEW, bodies
from tests.support.processes import Processes
from tests.support.services import People, Person, gateway_environment
from tests.support.sockets import Sockets, TestSocket

FITTING = {
    "type": "send",
    "channel_id": 1,
    "client_msg_id": str(uuid.UUID(int=1)),
    "content": "hi",
    "after_seq": 0,
    "ref": "r",
}
_KINDS = ("send", "subscribe", "unsubscribe", "ping")


class Victim:
    """A socket to throw things at; a new one when it has ended."""

    def __init__(self, port: int, people: People, sockets: Sockets, person: Person) -> None:
        self._port, self._people, self._sockets, self._person = port, people, sockets, person
        self._socket = self._open()

    def receive(self, opcode: Opcode, data: bytes) -> None:
        with contextlib.suppress(OSError):
            frame = Frame(opcode, data).serialize(mask=True)
            self._socket.connection.socket.sendall(frame)
        if not self._socket.is_alive():
            code, reason = self._socket.closed()
            note(f"closed with {code} {reason}")
            assert code in (1002, 1003, 1007, 1009)
            self._socket = self._open()

    def _open(self) -> TestSocket:
        return self._sockets.admitted(self._port, self._people.ticket(self._person))


def test_no_frame_makes_a_mistake_of_ours(database: Database, processes: Processes) -> None:
    service, port = processes.start_service("wsgateway", gateway_environment(database))
    with People(database) as people, Sockets() as sockets:
        victim = Victim(port, people, sockets, people.person())

        @FEW
        @given(data=st.one_of([bodies({**FITTING, "type": kind}) for kind in _KINDS]))
        def send_text(data: bytes) -> None:
            victim.receive(Opcode.TEXT, data)

        @FEW
        @given(data=st.binary(max_size=50))
        def send_binary(data: bytes) -> None:
            victim.receive(Opcode.BINARY, data)

        send_text()
        send_binary()
    assert not [line for line in service.log if line["severity"] == "ERROR"]
