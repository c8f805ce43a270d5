"""Server frames as bytes, ready for a transport: built once, written to any number of sockets.

Without permessage-deflate a server frame does not depend on the connection (RFC 6455, 5.2: a
server never masks), so a message that goes to a hundred subscribers is framed once.
"""

from __future__ import annotations

import json
from typing import Any

from websockets.frames import Frame, Opcode

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def text_frame(frame: dict[str, Any]) -> bytes:
    data = _dumps(frame).encode("utf-8")
    return Frame(Opcode.TEXT, data).serialize(mask=False, extensions=[])
