"""The two documents: well-formed, and of exactly the routes and frames that there are."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import create_app
from api.descriptions import asyncapi, errors, frames, openapi, operations
from api.services import Services
from rules import fields
from rules.errors import KINDS, Refusal
from rules.settings import load
from wsgateway import protocol

SETTINGS = load({"APP_ENV": "test", "DB_HOST": "unused", "JWT_SECRET": "s" * 32}, "api")
OPENAPI = openapi.document(SETTINGS)
ASYNCAPI = asyncapi.document(SETTINGS)
LIMITS = protocol.Limits(frames_per_second=50, max_subscriptions=100, message_max_chars=2000)


def test_the_document_is_openapi() -> None:
    OpenAPIV31SpecValidator(OPENAPI).validate()


def test_every_route_is_described_and_every_described_route_exists() -> None:
    described = {
        (method.upper(), path) for path, of_path in OPENAPI["paths"].items() for method in of_path
    }
    assert described == _routes()


def test_public_operations_are_those_that_need_no_bearer() -> None:
    for operation in operations.OPERATIONS:
        described = OPENAPI["paths"][operation.path][operation.method.lower()]
        expected: Any = (
            [{"opsToken": []}] if operation.operator else [] if operation.public else None
        )
        assert described.get("security") == expected


def test_the_length_of_a_page_is_the_services_for_messages_and_its_own_for_operators() -> None:
    environ = {"APP_ENV": "test", "DB_HOST": "unused", "JWT_SECRET": "s" * 32}
    paths = openapi.document(load({**environ, "CHAT_HISTORY_PAGE_MAX": "20"}, "api"))["paths"]

    def limit(path: str) -> dict[str, Any]:
        [schema] = [
            parameter["schema"]
            for parameter in paths[path]["get"]["parameters"]
            if parameter["name"] == "limit"
        ]
        return dict(schema)

    assert (
        limit("/chat/channels/{channel_id}/messages").items()
        >= {"maximum": 20, "default": 20}.items()
    )
    for path in ("/ops/audit", "/ops/sessions", "/ops/drains", "/ops/security-events"):
        assert limit(path).items() >= {"maximum": 200, "default": 50}.items()


def test_no_code_is_described_that_http_cannot_answer() -> None:
    for operation in operations.OPERATIONS:
        for code in operation.codes:
            assert KINDS[code].status is not None, (operation.name, code)


def test_a_socket_only_code_is_no_http_status() -> None:
    with pytest.raises(ValueError, match="lifetime"):
        errors.http_status("lifetime")


def test_every_object_that_a_client_sends_is_closed() -> None:
    for operation in operations.OPERATIONS:
        if operation.body:
            schema = OPENAPI["components"]["schemas"][operation.body]
            assert schema["additionalProperties"] is False, operation.body
    for kind, schema in frames.client_frames().items():
        assert schema["additionalProperties"] is False, kind


def test_all_references_of_the_socket_document_lead_somewhere() -> None:
    for pointer in _references(ASYNCAPI):
        place: Any = ASYNCAPI
        for part in pointer.removeprefix("#/").split("/"):
            place = place[part]


def test_the_described_client_frames_are_those_that_the_protocol_reads() -> None:
    assert set(frames.client_frames()) == set(protocol._HANDLERS)
    assert set(frames.ANSWERS) == set(protocol._HANDLERS)


def test_the_limits_of_the_protocol_are_the_described_ones() -> None:
    assert frames.REF_MAX_CHARS == protocol.REF_MAX_CHARS


def test_close_codes_tell_what_the_table_promises() -> None:
    for close in frames.closes():
        if 4000 <= close.code < 4500 or close.code in (1012, 1013):
            assert close.advice == frames.COME_BACK, close
        elif close.code >= 4500:
            assert close.advice == frames.PERSON, close


# What a pattern says and what the code does must not drift apart; where a pattern cannot say all
# (unassigned characters, normal forms), it may only be the more generous of the two.
ALPHABET = st.characters() | st.sampled_from("\t\n\r \x00\x1c\x85\u00a0\u2028\u3000\ufeff@\uff20")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("Content", fields.content(SETTINGS.chat.message_max_chars)),
        ("DisplayName", fields.display_name),
        ("Email", fields.email),
        ("ClientMsgId", fields.client_msg_id),
    ],
)
@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.data())
def test_what_the_code_accepts_the_description_accepts(
    name: str, read: Any, data: st.DataObject
) -> None:
    value = data.draw(st.text(ALPHABET, max_size=60) | st.emails() | st.uuids().map(str))
    if "\x00" not in value and _accepts(read, value):
        assert _fits(name, value)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(value=st.text(ALPHABET, max_size=10))
def test_content_is_described_to_the_letter(value: str) -> None:
    accepted = "\x00" not in value and _accepts(fields.content(2000), value)
    assert _fits("Content", value) is accepted


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    frame=st.fixed_dictionaries(
        {"type": st.sampled_from(sorted(frames.client_frames()))},
        optional={
            "channel_id": st.integers(-1, 3) | st.booleans() | st.none() | st.just(1.5),
            "after_seq": st.integers(-1, 3) | st.none() | st.text(max_size=2),
            "client_msg_id": st.uuids().map(str) | st.text(max_size=3),
            "content": st.text(ALPHABET, max_size=3),
            "ref": st.text(max_size=70) | st.integers(),
            "more": st.none(),
        },
    )
)
def test_the_protocol_reads_exactly_the_described_frames(frame: dict[str, Any]) -> None:
    payload = ASYNCAPI["components"]["messages"][frame["type"]]["payload"]
    described = _validator(ASYNCAPI, payload).is_valid(frame)
    assert described is _is_read(frame)


def _is_read(frame: dict[str, Any]) -> bool:
    [action] = protocol.receive(protocol.SocketState(LIMITS), json.dumps(frame), 0.0)
    return not isinstance(action, protocol.Reply)


def _routes() -> set[tuple[str, str]]:
    unused = cast(Any, None)
    services = Services(
        settings=SETTINGS,
        pool=unused,
        probe_pool=unused,
        access_tokens=unused,
        ops_tokens=unused,
        hasher=unused,
        login_attempts=unused,
        is_draining=unused,
    )
    # Walked, not inspected: falcon.inspect knows its own router only, no class made of it.
    nodes, found = list(create_app(services)._router._roots), set()
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.resource is not None:
            path = re.sub(r"\{([a-z_]+):[a-z]+\}", r"{\1}", node.uri_template or "")
            found |= {
                (method.upper(), path)
                for method in ("get", "post", "put", "patch", "delete")
                if hasattr(node.resource, f"on_{method}")
            }
    return found


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for member in value.values() for found in _references(member)]
    if isinstance(value, list):
        return [found for member in value for found in _references(member)]
    return []


def _accepts(read: Any, value: str) -> bool:
    try:
        read("field", value)
    except Refusal:
        return False
    return True


def _fits(name: str, value: str) -> bool:
    return _validator(OPENAPI, OPENAPI["components"]["schemas"][name]).is_valid(value)


def _validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})
