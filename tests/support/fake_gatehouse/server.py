"""The fake as a whole: a thread with a loop of its own, on a free port."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from types import TracebackType

from scripts.pentest_probes.target import Target
from tests.support.fake_gatehouse.app import KEY, OPS_TOKEN, App, _Reply
from tests.support.fake_gatehouse.http import Request, Response, serve
from tests.support.fake_gatehouse.sockets import Sockets, finish

_LINGER_SECONDS = 0.3


class FakeGatehouse:
    """A context. `holes` names what is wrong with it; nothing, where it is empty."""

    def __init__(self, *holes: str, tls: ssl.SSLContext | None = None) -> None:
        self._holes = frozenset(holes)
        self._tls = tls
        self._app = App(self._holes)
        self._sockets = Sockets(self._app, self._holes)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._serving = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def target(self, *, ops_token: bool = True, signing_key: bool = True) -> Target:
        s = "s" if self._tls else ""
        host = "localhost" if self._tls else "127.0.0.1"
        return Target(
            f"http{s}://{host}:{self.port}",
            f"ws{s}://{host}:{self.port}/ws",
            ops_token=OPS_TOKEN if ops_token else None,
            signing_key=KEY if signing_key else None,
            patience=0.06,
        )

    def live_sessions(self) -> int:
        return sum(session.alive for session in self._app.sessions.values())

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(
            asyncio.start_server(
                self._connected, sock=self._listening, ssl=self._tls, limit=1 << 20
            )
        )
        self._serving.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _connected(self, stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        try:
            request = await serve(stream, writer, self._answer, self._holes)
            if request is not None:
                await self._sockets.serve(request, stream, writer)
            await finish(writer)
            # What the client still sends is read for a moment: a reset would eat our answer.
            async with asyncio.timeout(_LINGER_SECONDS):
                while await stream.read(65_536):
                    pass
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._app.answer(request)
        except _Reply as reply:
            return reply.response

    def __enter__(self) -> FakeGatehouse:
        self._thread.start()
        assert self._serving.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._listening.close()
