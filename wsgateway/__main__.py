"""`python -m wsgateway`: reads the configuration, checks the schema, serves until SIGTERM.

Exit codes: 0 stopped in good order, 1 the port or the database is not to be had, 64 the command
line is wrong, 78 the configuration is. `--check-config` reads the configuration and exits. With
WS_PROCESSES above 1 this process only watches over as many others (wsgateway/processes.py).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from db.connections import UNAVAILABLE, open_async_pool, open_pool
from db.migrations import SchemaError, check_schema, read_migrations
from db.secret_manager import resolve_secrets
from rules.log_lines import configure_logging
from rules.secret_values import Secrets
from rules.settings import EXIT_CODE, ConfigurationError, Settings, load
from wsgateway.gateway import Gateway
from wsgateway.processes import CHILD_MARK, stop_with_parent, supervise
from wsgateway.turns import Turns

logger = logging.getLogger("gatehouse.gateway")

DEFAULT_PORT = 8001
EX_USAGE = 64  # of sysexits.h
POOL_SIZE = 8
# The rest is for the gateway's own work: the writer, admissions, catching up, the watches.
SOCKETS_AT_ONCE = POOL_SIZE - 4


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check-config"]):
        print(f"gateway: {' '.join(arguments)}: the one option is --check-config", file=sys.stderr)
        return EX_USAGE
    try:
        settings = load(os.environ, "gateway")
        if arguments == ["--check-config"]:
            print("gateway: the configuration is good")
            return 0
        configure_logging()
        port = settings.service.port or DEFAULT_PORT
        is_child = CHILD_MARK in os.environ
        if settings.service.ws_processes > 1 and not is_child:
            return supervise(settings.service.host, port, settings.service.ws_processes)
        secrets = resolve_secrets(settings, {"DB_PASSWORD"})
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"gateway: {problem}", file=sys.stderr)
        return EXIT_CODE
    except OSError as error:
        print(f"gateway: cannot start: {error}", file=sys.stderr)
        return 1
    exit_code = 0
    try:
        _check_database(settings, secrets)
        asyncio.run(_serve(settings, secrets, port, share_port=is_child))
    except* (SchemaError, OSError, *UNAVAILABLE) as problems:  # the gateway's come in a group
        print(f"gateway: cannot start: {str(problems.exceptions[0]).strip()}", file=sys.stderr)
        exit_code = 1
    return exit_code


def _check_database(settings: Settings, secrets: Secrets) -> None:
    with (
        open_pool(settings.database, secrets.db_passwords, "gatehouse-gateway", 1) as pool,
        pool.connection() as connection,
    ):
        check_schema(connection, read_migrations())


async def _serve(settings: Settings, secrets: Secrets, port: int, *, share_port: bool) -> None:
    loop = asyncio.get_running_loop()
    async with await open_async_pool(
        settings.database, secrets.db_passwords, "gatehouse-gateway", POOL_SIZE
    ) as pool:
        gateway = Gateway(settings, secrets, pool, Turns(SOCKETS_AT_ONCE))
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, gateway.stop)
        watching = asyncio.create_task(stop_with_parent(gateway.stop)) if share_port else None
        await gateway.run(settings.service.host, port, share_port=share_port)
        if watching is not None:
            watching.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
