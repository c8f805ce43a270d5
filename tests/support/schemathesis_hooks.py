"""What schemathesis must be told: how to log in, and what the formats of our own look like.

Loaded by schemathesis in a process of its own, by the name in SCHEMATHESIS_HOOKS.
"""

from __future__ import annotations

import os
import uuid
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
    """What OpenAPI has no word for is put right; a wrong value stays: that it is refused is what
    the case is there to show."""
    query = case.query or {}
    # Two parameters exclude each other: of two right ones one goes.
    if all(str(query.get(name, "")).isdecimal() for name in ("after_seq", "before_seq")):
        case.query = {name: value for name, value in query.items() if name != "before_seq"}
    if case.path == "/ops/users" and len(query) != 1:
        case.query = {"ip": query.get("ip", "198.51.100.0/24")}
    if not isinstance(case.body, dict):
        return
    # JSON Schema calls 7.0 an integer; here what has a point is none.
    case.body = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in case.body.items()
    }
    # In earnest these would shut out everybody who comes after.
    if case.path == "/ops/release/activate":
        case.body = {"dry_run": True, **case.body}
        if case.body["dry_run"] is False:
            case.body["dry_run"] = True
    if case.path == "/ops/drains" and case.body.get("scope", "all") == "all":
        case.body["scope"] = "outdated"


@schemathesis.auth(refresh_interval=None)
class Login:
    """An account for each case: many of them end the session, and some the account."""

    def get(self, case: Any, context: Any) -> str:
        account = {**BODIES["POST /auth/register"], "email": f"{uuid.uuid4()}@example.org"}
        answer = Http(int(os.environ[API_PORT])).post("/auth/register", account)
        return str(answer.json["access_token"])

    def set(self, case: Any, data: str, context: Any) -> None:
        ours = {"Authorization": f"Bearer {data}", "X-Ops-Token": OPS_TOKEN}
        case.headers = {**(case.headers or {}), **ours}
