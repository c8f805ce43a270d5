"""One line a request: method, route, status, time. Never a query, a header or a body."""

from __future__ import annotations

import logging
import time

from api.context import Request, Response
from rules.log_lines import shown_method

logger = logging.getLogger("gatehouse.api.access")


class AccessLog:
    def process_response(
        self, req: Request, resp: Response, resource: object, req_succeeded: bool
    ) -> None:
        elapsed_ms = (time.monotonic() - req.context.started) * 1000
        session = req.context.session
        fields = {
            "method": shown_method(req.method),
            # The template, not the path: a path may hold whatever somebody typed.
            "route": req.uri_template or "(none)",
            "status": int(resp.status_code),
            "duration_ms": round(elapsed_ms, 1),
            "remote_ip": str(req.context.address) if req.context.address else None,
            "user_id": session.user_id if session else None,
        }
        logger.info(
            "%s %s %s",
            fields["method"],
            fields["route"],
            fields["status"],
            extra={"fields": fields},
        )
