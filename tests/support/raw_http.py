"""The HTTP server in this process, with an app that says what it was asked, and raw bytes to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from api.http_limits import HttpLimits
from api.http_server import HttpServer
from tests.support.processes import wait_until

MAX_BODY_BYTES = 1000
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response as it came; names of headers are lower case, repeated ones are joined."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class EchoApp:
    """Answers every request with what arrived of it; some paths behave otherwise."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.go_on = threading.Event()  # for /wait
        self.waiting = threading.Semaphore(0)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read()
        seen = {
            "method": environ["REQUEST_METHOD"],
            "path": path,
            "query": environ["QUERY_STRING"],
            "body": body.decode("latin-1"),
            "content_length": environ.get("CONTENT_LENGTH"),
            "headers": sorted(name for name in environ if name.startswith("HTTP_")),
        }
        self.requests.append(seen)
        if path == "/wait":
            self.waiting.release()
            self.go_on.wait(20)
        elif path == "/fail":
            raise RuntimeError("secret detail")
        elif path == "/exit":
            raise SystemExit(3)
        elif path == "/split":
            start_response("200 OK", [("X-Thing", "a\r\nSet-Cookie: b")])
        text = b"x" * 8_000_000 if path == "/large" else json.dumps(seen).encode()
        length = str(len(text))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", length)])
        return [] if seen["method"] == "HEAD" else [text]


class RawServer:
    """A context: the server runs in a thread of its own and has drained when it ends."""

    def __init__(
        self, app: Any = None, *, limits: HttpLimits | None = None, threads: int = 4, **options: Any
    ) -> None:
        self.app = app or EchoApp()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.server = HttpServer(
            self.app,
            self._listening,
            threads=threads,
            limits=limits,
            **{"max_body_bytes": MAX_BODY_BYTES, **options},
        )
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    def connect(self, receive_buffer: int | None = None) -> Connection:
        return Connection(self.port, receive_buffer)

    def exchange(self, data: bytes) -> list[Answer]:
        """All answers to `data`, after which this side sends nothing more."""
        with self.connect() as connection:
            connection.send(data)
            connection.finish()
            return connection.answers_until_closed()

    def one(self, data: bytes) -> Answer:
        answers = self.exchange(data)
        assert len(answers) == 1, answers
        return answers[0]

    def wait_until_expendable(self, count: int) -> None:
        """Until so many connections are not at work: one still is for a moment after its answer."""

        def is_so() -> bool:
            channels = list(self.server._server.active_channels.values())
            return sum(channel.expendable_since() is not None for channel in channels) == count

        wait_until(is_so, f"{count} connections are not at work")

    def join(self, seconds: float = 15.0) -> None:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the server does not stop"

    def __enter__(self) -> RawServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(self.app, EchoApp):
            self.app.go_on.set()
        self.server.stop()
        self.join()


class Connection:
    """A client's socket."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(10.0)
        self.socket.connect(("127.0.0.1", port))
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def can_send(self, data: bytes) -> bool:
        try:
            self.send(data)
        except OSError:
            return False
        return True

    def wait_for_bytes(self) -> None:
        """Until something has come, which stays unread."""
        self.socket.recv(1, socket.MSG_PEEK)

    def finish(self) -> None:
        """Says that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read_until_closed(self) -> bytes:
        """Everything that comes until the server closes; fails after ten seconds."""
        data = self._unread
        try:
            while piece := self.socket.recv(65_536):
                data += piece
        except ConnectionResetError:
            pass
        self._unread = b""
        return data

    def answers_until_closed(self) -> list[Answer]:
        return read_answers(self.read_until_closed())

    def next_answer(self, *, to_head: bool = False) -> Answer:
        while HEAD_END not in self._unread:
            self._read_more()
        head, _, rest = self._unread.partition(HEAD_END)
        answer = _parse_head(head)
        length = 0 if to_head else int(answer.headers.get("content-length", "0"))
        self._unread = rest
        while len(self._unread) < length:
            self._read_more()
        body, self._unread = self._unread[:length], self._unread[length:]
        return Answer(answer.status, answer.headers, body)

    def is_closed_within(self, seconds: float) -> float | None:
        """After how many seconds the server closed, whatever came before; None: it did not."""
        start = time.monotonic()
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        except TimeoutError:
            return None
        finally:
            self.socket.settimeout(10.0)
        return time.monotonic() - start

    def _read_more(self) -> None:
        piece = self.socket.recv(65_536)
        assert piece, f"closed after {self._unread!r}"
        self._unread += piece

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()


def read_answers(data: bytes) -> list[Answer]:
    """The responses in `data`, one behind the other."""
    answers = []
    while data:
        head, end, data = data.partition(HEAD_END)
        assert end, f"not a whole head: {head!r}"
        answer = _parse_head(head)
        length = int(answer.headers.get("content-length", "0"))
        answers.append(Answer(answer.status, answer.headers, data[:length]))
        data = data[length:]
    return answers


def _parse_head(head: bytes) -> Answer:
    lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value.strip()}" if key in headers else value.strip()
    return Answer(int(lines[0].split(" ")[1]), headers, b"")


def statuses(answers: Iterable[Answer]) -> list[int]:
    return [answer.status for answer in answers]
