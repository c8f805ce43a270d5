"""`scripts/run`: the whole system on one machine, from nothing to ready, and back to nothing.

Postgres (an embedded one, unless DB_HOST names another), the schema, and the services as the
Procfile names them. Whatever ends by itself ends everything: nothing is restarted silently. Exit
codes: 0 stopped by Ctrl-C or SIGTERM, 1 something failed; then one line says what; 2 the command
line is wrong.
"""

from __future__ import annotations

import argparse
import fcntl
import http.client
import os
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from scripts.children import Child, Signals, stop_all
from scripts.dev_env import write_dev_env
from scripts.embedded_postgres import EmbeddedPostgres, PostgresError
from scripts.procfile import ProcfileError, read_procfile
from scripts.stack_plan import (
    SERVICE_ROLES,
    Plan,
    PlanError,
    base_environment,
    check_ports,
    dev_environment,
    keep_secrets,
    make_plan,
    service_environment,
)

# A service promises to be gone 10 s after SIGTERM.
STOP_SECONDS = 12.0
READY_SECONDS = 60.0


class StackError(Exception):
    """Something that was started has failed; the message is one line."""


class StopRequestedError(Exception):
    """Ctrl-C or SIGTERM came before everything was up."""


class Stack:
    """Everything that one scripts/run has started."""

    def __init__(self, plan: Plan, commands: Mapping[str, str], signals: Signals) -> None:
        self._plan = plan
        self._commands = commands
        self._signals = signals
        self._postgres: EmbeddedPostgres | None = None
        self._services: list[Child] = []

    def start(self) -> None:
        """Returns when every service answers that it is ready."""
        plan = self._plan
        base = base_environment(plan, keep_secrets(plan.data, plan.environment))
        # `python` in the Procfile is the one that has the dependencies: ours.
        base["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")])
        passwords: dict[str, str] = {}
        if plan.embedded:
            self._postgres = EmbeddedPostgres(plan.data)
            self._postgres.start()
            passwords = {
                role: self._postgres.role_password(role) for role in SERVICE_ROLES.values()
            }
            base.pop("DB_PASSWORD_SECRET_REF", None)
            base.update(self._postgres.environment())
        write_dev_env(plan.data / "dev.env", dev_environment(plan, base))
        self._stop_if_asked()
        self._migrate(base)
        for name, command in self._commands.items():
            environment = service_environment(name, plan, base, passwords)
            self._services.append(Child(name, command, environment))
        for name in self._commands:
            self._wait_until_ready(name)

    @property
    def psql(self) -> str:
        """A psql that can be called: the one on the PATH, or ours by its whole name."""
        if shutil.which("psql") or self._postgres is None:
            return "psql"
        return self._postgres.programs["psql"]

    def watch(self) -> None:
        """Returns when asked to stop; raises StackError as soon as something has ended."""
        while not self._signals.stop_requested:
            self._fail_if_something_ended()
            self._signals.wait()

    def stop(self) -> None:
        """First the services, then the database that they use."""
        for late in stop_all(self._services, self._signals, STOP_SECONDS):
            _complain(f"{late.name} did not stop within {STOP_SECONDS:g} s and was killed")
        self._services = []
        if self._postgres is not None:
            self._postgres.stop()
            self._postgres = None

    def _migrate(self, environment: Mapping[str, str]) -> None:
        migration = Child("migrate", "python -m db.migrate", environment)
        try:
            while not migration.ended:
                self._stop_if_asked()
                self._signals.wait()
        finally:
            stop_all([migration], self._signals, STOP_SECONDS)
        if migration.exit_code != 0:
            raise StackError(f"the migration {migration.how_it_ended()}")

    def _wait_until_ready(self, name: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        host, port = self._plan.reachable_host, self._plan.ports[name]
        while not _is_ready(host, port):
            self._stop_if_asked()
            self._fail_if_something_ended()
            if time.monotonic() > deadline:
                raise StackError(f"{name} was not ready within {READY_SECONDS:.0f} s")
            self._signals.wait(0.05)

    def _stop_if_asked(self) -> None:
        if self._signals.stop_requested:
            raise StopRequestedError

    def _fail_if_something_ended(self) -> None:
        for child in self._services:
            if child.ended:
                raise StackError(f"{child.name} {child.how_it_ended()}; stopping everything")
        if self._postgres is not None and not self._postgres.is_running:
            raise StackError(f"Postgres ended (see {self._postgres.log_file}); stopping everything")


def main() -> int:
    argparse.ArgumentParser(
        prog="scripts/run",
        description="Starts Gatehouse on this machine: Postgres, the schema, both services.",
        epilog="GATEHOUSE_API_PORT, GATEHOUSE_WS_PORT and GATEHOUSE_DATA change where. Ctrl-C stops"
        " everything and keeps the data.",
    ).parse_args()
    signals = Signals()
    try:
        plan = make_plan(os.environ)
        commands = _commands(Path("Procfile"))
        lock = _lock_data(plan.data)
    except (PlanError, ProcfileError) as error:
        _complain(str(error))
        return 1
    with lock:
        return _run(plan, commands, signals)


def _run(plan: Plan, commands: Mapping[str, str], signals: Signals) -> int:
    stack = Stack(plan, commands, signals)
    code = 0
    try:
        check_ports(plan)
        _say("starting ...")
        stack.start()
        _say(_welcome(plan, stack.psql))
        stack.watch()
    except StopRequestedError:
        pass
    except (PlanError, PostgresError, StackError) as error:
        _complain(str(error))
        code = 1
    except OSError as error:
        _complain(f"{error.filename or 'the system'}: {error.strerror}")
        code = 1
    finally:
        stack.stop()
    if signals.stop_requested and code == 0:
        _say("stopped")
    return code


def _commands(procfile: Path) -> dict[str, str]:
    commands = read_procfile(procfile)
    if set(commands) != set(SERVICE_ROLES):
        wanted = " and ".join(SERVICE_ROLES)
        raise ProcfileError(f"{procfile} must name the processes {wanted}, no others")
    return commands


def _lock_data(folder: Path) -> IO[str]:
    """Locks the data folder until this process ends, however it ends."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise PlanError(
            f"cannot use {folder} for data ({error.strerror}): set GATEHOUSE_DATA to a folder "
            "that you can write in"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "unknown"
        lock.close()
        raise PlanError(
            f"{folder} is in use by another scripts/run (process {holder}): stop that one, or set "
            "GATEHOUSE_DATA, GATEHOUSE_API_PORT and GATEHOUSE_WS_PORT to others"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _welcome(plan: Plan, psql: str) -> str:
    dev_env = plan.data / "dev.env"
    if plan.data.is_relative_to(Path.cwd()):
        dev_env = dev_env.relative_to(Path.cwd())
    return f"""Gatehouse is up.

  API        {plan.api_url}
  gateway    {plan.ws_url}
  settings   {dev_env}

Try first, in another terminal:

  curl {plan.api_url}/health/ready
  scripts/smoke {plan.api_url} {plan.ws_url}
  scripts/chat {plan.api_url}    (in two terminals: two people talking)
  set -a; . {dev_env}; set +a; {psql}    (the database, as its owner)

README.md goes on from there. Ctrl-C stops everything and keeps the data.
"""


def _say(text: str) -> None:
    print(text, flush=True)


def _complain(text: str) -> None:
    print(f"run: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
