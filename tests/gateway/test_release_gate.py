"""The release gate at the socket: at the ticket, and for those who are inside already."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import psycopg
import pytest

from db.operators import Operator
from db.releases import DrainScope, NewRelease, Outcome, activate_release, roll_back_release
from tests.gateway.conftest import House, open_house
from tests.support.cluster import Cluster
from tests.support.processes import wait_until
from tests.support.sockets import Sockets, TestSocket

REFUSED = (4526, "update_required")
OLGA = Operator("olga", None)


@pytest.fixture(scope="module")
def own_house(cluster: Cluster, admin_connection: psycopg.Connection[Any]) -> Iterator[House]:
    """A policy concerns everybody who is there."""
    with open_house(cluster, admin_connection) as house:
        yield house


@pytest.fixture
def gatehouse(own_house: House, sockets: Sockets) -> House:
    """Nothing is released yet, and every gateway knows."""
    for statement in (
        "DELETE FROM release_policy",
        "INSERT INTO release_policy DEFAULT VALUES",
        "DELETE FROM release_records",
    ):
        own_house.people.owner.execute(statement)
    for gateway in (0, 1):
        wait_until(
            partial(_knows, own_house, sockets, gateway, None), "the gateway has heard of it"
        )
    return own_house


def _knows(house: House, sockets: Sockets, gateway: int, latest: str | None) -> bool:
    opened = sockets.open(house.ports[gateway], house.people.ticket(house.people.person()))
    status = opened.receive("connected")["version_status"]
    opened.close()
    return bool(status["latest_version"] == latest)


def activate(
    house: House,
    latest: str,
    minimum: str | None = None,
    grace: int = 0,
    drain: DrainScope = DrainScope.NONE,
) -> Outcome:
    with house.database.connect("api") as api, api.transaction():
        return activate_release(
            api, OLGA, NewRelease(latest, minimum, grace_seconds=grace, drain=drain), dry_run=False
        )


def roll_back(house: House) -> None:
    with house.database.connect("api") as api, api.transaction():
        roll_back_release(api, OLGA, "it crashes", dry_run=False)


def admitted(house: House, sockets: Sockets, version: str | None, gateway: int = 0) -> TestSocket:
    people = house.people
    ticket = people.ticket(people.person(), version=version)
    return sockets.admitted(house.ports[gateway], ticket)


def make_admin(house: House, user_id: int) -> None:
    house.people.owner.execute("UPDATE users SET is_admin = true WHERE id = %s", [user_id])


class TestAtTheTicket:
    @pytest.mark.parametrize("version", ["1.9", None, "two"])
    def test_an_outdated_client_is_told_to_update_and_opens_nothing(
        self, gatehouse: House, sockets: Sockets, version: str | None
    ) -> None:
        people = gatehouse.people
        ada = people.person()
        ticket = people.ticket(ada, version=version)
        activate(gatehouse, "2.0", "2.0")
        opened = sockets.open(gatehouse.ports[0], ticket)
        assert opened.closed() == REFUSED
        assert [frame["code"] for frame in opened.unread] == ["update_required"]
        rows = "SELECT count(*) FROM gateway_connections WHERE user_id = %s"
        assert people.one(rows, ada.user_id) == 0
        # It is spent: nothing is left that could be tried again after a rollback.
        roll_back(gatehouse)
        assert sockets.open(gatehouse.ports[1], ticket).closed()[0] == 4401

    def test_current_clients_and_admins_come_in(self, gatehouse: House, sockets: Sockets) -> None:
        activate(gatehouse, "2.0", "2.0")
        assert admitted(gatehouse, sockets, "2.0").is_alive()
        admin = gatehouse.people.person()
        make_admin(gatehouse, admin.user_id)
        ticket = gatehouse.people.ticket(admin, version="0.1")
        assert sockets.admitted(gatehouse.ports[0], ticket).is_alive()

    def test_in_one_batch_each_ticket_is_judged_by_itself(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        people = gatehouse.people
        versions = ["1.9", "2.0"] * 10
        tickets = [people.ticket(people.person(), version=version) for version in versions]
        activate(gatehouse, "2.0", "2.0")
        with ThreadPoolExecutor(len(tickets)) as pool:
            opened = list(pool.map(lambda one: sockets.open(gatehouse.ports[0], one), tickets))
        kinds = [each.receive_any()["type"] for each in opened]
        assert kinds == ["error", "connected"] * 10


class TestInside:
    def test_whoever_may_update_is_told_and_whoever_need_not_is_left_alone(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        for gateway in (0, 1):
            old, new = (admitted(gatehouse, sockets, one, gateway) for one in ("1.9", "2.0"))
            activate(gatehouse, "2.0")
            status = old.receive("update_available")["version_status"]
            assert (status["client_version"], status["latest_version"]) == ("1.9", "2.0")
            assert new.is_alive()
            assert new.unread == []
            roll_back(gatehouse)

    def test_whoever_must_update_is_told_and_closed_at_the_deadline_on_every_gateway(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        old = [admitted(gatehouse, sockets, "1.9", number % 2) for number in range(10)]
        new = [admitted(gatehouse, sockets, "2.0", gateway) for gateway in (0, 1)]
        deadline = activate(gatehouse, "2.0", "2.0", grace=2).release.enforce_after
        for each in old:
            status = each.receive("update_required")["version_status"]
            assert status["update_required"] is False
        late = admitted(gatehouse, sockets, "1.9")  # somebody who comes in during the grace
        passed = "SELECT clock_timestamp() - %s"
        for each in (*old, late):
            assert each.closed() == REFUSED
            assert gatehouse.people.one(passed, deadline).total_seconds() >= 0
            assert each.unread[-1]["type"] == "update_required"
            assert each.unread[-1]["version_status"]["update_required"] is True
        assert gatehouse.people.one(passed, deadline).total_seconds() < 5
        assert all(each.is_alive() for each in new)

    def test_whoever_the_release_drains_is_drained_and_not_refused(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        """Gate and drain have one deadline; what a client is told must not be left to chance."""
        people = gatehouse.people
        opened = []
        for number in range(10):
            person = people.person(version="1.9")
            ticket = people.ticket(person, version="1.9")
            opened.append(sockets.admitted(gatehouse.ports[number % 2], ticket))
        done = activate(gatehouse, "2.0", "2.0", grace=1, drain=DrainScope.OUTDATED)
        assert done.enrolled >= 10
        for each in opened:
            assert each.closed() == (4510, "drained")

        def is_over() -> bool:
            # A gateway that has its hand on the row at this moment is passed over.
            people.owner.execute("SELECT finish_drain('test', 0)")
            return bool(
                people.one("SELECT bool_and(status <> 'draining') FROM publish_drain_events")
            )

        wait_until(is_over, "the drain is over")

    def test_an_admin_stays(self, gatehouse: House, sockets: Sockets) -> None:
        admin = gatehouse.people.person()
        make_admin(gatehouse, admin.user_id)
        ticket = gatehouse.people.ticket(admin, version="1.9")
        hers = sockets.admitted(gatehouse.ports[0], ticket)
        theirs = admitted(gatehouse, sockets, "1.9")
        activate(gatehouse, "2.0", "2.0")
        hers.receive("update_available")
        assert theirs.closed() == REFUSED
        assert hers.is_alive()

    def test_who_becomes_an_admin_during_the_grace_stays(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        person = gatehouse.people.person()
        hers = sockets.admitted(gatehouse.ports[0], gatehouse.people.ticket(person, version="1.9"))
        theirs = admitted(gatehouse, sockets, "1.9")
        activate(gatehouse, "2.0", "2.0", grace=1)
        make_admin(gatehouse, person.user_id)
        assert theirs.closed() == REFUSED
        assert hers.is_alive()

    def test_nobody_is_closed_by_a_release_that_is_taken_back_in_time(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        old = admitted(gatehouse, sockets, "1.9")
        deadline = activate(gatehouse, "2.0", "2.0", grace=1).release.enforce_after
        old.receive("update_required")
        roll_back(gatehouse)
        passed = "SELECT clock_timestamp() > %s::timestamptz + interval '1 second'"
        wait_until(lambda: gatehouse.people.one(passed, deadline), "the deadline is over")
        assert old.is_alive()

    def test_what_connected_says_is_what_is_in_force(
        self, gatehouse: House, sockets: Sockets
    ) -> None:
        activate(gatehouse, "2.0")
        for gateway in (0, 1):
            wait_until(partial(_knows, gatehouse, sockets, gateway, "2.0"), "it says so")


def test_where_no_notification_comes_the_socket_is_closed_within_five_seconds(
    gatehouse: House, sockets: Sockets
) -> None:
    owner = gatehouse.people.owner
    owner.execute("ALTER TABLE release_policy DISABLE TRIGGER release_policy_changed")
    try:
        old = [admitted(gatehouse, sockets, "1.9", number % 2) for number in range(6)]
        activate(gatehouse, "2.0", "2.0")
        activated = time.monotonic()
        for each in old:
            assert each.closed() == REFUSED
        assert time.monotonic() - activated < 5
    finally:
        owner.execute("ALTER TABLE release_policy ENABLE TRIGGER release_policy_changed")


def test_of_those_who_come_in_while_it_is_activated_no_outdated_one_stays(
    gatehouse: House, sockets: Sockets
) -> None:
    people = gatehouse.people
    tickets = [people.ticket(people.person(), version="1.9") for _ in range(60)]

    def come(number: int) -> TestSocket:
        if number == 30:
            activate(gatehouse, "2.0", "2.0")
        return sockets.open(gatehouse.ports[number % 2], tickets[number])

    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(come, range(len(tickets))))
    for each in opened:
        assert each.closed() == REFUSED
    assert {each.unread[0]["type"] for each in opened} == {"connected", "error"}
