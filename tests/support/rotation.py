"""Both services behind a switch each, deployed one after the other while people keep chatting."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from gatehouse_client import Client, Live, LiveEnded, SendRefused
from rules.errors import Refusal
from tests.support.cluster import clean_environment
from tests.support.processes import ROOT, Processes, ServiceProcess
from tests.support.stack import GLOBAL, PASSWORD
from tests.support.switch import Switch


class Fleet:
    """One instance of each service at a time, two while one is being replaced."""

    def __init__(self, processes: Processes, environments: Mapping[str, Mapping[str, str]]) -> None:
        self.environments = {name: dict(values) for name, values in environments.items()}
        self.switches = {"api": Switch(), "wsgateway": Switch()}
        self.timeline: list[str] = []
        self._began = time.monotonic()
        self._processes = processes
        self._running: dict[str, tuple[ServiceProcess, int]] = {}

    async def __aenter__(self) -> Fleet:
        for switch in self.switches.values():
            await switch.__aenter__()
        await asyncio.gather(*(self.deploy(name) for name in self.environments))
        return self

    async def __aexit__(self, *error: Any) -> None:
        for switch in self.switches.values():
            await switch.__aexit__(*error)
        sys.stdout.write("\n".join(["", *self.timeline, ""]))  # for who runs pytest -s

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.switches['api'].port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.switches['wsgateway'].port}/ws"

    def note(self, what: str) -> None:
        self.timeline.append(f"{time.monotonic() - self._began:6.2f} s  {what}")

    async def deploy(self, service: str, **changes: str) -> None:
        """A new instance is ready before it gets traffic, and then the old one is stopped."""
        async with self.deploying(service, **changes):
            pass

    @contextlib.asynccontextmanager
    async def deploying(self, service: str, **changes: str) -> AsyncIterator[None]:
        """As deploy; inside, the traffic goes to both, and afterwards to the new one alone."""
        self.environments[service] |= changes
        process, port = await asyncio.to_thread(
            self._processes.start_service, service, self.environments[service]
        )
        switch, old = self.switches[service], self._running.get(service)
        switch.targets = [*switch.targets, port]
        yield
        switch.targets = [port]
        self.note(f"{service}: {', '.join(changes.values()) or 'started'}")
        self._running[service] = process, port
        if old is not None:
            if service == "api":  # a gateway has sockets that only it can end
                await switch.until_idle(old[1])
            assert await asyncio.to_thread(old[0].stop) == 0

    async def run_script(
        self, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> str:
        """A script's output; it must end with 0."""
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**clean_environment(), **(environment or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout).strip()


class Chatter:
    """Somebody who keeps talking and calling; whatever goes wrong is kept in `troubles`."""

    def __init__(self, fleet: Fleet) -> None:
        self.client = Client(fleet.api_url, websocket_url=fleet.ws_url, on_session=self._on_session)
        self.troubles: list[str] = []
        self.refreshes = -1  # the first session is the registration's
        self.sent = 0
        self.received = 0
        self._last_seq = 0
        self.offline_codes: list[int | None] = []

    def _on_session(self, session: dict[str, Any] | None) -> None:
        self.refreshes += 1
        if session is None:
            self.troubles.append("logged out")

    @contextlib.asynccontextmanager
    async def chatting(self) -> AsyncIterator[Live]:
        await self.client.register("ann@example.org", PASSWORD, "Ann")
        async with self.client.live() as live:
            await live.subscribe(GLOBAL, after_seq=0)
            tasks = [
                asyncio.create_task(self._note(work))
                for work in (self._talk(live), self._call(), self._listen(live))
            ]
            try:
                yield live
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def after(self, messages: int) -> None:
        """Waits until so many more messages were sent, stored, and seen."""
        wanted = self.sent + messages
        async with asyncio.timeout(30):
            while not self.troubles and (self.sent < wanted or self.received < wanted):
                await asyncio.sleep(0.01)
        assert self.troubles == []

    async def until_ended(self, live: Live) -> LiveEnded:
        """Waits until the live connection has ended for good."""
        async with asyncio.timeout(30):
            while True:
                try:
                    with contextlib.suppress(SendRefused):
                        await live.send(GLOBAL, "is anybody there?")
                except LiveEnded as end:
                    return end

    async def until_token(self, read: Callable[[str], object]) -> None:
        """Waits until our access token is one that `read` takes."""
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(Refusal):
                    read(str(self.client._access_token))
                    return
                await asyncio.sleep(0.05)

    async def _note(self, work: Any) -> None:
        try:
            await work
        except Exception as error:
            self.troubles.append(repr(error))

    async def _talk(self, live: Live) -> None:
        while True:
            async with asyncio.timeout(20):
                await live.send(GLOBAL, f"message {self.sent}")
            self.sent += 1
            await asyncio.sleep(0.02)

    async def _call(self) -> None:
        while True:
            await self.client.me()
            await asyncio.sleep(0.02)

    async def _listen(self, live: Live) -> None:
        async for event in live:
            if event["type"] == "message":
                self._last_seq += 1
                assert event["seq"] == self._last_seq
                if event["sender_name"] == "Ann":  # and not scripts/smoke
                    assert event["content"] == f"message {self.received}"
                    self.received += 1
            elif event["type"] == "offline":
                self.offline_codes.append(event["code"])
