"""Fixtures for every kind of test; what they are made of lies in tests/support."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scripts.embedded_postgres import EmbeddedPostgres
from tests.support.cluster import Cluster, TestRunPostgres, published_cluster
from tests.support.databases import Database, cloned_database
from tests.support.processes import Processes

_UNIT = Path(__file__).parent / "unit"
# Wants Node and a browser: scripts/test-browsers.
_JAVASCRIPT = Path(__file__).parent / "javascript"


def pytest_configure(config: pytest.Config) -> None:
    """Starts the run's Postgres before pytest-xdist starts its workers, which inherit it."""
    is_worker = hasattr(config, "workerinput")
    if is_worker or config.option.collectonly or _only_unit_tests(config):
        return
    # SIGTERM as well as Ctrl-C ends the run in good order, with everything put away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    postgres = TestRunPostgres()
    config.add_cleanup(postgres.remove)  # runs on Ctrl-C too
    postgres.start()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whatever is asked for by name is collected; None leaves the rest to pytest."""
    named = (Path(argument.split("::")[0]).resolve() for argument in config.args)
    asked_for = any(path == _JAVASCRIPT or _JAVASCRIPT in path.parents for path in named)
    return True if collection_path == _JAVASCRIPT and not asked_for else None


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The run's Postgres."""
    found = published_cluster()
    if found is None:
        pytest.fail("tests/unit runs without a database: a test that needs one belongs elsewhere")
    if found.failure:
        pytest.fail(found.failure)
    return found


@pytest.fixture(scope="session")
def admin_connection(cluster: Cluster) -> Iterator[psycopg.Connection[Any]]:
    """The owner's connection through which databases are made and dropped."""
    with psycopg.connect(cluster.conninfo("gatehouse"), autocommit=True) as connection:
        yield connection


@pytest.fixture
def database(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[Database]:
    """A migrated database of this test's own."""
    with cloned_database(cluster, admin_connection) as clone:
        yield clone


@pytest.fixture
def empty_database(
    cluster: Cluster, admin_connection: psycopg.Connection[Any]
) -> Iterator[Database]:
    """A database as the owner finds it before the first migration."""
    with cloned_database(cluster, admin_connection, template="template1") as clone:
        yield clone


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A cluster that the test may stop and kill; not started, and without a schema."""
    postgres = EmbeddedPostgres(tmp_path, durable=False)
    yield postgres
    postgres.destroy()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Starts services as processes and stops at the end those that are left."""
    with Processes() as started:
        yield started


def _only_unit_tests(config: pytest.Config) -> bool:
    paths = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    return all(path == _UNIT or _UNIT in path.parents for path in paths)
