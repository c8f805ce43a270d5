"""Security events of requests that were refused for what they are: strange input, a strange origin,
something that this caller may not do.

Whoever causes them can cause any number. So of one address and kind a burst is written down in a
minute, and of all addresses together so many (rules/sampler.py); the access log has every one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection

from api.context import Request, Response
from db import security_events
from db.connections import UNAVAILABLE, SyncPool
from db.security_events import Event
from rules.limit_subjects import source
from rules.sampler import Sampler

logger = logging.getLogger("gatehouse.api")

_EVENTS = {
    "malformed_json": Event.INPUT_REFUSED,
    "validation_failed": Event.INPUT_REFUSED,
    "invalid_request": Event.INPUT_REFUSED,
    "unsupported_media_type": Event.INPUT_REFUSED,
    "forbidden": Event.ACCESS_REFUSED,
}


class RefusedRequests:
    def __init__(self, pool: SyncPool, allowed_origins: Collection[str]) -> None:
        self._pool = pool
        self._allowed_origins = frozenset(allowed_origins)
        self._sampler = Sampler()
        self._lock = threading.Lock()  # of the sampler

    def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        code = req.context.refusal_code
        if (event := _EVENTS.get(code or "")) is not None:
            self._record(req, event, code=code)
        origin = req.get_header("Origin")
        if origin is not None and origin not in self._allowed_origins:
            self._record(req, Event.STRANGE_ORIGIN)

    def _record(self, req: Request, event: Event, **details: str | None) -> None:
        with self._lock:
            subject = (event, source(req.context.address))
            if not self._sampler.take(subject, time.monotonic()):
                return
        session = req.context.session
        try:
            with self._pool.connection() as connection:
                security_events.record(
                    connection,
                    event,
                    ip=req.context.address,
                    user_id=session.user_id if session else None,
                    session_id=session.session_id if session else None,
                    route=req.uri_template,
                    **details,
                )
        except UNAVAILABLE as error:
            # The refusal stands, and its access line too.
            logger.warning("an event could not be stored: %s", type(error).__name__)
