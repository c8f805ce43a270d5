"""Clients that do not read: they cost the others nothing, and the gateway little."""

from __future__ import annotations

import socket

import pytest
from websockets.frames import Frame, Opcode

from tests.gateway.conftest import House, StartGateway
from tests.support.processes import wait_until
from tests.support.sockets import Sockets, TestSocket

LONG = "\u0dba" * 2000  # 6 KB in UTF-8


class Crowd:
    """Somebody who will not read, and somebody who does, in one channel on one gateway."""

    def __init__(self, house: House, port: int, sockets: Sockets) -> None:
        self.people = house.people
        self.port = port
        self._sockets = sockets
        self.ada = self.people.person("Ada")
        self.channel = self.people.channel(self.ada)
        self.reader = self.enter()
        self.reader.subscribe(self.channel)

    def enter(self) -> TestSocket:
        return self._sockets.admitted(self.port, self.people.ticket(self.ada))

    def sleeper(self) -> TestSocket:
        """Subscribed; from now on its frames stay in the network until somebody reads."""
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        narrow.connect(("127.0.0.1", self.port))
        ticket = self.people.ticket(self.ada)
        sleeper = self._sockets.admitted(self.port, ticket, sock=narrow, max_queue=1)
        sleeper.subscribe(self.channel)
        return sleeper

    def flood(self, count: int) -> None:
        """Stores so many long messages and waits until the reader has them all."""
        self.people.fill(self.ada, self.channel, count, LONG)
        self.reader.take("message", count)

    def present(self) -> int:
        """How many sockets the gateways have written down for these people."""
        count: int = self.people.one(
            "SELECT count(*) FROM gateway_connections WHERE user_id = %s", self.ada.user_id
        )
        return count


@pytest.fixture
def crowd(house: House, sockets: Sockets) -> Crowd:
    return Crowd(house, house.ports[0], sockets)


@pytest.fixture
def roomy(house: House, start_gateway: StartGateway, sockets: Sockets) -> Crowd:
    """On a gateway that keeps 64 MB for somebody who does not read."""
    _, port = start_gateway(house.database, WS_SEND_BUFFER_BYTES=str(2**26))
    return Crowd(house, port, sockets)


def test_one_who_does_not_read_is_closed_with_4408_while_the_others_go_on(crowd: Crowd) -> None:
    sleeper = crowd.sleeper()
    crowd.flood(1500)  # 9 MB: more than any socket's buffers and the gateway's 1 MB together
    assert sleeper.closed() == (4408, "slow_consumer")
    received = [frame["seq"] for frame in sleeper.unread if frame["type"] == "message"]
    assert received == list(range(1, len(received) + 1))
    assert len(received) < 1500
    # It comes back and goes on from where it was; what is too much for one answer HTTP has.
    answer = crowd.enter().subscribe(crowd.channel, after_seq=received[-1])
    resumed = [entry["seq"] for entry in answer["entries"]]
    assert resumed == list(range(resumed[0], 1501))
    assert answer["recovered"] is (resumed[0] == received[-1] + 1)
    assert crowd.reader.is_alive()


def test_the_smallest_buffer_is_room_enough_for_one_who_reads(
    house: House, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(house.database, WS_SEND_BUFFER_BYTES="12512")
    crowd = Crowd(house, port, sockets)
    for _ in range(20):
        crowd.people.fill(crowd.ada, crowd.channel, 1, "\x01" * 2000)
        assert len(crowd.reader.receive("message")["content"]) == 2000


def test_one_who_never_reads_again_is_soon_gone_from_the_gateway(crowd: Crowd) -> None:
    crowd.sleeper()
    assert crowd.present() == 2
    crowd.flood(1500)
    wait_until(lambda: crowd.present() == 1, "the socket of the sleeper has ended")


def test_one_who_hangs_up_without_having_read_does_not_take_the_gateway_along(
    roomy: Crowd,
) -> None:
    sleeper = roomy.sleeper()
    roomy.flood(1500)
    sleeper.connection.socket.shutdown(socket.SHUT_WR)
    roomy.flood(10)
    assert roomy.reader.is_alive()


def test_one_whose_network_is_gone_is_found_by_the_ping_though_much_waits_to_be_sent(
    house: House, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(house.database, WS_SEND_BUFFER_BYTES=str(2**26), WS_PING_SECONDS="3")
    crowd = Crowd(house, port, sockets)
    crowd.sleeper()
    assert crowd.present() == 2
    crowd.flood(1500)  # 9 MB: more than the network takes, and less than what would end it
    wait_until(lambda: crowd.present() == 1, "the socket of the sleeper has ended", 20)
    assert crowd.reader.is_alive()


def test_one_who_pings_without_reading_the_pongs_is_cut_off(
    house: House, start_gateway: StartGateway, sockets: Sockets
) -> None:
    _, port = start_gateway(house.database, WS_MAX_FRAMES_PER_SECOND="1000000")
    crowd = Crowd(house, port, sockets)
    sleeper = crowd.sleeper()
    crowd.people.fill(crowd.ada, crowd.channel, 50, "more than its client takes from the network")
    assert pings_taken(sleeper, 500_000) < 500_000  # 66 MB
    assert crowd.reader.is_alive()


def pings_taken(opened: TestSocket, most: int) -> int:
    """Sends pings until the gateway hangs up; returns how many it took, in thousands."""
    thousand = Frame(Opcode.PING, b"p" * 125).serialize(mask=True, extensions=[]) * 1000
    opened.connection.socket.settimeout(10)
    for sent in range(0, most, 1000):
        try:
            opened.connection.socket.sendall(thousand)
        except OSError:
            return sent
    return most
