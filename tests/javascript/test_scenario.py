"""The JavaScript client passes the scenario that every client library must pass, in Node and in a
browser, which holds it to CORS and to its Origin."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.javascript.chromium import Chromium, Pages
from tests.scenario.actor import ProgramActor
from tests.scenario.steps import register, run_all
from tests.support.databases import Database
from tests.support.processes import Processes
from tests.support.stack import GLOBAL, PASSWORD, Stack

PAGE = "tests/scenario/runner.html"


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages() as pages:
        yield pages


@pytest.fixture
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


def test_the_scenario_in_node(database: Database, processes: Processes) -> None:
    node = shutil.which("node")
    assert node, "no Node here: install it (Debian: apt-get install nodejs)"
    # Until Node 22 its WebSocket is behind a flag, which later ones know as well.
    with ProgramActor([node, "--experimental-websocket", "tests/scenario/runner.mjs"]) as actor:
        run_all(actor, database, processes)


def test_the_scenario_in_chromium(
    database: Database, processes: Processes, pages: Pages, chromium: Chromium
) -> None:
    origin = f"http://127.0.0.1:{pages.port}"
    with chromium.page(f"{origin}/{PAGE}") as actor:
        run_all(actor, database, processes, origin)


def test_a_page_of_another_origin_gets_neither_an_answer_nor_a_socket(
    database: Database, processes: Processes, pages: Pages, chromium: Chromium
) -> None:
    # Two names of one place: two origins.
    known, unknown = (f"http://{host}:{pages.port}" for host in ("127.0.0.1", "localhost"))
    strict, open_ = Stack(database, processes), Stack(database, processes)
    strict.start_api(CORS_ALLOWED_ORIGINS=known)
    open_.start_api(CORS_ALLOWED_ORIGINS=f"{known},{unknown}")
    gateway = strict.start_gateway(CORS_ALLOWED_ORIGINS=known)
    person = {"email": "mallory@example.org", "password": PASSWORD, "display_name": "Mallory"}
    with chromium.page(f"{unknown}/{PAGE}") as actor:
        refused = actor.ask("register", "Mallory", api_url=strict.api_url, **person)
        assert refused == {"error": "Failed to fetch"}
        # With an API that does know the page: the socket looks at its Origin itself.
        register(actor, open_, "Mallory", gateway.url)
        actor.ask("live", "Mallory")
        events = actor.wait_for("Mallory", "refused twice", lambda events: len(events) >= 2)
        assert [(event["type"], event["code"]) for event in events[:2]] == [("offline", 1006)] * 2
    with chromium.page(f"{known}/{PAGE}") as actor:
        register(actor, strict, "Ann", gateway.url)
        actor.ask("live", "Ann")
        assert actor.ask("subscribe", "Ann", channel_id=GLOBAL) == {"last_seq": 0}
