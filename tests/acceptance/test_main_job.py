"""The main job, through all of it, on processes as they run in production."""

from __future__ import annotations

import uuid
from urllib.parse import urlsplit

from tests.support.databases import Database
from tests.support.http_calls import Http
from tests.support.ports import free_port
from tests.support.processes import Processes
from tests.support.services import api_environment, gateway_environment
from tests.support.sockets import Sockets


def test_from_registration_to_reading_back_what_somebody_else_received(
    database: Database, processes: Processes
) -> None:
    first_port, second_port = free_port(), free_port()
    place = {"PUBLIC_WS_URL": f"ws://127.0.0.1:{first_port}/ws"}
    api, api_port = processes.start_service("api", api_environment(database, **place))
    gateways = [
        processes.start_service("wsgateway", gateway_environment(database), port)[0]
        for port in (first_port, second_port)
    ]
    http = Http(api_port)

    # Register, then log in.
    people = {}
    for name in ("Ada", "Bob"):
        account = {"email": f"{name}@example.org", "password": f"the password of {name}"}
        registered = http.post("/auth/register", {**account, "display_name": name})
        assert registered.status == 201
        logged_in = http.post("/auth/login", account)
        assert logged_in.status == 200
        assert logged_in.json["session_id"] != registered.json["session_id"]
        people[name] = logged_in.json

    # A ticket each; Ada's call has an id that she can ask support about.
    request_id = f"ada-asks-{uuid.uuid4().hex}"
    hers = http.post(
        "/auth/ws-ticket",
        token=people["Ada"]["access_token"],
        headers={"X-Request-ID": request_id},
    )
    assert (hers.status, hers.headers["X-Request-ID"]) == (201, request_id)
    assert urlsplit(hers.json["websocket_url"]).port == first_port
    his = http.post("/auth/ws-ticket", token=people["Bob"]["access_token"])

    with Sockets() as sockets:
        ada = sockets.open(first_port, subprotocols=hers.json["subprotocols"])
        assert ada.receive("connected")["user_id"] == people["Ada"]["user"]["id"]
        bob = sockets.open(second_port, subprotocols=his.json["subprotocols"])
        assert bob.receive("connected")["user_id"] == people["Bob"]["user"]["id"]

        # Send: stored and acknowledged, and delivered on the other gateway.
        bob.subscribe(1)
        content = "Good evening! \N{WAVING HAND SIGN} \u05e2\u05e8\u05d1 \u05d8\u05d5\u05d1"
        client_msg_id = ada.say(1, content)
        ack = ada.receive("ack", client_msg_id=client_msg_id)
        with database.connect() as psql:
            stored = psql.execute(
                "SELECT content, sender_id, request_id FROM chat_messages"
                " WHERE channel_id = 1 AND seq = %s",
                (ack["seq"],),
            ).fetchone()
        assert stored == (content, people["Ada"]["user"]["id"], request_id)
        delivered = bob.receive("message", client_msg_id=client_msg_id)
        assert (delivered["content"], delivered["sender_name"]) == (content, "Ada")

        # Read back over HTTP: the same entry, byte for byte.
        history = http.get("/chat/channels/1/messages", token=people["Bob"]["access_token"])
        assert history.json == {"entries": [delivered], "first_seq": 1, "last_seq": 1}
        assert content.encode() in history.body

        # Log out: the socket ends at once, and so does the token.
        assert http.post("/auth/logout", token=people["Ada"]["access_token"]).status == 204
        assert ada.closed() == (4501, "session_revoked")
        refused = http.get("/auth/me", token=people["Ada"]["access_token"])
        assert (refused.status, refused.error["code"]) == (401, "session_revoked")
        assert bob.is_alive()

    assert [process.stop() for process in (api, *gateways)] == [0, 0, 0]
    # The call can be followed through the logs of both services, and no secret can be.
    for process in (api, gateways[0]):
        assert any(line.get("request_id") == request_id for line in process.log)
    for process in (api, *gateways):
        for secret in (hers.json["ticket"], people["Ada"]["access_token"], content, "password of"):
            assert secret not in process.output
