"""The operators' metrics: what happens on any gateway shows on any API instance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.conftest import House
from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.processes import Processes, wait_until
from tests.support.services import OPS_TOKEN, api_environment
from tests.support.sockets import Sockets


def metrics(api: Http) -> dict[str, Any]:
    answer = api.get("/ops/release/metrics", ops_token=OPS_TOKEN)
    assert answer.status == 200
    numbers: dict[str, Any] = answer.json
    return numbers


def until(api: Http, shows: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        seen[:] = [metrics(api)]
        return shows(seen[0])

    wait_until(look, what)
    return seen[0]


def total(numbers: dict[str, Any], name: str) -> int:
    return sum(gateway[name] for gateway in numbers["gateways"])


def test_the_whole_fleet_shows_in_one_answer(
    house: House, house_api: Http, sockets: Sockets
) -> None:
    ada, bob = house.people.person("Ada"), house.people.person("Bob")
    channel = house.people.channel(ada, bob)
    before = metrics(house_api)
    hers = sockets.admitted(house.ports[0], house.people.ticket(ada))
    his = sockets.admitted(house.ports[1], house.people.ticket(bob))
    for each in (hers, his):
        each.subscribe(channel)
    for _ in range(3):
        hers.say(channel, "hello")
    for each in (hers, his):
        each.take("message", 3)

    def shown(numbers: dict[str, Any]) -> bool:
        return total(numbers, "deliveries") == total(before, "deliveries") + 6

    now = until(house_api, shown, "six deliveries")
    assert len(now["gateways"]) == 2
    assert total(now, "connections") >= 2
    assert total(now, "subscriptions") >= 2
    assert total(now, "messages_in") == total(before, "messages_in") + 3
    writing = max(now["gateways"], key=lambda gateway: int(gateway["messages_in"]))
    assert 0 < writing["flush_ms_p50"] <= writing["flush_ms_p95"] <= writing["flush_ms_p99"]
    assert now["chat"]["messages_5m"] >= before["chat"]["messages_5m"] + 3
    assert now["tickets"]["consumed"] >= 2
    assert now["runtime_health"]["listener_lag_ms"] is not None
    assert all(gateway["heartbeat_age_seconds"] < 15 for gateway in now["gateways"])


def test_a_revocation_is_measured_from_its_statement_to_the_end_of_the_socket(
    house: House, house_api: Http, sockets: Sockets
) -> None:
    ada = house.people.person("Ada")
    hers = sockets.admitted(house.ports[0], house.people.ticket(ada))
    house.people.owner.execute(
        "UPDATE user_sessions SET revoked_at = clock_timestamp() WHERE id = %s", (ada.session_id,)
    )
    assert hers.closed() == (4501, "session_revoked")

    def measured(numbers: dict[str, Any]) -> bool:
        return any(gateway["revocation_ms_p99"] is not None for gateway in numbers["gateways"])

    until(house_api, measured, "a measured revocation")


def test_a_refused_ticket_is_counted(house: House, house_api: Http, sockets: Sockets) -> None:
    before = metrics(house_api)["tickets"]["refused"]
    for port in house.ports:
        assert sockets.open(port, "x" * 43).closed() == (4401, "ticket_invalid")
    until(house_api, lambda numbers: bool(numbers["tickets"]["refused"] == before + 2), "both")


def test_prometheus_reads_the_same_numbers(house: House, house_api: Http, sockets: Sockets) -> None:
    ada = house.people.person("Ada")
    sockets.admitted(house.ports[0], house.people.ticket(ada))
    for _ in range(20):
        # What was counted before may be counted anew at any time: then once more.
        before = metrics(house_api)["sessions"]
        answer = house_api.get("/ops/metrics", ops_token=OPS_TOKEN)
        numbers = metrics(house_api)
        if numbers["sessions"] == before:
            break
    assert numbers["sessions"] == before
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {
        family.name: family
        for family in text_string_to_metric_families(answer.body.decode("utf-8"))
    }
    [live] = families["gatehouse_sessions_live"].samples
    assert live.value == numbers["sessions"]["live"]
    # The parser takes _total off a counter's name, and gives it back to the sample.
    counters = families["gatehouse_gateway_messages_in"]
    assert counters.type == "counter"
    assert {sample.labels["instance"] for sample in counters.samples} == {
        gateway["instance"] for gateway in numbers["gateways"]
    }
    assert all(family.documentation for family in families.values())


def test_a_drain_shows_while_it_is_active_and_afterwards_as_the_last_one(
    database: Database, processes: Processes
) -> None:
    """In a house of its own: it reaches everybody."""
    _, port = processes.start_service("api", api_environment(database))
    api = Http(port)
    assert metrics(api)["drains"] == {"active": None, "last": None}
    body = {"reason": "a rehearsal", "grace_seconds": 3600}
    drain = api.post("/ops/drains", body, ops_token=OPS_TOKEN).json

    def active(numbers: dict[str, Any]) -> bool:
        return bool(numbers["drains"] == {"active": drain, "last": None})

    until(api, active, "the active drain")
    called_off = api.post(f"/ops/drains/{drain['id']}/cancel", {}, ops_token=OPS_TOKEN)
    assert called_off.status == 200

    def over(numbers: dict[str, Any]) -> bool:
        return bool(numbers["drains"] == {"active": None, "last": called_off.json})

    until(api, over, "the drain that is over")


def test_polling_leaves_neither_an_audit_row_nor_an_event(house: House, house_api: Http) -> None:
    counted = (
        "SELECT (SELECT count(*) FROM admin_action_audit) * 1000000"
        " + (SELECT count(*) FROM security_events)"
    )
    before = house.people.one(counted)
    for path in ("/ops/release/metrics", "/ops/metrics") * 3:
        assert house_api.get(path, ops_token=OPS_TOKEN).status == 200
    assert house.people.one(counted) == before
