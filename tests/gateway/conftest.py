"""Two gateways that tests share, and gateways of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.cluster import Cluster
from tests.support.databases import Database, cloned_database
from tests.support.http_calls import Http
from tests.support.processes import Processes, ServiceProcess
from tests.support.services import People, SomeDatabase, api_environment, gateway_environment
from tests.support.sockets import Sockets

StartGateway = Callable[..., tuple[ServiceProcess, int]]


@dataclass(frozen=True, slots=True)
class House:
    """Two gateway processes on one database. A test leaves them as it finds them: it makes people
    and channels of its own and ends no process."""

    database: Database
    people: People
    gateways: tuple[ServiceProcess, ServiceProcess]
    ports: tuple[int, int]


@pytest.fixture(scope="session")
def house(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[House]:
    with open_house(cluster, admin_connection) as opened:
        yield opened


@contextmanager
def open_house(cluster: Cluster, admin: psycopg.Connection[Any]) -> Iterator[House]:
    with (
        cloned_database(cluster, admin) as database,
        People(database) as people,
        Processes() as processes,
    ):
        (one, first), (other, second) = (
            processes.start_service("wsgateway", gateway_environment(database)) for _ in range(2)
        )
        yield House(database, people, (one, other), (first, second))


@pytest.fixture(scope="session")
def house_api(house: House) -> Iterator[Http]:
    """The HTTP service of the house."""
    with Processes() as processes:
        _, port = processes.start_service("api", api_environment(house.database))
        yield Http(port)


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    with Sockets() as opened:
        yield opened


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    """In a database of the test's own."""
    with People(database) as made:
        yield made


@pytest.fixture
def start_gateway(processes: Processes) -> StartGateway:
    """Starts a gateway of the test's own; returns it and its port."""

    def start(database: SomeDatabase, **settings: str) -> tuple[ServiceProcess, int]:
        return processes.start_service("wsgateway", gateway_environment(database, **settings))

    return start
