"""Whether the services fit into Postgres's connections, and how many people fit into the services.

Every instance may fill its pool, and while a new revision takes over, the old one's instances are
still there: so everything counts twice. A deployment that does not fit is refused before anything
is done; found out later, it would be an outage on the busiest day.
"""

from __future__ import annotations

from dataclasses import dataclass

from api.__main__ import SPARE_CONNECTIONS
from api.password_hashing import ROOM_OF_A_CPU
from scripts.cloud.config import Deployment, DeploymentError
from scripts.cloud.environments import checked_settings
from wsgateway.__main__ import POOL_SIZE

LISTENING = 1  # a gateway's own connection for LISTEN, beside its pool
REVISIONS = 2
# Cloud SQL's own, Postgres's superuser_reserved_connections, the two jobs, a person with psql.
KEPT_FREE = 15
# Cloud Run's own limit of connections that an instance has to Cloud SQL.
AN_INSTANCE_MAX = 100
BYTES_A_SOCKET = 20_480
REQUEST_SECONDS_MAX = 3600  # after which Cloud Run cuts a request, and so a socket


@dataclass(frozen=True, slots=True)
class Capacity:
    connections_an_api: int
    connections_a_gateway: int
    connections: int
    sockets: int
    buffers_mib: int

    def lines(self, deployment: Deployment) -> list[str]:
        api, gateway = deployment.api.max_instances, deployment.gateway.max_instances
        return [
            f"connections: {REVISIONS} x ({api} api x {self.connections_an_api}"
            f" + {gateway} gateway x {self.connections_a_gateway}) + {KEPT_FREE} kept free"
            f" = {self.connections} of {deployment.database.max_connections}",
            f"sockets: {gateway} gateway x {deployment.gateway.concurrency} = {self.sockets}",
        ]


def checked_capacity(deployment: Deployment) -> Capacity:
    """How much there is of everything, or a DeploymentError with what to turn."""
    settings = checked_settings(deployment)
    an_api = settings["api"].service.api_threads + SPARE_CONNECTIONS
    a_gateway = settings["gateway"].service.ws_processes * (POOL_SIZE + LISTENING)
    api, gateway = deployment.api, deployment.gateway
    needed = api.max_instances * an_api + gateway.max_instances * a_gateway
    capacity = Capacity(
        an_api,
        a_gateway,
        REVISIONS * needed + KEPT_FREE,
        gateway.max_instances * gateway.concurrency,
        gateway.concurrency
        * (settings["gateway"].socket.send_buffer_bytes // 4 + BYTES_A_SOCKET)
        // 1_048_576,
    )
    problems = []
    if capacity.connections > deployment.database.max_connections:
        problems.append(
            f"[database] max_connections must be at least {capacity.connections}"
            f" ({'; '.join(capacity.lines(deployment)[:1])}):"
            " raise it with the tier, or lower max_instances or API_THREADS"
        )
    for name, connections in (("api", an_api), ("gateway", a_gateway)):
        if connections > AN_INSTANCE_MAX:
            problems.append(
                f"[{name}] an instance would open {connections} connections, and Cloud Run lets it"
                f" have {AN_INSTANCE_MAX}: lower API_THREADS or WS_PROCESSES"
            )
    requests = settings["api"].service.api_threads + api.cpu * ROOM_OF_A_CPU
    if api.concurrency < requests:
        problems.append(
            f"[api] concurrency must be at least {requests}: API_THREADS, and those who wait"
            f" for a hash ({ROOM_OF_A_CPU} a core), who would keep the others out"
        )
    for name, service in (("api", api), ("gateway", gateway)):
        if service.min_instances > service.max_instances:
            problems.append(f"[{name}] min_instances must not be above max_instances")
    if settings["gateway"].socket.max_lifetime_seconds > REQUEST_SECONDS_MAX - 60:
        problems.append(
            "[gateway] WS_MAX_LIFETIME_SECONDS must be a minute below the hour after which Cloud"
            " Run cuts every request"
        )
    if capacity.buffers_mib > gateway.memory_mib:
        problems.append(
            f"[gateway] memory_mib must be at least {capacity.buffers_mib}: a quarter of the"
            " sockets may have full send buffers (concurrency x WS_SEND_BUFFER_BYTES / 4)"
        )
    if problems:
        raise DeploymentError(problems)
    return capacity
