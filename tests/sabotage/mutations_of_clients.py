"""Ways to break the JavaScript client, and the checker that chaos is judged by."""

from __future__ import annotations

from tests.sabotage.mutation import Mutation

_JS = "gatehouse_client_js/gatehouse.mjs"
_NODE = ("tests/javascript/test_scenario.py::test_the_scenario_in_node",)

MUTATIONS_OF_CLIENTS = (
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
)
