"""One HTTP service that tests share, and services of a test's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.support.cluster import Cluster
from tests.support.databases import Database, cloned_database
from tests.support.http_calls import Http
from tests.support.processes import Processes, ServiceProcess
from tests.support.services import People, SomeDatabase, api_environment

PASSWORD = "correct horse battery"
StartApi = Callable[..., tuple[ServiceProcess, Http]]
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class SharedApi:
    """A running service. A test leaves it as it finds it: it makes accounts and channels of its
    own and does not stop it."""

    database: Database
    people: People
    http: Http
    process: ServiceProcess

    def account(self, name: str = "Ada") -> dict[str, Any]:
        """A new account as `register` answers it."""
        body = {"email": new_email(), "password": PASSWORD, "display_name": name}
        answer = self.http.post("/auth/register", body)
        assert answer.status == 201
        session: dict[str, Any] = answer.json
        return session


def new_email() -> str:
    return f"somebody-{next(_numbers)}@example.org"


@pytest.fixture(scope="session")
def shared(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[SharedApi]:
    with (
        cloned_database(cluster, admin_connection) as database,
        People(database) as people,
        Processes() as processes,
    ):
        process, port = processes.start_service("api", api_environment(database))
        yield SharedApi(database, people, Http(port), process)


@pytest.fixture
def http(shared: SharedApi) -> Http:
    return shared.http


@pytest.fixture
def start_api(processes: Processes) -> StartApi:
    """Starts a service of the test's own."""

    def start(database: SomeDatabase, **settings: str) -> tuple[ServiceProcess, Http]:
        process, port = processes.start_service("api", api_environment(database, **settings))
        return process, Http(port)

    return start
