"""What a figure needs: a Postgres, services, seats in the room, the load generator, peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

from benchmarks.locked_python import locked_python
from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.cluster import clean_environment
from tests.support.own_database import migrated
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, Processes, ServiceProcess, wait_until
from tests.support.services import JWT_SECRET, People, Person, api_environment, gateway_environment

PEERS = ROOT / "benchmarks" / "peers"
TICKET_SECONDS = 3600
# Wide open, and evaluated all the same. Pings would be noise in the byte counts.
_WIDE = {
    "CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT": "1000000",
    "CHAT_WRITE_RATE_LIMIT_MAX_PER_IP": "1000000",
    "WS_MAX_FRAMES_PER_SECOND": "1000000",
    "WS_MAX_CONNECTIONS": "100000",
    "WS_PING_SECONDS": "3600",
}

Seat = dict[str, Any]


class Bench:
    """Everything on this machine, durable like in production, gone at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="gatehouse-benchmark-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        self.postgres = EmbeddedPostgres(self._folder / "postgres", durable=True)
        self._stack.callback(self.postgres.destroy)
        self.database = migrated(self.postgres)
        self.processes = self._stack.enter_context(Processes())
        self.people = self._stack.enter_context(People(self.database))
        # Preparing thousands of people is not what is measured.
        self.people._api.execute("SET synchronous_commit = off")

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def start_gateway(
        self, module: str = "wsgateway", **settings: str
    ) -> tuple[ServiceProcess, int]:
        environment = {**gateway_environment(self.database), **_WIDE, **settings}
        return self.processes.start_service(module, environment)

    def start_api(self, **settings: str) -> tuple[ServiceProcess, int]:
        return self.processes.start_service("api", api_environment(self.database, **settings))

    def seats(self, ports: Sequence[int], people: Sequence[Person]) -> list[Seat]:
        """A seat for everybody, on the ports in turn."""
        return [
            self.seat(ports[number % len(ports)], person) for number, person in enumerate(people)
        ]

    def seat(self, port: int, person: Person) -> Seat:
        ticket = self.people.ticket(person, seconds=TICKET_SECONDS)
        return {"port": port, "subprotocols": ["gatehouse.v1", f"ticket.{ticket}"]}

    def crowd(self, count: int) -> list[Person]:
        return [self.people.person(f"Somebody {number}") for number in range(count)]

    def start_peer(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None
    ) -> tuple[ServiceProcess, int]:
        """A peer as a process; it is told PORT and where Postgres is, as libpq's variables."""
        port = free_port()
        postgres = {
            "PGHOST": self.postgres.host,
            "PGPORT": str(self.postgres.port),
            "PGDATABASE": "gatehouse",
            "PGUSER": "gatehouse",
            "PGPASSWORD": self.postgres.owner_password,
        }
        variables = {**postgres, "PORT": str(port), **(environment or {})}
        # Not in clean_environment's sense ours: what begins with PG is the peer's to read.
        process = self.processes.start(command, variables, PEERS / name)
        wait_until(lambda: is_listening(port), f"{name} listens", 30)
        return process, port

    def node_peer(self, name: str) -> tuple[ServiceProcess, int]:
        """Installs what its lock names, then starts it."""
        node, npm = shutil.which("node"), shutil.which("npm")
        if node is None or npm is None:
            raise SystemExit(f"the peer {name} needs node and npm on the PATH")
        if not (PEERS / name / "node_modules").is_dir():
            subprocess.run(
                [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
                cwd=PEERS / name,
                check=True,
            )
        return self.start_peer(name, [node, "server.mjs"])

    def ejabberd_peer(self) -> tuple[ServiceProcess, int]:
        """As Debian packages it; its folder and its database are its own."""
        parts = ("*/ejabberd-*/ebin", "erlang/lib/p1_pgsql-*")
        if not all(any(Path("/usr/lib").glob(part)) for part in parts):
            raise SystemExit(
                "the peer ejabberd needs the Debian packages ejabberd and erlang-p1-pgsql"
            )
        with self.superuser() as connection:
            connection.execute("CREATE DATABASE ejabberd OWNER gatehouse")
        folder = self._folder / "ejabberd"
        folder.mkdir()
        places = {"FOLDER": str(folder), "PGDATABASE": "ejabberd"}
        return self.start_peer("ejabberd", [sys.executable, "server.py"], places)

    def superuser(self, database: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host=self.postgres.host,
            port=self.postgres.port,
            dbname=database,
            user="postgres",
            password=self.postgres.superuser_password,
            autocommit=True,
        )

    def python_peer(self, name: str) -> tuple[ServiceProcess, int]:
        """In an environment of its own, from its own lock."""
        python = locked_python(PEERS / name)
        return self.start_peer(name, [str(python), "server.py"], {"JWT_SECRET": JWT_SECRET})


class Load:
    """The load generator at work on one order."""

    def __init__(self, kind: str, **order: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=ROOT,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.tell({"kind": kind, **order})

    def tell(self, line: Any) -> None:
        assert self._process.stdin is not None
        text = line if isinstance(line, str) else json.dumps(line)
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.read() or "null") or {}
        code = self._process.wait(60)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if code != 0 or not answer:
            raise SystemExit("the load generator has failed; what it said stands above")
        return answer


def load(kind: str, **order: Any) -> dict[str, Any]:
    return Load(kind, **order).answer()


def memory_bytes(pid: int) -> int:
    """The resident memory of a process and of those it has started (Linux)."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _is_or_descends_from(int(folder.name), pid):
            total += _pages(folder) * os.sysconf("SC_PAGE_SIZE")
    return total


def _pages(folder: Path) -> int:
    try:
        return int((folder / "statm").read_text().split()[1])
    except OSError:
        return 0


def _is_or_descends_from(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def settle(seconds: float = 1.0) -> None:
    """Lets what was just prepared come to rest."""
    time.sleep(seconds)
