"""A private PostgreSQL for development and tests: made, started, stopped and killed from Python.

It listens on the loopback address alone, has no unix socket, and knows nobody without a random
password (SCRAM). Its databases and roles are those of a production server: a superuser that no
part of the program uses, the owner `gatehouse` who migrates, and the two service roles.

A cluster is complete or absent: it is made in a folder beside and renamed when everything,
roles and passwords included, is in it. Nothing here needs psycopg: whatever SQL there is runs in
Postgres's single-user mode before the server ever listens.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from scripts.leash import leashed
from scripts.postgres_home import Home, open_home, postmaster_pid, shared_lock
from scripts.postgres_programs import PostgresError, Programs, find_programs
from scripts.process_table import children, running

__all__ = ["EmbeddedPostgres", "PostgresError", "Role"]

Role = Literal["gatehouse", "gatehouse_api", "gatehouse_gateway"]

HOST = "127.0.0.1"
DATABASE = "gatehouse"
SUPERUSER = "postgres"
OWNER = "gatehouse"
SERVICE_ROLES = ("gatehouse_api", "gatehouse_gateway")

# Below the ports that Linux (32768 up) and macOS (49152 up) hand out for outgoing connections, so
# that the port is still free at the next start.
_PORTS = range(20_000, 32_000)
_START_SECONDS = 60.0
_LOG_BYTES = 10_000_000

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "300",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
    "log_min_messages": "warning",
    "log_lock_waits": "on",
}
# A test database dies with its run. Commits are still written before they are acknowledged, so a
# killed *process* loses nothing; only a machine that loses power would.
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One cluster below `data_folder`; not for use by several threads."""

    def __init__(self, data_folder: Path, durable: bool = True) -> None:
        self._data_folder = data_folder.absolute()  # the server works in another folder
        self._durable = durable
        self._home: Home | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._programs: Programs | None = None
        self._passwords: dict[str, str] = {}
        self.host = HOST
        self.port = 0

    def start(self) -> None:
        """Makes the cluster if it is new, and returns when it accepts connections.

        Raises PostgresError, in one line, when that is impossible.
        """
        if self._home is None:
            self._home = open_home(self._data_folder)
        home = self._home
        try:
            with shared_lock() as copies:
                self._programs = find_programs(home.user, copies, os.environ, _made_by(home.data))
            self._end_orphan(home)
            if not home.data.exists():
                self._initialise(home)
            self._read_facts(home)
            self._launch(home)
        except BaseException:
            self.stop()
            raise

    @property
    def superuser_password(self) -> str:
        return self._passwords[SUPERUSER]

    @property
    def owner_password(self) -> str:
        return self._passwords[OWNER]

    def role_password(self, role: str) -> str:
        return self._passwords[role]

    def environment(self, role: Role = "gatehouse", database: str = DATABASE) -> dict[str, str]:
        """DB_* with which a service or a script connects as `role`."""
        return {
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_NAME": database,
            "DB_USER": role,
            "DB_PASSWORD": self._passwords[role],
            # The wheel's server is built without OpenSSL, and the loopback device has no listener.
            "DB_SSLMODE": "disable",
        }

    @property
    def programs(self) -> Programs:
        """The programs of this server's version: `cluster.programs["psql"]`."""
        if self._programs is None:
            raise PostgresError("the embedded Postgres has not been started")
        return self._programs

    @property
    def log_file(self) -> Path:
        return self._open_home().folder / "server.log"

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    def stop(self) -> None:
        """Stops the server in good order, harder and harder if it does not; keeps the data."""
        if self._server is not None:
            # Postgres's names for them: fast, immediate; the last is for one that hangs.
            for how, seconds in ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0)):
                if self._server.poll() is not None:
                    break
                self._server.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._server.wait(seconds)
            self.kill()
        if self._home is not None:
            self._home.close()
            self._home = None

    def kill(self) -> None:
        """Kills the server and all its processes with SIGKILL: a crash. start() recovers.

        Returns when they are gone; before that, a new server would refuse the data.
        """
        server, self._server = self._server, None
        if server is None or server.poll() is not None:
            return
        server.send_signal(signal.SIGSTOP)  # so that it starts no further process meanwhile
        backends = children(server.pid)
        for pid in (server.pid, *backends):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait()
        _wait_until(lambda: not running(backends), 10.0)

    def destroy(self) -> None:
        """Stops the server and deletes its data."""
        self.stop()
        open_home(self._data_folder).remove()

    def _open_home(self) -> Home:
        if self._home is None:
            raise PostgresError("the embedded Postgres has not been started")
        return self._home

    def _end_orphan(self, home: Home) -> None:
        """Ends the server of a launcher that was killed: we hold the lock, so nobody uses it."""
        if postmaster_pid(home.data) is None:
            return
        lines = (home.data / "postmaster.pid").read_text().split("\n")
        if len(lines) > 3 and lines[3].isdigit() and _answers(int(lines[3])):
            # pg_ctl as the server's user: it can hit nobody else's process. It fails when the
            # server, told by the kernel, is gone before it.
            with contextlib.suppress(PostgresError):
                self._run(home, "pg_ctl", "stop", "-D", str(home.data), "-m", "fast", "-t", "20")
        # Else it is on its way out already, or the number is a stranger's by now: Postgres knows.
        _wait_until(lambda: postmaster_pid(home.data) is None, 10.0)

    def _initialise(self, home: Home) -> None:
        for unfinished in home.folder.glob("unfinished-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        workshop = Path(tempfile.mkdtemp(prefix="unfinished-", dir=home.folder))
        names = (SUPERUSER, OWNER, *SERVICE_ROLES)
        passwords = {name: secrets.token_urlsafe(24) for name in names}
        password_file = workshop / "superuser-password"
        password_file.write_text(passwords[SUPERUSER])
        if home.user is not None:
            for path in (workshop, password_file):
                os.chown(path, home.user.uid, home.user.gid)
        data = workshop / "data"
        options = ["--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]
        if self.programs.major >= 17:
            # Sorts by code point like C, but knows the letters of Unicode. The system's locales
            # would differ from machine to machine.
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            options.append("--no-sync")
        options += [f"--username={SUPERUSER}", f"--pwfile={password_file}", f"--pgdata={data}"]
        self._run(home, "initdb", *options)
        self._run(
            home,
            "postgres",
            "--single",
            *("-D", str(data), "-c", "exit_on_error=on", "template1"),
            statements=_provisioning(passwords),
        )
        _write_facts(home, _free_port(), passwords)
        data.rename(home.data)
        shutil.rmtree(workshop, ignore_errors=True)

    def _read_facts(self, home: Home) -> None:
        facts = json.loads(_facts_file(home).read_text())
        self.port = int(facts["port"])
        self._passwords = dict(facts["passwords"])

    def _launch(self, home: Home) -> None:
        log = self.log_file
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        for _ in range(5):
            if not _is_free(self.port):
                self.port = _free_port()
                _write_facts(home, self.port, self._passwords)
            if self._launch_on_port(home, log):
                return
            if _is_free(self.port):
                break  # it did not fail over the port
        raise PostgresError(f"Postgres did not start: {_last_words(log)} (see {log})")

    def _launch_on_port(self, home: Home, log: Path) -> bool:
        settings = {**_SETTINGS, **({} if self._durable else _NOT_DURABLE), "port": str(self.port)}
        command = [self.programs["postgres"], "-D", str(home.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with log.open("ab") as output:
            self._server = subprocess.Popen(
                leashed(command, signal.SIGINT, home.user),
                cwd="/",
                env=_server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C at the terminal is for the launcher, which stops everything in order.
                start_new_session=True,
            )
        server = self._server
        _wait_until(
            lambda: _is_ready(home.data, server.pid) or server.poll() is not None, _START_SECONDS
        )
        if server.poll() is None and not _is_ready(home.data, server.pid):
            raise PostgresError(f"Postgres was not ready within {_START_SECONDS:.0f} s (see {log})")
        return server.poll() is None

    def _run(self, home: Home, program: str, *arguments: str, statements: str = "") -> None:
        """Runs one of the programs to its end as the server's user."""
        command = leashed([self.programs[program], *arguments], signal.SIGTERM, home.user)
        done = subprocess.run(
            command,
            input=statements,
            cwd="/",
            env=_server_environment(),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        if done.returncode != 0:
            lines = f"{done.stdout}\n{done.stderr}".strip().splitlines()
            raise PostgresError(f"{program} failed: {_gravest(lines)}")


def _provisioning(passwords: dict[str, str]) -> str:
    """The SQL of a new cluster, one statement a line as single-user mode wants it."""
    service_roles = ", ".join(SERVICE_ROLES)
    statements = [
        f"CREATE ROLE {OWNER} LOGIN CREATEROLE CREATEDB PASSWORD '{passwords[OWNER]}'",
        *(f"CREATE ROLE {role} LOGIN PASSWORD '{passwords[role]}'" for role in SERVICE_ROLES),
        f"GRANT {service_roles}, pg_signal_backend, pg_monitor TO {OWNER} WITH ADMIN OPTION",
        # PostgreSQL 14 lets everybody create in schema public. Here in template1, from which every
        # later database is copied.
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE, CREATE ON SCHEMA public TO {OWNER}",
        f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
    ]
    return "".join(f"{statement};\n" for statement in statements)


def _server_environment() -> dict[str, str]:
    """Nothing of the caller's PG* settings, and messages in English whatever the locale."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    return {**kept, "LC_ALL": "C"}


def _facts_file(home: Home) -> Path:
    return home.folder / "cluster.json"


def _write_facts(home: Home, port: int, passwords: dict[str, str]) -> None:
    target = _facts_file(home)
    draft = target.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        json.dump({"port": port, "passwords": passwords}, file)
    draft.replace(target)


def _made_by(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def _is_ready(data: Path, pid: int) -> bool:
    """What pg_ctl looks at: the server writes its state into the eighth line of its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Like the server: a connection that is only winding down does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    for port in random.sample(_PORTS, 200):
        if _is_free(port):
            return port
    raise PostgresError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


def _answers(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _last_words(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4000))
            return _gravest(file.read().decode(errors="replace").splitlines())
    except OSError:
        return _gravest([])


def _gravest(lines: list[str]) -> str:
    """The line that says what went wrong, of all that a program has said."""
    grave = [line for line in lines if re.search("error:|ERROR:|FATAL:|PANIC:", line)]
    return (grave or lines or ["it said nothing"])[-1]


def _wait_until(condition: Callable[[], bool], seconds: float) -> None:
    """Returns when the condition holds or the time is over; the caller looks which."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
