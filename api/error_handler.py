"""The one place where whatever went wrong becomes an error envelope."""

from __future__ import annotations

import logging
from typing import Any

import falcon

from api.context import Request, Response
from db.connections import UNAVAILABLE
from rules.errors import Refusal, envelope

logger = logging.getLogger("gatehouse.api")

UNAVAILABLE_RETRY_SECONDS = 2

_BY_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
}


def install_error_handlers(app: falcon.App[Request, Response]) -> None:
    app.add_error_handler(Exception, handle)
    app.add_error_handler(falcon.HTTPError, handle)


def handle(req: Request, resp: Response, error: Exception, params: dict[str, Any]) -> None:
    refusal = as_refusal(error)
    req.context.refusal_code = refusal.code
    if refusal.code == "internal_error":
        logger.error("unexpected error", exc_info=error)
    elif refusal.cause is not None:
        fields = {"code": refusal.code, "cause": refusal.cause}
        logger.warning("refused: %s", refusal.code, extra={"fields": fields})
    assert refusal.kind.status is not None  # noqa: S101 - the table gives every such code one
    resp.send_json(
        refusal.kind.status,
        envelope(refusal.code, refusal.message, req.context.request_id, refusal.details),
    )
    if refusal.retry_after_seconds is not None:
        resp.set_header("Retry-After", str(refusal.retry_after_seconds))
    if refusal.kind.status == 401:
        resp.set_header("WWW-Authenticate", "Bearer")  # RFC 9110, 15.5.2
    if isinstance(error, falcon.HTTPMethodNotAllowed):
        resp.set_header("Allow", dict(error.headers or ()).get("Allow", ""))


def as_refusal(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, falcon.HTTPError):
        return Refusal(_BY_STATUS.get(error.status_code, "invalid_request"))
    if isinstance(error, UNAVAILABLE):
        return Refusal(
            "unavailable",
            retry_after_seconds=UNAVAILABLE_RETRY_SECONDS,
            cause=f"{type(error).__name__}: {error}",
        )
    return Refusal("internal_error", cause=repr(error))
