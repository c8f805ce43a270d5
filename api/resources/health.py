"""Probes: is the process there, and can it do its work."""

from __future__ import annotations

from api.context import Request, Response
from api.services import Services
from db.connections import probe
from rules.errors import Refusal


class Live:
    """GET /health/live: the process answers. A failing database must not get it restarted."""

    public_methods = frozenset({"GET"})

    def on_get(self, req: Request, resp: Response) -> None:
        resp.send_json(200, {"status": "ok"})


class Ready:
    """GET /health/ready: the database answers, and nobody has asked the process to stop."""

    public_methods = frozenset({"GET"})

    def __init__(self, services: Services) -> None:
        self._services = services

    def on_get(self, req: Request, resp: Response) -> None:
        if self._services.is_draining():
            raise Refusal("unavailable", "This instance is stopping.", retry_after_seconds=1)
        with self._services.probe_pool.connection() as connection:
            probe(connection)
        resp.send_json(200, {"status": "ok"})
