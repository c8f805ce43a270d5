"""Runs the services and their clients, and kills whatever the schedule says: one run of chaos.

The seed decides who is hit when; what the machine makes of it differs from run to run, of course.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.embedded_postgres import EmbeddedPostgres
from tests.chaos import journal
from tests.chaos.checker import Row, Verdict, judge
from tests.chaos.journal import Journal
from tests.support.cluster import clean_environment
from tests.support.own_database import OwnDatabase, migrated
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, Processes, ServiceProcess, answers_ready, wait_until
from tests.support.services import api_environment, gateway_environment

KINDS = ("gateway", "api", "postgres", "listener")
_REVOCATIONS = (
    "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'chaos' WHERE id = %(session)s",
    "UPDATE users SET disabled_at = now() WHERE id = %(user)s",
    "DELETE FROM user_sessions WHERE id = %(session)s",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Ends after `seconds`, or as soon as everything was hit `kills` times."""

    seed: int
    seconds: float
    kills: int | None = None
    talkers: int = 8
    listeners: int = 4
    pace: float = 0.05
    pause: float = 0.4  # between two blows, on average
    revocations: int = 4


class Service:
    """One of the services on its port, started again whenever it is not there."""

    def __init__(self, processes: Processes, module: str, environment: dict[str, str]) -> None:
        self._processes = processes
        self._module = module
        self.port = free_port()
        self._environment = {**environment, "HOST": "127.0.0.1", "PORT": str(self.port)}
        self.starts = 0
        self.process = self._start()

    def _start(self) -> ServiceProcess:
        self.starts += 1
        return self._processes.start_module(self._module, self._environment)

    def see_to_it(self) -> None:
        """Like any platform: what has ended, for whatever reason, is started again."""
        if self.process.returncode is not None:
            self.process.close()
            self.process = self._start()

    def kill(self) -> bool:
        """Whether there was something that served."""
        if not is_listening(self.port):
            return False
        self.process.kill()
        return True


class Director:
    def __init__(self, plan: Plan, folder: Path, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._rng = random.Random(plan.seed)
        self._folder = folder
        self._say = say
        self._journal = Journal(folder / "director.jsonl")
        self._postgres = EmbeddedPostgres(folder / "postgres", durable=False)
        self._hits: Counter[str] = Counter()

    def run(self) -> Verdict:
        try:
            database = migrated(self._postgres)
            with Processes() as processes:
                self._perform(database, processes)
        finally:
            self._postgres.destroy()
            self._journal.close()
        return self._judge()

    def _perform(self, database: OwnDatabase, processes: Processes) -> None:
        gateway = gateway_environment(
            database, WS_UNVERIFIED_MAX_SECONDS="5", WS_MAX_CONNECTIONS_PER_ACCOUNT="5"
        )
        gateways = [Service(processes, "wsgateway", gateway) for _ in range(2)]
        # Tokens that expire all the time: refreshes are hit by the kills as well.
        api = Service(processes, "api", api_environment(database, JWT_ACCESS_TTL_SECONDS="5"))
        services = [*gateways, api]
        self._wait_until_ready(services)
        journals = self._folder / "journals"
        journals.mkdir()
        people = self._admit(api, gateways, journals)
        try:
            self._strike(database, gateways, api, self._to_revoke(journals))
            self._wait_until_ready(services)
            _tell(people, "stop")
            _expect(people, "stopped")
            # What was written by then is what everybody must see.
            _tell(people, f"until {_last_seq(database)}")
            assert people.wait(120) == 0, "the clients have failed"
        finally:
            people.kill()
            people.wait()
            for pipe in (people.stdin, people.stdout):
                if pipe is not None:
                    pipe.close()
        with database.connect() as connection:
            rows = connection.execute(
                "SELECT seq, sender_id, client_msg_id::text, content,"
                " extract(epoch FROM created_at)::float8"
                " FROM chat_messages WHERE channel_id = 1 ORDER BY seq"
            ).fetchall()
            self._rows = [Row(*row) for row in rows]
            self._last_seq = _last_seq(database)
        self._starts = {"gateways": sum(one.starts for one in gateways), "api": api.starts}

    def _admit(
        self, api: Service, gateways: list[Service], journals: Path
    ) -> subprocess.Popen[str]:
        plan = self._plan
        people = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.people"],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        order = {
            "api_url": f"http://127.0.0.1:{api.port}",
            "gateways": [f"ws://127.0.0.1:{one.port}/ws" for one in gateways],
            "journals": str(journals),
            "seed": plan.seed,
            "talkers": plan.talkers,
            "listeners": plan.listeners,
            "pace": plan.pace,
        }
        _tell(people, json.dumps(order))
        _expect(people, "ready")
        return people

    def _to_revoke(self, journals: Path) -> list[dict[str, Any]]:
        heads = [journal.read(path)[0] for path in sorted(journals.glob("*.jsonl"))]
        talkers = [head for head in heads if head["sends"]]
        listeners = [head for head in heads if not head["sends"]]
        # Mostly those who send: nothing of theirs may be stored afterwards.
        chosen = self._rng.sample(talkers, self._plan.revocations - 1)
        return [*chosen, self._rng.choice(listeners)]

    def _strike(
        self,
        database: OwnDatabase,
        gateways: list[Service],
        api: Service,
        to_revoke: list[dict[str, Any]],
    ) -> None:
        plan, began = self._plan, time.monotonic()
        revocations = len(to_revoke)
        said_at = began
        while not self._is_enough(time.monotonic() - began):
            time.sleep(self._rng.uniform(0.05, 2 * plan.pause))
            for service in (*gateways, api):
                service.see_to_it()
            # Evenly over the first two thirds: what happens afterwards is what matters.
            due = (time.monotonic() - began) / plan.seconds * 1.5 * revocations
            if revocations - len(to_revoke) < min(due, revocations) and to_revoke:
                self._revoke(database, to_revoke.pop())
            self._hit(self._choose(), database, gateways, api)
            if time.monotonic() - said_at > 15:
                said_at = time.monotonic()
                self._say(f"{said_at - began:4.0f} s: {self._figures()}")
        for victim in to_revoke:
            self._revoke(database, victim)

    def _is_enough(self, seconds: float) -> bool:
        kills = self._plan.kills
        done = kills is not None and all(self._hits[kind] >= kills for kind in KINDS)
        return done or seconds > self._plan.seconds

    def _choose(self) -> str:
        """At random, but nobody falls far behind the others."""
        fewest = min(self._hits[kind] for kind in KINDS)
        return self._rng.choice([kind for kind in KINDS if self._hits[kind] <= fewest + 2])

    def _hit(self, kind: str, database: OwnDatabase, gateways: list[Service], api: Service) -> None:
        if kind == "postgres":
            self._postgres.kill()
            self._write_down(kind)
            time.sleep(self._rng.uniform(0, 0.3))
            self._postgres.start()
            return
        victim = api if kind == "api" else self._rng.choice(gateways)
        if _cut_listeners(database) if kind == "listener" else victim.kill():
            self._write_down(kind)

    def _write_down(self, kind: str) -> None:
        self._hits[kind] += 1
        self._journal.write(killed=kind, at=time.time())

    def _revoke(self, database: OwnDatabase, victim: dict[str, Any]) -> None:
        statement = self._rng.choice(_REVOCATIONS)
        with database.connect() as connection:
            connection.execute(statement, {"session": victim["session"], "user": victim["who"]})
        committed_at = time.time()
        self._journal.write(revoked=victim["session"], who=victim["who"], at=committed_at)

    def _wait_until_ready(self, services: list[Service]) -> None:
        def all_ready() -> bool:
            for service in services:
                service.see_to_it()
            return all(answers_ready(service.port) for service in services)

        wait_until(all_ready, "the services are ready", 60)

    def _figures(self) -> str:
        return ", ".join(f"{kind} {self._hits[kind]}" for kind in KINDS)

    def _judge(self) -> Verdict:
        journals = [journal.read(path) for path in sorted(self._folder.glob("journals/*.jsonl"))]
        director = journal.read(self._folder / "director.jsonl")
        verdict = judge(journals, director, self._rows, self._last_seq)
        for name, starts in self._starts.items():
            verdict.counts[f"starts of {name}"] = starts
        return verdict


def _cut_listeners(database: OwnDatabase) -> bool:
    """Cuts the connections that listen; whether there was one."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'gatehouse-gateway-listener'"
        ).fetchone()
    return row is not None and row[0] > 0


def _last_seq(database: OwnDatabase) -> int:
    with database.connect() as connection:
        row = connection.execute("SELECT last_seq FROM chat_channels WHERE id = 1").fetchone()
    assert row is not None
    return int(row[0])


def _tell(people: subprocess.Popen[str], line: str) -> None:
    assert people.stdin is not None
    people.stdin.write(line + "\n")
    people.stdin.flush()


def _expect(people: subprocess.Popen[str], word: str) -> None:
    assert people.stdout is not None
    line = people.stdout.readline().strip()
    assert line == word, f"the clients said {line!r} instead of {word!r}"
