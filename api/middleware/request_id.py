"""X-Request-ID: kept or made, put into the context of every log line, and always answered."""

from __future__ import annotations

import time

from api.context import Request, Response
from rules import log_lines
from rules.request_id import choose_request_id


class RequestId:
    def __init__(self, cloud_project: str | None) -> None:
        self._cloud_project = cloud_project

    def process_request(self, req: Request, resp: Response) -> None:
        req.context.started = time.monotonic()
        req.context.request_id = choose_request_id(req.get_header("X-Request-ID"))
        log_lines.request_id.set(req.context.request_id)
        log_lines.trace.set(
            log_lines.trace_name(req.get_header("X-Cloud-Trace-Context"), self._cloud_project)
        )
        resp.set_header("X-Request-ID", req.context.request_id)
