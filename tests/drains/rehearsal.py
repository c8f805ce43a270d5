"""Activates a release with a drain before a crowd, kills and restarts the gateways, and asks."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.drains.guest import Guest
from tests.drains.verdict import Facts, judge
from tests.support.http_calls import Http
from tests.support.ports import free_port
from tests.support.processes import Processes, ServiceProcess
from tests.support.services import (
    OPS_TOKEN,
    People,
    Person,
    SomeDatabase,
    api_environment,
    gateway_environment,
)
from tests.support.sockets import SECONDS, Sockets

OLD, NEW = "1.0", "2.0"
WRITERS = range(1, 21, 5)  # few, so that a crowd is kept busy by what it is told, not by chatter
ASKED_AFTERWARDS = 20
FINISHED_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """`blackout`: no gateway runs at the deadline. Otherwise both are killed, one after the other,
    and start again at once."""

    guests: int
    grace_seconds: int
    blackout: bool


class Rehearsal:
    def __init__(
        self,
        plan: Plan,
        database: SomeDatabase,
        processes: Processes,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._database = database
        self._processes = processes
        self._say = say
        self._ports = [free_port(), free_port()]
        self._gateways: list[ServiceProcess | None] = [None, None]
        self._guests: set[asyncio.Task[None]] = set()
        self._leave = asyncio.Event()

    async def run(self) -> tuple[list[str], Counter[str]]:
        """(promises that were broken, figures)."""
        with People(self._database) as self._people:
            _, port = await asyncio.to_thread(
                self._processes.start_service, "api", api_environment(self._database)
            )
            self._api = Http(port)
            for which in (0, 1):
                await self._start(which)
            try:
                facts = await self._perform()
                return judge(facts, self._people)
            finally:
                self._leave.set()
                await asyncio.gather(*self._guests, return_exceptions=True)

    async def _perform(self) -> Facts:
        plan = self._plan
        old = [self._person(OLD) for _ in range(plan.guests * 8 // 10)]
        updating = [self._person(OLD) for _ in range(plan.guests // 10)]
        current = [self._guest(self._person(NEW), NEW, writes=True) for _ in range(4)]
        current.append(self._guest(self._admin(), OLD))
        guests = [
            self._guest(person, OLD, acks=n % 2 == 0, writes=n in WRITERS, deaf=n % 40 == 3)
            for n, person in enumerate(old)
        ]
        updated = [self._guest(person, NEW) for person in updating]
        # Somebody whose socket is long gone: nobody will reach this session.
        guests.append(Guest(self._person(OLD).session_id, self._ports, lambda: ""))
        await self._come([*guests[:-1], *current])

        answer = await self._ops(
            "/ops/release/activate",
            latest_version=NEW,
            min_supported_version=NEW,
            grace_seconds=plan.grace_seconds,
            drain="outdated",
        )
        drain_id = answer["drain_id"]
        deadline = self._people.one(
            "SELECT extract(epoch FROM max(drain_deadline_at))::float8 FROM user_sessions"
            " WHERE drain_event_id = %s",
            drain_id,
        )
        facts = Facts(drain_id, deadline, old=guests, updated=updated, current=current)
        self._say(f"drain {drain_id}: {answer['enrolled']} sessions, {len(guests)} guests")
        if answer["enrolled"] != len(old) + len(updating) + 1:
            raise AssertionError(f"{answer['enrolled']} were enrolled")
        await asyncio.gather(self._unrest(deadline), self._coming_and_going(facts, updating))
        await self._look_afterwards(facts, old)
        return facts

    async def _unrest(self, deadline: float) -> None:
        """Kills and restarts, by the plan."""
        grace = self._plan.grace_seconds
        if self._plan.blackout:
            await _until(deadline - 1.0)
            for which in (0, 1):
                self._kill(which)
            await _until(deadline + 1.0)
            await self._start(0)
            return
        for which, seconds in ((0, 0.75 * grace), (1, 0.4 * grace)):
            await _until(deadline - seconds)
            self._kill(which)
            await self._start(which)
        # Most have gone to the other one by then: its sockets see the deadline, these do not.
        await _until(deadline - 0.3)
        self._kill(1)
        await _until(deadline + 0.3)
        await self._start(1)

    async def _coming_and_going(self, facts: Facts, updating: list[Person]) -> None:
        """In the middle of the drain some log in with an old client, and some update."""
        await _until(facts.deadline - self._plan.grace_seconds / 2)
        for _ in range(self._plan.guests // 10):
            guest = self._guest(self._person(OLD), OLD, acks=True)
            facts.old.append(guest)
            self._let_run(guest)
        for person in updating:
            answer = await asyncio.to_thread(
                self._api.post,
                "/auth/ws-ticket",
                {},
                token=self._people.access_token(person),
                headers={"X-Client-Version": NEW},
            )
            assert answer.status == 201, answer
        for guest in facts.updated:
            self._let_run(guest)

    async def _look_afterwards(self, facts: Facts, old: list[Person]) -> None:
        await _until(facts.deadline + 0.1)
        for person in old[:ASKED_AFTERWARDS]:
            answer = await asyncio.to_thread(
                self._api.get,
                "/auth/me",
                token=self._people.access_token(person),
                headers={"X-Client-Version": OLD},
            )
            if (answer.status, answer.error["code"]) != (401, "drained"):
                facts.let_in.append(f"GET /auth/me: {answer.status} {answer.body[:80]!r}")
        await _until(facts.deadline + 5.0)
        facts.left_over = self._people.one(
            "SELECT count(*) FROM gateway_connections c"
            " JOIN gateway_instances i ON i.id = c.instance_id"
            " JOIN publish_drain_session_audit r ON r.session_id = c.session_id"
            " WHERE r.drain_id = %s AND r.outcome IS DISTINCT FROM 'cancelled'"
            # Of those that live: they beat every two seconds or so.
            " AND i.heartbeat_at > clock_timestamp() - interval '4 seconds'",
            facts.drain_id,
        )
        await asyncio.to_thread(self._knock, facts, old)
        give_up_at = time.time() + FINISHED_WITHIN_SECONDS
        while time.time() < give_up_at:
            # The list: reading one drain's receipts leaves an audit row each time.
            answer = await asyncio.to_thread(self._api.get, "/ops/drains", ops_token=OPS_TOKEN)
            drains = {drain["id"]: drain for drain in answer.json["drains"]}
            facts.status = drains[facts.drain_id]
            if facts.status["status"] != "draining":
                break
            await asyncio.sleep(0.2)
        self._say(f"{facts.status['status']} {time.time() - facts.deadline:.1f} s after it")

    def _knock(self, facts: Facts, old: list[Person]) -> None:
        """With tickets that were issued past the API, as if they had been issued before."""
        with Sockets() as sockets:
            for person in old[:ASKED_AFTERWARDS]:
                opened = sockets.open(self._ports[0], self._people.ticket(person, version=NEW))
                code, _ = opened.closed(SECONDS)
                if code != 4401:
                    facts.let_in.append(f"a socket of session {person.session_id}: {code}")

    async def _come(self, guests: list[Guest]) -> None:
        for guest in guests:
            self._let_run(guest)
            await asyncio.sleep(0.005)
        give_up_at = time.time() + 60
        while sum("subscribed" in guest.told for guest in guests) < len(guests):
            assert time.time() < give_up_at, "not everybody came in"
            await asyncio.sleep(0.05)

    def _let_run(self, guest: Guest) -> None:
        self._guests.add(asyncio.create_task(guest.run(self._leave)))

    def _guest(
        self,
        person: Person,
        version: str,
        *,
        acks: bool = False,
        writes: bool = False,
        deaf: bool = False,
    ) -> Guest:
        def ticket() -> str:
            return self._people.ticket(person, version=version)

        return Guest(person.session_id, self._ports, ticket, acks=acks, writes=writes, deaf=deaf)

    def _person(self, version: str) -> Person:
        return self._people.person(version=version)

    def _admin(self) -> Person:
        person = self._person(OLD)
        self._people.owner.execute(
            "UPDATE users SET is_admin = true WHERE id = %s", (person.user_id,)
        )
        return person

    async def _start(self, which: int) -> None:
        environment = gateway_environment(self._database)
        self._gateways[which], _ = await asyncio.to_thread(
            self._processes.start_service, "wsgateway", environment, self._ports[which]
        )

    def _kill(self, which: int) -> None:
        gateway = self._gateways[which]
        assert gateway is not None
        gateway.kill()

    async def _ops(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await asyncio.to_thread(self._api.post, path, body, ops_token=OPS_TOKEN)
        assert answer.status < 300, answer
        return dict(answer.json)


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.time()))
