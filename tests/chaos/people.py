"""The clients of a chaos run: some only listen, some talk by socket and by HTTP. A program.

The first line of its input is {api_url, gateways: [url], journals, seed, talkers, listeners, pace}.
It answers "ready", and then obeys: "stop" ends the sending (answer "stopped"), "until N" ends the
program when everybody alive has seen N.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused, backoff
from tests.chaos.journal import Journal

GLOBAL = 1
PASSWORD = "the same for all of them"
CATCH_UP_SECONDS = 90.0
TEMPORARY_PAUSE_SECONDS = 0.2


class Somebody:
    def __init__(self, client: Client, journal: Journal, rng: random.Random, pace: float) -> None:
        self._client = client
        self._journal = journal
        self._rng = rng
        self._pace = pace
        self.seen = 0
        self.is_over = False
        self.is_talking = False

    async def live(self, *, talks: bool, stop: asyncio.Event, leave: asyncio.Event) -> None:
        async with self._client.live() as live:
            listening = asyncio.create_task(self._listen(live))
            self.is_talking = talks
            with contextlib.suppress(LiveEnded):  # the listening task writes it down
                await live.subscribe(GLOBAL, after_seq=0)
                if talks:
                    await self._talk(live, stop)
            self.is_talking = False
            if not self.is_over:
                leaving = asyncio.create_task(leave.wait())
                await asyncio.wait((leaving, listening), return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
            if self.is_over:
                await self._knock(leave)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, live: Live) -> None:
        try:
            async for event in live:
                self._note(event)
        except LiveEnded as ended:
            self._ended(str(ended))

    def _ended(self, reason: str) -> None:
        self.is_over = True
        self._journal.write(ended=reason, at=time.time())

    def _note(self, event: dict[str, Any]) -> None:
        if event["type"] == "message":
            self.seen = event["seq"]
            self._journal.note(
                saw=event["seq"],
                id=event["client_msg_id"],
                content=event["content"],
                at=time.time(),
                **{"from": event["sender_id"]},
            )
        elif event["type"] in ("missed", "rewound", "removed"):
            self._journal.write(other=event)

    async def _talk(self, live: Live, stop: asyncio.Event) -> None:
        while not stop.is_set() and not self.is_over:
            client_msg_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
            content = f"{self._rng.random()} \N{SNOWMAN}"
            self._journal.write(**{"try": client_msg_id}, content=content)
            by_http = self._rng.random() < 0.2
            try:
                if by_http:
                    ack = await self._post(client_msg_id, content)
                else:
                    ack = await live.send(GLOBAL, content, client_msg_id)
            except (SendRefused, ApiError) as refused:
                self._journal.write(refused=client_msg_id, code=refused.code)
                await asyncio.sleep(TEMPORARY_PAUSE_SECONDS)  # the end is told elsewhere
            else:
                self._journal.write(ack=client_msg_id, seq=ack["seq"])
            await asyncio.sleep(self._rng.uniform(0, 2 * self._pace))

    async def _post(self, client_msg_id: str, content: str) -> dict[str, Any]:
        """Again and again under the same id, as an app would, until there is an answer."""
        while True:
            try:
                return await self._client.post(GLOBAL, content, client_msg_id)
            except OSError:
                pass
            except ApiError as error:
                if not error.is_temporary:
                    raise
            await asyncio.sleep(TEMPORARY_PAUSE_SECONDS)

    async def _knock(self, leave: asyncio.Event) -> None:
        """A session that has ended tries every door until everybody leaves."""

        async def refreshed() -> None:
            await self._client.refresh()

        async def ticketed() -> None:
            await self._client.ticket()

        async def posted() -> None:
            client_msg_id = str(uuid.uuid4())
            self._journal.write(**{"try": client_msg_id}, content="from the dead")
            await self._client.post(GLOBAL, "from the dead", client_msg_id)

        while not leave.is_set():
            for door in (ticketed, posted, refreshed):
                with contextlib.suppress(ApiError, OSError):
                    await door()
                    self._journal.write(**{"let in": door.__name__}, at=time.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), 0.5)

    def caught_up(self) -> None:
        if not self.is_over:
            self._journal.write(**{"caught up": self.seen})

    def close(self) -> None:
        self._journal.close()


class Bystander(Somebody):
    """Listens without the library's live connection, which mends some damage in silence (it drops
    what comes twice, and comes back at a gap): here everything is written down as it came."""

    async def live(self, *, talks: bool, stop: asyncio.Event, leave: asyncio.Event) -> None:
        leaving = asyncio.create_task(leave.wait())
        while not leave.is_set() and not self.is_over:
            listening = asyncio.create_task(self._connect_once())
            await asyncio.wait((leaving, listening), return_when=asyncio.FIRST_COMPLETED)
            listening.cancel()  # nothing happens where it has ended by itself
            with contextlib.suppress(asyncio.CancelledError):
                await listening
            await asyncio.sleep(self._rng.uniform(0, 2 * TEMPORARY_PAUSE_SECONDS))
        if self.is_over:
            await self._knock(leave)

    async def _connect_once(self) -> None:
        try:
            ticket = await self._client.ticket()
            subprotocols = [Subprotocol(name) for name in ticket.subprotocols]
            async with connect(
                ticket.websocket_url,
                subprotocols=subprotocols,
                compression=None,
                proxy=None,
                close_timeout=1,
            ) as socket:
                subscribe = {"type": "subscribe", "channel_id": GLOBAL, "after_seq": self.seen}
                await socket.send(json.dumps(subscribe))
                while True:
                    self._take(json.loads(await socket.recv()))
        except ConnectionClosed as closed:
            if closed.rcvd is not None and 4500 <= closed.rcvd.code <= 4999:
                self._ended(str(closed.rcvd))
        except ApiError as error:
            if not error.is_temporary:
                self._ended(error.code)
        except (OSError, EOFError, InvalidHandshake):
            pass  # nobody is there at the moment

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] != "subscribed":
            self._note(frame)
            return
        if not frame["recovered"]:
            self._journal.write(other={"type": "not recovered"})
        for entry in frame["entries"]:
            self._note(entry)


async def enter(order: dict[str, Any], number: int) -> Somebody:
    rng = random.Random(f"{order['seed']} {number}")
    gateways = order["gateways"]
    client = Client(order["api_url"], websocket_url=gateways[number % len(gateways)])
    session = await client.register(f"chaos-{number}@example.org", PASSWORD, f"Somebody {number}")
    journal = Journal(Path(order["journals"]) / f"{number}.jsonl")
    sends = number < order["talkers"]
    journal.write(who=session["user"]["id"], session=session["session_id"], sends=sends)
    kind = Somebody if sends or number % 2 else Bystander
    return kind(client, journal, rng, order["pace"])


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def main() -> None:
    # What would be half a minute's patience in an app is half of a short run.
    backoff.LONGEST_SECONDS = 2.0
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    order = json.loads(await lines.readline())
    talkers, listeners = order["talkers"], order["listeners"]
    people = [await enter(order, number) for number in range(talkers + listeners)]
    stop, leave = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(somebody.live(talks=number < talkers, stop=stop, leave=leave))
        for number, somebody in enumerate(people)
    ]
    say("ready")
    while line := (await lines.readline()).decode().strip():
        if line == "stop":
            stop.set()
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while any(somebody.is_talking for somebody in people):
                    await asyncio.sleep(0.05)
            say("stopped")
            continue
        last_seq = int(line.removeprefix("until "))
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while time.monotonic() < deadline:
            if all(somebody.is_over or somebody.seen >= last_seq for somebody in people):
                break
            await asyncio.sleep(0.05)
        for somebody in people:
            if somebody.seen >= last_seq:
                somebody.caught_up()
        break
    leave.set()
    await asyncio.gather(*tasks)  # what failed here is a defect of this program
    for somebody in people:
        somebody.close()


if __name__ == "__main__":
    asyncio.run(main())
