"""What Cloud Run does in front of the instances of a service: a deployment moves the traffic."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from types import TracebackType


class Switch:
    """Passes each new connection to the next of `targets`, ports of the loopback address."""

    def __init__(self) -> None:
        self.targets: list[int] = []
        self.port = 0
        self._turn = itertools.count()
        self._open: Counter[int] = Counter()

    async def __aenter__(self) -> Switch:
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

    async def until_idle(self, target: int) -> None:
        """Waits until nobody is connected to a target any more."""
        async with asyncio.timeout(20):
            while self._open[target]:
                await asyncio.sleep(0.01)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = self.targets[next(self._turn) % len(self.targets)]
        self._open[target] += 1
        upstream: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError):
                answers, upstream = await asyncio.open_connection("127.0.0.1", target)
                await asyncio.gather(_pump(reader, upstream), _pump(answers, writer))
        finally:
            self._open[target] -= 1
            for end in (writer, upstream):
                if end is not None:
                    end.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the reader's end; then the other side is told so, and may still answer."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.close()
