"""`python -m api`: reads the configuration, checks the schema, serves until SIGTERM or Ctrl-C.

Exit codes: 0 stopped in good order, 1 the port or the database is not to be had, 64 the command
line is wrong, 78 the configuration is. `--check-config` reads the configuration and exits.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys

from api.app import create_app
from api.cpu_placement import all_cpus, stay_on_one_cpu
from api.http_server import HttpServer
from api.login_attempts import LoginAttempts
from api.password_hashing import PasswordHasher
from api.services import Services
from db import security_events
from db.connections import UNAVAILABLE, SyncPool, open_pool
from db.migrations import SchemaError, check_schema, read_migrations
from db.secret_manager import resolve_secrets
from db.security_events import Event
from rules.access_tokens import AccessTokens
from rules.log_lines import configure_logging
from rules.passwords import ScryptCost
from rules.secret_values import Secrets
from rules.settings import EXIT_CODE, ConfigurationError, Settings, load

logger = logging.getLogger("gatehouse.api")

DEFAULT_PORT = 8000
EX_USAGE = 64  # of sysexits.h
# Of the readiness probe alone: it must not wait behind the workers. And one more than those that do
# not wait for a hash.
PROBE_CONNECTIONS = 1
SPARE_CONNECTIONS = 1 + PROBE_CONNECTIONS


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check-config"]):
        print(f"api: {' '.join(arguments)}: the one option is --check-config", file=sys.stderr)
        return EX_USAGE
    try:
        settings = load(os.environ, "api")
        if arguments == ["--check-config"]:
            print("api: the configuration is good")
            return 0
        secrets = resolve_secrets(settings)
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"api: {problem}", file=sys.stderr)
        return EXIT_CODE
    configure_logging()
    try:
        return _serve(settings, secrets)
    except (SchemaError, OSError, *UNAVAILABLE) as error:
        print(f"api: cannot start: {str(error).strip()}", file=sys.stderr)
        return 1


def _serve(settings: Settings, secrets: Secrets) -> int:
    service, auth = settings.service, settings.auth
    port = service.port or DEFAULT_PORT
    listening = socket.create_server(
        (service.host, port), family=_family(service.host), backlog=1024
    )
    cpus = all_cpus()
    if service.api_one_cpu:
        stay_on_one_cpu()
    hasher = PasswordHasher(ScryptCost(log2_n=auth.scrypt_log2_n), cpus)

    def pool_of(size: int) -> SyncPool:
        return open_pool(settings.database, secrets.db_passwords, "gatehouse-api", size)

    with (
        pool_of(service.api_threads + SPARE_CONNECTIONS - PROBE_CONNECTIONS) as pool,
        pool_of(PROBE_CONNECTIONS) as probe_pool,
    ):
        with pool.connection() as connection:
            check_schema(connection, read_migrations())
        services = Services(
            settings=settings,
            pool=pool,
            probe_pool=probe_pool,
            access_tokens=AccessTokens(
                secrets.jwt_keys, auth.jwt_issuer, auth.jwt_audience, auth.access_ttl_seconds
            ),
            ops_tokens=secrets.ops_tokens,
            hasher=hasher,
            login_attempts=LoginAttempts(pool, auth),
            is_draining=lambda: server.is_draining,
        )
        server = HttpServer(
            create_app(services),
            listening,
            # Whoever waits for a hash leaves the others as many as there would be without.
            threads=service.api_threads + hasher.room,
            max_body_bytes=service.max_request_body_bytes,
            trusted_proxy_hops=service.trusted_proxy_hops,
            cors_allowed_origins=service.cors_allowed_origins,
            cloud_project=settings.cloud_project,
        )
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: server.stop())
        with pool.connection() as connection:
            security_events.record(connection, Event.SERVICE_STARTED, ip=None, service="api")
        logger.info("serving on %s:%d", service.host, port)
        server.run()
        hasher.close()
    logger.info("stopped")
    return 0


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
