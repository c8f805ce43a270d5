"""What every client library must do, against the real services and a scripted gateway."""

from __future__ import annotations

import functools
import itertools
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.scenario.actor import Actor
from tests.scenario.choosy_gateway import TOO_LONG, ChoosyGateway
from tests.scenario.draining_gateway import DRAIN, EVENT_ID, DrainingGateway
from tests.scenario.forgetful_gateway import LAST_SEQ, ForgetfulGateway
from tests.scenario.scripted_api import SESSION_ID, Answer, ScriptedApi, error, refusal
from tests.scenario.scripted_gateway import ScriptedGateway
from tests.support.databases import Database
from tests.support.processes import Processes, ServiceProcess, wait_until
from tests.support.stack import GLOBAL, PASSWORD, Gateway, Stack

_COME_BACK = (1001, 1011, 1012, 1013, 4401, 4408, 4429, 4440, 4499)
_SENT_WRONG = {1003: "unsupported_data", 1007: "bad_utf8", 1008: "policy", 1009: "too_big"}
_A_PERSON_MUST_ACT = (4500, 4501, 4503, 4509, 4510, 4526, 4999)
_SESSION_IS_OVER = ("session_revoked", "refresh_token_invalid", "refresh_token_reused")

_numbers = itertools.count(1)


def run_all(
    actor: Actor, database: Database, processes: Processes, origin: str | None = None
) -> None:
    """The whole scenario; `origin` is that of the page, where the runner is one."""
    # Tokens that expire all the time, and little given back at once: both are met all the way.
    origins = {"CORS_ALLOWED_ORIGINS": origin} if origin else {}
    stack = Stack(database, processes)
    api = stack.start_api(JWT_ACCESS_TTL_SECONDS="3", **origins)

    def start_gateway(port: int | None = None) -> Gateway:
        return stack.start_gateway(port, CHAT_RECOVERY_MAX_MESSAGES="5", **origins)

    gateways = [start_gateway(), start_gateway()]
    full_jitter(actor)
    talk_and_come_back(actor, stack, gateways, start_gateway)
    resume_by_pages(actor, stack, gateways[1])
    refresh_once(actor, stack, gateways[1], api)
    sessions_end(actor, stack, gateways[1])
    every_close_code(actor, stack)
    a_drain(actor, stack)
    a_history_that_is_refused(actor)
    a_history_that_nobody_wants_any_more(actor)
    one_of_many_was_wrong(actor)
    refreshes_that_are_refused(actor)


def full_jitter(actor: Actor) -> None:
    answer = actor.ask("backoff", "nobody")
    assert answer["bounds"] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert 0 <= min(answer["delays"]) < 1
    assert 3 < max(answer["delays"]) <= 4


def register(
    actor: Actor, api: Stack | ScriptedApi, who: str, websocket_url: str
) -> dict[str, Any]:
    answer = actor.ask(
        "register",
        who,
        api_url=api.api_url,
        websocket_url=websocket_url,
        email=f"scenario-{next(_numbers)}@example.org",
        password=PASSWORD,
        display_name=who,
    )
    assert "error" not in answer, answer
    return answer


def entries(events: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(event["seq"], event["content"]) for event in events if event["type"] == "message"]


def talk_and_come_back(
    actor: Actor, stack: Stack, gateways: list[Gateway], restart: Callable[[int], Gateway]
) -> None:
    """Two people on two gateways; one gateway is killed and comes back, in the middle of sends."""
    first, second = gateways
    register(actor, stack, "Ann", first.url)
    register(actor, stack, "Bob", second.url)
    for who in ("Ann", "Bob"):
        actor.ask("live", who)
        assert actor.ask("subscribe", who, channel_id=GLOBAL, after_seq=0) == {"last_seq": 0}
    assert actor.ask("subscribe", "Ann", channel_id=999) == {"error": "not_found"}
    assert actor.ask("send", "Ann", channel_id=999, content="x") == {"error": "not_found"}

    actor.ask("typing", "Ann", channel_id=GLOBAL)
    actor.wait_for("Bob", "told", lambda events: any(one["type"] == "typing" for one in events))

    # A repeat is the same message; the id with another content is a conflict.
    known = str(uuid.uuid4())
    say = {"channel_id": GLOBAL, "id": known}
    assert actor.ask("send", "Ann", content="one", **say) == {"seq": 1, "duplicate": False}
    assert actor.ask("send", "Ann", content="one", **say) == {"seq": 1, "duplicate": True}
    assert actor.ask("send", "Ann", content="uno", **say) == {"error": "conflict"}

    # Sends before, while and after the gateway is away: each stored once, none lost.
    sends = [actor.begin("send", "Ann", channel_id=GLOBAL, content=f"a{n}") for n in range(10)]
    first.process.kill()
    sends += [actor.begin("send", "Ann", channel_id=GLOBAL, content=f"k{n}") for n in range(10)]
    actor.wait_for("Ann", "offline", lambda events: events[-1]["type"] == "offline")
    assert actor.ask("send", "Bob", channel_id=GLOBAL, content="while she is away")["seq"] > 1
    restart(first.port)
    acks = [actor.finish(number) for number in sends]
    seqs = [ack["seq"] for ack in acks]
    assert len(set(seqs)) == 20, acks

    stored = stored_in(stack)
    assert len(stored) == 22
    for who in ("Ann", "Bob"):
        seen = actor.wait_for(who, "complete", lambda events: len(entries(events)) >= len(stored))
        assert entries(seen) == stored, who
        assert not [event for event in seen if event["type"] in ("missed", "rewound")]
    for who in ("Ann", "Bob"):
        actor.ask("close", who)
        assert actor.events(who)[-1]["type"] == "ended"


def resume_by_pages(actor: Actor, stack: Stack, gateway: Gateway) -> None:
    """More was missed than the socket gives back: the client pages it in, in order, once."""
    register(actor, stack, "Cid", gateway.url)
    actor.ask("live", "Cid")
    actor.ask("subscribe", "Cid", channel_id=GLOBAL, after_seq=0)
    last_seq = stored_in(stack)[-1][0]
    seen = actor.wait_for("Cid", "complete", lambda events: len(entries(events)) >= last_seq)
    assert entries(seen) == stored_in(stack)
    actor.ask("close", "Cid")


def refresh_once(actor: Actor, stack: Stack, gateway: Gateway, api: ServiceProcess) -> None:
    """Of many calls with an expired access token one refreshes, and all succeed."""
    session_id = register(actor, stack, "Dora", gateway.url)["session_id"]
    count = "SELECT count(*) - 1 FROM refresh_tokens WHERE session_id = %s"

    def refreshed() -> bool:
        with stack.database.connect() as connection:
            row = connection.execute(count, (session_id,)).fetchone()
            return row is not None and row[0] > 0

    before = asked_for(api, "/auth/refresh")
    while not refreshed():
        calls = [actor.begin("call", "Dora", path="/auth/me") for _ in range(24)]
        assert [actor.finish(call) for call in calls] == [{}] * 24
    # Lines of the log come in order: when this one is there, all before it are.
    registered = asked_for(api, "/auth/register")
    register(actor, stack, "Dan", gateway.url)
    wait_until(lambda: asked_for(api, "/auth/register") > registered, "the log")
    assert asked_for(api, "/auth/refresh") == before + 1


def asked_for(api: ServiceProcess, path: str) -> int:
    return sum(entry.get("route") == path for entry in api.log)


def sessions_end(actor: Actor, stack: Stack, gateway: Gateway) -> None:
    """Ended for good: revoked, disabled, replaced. Nothing comes back, and every wait is told."""
    people = {who: register(actor, stack, who, gateway.url) for who in ("Eve", "Fay", "Gus")}
    for who in people:
        actor.ask("live", who)
        actor.ask("subscribe", who, channel_id=GLOBAL)
    with stack.database.connect() as connection:
        connection.execute(
            "UPDATE user_sessions SET revoked_at = now(), revoked_reason = 'scenario'"
            " WHERE id = %s",
            (people["Eve"]["session_id"],),
        )
        connection.execute(
            "UPDATE users SET disabled_at = now() WHERE id = %s", (people["Fay"]["user_id"],)
        )
    for who, code in {"Eve": 4501, "Fay": 4503}.items():
        events = actor.wait_for(who, "ended", lambda events: events[-1]["type"] == "ended")
        assert events[-1]["code"] == code
        assert "error" in actor.ask("send", who, channel_id=GLOBAL, content="x")
    # Which of the two depends on whether her access token has expired meanwhile.
    refused = actor.ask("call", "Eve", path="/auth/me")
    assert refused["error"] in ("session_revoked", "refresh_token_invalid")
    assert [event["reason"] for event in actor.events("Eve", "session_revoked")] == ["scenario"]
    assert actor.ask("send", "Gus", channel_id=GLOBAL, content="still here")["seq"] > 0
    actor.ask("close", "Gus")


def every_close_code(actor: Actor, stack: Stack) -> None:
    """45xx stops; what was wrong is not sent again; every other end is come back from."""
    codes = (*_COME_BACK, *_SENT_WRONG, *_A_PERSON_MUST_ACT)
    with ScriptedGateway() as gateway:

        def came_back(code: int) -> bool:
            return gateway.visits[code] >= 2

        sends = {}
        for code in codes:
            register(actor, stack, f"on {code}", gateway.url_of(code))
            actor.ask("live", f"on {code}")
            sends[code] = actor.begin(
                "send", f"on {code}", channel_id=GLOBAL, content="x", id=str(uuid.uuid4())
            )
        for code in _A_PERSON_MUST_ACT:
            assert "error" in actor.finish(sends[code])
            assert actor.events(f"on {code}")[-1]["code"] == code
        for code, name in _SENT_WRONG.items():
            assert actor.finish(sends[code]) == {"error": name}
        # They come back, and say again what was not acknowledged: the gateway waits for it.
        for code in (*_COME_BACK, *_SENT_WRONG):
            wait_until(functools.partial(came_back, code), f"back after {code}", 30)
        for code in _A_PERSON_MUST_ACT:
            assert gateway.visits[code] == 1
        for code in codes:
            actor.ask("close", f"on {code}")


def a_drain(actor: Actor, stack: Stack) -> None:
    """Told once over all reconnects, acknowledged until that is answered, and then final."""
    with DrainingGateway() as gateway:
        register(actor, stack, "Dee", gateway.url)
        actor.ask("live", "Dee")
        actor.wait_for(
            "Dee", "told", lambda events: any(event["type"] == "drain_started" for event in events)
        )
        assert actor.ask("acknowledge", "Dee", event_id=EVENT_ID) == {}
        assert gateway.acks == [[EVENT_ID], [EVENT_ID]]
        assert actor.ask("acknowledge", "Dee", event_id=9) == {"error": "not_found"}
        told = actor.events("Dee", "drain_started", "drain_warning", "drain_cancelled")
        assert told == [{"type": "drain_started", **DRAIN}, {"type": "drain_warning", **DRAIN}]
        gateway.go.set()
        ended = actor.wait_for("Dee", "ended", lambda events: events[-1]["type"] == "ended")
        assert ended[-1]["code"] == 4510
        assert "error" in actor.ask("acknowledge", "Dee", event_id=EVENT_ID)
        assert len(gateway.acks) == 2


def a_history_that_is_refused(actor: Actor) -> None:
    """What cannot be paged in now is paged in after a reconnect."""
    history = "GET /chat/channels/5/messages"
    with ForgetfulGateway() as gateway, ScriptedApi() as api:
        answers = iter([refusal(503, "unavailable"), page(5, 1, 2), page(5, 3, 4)])
        api.answers[history] = lambda: next(answers)
        register(actor, api, "Hal", gateway.url)
        actor.ask("live", "Hal")
        assert actor.ask("subscribe", "Hal", channel_id=5, after_seq=0) == {"last_seq": LAST_SEQ}
        seen = actor.wait_for("Hal", "complete", lambda events: len(entries(events)) >= LAST_SEQ)
        assert entries(seen) == [(seq, str(seq)) for seq in range(1, LAST_SEQ + 1)]
        assert "offline" in [event["type"] for event in seen]
        assert api.asked[history] == 3
        actor.ask("close", "Hal")


def a_history_that_nobody_wants_any_more(actor: Actor) -> None:
    """Whoever leaves a channel while it is paged in gets no more of it; the connection goes on."""
    history, go = "GET /chat/channels/5/messages", threading.Event()
    with ForgetfulGateway() as gateway, ScriptedApi() as api:

        def in_time() -> Answer:
            go.wait(30)
            return page(5, 1, 2)

        api.answers[history] = in_time
        register(actor, api, "Ida", gateway.url)
        actor.ask("live", "Ida")
        actor.ask("subscribe", "Ida", channel_id=5, after_seq=0)
        wait_until(lambda: api.asked[history] == 1, "the first page")
        actor.ask("unsubscribe", "Ida", channel_id=5)
        go.set()
        assert actor.ask("subscribe", "Ida", channel_id=6) == {"last_seq": LAST_SEQ}
        assert api.asked[history] == 1
        assert entries(actor.events("Ida")) == []
        actor.ask("close", "Ida")


def one_of_many_was_wrong(actor: Actor) -> None:
    """Refused is what the socket was closed on, and not what went with it and may be stored."""
    contents = ["before", "x" * TOO_LONG, "after", "last"]
    with ChoosyGateway(patience=len(contents)) as gateway, ScriptedApi() as api:
        register(actor, api, "Joe", gateway.url)
        actor.ask("live", "Joe")
        sends = [actor.begin("send", "Joe", channel_id=5, content=content) for content in contents]
        before, wrong, after, last = (actor.finish(number) for number in sends)
        assert wrong == {"error": "too_big"}
        acks = [{"seq": seq, "duplicate": True} for seq in (1, 2, 3)]
        assert [before, after, last] == acks
        assert list(gateway.stored.values()) == ["before", "after", "last"]
        assert gateway.sent == Counter(dict.fromkeys(contents, 2))
        actor.ask("close", "Joe")


def refreshes_that_are_refused(actor: Actor) -> None:
    """The app keeps its refresh token until Gatehouse itself says that it is good for nothing."""
    with ScriptedApi() as api:
        api.answers["GET /auth/me"] = lambda: refusal(401, "token_expired")
        register(actor, api, "Kim", "")
        for of_a_proxy in ("log in to the network first", {"code": 401}):
            api.answers["POST /auth/refresh"] = functools.partial(error, 401, of_a_proxy)
            assert actor.ask("call", "Kim", path="/auth/me") == {"error": "unexpected_answer"}
        for status, code in ((401, "drained"), (429, "rate_limited")):
            api.answers["POST /auth/refresh"] = functools.partial(refusal, status, code)
            assert actor.ask("call", "Kim", path="/auth/me") == {"error": code}
        assert actor.ask("sessions", "Kim") == {"sessions": [SESSION_ID]}
        for over, code in enumerate(_SESSION_IS_OVER, 1):
            api.answers["POST /auth/refresh"] = functools.partial(refusal, 401, code)
            assert actor.ask("call", "Kim", path="/auth/me") == {"error": code}
            assert actor.ask("sessions", "Kim") == {"sessions": [SESSION_ID] + [None] * over}


def page(channel_id: int, *seqs: int) -> Answer:
    log = [{"channel_id": channel_id, "seq": seq, "content": str(seq)} for seq in seqs]
    return 200, {"entries": [{"type": "message", **entry} for entry in log]}


def stored_in(stack: Stack) -> list[tuple[int, str]]:
    with stack.database.connect() as connection:
        rows = connection.execute(
            "SELECT seq, content FROM chat_messages WHERE channel_id = %s ORDER BY seq", (GLOBAL,)
        ).fetchall()
    return [(int(seq), str(content)) for seq, content in rows]
