"""An API in the moments that a real one has seldom: everybody is let in, the rest is scripted."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

SESSION_ID = 7
Answer = tuple[int, dict[str, Any]]


class ScriptedApi:
    """`answers` are asked for by "METHOD /path", without the query; `asked` counts them."""

    def __init__(self, websocket_url: str = "") -> None:
        session = {
            "access_token": "access",
            "refresh_token": "refresh",
            "session_id": SESSION_ID,
            "user": {"id": 1, "display_name": "somebody"},
        }
        ticket = {"websocket_url": websocket_url, "subprotocols": ["gatehouse.v1", "ticket.t"]}
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Callable[[], Answer]] = {
            "POST /auth/register": lambda: (201, session),
            "POST /auth/ws-ticket": lambda: (201, ticket),
        }
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_OPTIONS(self) -> None:
                self._reply(200, {})  # a page asks before it may send JSON or a token

            def do_GET(self) -> None:
                name = f"{self.command} {self.path.partition('?')[0]}"
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.asked[name] += 1
                self._reply(*api.answers[name]())

            def do_POST(self) -> None:
                self.do_GET()

            def _reply(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response_only(status)
                self.send_header("Access-Control-Allow-Origin", "*")
                headers = "Authorization, Content-Type, X-Client-Version"
                self.send_header("Access-Control-Allow-Headers", headers)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.api_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> ScriptedApi:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def refusal(status: int, code: str) -> Answer:
    return error(status, {"code": code, "message": code, "details": {}})


def error(status: int, what: object) -> Answer:
    return status, {"error": what}
