"""Gateway loss and database restart: somebody writes and somebody reads, right through it.

The restarting is the operator's own command; without one there is nothing to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from gatehouse_client import ApiError, Client, Live, LiveEnded, SendRefused
from scripts.drills.report import DrillFailed, NotChecked, Report
from scripts.drills.restart import run_command
from scripts.drills.stage import Stage

GATEWAY_TITLE = "Gateway loss"
DATABASE_TITLE = "Database restart"
# Below the limit of an account as it comes, 30 in 10 s.
SECONDS_BETWEEN_MESSAGES = 0.4
# Backoff of the clients included.
RECOVERY_SECONDS = 60.0
# What a restarted database may look like from outside: an answer that waited for a connection.
SLOW_SECONDS = 1.0


@dataclass
class Seen:
    """What the writer and the reader went through."""

    acked: dict[int, str] = field(default_factory=dict)
    ack_times: list[float] = field(default_factory=list)
    read: list[int] = field(default_factory=list)
    offline: list[str] = field(default_factory=list)
    not_ready: int = 0
    slowest_ready_seconds: float = 0.0

    @property
    def offline_in_words(self) -> str:
        counted = Counter(self.offline)
        return ", ".join(f"{times} x {why}" for why, times in counted.items()) or "none"


async def preview_gateway(stage: Stage, report: Report) -> None:
    _preview(report, "--restart-gateway", stage.permissions.restart_gateway)


async def preview_database(stage: Stage, report: Report) -> None:
    _preview(report, "--restart-database", stage.permissions.restart_database)


def _preview(report: Report, option: str, command: str | None) -> None:
    report.advice(command or f"nothing: {option} COMMAND says how")


async def lose_gateway(stage: Stage, report: Report) -> None:
    command = stage.permissions.restart_gateway
    if command is None:
        raise NotChecked("--restart-gateway COMMAND says how to kill and restart one")
    seen = await _talk_through(stage, report, command)
    report.saw(f"sockets went: {seen.offline_in_words}")
    report.check(bool(seen.offline), "a socket was lost and came back", "nobody lost a socket")
    await _expect_revocation(stage, report)


async def restart_database(stage: Stage, report: Report) -> None:
    command = stage.permissions.restart_database
    if command is None:
        raise NotChecked("--restart-database COMMAND says how")
    seen = await _talk_through(stage, report, command)
    report.saw(
        f"readiness failed {seen.not_ready} times, its slowest answer took"
        f" {seen.slowest_ready_seconds:.1f} s; sockets went: {seen.offline_in_words}"
    )
    report.check(
        seen.not_ready > 0 or seen.slowest_ready_seconds > SLOW_SECONDS,
        "the API noticed that the database was away",
        "it was ready all the time",
    )
    await _expect_revocation(stage, report)


async def _talk_through(stage: Stage, report: Report, command: str) -> Seen:
    seen = Seen()
    async with _logged_in(stage, 2) as (writer, reader):
        channel = await writer.call("POST", "/chat/channels", {"name": "Drill"})
        channel_id = int(channel["id"])
        path = f"/chat/channels/{channel_id}/members"
        reader_id = (await reader.me())["user"]["id"]
        await writer.call("POST", path, {"user_id": reader_id})
        async with writer.live() as mouth, reader.live() as ear:
            await mouth.subscribe(channel_id)
            await ear.subscribe(channel_id, after_seq=0)
            tasks = [
                asyncio.create_task(_write(mouth, channel_id, seen)),
                asyncio.create_task(_read(mouth, seen, keep=False)),
                asyncio.create_task(_read(ear, seen, keep=True)),
                asyncio.create_task(_look_whether_ready(stage, seen)),
            ]
            try:
                await _until(lambda: len(seen.acked) >= 2, "acknowledgement", tasks)
                await run_command(report, command)
                back = len(seen.acked) + 3
                await _until(lambda: len(seen.acked) >= back, "message after it", tasks)
                tasks[0].cancel()
                await asyncio.gather(tasks[0], return_exceptions=True)
                last = max(seen.acked)
                await _until(lambda: last in seen.read, "delivery of the last message", tasks[1:])
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        await _compare(report, reader, channel_id, seen)
    return seen


async def _compare(report: Report, reader: Client, channel_id: int, seen: Seen) -> None:
    last = max(seen.acked)
    stored = {
        int(entry["seq"]): entry["content"]
        async for entry in reader.entries(channel_id, 0, last)
        if entry["type"] == "message"
    }
    lost = [seq for seq, content in seen.acked.items() if stored.get(seq) != content]
    report.check(
        not lost, f"all {len(seen.acked)} acknowledged messages are stored", f"lost: {lost}"
    )
    doubled = len(stored) - len(set(stored.values()))
    report.check(doubled == 0, "none is stored twice", f"{doubled} are")
    steps = {after - before for before, after in zip(seen.read, seen.read[1:], strict=False)}
    report.check(steps <= {1}, "the reader saw each once and in order", f"steps of {steps}")
    pauses = [b - a for a, b in zip(seen.ack_times, seen.ack_times[1:], strict=False)]
    report.figure("longest time without an acknowledgement", max(pauses))


async def _expect_revocation(stage: Stage, report: Report) -> None:
    """The gateways listen again: a session's end reaches its socket."""
    (person,) = await stage.cast.people(1)
    seat = await stage.cast.sit(await stage.cast.login(person))
    psql = f"-v user={person.user_id} -f db/sql/ops/revoke_user.sql"
    await stage.revoke(report, {"user_id": person.user_id}, psql, [seat])
    await stage.operator.expect_audited(report)


async def _write(live: Live, channel_id: int, seen: Seen) -> None:
    number = 0
    while True:
        number += 1
        content = f"drill {number} {time.time_ns()}"
        try:
            ack = await live.send(channel_id, content)
        except SendRefused as error:
            if error.code not in ("rate_limited", "unavailable"):
                raise
            await asyncio.sleep(error.retry_after_seconds or 1.0)
            continue
        seen.acked[int(ack["seq"])] = content
        seen.ack_times.append(time.perf_counter())
        await asyncio.sleep(SECONDS_BETWEEN_MESSAGES)


async def _read(live: Live, seen: Seen, *, keep: bool) -> None:
    async for event in live:
        if event["type"] == "offline":
            code = "" if event["code"] is None else f" ({event['code']})"
            seen.offline.append(f"{event['reason']}{code}")
        elif keep and "seq" in event:
            seen.read.append(int(event["seq"]))


async def _look_whether_ready(stage: Stage, seen: Seen) -> None:
    while True:
        asked = time.perf_counter()
        try:
            await stage.cast.call("GET", "/health/ready")
        except (ApiError, OSError):
            seen.not_ready += 1
        waited = time.perf_counter() - asked
        seen.slowest_ready_seconds = max(seen.slowest_ready_seconds, waited)
        await asyncio.sleep(0.02)


async def _until(holds: Any, what: str, tasks: list[asyncio.Task[None]]) -> None:
    deadline = time.perf_counter() + RECOVERY_SECONDS
    while not holds():
        for task in tasks:
            if task.done() and (error := task.exception()):
                if isinstance(error, LiveEnded | SendRefused | ApiError):
                    raise DrillFailed(f"no {what}: {error}")
                raise error
        if time.perf_counter() > deadline:
            raise DrillFailed(f"no {what} within {RECOVERY_SECONDS:.0f} s")
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _logged_in(stage: Stage, count: int) -> AsyncIterator[list[Client]]:
    clients = []
    try:
        for person in await stage.cast.people(count):
            client = Client(stage.cast.api_url, websocket_url=stage.cast.ws_url)
            await client.login(person.email, person.password)
            clients.append(client)
        yield clients
    finally:
        for client in clients:
            with contextlib.suppress(ApiError, OSError):
                await client.logout()
