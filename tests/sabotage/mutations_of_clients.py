"""Ways to break the JavaScript client, and the checker that chaos is judged by."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_JS = "gatehouse_client_js/gatehouse.mjs"
_CHECKER_TESTS = ("tests/chaos/test_checker.py",)
_CHECKER = "tests/chaos/checker.py"
_CHAOS = ("tests/chaos/test_short_run.py",)
_PYTHON = ("tests/client/test_scenario.py",)
_NODE = ("tests/javascript/test_scenario.py::test_the_scenario_in_node",)

MUTATIONS_OF_CLIENTS = (
    Mutation(
        "js-acknowledges-a-drain-once",
        _JS,
        "return [this.#channels, this.#outbox, this.#drainAcks]",
        "return [this.#channels, this.#outbox]",
        _NODE,
        "an acknowledgement that was not answered is given again after a reconnect",
    ),
    Mutation(
        "js-begins-a-drain-anew",
        _JS,
        'type: known === now ? "drain_warning" : "drain_started"',
        'type: "drain_started"',
        _NODE,
        "a drain is told once over all reconnects",
    ),
    Mutation(
        "acknowledges-a-drain-once",
        "gatehouse_client/live.py",
        "        for ack in self._drains.reconnected():\n            self._transmit(ack)\n",
        "",
        _PYTHON,
        "an acknowledgement that was not answered is given again after a reconnect",
    ),
    Mutation(
        "drain-called-off-unheard",
        "gatehouse_client/drains.py",
        "events = [] if known is None else",
        "events = [] if True else",
        ("tests/unit/test_client_library.py",),
        "whoever was away learns that the drain was called off",
    ),
    Mutation(
        "js-no-single-flight",
        _JS,
        "return (this.#refreshing ??= this.#refreshOnce()",
        "return (this.#refreshing = this.#refreshOnce()",
        _NODE,
        "many calls with an expired token make one refresh",
    ),
    Mutation(
        "js-comes-back-from-45xx",
        _JS,
        "(code >= 4500 && code <= 4999)",
        "(code >= 4501 && code <= 4998)",
        _NODE,
        "4500 to 4999: a person must act",
    ),
    Mutation(
        "js-stops-at-44xx",
        _JS,
        "(code >= 4500 && code <= 4999)",
        "(code >= 4499 && code <= 4999)",
        _NODE,
        "4000 to 4499: come back",
    ),
    Mutation(
        "js-no-jitter",
        _JS,
        "random() * backoffBound(attempt)",
        "backoffBound(attempt)",
        _NODE,
        "the wait is a random part of its bound",
    ),
    Mutation(
        "js-forgets-what-was-not-acknowledged",
        _JS,
        "for (const wish of this.#wishes) this.#transmit(wish);",
        "for (const wish of this.#channels.values()) this.#transmit(wish);",
        _NODE,
        "what was not acknowledged is sent again after a reconnect",
    ),
    Mutation(
        "js-subscribes-from-now",
        _JS,
        "{ ...wish.frame, after_seq: wish.lastSeq }",
        "{ ...wish.frame }",
        _NODE,
        "a reconnect resumes where it was",
    ),
    Mutation(
        "js-does-not-page",
        _JS,
        "while (!recovered && channel.lastSeq < before) {",
        "while (recovered && channel.lastSeq < before) {",
        _NODE,
        "what the socket does not give back is paged in",
    ),
    Mutation(
        "js-repeats-what-was-wrong",
        _JS,
        '1009: "too_big" };',
        "};",
        _NODE,
        "what the server closed the socket on is not sent again",
    ),
    Mutation(
        "js-dies-of-a-refused-page",
        _JS,
        "work.catch(() => {}).then(() => finish({ code, reason }));",
        "work.finally(() => finish({ code, reason }));",
        _NODE,
        "a page of history that cannot be had costs a reconnect, not the process",
    ),
    Mutation(
        "js-pages-for-nobody",
        _JS,
        "if (link !== this.#link || this.#channels.get(channel_id) !== channel) return;",
        "if (link !== this.#link) return;",
        _NODE,
        "a channel that was left while it was paged in does not hold up the connection",
    ),
    Mutation(
        "pages-for-nobody",
        "gatehouse_client/subscriptions.py",
        "                if not channel.is_live:  # unsubscribed meanwhile",
        "                if False:  # unsubscribed meanwhile",
        _PYTHON,
        "of a channel that was left while it was paged in nothing more is asked for",
    ),
    Mutation(
        "checker-believes-acks",
        _CHECKER,
        "if row is None or (row.sender_id, row.client_msg_id, row.content) != said:",
        "if False:",
        _CHECKER_TESTS,
        "what was acknowledged is stored, under its seq",
    ),
    Mutation(
        "checker-blind-to-gaps",
        _CHECKER,
        "if seq != last_seq + 1:",
        "if seq <= last_seq:",
        _CHECKER_TESTS,
        "a subscriber sees every seq once",
    ),
    Mutation(
        "checker-blind-to-doubles",
        _CHECKER,
        "        if times > 1:",
        "        if times > 2:",
        _CHECKER_TESTS,
        "nothing is stored twice",
    ),
    Mutation(
        "checker-lets-the-dead-listen",
        _CHECKER,
        'line["at"] > revoked_at + DELIVERY_BOUND_SECONDS',
        'line["at"] > revoked_at + 10 * DELIVERY_BOUND_SECONDS',
        _CHECKER_TESTS,
        "nothing is delivered to a dead session after the bound",
    ),
    Mutation(
        "checker-lets-the-dead-write",
        _CHECKER,
        'dead_users.get(row.sender_id, float("inf"))',
        'float("inf")',
        _CHECKER_TESTS,
        "nothing is accepted from a dead session",
    ),
    Mutation(
        "checker-content-with-half",
        _CHECKER,
        "if caught_up is None or seen != channel_last_seq:",
        "if caught_up is None:",
        _CHECKER_TESTS,
        "everybody alive sees everything in the end",
    ),
    # That chaos itself finds what is broken in a server.
    Mutation(
        "chaos-finds-skipped-entries",
        "wsgateway/fanout.py",
        "            if entry.seq == expected:\n",
        "            if entry.seq >= expected and entry.seq % 50:\n",
        _CHAOS,
        "a subscriber sees every seq once",
    ),
)
