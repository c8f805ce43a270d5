"""A proxy in front of the API that swallows calls: they are answered well, and nothing happens."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

# (method, path, body) -> the answer in the API's stead, or None to pass the call on.
Swallow = Callable[[str, str, dict[str, Any]], dict[str, Any] | None]
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length"}


class SwallowingProxy:
    def __init__(self, api_port: int, swallow: Swallow) -> None:
        self.swallowed: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                self._serve()
                self.close_connection = True

            def _serve(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = swallow(self.command, self.path, json.loads(data) if data else {})
                if answer is not None:
                    proxy.swallowed.append(f"{self.command} {self.path}")
                    self._reply(200, [("Content-Type", "application/json")], json.dumps(answer))
                    return
                upstream = http.client.HTTPConnection("127.0.0.1", api_port, timeout=30)
                upstream.request(self.command, self.path, data or None, dict(self.headers))
                got = upstream.getresponse()
                self._reply(got.status, got.getheaders(), got.read().decode())
                upstream.close()

            def _reply(self, status: int, headers: list[tuple[str, str]], body: str) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body.encode())))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body.encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> SwallowingProxy:
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
