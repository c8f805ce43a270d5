"""A function for each figure: it gets a Bench and the seconds to measure, and answers numbers."""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench, Load, load, memory_bytes, settle
from tests.support.http_calls import Http
from tests.support.services import OPS_TOKEN
from tests.support.sockets import Sockets

Figures = dict[str, Any]
MEMBERS, SENDERS, IN_FLIGHT, WARM_UP_SECONDS = 100, 10, 64, 3.0
STEADY_RATE = 20
SOCKETS = 2000
ADMISSIONS = 3000
GUESSERS = 20


def saturation(bench: Bench, seconds: float, processes: int = 1) -> Figures:
    """Stored and delivered: 100 members in one room, 10 of them talk as fast as they can."""
    _, port = bench.start_gateway(WS_PROCESSES=str(processes))
    settle()
    return _saturate(bench.seats([port], bench.crowd(MEMBERS)), "gatehouse", seconds)


def saturation_of_two_processes(bench: Bench, seconds: float) -> Figures:
    return saturation(bench, seconds, processes=2)


def saturation_of_ws_pg(bench: Bench, seconds: float) -> Figures:
    _, port = bench.node_peer("ws_pg")
    return _saturate(_open_seats(port, MEMBERS), "gatehouse", seconds)


def saturation_of_socketio_pg(bench: Bench, seconds: float) -> Figures:
    _, port = bench.node_peer("socketio_pg")
    return _saturate(_open_seats(port, MEMBERS), "socketio", seconds)


def saturation_of_ejabberd(bench: Bench, seconds: float) -> Figures:
    _, port = bench.ejabberd_peer()
    answer = _saturate(_open_seats(port, MEMBERS, "xmpp"), "xmpp", seconds)
    # ejabberd delivers, and so acknowledges, also what it could not archive.
    with bench.superuser("ejabberd") as connection:
        rows = connection.execute("SELECT count(*) FROM archive").fetchall()[0][0]
    if rows < answer["acknowledged"]:
        raise SystemExit(f"ejabberd archived {rows} of {answer['acknowledged']} messages")
    return {**answer, "archived": rows}


def send_to_ack(bench: Bench, seconds: float) -> Figures:
    """20 messages a second on one instance; then when the same and another instance deliver."""
    _, here = bench.start_gateway()
    alone = _steady(bench.seats([here, here], bench.crowd(2)), seconds)
    _, there = bench.start_gateway()
    beside = _steady(bench.seats([here, here, there], bench.crowd(3)), seconds)
    same, other = beside["delivery_ms"]
    return {
        "ack_ms": alone["ack_ms"],
        "same_instance_ms": same,
        "other_instance_ms": other,
        "other_to_same_p50": other["p50"] / same["p50"],
        "busy": max(alone["busy"], beside["busy"]),
    }


def send_to_ack_of_ws_pg(bench: Bench, seconds: float) -> Figures:
    _, port = bench.node_peer("ws_pg")
    seats = _open_seats(port, 2)
    return _steady(seats, seconds)


def send_to_ack_of_socketio_pg(bench: Bench, seconds: float) -> Figures:
    _, port = bench.node_peer("socketio_pg")
    seats = _open_seats(port, 2)
    return _steady(seats, seconds, "socketio")


def send_to_ack_of_ejabberd(bench: Bench, seconds: float) -> Figures:
    _, port = bench.ejabberd_peer()
    seats = _open_seats(port, 2, "xmpp")
    return _steady(seats, seconds, "xmpp")


def admissions(bench: Bench, seconds: float) -> Figures:
    """With a ticket each; our own gateway without tickets; the library alone. A fixed number."""
    _, port = bench.start_gateway()
    people = bench.crowd(ADMISSIONS // 10)
    seats = [bench.seat(port, person) for person in people for _ in range(10)]
    with_ticket = load("admissions", seats=seats, at_once=50)
    _, no_tickets = bench.start_gateway(module="benchmarks.gateway_without_tickets")
    same_server = load("admissions", seats=_seats_of_ours(no_tickets), at_once=50)
    _, bare = bench.start_peer("bare_websockets", [sys.executable, "server.py"])
    bare_library = load("admissions", seats=_open_seats(bare, ADMISSIONS), at_once=50)
    return {
        "with_ticket": with_ticket,
        "same_server": same_server,
        "bare_library": bare_library,
        "ratio_to_same_server": with_ticket["per_second"] / same_server["per_second"],
        "ratio_to_bare_library": with_ticket["per_second"] / bare_library["per_second"],
    }


def memory_of_a_socket(bench: Bench, seconds: float) -> Figures:
    """Resident memory for each of 2 000 idle, subscribed sockets."""
    process, port = bench.start_gateway()
    people = bench.crowd(SOCKETS // 100)
    # What the first sockets make it load belongs to the process, not to the others.
    _crowd(bench.seats([port], people)).tell("end")
    settle(2)
    before = memory_bytes(process.pid)
    seats = [bench.seat(port, people[number % len(people)]) for number in range(SOCKETS)]
    crowd = _crowd(seats)
    settle(2)
    after = memory_bytes(process.pid)
    crowd.tell("end")
    return {"kilobytes_a_socket": (after - before) / SOCKETS / 1000, **crowd.answer()}


def revocation(bench: Bench, seconds: float) -> Figures:
    """From the commit to the closed socket: 2 000 on two instances, all at once; then one alone."""
    ports = [bench.start_gateway()[1] for _ in range(2)]
    everybody, one = bench.crowd(SOCKETS), bench.crowd(1)[0]
    update = "UPDATE user_sessions SET revoked_at = now() WHERE revoked_at IS NULL AND id "

    def close_all() -> Figures:
        crowd = _crowd(bench.seats(ports, everybody))
        settle()
        ids = [person.session_id for person in everybody]
        bench.people.owner.execute(update + "= ANY(%s)", (ids,))
        crowd.tell({"from": time.time(), "closes": SOCKETS})
        return crowd.answer()

    def close_one() -> Figures:
        crowd = _crowd([*bench.seats(ports, bench.crowd(200)), bench.seat(ports[0], one)])
        settle()
        bench.people.owner.execute(update + "= %s", (one.session_id,))
        crowd.tell({"from": time.time(), "closes": 1})
        return crowd.answer()

    return {"all_at_once": close_all(), "one_alone": close_one()}


def growth(bench: Bench, seconds: float, millions: float = 5.0) -> Figures:
    """Send to ack with 5 million stored messages, against 10 thousand."""
    _, port = bench.start_gateway()
    ann = bench.crowd(1)[0]

    def measure() -> Figures:
        seats = [bench.seat(port, ann)]
        return _steady(seats, seconds)

    _store(bench, ann.user_id, 10_000)
    few = measure()
    _store(bench, ann.user_id, int(millions * 1_000_000))
    many = measure()
    return {
        "ack_ms_of_10_thousand": few["ack_ms"],
        f"ack_ms_of_{millions:g}_million": many["ack_ms"],
        "ratio_p50": many["ack_ms"]["p50"] / few["ack_ms"]["p50"],
    }


def bearer_get(bench: Bench, seconds: float) -> Figures:
    """GET /auth/me, which reads the session in Postgres, as fast as 16 connections can."""
    _, port = bench.start_api()
    token = bench.people.access_token(bench.crowd(1)[0])
    return load("http", port=port, path="/auth/me", token=token, connections=16, seconds=seconds)


def bearer_get_of_fastapi(bench: Bench, seconds: float) -> Figures:
    _, port = bench.python_peer("fastapi_sqlalchemy")
    token = bench.people.access_token(bench.crowd(1)[0])
    return load("http", port=port, path="/auth/me", token=token, connections=16, seconds=seconds)


def login_flood(bench: Bench, seconds: float) -> Figures:
    """Bearer calls at 50 a second, undisturbed and beside 20 parallel guesses without pause."""
    # The real price of a password, and limits that let every guess through to it.
    _, port = bench.start_api(
        AUTH_SCRYPT_LOG2_N="15", AUTH_RATE_LIMIT_MAX_ATTEMPTS_PER_ACCOUNT="1000000"
    )
    token = bench.people.access_token(bench.crowd(1)[0])

    def measure() -> Figures:
        return load(
            "http", port=port, path="/auth/me", token=token, connections=8, rate=50, seconds=seconds
        )

    calm = measure()
    stop = threading.Event()
    guesses: list[int] = []
    threads = [threading.Thread(target=_guess, args=(port, stop, guesses)) for _ in range(GUESSERS)]
    for thread in threads:
        thread.start()
    try:
        flooded = measure()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return {
        "calm": calm,
        "flooded": flooded,
        "guesses": {str(status): guesses.count(status) for status in sorted(set(guesses))},
        "ratio_p99": flooded["ms"]["p99"] / calm["ms"]["p99"],
    }


def metrics_cost(bench: Bench, seconds: float) -> Figures:
    """GET /ops/release/metrics with a million live sessions and five million messages."""
    _, port = bench.start_api()
    few = _poll_metrics(port, calls=20, every_seconds=0.2)
    ann = bench.crowd(1)[0]
    _store(bench, ann.user_id, 5_000_000, per_second=100)
    _open_sessions(bench, 1_000_000)
    # Not from the beginning: what is kept now was counted in an empty house.
    many = _poll_metrics(port, calls=max(3, round(seconds / 5)), every_seconds=5.0)
    return {"ms_of_an_empty_house": few, "ms_of_a_full_house": many}


def default_limits(bench: Bench, seconds: float) -> Figures:
    """That the limits are there: with the defaults the 31st message in ten seconds is refused."""
    _, port = bench.start_gateway(
        CHAT_WRITE_RATE_LIMIT_MAX_PER_ACCOUNT="30", CHAT_WRITE_RATE_LIMIT_MAX_PER_IP="120"
    )
    ann = bench.crowd(1)[0]
    with Sockets() as sockets:
        socket = sockets.admitted(port, bench.people.ticket(ann))
        for _ in range(31):
            socket.say(1, "as fast as it goes", str(uuid.uuid4()))
        acked = len(socket.take("ack", 30))
        refused = socket.receive("error")
    return {"acknowledged": acked, "the 31st": refused["code"]}


def _saturate(seats: list[dict[str, Any]], dialect: str, seconds: float) -> Figures:
    return load(
        "saturation",
        dialect=dialect,
        seats=seats,
        senders=SENDERS,
        in_flight=IN_FLIGHT,
        warm_up=WARM_UP_SECONDS,
        seconds=seconds,
    )


def _steady(seats: list[dict[str, Any]], seconds: float, dialect: str = "gatehouse") -> Figures:
    return load("steady", dialect=dialect, seats=seats, rate=STEADY_RATE, seconds=seconds)


def _seats_of_ours(port: int) -> list[dict[str, Any]]:
    """At a gateway that looks at no ticket."""
    return [{"port": port, "subprotocols": ["gatehouse.v1", "ticket.x"]}] * ADMISSIONS


def _open_seats(port: int, count: int, *subprotocols: str) -> list[dict[str, Any]]:
    """At a peer that asks for no ticket."""
    return [{"port": port, "subprotocols": subprotocols} for _ in range(count)]


def _crowd(seats: list[dict[str, Any]]) -> Load:
    crowd = Load("crowd", seats=seats)
    if crowd.read() != "ready":
        raise SystemExit("the load generator could not fill the room; it says why above")
    return crowd


def _store(bench: Bench, user_id: int, count: int, per_second: int = 1_000_000) -> None:
    """So many more messages in channel 1, as if they had been sent at this rate until now."""
    bench.people.owner.execute("SET statement_timeout = 0")
    bench.people.owner.execute(
        """
        WITH channel AS (
            UPDATE chat_channels
            SET last_seq = last_seq + %(count)s, last_entry_at = clock_timestamp()
            WHERE id = 1
            RETURNING last_seq - %(count)s AS before
        )
        INSERT INTO chat_messages
            (channel_id, seq, kind, sender_id, client_msg_id, content, request_id, created_at)
        SELECT 1, before + n, 'message', %(user_id)s, gen_random_uuid(), 'message number ' || n,
               'benchmark', now() - make_interval(secs => (%(count)s - n) / %(per_second)s::float8)
        FROM channel, generate_series(1, %(count)s) AS n
        """,
        {"count": count, "user_id": user_id, "per_second": per_second},
    )
    bench.people.owner.execute("VACUUM ANALYZE chat_messages")


def _open_sessions(bench: Bench, count: int) -> None:
    """So many more live sessions, ten of each of as many users, of twenty versions."""
    owner = bench.people.owner
    owner.execute("SET statement_timeout = 0")
    owner.execute(
        """
        WITH people AS (
            INSERT INTO users (email, email_key, password_hash, display_name)
            SELECT n || '@bench', n || '@bench', 'x', 'Somebody' FROM generate_series(1, %s) AS n
            RETURNING id
        )
        INSERT INTO user_sessions
            (user_id, expires_at, idle_expires_at, ip, user_agent, client_version)
        SELECT id, now() + interval '30 days', now() + interval '14 days', '192.0.2.1',
               'benchmark', '1.' || n * 2 + id %% 2
        FROM people, generate_series(1, 10) AS n
        """,
        (count // 10,),
    )
    owner.execute("VACUUM ANALYZE user_sessions")
    owner.execute("VACUUM ANALYZE users")


def _poll_metrics(port: int, *, calls: int, every_seconds: float) -> Figures:
    """Median, longest, and what the first call took, which counts everything anew."""
    took = []
    for _ in range(calls):
        began = time.monotonic()
        answer = Http(port).get("/ops/release/metrics", ops_token=OPS_TOKEN)
        took.append((time.monotonic() - began) * 1000)
        if answer.status != 200:
            raise SystemExit(f"the metrics were answered with {answer.status}: {answer.body!r}")
        time.sleep(max(0.0, every_seconds - (time.monotonic() - began)))
    return {"first": took[0], "p50": statistics.median(took), "max": max(took)}


def _guess(port: int, stop: threading.Event, statuses: list[int]) -> None:
    body = json.dumps({"email": "nobody@example.org", "password": "a wild guess"})
    while not stop.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/auth/login", body, {"Content-Type": "application/json"})
            statuses.append(connection.getresponse().status)
        except OSError:
            statuses.append(0)
        finally:
            connection.close()


FIGURES: dict[str, Callable[[Bench, float], Figures]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        saturation,
        saturation_of_two_processes,
        saturation_of_ws_pg,
        saturation_of_socketio_pg,
        saturation_of_ejabberd,
        send_to_ack,
        send_to_ack_of_ws_pg,
        send_to_ack_of_socketio_pg,
        send_to_ack_of_ejabberd,
        admissions,
        memory_of_a_socket,
        revocation,
        growth,
        bearer_get,
        bearer_get_of_fastapi,
        login_flood,
        metrics_cost,
        default_limits,
    )
}
