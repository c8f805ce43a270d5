"""What schemathesis must be told: how to log in, and what the formats of our own look like.

Loaded by schemathesis in a process of its own, by the name in SCHEMATHESIS_HOOKS.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import strategies as st

from api.common_passwords import new_password
from rules import fields
from rules.errors import Refusal
from tests.support.described import API_PORT
from tests.support.fitting_bodies import BODIES
from tests.support.http_calls import Http
from tests.support.services import OPS_TOKEN

_LONGER = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)


def _accepted(read: Any) -> st.SearchStrategy[str]:
    """What a pattern cannot say: unassigned characters, normal forms, the commonest passwords."""

    def is_accepted(value: str) -> bool:
        try:
            read("field", value)
        except Refusal:
            return False
        return "\x00" not in value

    return _LONGER.filter(is_accepted)


schemathesis.openapi.format("mail-address", st.emails())
schemathesis.openapi.format("display-name", _accepted(fields.display_name))
schemathesis.openapi.format("message-content", _accepted(fields.content(2000)))
schemathesis.openapi.format("reason", _accepted(fields.reason))
schemathesis.openapi.format("network", st.ip_addresses().map(str))
schemathesis.openapi.format("password", _accepted(new_password))


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    """Two parameters exclude each other, for which OpenAPI has no word: of two right ones one goes.

    A wrong one stays: that it is refused is what the case is there to show.
    """
    query = case.query or {}
    if all(str(query.get(name, "")).isdecimal() for name in ("after_seq", "before_seq")):
        case.query = {name: value for name, value in query.items() if name != "before_seq"}
    begins_drain = case.path == "/ops/drains" and isinstance(case.body, dict)
    if begins_drain and case.body.get("scope", "all") == "all":
        # A drain of everybody would send out whoever calls.
        case.body = {**case.body, "scope": "outdated"}
    if case.path == "/ops/release/activate" and isinstance(case.body, dict):
        # A release in earnest would shut out everybody who comes after.
        case.body = {"dry_run": True, **case.body}
        if case.body["dry_run"] is False:
            case.body["dry_run"] = True


@schemathesis.auth(refresh_interval=None)
class Login:
    """A session for each case: many of them end the one that they have."""

    def get(self, case: Any, context: Any) -> str:
        answer = Http(int(os.environ[API_PORT])).post("/auth/login", BODIES["POST /auth/login"])
        return str(answer.json["access_token"])

    def set(self, case: Any, data: str, context: Any) -> None:
        ours = {"Authorization": f"Bearer {data}", "X-Ops-Token": OPS_TOKEN}
        case.headers = {**(case.headers or {}), **ours}
