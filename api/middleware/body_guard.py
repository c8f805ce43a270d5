"""What a body may be: not too large, and JSON where there is one.

Asked once there is somebody to read it: an unknown path is 404 whatever is sent there.
"""

from __future__ import annotations

from api.context import Request, Response
from rules.errors import Refusal

JSON_TYPES = ("application/json", "application/json;charset=utf-8")


class BodyGuard:
    """The server below refuses oversized bodies first; this holds when another one serves us."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def process_resource(
        self, req: Request, resp: Response, resource: object, params: dict[str, object]
    ) -> None:
        length = req.content_length or 0
        if length > self._max_bytes:
            raise Refusal("payload_too_large", f"A body has at most {self._max_bytes} bytes.")
        if length > 0:
            declared = (req.content_type or "").lower().replace(" ", "").replace('"', "")
            if declared not in JSON_TYPES:
                raise Refusal("unsupported_media_type")
