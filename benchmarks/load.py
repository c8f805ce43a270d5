"""The load generator: reads one order (JSON) from its input, prints one answer (JSON). A program.

Every answer has `busy`: the share of the measured time in which this process used its core. Above
0.9 it was the bottleneck, and the figure is a lower bound.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.wire import GLOBAL, Dialect, SocketIo, Wire, open_wire, text_frame
from benchmarks.xmpp import Xmpp

DIALECTS: dict[str, type[Dialect]] = {"gatehouse": Dialect, "socketio": SocketIo, "xmpp": Xmpp}
Order = dict[str, Any]
Answer = dict[str, Any]


class Member:
    """Somebody in the room; `seat` is {port, subprotocols}."""

    def __init__(self, wire: Wire, dialect: Dialect) -> None:
        self.wire = wire
        self.dialect = dialect
        self._subscribed = asyncio.get_running_loop().create_future()
        self._prefix = str(uuid.uuid4())[:24]
        self._numbers = itertools.count(1)

    @classmethod
    async def enter(cls, seat: dict[str, Any], dialect_name: str) -> Member:
        dialect = DIALECTS[dialect_name]()
        wire = await open_wire(seat["port"], dialect.path, seat["subprotocols"])
        member = cls(wire, dialect)
        if dialect.greeting:
            wire.transport.write(text_frame(dialect.greeting))
        wire.listen(member._joining)
        async with asyncio.timeout(60):
            await member._subscribed
        return member

    def _joining(self, payload: bytes) -> None:
        kind = self.dialect.read(payload)["type"]
        if kind == "subscribed":
            self._subscribed.set_result(None)
        elif reply := self.dialect.reply(kind):
            self.wire.transport.write(reply)

    def message(self) -> tuple[str, bytes]:
        """A new message's client_msg_id and its frame."""
        client_msg_id = f"{self._prefix}{next(self._numbers):012x}"
        frame = {
            "type": "send",
            "channel_id": GLOBAL,
            "client_msg_id": client_msg_id,
            "content": "What a chat message is like: short.",
        }
        return client_msg_id, self.dialect.say(frame)


class SaturatingSender:
    """Keeps so many messages in flight and counts the acks."""

    def __init__(self, member: Member, in_flight: int) -> None:
        self._member = member
        self._head = member.dialect.head
        self._ack_mark, self._error_mark = member.dialect.ack_mark, member.dialect.error_mark
        self._due = in_flight
        self.acks = 0
        self.refusals = 0
        member.wire.on_frame = self._frame
        member.wire.on_chunk = self._send_due
        self._send_due()

    def _frame(self, payload: bytes) -> None:
        head = payload[self._head]
        if self._ack_mark in head:
            self.acks += 1
            self._due += 1
        elif self._error_mark in head:
            self.refusals += 1  # and one less in flight: a refusal must not become a storm

    def _send_due(self) -> None:
        if self._due:
            frames = b"".join(self._member.message()[1] for _ in range(self._due))
            self._due = 0
            self._member.wire.transport.write(frames)


async def saturation(order: Order) -> Answer:
    """`seats`: the first `senders` of them talk as much as they can; all of them listen."""
    members = [await Member.enter(seat, order["dialect"]) for seat in order["seats"]]
    watched, others = members[order["senders"]], members[order["senders"] + 1 :]
    head, mark = watched.dialect.head, watched.dialect.message_mark
    messages = 0

    def count(payload: bytes) -> None:
        nonlocal messages
        messages += mark in payload[head]

    watched.wire.on_frame = count
    for member in others:
        member.wire.on_frame = None
    senders = [
        SaturatingSender(member, order["in_flight"]) for member in members[: order["senders"]]
    ]
    await asyncio.sleep(order["warm_up"])

    def snapshot() -> tuple[float, float, int, int, int, list[int]]:
        acks = sum(sender.acks for sender in senders)
        listened = [member.wire.bytes for member in others]
        now, used = time.monotonic(), time.process_time()
        return now, used, acks, messages, watched.wire.bytes, listened

    before = snapshot()
    await asyncio.sleep(order["seconds"])
    after = snapshot()
    seconds = after[0] - before[0]
    watched_bytes = after[4] - before[4]
    slowest = min(late - early for early, late in zip(before[5], after[5], strict=True))
    return {
        "acknowledged": after[2],
        "stored_per_second": (after[2] - before[2]) / seconds,
        "delivered_per_member_per_second": (after[3] - before[3]) / seconds,
        # The others get the same frames: who got fewer bytes got fewer messages.
        "slowest_member_share": slowest / watched_bytes if watched_bytes else 0.0,
        "closed": sum(member.wire.closed.done() for member in members),
        "refusals": sum(sender.refusals for sender in senders),
        "busy": (after[1] - before[1]) / seconds,
    }


async def steady(order: Order) -> Answer:
    """`rate` messages a second from the first seat; when it gets its ack, and the others theirs."""
    members = [await Member.enter(seat, order["dialect"]) for seat in order["seats"]]
    sender, listeners = members[0], members[1:]
    sent_at: dict[str, float] = {}
    acks: list[float] = []
    deliveries: list[list[float]] = [[] for _ in listeners]

    def listen(member: Member, kind: str, into: list[float]) -> None:
        def frame(payload: bytes) -> None:
            now = time.perf_counter()
            read = member.dialect.read(payload)
            if read["type"] == kind and read.get("client_msg_id") in sent_at:
                into.append(now - sent_at[read["client_msg_id"]])

        member.wire.on_frame = frame

    listen(sender, "ack", acks)
    for member, into in zip(listeners, deliveries, strict=True):
        listen(member, "message", into)
    began, used = time.monotonic(), time.process_time()
    count = int(order["seconds"] * order["rate"])
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / order["rate"] - time.monotonic()))
        client_msg_id, frame = sender.message()
        sent_at[client_msg_id] = time.perf_counter()
        sender.wire.transport.write(frame)
    await asyncio.sleep(2.0)
    return {
        "sent": count,
        "ack_ms": _percentiles(acks),
        "delivery_ms": [_percentiles(each) for each in deliveries],
        "busy": (time.process_time() - used) / (time.monotonic() - began),
    }


async def admissions(order: Order) -> Answer:
    """Opens a socket a seat, so many at once, until it is `connected`; closes it again."""
    seats = iter(order["seats"])
    admitted = 0
    refusals: Counter[str] = Counter()

    async def work() -> None:
        nonlocal admitted
        for seat in seats:
            wire = await open_wire(seat["port"], "/ws", seat["subprotocols"])
            first: asyncio.Queue[bytes] = asyncio.Queue()
            wire.listen(first.put_nowait)
            async with asyncio.timeout(30):
                frame = json.loads(await first.get())
            if frame["type"] == "connected":
                admitted += 1
            else:
                refusals[frame.get("code", "?")] += 1
            wire.transport.abort()

    began, used = time.monotonic(), time.process_time()
    await asyncio.gather(*(work() for _ in range(order["at_once"])))
    seconds = time.monotonic() - began
    return {
        "admitted": admitted,
        "refusals": refusals,
        "per_second": admitted / seconds,
        "busy": (time.process_time() - used) / seconds,
    }


async def crowd(order: Order) -> Answer:
    """Opens and subscribes a socket a seat, says "ready", and waits for a line: "end", or
    {"from": time, "closes": how many}, and then answers how long after that time they came."""
    members: list[Member] = []
    seats = iter(order["seats"])

    async def work() -> None:
        for seat in seats:
            members.append(await Member.enter(seat, "gatehouse"))

    await asyncio.gather(*(work() for _ in range(50)))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    line = (await asyncio.to_thread(sys.stdin.readline)).strip()
    if line == "end":
        return {"members": len(members)}
    offset = time.time() - asyncio.get_running_loop().time()
    wanted = json.loads(line)
    async with asyncio.timeout(60):
        while sum(member.wire.closed.done() for member in members) < wanted["closes"]:
            await asyncio.sleep(0.05)
    closed = [
        member.wire.closed.result() + offset - wanted["from"]
        for member in members
        if member.wire.closed.done()
    ]
    return {"members": len(members), "closed": len(closed), "close_ms": _percentiles(closed)}


async def http(order: Order) -> Answer:
    """GET `path` with a bearer token over `connections` connections that stay open, at `rate` a
    second or as fast as it goes."""
    request = (
        f"GET {order['path']} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {order['token']}\r\n\r\n"
    ).encode()
    took: list[float] = []
    statuses: dict[str, int] = {}
    loop = asyncio.get_running_loop()
    until = loop.time() + order["seconds"]
    interval = order["connections"] / order["rate"] if order.get("rate") else 0.0

    async def work(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", order["port"])
        due = loop.time() + interval * number / order["connections"]
        while loop.time() < until:
            if interval:
                await asyncio.sleep(max(0.0, due - loop.time()))
                due += interval
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            await reader.readexactly(length)
            took.append(time.perf_counter() - began)
            status = head[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
        writer.close()

    began, used = time.monotonic(), time.process_time()
    await asyncio.gather(*(work(number) for number in range(order["connections"])))
    seconds = time.monotonic() - began
    return {
        "per_second": len(took) / seconds,
        "ms": _percentiles(took),
        "statuses": statuses,
        "busy": (time.process_time() - used) / seconds,
    }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {"count": 0}
    found = {f"p{p}": ordered[min(len(ordered) - 1, len(ordered) * p // 100)] for p in (50, 95, 99)}
    shown = {name: round(1000 * value, 3) for name, value in found.items()}
    return {"count": len(ordered), **shown, "max": round(1000 * ordered[-1], 3)}


KINDS: dict[str, Callable[[Order], Coroutine[Any, Any, Answer]]] = {
    "saturation": saturation,
    "steady": steady,
    "admissions": admissions,
    "crowd": crowd,
    "http": http,
}


if __name__ == "__main__":
    given = json.loads(sys.stdin.readline())
    sys.stdout.write(json.dumps(asyncio.run(KINDS[given["kind"]](given))) + "\n")
