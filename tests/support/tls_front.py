"""TLS in front of a Postgres that was built without: it answers libpq's SSLRequest itself.

Everything after the handshake is the real server's. (The embedded Postgres has no OpenSSL, and a
build machine has no other.)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType

# The two requests that may come before the startup packet (the manual, 55.7 Message Formats):
# their length, 8, and a number that no protocol version has.
SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
GSS_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x30"


class TlsFront:
    """Used with `with`; listens on `port` of the loopback address and passes on to `target`."""

    def __init__(self, target: int, context: ssl.SSLContext) -> None:
        self._target = target
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0

    def __enter__(self) -> TlsFront:
        self._thread.start()
        opening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            # A client that dislikes our certificate hangs up in the handshake.
            with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
                request = await reader.readexactly(8)
                while request == GSS_REQUEST:
                    writer.write(b"N")
                    request = await reader.readexactly(8)
                if request == SSL_REQUEST:
                    writer.write(b"S")
                    await writer.start_tls(self._context)
                    request = b""
                answers, upstream = await asyncio.open_connection("127.0.0.1", self._target)
                upstream.write(request)
                await asyncio.gather(_pump(reader, upstream), _pump(answers, writer))
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    raise EOFError  # either end's is the other's
