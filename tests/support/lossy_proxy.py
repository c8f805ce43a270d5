"""A TCP proxy that loses answers: what a client sees of a network that breaks at the worst time."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType


class LossyProxy:
    """Passes connections on to a loopback port; swallows the first answer to a certain request."""

    def __init__(self, port: int, loses_answer_to: bytes) -> None:
        self._target = port
        self._loses_answer_to = loses_answer_to
        self.lost = 0
        self.port = 0

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target)
        with contextlib.suppress(ConnectionError):
            request = await reader.read(65_536)
            upstream.write(request)
            answer = await upstream_reader.read()  # the client asks for one answer a connection
            if request.startswith(self._loses_answer_to) and not self.lost:
                self.lost += 1
            else:
                writer.write(answer)
        writer.close()
        upstream.close()
