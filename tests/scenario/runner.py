"""The commands of the scenario, carried out by the Python client, over stdin and stdout."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused, backoff

Command = dict[str, Any]
Answer = dict[str, Any]


class Runner:
    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._sessions: dict[str, list[int | None]] = {}
        self._lives: dict[str, Live] = {}
        self._events: dict[str, list[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle(self, command: Command) -> Answer:
        action: Callable[[Command], Awaitable[Answer]] = getattr(self, command["do"])
        try:
            return await action(command)
        except (ApiError, SendRefused) as error:
            return {"error": error.code}
        except LiveEnded as error:
            return {"error": error.code or error.reason}
        except OSError as error:
            return {"error": str(error)}

    async def register(self, command: Command) -> Answer:
        sessions = self._sessions[command["who"]] = []
        client = Client(
            command["api_url"],
            websocket_url=command.get("websocket_url"),
            client_version="1.0",
            on_session=lambda session: sessions.append(session["session_id"] if session else None),
        )
        session = await client.register(
            command["email"], command["password"], command["display_name"]
        )
        self._clients[command["who"]] = client
        return {"user_id": session["user"]["id"], "session_id": session["session_id"]}

    async def sessions(self, command: Command) -> Answer:
        return {"sessions": self._sessions[command["who"]]}

    async def backoff(self, command: Command) -> Answer:
        return {
            "bounds": [backoff.bound(attempt) for attempt in range(9)],
            "delays": [backoff.delay(3) for _ in range(400)],
        }

    async def call(self, command: Command) -> Answer:
        await self._clients[command["who"]].call("GET", command["path"])
        return {}

    async def live(self, command: Command) -> Answer:
        who = command["who"]
        live = self._lives[who] = self._clients[who].live()
        events = self._events[who] = []
        await live.__aenter__()
        task = asyncio.create_task(_listen(live, events))
        self._tasks.add(task)
        return {}

    async def close(self, command: Command) -> Answer:
        await self._lives[command["who"]].__aexit__(None, None, None)
        return {}

    async def subscribe(self, command: Command) -> Answer:
        live = self._lives[command["who"]]
        joined = await live.subscribe(command["channel_id"], command.get("after_seq"))
        return {"last_seq": joined.last_seq}

    async def unsubscribe(self, command: Command) -> Answer:
        await self._lives[command["who"]].unsubscribe(command["channel_id"])
        return {}

    async def send(self, command: Command) -> Answer:
        live = self._lives[command["who"]]
        ack = await live.send(command["channel_id"], command["content"], command.get("id"))
        return {"seq": ack["seq"], "duplicate": ack["duplicate"]}

    async def typing(self, command: Command) -> Answer:
        self._lives[command["who"]].typing(command["channel_id"])
        return {}

    async def acknowledge(self, command: Command) -> Answer:
        await self._lives[command["who"]].acknowledge_drain(command["event_id"])
        return {}

    async def events(self, command: Command) -> Answer:
        return {"events": self._events[command["who"]]}


async def _listen(live: Live, events: list[dict[str, Any]]) -> None:
    """Notes every event, and the end as the JavaScript client tells it."""
    try:
        async for event in live:
            events.append(event)
        events.append({"type": "ended", "code": None, "reason": "closed here"})
    except LiveEnded as ended:
        events.append({"type": "ended", "code": ended.code, "reason": ended.reason})


async def main() -> None:
    runner = Runner()
    lines = asyncio.StreamReader(limit=2**24)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)

    async def carry_out(number: int, command: Command) -> None:
        answer = await runner.handle(command)
        sys.stdout.write(json.dumps({"number": number, "answer": answer}) + "\n")
        sys.stdout.flush()

    tasks = set()
    while line := await lines.readline():
        command = json.loads(line)
        task = asyncio.create_task(carry_out(command.pop("number"), command))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
